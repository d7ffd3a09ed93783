"""Mistakes that the cases of purge find out."""

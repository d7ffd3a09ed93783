"""Mistakes that the cases of activities find out."""

"""Mistakes that the cases of names find out."""

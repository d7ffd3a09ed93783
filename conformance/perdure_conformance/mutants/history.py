"""Mistakes that the cases of history find out."""

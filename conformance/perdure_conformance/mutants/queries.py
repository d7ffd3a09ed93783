"""Mistakes that the cases of queries find out."""

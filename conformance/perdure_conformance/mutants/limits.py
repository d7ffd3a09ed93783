"""Mistakes that the cases of limits find out."""

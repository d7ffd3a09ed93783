"""Mistakes that the cases of exchange find out."""

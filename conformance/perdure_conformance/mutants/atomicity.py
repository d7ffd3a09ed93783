"""Mistakes that the cases of atomicity find out."""

"""Mistakes that the cases of capabilities find out."""

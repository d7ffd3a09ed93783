"""Mistakes that the cases of hubs find out."""

"""Mistakes that the cases of payloads find out."""

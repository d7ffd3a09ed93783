"""Mistakes that the cases of custom_status find out."""

"""Mistakes that the cases of messages find out."""

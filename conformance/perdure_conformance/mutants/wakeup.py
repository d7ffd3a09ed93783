"""Mistakes that the cases of wakeup find out."""

"""Mistakes that the cases of concurrency find out."""

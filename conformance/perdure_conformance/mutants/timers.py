"""Mistakes that the cases of timers find out."""

"""Mistakes that the cases of leases find out."""

"""Durable orchestrations in Python, on the database that you already run."""

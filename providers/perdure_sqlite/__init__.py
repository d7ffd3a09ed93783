"""Durable orchestrations in a SQLite file: the default provider of perdure."""

from perdure_sqlite.provider import SQLiteProvider

__all__ = ["SQLiteProvider"]

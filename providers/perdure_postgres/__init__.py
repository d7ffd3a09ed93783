"""Durable orchestrations in Postgres: many workers on many machines, on the database that is there already."""

from perdure_postgres.provider import PostgresProvider

__all__ = ["PostgresProvider"]

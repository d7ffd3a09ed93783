"""What a URL says: which database, and how to use it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from perdure.spi import InvalidRequest, ProviderURL

__all__ = ["OPTIONS", "Settings", "channel_of"]

OPTIONS: Final = frozenset({"migrate", "notify", "pool_size", "schema"})

_SCHEMA_BYTES: Final = 63
"""Postgres cuts longer names, so that two of them might be one."""

_FORBIDDEN: Final = frozenset("\0%{}")
"""They mean something in the texts of statements."""

_MAX_POOL: Final = 1000


@dataclass(slots=True, frozen=True, kw_only=True)
class Settings:
    """A parsed URL.

    Attributes:
        conninfo: what the driver takes, password included.
        schema: the schema of the tables.
        pool_size: connections at most, beside the one for notifications.
        notify: whether sessions are ours, so that we may LISTEN and prepare statements in them.
        migrate: whether an old schema may be migrated when it is opened.
    """

    conninfo: str
    schema: str
    pool_size: int
    notify: bool
    migrate: bool

    @classmethod
    def parse(cls, url: ProviderURL) -> Settings:
        """Read a URL.

        Raises:
            InvalidRequest: a value is none that its parameter can have.
        """
        scheme, _, driver = url.scheme.partition("+")
        if driver not in ("", "psycopg"):
            raise InvalidRequest(f"{url} asks for the driver {driver!r}; perdure uses psycopg: write {scheme}://...")
        options = url.options
        schema = options.get("schema", "perdure")
        if len(schema.encode()) > _SCHEMA_BYTES or schema.startswith("pg_") or not _FORBIDDEN.isdisjoint(schema):
            raise InvalidRequest(
                f"op_schema is {schema!r} in {url}; it can have up to {_SCHEMA_BYTES} bytes, not begin with pg_, and "
                "hold neither % nor braces"
            )
        size = options.get("pool_size", "10")
        if not (size.isascii() and size.isdigit() and 1 <= int(size) <= _MAX_POOL):
            raise InvalidRequest(f"op_pool_size is {size!r} in {url}; it must be a number from 1 to {_MAX_POOL}")
        _choose(url, "notify", ("on", "off"))
        _choose(url, "migrate", ("auto",))
        query = f"?{url.query}" if url.query else ""
        return cls(
            conninfo=f"postgresql://{url.rest}{query}",
            schema=schema,
            pool_size=int(size),
            notify=options.get("notify", "on") == "on",
            migrate="migrate" in options,
        )


def channel_of(schema: str, hub: str) -> str:
    """Return the name of the channel for notifications about a hub."""
    # Such names are shorter than those of schemas and hubs may be, and shared by a whole database.
    digest = hashlib.sha256(f"{schema}\0{hub}".encode()).hexdigest()
    return f"perdure_{digest[:32]}"


def _choose(url: ProviderURL, option: str, choices: tuple[str, ...]) -> None:
    value = url.options.get(option, choices[0])
    if value not in choices:
        raise InvalidRequest(f"op_{option} is {value!r} in {url}; it can only be {' or '.join(choices)}")

"""Which file a URL names."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from perdure.spi import InvalidRequest, ProviderURL

__all__ = ["MEMORY", "database_path"]

MEMORY: Final = ":memory:"
"""The path of a store that lives in its provider and ends with it."""


def database_path(url: ProviderURL) -> str:
    """Return the path a URL names: relative after three slashes, absolute after four.

    Raises:
        InvalidRequest: it names a host, no path, or a parameter, none of which this provider has.
    """
    if url.parameters:
        name = next(iter(url.parameters))
        raise InvalidRequest(f"the SQLite provider knows no parameter {name!r}; its own start with op_")
    host, slash, path = url.rest.partition("/")
    path = unquote(path)
    if host or not slash or not path or "\0" in path:
        raise InvalidRequest(
            f"{url} names no file; write sqlite:///relative.db, sqlite:////absolute/path.db or sqlite:///:memory:"
        )
    return path

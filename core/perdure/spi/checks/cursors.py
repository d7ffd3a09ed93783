"""Page cursors that work on any store: where the next page starts, and of which query."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Collection

from perdure.spi.checks.queries import TIME_FILTERS
from perdure.spi.checks.values import MAX_INT
from perdure.spi.clock import Millis
from perdure.spi.errors import InvalidRequest
from perdure.spi.records import InstanceQuery

__all__ = [
    "decode_cursor",
    "encode_cursor",
]


def encode_cursor(query: InstanceQuery, created_at: Millis, instance: str) -> str:
    """Return the cursor of the page that starts behind the instance with this `created_at` and id."""
    text = json.dumps([_fingerprint(query), created_at, instance], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(query: InstanceQuery) -> tuple[Millis, str] | None:
    """Return the (created_at, id) behind which the page asked for starts; None: at the beginning.

    Raises:
        InvalidRequest: the cursor is garbage, or was made for another filter or order.
    """
    if query.cursor is None:
        return None
    garbage = InvalidRequest("the cursor is not one that a query returned")
    try:
        padded = query.cursor + "=" * (-len(query.cursor) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (AttributeError, TypeError, ValueError, RecursionError, binascii.Error):
        raise garbage from None
    match parts:
        case [str(fingerprint), int(created_at), str(instance)] if abs(created_at) <= MAX_INT:
            if fingerprint != _fingerprint(query):
                raise InvalidRequest("the cursor belongs to another filter or order")
            return created_at, instance
    raise garbage


def _fingerprint(query: InstanceQuery) -> str:
    """Return a digest of what decides which instances a query finds, and in which order."""

    def sorted_or_none(values: Collection[str | None] | None) -> list[str | None] | None:
        return None if values is None else sorted(set(values), key=lambda value: (value is not None, value or ""))

    parts = [
        sorted_or_none(query.statuses),
        sorted_or_none(query.names),
        sorted_or_none(query.versions),
        query.id_prefix,
        query.parent,
        None if query.tags is None else sorted(query.tags.items()),
        [getattr(query, what) for what in TIME_FILTERS],
        query.descending,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

"""Values in and out of storage: the data converter, held to the limit."""

from __future__ import annotations

from typing import Any

from perdure.conversion import DataConverter
from perdure.errors import PayloadTooLarge
from perdure.limits import MAX_PAYLOAD_BYTES

__all__ = ["dump", "load"]


def dump(converter: DataConverter, value: Any) -> bytes | None:
    """Return `value` as it is stored; None is stored as no payload at all.

    Raises:
        PayloadError: it can't be written.
        PayloadTooLarge: it is over 4 MiB.
    """
    if value is None:
        return None
    text = converter.dumps(value)
    payload = text.encode() if isinstance(text, str) else text
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(len(payload), MAX_PAYLOAD_BYTES)
    return payload


def load(converter: DataConverter, payload: bytes | None, type_hint: Any = Any) -> Any:
    """Return the value of a stored payload as a `type_hint`.

    Raises:
        PayloadError: it can't be read, or is no `type_hint`.
    """
    return None if payload is None else converter.loads(payload, type_hint)

"""The custom status: its size, and the check that it is small enough."""

from __future__ import annotations

from typing import Any

from perdure.codec import dumps, loads
from perdure.errors import CustomStatusTooLarge
from perdure.limits import MAX_CUSTOM_STATUS_BYTES

__all__ = ["custom_status_size", "dump_custom_status"]

_KEYS_NAMED = 3


def custom_status_size(value: Any) -> int:
    """Return the bytes that `value` takes as a custom status: its canonical JSON text in UTF-16, without a BOM.

    At most 16,384 are allowed.

    Raises:
        PayloadError: `value` is not JSON that perdure stores.
    """
    return _utf16_size(dumps(value))


def dump_custom_status(value: Any) -> bytes:
    """Return the canonical JSON text of a custom status.

    Raises:
        CustomStatusTooLarge: it is over `MAX_CUSTOM_STATUS_BYTES` in UTF-16.
        PayloadError: `value` is not JSON that perdure stores.
    """
    text = dumps(value)
    # No character takes more than twice the bytes in UTF-16 that it takes in UTF-8.
    if 2 * len(text) > MAX_CUSTOM_STATUS_BYTES:
        size = _utf16_size(text)
        if size > MAX_CUSTOM_STATUS_BYTES:
            raise CustomStatusTooLarge(size, MAX_CUSTOM_STATUS_BYTES, _largest_keys(text))
    return text


def _utf16_size(text: bytes) -> int:
    return len(text.decode().encode("utf-16-le"))


def _largest_keys(text: bytes) -> list[tuple[str, int]]:
    # By the value as it is stored, so that a dataclass's fields are keys as well.
    value = loads(text)
    if not isinstance(value, dict):
        return []
    sizes = [(key, custom_status_size(key) + 2 + custom_status_size(member)) for key, member in value.items()]
    return sorted(sizes, key=lambda pair: pair[1], reverse=True)[:_KEYS_NAMED]

"""How the events of one commit are framed into one value of the history table.

    version (1 byte) | CRC-32 of the rest (4) | length of each event (4 each) | the events, one after another

All numbers are little-endian; how many events there are stands in the row's `count`. The sum finds what a disk
or a person changed: without it a flipped bit in a payload would be replayed as if it had happened.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

__all__ = ["CorruptRow", "pack_events", "unpack_events"]

_VERSION = 1
_HEAD = struct.Struct("<BI")

# A row is read whole, so one that holds many events is cut: a page of history then reads little more
# than it returns. An event larger than this has a row of its own.
_ROW_BYTES = 256 * 1024


class CorruptRow(ValueError):
    """A history row that can't be decoded."""


def pack_events(events: Sequence[bytes], first_seq: int) -> Iterator[tuple[int, int, bytes]]:
    """Frame `events` and yield rows of (first seq, count, value)."""
    if sum(map(len, events)) <= _ROW_BYTES:
        if events:
            yield first_seq, len(events), _pack(events)
        return
    start = size = 0
    for index, event in enumerate(events):
        if size and size + len(event) > _ROW_BYTES:
            yield first_seq + start, index - start, _pack(events[start:index])
            start, size = index, 0
        size += len(event)
    yield first_seq + start, len(events) - start, _pack(events[start:])


def _pack(events: Sequence[bytes]) -> bytes:
    lengths = struct.pack(f"<{len(events)}I", *map(len, events))
    body = b"".join((lengths, *events))
    return _HEAD.pack(_VERSION, zlib.crc32(body)) + body


def unpack_events(count: int, value: bytes) -> list[bytes]:
    """Return the `count` events framed in `value`.

    Raises:
        CorruptRow: it is not what `pack_events` made.
    """
    if type(value) is not bytes or type(count) is not int or count < 1:
        raise CorruptRow("not a framed row")
    start = _HEAD.size + 4 * count
    if len(value) < start:
        raise CorruptRow("too short for its lengths")
    version, checksum = _HEAD.unpack_from(value)
    if version != _VERSION:
        raise CorruptRow(f"framing version {version} is unknown")
    if zlib.crc32(memoryview(value)[_HEAD.size :]) != checksum:
        raise CorruptRow("its checksum is wrong")
    events = []
    for length in struct.unpack_from(f"<{count}I", value, _HEAD.size):
        events.append(value[start : start + length])
        start += length
    if start != len(value):
        raise CorruptRow("its lengths don't add up")
    return events

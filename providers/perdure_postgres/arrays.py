"""Arrays of a known type, packed as the server reads them.

The driver finds out what a list holds by looking at each element, which for the short lists of most calls costs more
than sending them. Here the statement knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Any, ClassVar, Final

from psycopg import Connection
from psycopg.adapt import Dumper
from psycopg.pq import Format

__all__ = ["ARRAYS", "Array", "Bigints", "Blobs", "Flags", "Texts", "register"]

# Dimensions, whether there are nulls, the element's type, and of the one dimension its length and lower bound.
_HEAD: Final = Struct(">iiIii")
_EMPTY: Final = Struct(">iiI")
_NULL: Final = Struct(">i").pack(-1)
_SIZE: Final = Struct(">i")
_BIGINT: Final = Struct(">iq")
_FLAGS: Final = (b"\0\0\0\1\0", b"\0\0\0\1\1")


class Array(tuple[Any, ...]):
    """Values of one type, or None."""

    __slots__ = ()

    ELEMENT: ClassVar[int]
    """What the server calls the type of the elements."""
    ARRAY: ClassVar[int]
    """And that of the array."""

    @staticmethod
    def items(values: Iterable[Any]) -> Iterable[bytes]:
        """Return each value with its length in front of it."""
        raise NotImplementedError


class Bigints(Array):
    """Integers of 64 bits."""

    __slots__ = ()
    ELEMENT, ARRAY = 20, 1016

    @staticmethod
    def items(values: Iterable[int | None]) -> Iterable[bytes]:
        pack = _BIGINT.pack
        return [_NULL if value is None else pack(8, value) for value in values]


class Blobs(Array):
    """Bytes."""

    __slots__ = ()
    ELEMENT, ARRAY = 17, 1001

    @staticmethod
    def items(values: Iterable[bytes | None]) -> Iterable[bytes]:
        for value in values:
            if value is None:
                yield _NULL
            else:
                yield _SIZE.pack(len(value))
                yield value


class Texts(Array):
    """Strings."""

    __slots__ = ()
    ELEMENT, ARRAY = 25, 1009

    @staticmethod
    def items(values: Iterable[str | None]) -> Iterable[bytes]:
        return Blobs.items(None if value is None else value.encode() for value in values)


class Flags(Array):
    """Booleans."""

    __slots__ = ()
    ELEMENT, ARRAY = 16, 1000

    @staticmethod
    def items(values: Iterable[bool]) -> Iterable[bytes]:
        return [_FLAGS[value] for value in values]


ARRAYS: Final[dict[str, type[Array]]] = {"bigint": Bigints, "bytea": Blobs, "text": Texts, "boolean": Flags}
"""By the name of the elements' type."""


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        if not obj:
            return _EMPTY.pack(0, 0, obj.ELEMENT)
        return b"".join((_HEAD.pack(1, None in obj, obj.ELEMENT, len(obj), 1), *obj.items(obj)))


_DUMPERS: Final = [
    (kind, type(f"{kind.__name__}Dumper", (_ArrayDumper,), {"oid": kind.ARRAY})) for kind in ARRAYS.values()
]


def register(connection: Connection[Any]) -> None:
    """Have `connection` send arrays of ours."""
    for kind, dumper in _DUMPERS:
        connection.adapters.register_dumper(kind, dumper)

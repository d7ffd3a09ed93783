"""Items in the order in which they become claimable."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

from perdure.spi import Millis

T = TypeVar("T")


class Agenda(Generic[T]):
    """A list sorted by (time, number), so that a claim looks at what is ready and at nothing else.

    `number` identifies an item and breaks ties: the one made first comes first.
    """

    def __init__(self) -> None:
        self._order: list[tuple[Millis, int]] = []
        self._entries: dict[int, tuple[Millis, T]] = {}

    def put(self, number: int, item: T, at: Millis | None) -> None:
        """Enter the item at a time, or move it there; None takes it out."""
        self.discard(number)
        if at is not None:
            self._entries[number] = (at, item)
            insort(self._order, (at, number))

    def discard(self, number: int) -> None:
        """Take the item out, if it is in."""
        entry = self._entries.pop(number, None)
        if entry is not None:
            del self._order[bisect_left(self._order, (entry[0], number))]

    def __iter__(self) -> Iterator[tuple[Millis, T]]:
        """Yield (time, item), earliest first. Nothing may be put or discarded meanwhile."""
        for _, number in self._order:
            yield self._entries[number]

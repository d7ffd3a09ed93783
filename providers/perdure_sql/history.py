"""Reading history: from framed rows back to single events."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.spi import Corrupt, HistoryPage, NotFound
from perdure_sql.framing import CorruptRow, unpack_events
from perdure_sql.transaction import Reader

__all__ = ["join_rows", "read_history"]


def read_history(db: Reader, hub: int, instance: str, after: int, limit: int) -> HistoryPage:
    """Return a page of the current execution's events.

    Raises:
        NotFound: there is no such instance.
        Corrupt: a row can't be decoded, or is missing.
    """
    row = db.history_head(hub, instance)
    if row is None:
        raise NotFound(f"there is no instance {instance!r}")
    key, generation, execution, next_seq = row
    first = after + 1
    end = min(first + limit, next_seq)
    events: list[bytes] = []
    if first < end:
        try:
            events = join_rows(db.history_rows(key, first, end), first, end)
        except CorruptRow as error:
            raise Corrupt(f"history of instance {instance!r} can't be decoded: {error}") from error
    return HistoryPage(
        events=events, first_seq=first, more=first + limit < next_seq, generation=generation, execution=execution
    )


def join_rows(rows: Iterable[tuple[int, int, bytes]], first: int, end: int) -> list[bytes]:
    """Return the events from seq `first` up to `end` out of rows in order of seq.

    Raises:
        CorruptRow: a row can't be decoded, or they don't follow one another.
    """
    events: list[bytes] = []
    following: int | None = None
    for first_seq, count, value in rows:
        if first_seq != following and (following is not None or first_seq > first):
            raise CorruptRow(f"events from {first if following is None else following} on are missing")
        try:
            found = unpack_events(count, value)
        except CorruptRow as error:
            raise CorruptRow(f"row {first_seq}: {error}") from None
        following = first_seq + len(found)
        events += found[max(0, first - first_seq) : max(0, end - first_seq)]
    if len(events) != max(0, end - first):
        raise CorruptRow(f"events from {first + len(events)} to {end - 1} are missing")
    return events

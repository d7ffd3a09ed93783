"""A connection that reads, as the shared operations use it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Select, func, select

from perdure.spi import Fields, Millis
from perdure_sql import Reader, info_select
from perdure_sqlite.statements import TABLES, each, execute, number, sql, words

__all__ = ["FIND_HUB", "SQLiteReader"]

_turns, _history = TABLES.instances, TABLES.history

FIND_HUB: Final = "SELECT key FROM perdure_hubs WHERE name = ?"

HISTORY_HEAD = sql(
    select(_turns.c.key, _turns.c.generation, _turns.c.execution, _turns.c.next_seq).where(
        _turns.c.hub == number("hub"), _turns.c.id == words("id")
    ),
    "hub",
    "id",
)
_first = (
    select(func.max(_history.c.first_seq))
    .where(_history.c.instance == number("instance"), _history.c.first_seq <= number("from_"))
    .scalar_subquery()
)
HISTORY_ROWS = sql(
    select(_history.c.first_seq, _history.c.count, _history.c.events)
    .where(
        _history.c.instance == number("instance"),
        _history.c.first_seq >= func.coalesce(_first, number("from_")),
        _history.c.first_seq < number("to"),
    )
    .order_by(_history.c.first_seq),
    *("instance", "instance", "from_", "from_", "to"),
)
STATUS_COUNTS = sql(
    select(_turns.c.status, func.count()).where(_turns.c.hub == number("hub")).group_by(_turns.c.status), "hub"
)

# Leased means under an unexpired lease, whether or not work waits; what else waits is ready or will be.
TURN_QUEUE: Final = """
WITH given (now, hub) AS (SELECT ?, ?), waiting AS (
    SELECT now, lease_until, min(available_at, coalesce(control_at, available_at)) AS ready_at
    FROM given CROSS JOIN perdure_instances AS i
    WHERE i.hub = given.hub AND (available_at IS NOT NULL OR lease_until > now)
)
SELECT coalesce(sum(lease_until > now), 0),
       coalesce(sum(lease_until <= now AND ready_at <= now), 0),
       coalesce(sum(lease_until <= now AND ready_at > now), 0),
       min(CASE WHEN lease_until <= now AND ready_at <= now THEN ready_at END)
FROM waiting
"""
ACTIVITY_QUEUE: Final = """
WITH given (now, hub) AS (SELECT ?, ?)
SELECT coalesce(sum(lease_until > now), 0),
       coalesce(sum(lease_until <= now AND available_at <= now), 0),
       coalesce(sum(lease_until <= now AND available_at > now), 0),
       min(CASE WHEN lease_until <= now AND available_at <= now THEN available_at END)
FROM given CROSS JOIN perdure_activities AS a WHERE a.hub = given.hub
"""


@cache
def _infos(fields: Fields) -> str:
    found = info_select(TABLES, fields).where(
        _turns.c.hub == number("hub"), _turns.c.id.in_(select(each("list_").c.value))
    )
    return sql(found, "hub", "list_")


class SQLiteReader(Reader):
    """Reads on one connection.

    Args:
        db: the connection.
        clock: the hub's.
    """

    def __init__(self, db: sqlite3.Connection, clock: Callable[[], Millis]) -> None:
        self._db = db
        self._clock = clock

    def now(self) -> Millis:
        return self._clock()

    def select(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        return execute(self._db, statement).fetchall()

    def infos(self, hub: int, ids: Sequence[str], fields: Fields) -> Iterable[Sequence[Any]]:
        return self._db.execute(_infos(fields), (hub, json.dumps(ids, ensure_ascii=False)))

    def history_head(self, hub: int, instance: str) -> Sequence[Any] | None:
        found: Sequence[Any] | None = self._db.execute(HISTORY_HEAD, (hub, instance)).fetchone()
        return found

    def history_rows(self, key: int, first: int, end: int) -> Iterable[tuple[int, int, bytes]]:
        return self._db.execute(HISTORY_ROWS, (key, key, first, first, end))

    def status_counts(self, hub: int) -> Iterable[tuple[str, int]]:
        return self._db.execute(STATUS_COUNTS, (hub,))

    def turn_queue(self, hub: int, now: Millis) -> Sequence[Any]:
        found: Sequence[Any] = self._db.execute(TURN_QUEUE, (now, hub)).fetchone()
        return found

    def activity_queue(self, hub: int, now: Millis) -> Sequence[Any]:
        found: Sequence[Any] = self._db.execute(ACTIVITY_QUEUE, (now, hub)).fetchone()
        return found

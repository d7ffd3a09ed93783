"""Reading: single instances, queries, counts."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Select, func, select

from perdure.spi import Fields, HubStats, InstanceInfo, InstanceQuery, Millis, Page, QueueStats
from perdure.spi.checks import decode_cursor, encode_cursor
from perdure_sql import info_select, instance_page, to_info
from perdure_sqlite.rows import STATUSES
from perdure_sqlite.statements import DIALECT, TABLES, each, number, sql

__all__ = ["count_work", "execute", "get_instances", "query_instances"]

_turns = TABLES.instances

_STATUS_COUNTS = sql(
    select(_turns.c.status, func.count()).where(_turns.c.hub == number("hub")).group_by(_turns.c.status), "hub"
)

# Leased means under an unexpired lease, whether or not work waits; what else waits is ready or will be.
_TURN_QUEUE: Final = """
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
_ACTIVITY_QUEUE: Final = """
WITH given (now, hub) AS (SELECT ?, ?)
SELECT coalesce(sum(lease_until > now), 0),
       coalesce(sum(lease_until <= now AND available_at <= now), 0),
       coalesce(sum(lease_until <= now AND available_at > now), 0),
       min(CASE WHEN lease_until <= now AND available_at <= now THEN available_at END)
FROM given CROSS JOIN perdure_activities AS a WHERE a.hub = given.hub
"""


@cache
def _get(fields: Fields) -> str:
    columns = TABLES.instances.c
    found = info_select(TABLES, fields).where(
        columns.hub == number("hub"), columns.id.in_(select(each("list_").c.value))
    )
    return sql(found, "hub", "list_")


def get_instances(db: sqlite3.Connection, hub: int, ids: Sequence[str], fields: Fields) -> list[InstanceInfo | None]:
    """Return instances in the order asked, None for each that is unknown."""
    rows = db.execute(_get(fields), (hub, json.dumps(ids, ensure_ascii=False)))
    found = {row[0]: to_info(row) for row in rows}
    return [found.get(id_) for id_ in ids]


def query_instances(db: sqlite3.Connection, hub: int, query: InstanceQuery) -> Page[InstanceInfo]:
    """Return one page, beginning behind the key in the cursor."""
    # One row more tells whether there is more: a number that the driver must be able to pass.
    size = min(query.page_size, sys.maxsize - 1)
    rows = execute(db, instance_page(TABLES, hub, query, decode_cursor(query), size + 1)).fetchall()
    items = [to_info(row) for row in rows[:size]]
    cursor = encode_cursor(query, items[-1].created_at, items[-1].id) if len(rows) > size else None
    return Page(items=items, cursor=cursor)


def execute(db: sqlite3.Connection, statement: Select[Any]) -> sqlite3.Cursor:
    """Run a statement that is made for one call."""
    compiled: Any = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    values = compiled.construct_params()
    return db.execute(str(compiled), [values[name] for name in compiled.positiontup])


def count_work(db: sqlite3.Connection, hub: int, now: Millis) -> HubStats:
    """Count the whole hub."""
    return HubStats(
        instances={STATUSES[status]: count for status, count in db.execute(_STATUS_COUNTS, (hub,))},
        turns=_queue_stats(db, _TURN_QUEUE, hub, now),
        activities=_queue_stats(db, _ACTIVITY_QUEUE, hub, now),
        now=now,
    )


def _queue_stats(db: sqlite3.Connection, statement: str, hub: int, now: Millis) -> QueueStats:
    leased, ready, future, oldest = db.execute(statement, (now, hub)).fetchone()
    return QueueStats(
        ready=ready, leased=leased, future=future, oldest_ready_age_ms=None if oldest is None else now - oldest
    )

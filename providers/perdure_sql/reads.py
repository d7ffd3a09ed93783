"""Reading: single instances, queries, counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.spi import Fields, HubStats, InstanceInfo, InstanceQuery, Millis, Page, QueueStats
from perdure.spi.checks import decode_cursor, encode_cursor
from perdure_sql.queries import instance_page, to_info
from perdure_sql.rows import STATUSES
from perdure_sql.tables import Tables
from perdure_sql.transaction import Reader

__all__ = ["count_work", "get_instances", "query_instances"]


def get_instances(db: Reader, hub: int, ids: Sequence[str], fields: Fields) -> list[InstanceInfo | None]:
    """Return instances in the order asked, None for each that is unknown."""
    found = {row[0]: to_info(row) for row in db.infos(hub, ids, fields)}
    return [found.get(id_) for id_ in ids]


def query_instances(db: Reader, tables: Tables, hub: int, query: InstanceQuery) -> Page[InstanceInfo]:
    """Return one page, beginning behind the key in the cursor."""
    # One row more tells whether there is more: a number that every driver can pass.
    size = min(query.page_size, 2**31 - 2)
    rows = db.select(instance_page(tables, hub, query, decode_cursor(query), size + 1))
    items = [to_info(row) for row in rows[:size]]
    cursor = encode_cursor(query, items[-1].created_at, items[-1].id) if len(rows) > size else None
    return Page(items=items, cursor=cursor)


def count_work(db: Reader, hub: int, now: Millis) -> HubStats:
    """Count the whole hub."""
    return HubStats(
        instances={STATUSES[status]: count for status, count in db.status_counts(hub)},
        turns=_queue_stats(db.turn_queue(hub, now), now),
        activities=_queue_stats(db.activity_queue(hub, now), now),
        now=now,
    )


def _queue_stats(counted: Sequence[Any], now: Millis) -> QueueStats:
    leased, ready, future, oldest = counted
    return QueueStats(
        ready=ready, leased=leased, future=future, oldest_ready_age_ms=None if oldest is None else now - oldest
    )

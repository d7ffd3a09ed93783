"""Statements that find what is claimable, and when something will be.

Each name (and queue) has a stretch of an index of its own, sorted by when its items are available. A claim
reads the front of the stretches it asks for, and nothing else: neither finished items, nor those of other
names, nor those that are leased or not due yet.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import func, select, true
from sqlalchemy.sql.expression import FromClause

from perdure_sql.rows import HOT
from perdure_sqlite.statements import NONE, ONE, TABLES, each, number, sql

__all__ = [
    "ACTIVITY_NAMES",
    "CONTROLLED_TURNS",
    "NEXT_ACTIVITY",
    "NEXT_CONTROLLED_TURN",
    "NEXT_TURN",
    "READY_ACTIVITIES",
    "READY_TURNS",
    "TURN_NAMES",
]

_turns, _activities = TABLES.instances, TABLES.activities
_names, _queues = each("names", "n"), each("queues", "q")
_hot = [_turns.c[name] for name in HOT]


def _front(item: Any, *outer: FromClause) -> Any:
    """Return the keys at the front of one stretch."""
    found = select(item.c.key).where(item.c.hub == number("hub"))
    for column, source in zip((item.c.name, getattr(item.c, "queue", None)), outer, strict=False):
        found = found.where(column == source.c.value)
    found = found.where(item.c.available_at <= number("now")).order_by(item.c.available_at, item.c.key)
    return found.limit(number("top")).offset(NONE).correlate(*outer)


def _next(item: Any, *outer: FromClause) -> Any:
    """Return when the first item of one stretch will be available that is not yet."""
    found = select(item.c.available_at).where(item.c.hub == number("hub"))
    for column, source in zip((item.c.name, getattr(item.c, "queue", None)), outer, strict=False):
        found = found.where(column == source.c.value)
    found = found.where(item.c.available_at > number("now")).order_by(item.c.available_at)
    return found.limit(ONE).offset(NONE).correlate(*outer).scalar_subquery()


READY_TURNS: Final = sql(
    select(*_hot, _turns.c.available_at)
    .select_from(_names.join(_turns, _turns.c.key.in_(_front(_turns.alias("j"), _names))))
    .order_by(_turns.c.available_at, _turns.c.key)
    .limit(number("top"))
    .offset(NONE),
    *("names", "hub", "now", "top", "top"),
)

CONTROLLED_TURNS: Final = sql(
    select(*_hot, _turns.c.control_at)
    .where(_turns.c.hub == number("hub"), _turns.c.control_at <= number("now"))
    .order_by(_turns.c.control_at, _turns.c.key)
    .limit(number("top"))
    .offset(NONE),
    *("hub", "now", "top"),
)

NEXT_TURN: Final = sql(select(func.min(_next(_turns.alias("j"), _names))).select_from(_names), *("hub", "now", "names"))

NEXT_CONTROLLED_TURN: Final = sql(
    select(func.min(_turns.c.control_at)).where(_turns.c.hub == number("hub"), _turns.c.control_at > number("now")),
    *("hub", "now"),
)

_both = _queues.join(_names, true())

READY_ACTIVITIES: Final = sql(
    select(
        *(_activities.c[name] for name in ("key", "id", "name", "payload", "queue", "fence", "attempt")),
        _turns.c.id,
        _turns.c.generation,
    )
    .select_from(
        _both.join(_activities, _activities.c.key.in_(_front(_activities.alias("j"), _names, _queues))).join(
            _turns, _turns.c.key == _activities.c.instance
        )
    )
    .order_by(_activities.c.available_at, _activities.c.key)
    .limit(number("top"))
    .offset(NONE),
    *("queues", "names", "hub", "now", "top", "top"),
)

NEXT_ACTIVITY: Final = sql(
    select(func.min(_next(_activities.alias("j"), _names, _queues))).select_from(_both),
    *("hub", "now", "queues", "names"),
)

# The names in use, each found by one step through the index.
TURN_NAMES: Final = """
WITH RECURSIVE found (name) AS (
    SELECT (SELECT name FROM perdure_instances
            WHERE hub = ? AND available_at IS NOT NULL ORDER BY name LIMIT 1)
    UNION ALL
    SELECT (SELECT i.name FROM perdure_instances AS i
            WHERE i.hub = ? AND i.name > found.name AND i.available_at IS NOT NULL ORDER BY i.name LIMIT 1)
    FROM found WHERE found.name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL
"""

ACTIVITY_NAMES: Final = """
WITH RECURSIVE found (name) AS (
    SELECT (SELECT name FROM perdure_activities WHERE hub = ? AND queue = ? ORDER BY name LIMIT 1)
    UNION ALL
    SELECT (SELECT a.name FROM perdure_activities AS a
            WHERE a.hub = ? AND a.queue = ? AND a.name > found.name ORDER BY a.name LIMIT 1)
    FROM found WHERE found.name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL
"""

"""One transaction on the writing connection, as the shared operations use it.

SQLite has one writer at a time: what was read inside its transaction stays as it is, and nothing need be locked.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Select, func, literal_column, select

from perdure.spi import Millis
from perdure_sql import Found, Transaction
from perdure_sql.effects import ALL, Effect
from perdure_sql.rows import HOT
from perdure_sqlite import agenda
from perdure_sqlite.statements import (
    NONE,
    ONE,
    TABLES,
    compile_effect,
    each,
    execute,
    number,
    plain,
    sql,
)

__all__ = ["WIPE_HUB", "SQLiteTransaction"]

_turns, _inbox, _activities = TABLES.instances, TABLES.inbox, TABLES.activities
_remembered, _history, _inputs, _states = TABLES.remembered, TABLES.history, TABLES.inputs, TABLES.states
_hot = [_turns.c[name] for name in HOT]
_listed = select(each("list_").c.value)

EFFECTS: Final = {effect: compile_effect(effect) for effect in ALL}

ROWS_BY_KEY = sql(select(*_hot).where(_turns.c.key.in_(_listed), plain(_turns.c.hub) == number("hub")), "list_", "hub")
ROWS_BY_ID = sql(select(*_hot).where(_turns.c.hub == number("hub"), _turns.c.id.in_(_listed)), "hub", "list_")

# Pairs come as one array of arrays of two. They are joined and not compared by IN: for that SQLite would
# use the first of the two columns alone.
_pair = each("pairs", "pair")


def _paired(table: Any) -> Any:
    first, second = (func.json_extract(_pair.c.value, literal_column(f"'$[{place}]'")) for place in (0, 1))
    return _pair.join(table, (table.c.instance == first) & (table.c.id == second))


HEADERS = sql(
    select(*(_inbox.c[name] for name in ("instance", "id", "due", "seq", "control", "client"))).select_from(
        _paired(_inbox)
    ),
    "pairs",
)
REMEMBERED = sql(
    select(_remembered.c.instance, _remembered.c.id)
    .select_from(_paired(_remembered))
    .where(_remembered.c.until > number("now")),
    "pairs",
    "now",
)
ACTIVITY_IDS = sql(select(_activities.c.id).where(_activities.c.instance == number("instance")), "instance")
LAST_KEY = "SELECT seq FROM sqlite_sequence WHERE name = 'perdure_instances'"
ACTIVITY_ROWS = sql(
    select(
        *(_activities.c[name] for name in ("key", "token", "fence", "lease_until", "hidden_until", "attempt"))
    ).where(_activities.c.key.in_(_listed), plain(_activities.c.hub) == number("hub")),
    *("list_", "hub"),
)

_rest = each("list_", "rest")


def _earliest(*conditions: Any) -> Any:
    found = select(func.min(_inbox.c.due)).where(_inbox.c.instance == _rest.c.value, *conditions)
    return found.correlate(_rest).scalar_subquery()


EARLIEST = sql(select(_rest.c.value, _earliest(), _earliest(_inbox.c.control == ONE)).select_from(_rest), "list_")

_delivered = [_inbox.c[name] for name in ("instance", "seq", "id", "payload", "due", "enqueued_at", "control")]
_ordered = (_inbox.c.due, _inbox.c.seq)
MESSAGES = sql(
    select(*_delivered)
    .where(_inbox.c.instance.in_(_listed), _inbox.c.due <= number("now"))
    .order_by(_inbox.c.instance, *_ordered),
    *("list_", "now"),
)


def _first(*conditions: Any) -> str:
    return sql(
        select(*_delivered)
        .where(_inbox.c.instance == number("instance"), *conditions, _inbox.c.due <= number("now"))
        .order_by(*_ordered)
        .limit(number("top"))
        .offset(NONE),
        *("instance", "now", "top"),
    )


FRONT = _first()
CONTROL = _first(_inbox.c.control == ONE)
STARTS = sql(
    select(_inputs.c.instance, _inputs.c.start, _turns.c.created_at)
    .join(_turns, _turns.c.key == _inputs.c.instance)
    .where(_inputs.c.instance.in_(_listed)),
    "list_",
)
STATES = sql(
    select(_states.c.instance, _states.c.custom_status, _states.c.memo).where(_states.c.instance.in_(_listed)), "list_"
)
HISTORIES = sql(
    select(_history.c.instance, _history.c.first_seq, _history.c.count, _history.c.events)
    .where(_history.c.instance.in_(_listed))
    .order_by(_history.c.instance, _history.c.first_seq),
    "list_",
)

FAMILY: Final = """
WITH RECURSIVE family (id) AS (
    SELECT ?
    UNION
    SELECT i.id FROM family JOIN perdure_instances AS i ON i.hub = ? AND i.parent = family.id
)
SELECT id FROM family
"""
FORGETTABLE: Final = "SELECT instance, id FROM perdure_remembered WHERE hub = ? AND until <= ? ORDER BY until LIMIT ?"

WIPE_HUB: Final = (
    *(
        f"DELETE FROM perdure_{name} WHERE instance IN (SELECT key FROM perdure_instances WHERE hub = ?)"  # noqa: S608
        for name in ("inbox", "history", "remembered", "inputs", "states", "tags")
    ),
    "DELETE FROM perdure_activities WHERE hub = ?",
    "DELETE FROM perdure_instances WHERE hub = ?",
    "DELETE FROM perdure_hubs WHERE key = ?",
)
"""Each takes a hub's key; together they leave nothing of it."""


class SQLiteTransaction(Transaction):
    """The statements of one operation.

    Args:
        db: the writing connection, inside its transaction.
        clock: the hub's.
    """

    def __init__(self, db: sqlite3.Connection, clock: Callable[[], Millis]) -> None:
        self._db = db
        self._clock = clock
        self._last_key: int | None = None

    def now(self) -> Millis:
        return self._clock()

    def rows(self, hub: int, keys: Collection[int], ids: Collection[str]) -> Iterable[Sequence[Any]]:
        if keys:
            yield from self._db.execute(ROWS_BY_KEY, (_json(keys), hub))
        if ids:
            yield from self._db.execute(ROWS_BY_ID, (hub, _json(ids)))

    def headers(self, pairs: Sequence[tuple[int, str]]) -> Iterable[tuple[int, str, Millis, int, int, int]]:
        return self._db.execute(HEADERS, (_json(pairs),))

    def remembered(self, pairs: Sequence[tuple[int, str]], now: Millis) -> Iterable[tuple[int, str]]:
        return self._db.execute(REMEMBERED, (_json(pairs), now))

    def new_keys(self, count: int) -> Sequence[int]:
        if self._last_key is None:
            found = self._db.execute(LAST_KEY).fetchone()
            self._last_key = found[0] if found else 0
        first = self._last_key + 1
        self._last_key += count
        return range(first, first + count)

    def earliest(self, keys: Collection[int]) -> Iterable[tuple[int, Millis | None, Millis | None]]:
        return self._db.execute(EARLIEST, (_json(keys),))

    def activity_ids(self, instance: int) -> Iterable[str]:
        return (id_ for (id_,) in self._db.execute(ACTIVITY_IDS, (instance,)))

    def activity_rows(self, hub: int, keys: Collection[int]) -> Iterable[Sequence[Any]]:
        return self._db.execute(ACTIVITY_ROWS, (_json(keys), hub))

    def write(self, effect: Effect, values: Collection[tuple[object, ...]]) -> None:
        self._db.executemany(EFFECTS[effect], values)

    def turn_names(self, hub: int) -> Collection[str]:
        return [name for (name,) in self._db.execute(agenda.TURN_NAMES, (hub, hub))]

    def ready_turns(
        self, hub: int, names: Collection[str], now: Millis, most: int, held: Mapping[int, object]
    ) -> Found:
        # One more than fits tells whether there is more; held ones may be among them.
        top = most + len(held) + 1
        ready = self._db.execute(agenda.READY_TURNS, (_json(names), hub, now, top, top)).fetchall()
        ready += self._db.execute(agenda.CONTROLLED_TURNS, (hub, now, top)).fetchall()
        found: dict[int, tuple[Millis, int, Sequence[Any]]] = {}
        for *values, at in ready:
            key = values[0]
            if key not in held:
                found[key] = min(found.get(key, (at, key, values)), (at, key, values), key=lambda entry: entry[:2])
        ordered = sorted(found.values(), key=lambda entry: entry[:2])
        return Found(rows=[values for _, _, values in ordered[:most]], more=len(ordered) > most)

    def next_turn(self, hub: int, names: Collection[str], now: Millis) -> Millis | None:
        moments = (
            *self._db.execute(agenda.NEXT_TURN, (hub, now, _json(names))).fetchone(),
            *self._db.execute(agenda.NEXT_CONTROLLED_TURN, (hub, now)).fetchone(),
        )
        return min((moment for moment in moments if moment is not None), default=None)

    def messages(self, keys: Sequence[int], now: Millis) -> Iterable[Sequence[Any]]:
        return self._db.execute(MESSAGES, (_json(keys), now))

    def first_messages(self, key: int, now: Millis, most: int, *, control: bool) -> Iterable[Sequence[Any]]:
        return self._db.execute(CONTROL if control else FRONT, (key, now, most))

    def starts(self, keys: Sequence[int]) -> Iterable[tuple[int, bytes, Millis]]:
        return self._db.execute(STARTS, (_json(keys),))

    def states(self, keys: Sequence[int]) -> Iterable[tuple[int, bytes | None, bytes | None]]:
        return self._db.execute(STATES, (_json(keys),))

    def histories(self, keys: Sequence[int]) -> Iterable[tuple[int, int, int, bytes]]:
        return self._db.execute(HISTORIES, (_json(keys),))

    def activity_names(self, hub: int, queues: Collection[str]) -> Collection[str]:
        found = (self._db.execute(agenda.ACTIVITY_NAMES, (hub, queue, hub, queue)) for queue in queues)
        return {name for names in found for (name,) in names}

    def ready_activities(
        self, hub: int, queues: Collection[str], names: Collection[str], now: Millis, most: int
    ) -> Found:
        top = most + 1
        asked = (_json(queues), _json(names), hub, now, top, top)
        rows = self._db.execute(agenda.READY_ACTIVITIES, asked).fetchall()
        return Found(rows=rows[:most], more=len(rows) > most)

    def next_activity(self, hub: int, queues: Collection[str], names: Collection[str], now: Millis) -> Millis | None:
        asked = (hub, now, _json(queues), _json(names))
        found: Millis | None = self._db.execute(agenda.NEXT_ACTIVITY, asked).fetchone()[0]
        return found

    def select(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        return execute(self._db, statement).fetchall()

    def family(self, hub: int, instance: str) -> Iterable[str]:
        return (id_ for (id_,) in self._db.execute(FAMILY, (instance, hub)))

    def forgettable(self, hub: int, now: Millis, most: int) -> Sequence[tuple[int, str]]:
        return self._db.execute(FORGETTABLE, (hub, now, most)).fetchall()


def _json(values: Collection[object]) -> str:
    return json.dumps(list(values), ensure_ascii=False)

"""The hub: each call in a transaction of its own, or on a connection that reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import psycopg

from perdure.spi import Fields, Message, Millis, NewInstance, NotFound, OnWake, Outcome, Subscription, SystemClock
from perdure_postgres.arrays import Bigints
from perdure_postgres.connection import Connection
from perdure_postgres.intake import (
    MOST_BYTES,
    MOST_ITEMS,
    Desk,
    Item,
    is_full,
    reach_of,
    read_items,
    take_in,
    tell_dropped,
)
from perdure_postgres.reader import PostgresReader
from perdure_postgres.transaction import PostgresTransaction
from perdure_sql import Reader, SqlHub, Work
from perdure_sql.reach import Reach
from perdure_sql.reads import get_instances

if TYPE_CHECKING:
    from perdure_postgres.provider import PostgresProvider

__all__ = ["PostgresHub"]

T = TypeVar("T")

_Check: TypeAlias = Callable[[psycopg.Cursor[tuple[Any, ...]]], None]

_WALL = SystemClock()


class _Moved(Exception):
    """The hub has another key than we thought: it was deleted, and maybe created again."""

    def __init__(self, key: int | None) -> None:
        self.key = key


class _Waiting(Exception):
    """Something was put down by callers, and is to be taken in first."""


class PostgresHub(SqlHub):
    """A handle on one hub of a database."""

    def __init__(self, name: str, provider: PostgresProvider) -> None:
        self._provider = provider
        self._now = None if provider.clock is None else provider.clock.now
        super().__init__(name, provider.store().statements.tables, provider.limits, provider.capabilities)

    def _clock(self) -> Millis:
        return _WALL.now() if self._now is None else self._now()

    def _write(self, operation: Callable[[Work], T], reach: Reach) -> T:
        store = self._provider.store()
        say = store.statements

        def run(db: Connection, check: _Check, key: int) -> tuple[T, Work]:
            # The key is asked for behind the lock that keeps the hub from being deleted.
            db.run(say.begin, {"place": store.place(self.name)})
            found = db.run(say.find_hub, {"name": self.name})
            work = self._work(db, key, reach)
            check(found)
            return operation(work), work

        result, work = self._with_key(lambda key, check: store.write(lambda db: run(db, check, key)))
        self._provider.announce(self.name, work=work.work, changed=work.changed)
        return result

    def _read(self, operation: Callable[[Reader, int], T], *, snapshot: bool = False) -> T:
        store = self._provider.store()

        def run(db: Connection, check: _Check, key: int) -> T:
            found = db.run(store.statements.find_hub, {"name": self.name})
            try:
                result = operation(PostgresReader(db, store.statements, self._now), key)
            except NotFound:
                # Of an instance, or because we looked in the wrong hub, or too early.
                check(found)
                raise
            check(found)
            return result

        return self._with_key(lambda key, check: store.read(lambda db: run(db, check, key), snapshot=snapshot))

    def enlist(
        self, connection: object, *, starts: Sequence[NewInstance] = (), messages: Sequence[Message] = ()
    ) -> list[Outcome]:
        self._check_enlisted(starts, messages)
        ids = list(dict.fromkeys((*(new.id for new in starts), *(message.instance for message in messages))))
        key, found = self._read(lambda db, hub: (hub, get_instances(db, hub, ids, Fields.NONE)))
        infos = dict(zip(ids, found, strict=True))
        desk = Desk(
            connection,
            self._provider.store().statements,
            key=key,
            hub=self.name,
            channel=self._provider.channel(self.name),
        )
        return [
            *(desk.start(new, infos[new.id]) for new in starts),
            *(desk.send(message, infos[message.instance]) for message in messages),
        ]

    def _with_key(self, call: Callable[[int, _Check], T]) -> T:
        """Run `call` with the key that the hub had when it was last looked up, and again if it has another.

        It is given a function that must see the row of `find_hub` before anything is done.
        """
        keys = self._provider.store().hub_keys
        patient = False
        while True:
            key = keys.get(self.name) or -1

            def check(cursor: psycopg.Cursor[tuple[Any, ...]], key: int = key, patient: bool = patient) -> None:
                if self._check(cursor.fetchone(), key) and not patient:
                    raise _Waiting

            try:
                return call(key, check)
            except _Moved as moved:
                keys[self.name] = moved.key
                self._found(moved.key)
            except _Waiting:
                # Once: what comes meanwhile was not there when we were called.
                with suppress(_Moved):
                    self._take_in(key)
                patient = True

    def _take_in(self, key: int) -> None:
        """Do what callers have put down, and committed until now."""
        store = self._provider.store()
        say = store.statements
        place = store.place(self.name)

        def run(db: Connection) -> tuple[Work, list[tuple[Item, Outcome]], bool]:
            db.run(say.begin, {"place": place})
            # One at a time, or a later portion might overtake an earlier one.
            db.run(say.lock_hub, {"place": f"intake of {place}"})
            hub = db.run(say.find_hub, {"name": self.name})
            rows = db.run(say.intake_front, {"hub": key, "most": MOST_ITEMS, "bytes": MOST_BYTES}).fetchall()
            items = read_items(self.name, rows)
            work = self._work(db, key, reach_of(items))
            self._check(hub.fetchone(), key)
            outcomes = take_in(work, items)
            db.run(say.take_in, {"hub": key, "seqs": Bigints(row[0] for row in rows)})
            return work, outcomes, is_full(rows)

        more = True
        while more:
            work, outcomes, more = store.write(run)
            tell_dropped(self.name, outcomes)
            self._provider.announce(self.name, work=work.work, changed=work.changed)

    def _check(self, found: tuple[Any, ...] | None, key: int) -> bool:
        """Make sure that the hub still has this key, and tell whether something waits to be taken in."""
        if found is None or found[0] != key:
            raise _Moved(None if found is None else found[0])
        return bool(found[1])

    def _work(self, db: Connection, key: int, reach: Reach) -> Work:
        store = self._provider.store()
        return Work(PostgresTransaction(db, store.statements, self._now, store.new_keys), key, self._limits, reach)

    def subscribe(self, on_wake: OnWake) -> Subscription | None:
        self._read(lambda _db, _hub: None)
        return self._provider.subscribe(self.name, on_wake)

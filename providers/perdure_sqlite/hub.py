"""The hub: each call in a transaction of its own, or on a reader."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from perdure.spi import Message, Millis, NewInstance, OnWake, Outcome, PumpResult, Subscription
from perdure_sql import Reader, SqlHub, Work
from perdure_sql.instances import create_instances
from perdure_sql.messages import send_messages
from perdure_sql.reach import Reach
from perdure_sqlite.callers import borrowed
from perdure_sqlite.reader import FIND_HUB, SQLiteReader
from perdure_sqlite.statements import TABLES
from perdure_sqlite.transaction import SQLiteTransaction

if TYPE_CHECKING:
    from perdure_sqlite.provider import SQLiteProvider

__all__ = ["SQLiteHub"]

T = TypeVar("T")


class SQLiteHub(SqlHub):
    """A handle on one hub of a file."""

    def __init__(self, name: str, provider: SQLiteProvider) -> None:
        super().__init__(name, TABLES, provider.limits, provider.capabilities)
        self._provider = provider
        self._now = provider.now

    def _clock(self) -> Millis:
        return self._now()

    def _write(self, operation: Callable[[Work], T], reach: Reach) -> T:
        store = self._provider.store()
        done: list[Work] = []

        def run(db: sqlite3.Connection) -> T:
            work = Work(SQLiteTransaction(db, self._now), self._key(db), self._limits, reach)
            done.append(work)
            return operation(work)

        result = store.write(run)
        store.watch.announce(self.name, work=done[0].work, changed=done[0].changed)
        return result

    def _read(self, operation: Callable[[Reader, int], T], *, snapshot: bool = False) -> T:
        store = self._provider.store()
        return store.read(lambda db: operation(SQLiteReader(db, self._now), self._key(db)), snapshot=snapshot)

    def _key(self, db: sqlite3.Connection) -> int:
        found = db.execute(FIND_HUB, (self.name,)).fetchone()
        return self._found(None if found is None else found[0])

    def enlist(
        self, connection: object, *, starts: Sequence[NewInstance] = (), messages: Sequence[Message] = ()
    ) -> list[Outcome]:
        self._check_enlisted(starts, messages)
        # The caller is the writer until the transaction ends: it may do all of it at once.
        with borrowed(connection, self._provider.store().path) as db:
            reach = Reach.of_enlisted(starts, messages)
            work = Work(SQLiteTransaction(db, self._now), self._key(db), self._limits, reach)
            return [*create_instances(work, starts), *send_messages(work, messages)]

    def pump(self, budget_ms: int = 50) -> PumpResult:
        swept = super().pump(budget_ms)
        self._provider.store().shorten_log()
        return swept

    def subscribe(self, on_wake: OnWake) -> Subscription:
        self._read(lambda _db, _hub: None)
        return self._provider.subscribe(self.name, on_wake)

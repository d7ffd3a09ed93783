"""The hub: each call in a transaction of its own, or on a connection that reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from perdure.spi import Millis, NotFound, OnWake, Subscription, SystemClock
from perdure_postgres.connection import Connection
from perdure_postgres.reader import PostgresReader
from perdure_postgres.transaction import PostgresTransaction
from perdure_sql import Reader, SqlHub, Work
from perdure_sql.reach import Reach

if TYPE_CHECKING:
    from perdure_postgres.provider import PostgresProvider

__all__ = ["PostgresHub"]

T = TypeVar("T")

_WALL = SystemClock()


class _Moved(Exception):
    """The hub has another key than we thought: it was deleted, and maybe created again."""

    def __init__(self, key: int | None) -> None:
        self.key = key


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

        def run(db: Connection, key: int) -> tuple[T, Work]:
            # The key is asked for behind the lock that keeps the hub from being deleted.
            db.run(say.begin, {"place": store.place(self.name)})
            found = db.run(say.find_hub, {"name": self.name})
            work = Work(PostgresTransaction(db, say, self._now, store.new_keys), key, self._limits, reach)
            self._check(found.fetchone(), key)
            return operation(work), work

        result, work = self._with_key(lambda key: store.write(lambda db: run(db, key)))
        self._provider.announce(self.name, work=work.work, changed=work.changed)
        return result

    def _read(self, operation: Callable[[Reader, int], T], *, snapshot: bool = False) -> T:
        store = self._provider.store()

        def run(db: Connection, key: int) -> T:
            found = db.run(store.statements.find_hub, {"name": self.name})
            try:
                result = operation(PostgresReader(db, store.statements, self._now), key)
            except NotFound:
                # Of an instance, or because we looked in the wrong hub.
                self._check(found.fetchone(), key)
                raise
            self._check(found.fetchone(), key)
            return result

        return self._with_key(lambda key: store.read(lambda db: run(db, key), snapshot=snapshot))

    def _with_key(self, call: Callable[[int], T]) -> T:
        """Run `call` with the key that the hub had when it was last looked up, and once more if it has another."""
        keys = self._provider.store().hub_keys
        while True:
            try:
                return call(keys.get(self.name) or -1)
            except _Moved as moved:
                keys[self.name] = moved.key
                self._found(moved.key)

    def _check(self, found: tuple[int] | tuple[object, ...] | None, key: int) -> None:
        current = None if found is None else found[0]
        if current != key:
            raise _Moved(current if isinstance(current, int) else None)

    def subscribe(self, on_wake: OnWake) -> Subscription | None:
        self._read(lambda _db, _hub: None)
        return self._provider.subscribe(self.name, on_wake)

"""The provider: a handle on one SQLite file."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

from perdure.spi import (
    Capabilities,
    Clock,
    Closed,
    InvalidRequest,
    Limits,
    MigrationStep,
    Millis,
    OnWake,
    Outcome,
    Provider,
    ProviderURL,
    SchemaStatus,
    Subscription,
    checks,
)
from perdure_sqlite.urls import MEMORY, database_path

# What needs the driver or SQLAlchemy is imported where it is first used, so that importing the provider to
# look at it, or to be told of a wrong URL, costs nothing.
if TYPE_CHECKING:
    import sqlite3

    from perdure_sqlite.hub import SQLiteHub
    from perdure_sqlite.store import Store

__all__ = ["SQLiteProvider"]


class SQLiteProvider(Provider):
    """`sqlite:///relative.db`, `sqlite:////absolute/path.db` or `sqlite:///:memory:`.

    Many providers, threads and processes of one machine may share a file. A store in memory belongs to its
    provider, and ends with it.

    A provider doesn't survive a fork: open another one in the child.
    """

    name = "sqlite"
    version = "0.1.0"
    capabilities = Capabilities(
        durable=True,
        concurrent_threads=True,
        multi_process=True,
        multi_host=False,
        single_txn_exchange=True,
        push="process",
        tag_query=True,
        purge_cascade=True,
        caller_transaction=True,
    )
    limits = Limits()

    def __init__(self, url: str | ProviderURL, *, clock: Clock | None = None) -> None:
        super().__init__(url, clock=clock)
        self._path = database_path(self.url)
        if self.url.options.get("migrate", "auto") != "auto":
            raise InvalidRequest(f"op_migrate is {self.url.options['migrate']!r} in {self.url}; it can only be auto")
        if self._path == MEMORY:
            self.capabilities = Capabilities(
                durable=False,
                concurrent_threads=True,
                multi_process=False,
                multi_host=False,
                single_txn_exchange=True,
                push="process",
                tag_query=True,
                purge_cascade=True,
            )
        self._store: Store | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._subscriptions: set[Subscription] = set()
        if clock is not None:
            # Looked up once: it is read several times in each call.
            self.now = clock.now  # type: ignore[method-assign]

    @staticmethod
    def now() -> Millis:
        """Return the time of the clock that was injected, or else of this machine's."""
        return time.time_ns() // 1_000_000

    def open(self) -> None:
        from perdure_sqlite import schema, store  # noqa: PLC0415

        # Before the lock, which another thread of the parent may have held at the fork.
        self._check_process()
        with self._lock:
            if self._closed:
                raise Closed
            if self._store is not None:
                return
            opened = store.acquire(self._path)
            try:
                opened.write_schema(lambda db: schema.prepare(db, self._path, auto="migrate" in self.url.options))
            except BaseException:
                store.release(opened)
                raise
            self._store = opened

    def close(self) -> None:
        if self._process != os.getpid():
            return
        with self._lock:
            self._closed = True
            opened, self._store = self._store, None
            subscriptions, self._subscriptions = self._subscriptions, set()
        if opened is None:
            return
        from perdure_sqlite import store  # noqa: PLC0415

        for subscription in subscriptions:
            subscription.close()
        store.release(opened)

    def create_hub(self, name: str) -> Outcome:
        checks.check_hub_name(name)

        def create(db: sqlite3.Connection) -> Outcome:
            made = db.execute("INSERT INTO perdure_hubs (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            return Outcome.OK if made.rowcount else Outcome.EXISTS

        return self.store().write(create)

    def delete_hub(self, name: str) -> Outcome:
        from perdure_sqlite.reader import FIND_HUB  # noqa: PLC0415
        from perdure_sqlite.transaction import WIPE_HUB  # noqa: PLC0415

        checks.check_hub_name(name)

        def delete(db: sqlite3.Connection) -> Outcome:
            found = db.execute(FIND_HUB, (name,)).fetchone()
            if found is None:
                return Outcome.NOT_FOUND
            for statement in WIPE_HUB:
                db.execute(statement, found)
            return Outcome.OK

        return self.store().write(delete)

    def hub(self, name: str) -> SQLiteHub:
        from perdure_sqlite.hub import SQLiteHub  # noqa: PLC0415

        self.store()
        checks.check_hub_name(name)
        return SQLiteHub(name, self)

    def list_hubs(self) -> list[str]:
        def names(db: sqlite3.Connection) -> list[str]:
            return [name for (name,) in db.execute("SELECT name FROM perdure_hubs ORDER BY name")]

        return self.store().read(names)

    def schema_status(self) -> SchemaStatus:
        from perdure_sqlite import schema  # noqa: PLC0415

        if self._store is not None:
            return self._store.read(schema.status, snapshot=True)
        return schema.look(self._path)

    def migrate(self, *, to: int | None = None, dry_run: bool = False) -> list[MigrationStep]:
        from perdure_sqlite import schema  # noqa: PLC0415
        from perdure_sqlite.connection import connect_writer  # noqa: PLC0415

        if dry_run:
            return schema.planned(self.schema_status(), self._path, to=to)
        if self._store is not None:
            return self._store.write_schema(lambda db: schema.migrate(db, self._path, to=to))
        if self._path == MEMORY:
            return []
        with closing(connect_writer(self._path)) as db:
            return schema.guarded(lambda: schema.migrate(db, self._path, to=to), self._path)

    def store(self) -> Store:
        """Return what is open.

        Raises:
            Closed: nothing is, or it was opened before a fork.
        """
        opened = self._store
        if opened is None:
            raise Closed if self._closed else Closed("The provider is not open: call open() first.")
        self._check_process()
        return opened

    def subscribe(self, hub: str, on_wake: OnWake) -> Subscription:
        """Subscribe to a hub; the subscription ends with this provider."""
        subscription = self.store().watch.subscribe(hub, on_wake, self._forget)
        with self._lock:
            if not self._closed:
                self._subscriptions.add(subscription)
                return subscription
        subscription.close()
        raise Closed

    def _forget(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise Closed(
                f"{self.url} was opened in process {self._process}, and SQLite's connections don't survive a fork: "
                "open another provider in this process"
            )

"""The provider: a handle on one schema of one Postgres database."""

from __future__ import annotations

import os
import secrets
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from perdure.spi import (
    Capabilities,
    Clock,
    Closed,
    Limits,
    MigrationStep,
    OnWake,
    Outcome,
    Provider,
    ProviderUnavailable,
    ProviderURL,
    SchemaStatus,
    Subscription,
    checks,
)
from perdure_postgres.urls import OPTIONS, Settings, channel_of

# What needs the driver or SQLAlchemy is imported where it is first used, so that importing the provider to
# look at it, or to be told of a wrong URL, costs nothing.
if TYPE_CHECKING:
    from perdure_postgres.bell import Bell
    from perdure_postgres.connection import Connection
    from perdure_postgres.hub import PostgresHub
    from perdure_postgres.store import Store

__all__ = ["PostgresProvider"]


class PostgresProvider(Provider):
    """`postgresql://user:password@host:port/database?op_schema=perdure`.

    Parameters that don't begin with `op_` are libpq's (`sslmode`, `connect_timeout`, `target_session_attrs`...). A
    provider doesn't survive a fork: open another one in the child.
    """

    OPTIONS = OPTIONS
    name = "postgres"
    version = "0.1.0"
    limits = Limits()

    def __init__(self, url: str | ProviderURL, *, clock: Clock | None = None) -> None:
        super().__init__(url, clock=clock)
        self._settings = Settings.parse(self.url)
        self.capabilities = Capabilities(
            durable=True,
            concurrent_threads=True,
            multi_process=True,
            multi_host=True,
            single_txn_exchange=True,
            push="network" if self._settings.notify else "none",
            server_clock=True,
            tag_query=True,
            purge_cascade=True,
            caller_transaction=True,
        )
        self._label = f"Postgres at {self.url}"
        self._store: Store | None = None
        self._bell: Bell | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._process = os.getpid()

    def open(self) -> None:
        # Before the lock, which another thread of the parent may have held at the fork.
        self._check_process()
        with self._lock:
            if self._closed:
                raise Closed
            if self._store is not None:
                return
            from perdure_postgres import schema  # noqa: PLC0415
            from perdure_postgres.bell import Bell  # noqa: PLC0415
            from perdure_postgres.store import Store  # noqa: PLC0415

            with closing(self._connect()) as db:
                schema.guarded(
                    lambda: schema.prepare(db, self._settings.schema, self._label, auto=self._settings.migrate),
                    self._label,
                )
            self._store = Store(self._settings, self._label)
            if self._settings.notify:
                self._bell = Bell(self._settings, self._label)

    def close(self) -> None:
        if self._process != os.getpid():
            return
        with self._lock:
            self._closed = True
            opened, self._store = self._store, None
            bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()
        if opened is not None:
            opened.close()

    def create_hub(self, name: str) -> Outcome:
        checks.check_hub_name(name)
        store = self.store()
        # Random, so that a hub of the same name in another database has another one.
        made = {"key": secrets.randbits(62) + 1, "name": name}
        created = store.write(lambda db: db.run(store.statements.create_hub, made).fetchone())
        return Outcome.EXISTS if created is None else Outcome.OK

    def delete_hub(self, name: str) -> Outcome:
        checks.check_hub_name(name)
        store = self.store()

        def delete(db: Connection) -> Outcome:
            # Who writes to it holds this lock too, though not alone.
            db.run(store.statements.lock_hub, {"place": store.place(name)})
            found = db.run(store.statements.find_hub, {"name": name}).fetchone()
            if found is None:
                return Outcome.NOT_FOUND
            for statement in store.statements.wipe_hub:
                db.run(statement, {"hub": found[0]})
            return Outcome.OK

        return store.write(delete)

    def hub(self, name: str) -> PostgresHub:
        from perdure_postgres.hub import PostgresHub  # noqa: PLC0415

        self.store()
        checks.check_hub_name(name)
        return PostgresHub(name, self)

    def list_hubs(self) -> list[str]:
        store = self.store()
        return store.read(lambda db: [name for (name,) in db.run(store.statements.list_hubs)])

    def schema_status(self) -> SchemaStatus:
        from perdure_postgres import schema  # noqa: PLC0415

        with closing(self._connect()) as db:
            return schema.guarded(lambda: schema.status(db, self._settings.schema), self._label)

    def migrate(self, *, to: int | None = None, dry_run: bool = False) -> list[MigrationStep]:
        from perdure_postgres import schema  # noqa: PLC0415

        if dry_run:
            return schema.planned(self.schema_status(), self._settings.schema, self._label, to=to)
        with closing(self._connect()) as db:
            return schema.guarded(lambda: schema.migrate(db, self._settings.schema, self._label, to=to), self._label)

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

    def announce(self, hub: str, *, work: bool, changed: set[str]) -> None:
        """Tell everybody's subscribers what a commit did."""
        bell = self._bell
        if bell is not None and (work or changed):
            bell.announce(hub, work=work, changed=changed)

    def channel(self, hub: str) -> str | None:
        """Return the channel on which a hub's subscribers are told; None: nobody is."""
        return channel_of(self._settings.schema, hub) if self._settings.notify else None

    def subscribe(self, hub: str, on_wake: OnWake) -> Subscription | None:
        """Subscribe to a hub; the subscription ends with this provider."""
        bell = self._bell
        if bell is None:
            self.store()
            return None
        return bell.subscribe(hub, on_wake)

    def _connect(self) -> Connection:
        try:
            from perdure_postgres.connection import connect  # noqa: PLC0415
        except ImportError as error:
            raise ProviderUnavailable(
                f'{self._label} needs the driver psycopg 3; run: pip install "perdure[postgres]" ({error})'
            ) from error
        return connect(self._settings, self._label)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise Closed(
                f"{self.url} was opened in process {self._process}, and connections don't survive a fork: "
                "open another provider in this process"
            )

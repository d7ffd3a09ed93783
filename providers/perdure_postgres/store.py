"""One database as a provider has it open: its pool, and how work is run in it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from perdure.spi import Transient
from perdure_postgres.connection import Connection, connect_pool
from perdure_postgres.errors import Stage, is_conflict, is_connection_lost, translate
from perdure_postgres.statements import Statements, statements
from perdure_postgres.urls import Settings

__all__ = ["Store"]

T = TypeVar("T")

_TRIES: Final = 12
"""How often work is run where others are in the way."""

_RECONNECTS: Final = 2
"""How often it is run anew because a connection broke: those of the pool are as old as a server's restart."""

_KEYS: Final = 1000
"""Keys of instances in one block."""


class Store:
    """A pool of connections to one database, and the statements for one schema of it.

    Args:
        settings: what the URL says.
        name: what to call it in messages.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self.name = name
        self.statements: Statements = statements(settings.schema)
        self._pool = connect_pool(settings)
        self._pool.open()
        self.hub_keys: dict[str, int | None] = {}
        """Those that hubs had when they were last looked up, by name."""
        self._schema = settings.schema
        self._keys = range(0)
        self._lock = threading.Lock()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction, and return its result once that is committed.

        Where others are in the way (a deadlock, an instance created by two at once) it is run again.

        Raises:
            ProviderError: what `work` raised, or what the driver's error means; nothing of it was applied, unless
                it is `OutcomeUnknown`.
        """
        return self._persist(lambda db: self._transaction(db, work), "write")

    def read(self, work: Callable[[Connection], T], *, snapshot: bool = False) -> T:
        """Run `work` on a connection that writes nothing.

        Args:
            work: what to do with the connection.
            snapshot: whether all its statements must see one state.
        """

        def run(db: Connection) -> T:
            db.forget_plans()
            with db.pipeline():
                if not snapshot:
                    return work(db)
                db.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                try:
                    return work(db)
                finally:
                    db.run("ROLLBACK")

        return self._persist(run, "read")

    def close(self) -> None:
        """Close every connection that is not in use; the others are closed when they come back."""
        self._pool.close()

    def place(self, hub: str) -> str:
        """Return what stands for a hub among the database's advisory locks."""
        return f"perdure.{self._schema}.{hub}"

    def new_keys(self, db: Connection, count: int) -> Sequence[int]:
        """Return keys that no instance has had."""
        with self._lock:
            if len(self._keys) >= count:
                taken, self._keys = self._keys[:count], self._keys[count:]
                return taken
        # What is left of the former block is never used, and neither is a block whose transaction fails.
        blocks = -(-count // _KEYS)
        firsts = [db.run(self.statements.key_block) for _ in range(blocks)]
        keys = [first * _KEYS + place for ((first,),) in firsts for place in range(_KEYS)]
        last = keys[-1] + 1
        with self._lock:
            self._keys = range(last - (len(keys) - count), last)
        return keys[:count]

    def _persist(self, work: Callable[[Connection], T], stage: Stage) -> T:
        conflicts = reconnects = 0
        while True:
            try:
                db = self._pool.getconn()
            except psycopg.Error as error:
                raise translate(error, stage, self.name) from error
            try:
                return work(db)
            except psycopg.Error as error:
                if is_conflict(error) and conflicts < _TRIES:
                    conflicts += 1
                    pause = random.uniform(0, 0.002 * 2 ** min(conflicts, 6))  # noqa: S311 - not to meet again
                elif is_connection_lost(error) and reconnects < _RECONNECTS:
                    reconnects += 1
                    pause = None
                else:
                    raise translate(error, stage, self.name) from error
            except BaseException as error:
                if not isinstance(error, Exception):
                    # Interrupted between any two steps: nobody knows what the session waits for.
                    db.close()
                raise
            finally:
                self._pool.putconn(db)
            if pause is None:
                # The others in the pool are as old as this one was.
                self._pool.check()
            else:
                time.sleep(pause)

    def _transaction(self, db: Connection, work: Callable[[Connection], T]) -> T:
        committing = False
        try:
            db.forget_plans()
            with db.pipeline():
                db.run("BEGIN ISOLATION LEVEL READ COMMITTED")
                result = work(db)
                # Sent behind what was written last: where any of that fails, the server doesn't come to it.
                committing = True
                ended = db.run("COMMIT")
        except psycopg.Error as error:
            _roll_back(db)
            if committing and is_connection_lost(error):
                raise translate(error, "commit", self.name) from error
            # Either nothing was committed yet, or the server has answered, and refused.
            raise
        except BaseException:
            _roll_back(db)
            raise
        if ended.statusmessage != "COMMIT":
            raise Transient(f"{self.name}: the transaction was rolled back; nothing was applied")
        return result


def _roll_back(db: Connection) -> None:
    # A session that is gone has rolled back by itself, or will.
    with suppress(psycopg.Error):
        if not db.closed and db.info.transaction_status is not TransactionStatus.IDLE:
            db.run("ROLLBACK")

"""One file as this process has it open, shared by all its providers."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from perdure.spi import Closed
from perdure_sql.wakeup import Watch
from perdure_sqlite.connection import LOG_BYTES, connect_reader, connect_writer, shorten_log
from perdure_sqlite.errors import translate
from perdure_sqlite.urls import MEMORY
from perdure_sqlite.writer import Writer

__all__ = ["Store", "acquire", "release"]

T = TypeVar("T")

# Readers that nobody uses are kept up to this many.
_SPARE_READERS = 8

# How long writers are held up for a log that is too long.
_SHORTEN_MS = 50


class Store:
    """A writer, readers and subscribers of one file.

    Args:
        path: the file's real path, or `MEMORY`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.users = 0
        self._log = f"{path}-wal"
        self.writer = Writer(connect_writer(path), path)
        self.file = None if path == MEMORY else _identity(path)
        self.watch = Watch(None if path == MEMORY else self)
        self._spare: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction of the writer."""
        return self.writer.run(work)

    def write_schema(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which makes its own transactions, on the writer while nobody else uses it."""
        return self.writer.run_outside(work)

    def read(self, work: Callable[[sqlite3.Connection], T], *, snapshot: bool = False) -> T:
        """Run `work` on a reader; it never waits for a writer.

        Args:
            work: what to do with the connection.
            snapshot: whether all its statements must see one state.
        """
        if self.path == MEMORY:
            # There is but one connection, on which a reader would see what is not committed yet.
            return self.writer.run_outside(work)
        with self._lock:
            if self._closed:
                raise Closed
            db = self._spare.pop() if self._spare else None
        try:
            if db is None:
                db = connect_reader(self.path)
            if not snapshot:
                return work(db)
            db.execute("BEGIN")
            try:
                return work(db)
            finally:
                db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translate(error, "read", self.path) from error
        finally:
            if db is not None:
                self._give_back(db)

    def close(self) -> None:
        """Close every connection and end the watch."""
        self.watch.close()
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, []
        for db in spare:
            db.close()
        self.writer.close()

    def _give_back(self, db: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._spare) < _SPARE_READERS and not db.in_transaction:
                self._spare.append(db)
                return
        db.close()

    def glance(self) -> object:
        """Return the date and size of the log, into which every commit is written."""
        try:
            found = os.stat(self._log)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def shorten_log(self) -> None:
        """Start a log anew that has become long, if its readers let go of it soon."""
        try:
            long = os.path.getsize(self._log) > LOG_BYTES
        except OSError:
            return
        if long:
            self.writer.run_outside(lambda db: shorten_log(db, _SHORTEN_MS))

    def data_version(self) -> int:
        """Return the counter that other processes' commits move."""

        def ask(db: sqlite3.Connection) -> int:
            version: int = db.execute("PRAGMA data_version").fetchone()[0]
            return version

        return self.writer.run_outside(ask)


_stores: dict[str, Store] = {}
_guard = threading.Lock()
# Connections that a fork brought along. They must never be used or closed here: that would
# meddle with the parent's locks and log. So they are kept from the garbage collector.
_inherited: list[Store] = []


def acquire(path: str) -> Store:
    """Return the store of `path`, opening it if nobody in this process has."""
    if path == MEMORY:
        store = Store(path)
        store.users = 1
        return store
    real = os.path.realpath(path)
    with _guard:
        store_or_none = _stores.get(real)
        if store_or_none is None or store_or_none.file != _identity(real):
            # New, or the file was replaced by another since it was opened.
            store_or_none = _stores[real] = Store(real)
        store_or_none.users += 1
        return store_or_none


def release(store: Store) -> None:
    """Give a store back; the last user closes it."""
    with _guard:
        store.users -= 1
        if store.users:
            return
        if _stores.get(store.path) is store:
            del _stores[store.path]
    store.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _forget_parent() -> None:
    global _guard  # noqa: PLW0603  # another thread of the parent may have held it
    _guard = threading.Lock()
    _inherited.extend(_stores.values())
    _stores.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)

"""A caller's own connection to the file, borrowed for one call."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from perdure.spi import InvalidRequest
from perdure_sql.callers import unwrap
from perdure_sqlite.errors import translate

__all__ = ["borrowed"]


@contextmanager
def borrowed(connection: object, path: str) -> Iterator[sqlite3.Connection]:
    """Lend out the connection that a caller brought, inside the caller's transaction.

    What is done with it is taken back whole where an exception ends it. One that stands at the very beginning of its
    transaction becomes the writer here: nobody else writes until it ends.

    Args:
        connection: what the caller brought.
        path: of the store's file.

    Raises:
        InvalidRequest: it is no connection to that file, or in no transaction.
        Transient: somebody else writes.
    """
    caller = unwrap(connection)
    db = caller.driver
    if not isinstance(db, sqlite3.Connection):
        raise InvalidRequest(f"connection is one of {type(db).__module__}; this provider takes those of sqlite3")
    try:
        if caller.alchemy is not None:
            # Any statement does: SQLAlchemy commits only what it knows to have begun.
            caller.alchemy.exec_driver_sql("SELECT 1").close()
        with _plain(db):
            _check_file(db, path)
            if not db.in_transaction:
                _begin(db)
            db.execute("SAVEPOINT perdure")
            try:
                yield db
            except BaseException:
                # It is gone with the whole transaction where the error was of that kind.
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK TO perdure")
                    db.execute("RELEASE perdure")
                raise
            db.execute("RELEASE perdure")
    except sqlite3.ProgrammingError as error:
        # Closed, or made by another thread: what is wrong with it the module says well.
        raise InvalidRequest(f"connection can't be used: {error}") from error
    except sqlite3.Error as error:
        raise translate(error, "write", path) from error


@contextmanager
def _plain(db: sqlite3.Connection) -> Iterator[None]:
    """Have rows come as tuples and text as `str`, however the caller likes them."""
    usual = db.row_factory, db.text_factory
    db.row_factory, db.text_factory = None, str
    try:
        yield
    finally:
        db.row_factory, db.text_factory = usual


def _check_file(db: sqlite3.Connection, path: str) -> None:
    file = next((row[2] for row in db.execute("PRAGMA database_list") if row[1] == "main"), "")
    try:
        same = bool(file) and os.path.samefile(file, path)
    except OSError:
        same = False
    if not same:
        raise InvalidRequest(f"connection is to {file or 'memory'!r}; it must be to the provider's own file, {path!r}")


def _begin(db: sqlite3.Connection) -> None:
    # Python's module begins a transaction by itself, unless it was told not to, with the first statement that writes.
    # As early as this, and as the writer, what is read in it can't be overtaken.
    if db.isolation_level is None or getattr(db, "autocommit", None) is True:
        raise InvalidRequest(
            "connection is in no transaction; begin one, or what is put down would not be yours to undo"
        )
    db.execute("BEGIN IMMEDIATE")

"""Connections to one file: how they are opened, and which promises their settings keep."""

from __future__ import annotations

import os
import sqlite3
import time
from urllib.parse import quote

from perdure.spi import ProviderUnavailable
from perdure_sqlite.errors import Stage, is_busy, read_only, translate
from perdure_sqlite.urls import MEMORY

__all__ = ["BUSY_MS", "LOG_BYTES", "connect_reader", "connect_writer", "factory", "peek", "shorten_log"]

factory: type[sqlite3.Connection] = sqlite3.Connection
"""What new connections are: the place where a test gets between a provider and its driver."""

BUSY_MS = 10_000
"""How long a call waits for another process's lock before it raises `Transient`."""

LOG_BYTES = 32 * 1024 * 1024
"""A log that is longer is cut: some reader, here or elsewhere, has kept it from starting anew for long."""

# Generated columns came with 3.31, RETURNING and the planner's use of partial indexes by comparison with 3.35.
_OLDEST = (3, 35, 0)

# Compiled statements are kept by connection and text; all of ours together are fewer.
_STATEMENTS = 256


def connect_writer(path: str) -> sqlite3.Connection:
    """Open the connection that writes, creating the file if there is none.

    Raises:
        ProviderUnavailable: the file can't be reached, is no database, or can't have a write-ahead log.
        Transient: another process kept it locked.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise ProviderUnavailable(
            f"SQLite {sqlite3.sqlite_version} is too old; perdure needs {'.'.join(map(str, _OLDEST))} or newer"
        )
    db = _connect(path, "rwc", "open")
    try:
        # SQLite opens a file that it may not write for reading, and only the first write would say so.
        if path != MEMORY and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise read_only(path)
        if path != MEMORY:
            _set_wal(db, path)
        # FULL: a commit that returned survives a power loss.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA cache_size = -16384")
        # Fewer, larger checkpoints: each costs two more syncs. 2,000 pages are 8 MB of log.
        db.execute("PRAGMA wal_autocheckpoint = 2000")
        # A log that grew under a long reader is cut when it starts anew.
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    except sqlite3.Error as error:
        db.close()
        raise translate(error, "open", path) from error
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(path: str) -> sqlite3.Connection:
    """Open a connection that only reads."""
    db = _connect(path, "rw", "read")
    try:
        db.execute("PRAGMA query_only = ON")
        db.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error as error:
        db.close()
        raise translate(error, "read", path) from error
    return db


def shorten_log(db: sqlite3.Connection, wait_ms: int) -> bool:
    """Start the log anew, outside of a transaction; False where a reader needed it for longer than `wait_ms`.

    Checkpoints that come by themselves wait for nobody. Where readers take turns so that there is always one,
    none finds the log unused, and it grows for as long as they do. This one has new readers read the file alone.
    """
    # Writers wait meanwhile, so that it must not take long.
    db.execute(f"PRAGMA busy_timeout = {wait_ms}")
    try:
        busy: int = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return not busy


def peek(path: str) -> sqlite3.Connection | None:
    """Open a file that may not exist for reading, leaving no trace; None: there is nothing in it.

    Raises:
        ProviderUnavailable: it is there, but can't be read.
    """
    try:
        if os.path.getsize(path) == 0:
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProviderUnavailable(f"SQLite file {path!r} can't be read: {error.strerror}") from error
    # Reading through the log would create the log's files where there are none; without one, nobody has
    # the file open and it can be read as it stands.
    return _connect(path, "ro" if os.path.exists(f"{path}-wal") else "ro&immutable=1", "open")


def _connect(path: str, mode: str, stage: Stage) -> sqlite3.Connection:
    target = MEMORY if path == MEMORY else f"file:{quote(os.path.abspath(path))}?mode={mode}"
    try:
        # isolation_level=None: the module sends no BEGIN of its own, so that ours can be IMMEDIATE.
        db = sqlite3.connect(
            target,
            uri=path != MEMORY,
            timeout=BUSY_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
            factory=factory,
        )
    except sqlite3.Error as error:
        raise translate(error, stage, path) from error
    return db


def _set_wal(db: sqlite3.Connection, path: str) -> None:
    # Switching a new file over takes a lock that doesn't wait: several processes may do it at once.
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.005)
    if mode != "wal":
        raise ProviderUnavailable(
            f"SQLite file {path!r} can't have a write-ahead log ({mode}); put it on a local disk, not on a network's"
        )

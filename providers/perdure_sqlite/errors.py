"""From the driver's errors to ours, by their codes."""

from __future__ import annotations

import sqlite3
from typing import Literal

from perdure.spi import Closed, Corrupt, OutcomeUnknown, ProviderError, ProviderUnavailable, Transient

__all__ = ["Stage", "is_busy", "read_only", "translate"]

Stage = Literal["open", "read", "write", "commit"]
"""What was being done: until COMMIT is sent, nothing of a write can have been applied."""

# Another connection holds a lock; it will let go.
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
# Nothing was written, and a person or time may mend it.
_NOT_NOW = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_ABORT,
        sqlite3.SQLITE_SCHEMA,
    }
)
_UNREACHABLE = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOLFS,
    }
)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_ADVICE = {
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; check that its directory exists, that it is a file, "
    "and that this user may read and write both",
    sqlite3.SQLITE_READONLY: "it is read-only; give this user the right to write the file and its directory",
    sqlite3.SQLITE_PERM: "access was denied; give this user the right to read and write the file and its directory",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; name another file in the URL",
    sqlite3.SQLITE_FULL: "the disk is full; make room, nothing was changed",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a backup",
}


def is_busy(error: sqlite3.Error) -> bool:
    """Say whether `error` means that another connection holds a lock."""
    return _primary(error) in _BUSY


def read_only(path: str) -> ProviderUnavailable:
    """Return the error for a file that may not be written."""
    return ProviderUnavailable(f"SQLite file {path!r}: {_ADVICE[sqlite3.SQLITE_READONLY]}")


def translate(error: sqlite3.Error, stage: Stage, path: str) -> ProviderError:
    """Return our error for the driver's; the caller raises it `from` that one."""
    code = _primary(error)
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    text = f"SQLite file {path!r}: {_ADVICE.get(code or 0, 'the call failed')} ({name})"
    made: ProviderError
    if isinstance(error, sqlite3.ProgrammingError) and code is None:
        # The module's own complaint, without a code: the connection was closed under the call.
        made = Closed(f"SQLite file {path!r}: its connection is closed")
    elif code in _BUSY:
        made = Transient(f"SQLite file {path!r}: another process holds its lock ({name})", retry_after=0.05)
    elif code == sqlite3.SQLITE_CANTOPEN and stage != "open":
        # The store is open, and one more file of it isn't to be had: no descriptors left, for the time being.
        made = Transient(text)
    elif code in _UNREACHABLE or (stage == "open" and code == sqlite3.SQLITE_NOTADB):
        made = ProviderUnavailable(text)
    elif code in _DAMAGED:
        made = ProviderUnavailable(text) if stage == "open" else Corrupt(text)
    elif code in _NOT_NOW:
        made = Transient(text)
    elif stage == "commit":
        # The record of the commit may have reached the log before the call failed.
        made = OutcomeUnknown(text)
    elif code == sqlite3.SQLITE_IOERR or stage in ("read", "open"):
        made = Transient(text)
    else:
        made = OutcomeUnknown(text)
    return made


def _primary(error: sqlite3.Error) -> int | None:
    """Return the primary result code: the low byte of an extended one."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None

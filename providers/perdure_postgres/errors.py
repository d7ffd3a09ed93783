"""From the driver's errors to ours, by their SQLSTATE."""

from __future__ import annotations

from typing import Final, Literal

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from perdure.spi import (
    AuthFailed,
    Closed,
    Corrupt,
    InvalidRequest,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    SchemaMismatch,
    TooLarge,
    Transient,
)

__all__ = ["Stage", "is_conflict", "is_connection_lost", "translate"]

Stage = Literal["open", "read", "write", "commit"]
"""What was being done: until COMMIT is sent, nothing of a write can have been applied."""

# Others were in the way; the same again will do.
_CONFLICTS: Final = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "23505",  # unique_violation: somebody created the same instance a moment earlier
        "26000",  # invalid_sql_statement_name: a pooler gave us another session than the one that has prepared it
        "42P05",  # duplicate_prepared_statement: the same the other way round
        "0A000",  # feature_not_supported: what a cached plan raises whose table was altered
    }
)
# The server ended the session, or is about to, or to come back.
_GONE: Final = frozenset(
    {
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
        "25006",  # read_only_sql_transaction: the server has become a standby
    }
)
# Time or a person may mend it.
_NOT_NOW: Final = frozenset(
    {
        "57014",  # query_canceled: a time limit of the server's
        "55P03",  # lock_not_available
        "55006",  # object_in_use
        "58030",  # io_error
    }
)
_NOT_NOW_CLASSES: Final = frozenset({"08", "53"})  # connection exceptions, insufficient resources
_REFUSED_CLASSES: Final = frozenset({"28"})  # invalid authorization
_DAMAGED_CLASSES: Final = frozenset({"XX"})
_TOO_LARGE: Final = frozenset({"54000"})  # program_limit_exceeded

_ADVICE: Final = {
    "53300": "it has no connections left; lower op_pool_size, raise max_connections, or put a pooler between",
    "53100": "its disk is full; make room, nothing was changed",
    "3D000": "there is no such database; create it, or name another in the URL",
    "57P03": "it is starting up, shutting down or recovering",
    "25006": "it is read-only, as a standby is; name the primary in the URL, or add target_session_attrs=read-write",
    "42501": "this role lacks a right; see the rights in docs/providers/postgres.md",
}


def is_conflict(error: psycopg.Error) -> bool:
    """Say whether the same transaction, run again, may well succeed."""
    return error.sqlstate in _CONFLICTS


def is_connection_lost(error: psycopg.Error) -> bool:
    """Say whether it is the connection that failed, and another one may do."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate in _GONE or error.sqlstate.startswith("08")


def translate(error: psycopg.Error, stage: Stage, store: str) -> ProviderError:
    """Return our error for the driver's; the caller raises it `from` that one.

    Args:
        error: the driver's.
        stage: what was being done.
        store: what to call the store; without a password.
    """
    if isinstance(error, PoolClosed):
        return Closed()
    if isinstance(error, PoolTimeout | TooManyRequests):
        return Transient(f"{store}: no connection came free in time: it can't be reached, or all are busy")
    code = error.sqlstate
    kind = (code or "")[:2]
    text = f"{store}: {_ADVICE.get(code or '', 'the call failed')} ({code or type(error).__name__})"
    made: ProviderError
    if stage == "open" and code is None:
        made = _unreachable(error, store)
    elif kind in _REFUSED_CLASSES:
        made = AuthFailed(f"{store} refused the credentials ({code})")
    elif code == "42501":
        made = AuthFailed(text)
    elif code in ("42P01", "3F000", "42703"):
        made = SchemaMismatch(f"{store}: a table of perdure is not there, or not as it should be ({code})")
    elif stage == "open":
        made = ProviderUnavailable(text)
    elif stage == "commit" and is_connection_lost(error):
        # The commit may have been done; only the answer is missing.
        made = OutcomeUnknown(f"{store}: the connection was lost during a commit ({code or type(error).__name__})")
    elif kind in _DAMAGED_CLASSES and stage == "read":
        made = Corrupt(f"{store}: stored data can't be read ({code})")
    elif code in _TOO_LARGE:
        made = TooLarge(text)
    elif isinstance(error, psycopg.DataError) and code is None:
        # The driver's own complaint about a value: nothing was sent.
        made = InvalidRequest(text)
    else:
        made = Transient(text)
    return made


def _unreachable(error: psycopg.Error, store: str) -> ProviderError:
    """Return the error for a session that never began.

    Of one that the server ended then libpq tells no code, only the text, which is for people: it names no password.
    """
    attempt = error.pgconn
    if attempt is None:
        # What a connection is asked for with can't be read; libpq's text might quote all of it.
        return InvalidRequest(f"{store} has a parameter that libpq doesn't know, or a value that it can't read")
    told = " ".join(attempt.error_message.decode(errors="replace").split()) or "the connection failed"
    if attempt.needs_password or attempt.used_password:
        return AuthFailed(f"{store} refused the session: {told}")
    return ProviderUnavailable(f"{store} can't be reached: {told}")

"""Connections that a caller brings along, to have something done in the caller's own transaction."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Any

from perdure.spi import InvalidRequest

__all__ = ["Caller", "unwrap"]


class Caller:
    """What a caller brought, unwrapped.

    Attributes:
        driver: the connection of the database's driver, as the DB-API has it.
        alchemy: the SQLAlchemy `Connection` around it, which keeps account of its transaction; None: there is none.
    """

    def __init__(self, driver: Any, alchemy: Any = None) -> None:
        self.driver = driver
        self.alchemy = alchemy


def unwrap(connection: Any) -> Caller:
    """Find the driver's connection in what a caller brought.

    It may be wrapped by SQLAlchemy (`Session`, `scoped_session`, `Connection`) or Django (`django.db.connection`). They
    are told by what they have, so that neither need be installed.

    Raises:
        InvalidRequest: it is asynchronous, closed, or no connection at all.
    """
    if any(iscoroutinefunction(getattr(connection, name, None)) for name in ("close", "commit", "execute")):
        raise InvalidRequest(
            f"connection is of the type {_kind(connection)}, which needs to be awaited: use it with an AsyncClient"
        )
    if callable(getattr(connection, "get_bind", None)):
        # A session, which begins its transaction here unless it is in one.
        connection = connection.connection()
    if callable(getattr(connection, "exec_driver_sql", None)):
        if connection.closed:
            raise InvalidRequest("connection is closed; hand over one in whose transaction you are")
        # An asynchronous one, which somebody awaits for us, has another within.
        inner = getattr(connection, "sync_connection", connection)
        return Caller(_usable(inner.connection.dbapi_connection), connection)
    if callable(getattr(connection, "ensure_connection", None)):
        connection.ensure_connection()
        connection = connection.connection
    return Caller(_usable(connection))


def _usable(driver: Any) -> Any:
    if not callable(getattr(driver, "cursor", None)) or not callable(getattr(driver, "rollback", None)):
        raise InvalidRequest(
            f"connection is of the type {_kind(driver)}; hand over a connection of your database's driver, or a "
            "Connection or Session of SQLAlchemy"
        )
    if getattr(driver, "closed", False):
        raise InvalidRequest("connection is closed; hand over one in whose transaction you are")
    return driver


def _kind(connection: object) -> str:
    found = connection.__class__
    return f"{found.__module__}.{found.__qualname__}"

"""Connections to one database: how they are opened, and what their settings promise."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString, TypeAlias

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg.types.string import BytesBinaryDumper, StrBinaryDumper
from psycopg_pool import ConnectionPool

from perdure.spi import InvalidRequest, ProviderUnavailable
from perdure_postgres import arrays
from perdure_postgres.errors import translate
from perdure_postgres.urls import Settings

__all__ = ["Connection", "Parameters", "connect", "connect_pool"]

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]

# So that a server that has vanished is noticed within a minute, where the URL doesn't say otherwise.
_DEFAULTS: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 4,
    "application_name": "perdure",
}

_OLDEST: Final = 150_000
"""The first version that is tested, as the server writes it."""

WAIT_S: Final = 10.0
"""How long a call waits for a connection before it raises `Transient`."""

_PLANS_FOR_S: Final = (1.0, 10.0)
"""The first and the longest time for which a session keeps its plans."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A session in which every statement goes through `run`. Transactions are begun and ended by statements of ours."""

    _plans_until = 0.0
    _plans_for_s: float = _PLANS_FOR_S[0]

    def forget_plans(self) -> None:
        """Have plans made anew now and then, soon at first.

        A plan that was made while a table was all but empty reads all of it, and the server keeps it until it next
        gathers statistics, a minute later as a rule: by then a store that has just been made may hold much.
        """
        now = time.monotonic()
        if self.prepare_threshold is not None and now >= self._plans_until:
            self._plans_until = now + self._plans_for_s
            self._plans_for_s = min(2 * self._plans_for_s, _PLANS_FOR_S[1])
            self.run("DISCARD PLANS")

    def run(
        self, statement: bytes | LiteralString | sql.Composed, parameters: Parameters | None = None
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        """Execute a statement; results come in binary form."""
        cursor = self.cursor(binary=True)
        return cursor.execute(statement, parameters)


factory: type[Connection] = Connection
"""What new connections are: the place where a test gets between a provider and its driver."""


def connect(settings: Settings, store: str) -> Connection:
    """Open one connection.

    Raises:
        ProviderUnavailable: there is no server, or no such database, or it is none that we can use.
        AuthFailed: it refused the credentials.
        InvalidRequest: the URL has a parameter that libpq doesn't know.
    """
    try:
        made = factory.connect(**_arguments(settings))
        _configure(made)
    except psycopg.Error as error:
        raise translate(error, "open", store) from error
    try:
        _check_server(made, store)
    except ProviderUnavailable:
        made.close()
        raise
    return made


def _check_server(connection: Connection, store: str) -> None:
    version = connection.info.server_version
    if version < _OLDEST:
        raise ProviderUnavailable(
            f"{store} is PostgreSQL {version // 10000}; perdure needs {_OLDEST // 10000} or newer: upgrade the server"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ProviderUnavailable(
            f"{store} stores text as {encoding}, which can't hold every id; make a database with ENCODING 'UTF8'"
        )


def connect_pool(settings: Settings) -> ConnectionPool[Connection]:
    """Return a pool that opens connections as they are needed."""
    return ConnectionPool(
        connection_class=factory,
        kwargs=_arguments(settings),
        min_size=1,
        max_size=settings.pool_size,
        timeout=WAIT_S,
        # A server that is being restarted is tried again soon, and for as long as somebody asks.
        reconnect_timeout=WAIT_S,
        configure=_configure,
        name="perdure-postgres",
        open=False,
    )


def _arguments(settings: Settings) -> dict[str, Any]:
    try:
        given = conninfo_to_dict(settings.conninfo)
    except psycopg.Error:
        # What libpq says of it would quote the password.
        raise InvalidRequest("the URL has a parameter that libpq doesn't know, or a value that it can't read") from None
    ours: dict[str, Any] = {
        "autocommit": True,
        # In which arrays are packed, whatever the role or the environment prefers.
        "client_encoding": "UTF8",
        # A pooler in transaction mode gives a transaction any session: what was prepared in one isn't in the next.
        "prepare_threshold": 5 if settings.notify else None,
    }
    return {**_DEFAULTS, **given, **ours}


def _configure(connection: psycopg.Connection[Any]) -> None:
    # Numbers are sent as bigint whatever their size, so that a statement has one plan and not one a size.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    # As text a payload would be twice as long.
    connection.adapters.register_dumper(bytes, BytesBinaryDumper)
    connection.adapters.register_dumper(str, StrBinaryDumper)
    arrays.register(connection)

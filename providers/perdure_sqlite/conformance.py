"""What the conformance suite may do with the SQLite provider."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from perdure.spi import Provider, ProviderURL
from perdure_conformance import Adapter
from perdure_conformance.adapter import Corruption
from perdure_sqlite import connection
from perdure_sqlite.statements import TABLES
from perdure_sqlite.urls import database_path

_INSTANCE = """
SELECT i.key FROM perdure_instances AS i JOIN perdure_hubs AS h ON h.key = i.hub WHERE h.name = ? AND i.id = ?
"""
_ROWS = "SELECT first_seq FROM perdure_history WHERE instance = ? ORDER BY first_seq"
# What is left over of a hub or an instance that is gone belongs to nobody any more, and is counted all the same.
_OF_HUB = "(hub = (SELECT key FROM perdure_hubs WHERE name = :hub) OR hub NOT IN (SELECT key FROM perdure_hubs))"
_OF_INSTANCES = f"""
instance IN (SELECT key FROM perdure_instances WHERE {_OF_HUB}) OR instance NOT IN (SELECT key FROM perdure_instances)
"""  # noqa: S608


class SQLiteAdapter(Adapter):
    """`sqlite:///path`. Its hooks need a file: `sqlite:///:memory:` is a store for whoever opened it alone."""

    def server_version(self, provider: Provider) -> str:
        del provider
        return f"SQLite {sqlite3.sqlite_version}"

    @contextmanager
    def intercept(self, before_call: Callable[[], None]) -> Iterator[None]:
        class Intercepted(sqlite3.Connection):
            """Every statement of a connection goes through one of these."""

            def execute(self, *args: Any) -> sqlite3.Cursor:
                before_call()
                return super().execute(*args)

            def executemany(self, *args: Any) -> sqlite3.Cursor:
                before_call()
                return super().executemany(*args)

        connection.factory, usual = Intercepted, connection.factory
        try:
            yield
        finally:
            connection.factory = usual

    def corrupt(self, hub: str, instance: str, what: Corruption) -> None:
        with closing(self._connect()) as db, db:
            (key,) = db.execute(_INSTANCE, (hub, instance)).fetchone()
            rows = [first_seq for (first_seq,) in db.execute(_ROWS, (key,))]
            place = (key, rows[len(rows) // 2])
            if what == "gap":
                db.execute("DELETE FROM perdure_history WHERE instance = ? AND first_seq = ?", place)
            else:
                db.execute("UPDATE perdure_history SET events = x'00' WHERE instance = ? AND first_seq = ?", place)

    def count_rows(self, hub: str) -> Mapping[str, int]:
        counts = {}
        with closing(self._connect()) as db:
            for table in TABLES.metadata.sorted_tables:
                if "instance" in table.columns:
                    where = _OF_INSTANCES
                elif "hub" in table.columns:
                    where = _OF_HUB
                else:
                    continue
                # Put together from names in our own source alone.
                statement = f"SELECT count(*) FROM {table.name} WHERE {where}"  # noqa: S608
                (counts[table.name],) = db.execute(statement, {"hub": hub}).fetchone()
        return counts

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(database_path(ProviderURL.parse(self.url)), timeout=10)

    @contextmanager
    def transaction(self) -> Iterator[object]:
        with closing(sqlite3.connect(database_path(ProviderURL.parse(self.url)), timeout=60)) as caller, caller:
            yield caller

"""What the conformance suite may do with the Postgres provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from perdure.spi import Provider, ProviderURL
from perdure_conformance import Adapter
from perdure_conformance.adapter import Corruption
from perdure_postgres import connection
from perdure_postgres.connection import Connection, connect
from perdure_postgres.statements import Statements, statements
from perdure_postgres.urls import Settings

# What is left over of a hub or an instance that is gone belongs to nobody any more, and is counted all the same.
_OF_HUB = "(hub = (SELECT key FROM {hubs} WHERE name = %(hub)s) OR hub NOT IN (SELECT key FROM {hubs}))"
_OF_INSTANCES = (
    f"(instance IN (SELECT key FROM {{instances}} WHERE {_OF_HUB}) "  # noqa: S608 - names of our own tables
    "OR instance NOT IN (SELECT key FROM {instances}))"
)


class PostgresAdapter(Adapter):
    """`postgresql://...`."""

    def server_version(self, provider: Provider) -> str:
        del provider
        with closing(self._connect()) as db:
            number = db.info.server_version
        return f"PostgreSQL {number // 10000}.{number % 10000}"

    @contextmanager
    def intercept(self, before_call: Callable[[], None]) -> Iterator[None]:
        class Intercepted(Connection):
            """Every statement of a connection goes through this."""

            def run(self, *arguments: Any) -> psycopg.Cursor[tuple[Any, ...]]:
                before_call()
                return super().run(*arguments)

        connection.factory, usual = Intercepted, connection.factory
        try:
            yield
        finally:
            connection.factory = usual

    def corrupt(self, hub: str, instance: str, what: Corruption) -> None:
        say = self._statements()
        with closing(self._connect()) as db:
            found = db.run(
                say.text("SELECT key FROM {instances} WHERE id = %(id)s AND hub = "
                      "(SELECT key FROM {hubs} WHERE name = %(hub)s)"),
                {"id": instance, "hub": hub},
            ).fetchone()  # fmt: skip
            assert found is not None
            rows = db.run(
                say.text("SELECT first_seq FROM {history} WHERE instance = %(key)s ORDER BY first_seq"),
                {"key": found[0]},
            ).fetchall()
            place = {"key": found[0], "seq": rows[len(rows) // 2][0]}
            if what == "gap":
                change = "DELETE FROM {history} WHERE instance = %(key)s AND first_seq = %(seq)s"
            else:
                change = "UPDATE {history} SET events = '\\x00' WHERE instance = %(key)s AND first_seq = %(seq)s"
            db.run(say.text(change), place)

    def count_rows(self, hub: str) -> Mapping[str, int]:
        say = self._statements()
        counts = {}
        with closing(self._connect()) as db:
            for table in say.tables.metadata.sorted_tables:
                if "instance" in table.columns:
                    where = _OF_INSTANCES
                elif "hub" in table.columns:
                    where = _OF_HUB
                else:
                    continue
                kind = table.name.removeprefix("perdure_")
                counted = db.run(say.text(f"SELECT count(*) FROM {{{kind}}} WHERE {where}"), {"hub": hub})  # noqa: S608
                ((counts[table.name],),) = counted
        return counts

    @contextmanager
    def transaction(self) -> Iterator[object]:
        settings = Settings.parse(ProviderURL.parse(self.url))
        with psycopg.connect(settings.conninfo) as caller:
            yield caller

    def _connect(self) -> Connection:
        return connect(Settings.parse(ProviderURL.parse(self.url)), "Postgres")

    def _statements(self) -> Statements:
        return statements(Settings.parse(ProviderURL.parse(self.url)).schema)

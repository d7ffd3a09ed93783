"""A connection that reads, as the shared operations use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Select

from perdure.spi import Fields, Millis
from perdure_postgres.arrays import Texts
from perdure_postgres.connection import Connection
from perdure_postgres.statements import Statements, compiled
from perdure_sql import Reader

__all__ = ["PostgresReader"]


class PostgresReader(Reader):
    """Reads on one connection.

    Args:
        db: the connection, in a pipeline.
        statements: for its schema.
        clock: the one that was injected; None: the server's.
    """

    def __init__(self, db: Connection, statements: Statements, clock: Callable[[], Millis] | None) -> None:
        self._db = db
        self._say = statements
        self._clock = clock

    def now(self) -> Millis:
        if self._clock is not None:
            return self._clock()
        ((found,),) = self._db.run(self._say.clock)
        return int(found)

    def select(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        return self._db.run(*compiled(statement)).fetchall()

    def infos(self, hub: int, ids: Sequence[str], fields: Fields) -> Iterable[Sequence[Any]]:
        return self._db.run(self._say.infos(fields), {"hub": hub, "ids": Texts(ids)})

    def history_head(self, hub: int, instance: str) -> Sequence[Any] | None:
        return self._db.run(self._say.history_head, {"hub": hub, "id": instance}).fetchone()

    def history_rows(self, key: int, first: int, end: int) -> Iterable[tuple[int, int, bytes]]:
        asked = {"key": key, "first": first, "end": end}
        return self._db.run(self._say.history_rows, asked)

    def status_counts(self, hub: int) -> Iterable[tuple[str, int]]:
        return self._db.run(self._say.status_counts, {"hub": hub})

    def turn_queue(self, hub: int, now: Millis) -> Sequence[Any]:
        (counted,) = self._db.run(self._say.turn_queue, {"hub": hub, "now": now})
        return counted

    def activity_queue(self, hub: int, now: Millis) -> Sequence[Any]:
        (counted,) = self._db.run(self._say.activity_queue, {"hub": hub, "now": now})
        return counted

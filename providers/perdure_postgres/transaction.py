"""One transaction, as the shared operations use it.

It runs in a pipeline: what is written is sent without waiting for an answer, and what is read is waited for when the
first row is looked at. So statements that don't need one another's answers share a round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Select

from perdure.spi import Millis
from perdure_postgres.arrays import Bigints, Texts
from perdure_postgres.connection import Connection
from perdure_postgres.statements import Statements, compiled
from perdure_sql import Found, Transaction
from perdure_sql.effects import Effect

__all__ = ["PostgresTransaction"]

# How many more than were asked for a claim proposes to itself: others may take some of them meanwhile.
_SPARE: Final = 32

# When to look again for what somebody has locked, or what came a moment ago.
_SOON_MS: Final = 10


class PostgresTransaction(Transaction):
    """The statements of one operation.

    Args:
        db: the connection, in a pipeline.
        statements: for its schema.
        clock: the one that was injected; None: the server's.
        keys: hands out keys of instances.
    """

    def __init__(
        self,
        db: Connection,
        statements: Statements,
        clock: Callable[[], Millis] | None,
        keys: Callable[[Connection, int], Sequence[int]],
    ) -> None:
        self._db = db
        self._say = statements
        self._clock = clock
        self._keys = keys

    def now(self) -> Millis:
        if self._clock is not None:
            return self._clock()
        found: Millis = self._value(self._say.clock)
        return found

    def rows(self, hub: int, keys: Collection[int], ids: Collection[str]) -> Iterable[Sequence[Any]]:
        wanted, names = Bigints(keys), Texts(ids)
        found: dict[int, Sequence[Any]] = {}
        while True:
            asked = {"hub": hub, "keys": wanted, "ids": names}
            locked = self._db.run(self._say.rows, asked)
            # While we waited for a lock, an id may have got another instance.
            current = self._db.run(self._say.keys_of, asked) if names else None
            found.update((row[0], row) for row in locked)
            wanted = Bigints(() if current is None else (key for (key,) in current if key not in found))
            if not wanted:
                return found.values()
            names = Texts(ids)

    def headers(self, pairs: Sequence[tuple[int, str]]) -> Iterable[tuple[int, str, Millis, int, int, int]]:
        return self._db.run(self._say.headers, _split(pairs))

    def remembered(self, pairs: Sequence[tuple[int, str]], now: Millis) -> Iterable[tuple[int, str]]:
        return self._db.run(self._say.remembered, {**_split(pairs), "now": now})

    def new_keys(self, count: int) -> Sequence[int]:
        return self._keys(self._db, count)

    def earliest(self, keys: Collection[int]) -> Iterable[tuple[int, Millis | None, Millis | None]]:
        return self._db.run(self._say.earliest, {"keys": Bigints(keys)})

    def activity_ids(self, instance: int) -> Iterable[str]:
        return _first_column(self._db.run(self._say.activity_ids, {"instance": instance}))

    def activity_rows(self, hub: int, keys: Collection[int]) -> Iterable[Sequence[Any]]:
        return self._db.run(self._say.activity_rows, {"hub": hub, "keys": Bigints(keys)})

    def write(self, effect: Effect, values: Collection[tuple[object, ...]]) -> None:
        statement, kinds = self._say.effects[effect]
        self._db.run(statement, [kind(column) for kind, column in zip(kinds, zip(*values, strict=True), strict=True)])

    def turn_names(self, hub: int) -> Collection[str]:
        return list(_first_column(self._db.run(self._say.turn_names, {"hub": hub})))

    def ready_turns(
        self, hub: int, names: Collection[str], now: Millis, most: int, held: Mapping[int, object]
    ) -> Found:
        asked = {"hub": hub, "names": Texts(names), "now": now}
        return self._take(self._say.turn_candidates, self._say.take_turns, asked, most, Bigints(held))

    def next_turn(self, hub: int, names: Collection[str], now: Millis) -> Millis | None:
        return _not_before(now, self._value(self._say.next_turn, {"hub": hub, "names": Texts(names)}))

    def messages(self, keys: Sequence[int], now: Millis) -> Iterable[Sequence[Any]]:
        return self._db.run(self._say.messages, {"keys": Bigints(keys), "now": now})

    def first_messages(self, key: int, now: Millis, most: int, *, control: bool) -> Iterable[Sequence[Any]]:
        statement = self._say.control_messages if control else self._say.first_messages
        return self._db.run(statement, {"key": key, "now": now, "most": most})

    def starts(self, keys: Sequence[int]) -> Iterable[tuple[int, bytes, Millis]]:
        return self._db.run(self._say.starts, {"keys": Bigints(keys)})

    def states(self, keys: Sequence[int]) -> Iterable[tuple[int, bytes | None, bytes | None]]:
        return self._db.run(self._say.states, {"keys": Bigints(keys)})

    def histories(self, keys: Sequence[int]) -> Iterable[tuple[int, int, int, bytes]]:
        return self._db.run(self._say.histories, {"keys": Bigints(keys)})

    def activity_names(self, hub: int, queues: Collection[str]) -> Collection[str]:
        return list(_first_column(self._db.run(self._say.activity_names, {"hub": hub, "queues": Texts(queues)})))

    def ready_activities(
        self, hub: int, queues: Collection[str], names: Collection[str], now: Millis, most: int
    ) -> Found:
        asked = {"hub": hub, "queues": Texts(queues), "names": Texts(names), "now": now}
        return self._take(self._say.activity_candidates, self._say.take_activities, asked, most, Bigints())

    def next_activity(self, hub: int, queues: Collection[str], names: Collection[str], now: Millis) -> Millis | None:
        asked = {"hub": hub, "queues": Texts(queues), "names": Texts(names)}
        return _not_before(now, self._value(self._say.next_activity, asked))

    def select(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        self._db.run(self._say.plan_anew)
        return self._db.run(*compiled(statement)).fetchall()

    def family(self, hub: int, instance: str) -> Iterable[str]:
        return _first_column(self._db.run(self._say.family, {"hub": hub, "id": instance}))

    def forgettable(self, hub: int, now: Millis, most: int) -> Sequence[tuple[int, str]]:
        asked = {"hub": hub, "now": now, "most": most}
        return self._db.run(self._say.forgettable, asked).fetchall()

    def _take(self, candidates: bytes, take: bytes, asked: dict[str, Any], most: int, without: Bigints) -> Found:
        """Lock the first items that nobody else has locked.

        Who takes them all looks further: as many claims as there are items get one each.
        """
        rows: list[Sequence[Any]] = []
        window = most + _SPARE
        while True:
            proposed = Bigints(
                _first_column(self._db.run(candidates, {**asked, "top": window + len(without), "without": without}))
            )
            if not proposed or len(rows) == most:
                return Found(rows=rows, more=bool(proposed))
            taken = self._db.run(take, {**asked, "keys": proposed, "most": most - len(rows)}).fetchall()
            rows += taken
            if len(rows) == most:
                return Found(rows=rows, more=len(proposed) > len(taken))
            if len(proposed) < window:
                return Found(rows=rows, more=False)
            without = Bigints((*without, *(row[0] for row in taken)))
            window *= 4

    def _value(self, statement: bytes, asked: Mapping[str, Any] | None = None) -> Any:
        found = self._db.run(statement, asked).fetchone()
        assert found is not None, "a statement that always has a row has none"
        return found[0]


def _split(pairs: Sequence[tuple[int, str]]) -> dict[str, Any]:
    return {"keys": Bigints(key for key, _ in pairs), "ids": Texts(id_ for _, id_ in pairs)}


def _first_column(rows: Iterable[Sequence[Any]]) -> Iterator[Any]:
    return (row[0] for row in rows)


def _not_before(now: Millis, moment: Millis | None) -> Millis | None:
    """Return when to ask again for what will be available at `moment`."""
    return now + _SOON_MS if moment is not None and moment <= now else moment

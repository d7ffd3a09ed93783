"""What callers put down in transactions of their own, and how it is taken in.

In the caller's transaction only rows of a table of their own are inserted, in which nobody waits for anybody. Whoever
calls a hub next after the commit takes them in first, in a transaction of its own: it does what they ask for, and
deletes them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus

from perdure.spi import (
    InstanceInfo,
    InvalidRequest,
    Message,
    NewInstance,
    OrchestrationStatus,
    Outcome,
    ProviderError,
    Transient,
)
from perdure_postgres.bell import ANYTHING
from perdure_postgres.errors import translate
from perdure_postgres.statements import Foreign, Statements
from perdure_sql import Work
from perdure_sql.callers import Caller, unwrap
from perdure_sql.instances import create_instances
from perdure_sql.messages import send_messages
from perdure_sql.reach import Reach

__all__ = [
    "MOST_BYTES",
    "MOST_ITEMS",
    "Desk",
    "Item",
    "is_full",
    "pack",
    "reach_of",
    "read_items",
    "take_in",
    "tell_dropped",
    "unpack",
]

_LOG = logging.getLogger("perdure.postgres")

MOST_ITEMS: Final = 200
"""How many are taken in at once."""

MOST_BYTES: Final = 16 * 1024 * 1024
"""And how large their payloads are together, unless it is but one."""

Item: TypeAlias = NewInstance | Message

_DROPPED: Final = {
    Outcome.EXISTS: "there is an instance of that id",
    Outcome.NOT_FOUND: "there is no such instance",
    Outcome.TERMINAL: "it has ended",
}

_REFUSED: Final = {
    "25006": "its transaction is read-only",
    "25P02": "its transaction has failed already, and can only be rolled back",
    "3F000": "it is to another database than the provider's: the schema isn't there",
    "42P01": "it is to another database than the provider's: the tables aren't there",
}


class Desk:
    """Where things are put down in a caller's transaction.

    Args:
        connection: what the caller brought.
        statements: for the schema of the tables.
        key: the hub's key.
        hub: its name.
        channel: where it is told that something waits; None: nowhere.

    Raises:
        InvalidRequest: the connection can't be used, or what is done with it would be committed at once.
    """

    def __init__(self, connection: object, statements: Statements, *, key: int, hub: str, channel: str | None) -> None:
        self._caller = unwrap(connection)
        self._say = statements
        self._key = key
        self._hub = hub
        self._channel = channel
        driver = self._caller.driver
        status = getattr(getattr(driver, "info", None), "transaction_status", TransactionStatus.IDLE)
        if getattr(driver, "autocommit", False) and status == TransactionStatus.IDLE:
            raise InvalidRequest(
                "connection is in autocommit mode and in no transaction; begin one, or what is put down would not be "
                "yours to undo"
            )

    def start(self, new: NewInstance, known: InstanceInfo | None) -> Outcome:
        """Put down a start, unless the instance that is known of this id is in its way."""
        if known is None:
            outcome = Outcome.OK
        elif known.generation == new.generation:
            return Outcome.ALREADY
        elif known.status in new.replace_if:
            outcome = Outcome.REPLACED
        else:
            return Outcome.EXISTS
        self._put(new)
        return outcome

    def send(self, message: Message, known: InstanceInfo | None) -> Outcome:
        """Put down a message, unless the instance that is known of this id can't take it."""
        refused = None
        if known is not None and message.generation not in (None, known.generation):
            refused = Outcome.NOT_FOUND
        elif known is not None and known.status.is_terminal and known.status not in message.reopen:
            refused = Outcome.TERMINAL
        # Another may be about to take its place, in this very transaction.
        if refused is not None and self._execute(self._say.put_down_start, (self._key, message.instance)) is None:
            return refused
        self._put(message)
        return Outcome.OK

    def _put(self, item: Item) -> None:
        values = (*pack(item), self._key, self._hub)
        if self._channel is None:
            put = self._execute(self._say.put_down, values)
        else:
            put = self._execute(self._say.put_down_and_tell, (*values, self._channel, ANYTHING))
        if put is None:
            raise InvalidRequest(
                "connection is to another database than the provider's, or its transaction began before the hub "
                f"{self._hub!r} was created and doesn't see it"
            )

    def _execute(self, statement: Foreign, values: Sequence[object]) -> Any:
        """Return the first row of a statement in the caller's transaction, None if there is none."""
        caller = self._caller
        try:
            if caller.alchemy is not None:
                from sqlalchemy import text  # noqa: PLC0415 - a caller that has such a connection has imported it

                named = {f"value{place}": value for place, value in enumerate(values)}
                return caller.alchemy.execute(text(statement.names), named).fetchone()
            cursor = caller.driver.cursor()
            try:
                cursor.execute(statement.places, tuple(values))
                return cursor.fetchone()
            finally:
                cursor.close()
        except Exception as error:
            raise _translated(error, caller) from error


def _translated(error: Exception, caller: Caller) -> ProviderError:
    # SQLAlchemy's errors hold the driver's.
    told = getattr(error, "orig", None) or error
    code = getattr(told, "sqlstate", None) or getattr(told, "pgcode", None)
    if code in _REFUSED:
        return InvalidRequest(f"connection can't be used: {_REFUSED[code]} ({code})")
    if code is not None:
        known = told if isinstance(told, psycopg.Error) else psycopg.errors.lookup(code)()
        return translate(known, "write", "the caller's connection")
    if hasattr(told, "sqlstate") or hasattr(told, "pgcode"):
        return Transient(f"the caller's connection failed: {type(told).__name__}")
    module = type(caller.driver).__module__
    return InvalidRequest(
        f"connection is one of {module}, which can't be used as one to Postgres: {type(told).__name__}"
    )


def pack(item: Item) -> tuple[str, str, str, bytes, bytes | None]:
    """Return kind, target, body, payload, input of an item."""
    if isinstance(item, NewInstance):
        start = {
            "id": item.id,
            "name": item.name,
            "generation": item.generation,
            "version": item.version,
            "due": item.due,
            "parent": item.parent,
            "tags": dict(item.tags),
            "replace_if": sorted(item.replace_if),
        }
        return "start", item.id, json.dumps(start), item.start, item.input
    message = {
        "id": item.id,
        "instance": item.instance,
        "generation": item.generation,
        "due": item.due,
        "control": item.control,
        "reopen": sorted(item.reopen),
    }
    return "message", item.instance, json.dumps(message), item.payload, None


def unpack(kind: str, body: str, payload: bytes, input_: bytes | None) -> Item:
    """Return the item of a row.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        told = json.loads(body)
        if kind == "start":
            statuses = frozenset(OrchestrationStatus(status) for status in told.pop("replace_if"))
            return NewInstance(**told, start=payload, input=input_, replace_if=statuses)
        if kind == "message":
            statuses = frozenset(OrchestrationStatus(status) for status in told.pop("reopen"))
            return Message(**told, payload=payload, reopen=statuses)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(body) from error
    raise ValueError(kind)


def read_items(hub: str, rows: Iterable[Sequence[Any]]) -> list[Item]:
    """Return the items of rows of `intake_front`; what is none of ours is logged, and left out."""
    items = []
    for seq, kind, target, body, payload, input_ in rows:
        try:
            items.append(unpack(kind, body, payload, input_))
        except ValueError:
            _LOG.error("hub %r: row %d of the intake, for %r, can't be read and was dropped", hub, seq, target)
    return items


def is_full(rows: Sequence[Sequence[Any]]) -> bool:
    """Tell whether there may be more rows than these."""
    sizes = (len(payload) + len(input_ or b"") for *_, payload, input_ in rows)
    return len(rows) >= MOST_ITEMS or sum(sizes) >= MOST_BYTES


def reach_of(items: Iterable[Item]) -> Reach:
    """Return what taking items in reaches."""
    starts = [item for item in items if isinstance(item, NewInstance)]
    return Reach.of_enlisted(starts, [item for item in items if isinstance(item, Message)])


def take_in(work: Work, items: Sequence[Item]) -> list[tuple[Item, Outcome]]:
    """Do what was put down, in its order, and return what became of it."""
    outcomes: list[Outcome] = []
    for kind, group in groupby(items, type):
        together: Any = list(group)
        if kind is NewInstance:
            outcomes += create_instances(work, together)
        else:
            # Committed is committed: a full inbox can't refuse it any more.
            outcomes += send_messages(work, together, bounded=False)
    return list(zip(items, outcomes, strict=True))


def tell_dropped(hub: str, outcomes: Iterable[tuple[Item, Outcome]]) -> None:
    """Log what came to nothing, and why."""
    for item, outcome in outcomes:
        if outcome in _DROPPED:
            what = f"the start of {item.id!r}" if isinstance(item, NewInstance) else f"a message to {item.instance!r}"
            _LOG.warning("hub %r: %s, from a caller's transaction, was dropped: %s", hub, what, _DROPPED[outcome])

"""Mistakes that the cases of transactions find out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from perdure.spi import Fields, InstanceInfo, Message, NewInstance, OnWake, Outcome, Subscription
from perdure_conformance.cases import transactions as cases
from perdure_conformance.mutant import mutant
from perdure_sql import Work
from perdure_sql.callers import unwrap
from perdure_sql.instances import create_instances
from perdure_sql.messages import send_messages
from perdure_sql.reach import Reach
from perdure_sqlite import hub
from perdure_sqlite.callers import borrowed
from perdure_sqlite.hub import SQLiteHub
from perdure_sqlite.transaction import SQLiteTransaction


@mutant("654", "TXN-01", "TXN-02", source="a commit too many", base="sqlite")
def enlisting_commits(patch: pytest.MonkeyPatch) -> None:
    """What is put down is committed at once, with all that the caller has done."""

    @contextmanager
    def committed(connection: Any, path: str) -> Iterator[sqlite3.Connection]:
        with borrowed(connection, path) as db:
            yield db
        connection.commit()

    patch.setattr(hub, "borrowed", committed)


@mutant("655", "TXN-01", "TXN-02", source="the parameter handed to nobody", base="sqlite")
def the_connection_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """What is put down is done at once, in a transaction of the provider's own."""

    def at_once(
        self: SQLiteHub, connection: object, *, starts: Sequence[NewInstance] = (), messages: Sequence[Message] = ()
    ) -> list[Outcome]:
        return [*self.create_instances(starts), *self.send_messages(messages)]

    patch.setattr(SQLiteHub, "enlist", at_once)


@mutant("656", "TXN-01", "TXN-03", source="the order of two loops", base="sqlite")
def messages_are_sent_before_starts(patch: pytest.MonkeyPatch) -> None:
    """Messages are put down before the instances that they are for."""
    enlist = SQLiteHub.enlist

    def backwards(
        self: SQLiteHub, connection: object, *, starts: Sequence[NewInstance] = (), messages: Sequence[Message] = ()
    ) -> list[Outcome]:
        sent = enlist(self, connection, messages=messages[::-1])[::-1]
        return [*enlist(self, connection, starts=starts), *sent]

    patch.setattr(SQLiteHub, "enlist", backwards)


@mutant("657", "TXN-02", source="a savepoint released where it was to be rolled back to", base="sqlite")
def what_replaces_does_so_for_good(patch: pytest.MonkeyPatch) -> None:
    """The instance whose place a start takes is deleted in a transaction of the provider's own."""
    enlist = SQLiteHub.enlist

    def in_two(
        self: SQLiteHub, connection: Any, *, starts: Sequence[NewInstance] = (), messages: Sequence[Message] = ()
    ) -> list[Outcome]:
        outcomes = enlist(self, connection, starts=starts, messages=messages)
        if Outcome.REPLACED in outcomes and messages:
            connection.commit()
        return outcomes

    patch.setattr(SQLiteHub, "enlist", in_two)


@mutant("658", "TXN-04", source="outcomes that nobody knows yet", base="sqlite")
def all_is_well(patch: pytest.MonkeyPatch) -> None:
    """The answer is OK whatever stands in the way."""
    enlist = SQLiteHub.enlist
    patch.setattr(SQLiteHub, "enlist", lambda *args, **fields: [Outcome.OK for _ in enlist(*args, **fields)])


@mutant("659", "TXN-05", source="checks at the front door only", base="sqlite")
def messages_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    """Of what is put down only starts are checked."""
    check = SQLiteHub._check_enlisted
    patch.setattr(SQLiteHub, "_check_enlisted", lambda self, starts, _: check(self, starts, ()))


@mutant("660", "TXN-05", source="one item after the other", base="sqlite")
def the_first_items_stay(patch: pytest.MonkeyPatch) -> None:
    """Items are checked and put down one by one: those before a malformed one stay."""
    enlist = SQLiteHub.enlist

    def one_by_one(
        self: SQLiteHub, connection: object, *, starts: Sequence[NewInstance] = (), messages: Sequence[Message] = ()
    ) -> list[Outcome]:
        first = [enlist(self, connection, starts=[item])[0] for item in starts]
        return [*first, *(enlist(self, connection, messages=[item])[0] for item in messages)]

    patch.setattr(SQLiteHub, "enlist", one_by_one)


@mutant("661", "TXN-05", source="a rollback for every error", base="sqlite")
def a_malformed_item_ends_the_transaction(patch: pytest.MonkeyPatch) -> None:
    """Where an item is malformed the caller's transaction is rolled back."""
    enlist = SQLiteHub.enlist

    def strict(self: SQLiteHub, connection: Any, **fields: Any) -> list[Outcome]:
        try:
            return enlist(self, connection, **fields)
        except Exception:
            unwrap(connection).driver.rollback()
            raise

    patch.setattr(SQLiteHub, "enlist", strict)


@mutant("662", "TXN-06", source="a default for a parameter", base="sqlite")
def another_connection_does_as_well(patch: pytest.MonkeyPatch) -> None:
    """What is no connection counts as none: the provider takes one of its own."""
    enlist = SQLiteHub.enlist

    def lenient(
        self: SQLiteHub, connection: object, *, starts: Sequence[NewInstance] = (), messages: Sequence[Message] = ()
    ) -> list[Outcome]:
        if isinstance(connection, sqlite3.Connection):
            return enlist(self, connection, starts=starts, messages=messages)
        return [*self.create_instances(starts), *self.send_messages(messages)]

    patch.setattr(SQLiteHub, "enlist", lenient)


@mutant("663", "TXN-06", source="an error of the language's own", base="sqlite")
def nonsense_is_an_attribute_error(patch: pytest.MonkeyPatch) -> None:
    """What is no connection is found out by what it lacks, in an AttributeError."""

    @contextmanager
    def trusting(connection: Any, path: str) -> Iterator[sqlite3.Connection]:
        connection.cursor().close()
        with borrowed(connection, path) as db:
            yield db

    patch.setattr(hub, "borrowed", trusting)


@mutant("664", "TXN-07", source="a cache that only its own writes drop", base="sqlite")
def reads_are_remembered(patch: pytest.MonkeyPatch) -> None:
    """An instance that was not there is not there until this handle writes something."""
    get, write = SQLiteHub.get_instances, SQLiteHub._write
    absent: set[str] = set()

    def remember(self: SQLiteHub, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        found = [None if id_ in absent else info for id_, info in zip(ids, get(self, ids, fields=fields), strict=True)]
        absent.update(id_ for id_, info in zip(ids, found, strict=True) if info is None)
        return found

    def forget(self: SQLiteHub, *args: Any) -> Any:
        absent.clear()
        return write(self, *args)

    patch.setattr(SQLiteHub, "get_instances", remember)
    patch.setattr(SQLiteHub, "_write", forget)


@mutant("665", "TXN-08", source="the hub of the URL", base="sqlite")
def all_goes_to_the_first_hub(patch: pytest.MonkeyPatch) -> None:
    """What is put down is for the hub that was first put down for, whichever it is."""
    key, keys = SQLiteHub._key, list[int]()

    def enlist(
        self: SQLiteHub, connection: object, *, starts: Sequence[NewInstance] = (), messages: Sequence[Message] = ()
    ) -> list[Outcome]:
        with borrowed(connection, self._provider.store().path) as db:
            keys.append(key(self, db))
            work = Work(SQLiteTransaction(db, self._now), keys[0], self._limits, Reach())
            return [*create_instances(work, starts), *send_messages(work, messages)]

    patch.setattr(SQLiteHub, "enlist", enlist)


@mutant("666", "TXN-09", source="a copied insert", base="sqlite")
def consumed_ids_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The ids of messages that were put down are not remembered once they are consumed."""

    def send(work: Work, messages: Sequence[Message]) -> list[Outcome]:
        add = work.add_message

        def as_from_a_commit(*args: Any, **fields: Any) -> None:
            add(*args, **(fields | {"client": False}))

        patch.setattr(work, "add_message", as_from_a_commit)
        return send_messages(work, messages)

    patch.setattr(hub, "send_messages", send)


@mutant("667", "TXN-10", source="a connection kept from call to call", base="sqlite")
def the_first_connection_is_kept(patch: pytest.MonkeyPatch) -> None:
    """Whatever connection is handed over, the one of the first call is used."""
    first: list[object] = []

    @contextmanager
    def kept(connection: object, path: str) -> Iterator[sqlite3.Connection]:
        first.append(connection)
        with borrowed(first[0], path) as db:
            yield db

    patch.setattr(hub, "borrowed", kept)


@mutant("668", "TXN-11", source="hints from one's own writes alone", base="sqlite")
def callers_commits_are_not_hinted(patch: pytest.MonkeyPatch) -> None:
    """Who subscribed is told of what the provider does itself, and of nothing else."""
    patch.setattr(cases, "PATIENCE_SECONDS", 1.0)
    subscribe = SQLiteHub.subscribe

    def own(self: SQLiteHub, on_wake: OnWake) -> Subscription:
        store = self._provider.store()
        store.watch._others = None
        return subscribe(self, on_wake)

    patch.setattr(SQLiteHub, "subscribe", own)


@mutant("669", "TXN-12", source="a table that came later", base="sqlite")
def the_inbox_outlives_its_hub(patch: pytest.MonkeyPatch) -> None:
    """A hub is deleted with all its tables but one."""
    from perdure_sqlite import transaction  # noqa: PLC0415

    left = tuple(statement for statement in transaction.WIPE_HUB if "perdure_inbox" not in statement)
    patch.setattr(transaction, "WIPE_HUB", left)

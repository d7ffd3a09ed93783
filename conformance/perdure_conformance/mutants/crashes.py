"""Mistakes that the cases of crashes find out."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

import pytest

from perdure.spi import ClaimTurns, TurnBatch
from perdure_conformance.mutant import mutant
from perdure_memory.hub import MemoryHub
from perdure_sqlite import SQLiteProvider, connection, store


@mutant("418", "CRA-13", source="a lock that belongs to a worker's name")
def a_dead_workers_instances_are_its_own(patch: pytest.MonkeyPatch) -> None:
    """An expired lease may only be taken over by a worker of the same name."""
    claim = MemoryHub.claim_turns
    workers: dict[str, str] = {}

    def claim_own(self: MemoryHub, request: ClaimTurns) -> TurnBatch:
        with self._transaction() as state:
            now = self._clock.now()
            others = []
            for instance in state.instances.values():
                lease = instance.ownership
                if lease.token is not None and lease.expires_at <= now and workers.get(lease.token) != request.worker:
                    others.append((instance, lease.expires_at))
                    lease.expires_at = now + 1
                    state.reschedule(instance)
            batch = claim(self, request)
            workers.update((item.lease.token, request.worker) for item in batch.items)
            for instance, expired_at in others:
                instance.ownership.expires_at = expired_at
                state.reschedule(instance)
            return batch

    patch.setattr(MemoryHub, "claim_turns", claim_own)


@mutant("419", "CRA-17", source="a clean end that tidies up", base="sqlite")
def closing_gives_leases_back(patch: pytest.MonkeyPatch) -> None:
    """When a provider is closed all leases end, those of other workers among them."""
    close = SQLiteProvider.close

    def tidy_up(self: SQLiteProvider) -> None:
        def free(db: sqlite3.Connection) -> None:
            for table in ("perdure_instances", "perdure_activities"):
                # Put together from names in this source alone.
                db.execute(f"UPDATE {table} SET token = NULL, lease_until = 0 WHERE token IS NOT NULL")

        if self._store is not None:
            self._store.write(free)
        close(self)

    patch.setattr(SQLiteProvider, "close", tidy_up)


# What a process knew, and never wrote down: it is gone with the reopening.


def _forget(patch: pytest.MonkeyPatch, *statements: str) -> None:
    """Have these be executed when a file is opened."""
    connect = connection.connect_writer

    def connected(path: str) -> sqlite3.Connection:
        db = connect(path)
        for statement in statements:
            # A new file has no tables yet.
            with suppress(sqlite3.OperationalError):
                db.execute(statement)
        return db

    patch.setattr(store, "connect_writer", connected)


@mutant("649a", "CRA-17", source="a counter in the process", base="sqlite")
def fences_begin_anew(patch: pytest.MonkeyPatch) -> None:
    """After a reopening the fences of instances begin at 1 again."""
    _forget(patch, "UPDATE perdure_instances SET fence = 0")


@mutant("649b", "CRA-17", source="a counter in the process", base="sqlite")
def fences_of_activities_begin_anew(patch: pytest.MonkeyPatch) -> None:
    """After a reopening the fences of activities begin at 1 again."""
    _forget(patch, "UPDATE perdure_activities SET fence = 0")


@mutant("650", "CRA-17", source="a latest time kept in the process", base="sqlite")
def order_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """After a reopening a message that is sent while the clock is back goes before those from before."""
    _forget(patch, "UPDATE perdure_instances SET order_due = 0")


@mutant("651", "CRA-17", source="an index in the process", base="sqlite")
def tags_are_shown_but_not_found(patch: pytest.MonkeyPatch) -> None:
    """After a reopening no instance is found by its tags."""
    _forget(patch, "DELETE FROM perdure_tags")


@mutant("652", "CRA-17", source="a time that is derived", base="sqlite")
def messages_came_when_they_are_due(patch: pytest.MonkeyPatch) -> None:
    """After a reopening a timer was sent when it is due."""
    _forget(patch, "UPDATE perdure_inbox SET enqueued_at = due")

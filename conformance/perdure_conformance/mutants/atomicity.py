"""Mistakes that the cases of atomicity find out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import pytest

from perdure.spi import (
    ActivityDone,
    ClaimTurns,
    Fields,
    InstanceInfo,
    Lease,
    LeaseKind,
    Limits,
    Message,
    Millis,
    NewInstance,
    Outcome,
    Transient,
    TurnCommit,
    TurnItem,
    checks,
)
from perdure_conformance.mutant import mutant
from perdure_conformance.threads import is_racing
from perdure_memory import activities, instances, leases, messages, turns
from perdure_memory import hub as memory_hub
from perdure_memory.hub import MemoryHub
from perdure_memory.inbox import Inbox
from perdure_memory.messages import deliver
from perdure_memory.ownership import Ownership
from perdure_memory.state import HubState, Instance
from perdure_sql import commits, effects
from perdure_sql.rows import InstanceRow, key_of
from perdure_sql.work import Work
from perdure_sqlite.hub import SQLiteHub
from perdure_sqlite.provider import SQLiteProvider
from perdure_sqlite.transaction import SQLiteTransaction

_WAIT_SECONDS: Final = 0.5

CommitTurn = Callable[[HubState, TurnCommit, Millis, Limits], Outcome]
CommitTurns = Callable[[HubState, Sequence[TurnCommit], Millis, Limits], list[Outcome]]


def change_commit(patch: pytest.MonkeyPatch, change: Callable[[CommitTurn], CommitTurn]) -> None:
    """Put another function in the place of the one that commits a turn."""
    patch.setattr(turns, "_commit_turn", change(turns._commit_turn))


def change_commits(patch: pytest.MonkeyPatch, change: Callable[[CommitTurns], CommitTurns]) -> None:
    """Put another function in the place of the one that commits a batch, of its own or in an exchange."""
    patch.setattr(memory_hub, "commit_turns", change(turns.commit_turns))


def is_current(state: HubState, commit: TurnCommit) -> bool:
    instance = state.instances.get(commit.lease.key)
    return instance is not None and instance.ownership.grants(commit.lease)


class _Readers:
    """Lets a writer wait until others have read what it has written so far."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._reads = 0
        self._writer = threading.local()

    def note(self) -> None:
        with self._condition:
            self._reads += 1
            self._condition.notify_all()

    def wait(self) -> None:
        """Wait until each of three readers has begun and ended a read, but not for ever.

        Who writes but once or twice, or has waited in vain, does not wait.
        """
        if not is_racing():
            return
        writes = getattr(self._writer, "writes", 0)
        self._writer.writes = writes + 1
        if writes < 2 or getattr(self._writer, "in_vain", False):
            return
        with self._condition:
            enough = self._reads + 6
            self._writer.in_vain = not self._condition.wait_for(lambda: self._reads >= enough, _WAIT_SECONDS)


def _marked(call: Callable[..., Any], reading: threading.local) -> Callable[..., Any]:
    """Note while a call runs that this thread reads."""

    def marked(*args: Any, **kwargs: Any) -> Any:
        reading.now = True
        try:
            return call(*args, **kwargs)
        finally:
            reading.now = False

    return marked


@mutant("2", "ATM-04", "BAT-03", source="Dapr Cosmos #1244")
def a_batch_skips_the_fence(patch: pytest.MonkeyPatch) -> None:
    """A commit in a batch of several is applied whatever its token."""

    def change(commit_turns: CommitTurns) -> CommitTurns:
        def unfenced(state: HubState, commits: Sequence[TurnCommit], now: Millis, limits: Limits) -> list[Outcome]:
            if len(commits) == 1:
                return commit_turns(state, commits, now, limits)
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(Ownership, "grants", lambda self, lease: lease.kind is self.kind)
                return commit_turns(state, commits, now, limits)

        return unfenced

    change_commits(patch, change)


@mutant("3", "ATM-04", "BAT-03", source="one transaction, rolled back at the first item that is stale")
def a_batch_is_all_or_nothing(patch: pytest.MonkeyPatch) -> None:
    """One LOST commit of a batch takes all others back, which are LOST as well."""

    def change(commit_turns: CommitTurns) -> CommitTurns:
        def together(state: HubState, commits: Sequence[TurnCommit], now: Millis, limits: Limits) -> list[Outcome]:
            if all(is_current(state, commit) for commit in commits):
                return commit_turns(state, commits, now, limits)
            stale = [commit for commit in commits if not is_current(state, commit)]
            outcomes = set(commit_turns(state, stale, now, limits))
            return (
                [Outcome.LOST] * len(commits) if Outcome.LOST in outcomes else commit_turns(state, commits, now, limits)
            )

        return together

    change_commits(patch, change)


@mutant("4", "ATM-01", source="autocommit")
def activities_are_inserted_before_the_check(patch: pytest.MonkeyPatch) -> None:
    """A commit's activities are inserted before it is found to be a CONFLICT."""

    def change(commit_turn: CommitTurn) -> CommitTurn:
        def insert_first(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
            if is_current(state, commit):
                for new in commit.activities:
                    state.add_activity(state.instances[commit.lease.key], new, now)
            return commit_turn(state, commit, now, limits)

        return insert_first

    change_commit(patch, change)


@mutant("5", "ATM-01", source="history is written by another statement than the instance")
def a_conflict_appends_its_events(patch: pytest.MonkeyPatch) -> None:
    """A commit that is CONFLICT has its events in the history all the same."""

    def change(commit_turn: CommitTurn) -> CommitTurn:
        def append(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
            outcome = commit_turn(state, commit, now, limits)
            if outcome is Outcome.CONFLICT:
                state.instances[commit.lease.key].history.extend(commit.events)
            return outcome

        return append

    change_commit(patch, change)


@mutant("6", "ATM-01", "ATM-04", source="an unlock in a finally block")
def a_conflict_releases_the_lease(patch: pytest.MonkeyPatch) -> None:
    """A commit that is CONFLICT ends its lease."""

    def change(commit_turn: CommitTurn) -> CommitTurn:
        def release(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
            outcome = commit_turn(state, commit, now, limits)
            if outcome is Outcome.CONFLICT:
                instance = state.instances[commit.lease.key]
                instance.ownership.release(hidden_until=0, penalize=True)
                state.reschedule(instance)
            return outcome

        return release

    change_commit(patch, change)


@mutant("7", "ATM-01", "NMS-06", source="the last writer wins")
def expected_next_seq_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """A commit is applied whatever it expects the length of the history to be."""

    def change(commit_turn: CommitTurn) -> CommitTurn:
        def trust(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
            instance = state.instances.get(commit.lease.key)
            if instance is not None:
                commit = replace(commit, expected_next_seq=len(instance.history))
            return commit_turn(state, commit, now, limits)

        return trust

    change_commit(patch, change)


@mutant("26", "ATM-15", "ATM-18", "BAT-09", source="typical: only the token is asked for")
def commit_ids_are_not_remembered(patch: pytest.MonkeyPatch) -> None:
    """A commit whose answer was lost, sent again, is judged by its token like any other."""
    set_state = turns._set_state

    def forget(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        set_state(state, instance, commit, now)
        instance.last_commit_id = None

    patch.setattr(turns, "_set_state", forget)


@mutant("27", "ATM-15", "BAT-09", source="a naive retry decorator")
def a_repeated_commit_sends_again(patch: pytest.MonkeyPatch) -> None:
    """A repeated commit is ALREADY, but its activities and messages are sent once more."""

    def change(commit_turn: CommitTurn) -> CommitTurn:
        def again(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
            outcome = commit_turn(state, commit, now, limits)
            instance = state.instances.get(commit.lease.key)
            if outcome is Outcome.ALREADY and instance is not None and not instance.status.is_terminal:
                turns._change_activities(state, instance, commit, now)
                turns._send(state, instance, commit, now)
            return outcome

        return again

    change_commit(patch, change)


@mutant("80", "ATM-10", source="autocommit after DDL", base="sqlite")
def a_commit_is_two_transactions(patch: pytest.MonkeyPatch) -> None:
    """The history and the payloads of a turn are committed before the row of its instance."""
    readers = _Readers()
    insert = Work._flush_insertions
    read = SQLiteHub.get_instances

    def insert_and_commit(self: Work) -> None:
        insert(self)
        assert isinstance(self.db, SQLiteTransaction)
        db = self.db._db
        # Others may have gathered in this transaction, each in a savepoint; they are none of this mistake.
        if is_racing() and db.in_transaction:
            db.execute("COMMIT")
            readers.wait()
            db.execute("BEGIN IMMEDIATE")

    def noted(self: SQLiteHub, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        found = read(self, ids, fields=fields)
        readers.note()
        return found

    patch.setattr(Work, "_flush_insertions", insert_and_commit)
    patch.setattr(SQLiteHub, "get_instances", noted)


@mutant("150", "ATM-02", "ATM-04", "BAT-03", source="messages go out before the fence is looked at")
def messages_are_sent_before_the_fence(patch: pytest.MonkeyPatch) -> None:
    """A commit's messages are delivered before it is found to be LOST."""

    def change(commit_turn: CommitTurn) -> CommitTurn:
        def send_first(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
            instance = state.instances.get(commit.lease.key)
            if instance is not None and instance.last_commit_id != commit.commit_id:
                for message in commit.messages:
                    deliver(state, message, now)
            return commit_turn(state, commit, now, limits)

        return send_first

    change_commit(patch, change)


@mutant("151", "ATM-03", source="an early return for continue-as-new")
def continuing_forgets_the_custom_status(patch: pytest.MonkeyPatch) -> None:
    """A commit that continues as new sets everything but the custom status."""
    set_state = turns._set_state

    def forget(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        before = instance.custom_status
        set_state(state, instance, commit, now)
        if commit.continued is not None:
            instance.custom_status = before

    patch.setattr(turns, "_set_state", forget)


@mutant("152", "ATM-05", source="leases are read once a batch")
def a_batch_judges_by_what_was_before_it(patch: pytest.MonkeyPatch) -> None:
    """The commits of a batch are judged by the leases as they were before it."""

    def change(commit_turns: CommitTurns) -> CommitTurns:
        def judge_first(state: HubState, commits: Sequence[TurnCommit], now: Millis, limits: Limits) -> list[Outcome]:
            good = {id(commit) for commit in commits if is_current(state, commit)}
            outcomes = []
            for commit in commits:
                with pytest.MonkeyPatch.context() as inner:
                    if id(commit) in good:
                        inner.setattr(Ownership, "grants", lambda self, lease: lease.kind is self.kind)
                    outcomes += commit_turns(state, [commit], now, limits)
            return outcomes

        return judge_first

    change_commits(patch, change)


@mutant("153", "ATM-06", "BAT-02", source="inboxes are read at the start of a batch and written at its end")
def messages_within_a_batch_are_lost(patch: pytest.MonkeyPatch) -> None:
    """A message to an instance that is committed later in the same batch is lost."""

    def change(commit_turns: CommitTurns) -> CommitTurns:
        def overwrite(state: HubState, commits: Sequence[TurnCommit], now: Millis, limits: Limits) -> list[Outcome]:
            changed = []
            for place, commit in enumerate(commits):
                later = {other.lease.key for other in commits[place + 1 :]} - {commit.lease.key}
                kept = [message for message in commit.messages if message.instance not in later]
                changed.append(replace(commit, messages=kept))
            return commit_turns(state, changed, now, limits)

        return overwrite

    change_commits(patch, change)


@mutant("154", "ATM-07", source="each commit locks its own instance, then those that it messages")
def commits_that_message_each_other_deadlock(patch: pytest.MonkeyPatch) -> None:
    """Two commits that lock each other's instance in opposite order end with an error."""
    commit_turns = MemoryHub.commit_turns
    locks: dict[str, threading.Lock] = {}
    guard = threading.Lock()

    def lock_of(instance: str) -> threading.Lock:
        with guard:
            return locks.setdefault(instance, threading.Lock())

    def lock_in_order(self: MemoryHub, commits: Sequence[TurnCommit]) -> list[Outcome]:
        if not is_racing():
            return commit_turns(self, commits)
        held: list[threading.Lock] = []
        try:
            for commit in commits:
                for instance in dict.fromkeys([commit.lease.key, *(told.instance for told in commit.messages)]):
                    lock = lock_of(instance)
                    if not lock.acquire(timeout=_WAIT_SECONDS / 10):
                        raise Transient("deadlock detected")
                    held.append(lock)
                    # Long enough for whoever locks the other one first.
                    time.sleep(0.01)
            return commit_turns(self, commits)
        finally:
            for lock in held:
                lock.release()

    patch.setattr(MemoryHub, "commit_turns", lock_in_order)


@mutant("155", "ATM-08", source="each item is checked when its turn comes")
def items_are_applied_up_to_the_malformed_one(patch: pytest.MonkeyPatch) -> None:
    """The commits before a malformed one of their batch are applied."""

    def check_as_it_comes(self: MemoryHub, commits: Sequence[TurnCommit]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        with self._transaction() as state:
            now = self._clock.now()
            checks.check_batch(commits, self._limits, "commits")
            for place in range(len(commits)):
                # The whole so far, for the index in the error.
                checks.check_commits(commits[: place + 1], self._limits, now)
                outcomes += turns.commit_turns(state, commits[place : place + 1], now, self._limits)
        return outcomes

    patch.setattr(MemoryHub, "commit_turns", check_as_it_comes)


@mutant("156", "ATM-08", "ATM-17", source="each item is checked for itself")
def errors_do_not_name_the_item(patch: pytest.MonkeyPatch) -> None:
    """The error about a malformed item doesn't say which one it is."""
    from perdure.spi.checks import requests  # noqa: PLC0415

    def check_each(items: Sequence[Any], what: str, check: Callable[[Any], object]) -> None:
        del what
        for item in items:
            check(item)

    patch.setattr(requests, "check_each", check_each)


@mutant("157", "ATM-17", source="each item is checked when its turn comes")
def sending_stops_at_the_malformed_message(patch: pytest.MonkeyPatch) -> None:
    """The messages before a malformed one of their batch are sent."""
    send_messages = MemoryHub.send_messages

    def send_one_by_one(self: MemoryHub, messages: Sequence[Message]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for place in range(len(messages)):
            checks.check_messages(messages[: place + 1], self._limits, self._clock.now())
            outcomes += send_messages(self, messages[place : place + 1])
        return outcomes

    patch.setattr(MemoryHub, "send_messages", send_one_by_one)


@mutant("158", "ATM-10", source="readers need no lock")
def readers_see_half_a_commit(patch: pytest.MonkeyPatch) -> None:
    """Reads don't wait for the commit that is under way, and see its events without its state."""
    readers = _Readers()
    write_history = turns._write_history

    def write_and_wait(instance: Instance, commit: TurnCommit) -> None:
        write_history(instance, commit)
        readers.wait()

    get_instances, transaction = MemoryHub.get_instances, MemoryHub._transaction
    reading = threading.local()

    def read(self: MemoryHub, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        infos = get_instances(self, ids, fields=fields)
        readers.note()
        return infos

    @contextmanager
    def without_lock(self: MemoryHub) -> Iterator[HubState]:
        if is_racing() and getattr(reading, "now", False):
            self._context.check_open()
            yield self._context.store.hubs[self.name]
        else:
            with transaction(self) as state:
                yield state

    patch.setattr(turns, "_write_history", write_and_wait)
    patch.setattr(MemoryHub, "_transaction", without_lock)
    patch.setattr(MemoryHub, "get_instances", _marked(read, reading))
    for name in ("read_history", "stats"):
        patch.setattr(MemoryHub, name, _marked(getattr(MemoryHub, name), reading))


@mutant("159", "ATM-09", source="the message's insert fails, and the activity is left for a retry")
def an_undeliverable_result_keeps_its_activity(patch: pytest.MonkeyPatch) -> None:
    """An activity whose result nobody can take is not deleted."""
    complete = activities._complete_activity

    def keep(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        if done.message is not None and done.message.instance not in state.instances:
            return Outcome.OK
        return complete(state, done, now)

    patch.setattr(activities, "_complete_activity", keep)


@mutant("160", "ATM-09", "BAT-03", "BAT-09", source="the token is looked at by the delete alone")
def a_lost_completion_delivers_its_message(patch: pytest.MonkeyPatch) -> None:
    """Completing with a token that is not the current one is LOST, but its message is delivered."""
    complete = activities._complete_activity

    def deliver_anyway(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        outcome = complete(state, done, now)
        if outcome is Outcome.LOST and done.message is not None:
            deliver(state, done.message, now)
        return outcome

    patch.setattr(activities, "_complete_activity", deliver_anyway)


@mutant("161", "ATM-11", "ATM-03", source="the start is inserted where the instance is, and not where it is updated")
def a_replacement_has_no_start(patch: pytest.MonkeyPatch) -> None:
    """An instance that replaces another one has no start message."""
    create = instances.create_instance

    def forget(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        outcome = create(state, new, now, settled)
        if outcome is Outcome.REPLACED:
            instance = state.instances[new.id]
            instance.inbox.remove("@start")
            state.reschedule(instance)
        return outcome

    patch.setattr(instances, "create_instance", forget)
    patch.setattr(turns, "create_instance", forget)


@mutant("162", "ATM-12", source="a table is forgotten")
def a_purge_leaves_the_remembered_ids(patch: pytest.MonkeyPatch) -> None:
    """The ids of messages that a purged instance consumed are remembered for whoever has its id next."""
    remove, add = HubState.remove_instance, HubState.add_instance
    left: dict[tuple[int, str], Inbox] = {}

    def leave(self: HubState, instance: Instance) -> None:
        left[id(self), instance.id] = instance.inbox
        remove(self, instance)

    def find(self: HubState, instance: Instance) -> None:
        before = left.get((id(self), instance.id))
        if before is not None:
            instance.inbox._remembered.update(before._remembered)
        add(self, instance)

    patch.setattr(HubState, "remove_instance", leave)
    patch.setattr(HubState, "add_instance", find)


@mutant("163", "ATM-13", "ATM-01", "ATM-02", "BAT-03", source="children are created by a call of their own")
def children_are_created_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A commit's children are created first, and stay if the commit fails."""

    def change(commit_turn: CommitTurn) -> CommitTurn:
        def create_first(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
            instance = state.instances.get(commit.lease.key)
            if instance is not None and instance.last_commit_id != commit.commit_id:
                for new in commit.starts:
                    instances.create_instance(state, new, now, {instance.id})
            return commit_turn(state, commit, now, limits)

        return create_first

    change_commit(patch, change)


@mutant("164", "ATM-13", source="every create of the batch may replace")
def an_instance_may_replace_itself(patch: pytest.MonkeyPatch) -> None:
    """A start that names the instance which commits replaces it, half way through its own commit."""
    create = instances.create_instance

    def replace_any(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        return create(state, new, now, set())

    patch.setattr(turns, "create_instance", replace_any)


@mutant("165", "ATM-14", source="a cache in front of the reads of each handle")
def a_handle_does_not_see_what_another_wrote(patch: pytest.MonkeyPatch) -> None:
    """A handle goes on reading an instance as it first saw it, until it writes something itself."""
    read = MemoryHub.get_instances
    transaction = MemoryHub._transaction
    caches: dict[int, dict[str, InstanceInfo | None]] = {}
    reading = threading.local()

    def cached(self: MemoryHub, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        cache = caches.setdefault(id(self._context), {})
        reading.now = True
        try:
            missing = [instance_id for instance_id in ids if instance_id not in cache]
            cache.update(zip(missing, read(self, missing, fields=fields), strict=True))
        finally:
            reading.now = False
        return [cache[instance_id] for instance_id in ids]

    def writing(self: MemoryHub) -> Any:
        if not getattr(reading, "now", False):
            caches.pop(id(self._context), None)
        return transaction(self)

    patch.setattr(MemoryHub, "get_instances", cached)
    patch.setattr(MemoryHub, "_transaction", writing)
    # Reads by any other means are none of this mistake, and must not empty the cache.
    for name in ("read_history", "query_instances", "stats"):
        patch.setattr(MemoryHub, name, _marked(getattr(MemoryHub, name), reading))


@mutant("166", "ATM-18", source="the fence is looked at first", base="sqlite")
def the_token_is_compared_before_the_commit_id(patch: pytest.MonkeyPatch) -> None:
    """A repeated commit is LOST if it released its lease, and ALREADY only if it kept it."""
    commit_turn = commits._commit_turn

    def fence_first(work: Work, commit: TurnCommit) -> Outcome:
        row = work.rows.get(key_of(commit.lease, LeaseKind.TURN))
        if row is not None and not row.owned_by(commit.lease):
            return Outcome.LOST
        return commit_turn(work, commit)

    patch.setattr(commits, "_commit_turn", fence_first)


@mutant("167", "ATM-18", source="a unique index on the id of the commit alone")
def commit_ids_are_known_in_the_whole_hub(patch: pytest.MonkeyPatch) -> None:
    """A commit is ALREADY if any instance's last commit had its id."""

    def change(commit_turn: CommitTurn) -> CommitTurn:
        def look_everywhere(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
            if any(commit.commit_id == instance.last_commit_id for instance in state.instances.values()):
                return Outcome.ALREADY
            return commit_turn(state, commit, now, limits)

        return look_everywhere

    change_commit(patch, change)


@mutant("168", "ATM-18", source="the memory of an id outlives its incarnation")
def commit_ids_are_known_to_the_next_incarnation(patch: pytest.MonkeyPatch) -> None:
    """An instance that replaces another one knows the id of the last commit of that."""
    remove, add = HubState.remove_instance, HubState.add_instance
    left: dict[tuple[int, str], str | None] = {}

    def leave(self: HubState, instance: Instance) -> None:
        left[id(self), instance.id] = instance.last_commit_id
        remove(self, instance)

    def find(self: HubState, instance: Instance) -> None:
        instance.last_commit_id = left.get((id(self), instance.id))
        add(self, instance)

    patch.setattr(HubState, "remove_instance", leave)
    patch.setattr(HubState, "add_instance", find)


@mutant("169", "ATM-19", source="ids of commits are kept by the process", base="sqlite")
def commit_ids_are_not_stored(patch: pytest.MonkeyPatch) -> None:
    """After a reopening nothing is known of the last commit: the same again is LOST or a CONFLICT."""
    known: dict[int, str | None] = {}
    keep, close, values = Work._keep, SQLiteProvider.close, effects.update_values

    def write(row: InstanceRow) -> object:
        known[row.key] = row.commit_id
        return values(replace(row, commit_id=None))

    def read(self: Work, row: InstanceRow) -> None:
        row.commit_id = known.get(row.key)
        keep(self, row)

    def forget(self: SQLiteProvider) -> None:
        known.clear()
        close(self)

    patch.setattr(effects, "update_values", write)
    patch.setattr(Work, "_keep", read)
    patch.setattr(SQLiteProvider, "close", forget)


@mutant("170", "ATM-16", source="an update is left out where no column of it changes")
def an_empty_commit_does_not_show(patch: pytest.MonkeyPatch) -> None:
    """A commit without events and new values changes neither rev nor updated_at."""
    touch = turns._set_state

    def spare(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        rev, updated_at = instance.rev, instance.updated_at
        before = (instance.status, instance.output, instance.custom_status, instance.execution)
        touch(state, instance, commit, now)
        if not commit.events and before == (
            instance.status,
            instance.output,
            instance.custom_status,
            instance.execution,
        ):
            instance.rev, instance.updated_at = rev, updated_at

    patch.setattr(turns, "_set_state", spare)


@mutant("171", "ATM-20", "ATM-03", source="statements in the order of the record's fields")
def messages_are_sent_before_the_starts(patch: pytest.MonkeyPatch) -> None:
    """A commit's messages are sent before its children are created: those to the children are dropped."""
    send = turns._send

    def messages_first(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        for message in commit.messages:
            deliver(state, message, now)
        send(state, instance, replace(commit, messages=()), now)

    patch.setattr(turns, "_send", messages_first)


@mutant("172", "ATM-20", source="cancels are the first of the statements")
def messages_are_cancelled_before_they_are_sent(patch: pytest.MonkeyPatch) -> None:
    """A commit cancels pending messages first, and not those that it sends itself."""
    send = turns._send

    def cancel_first(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        for message_id in commit.cancel_messages:
            instance.inbox.remove(message_id)
        send(state, instance, replace(commit, cancel_messages=()), now)

    patch.setattr(turns, "_send", cancel_first)


@mutant("173", "ATM-21", "NMS-14", source="deletes come after inserts")
def activities_are_settled_after_the_inserts(patch: pytest.MonkeyPatch) -> None:
    """A commit settles activities after it scheduled others: one of the same id is not scheduled anew."""
    settle, change = turns._settle, turns._change_activities

    def change_first(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        change(state, instance, commit, now)
        settle(state, instance, commit)

    patch.setattr(turns, "_settle", lambda state, instance, commit: None)
    patch.setattr(turns, "_change_activities", change_first)


@mutant("174", "ATM-22", source="the clock is read once more")
def completed_at_is_now(patch: pytest.MonkeyPatch) -> None:
    """completed_at is the time of the commit, even where updated_at is later since the clock went back."""
    leave = turns._leave

    def stamp(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        leave(state, instance, commit, now)
        if instance.status.is_terminal:
            instance.completed_at = now

    patch.setattr(turns, "_leave", stamp)


@mutant("175", "ATM-01", "ATM-02", "NMS-04", source="a statement before the fence", base="sqlite")
def activities_are_settled_before_the_fence(patch: pytest.MonkeyPatch) -> None:
    """The settled activities of a commit are deleted before it is found to be a CONFLICT or LOST."""
    commit_turn = commits._commit_turn

    def settle_first(work: Work, commit: TurnCommit) -> Outcome:
        row = work.rows.get(key_of(commit.lease, LeaseKind.TURN))
        if row is not None:
            for lease in commit.settled:
                work.settle(row, lease)
        return commit_turn(work, commit)

    patch.setattr(commits, "_commit_turn", settle_first)


@mutant("530", "ATM-15", source="the commit's id stored with the lease's turn")
def a_held_claim_forgets_the_last_commit(patch: pytest.MonkeyPatch) -> None:
    """A claim by `held` forgets the id of the commit that kept the lease."""
    lease_turn = turns._lease_turn

    def forgetting(
        state: HubState, instance: Instance, request: ClaimTurns, now: Millis, held: Lease | None
    ) -> TurnItem:
        if held is not None:
            instance.last_commit_id = None
        return lease_turn(state, instance, request, now, held)

    patch.setattr(turns, "_lease_turn", forgetting)


@mutant("531", "ATM-18", source="reopening writes a fresh record")
def reopening_forgets_the_last_commit(patch: pytest.MonkeyPatch) -> None:
    """An instance that is reopened forgets the id of its last commit."""
    reopen = messages._reopen

    def forgetting(state: HubState, instance: Instance, now: Millis) -> None:
        reopen(state, instance, now)
        instance.last_commit_id = None

    patch.setattr(messages, "_reopen", forgetting)


@mutant("532", "ATM-18", source="the lease's row written anew")
def renewing_forgets_the_last_commit(patch: pytest.MonkeyPatch) -> None:
    """An instance whose lease is renewed forgets the id of its last commit."""
    renew = leases._renew

    def forgetting(state: HubState, lease: Lease, expires_at: Millis) -> tuple[Outcome, Lease | None]:
        instance = state.instances.get(lease.key)
        if instance is not None:
            instance.last_commit_id = None
        return renew(state, lease, expires_at)

    patch.setattr(leases, "_renew", forgetting)

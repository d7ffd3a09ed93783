"""Mistakes that the cases of custom_status, engine and model find out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest

from perdure.spi import (
    START_MESSAGE_ID,
    UNSET,
    ActivityDone,
    Exchange,
    ExchangeResult,
    Fields,
    InstanceInfo,
    Lease,
    LeaseKind,
    Limits,
    Message,
    Millis,
    NewInstance,
    Outcome,
    TurnCommit,
    TurnItem,
)
from perdure_conformance.mutant import mutant
from perdure_memory import MemoryProvider, activities, hub, instances, messages, queries, turns
from perdure_memory.hub import MemoryHub
from perdure_memory.inbox import Inbox, PendingMessage
from perdure_memory.ownership import Ownership
from perdure_memory.state import HubState, Instance
from perdure_sql import commits, effects
from perdure_sql.rows import InstanceRow
from perdure_sql.work import Work
from perdure_sqlite import writer
from perdure_sqlite.hub import SQLiteHub

NEVER = 2**60


def _changes(patch: pytest.MonkeyPatch, change: Callable[[Instance, TurnCommit, Millis], dict[str, Any]]) -> None:
    """Have fields of each commit changed before the instance's state is set by it."""
    set_state = turns._set_state

    def mistaken(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        set_state(state, instance, replace(commit, **change(instance, commit, now)), now)

    patch.setattr(turns, "_set_state", mistaken)


def _stores(patch: pytest.MonkeyPatch, stored: Callable[[bytes], bytes]) -> None:
    """Have each custom status stored as something else."""
    _changes(
        patch,
        lambda _, commit, __: (
            {"custom_status": stored(commit.custom_status)} if isinstance(commit.custom_status, bytes) else {}
        ),
    )


def _after_state(patch: pytest.MonkeyPatch, mistake: Callable[[Instance, TurnCommit, int], None]) -> None:
    """Have something done after the instance's state was set; `mistake` is told the status_rev from before."""
    set_state = turns._set_state

    def mistaken(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        before = instance.status_rev
        set_state(state, instance, commit, now)
        mistake(instance, commit, before)

    patch.setattr(turns, "_set_state", mistaken)


# Set, kept and cleared.


@mutant("46a", "CST-03", source="if commit.custom_status: ...")
def empty_custom_status_is_dropped(patch: pytest.MonkeyPatch) -> None:
    """An empty custom status is taken for none given."""
    _changes(patch, lambda _, commit, __: {"custom_status": UNSET} if commit.custom_status == b"" else {})


@mutant("46b", "CST-04", source="azure-functions-durable-python drops falsy values")
def falsy_custom_status_is_dropped(patch: pytest.MonkeyPatch) -> None:
    """A custom status whose JSON value is falsy is taken for none given."""

    def drop(_: Instance, commit: TurnCommit, __: Millis) -> dict[str, Any]:
        if isinstance(commit.custom_status, bytes) and commit.custom_status in {b"0", b"false", b'""', b"[]", b"{}"}:
            return {"custom_status": UNSET}
        return {}

    _changes(patch, drop)


@mutant("47", "CST-03", "CST-06", "ENG-05", source="durabletask-mssql: WHERE CustomStatus <> @status, with NULL")
def custom_status_can_not_be_cleared(patch: pytest.MonkeyPatch) -> None:
    """None keeps the custom status instead of clearing it."""
    _changes(patch, lambda _, commit, __: {"custom_status": UNSET} if commit.custom_status is None else {})


@mutant("48", "CST-03", source="a missing sentinel", base="sqlite")
def unset_clears(patch: pytest.MonkeyPatch) -> None:
    """A commit that sets the output or the memo writes all columns of that row, and clears the custom status."""

    def values(key: int, state: dict[str, bytes | None]) -> tuple[object, ...]:
        names = effects.SET_STATE.columns
        return (key, *[state.get(name) for name in names], *[True for _ in names])

    patch.setattr(effects, "state_values", values)


@mutant("420", "CST-01", "CST-03", "CST-06", source="a column NOT NULL DEFAULT ''")
def no_custom_status_reads_as_empty(patch: pytest.MonkeyPatch) -> None:
    """An instance without a custom status reads as having an empty one."""
    info = queries.instance_info

    def mistaken(instance: Instance, fields: Fields) -> InstanceInfo:
        found = info(instance, fields)
        return replace(found, custom_status=found.custom_status or b"")

    patch.setattr(queries, "instance_info", mistaken)
    patch.setattr(hub, "instance_info", mistaken)


@mutant("421", "CST-01", "CST-06", source="status_rev INTEGER NOT NULL DEFAULT rev")
def status_rev_begins_with_the_instance(patch: pytest.MonkeyPatch) -> None:
    """A new instance has a status_rev, as if its custom status had been set."""
    create = instances.create_instance

    def mistaken(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        outcome = create(state, new, now, settled)
        if outcome in (Outcome.OK, Outcome.REPLACED):
            state.instances[new.id].status_rev = state.instances[new.id].rev
        return outcome

    patch.setattr(instances, "create_instance", mistaken)
    patch.setattr(turns, "create_instance", mistaken)


@mutant("422", "CST-02", "CST-17", source="UPDATE ... WHERE updated_at < :now")
def second_custom_status_of_a_millisecond_is_lost(patch: pytest.MonkeyPatch) -> None:
    """A custom status is stored only if time has passed since the one before."""

    def change(instance: Instance, _: TurnCommit, now: Millis) -> dict[str, Any]:
        return {"custom_status": UNSET} if instance.status_rev and instance.updated_at >= now else {}

    _changes(patch, change)


@mutant("423", "CST-03", "CST-06", "ENG-05", source="the row of a new execution is inserted anew")
def continuing_clears_the_custom_status(patch: pytest.MonkeyPatch) -> None:
    """Continue-as-new begins without a custom status."""

    def clear(_: Instance, commit: TurnCommit, __: Millis) -> dict[str, Any]:
        return {"custom_status": None} if commit.continued is not None and commit.custom_status is UNSET else {}

    _changes(patch, clear)


@mutant("424", "CST-03", source="one flag for several columns")
def clearing_the_output_clears_the_custom_status(patch: pytest.MonkeyPatch) -> None:
    """A commit that clears the output clears the custom status too."""
    _changes(patch, lambda _, commit, __: {"custom_status": None} if commit.output is None else {})


@mutant("425", "CST-03", "CST-18", "ENG-07", source="the fused statement lacks a column")
def exchange_forgets_the_custom_status(patch: pytest.MonkeyPatch) -> None:
    """The custom status of a commit in an exchange is not stored."""
    exchange = MemoryHub.exchange

    def mistaken(self: MemoryHub, request: Exchange) -> ExchangeResult:
        plain = [replace(commit, custom_status=UNSET) for commit in request.commits]
        return exchange(self, replace(request, commits=plain))

    patch.setattr(MemoryHub, "exchange", mistaken)


@mutant("426", "CST-05", source="the status is written by a statement of its own, first")
def custom_status_is_written_before_the_fence(patch: pytest.MonkeyPatch) -> None:
    """A commit's custom status is stored before it is known whether the commit applies."""
    commit_turn = turns._commit_turn

    def mistaken(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        instance = state.instances.get(commit.lease.key)
        if instance is not None and commit.custom_status is not UNSET:
            instance.custom_status = commit.custom_status
        return commit_turn(state, commit, now, limits)

    patch.setattr(turns, "_commit_turn", mistaken)


@mutant("427", "CST-05", source="an upsert that a retry runs again")
def repeated_commit_sets_its_custom_status(patch: pytest.MonkeyPatch) -> None:
    """A commit id that was applied already sets the custom status that now comes with it."""
    commit_turn = turns._commit_turn

    def mistaken(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        outcome = commit_turn(state, commit, now, limits)
        if outcome is Outcome.ALREADY and commit.custom_status is not UNSET:
            state.instances[commit.lease.key].custom_status = commit.custom_status
        return outcome

    patch.setattr(turns, "_commit_turn", mistaken)


@mutant("428", "CST-06", "CST-07", "CST-08", "ENG-05", source="tidying up at the end")
def end_clears_the_custom_status(patch: pytest.MonkeyPatch) -> None:
    """An instance that ends loses its custom status."""

    def clear(instance: Instance, commit: TurnCommit, _: int) -> None:
        if commit.status.is_terminal:
            instance.custom_status = None

    _after_state(patch, clear)


@mutant("429", "CST-06", "CST-14", "CST-15", "ENG-05", source="UPDATE ... WHERE status = 'RUNNING', after the end")
def custom_status_of_the_last_commit_is_lost(patch: pytest.MonkeyPatch) -> None:
    """A custom status that comes with the end of its instance is not stored."""
    _changes(patch, lambda _, commit, __: {"custom_status": UNSET} if commit.status.is_terminal else {})


@mutant("430", "CST-06", "ENG-05", source="an upsert that leaves a column out")
def replaced_instance_keeps_the_custom_status(patch: pytest.MonkeyPatch) -> None:
    """A new incarnation of an id has the custom status of the one it replaces."""
    create = instances.create_instance

    def mistaken(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        former = state.instances.get(new.id)
        outcome = create(state, new, now, settled)
        if outcome is Outcome.REPLACED and former is not None:
            state.instances[new.id].custom_status = former.custom_status
        return outcome

    patch.setattr(instances, "create_instance", mistaken)
    patch.setattr(turns, "create_instance", mistaken)


@mutant("431", "CST-06", "ENG-04", source="all that the end had set is cleared, and more")
def reopening_clears_the_custom_status(patch: pytest.MonkeyPatch) -> None:
    """A reopened instance has lost its custom status with its output."""
    reopen = messages._reopen

    def mistaken(state: HubState, instance: Instance, now: Millis) -> None:
        reopen(state, instance, now)
        instance.custom_status = None

    patch.setattr(messages, "_reopen", mistaken)


@mutant("432", "CST-02", "CST-03", "CST-06", source="a column that the claim doesn't select")
def claim_brings_no_custom_status(patch: pytest.MonkeyPatch) -> None:
    """A claimed turn shows no custom status."""
    lease_turn = turns._lease_turn

    def mistaken(*args: Any) -> TurnItem:
        return replace(lease_turn(*args), custom_status=None)

    patch.setattr(turns, "_lease_turn", mistaken)


@mutant("437", "CST-15", "CST-17", "ENG-05", source="one counter for both")
def status_rev_moves_with_every_commit(patch: pytest.MonkeyPatch) -> None:
    """A commit that leaves the custom status alone moves status_rev."""

    def move(instance: Instance, _: TurnCommit, before: int) -> None:
        if before:
            instance.status_rev = instance.rev

    _after_state(patch, move)


@mutant("438", "CST-02", "CST-17", source="a trigger on change")
def status_rev_moves_only_with_another_value(patch: pytest.MonkeyPatch) -> None:
    """Setting the custom status that is there already leaves status_rev where it is."""
    set_state = turns._set_state

    def mistaken(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        before = instance.custom_status, instance.status_rev
        set_state(state, instance, commit, now)
        if instance.custom_status == before[0]:
            instance.status_rev = before[1]

    patch.setattr(turns, "_set_state", mistaken)


@mutant("439", "CST-17", source="COALESCE")
def clearing_does_not_move_status_rev(patch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the custom status isn't told that it was cleared."""

    def stay(instance: Instance, commit: TurnCommit, before: int) -> None:
        if commit.custom_status is None:
            instance.status_rev = before

    _after_state(patch, stay)


@mutant("440", "CST-18", source="executemany with the columns of the first row", base="sqlite")
def batch_sets_what_its_first_commit_sets(patch: pytest.MonkeyPatch) -> None:
    """All commits of a batch set the fields that the first of them sets, and no others."""
    flush = Work._flush_insertions

    def mistaken(self: Work) -> None:
        if self._states:
            names = next(iter(self._states.values()))
            self._states = {key: {name: state.get(name) for name in names} for key, state in self._states.items()}
        flush(self)

    patch.setattr(Work, "_flush_insertions", mistaken)


@mutant("441", "CST-19", source="progress kept in a cache")
def custom_status_is_lost_at_closing(patch: pytest.MonkeyPatch) -> None:
    """The custom status is kept in the process alone, by a provider that calls itself durable."""
    close = MemoryProvider.close

    def mistaken(self: MemoryProvider) -> None:
        for state in self._store.hubs.values():
            for instance in state.instances.values():
                instance.custom_status = None
        close(self)

    patch.setattr(MemoryProvider, "capabilities", replace(MemoryProvider.capabilities, durable=True))
    patch.setattr(MemoryProvider, "close", mistaken)


@mutant("450", "CST-02", "CST-03", "ENG-07", source="written behind, with the next commit")
def custom_status_is_seen_one_commit_late(patch: pytest.MonkeyPatch) -> None:
    """A custom status becomes readable with the commit after the one that set it."""
    late: dict[str, bytes | None] = {}

    def wait(instance: Instance, commit: TurnCommit, _: Millis) -> dict[str, Any]:
        now_due = late.pop(instance.generation, UNSET)
        if commit.custom_status is not UNSET and not commit.status.is_terminal:
            late[instance.generation] = commit.custom_status
            return {"custom_status": now_due}
        return {"custom_status": now_due} if commit.custom_status is UNSET else {}

    _changes(patch, wait)


# Bytes.


@mutant("49", "CST-10", "CST-16", "ENG-06", source="VARCHAR(16384), counted in bytes of UTF-8")
def custom_status_is_cut_at_16384_bytes(patch: pytest.MonkeyPatch) -> None:
    """A custom status is cut off after 16,384 bytes of UTF-8."""
    _stores(patch, lambda text: text[:16_384])


@mutant("71b", "CST-13", source="PostgreSQL's JSONB")
def custom_status_is_normalised_json(patch: pytest.MonkeyPatch) -> None:
    """A custom status is stored as JSON: keys are sorted, the last of equal ones wins, numbers are rewritten."""

    def normal(text: bytes) -> bytes:
        try:
            return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        except ValueError:
            return text

    _stores(patch, normal)


@mutant("433", "CST-07", "CST-10", "CST-11", "CST-12", "CST-16", "ENG-06", source="NVARCHAR(8000)")
def custom_status_is_cut_at_8000_characters(patch: pytest.MonkeyPatch) -> None:
    """A custom status is cut off after 8,000 characters."""

    def cut(text: bytes) -> bytes:
        try:
            return text.decode()[:8000].encode()
        except UnicodeDecodeError:
            return text[:8000]

    _stores(patch, cut)


@mutant("434", "CST-09", "CST-16", "ENG-06", source="MySQL's utf8, of three bytes at most")
def emoji_in_a_custom_status_become_question_marks(patch: pytest.MonkeyPatch) -> None:
    """Characters beyond the first 65,536 are replaced in a custom status."""
    _stores(patch, lambda text: re.sub(rb"[\xf0-\xf4][\x80-\xbf]{3}", b"?", text))


@mutant("435", "CST-11", "CST-12", "CST-13", source="a string literal put together by hand")
def escapes_in_a_custom_status_are_taken_for_sql(patch: pytest.MonkeyPatch) -> None:
    """Backslashes in a custom status are taken for escapes of the database's, and vanish."""
    _stores(patch, lambda text: re.sub(rb"\\(.)", rb"\1", text))


@mutant("436", "CST-12", "CST-13", source="json.dumps(json.loads(text)).encode(errors='replace')")
def lone_surrogates_in_a_custom_status_are_replaced(patch: pytest.MonkeyPatch) -> None:
    """A lone surrogate in a custom status comes back as a question mark."""
    _stores(patch, lambda text: re.sub(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD])", b"?", text))


# The engine's promises, broken by a provider.


@mutant("442", "ENG-01", source="DELETE ... WHERE key = ?, without the token")
def result_of_a_lost_lease_is_taken(patch: pytest.MonkeyPatch) -> None:
    """An activity can be completed by whoever once had it."""
    complete = activities._complete_activity

    def mistaken(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        activity = state.activities.get(done.lease.key)
        if activity is not None and activity.ownership.token is not None:
            done = replace(done, lease=replace(done.lease, token=activity.ownership.token))
        return complete(state, done, now)

    patch.setattr(activities, "_complete_activity", mistaken)


@mutant("443", "ENG-02", source="a unique key over (parent, name)")
def parent_has_one_child_of_a_name(patch: pytest.MonkeyPatch) -> None:
    """A second child of the same name and parent is taken for the first."""
    create = instances.create_instance

    def mistaken(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        siblings = state.children.get(new.parent or "", ())
        if any(state.instances[sibling].name == new.name for sibling in siblings):
            return Outcome.ALREADY
        return create(state, new, now, settled)

    patch.setattr(turns, "create_instance", mistaken)


@mutant("445", "ENG-03", source="ORDER BY due, id")
def messages_come_in_the_order_of_their_ids(patch: pytest.MonkeyPatch) -> None:
    """Messages of one millisecond are delivered in the order of their ids."""

    def place(self: PendingMessage) -> Any:
        return self.id != START_MESSAGE_ID, self.due, self.id

    patch.setattr(PendingMessage, "place", place)


@mutant("446", "ENG-03", source="WHERE start_due <= :now, for all that comes")
def control_messages_wait_for_the_start(patch: pytest.MonkeyPatch) -> None:
    """An instance whose start is not due can't be suspended."""
    first = Inbox.first_control_due

    def mistaken(self: Inbox) -> Millis | None:
        due, start = first(self), self._by_id.get(START_MESSAGE_ID)
        return due if due is None or start is None else max(due, start.due)

    patch.setattr(Inbox, "first_control_due", mistaken)


@mutant("447", "ENG-04", source="only the status is written")
def reopened_instance_keeps_the_marks_of_its_end(patch: pytest.MonkeyPatch) -> None:
    """A reopened instance still has its failure and the time of its end."""
    reopen = messages._reopen

    def mistaken(state: HubState, instance: Instance, now: Millis) -> None:
        marks = instance.completed_at, instance.failure
        reopen(state, instance, now)
        instance.completed_at, instance.failure = marks

    patch.setattr(messages, "_reopen", mistaken)


@mutant("448", "ENG-04", source="a flag that one path doesn't look at")
def rewritten_history_is_appended(patch: pytest.MonkeyPatch) -> None:
    """The events of a rewrite come behind those that they should replace."""

    def mistaken(instance: Instance, commit: TurnCommit) -> None:
        instance.history.extend(commit.events)

    patch.setattr(turns, "_write_history", mistaken)


@mutant("449", "ENG-04", source="a check for terminal targets before the insert")
def messages_of_a_commit_reopen_nothing(patch: pytest.MonkeyPatch) -> None:
    """A finished instance can't be reopened by another one's commit."""
    deliver = messages.deliver

    def mistaken(state: HubState, message: Message, now: Millis) -> Outcome:
        return deliver(state, replace(message, reopen=frozenset()), now)

    patch.setattr(turns, "deliver", mistaken)


@mutant("451", "ENG-08", source="durabletask-mssql: abandon without a delay")
def release_delay_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """What is given back with a delay can be claimed at once."""
    release = Ownership.release

    def mistaken(self: Ownership, hidden_until: Millis, *, penalize: bool) -> None:
        release(self, 0, penalize=penalize)

    patch.setattr(Ownership, "release", mistaken)


@mutant("452", "ENG-01", "ENG-08", source="the counter is reset with the lease")
def attempts_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """Each claim is the first attempt."""
    claim = Ownership.claim

    def mistaken(self: Ownership, fence: int, expires_at: Millis) -> Lease:
        self.attempt = 0
        return claim(self, fence, expires_at)

    patch.setattr(Ownership, "claim", mistaken)


@mutant("453", "ENG-08", source="a delay that hides the whole row")
def control_messages_wait_for_a_release_delay(patch: pytest.MonkeyPatch) -> None:
    """An instance that was given back with a delay can't be terminated before its end."""
    ready_at = Instance.ready_at

    def mistaken(self: Instance, names: Collection[str] | None = None, *, as_holder: bool = False) -> Millis | None:
        found = ready_at(self, names, as_holder=as_holder)
        return None if found is None else max(found, self.ownership.hidden_until)

    patch.setattr(Instance, "ready_at", mistaken)


@mutant("454", "ENG-01", "ENG-05", "ENG-10", source="the history is replaced, the number forgotten")
def continuing_does_not_count_the_execution(patch: pytest.MonkeyPatch) -> None:
    """Continue-as-new leaves the number of the execution as it is."""

    def count_back(instance: Instance, commit: TurnCommit, _: int) -> None:
        if commit.continued is not None:
            instance.execution -= 1

    _after_state(patch, count_back)


@mutant("455", "ENG-10", source="a naive retry decorator")
def repeated_commit_appends_its_events_again(patch: pytest.MonkeyPatch) -> None:
    """A commit that is sent again appends its events a second time."""
    commit_turn = turns._commit_turn

    def mistaken(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        outcome = commit_turn(state, commit, now, limits)
        if outcome is Outcome.ALREADY:
            state.instances[commit.lease.key].history.extend(commit.events)
        return outcome

    patch.setattr(turns, "_commit_turn", mistaken)


@mutant("456", "ENG-01", "ENG-08", "ENG-10", source="a claimed flag without a time")
def activities_of_dead_workers_never_come_back(patch: pytest.MonkeyPatch) -> None:
    """A lease on an activity never runs out."""
    leased_until = Ownership.leased_until

    def mistaken(self: Ownership) -> Millis:
        until = leased_until(self)
        return NEVER if until and self.kind is LeaseKind.ACTIVITY else until

    patch.setattr(Ownership, "leased_until", mistaken)


# What only a sequence of calls shows; in SQL, since the memory provider is what others are compared with.


@mutant("457", "ENG-09", "MOD-04", source="a commit skips its own row", base="sqlite")
def messages_to_oneself_are_lost(patch: pytest.MonkeyPatch) -> None:
    """A message that a commit sends to its own instance is dropped."""
    send = commits._send

    def mistaken(work: Work, row: InstanceRow, commit: TurnCommit) -> None:
        send(work, row, replace(commit, messages=[item for item in commit.messages if item.instance != row.id]))

    patch.setattr(commits, "_send", mistaken)


@mutant("458", "MOD-01", "MOD-02", "MOD-03", source="the lease's columns are cleared together", base="sqlite")
def fence_begins_anew_with_each_lease(patch: pytest.MonkeyPatch) -> None:
    """Ending a lease forgets its fence, so that the next one's is no larger."""
    release = InstanceRow.release

    def mistaken(self: InstanceRow, hidden_until: Millis) -> None:
        release(self, hidden_until)
        self.fence = 0

    patch.setattr(InstanceRow, "release", mistaken)


@mutant("459", "MOD-02", source="a cache that only its own handle's writes empty", base="sqlite")
def handle_reads_from_a_cache(patch: pytest.MonkeyPatch) -> None:
    """A handle doesn't see what another has written since it last read."""
    get, write = SQLiteHub.get_instances, SQLiteHub._write

    def cached(self: SQLiteHub, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        cache = self._provider.__dict__.setdefault("cache", {})
        key = (self.name, tuple(ids), fields)
        if key not in cache:
            cache[key] = get(self, ids, fields=fields)
        found: list[InstanceInfo | None] = cache[key]
        return found

    def emptying(self: SQLiteHub, operation: Any, reach: Any) -> Any:
        try:
            return write(self, operation, reach)
        finally:
            self._provider.__dict__.pop("cache", None)

    patch.setattr(SQLiteHub, "get_instances", cached)
    patch.setattr(SQLiteHub, "_write", emptying)


@mutant("460", "MOD-01", "MOD-03", source="no memory of commit ids", base="sqlite")
def repeated_commit_is_lost(patch: pytest.MonkeyPatch) -> None:
    """A commit that is sent again is LOST, as if it had not been applied."""
    commit_turn = commits._commit_turn

    def mistaken(work: Work, commit: TurnCommit) -> Outcome:
        outcome = commit_turn(work, commit)
        return Outcome.LOST if outcome is Outcome.ALREADY else outcome

    patch.setattr(commits, "_commit_turn", mistaken)


@mutant("461", "ATM-23", source="autocommit, or an except that passes", base="sqlite")
def what_broke_off_is_kept(patch: pytest.MonkeyPatch) -> None:
    """A call that breaks off in its midst leaves what it has written so far."""

    def mistaken(db: Any) -> None:
        if db.in_transaction:
            db.commit()

    patch.setattr(writer, "_roll_back", mistaken)

"""Mistakes that the cases of lifecycle find out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import TypeAlias

import pytest

from perdure.spi import (
    UNSET,
    ClaimTurns,
    InstanceQuery,
    Lease,
    Limits,
    Message,
    Millis,
    NewInstance,
    OrchestrationStatus,
    Outcome,
    TurnCommit,
    TurnItem,
)
from perdure_conformance.mutant import mutant
from perdure_memory import hub, instances, queries, turns
from perdure_memory.inbox import Inbox, PendingMessage
from perdure_memory.messages import deliver
from perdure_memory.state import HubState, Instance

Create: TypeAlias = Callable[[HubState, NewInstance, Millis, set[str]], Outcome]


def _patch_create(patch: pytest.MonkeyPatch, where: ModuleType, changed: Callable[..., Outcome]) -> None:
    """Have clients (`instances`) or commits (`turns`) create by another function, which is given the right one."""
    patch.setattr(where, "create_instance", partial(changed, instances.create_instance))


def _alter_new(patch: pytest.MonkeyPatch, where: ModuleType, alter: Callable[[NewInstance], NewInstance]) -> None:
    """Have clients or commits create something else than they were asked for."""

    def altered(create: Create, state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        return create(state, alter(new), now, settled)

    _patch_create(patch, where, altered)


def _spoil_replacement(patch: pytest.MonkeyPatch, spoil: Callable[[HubState, Instance, Instance], None]) -> None:
    """Have `spoil` called after each replacement, with the new and the old incarnation."""

    def spoilt(create: Create, state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        old = state.instances.get(new.id)
        outcome = create(state, new, now, settled)
        if outcome is Outcome.REPLACED and old is not None:
            spoil(state, state.instances[new.id], old)
        return outcome

    _patch_create(patch, instances, spoilt)


@mutant("44", "LIF-13", source="a history table without the execution in its key")
def continue_as_new_keeps_the_old_events(patch: pytest.MonkeyPatch) -> None:
    """The events of a new execution are put behind those of the old one."""
    set_state = turns._set_state

    def keep(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        before = instance.history
        set_state(state, instance, commit, now)
        if commit.continued is not None:
            instance.history = [*before, *instance.history]

    patch.setattr(turns, "_set_state", keep)


@mutant("56", "LIF-03", source="an upsert")
def create_overwrites_an_existing_instance(patch: pytest.MonkeyPatch) -> None:
    """Creating an id that is taken overwrites what is there."""

    def overwrite(create: Create, state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        existing = state.instances.get(new.id)
        if existing is not None:
            state.remove_instance(existing)
        return create(state, new, now, settled)

    _patch_create(patch, instances, overwrite)


@mutant("57", "LIF-16", source="durabletask-go")
def a_taken_child_id_is_swallowed(patch: pytest.MonkeyPatch) -> None:
    """A start whose id is taken does nothing, and nobody is told."""

    def swallow(create: Create, state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        outcome = create(state, new, now, settled)
        return Outcome.OK if outcome is Outcome.EXISTS else outcome

    _patch_create(patch, turns, swallow)


@mutant("57a", "LIF-16", source="`INSERT OR IGNORE`, and nobody looks at the count", base="sqlite")
def a_taken_child_id_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """A start whose id is taken is ignored by the database, and taken for a success."""
    from perdure_sql import commits  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sql import instances as sql_instances  # noqa: PLC0415
    from perdure_sql.work import Work  # noqa: PLC0415

    create = sql_instances.create_instance

    def ignore(work: Work, new: NewInstance, settled: set[str]) -> Outcome:
        outcome = create(work, new, settled)
        return Outcome.OK if outcome is Outcome.EXISTS else outcome

    patch.setattr(commits, "create_instance", ignore)


@mutant("58", "LIF-16", "LIF-17", source="a unique violation that nobody expects")
def a_taken_child_id_fails_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A start whose id is taken makes the commit of the parent fail."""
    commit_turn = turns._commit_turn

    def fail(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        if any(new.id in state.instances for new in commit.starts):
            return Outcome.CONFLICT
        return commit_turn(state, commit, now, limits)

    patch.setattr(turns, "_commit_turn", fail)


@mutant("101", "LIF-02", source="a status row that the first turn makes")
def what_was_never_claimed_is_not_found(patch: pytest.MonkeyPatch) -> None:
    """Queries leave out an instance until its first turn."""
    matches = queries.matches

    def leave_out(instance: Instance, query: InstanceQuery) -> bool:
        return instance.ownership.fence > 0 and matches(instance, query)

    patch.setattr(queries, "matches", leave_out)


@mutant("102", "LIF-02", source="a claim that marks what it takes")
def a_claim_sets_running(patch: pytest.MonkeyPatch) -> None:
    """A claim sets the status of a pending instance, which only a commit should do."""
    lease_turn = turns._lease_turn

    def mark(state: HubState, instance: Instance, request: ClaimTurns, now: Millis, held: Lease | None) -> TurnItem:
        item = lease_turn(state, instance, request, now, held)
        instance.status = OrchestrationStatus.RUNNING
        return item

    patch.setattr(turns, "_lease_turn", mark)


@mutant("103", "LIF-03", source="the start message inserted before the instance")
def a_refused_create_delivers_its_start(patch: pytest.MonkeyPatch) -> None:
    """Creating an id that is taken answers EXISTS, but leaves a start message behind."""

    def deliver_start(create: Create, state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        outcome = create(state, new, now, settled)
        instance = state.instances[new.id]
        if outcome is Outcome.EXISTS and not instance.status.is_terminal and not instance.inbox.knows("@start", now):
            number = next(state.numbers)
            instance.inbox.add(PendingMessage(id="@start", payload=new.start, due=now, enqueued_at=now, number=number))
            state.reschedule(instance)
        return outcome

    _patch_create(patch, instances, deliver_start)


@mutant("104", "LIF-04", source="an update of the row where a new one is needed")
def a_replacement_inherits_the_payloads(patch: pytest.MonkeyPatch) -> None:
    """What replaces an instance still has its custom status and memo."""

    def inherit(_state: HubState, new: Instance, old: Instance) -> None:
        new.custom_status, new.memo = old.custom_status, old.memo

    _spoil_replacement(patch, inherit)


@mutant("105", "LIF-04", source="a counter that starts anew with the row")
def a_replacement_restarts_rev(patch: pytest.MonkeyPatch) -> None:
    """What replaces an instance counts its rev from 1 again, so that whoever waits for a larger one never wakes."""

    def restart(_state: HubState, new: Instance, _old: Instance) -> None:
        new.rev = 1

    _spoil_replacement(patch, restart)


@mutant("106", "LIF-04", source="a table of remembered ids that hangs on the id and not on the incarnation")
def a_replacement_remembers_messages(patch: pytest.MonkeyPatch) -> None:
    """What replaces an instance refuses messages that the old one consumed."""

    def remember(_state: HubState, new: Instance, old: Instance) -> None:
        new.inbox._remembered = old.inbox._remembered

    _spoil_replacement(patch, remember)


@mutant("107", "LIF-05", source="`if new.replace_if`")
def replace_if_is_a_flag(patch: pytest.MonkeyPatch) -> None:
    """Any `replace_if` that is not empty replaces whatever is there."""

    def replace_any(create: Create, state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        if new.replace_if:
            new = replace(new, replace_if=frozenset(OrchestrationStatus))
        return create(state, new, now, settled)

    _patch_create(patch, instances, replace_any)


@mutant("108", "LIF-06", source="each item looked at alone")
def a_batch_replaces_what_it_created(patch: pytest.MonkeyPatch) -> None:
    """A create replaces an instance that the same batch has just created."""

    def one_by_one(state: HubState, new: Sequence[NewInstance], now: Millis) -> list[Outcome]:
        return [instances.create_instance(state, item, now, set()) for item in new]

    patch.setattr(hub, "create_instances", one_by_one)


@mutant("109", "LIF-07", source="rows locked in the order of their ids, against deadlocks")
def creates_are_answered_in_the_order_of_ids(patch: pytest.MonkeyPatch) -> None:
    """The outcomes of a batch of creates stand in the order of the ids."""
    create = instances.create_instances

    def in_order(state: HubState, new: Sequence[NewInstance], now: Millis) -> list[Outcome]:
        return create(state, sorted(new, key=lambda item: item.id), now)

    patch.setattr(hub, "create_instances", in_order)


@mutant("110", "LIF-08", "LIF-09", source="a start that has no column for its due time")
def the_due_time_of_a_start_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """An instance created to start later starts at once."""
    _alter_new(patch, instances, lambda new: replace(new, due=0))


@mutant("111", "LIF-08", "LIF-15", source="two ways to create an instance")
def the_due_time_of_a_child_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """A child that a commit has start later starts at once."""
    _alter_new(patch, turns, lambda new: replace(new, due=0))


@mutant("112", "LIF-09", source="the earliest due time of any message")
def a_message_wakes_what_has_not_started(patch: pytest.MonkeyPatch) -> None:
    """A message makes an instance claimable whose start is not due."""

    def earliest(inbox: Inbox) -> Millis | None:
        return min((message.due for message in inbox._by_id.values()), default=None)

    patch.setattr(Inbox, "first_due", earliest)


@mutant("113", "LIF-09", source="one order for all messages")
def the_start_is_sorted_like_any_message(patch: pytest.MonkeyPatch) -> None:
    """Messages with an earlier due time are delivered before the start."""
    patch.setattr(PendingMessage, "place", lambda message: (False, message.due, message.number))


@mutant("114", "LIF-10", "LIF-12", "LIF-13", source="a column that every update writes")
def completed_at_is_set_by_every_commit(patch: pytest.MonkeyPatch) -> None:
    """Every commit sets completed_at."""
    set_state = turns._set_state

    def complete(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        set_state(state, instance, commit, now)
        instance.completed_at = instance.updated_at

    patch.setattr(turns, "_set_state", complete)


@mutant("115", "LIF-10", source="`keep_ms` looked at before the status")
def the_end_keeps_the_lease(patch: pytest.MonkeyPatch) -> None:
    """A terminal commit with `keep_ms` leaves a lease on the instance, under which it can be committed again."""
    leave = turns._leave

    def keep(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        token = instance.ownership.token
        leave(state, instance, commit, now)
        if commit.keep_ms is not None:
            instance.ownership.token, instance.ownership.expires_at = token, now + commit.keep_ms

    patch.setattr(turns, "_leave", keep)


@mutant("116", "LIF-11", source="a claim that filters by status, and nothing that cleans up")
def the_end_keeps_the_messages(patch: pytest.MonkeyPatch) -> None:
    """An ended instance is not claimed, but its messages are still there when it is reopened."""
    ready_at = Instance.ready_at

    def unless_ended(
        instance: Instance, names: Collection[str] | None = None, *, as_holder: bool = False
    ) -> Millis | None:
        return None if instance.status.is_terminal else ready_at(instance, names, as_holder=as_holder)

    patch.setattr(Instance, "ready_at", unless_ended)
    patch.setattr(Inbox, "clear", lambda _inbox: None)


@mutant("117", "LIF-12", source="`WHERE status IN ('PENDING', 'RUNNING')`")
def suspended_instances_are_not_claimed(patch: pytest.MonkeyPatch) -> None:
    """A suspended instance is claimable by nobody, so that nothing can resume it."""
    ready_at = Instance.ready_at

    def unless_suspended(
        instance: Instance, names: Collection[str] | None = None, *, as_holder: bool = False
    ) -> Millis | None:
        if instance.status is OrchestrationStatus.SUSPENDED:
            return None
        return ready_at(instance, names, as_holder=as_holder)

    patch.setattr(Instance, "ready_at", unless_suspended)


@mutant("118", "LIF-14", source="a second fence that is only half there")
def the_execution_of_a_commit_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """A commit is applied whatever execution it was made for, if only its next_seq is right."""
    commit_turn = turns._commit_turn

    def ignore(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        instance = state.instances.get(commit.lease.key)
        if instance is not None:
            commit = replace(commit, execution=instance.execution)
        return commit_turn(state, commit, now, limits)

    patch.setattr(turns, "_commit_turn", ignore)


@mutant("119", "LIF-13", source="a new execution that is made like a new instance")
def continue_as_new_drops_messages(patch: pytest.MonkeyPatch) -> None:
    """Messages and timers that were pending are gone after continue-as-new."""
    set_state = turns._set_state

    def drop(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        set_state(state, instance, commit, now)
        if commit.continued is not None:
            instance.inbox.clear()

    patch.setattr(turns, "_set_state", drop)


@mutant("120", "LIF-15", source="two ways to create an instance")
def a_child_forgets_its_parent(patch: pytest.MonkeyPatch) -> None:
    """A child that a commit starts has no parent."""
    _alter_new(patch, turns, lambda new: replace(new, parent=None))


@mutant("121", "LIF-15", source="statements in the order of the record's fields")
def messages_are_sent_before_the_starts(patch: pytest.MonkeyPatch) -> None:
    """What a commit sends to a child that it starts is dropped: the child isn't there yet."""
    send = turns._send

    def send_first(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        for message in commit.messages:
            deliver(state, message, now)
        send(state, instance, replace(commit, messages=()), now)

    patch.setattr(turns, "_send", send_first)


@mutant("122", "LIF-16", "LIF-17", source="an upsert")
def a_child_overwrites_an_existing_instance(patch: pytest.MonkeyPatch) -> None:
    """A start whose id is taken overwrites what is there."""
    _alter_new(patch, turns, lambda new: replace(new, replace_if=frozenset(OrchestrationStatus)))


@mutant("123", "LIF-18", source="`version or None`")
def an_empty_version_is_none(patch: pytest.MonkeyPatch) -> None:
    """The version "" comes back as None."""
    _alter_new(patch, instances, lambda new: replace(new, version=new.version or None))


@mutant("124", "LIF-19", source="a table that the replacement forgets", base="sqlite")
def a_replacement_leaves_activities(patch: pytest.MonkeyPatch) -> None:
    """The activities of a replaced instance can still be renewed and completed, for the new one."""
    from perdure_conformance.mutants.schemas import only_within  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sql import effects  # noqa: PLC0415
    from perdure_sql import hub as sql_hub  # noqa: PLC0415
    from perdure_sql.rows import InstanceRow  # noqa: PLC0415
    from perdure_sql.work import Work  # noqa: PLC0415

    discard = Work.discard

    def forget(work: Work, row: InstanceRow) -> None:
        before = list(work._wiped_activities)
        discard(work, row)
        work._wiped_activities = before

    def leave(inner: pytest.MonkeyPatch) -> None:
        inner.setattr(Work, "discard", forget)
        kept = tuple(effect for effect in effects.WIPE_INSTANCE if effect.table != "activities")
        inner.setattr(effects, "WIPE_INSTANCE", kept)

    # A purge deletes in the same way, and is none of this mistake.
    for name in ("create_instances", "commit_turns"):
        only_within(patch, sql_hub, name, leave)


@mutant("125", "LIF-19", source="an update of the row where a new one is needed")
def a_replacement_inherits_the_lease(patch: pytest.MonkeyPatch) -> None:
    """Whoever held a lease on a replaced instance holds it on the new one."""

    def inherit(state: HubState, new: Instance, old: Instance) -> None:
        new.ownership = old.ownership
        state.reschedule(new)

    _spoil_replacement(patch, inherit)


@mutant("126", "LIF-16", source="a start that is checked like any other")
def an_instance_replaces_itself(patch: pytest.MonkeyPatch) -> None:
    """A start that names the committing instance replaces it half way through its commit."""

    def anyhow(create: Create, state: HubState, new: NewInstance, now: Millis, _settled: set[str]) -> Outcome:
        return create(state, new, now, set())

    _patch_create(patch, turns, anyhow)


@mutant("127", "LIF-16", "LIF-17", source="`if outcome is not OK`")
def any_answer_but_ok_is_a_conflict(patch: pytest.MonkeyPatch) -> None:
    """`on_conflict` is also sent where the start replaced, or was a repetition."""

    def confuse(create: Create, state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        outcome = create(state, new, now, settled)
        return outcome if outcome is Outcome.OK else Outcome.EXISTS

    _patch_create(patch, turns, confuse)


@mutant("128", "LIF-17", source="one function for children and clients")
def a_clients_conflict_is_sent(patch: pytest.MonkeyPatch) -> None:
    """A client's create whose id is taken delivers its `on_conflict`."""
    create = instances.create_instances

    def send(state: HubState, new: Sequence[NewInstance], now: Millis) -> list[Outcome]:
        outcomes = create(state, new, now)
        refused = zip(new, outcomes, strict=True)
        told: list[Message | None] = [item.on_conflict for item, outcome in refused if outcome is Outcome.EXISTS]
        for message in told:
            if message is not None:
                deliver(state, message, now)
        return outcomes

    patch.setattr(hub, "create_instances", send)


@mutant("129", "LIF-13", source="`coalesce(?, input)`", base="sqlite")
def continue_as_new_keeps_the_input(patch: pytest.MonkeyPatch) -> None:
    """An execution that is given no input has that of the one before."""
    from perdure_sql import effects  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sqlite import transaction  # noqa: PLC0415

    statement = "UPDATE perdure_inputs SET input = coalesce(?, input) WHERE instance = ?"
    patch.setitem(transaction.EFFECTS, effects.SET_INPUT, statement)


@mutant("129a", "LIF-20", "LIF-10", source="`if commit.output`")
def an_empty_output_is_dropped(patch: pytest.MonkeyPatch) -> None:
    """An output of no bytes is not stored."""
    set_state = turns._set_state

    def drop(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        set_state(state, instance, replace(commit, output=commit.output or UNSET), now)

    patch.setattr(turns, "_set_state", drop)


@mutant("129b", "LIF-20", source="`coalesce(?, output)`", base="sqlite")
def an_output_cannot_be_cleared(patch: pytest.MonkeyPatch) -> None:
    """An output that is None keeps what is stored."""
    from perdure_conformance.mutants.schemas import change_effect  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sql import effects  # noqa: PLC0415

    kept = "coalesce(excluded.output, perdure_states.output) ELSE"
    change_effect(patch, effects.SET_STATE, "excluded.output ELSE", kept)


@mutant("540", "LIF-13", source="a row written anew for each execution")
def continue_as_new_drops_the_tags(patch: pytest.MonkeyPatch) -> None:
    """Continue-as-new drops the tags of the instance."""
    set_state = turns._set_state

    def without_tags(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        set_state(state, instance, commit, now)
        if commit.continued is not None:
            instance.tags = {}

    patch.setattr(turns, "_set_state", without_tags)


def _after_creation(
    patch: pytest.MonkeyPatch, change: Callable[[Instance, Instance | None, NewInstance], None]
) -> None:
    create = instances.create_instance

    def changed(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        existing = state.instances.get(new.id)
        outcome = create(state, new, now, settled)
        if outcome in (Outcome.OK, Outcome.REPLACED):
            instance = state.instances[new.id]
            change(instance, existing, new)
            state.reschedule(instance)
        return outcome

    for module in (instances, turns):
        patch.setattr(module, "create_instance", changed)


@mutant("541", "LIF-08", source="one time for both columns")
def an_instance_to_come_was_updated_in_the_future(patch: pytest.MonkeyPatch) -> None:
    """An instance that starts later has its due time as `updated_at`."""

    def change(instance: Instance, existing: Instance | None, new: NewInstance) -> None:
        del existing
        instance.updated_at = max(instance.updated_at, new.due)

    _after_creation(patch, change)


@mutant("542", "LIF-04", source="`coalesce(excluded.version, version)`")
def a_replacement_without_a_version_gets_the_old_one(patch: pytest.MonkeyPatch) -> None:
    """An instance without a version that replaces another has the other's."""

    def change(instance: Instance, existing: Instance | None, new: NewInstance) -> None:
        if existing is not None and new.version is None:
            instance.version = existing.version

    _after_creation(patch, change)


@mutant("543", "LIF-19", source="an upsert that leaves a column out")
def a_replacement_stays_hidden(patch: pytest.MonkeyPatch) -> None:
    """An instance that replaces another is hidden by the other's release delay."""

    def change(instance: Instance, existing: Instance | None, new: NewInstance) -> None:
        del new
        if existing is not None:
            instance.ownership.hidden_until = existing.ownership.hidden_until

    _after_creation(patch, change)


@mutant("544", "MSG-21", source="an upsert that leaves a column out")
def a_replacement_goes_on_with_the_old_order(patch: pytest.MonkeyPatch) -> None:
    """After the clock went back an instance that replaces another starts no earlier than the other's last message."""

    def change(instance: Instance, existing: Instance | None, new: NewInstance) -> None:
        start = instance.inbox._by_id["@start"]
        if existing is not None and not new.due:
            instance.inbox.remove(start.id)
            start.due = max(start.due, existing.inbox._latest_due)
            instance.inbox.add(start)

    _after_creation(patch, change)


@mutant("620", "LIF-04", source="an update of what is given alone")
def a_replaced_instance_leaves_its_input(patch: pytest.MonkeyPatch) -> None:
    """One that replaces another, and has no input, has the other's."""

    def create(create: Create, state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        old = state.instances.get(new.id)
        outcome = create(state, new, now, settled)
        if old is not None and outcome is Outcome.REPLACED and new.input is None:
            state.instances[new.id].input = old.input
        return outcome

    _patch_create(patch, instances, create)

"""Mistakes that the cases of timers and clocks find out."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from perdure.spi import (
    START_MESSAGE_ID,
    ClaimTurns,
    Fields,
    InstanceInfo,
    Lease,
    Limits,
    Millis,
    NewInstance,
    Outcome,
    Release,
    SystemClock,
    TurnBatch,
    TurnCommit,
)
from perdure.spi.checks import requests
from perdure_conformance.mutant import mutant
from perdure_conformance.mutants.schemas import change_effect, change_statement
from perdure_memory import activities, hub, instances, leases, messages, queries, turns
from perdure_memory.inbox import Inbox, PendingMessage
from perdure_memory.ownership import Ownership
from perdure_memory.provider import MemoryProvider
from perdure_memory.state import HubState, Instance
from perdure_sql import effects
from perdure_sqlite import agenda, schema, transaction

_HOUR_MS = 3_600_000
_SQL_WALL_CLOCK = "CAST(strftime('%s', 'now') AS INTEGER) * 1000"


def _change_stored_due(patch: pytest.MonkeyPatch, change: Callable[[Millis, Millis], Millis]) -> None:
    """Store for (due, now) what `change` makes of it."""
    stored_due = Inbox.stored_due
    patch.setattr(Inbox, "stored_due", lambda self, due, now: stored_due(self, change(due, now), now))


def _change_send(patch: pytest.MonkeyPatch, change: Callable[[Instance, TurnCommit], TurnCommit]) -> None:
    """Have messages sent and cancelled as another commit would have it."""
    send = turns._send
    patch.setattr(
        turns, "_send", lambda state, instance, commit, now: send(state, instance, change(instance, commit), now)
    )


def _change_claim(patch: pytest.MonkeyPatch, change: Callable[[Any, Millis], Any], *names: str) -> None:
    """Have the batches of these claims changed."""

    def changed(claim: Callable[..., Any]) -> Callable[..., Any]:
        def claim_changed(state: HubState, request: Any, max_items: int, now: Millis) -> Any:
            return change(claim(state, request, max_items, now), now)

        return claim_changed

    for name in names:
        patch.setattr(hub, name, changed(getattr(hub, name)))


@mutant("28", "TIM-01", source="a column that nobody reads")
def timers_fire_at_once(patch: pytest.MonkeyPatch) -> None:
    """The due time of a message is stored, and nobody waits for it."""
    patch.setattr(Inbox, "first_due", lambda self: 0 if self._order else None)
    deliver = Inbox.deliver
    patch.setattr(
        Inbox,
        "deliver",
        lambda self, now, at_most, token, *, only_control: deliver(
            self, 2**62, at_most, token, only_control=only_control
        ),
    )


@mutant("29", "TIM-02", "TIM-13", source="a stub")
def next_due_is_missing(patch: pytest.MonkeyPatch) -> None:
    """`next_due` is always None."""
    _change_claim(patch, lambda batch, now: replace(batch, next_due=None), "claim_turns", "claim_activities")


@mutant("30a", "TIM-02", source="MIN over one column", base="sqlite")
def next_due_ignores_delays_and_leases(patch: pytest.MonkeyPatch) -> None:
    """`next_due` looks at messages alone: neither at release delays nor at leases."""
    change_statement(patch, agenda, "NEXT_TURN", "j.available_at", "coalesce(j.start_due, j.inbox_due)")


@mutant("30b", "TIM-02", source="MIN over one column", base="sqlite")
def next_due_of_activities_ignores_delays_and_leases(patch: pytest.MonkeyPatch) -> None:
    """`next_due` of activities looks at their due times alone: neither at release delays nor at leases."""
    change_statement(patch, agenda, "NEXT_ACTIVITY", "j.available_at", "j.due")


@mutant("33", "TIM-05", source="durabletask-go")
def cancelled_timers_fire(patch: pytest.MonkeyPatch) -> None:
    """A commit cancels no message."""
    _change_send(patch, lambda instance, commit: replace(commit, cancel_messages=()))


@mutant("34", "TIM-08", source="durabletask-python, timers in threads")
def timers_fire_into_the_next_generation(patch: pytest.MonkeyPatch) -> None:
    """Timers of an instance that is replaced stay, and come to the one that replaces it."""
    create = instances.create_instance

    def create_keeping(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        old = state.instances.get(new.id)
        outcome = create(state, new, now, settled)
        if outcome is Outcome.REPLACED and old is not None:
            for message in list(old.inbox._by_id.values()):
                if message.id != START_MESSAGE_ID and message.due > now:
                    state.instances[new.id].inbox.add(message)
        return outcome

    patch.setattr(instances, "create_instance", create_keeping)


@mutant("74", "TIM-10", source="TIMESTAMP(0), a datetime without its fraction")
def dues_lose_their_milliseconds(patch: pytest.MonkeyPatch) -> None:
    """Due times are stored in whole seconds."""
    _change_stored_due(patch, lambda due, now: due // 1000 * 1000)


@mutant("75a", "CLK-01", source="NOW() in one statement", base="sqlite")
def activities_are_judged_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """Which activities are due is judged by the database's clock, though another one was injected."""
    change_statement(
        patch, agenda, "READY_ACTIVITIES", "j.available_at <= ?", f"j.available_at <= {_SQL_WALL_CLOCK} + 0 * ?"
    )


@mutant("75b", "CLK-01", source="time.time() in one place")
def leases_are_renewed_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """A renewed lease ends by this machine's clock, though another one was injected."""
    renew = leases.renew_leases
    patch.setattr(hub, "renew_leases", lambda state, asked, for_ms, _now: renew(state, asked, for_ms, _wall_clock()))


@mutant("75c", "CLK-01", source="DEFAULT now() in a column", base="sqlite")
def messages_are_enqueued_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """When a message was enqueued is told by the database's clock, though another one was injected."""
    change_effect(
        patch,
        effects.INSERT_MESSAGE,
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        f"VALUES (?, ?, ?, ?, {_SQL_WALL_CLOCK} + 0 * ?, ?, ?, ?)",
    )


@mutant("75d", "CLK-01", source="NOW() in a cleaning job")
def sweeping_goes_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """Which ids are remembered no longer is judged by this machine's clock, though another one was injected."""
    forget = Inbox.forget
    sweep = HubState.sweep
    patch.setattr(HubState, "sweep", lambda self, _now: sweep(self, _wall_clock()))
    patch.setattr(Inbox, "forget", lambda self, message_id, _now: forget(self, message_id, _wall_clock()))


def _wall_clock() -> Millis:
    return time.time_ns() // 1_000_000


@mutant("76", "CLK-04", source="duroxide-pg 0.1.8")
def a_lease_is_good_while_its_own_clock_says_so(patch: pytest.MonkeyPatch) -> None:
    """A lease that is unexpired by a handle's own clock is taken for the current one, though a handle whose clock is
    ahead has taken the item."""
    grants = Ownership.grants
    commit_turns, complete = turns.commit_turns, activities.complete_activities
    moment: list[Millis] = [2**62]

    def grants_unexpired(self: Ownership, lease: Lease) -> bool:
        return grants(self, lease) or (self.token is not None and lease.expires_at > moment[0])

    def at(operation: Callable[..., Any], place: int) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            moment[0] = args[place]
            try:
                return operation(*args)
            finally:
                moment[0] = 2**62

        return run

    patch.setattr(Ownership, "grants", grants_unexpired)
    patch.setattr(hub, "commit_turns", at(commit_turns, 2))
    patch.setattr(hub, "complete_activities", at(complete, 2))


@mutant("77", "CLK-03", source="an expiry check in the fence")
def no_commit_after_a_jump_back(patch: pytest.MonkeyPatch) -> None:
    """A commit is LOST while the clock is behind the claim that it belongs to."""
    commit_turn = turns._commit_turn

    def commit_in_order(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        instance = state.instances.get(commit.lease.key)
        if instance is not None and now < instance.updated_at:
            return Outcome.LOST
        return commit_turn(state, commit, now, limits)

    patch.setattr(turns, "_commit_turn", commit_in_order)


@mutant("233", "CLK-05", source="a capability that is declared too much")
def server_clock_is_the_clients(patch: pytest.MonkeyPatch) -> None:
    """`server_clock` is declared, and the time is read from the clock of the client's machine."""
    patch.setattr(MemoryProvider, "capabilities", replace(MemoryProvider.capabilities, server_clock=True))


@mutant("244", "TIM-03", source="ORDER BY arrival", base="sqlite")
def messages_come_by_arrival_alone(patch: pytest.MonkeyPatch) -> None:
    """Messages are delivered in the order of their arrival, whatever their due times."""
    change_statement(
        patch,
        transaction,
        "MESSAGES",
        "ORDER BY perdure_inbox.instance, perdure_inbox.due, perdure_inbox.seq",
        "ORDER BY perdure_inbox.instance, perdure_inbox.seq",
    )


@mutant("245", "TIM-03", "CLK-06", source="ORDER BY due alone", base="sqlite")
def messages_of_one_moment_come_in_reverse(patch: pytest.MonkeyPatch) -> None:
    """Messages that are due at the same moment are delivered in any order."""
    change_statement(
        patch,
        transaction,
        "MESSAGES",
        "ORDER BY perdure_inbox.instance, perdure_inbox.due, perdure_inbox.seq",
        "ORDER BY perdure_inbox.instance, perdure_inbox.due, perdure_inbox.seq DESC",
    )


@mutant("246", "TIM-04", source="max(due, now)")
def past_dues_are_moved_to_now(patch: pytest.MonkeyPatch) -> None:
    """A due time that is past is stored as now."""
    _change_stored_due(patch, lambda due, now: max(due, now) if due else 0)


@mutant("247", "TIM-06", source="DELETE WHERE due <= now")
def a_commit_deletes_what_is_due(patch: pytest.MonkeyPatch) -> None:
    """A commit deletes all messages that are due, those that became so under its lease among them."""
    consume = turns._consume

    def consume_due(state: HubState, instance: Instance, commit: TurnCommit, remember_until: Millis) -> None:
        consume(state, instance, commit, remember_until)
        now = remember_until - Limits().dedupe_ms
        if commit.consumed:
            for message in [one for one in instance.inbox._by_id.values() if one.enqueued_at < one.due <= now]:
                instance.inbox.remove(message.id)

    patch.setattr(turns, "_consume", consume_due)


@mutant("248", "TIM-07", source="a clamp")
def far_dues_are_clamped(patch: pytest.MonkeyPatch) -> None:
    """A due time that is too far ahead is taken, and moved to the limit."""
    patch.setattr(requests, "check_due", lambda *args: None)
    ahead = Limits().max_due_ahead_ms
    _change_stored_due(patch, lambda due, now: min(due, now + ahead))


@mutant("249", "TIM-09", source="one inbox an execution")
def continue_as_new_drops_timers(patch: pytest.MonkeyPatch) -> None:
    """Timers that are pending at a continue-as-new are lost."""

    def drop(instance: Instance, commit: TurnCommit) -> TurnCommit:
        if commit.continued is not None:
            for message in list(instance.inbox._by_id.values()):
                if message.due > message.enqueued_at:
                    instance.inbox.remove(message.id)
        return commit

    _change_send(patch, drop)


@mutant("250", "TIM-12", source="timers in memory", base="sqlite")
def delays_are_forgotten_at_the_end(patch: pytest.MonkeyPatch) -> None:
    """A provider that is opened takes all that was delayed for due."""
    prepare = schema.prepare

    def forget(db: sqlite3.Connection, *args: Any, **options: Any) -> None:
        prepare(db, *args, **options)
        db.execute("UPDATE perdure_instances SET hidden_until = 0")
        db.execute("UPDATE perdure_activities SET due = 0, hidden_until = 0")

    patch.setattr(schema, "prepare", forget)


@mutant("251", "TIM-13", source="a busy loop")
def next_due_is_now(patch: pytest.MonkeyPatch) -> None:
    """`next_due` is now, also where nothing is ready: workers turn in circles."""
    _change_claim(patch, lambda batch, now: replace(batch, next_due=now), "claim_turns", "claim_activities")


@mutant("252", "TIM-14", "CLK-08", source="microseconds for milliseconds")
def own_clock_counts_microseconds(patch: pytest.MonkeyPatch) -> None:
    """Where no clock is injected, the time is told in microseconds."""
    patch.setattr(SystemClock, "now", lambda self: time.time_ns() // 1000)


@mutant("253", "TIM-10", "TIM-11", source="a sweep every 10 ms")
def timers_fire_in_steps(patch: pytest.MonkeyPatch) -> None:
    """What is due is looked for every 10 ms."""
    claim = turns.claim_turns

    def claim_in_steps(state: HubState, request: ClaimTurns, max_items: int, now: Millis) -> TurnBatch:
        return replace(claim(state, request, max_items, now // 10 * 10), now=now)

    patch.setattr(hub, "claim_turns", claim_in_steps)


@mutant("254", "TIM-01", "TIM-15", source="no due in the WHERE")
def timers_ride_along(patch: pytest.MonkeyPatch) -> None:
    """An instance that is claimed for one message gets all that is pending, due or not."""
    deliver = Inbox.deliver
    patch.setattr(
        Inbox,
        "deliver",
        lambda self, now, at_most, token, *, only_control: deliver(
            self, 2**62, at_most, token, only_control=only_control
        ),
    )


@mutant("255", "TIM-15", source="control messages looked at apart")
def control_messages_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    """A control message makes its instance claimable before it is due."""
    patch.setattr(Inbox, "first_control_due", lambda self: 0 if self._controls else None)


@mutant("256", "TIM-16", source="the first of several", base="sqlite")
def next_due_is_that_of_one_queue(patch: pytest.MonkeyPatch) -> None:
    """Where a claim asks for several queues and names, `next_due` is the last of theirs and not the first."""
    change_statement(patch, agenda, "NEXT_ACTIVITY", "SELECT min(", "SELECT max(")


@mutant("257", "TIM-05", source="no instance in the WHERE", base="sqlite")
def cancelling_a_timer_cancels_those_of_others(patch: pytest.MonkeyPatch) -> None:
    """Deleting a message deletes those of other instances that are due at the same time."""
    change_effect(patch, effects.DELETE_MESSAGE, "perdure_inbox.instance = ?", "? > 0")


@mutant("258", "CLK-02", source="a TTL on messages")
def what_is_long_overdue_is_dropped(patch: pytest.MonkeyPatch) -> None:
    """A message that has been due for more than an hour is taken for expired, and dropped."""
    claim = turns.claim_turns

    def claim_fresh(state: HubState, request: ClaimTurns, max_items: int, now: Millis) -> TurnBatch:
        for instance in state.instances.values():
            for message in list(instance.inbox._by_id.values()):
                if now - _HOUR_MS > message.due > message.enqueued_at:
                    instance.inbox.remove(message.id)
            state.reschedule(instance)
        return claim(state, request, max_items, now)

    patch.setattr(hub, "claim_turns", claim_fresh)


@mutant("259a", "CLK-03", source="no max()")
def updated_at_goes_back(patch: pytest.MonkeyPatch) -> None:
    """`updated_at` follows the clock wherever it jumps."""

    def touch(self: Instance, now: Millis) -> None:
        self.rev += 1
        self.updated_at = now

    patch.setattr(Instance, "touch", touch)


@mutant("259b", "CLK-03", source="no max()")
def later_messages_overtake_after_a_jump_back(patch: pytest.MonkeyPatch) -> None:
    """A message for now is stored with the clock's time, also where an earlier one has a later time."""
    patch.setattr(Inbox, "stored_due", lambda self, due, now: due or now)


@mutant("259c", "CLK-07", source="completed_at or None")
def time_zero_is_no_time(patch: pytest.MonkeyPatch) -> None:
    """An instance that ended at 0 has no `completed_at`."""
    info = queries.instance_info

    def info_or_none(instance: Instance, fields: Fields) -> InstanceInfo:
        made = info(instance, fields)
        made.completed_at = made.completed_at or None
        return made

    patch.setattr(hub, "instance_info", info_or_none)


@mutant("259d", "CLK-06", source="messages kept by id")
def messages_of_one_moment_come_by_id(patch: pytest.MonkeyPatch) -> None:
    """Messages that are due at the same moment are delivered in the order of their ids."""

    def place(self: PendingMessage) -> Any:
        return (self.id != START_MESSAGE_ID, self.due, self.id)

    patch.setattr(PendingMessage, "place", place)


def _whole_seconds(ms: int) -> int:
    return ms // 1000 * 1000 if ms >= 1000 else ms


@mutant("545", "TIM-17", source="`make_interval(secs => ...)`")
def a_kept_lease_lasts_whole_seconds(patch: pytest.MonkeyPatch) -> None:
    """`keep_ms` of a second or more is cut to whole seconds."""
    leave = turns._leave

    def cut(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        if commit.keep_ms is not None:
            commit = replace(commit, keep_ms=_whole_seconds(commit.keep_ms))
        leave(state, instance, commit, now)

    patch.setattr(turns, "_leave", cut)


@mutant("545b", "TIM-17", source="`make_interval(secs => ...)`")
def a_release_delay_lasts_whole_seconds(patch: pytest.MonkeyPatch) -> None:
    """A release delay of a second or more is cut to whole seconds."""
    release = leases._release

    def cut(state: HubState, item: Release, now: Millis) -> Outcome:
        return release(state, replace(item, delay_ms=_whole_seconds(item.delay_ms)), now)

    patch.setattr(leases, "_release", cut)


@mutant("653", "CLK-03", source="the clock in one of two paths")
def a_reopening_takes_the_time_back(patch: pytest.MonkeyPatch) -> None:
    """The message that reopens an instance sets `updated_at` to the clock, also to one that jumped back."""
    reopen = messages._reopen

    def reopened(state: HubState, instance: Instance, now: Millis) -> None:
        reopen(state, instance, now)
        instance.updated_at = now

    patch.setattr(messages, "_reopen", reopened)

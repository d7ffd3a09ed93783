"""Mistakes that the cases of names find out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from perdure.spi import (
    ActivityBatch,
    ClaimActivities,
    ClaimTurns,
    Lease,
    Message,
    Millis,
    NewInstance,
    OrchestrationStatus,
    Outcome,
    TurnBatch,
    TurnCommit,
    TurnItem,
)
from perdure_conformance.mutant import mutant
from perdure_conformance.mutants.schemas import change_effect
from perdure_memory import activities, instances, messages, turns
from perdure_memory import hub as memory_hub
from perdure_memory.inbox import Inbox, PendingMessage
from perdure_memory.ownership import Ownership
from perdure_memory.state import HubState, Instance
from perdure_sql import Found, commits, effects
from perdure_sql import turns as sql_turns
from perdure_sql.rows import HOT, SEEN_ALL, InstanceRow
from perdure_sql.work import Work
from perdure_sqlite.provider import SQLiteProvider
from perdure_sqlite.transaction import SQLiteTransaction


@mutant("176", "NMS-06", source="history is written by seq, with an upsert", base="sqlite")
def a_rewrite_leaves_the_rows_of_before(patch: pytest.MonkeyPatch) -> None:
    """A rewrite takes the rows of history that it writes over, and leaves those behind them."""

    def keep_rows(self: Work, row: InstanceRow) -> None:
        row.next_seq = 0

    patch.setattr(Work, "drop_history", keep_rows)
    change_effect(patch, effects.INSERT_HISTORY, "INSERT INTO", "INSERT OR REPLACE INTO")


@mutant("191a", "NMS-01", "NMS-02", source="the filter is on turns alone")
def names_do_not_filter_activities(patch: pytest.MonkeyPatch) -> None:
    """A claim of activities returns those of every name."""

    def claim(state: HubState, request: ClaimActivities, max_items: int, now: Millis) -> ActivityBatch:
        return activities.claim_activities(state, replace(request, names=None), max_items, now)

    patch.setattr(memory_hub, "claim_activities", claim)


@mutant("191b", "NMS-01", source="if names:")
def no_names_are_all_names(patch: pytest.MonkeyPatch) -> None:
    """A claim with the empty set of names returns all of them."""

    def claim(state: HubState, request: ClaimTurns, max_items: int, now: Millis) -> TurnBatch:
        return turns.claim_turns(state, replace(request, names=request.names or None), max_items, now)

    patch.setattr(memory_hub, "claim_turns", claim)


@mutant("191c", "NMS-01", source="one is claimed more than asked for, before the names are looked at")
def more_counts_other_names(patch: pytest.MonkeyPatch) -> None:
    """`more` is True where something is left, be it of names that were not asked for."""

    def claim(state: HubState, request: ClaimActivities, max_items: int, now: Millis) -> ActivityBatch:
        batch = activities.claim_activities(state, request, max_items, now)
        left = any(at <= now for at, _ in state.queue)
        return replace(batch, more=left) if batch.items else batch

    patch.setattr(memory_hub, "claim_activities", claim)


@mutant("192a", "NMS-13", source="MIN over the whole hub")
def next_due_speaks_of_every_name(patch: pytest.MonkeyPatch) -> None:
    """`next_due` of a claim of turns is the earliest of the hub, whatever names were asked for."""
    next_due = turns._next_due

    def of_all(state: HubState, request: ClaimTurns, kept: Iterable[Instance], now: Millis) -> Millis | None:
        return next_due(state, replace(request, names=None), kept, now)

    patch.setattr(turns, "_next_due", of_all)


@mutant("192b", "NMS-13", source="the filter by queue is forgotten in one of two queries")
def next_due_speaks_of_every_queue(patch: pytest.MonkeyPatch) -> None:
    """`next_due` of a claim of activities is the earliest of their names in any queue."""

    def claim(state: HubState, request: ClaimActivities, max_items: int, now: Millis) -> ActivityBatch:
        batch = activities.claim_activities(state, request, max_items, now)
        names = request.names
        dues = (max(at, now) for at, found in state.queue if names is None or found.name in names)
        return replace(batch, next_due=next(dues, None))

    patch.setattr(memory_hub, "claim_activities", claim)


@mutant("193", "NMS-02", source="claimed, looked at and given back")
def what_is_not_asked_for_is_claimed_and_given_back(patch: pytest.MonkeyPatch) -> None:
    """A claim counts an attempt of ready instances whose names it didn't ask for."""

    def claim(state: HubState, request: ClaimTurns, max_items: int, now: Millis) -> TurnBatch:
        if request.names is not None:
            for at, instance in state.turns:
                if at <= now and instance.name not in request.names:
                    instance.ownership.attempt += 1
        return turns.claim_turns(state, request, max_items, now)

    patch.setattr(memory_hub, "claim_turns", claim)


@mutant("194a", "NMS-03", source="if commit.memo:")
def an_empty_memo_is_not_stored(patch: pytest.MonkeyPatch) -> None:
    """A memo that is empty or None keeps the one from before."""
    set_state = turns._set_state

    def truthy(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        before = instance.memo
        set_state(state, instance, commit, now)
        instance.memo = instance.memo or before

    patch.setattr(turns, "_set_state", truthy)


@mutant("194b", "NMS-03", source="a new row for a new execution")
def continuing_forgets_the_memo(patch: pytest.MonkeyPatch) -> None:
    """The memo goes with the execution."""
    set_state = turns._set_state

    def forget(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        if commit.continued is not None:
            instance.memo = None
        set_state(state, instance, commit, now)

    patch.setattr(turns, "_set_state", forget)


@mutant("194c", "NMS-03", source="a row of states by id, and not by incarnation")
def a_replacement_finds_the_memo(patch: pytest.MonkeyPatch) -> None:
    """An instance that replaces another one has its memo."""
    create = instances.create_instance

    def inherit(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        before = state.instances.get(new.id)
        outcome = create(state, new, now, settled)
        if before is not None and outcome is Outcome.REPLACED:
            state.instances[new.id].memo = before.memo
        return outcome

    patch.setattr(instances, "create_instance", inherit)


@mutant("195a", "NMS-04", "NMS-14", source="DELETE WHERE key=?")
def whatever_is_settled_is_deleted(patch: pytest.MonkeyPatch) -> None:
    """A commit deletes the activities that it says are settled, whoever has their leases."""

    def settle(state: HubState, instance: Instance, commit: TurnCommit) -> None:
        for lease in commit.settled:
            activity = state.activities.get(lease.key)
            if activity is not None:
                state.remove_activity(activity)

    patch.setattr(turns, "_settle", settle)


@mutant("195g", "NMS-04", source="DELETE WHERE key=? AND token=?")
def other_instances_activities_are_settled(patch: pytest.MonkeyPatch) -> None:
    """A commit settles activities of other instances too."""

    def settle(state: HubState, instance: Instance, commit: TurnCommit) -> None:
        for lease in commit.settled:
            activity = state.activities.get(lease.key)
            if activity is not None and activity.ownership.grants(lease):
                state.remove_activity(activity)

    patch.setattr(turns, "_settle", settle)


@mutant("195b", "NMS-04", source="a stolen lease is an error")
def a_stolen_settled_lease_fails_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A commit is LOST if one of the activities that it settled is somebody else's now."""
    commit_turn = turns._commit_turn

    def strict(state: HubState, commit: TurnCommit, now: Millis, limits: Any) -> Outcome:
        for lease in commit.settled:
            activity = state.activities.get(lease.key)
            if activity is None or not activity.ownership.grants(lease):
                return Outcome.LOST
        return commit_turn(state, commit, now, limits)

    patch.setattr(turns, "_commit_turn", strict)


@mutant("195c", "NMS-14", source="deletes are written before inserts", base="sqlite")
def what_was_scheduled_again_is_not_settled(patch: pytest.MonkeyPatch) -> None:
    """An activity that one commit of a batch schedules again, and the next one settles, comes anew."""
    settle = Work.settle

    def without_flush(self: Work, row: InstanceRow, lease: Lease) -> None:
        scheduling, self._scheduling = self._scheduling, set()
        settle(self, row, lease)
        self._scheduling = scheduling

    patch.setattr(Work, "settle", without_flush)


@mutant("196a", "NMS-07", "NMS-09", source="a column that nobody clears")
def a_failure_stays(patch: pytest.MonkeyPatch) -> None:
    """The failure of an instance stays when its end is taken back."""
    reopen = messages._reopen

    def keep(state: HubState, instance: Instance, now: Millis) -> None:
        failure = instance.failure
        reopen(state, instance, now)
        instance.failure = failure

    patch.setattr(messages, "_reopen", keep)


@mutant("196b", "NMS-07", source="the field is stored as it comes", base="sqlite")
def a_failure_is_kept_with_any_status(patch: pytest.MonkeyPatch) -> None:
    """The failure of a commit is stored whatever its status is."""
    set_state = commits._set_state

    def keep(work: Work, row: InstanceRow, commit: TurnCommit) -> None:
        set_state(work, row, commit)
        work.set_state(row, "failure", commit.failure)

    patch.setattr(commits, "_set_state", keep)


@mutant("196c", "NMS-15", source="the memo lives in a cache", base="sqlite")
def a_memo_is_gone_after_a_reopening(patch: pytest.MonkeyPatch) -> None:
    """Whoever opens the store anew finds no memo."""
    opening = SQLiteProvider.open

    def forget(self: SQLiteProvider) -> None:
        opening(self)
        self.store().write(lambda db: db.execute("UPDATE perdure_states SET memo = NULL"))

    patch.setattr(SQLiteProvider, "open", forget)


@mutant("197a", "NMS-08", source="the delay is a WHERE of every claim")
def control_messages_wait_for_the_release_delay(patch: pytest.MonkeyPatch) -> None:
    """A control message doesn't make an instance claimable before its release delay is over."""
    ready_at = Instance.ready_at

    def delayed(self: Instance, names: Any = None, *, as_holder: bool = False) -> Millis | None:
        moment = ready_at(self, names, as_holder=as_holder)
        return None if moment is None else max(moment, self.ownership.hidden_until)

    patch.setattr(Instance, "ready_at", delayed)


@mutant("197b", "NMS-08", source="the names are a WHERE of every claim", base="sqlite")
def control_messages_are_filtered_by_name(patch: pytest.MonkeyPatch) -> None:
    """A control message doesn't make an instance claimable for whoever did not ask for its name."""
    ready, name = SQLiteTransaction.ready_turns, HOT.index("name")

    def named(
        self: SQLiteTransaction, hub: int, names: Collection[str], now: Millis, most: int, held: Mapping[int, object]
    ) -> Found:
        found = [values for values in ready(self, hub, names, now, 10**6, held).rows if values[name] in names]
        return Found(rows=found[:most], more=len(found) > most)

    patch.setattr(SQLiteTransaction, "ready_turns", named)


@mutant("197c", "NMS-08", source="terminate at once")
def control_messages_break_leases(patch: pytest.MonkeyPatch) -> None:
    """A control message ends the lease that is on its instance."""
    deliver = messages.deliver

    def breaking(state: HubState, message: Message, now: Millis, *, from_client: bool = False) -> Outcome:
        outcome = deliver(state, message, now, from_client=from_client)
        if outcome is Outcome.OK and message.control:
            instance = state.instances[message.instance]
            instance.ownership.token = None
            state.reschedule(instance)
        return outcome

    patch.setattr(messages, "deliver", breaking)


@mutant("197d", "NMS-08", source="the claim for control messages returns the instance as any other")
def control_messages_bring_the_start_along(patch: pytest.MonkeyPatch) -> None:
    """An instance that is claimable by a control message delivers everything, before its start is due."""
    deliver = Inbox.deliver

    def everything(self: Inbox, now: Millis, at_most: int, token: str, *, only_control: bool) -> list[PendingMessage]:
        start = self._by_id.get("@start")
        if start is not None and start.due > now and not only_control:
            self.remove("@start")
            self.add(replace(start, due=now))
        return deliver(self, now, at_most, token, only_control=only_control)

    patch.setattr(Inbox, "deliver", everything)


@mutant("197e", "NMS-16", source="LIMIT before the filter")
def a_cut_starves_control_messages(patch: pytest.MonkeyPatch) -> None:
    """To a worker without the name, control messages are delivered from the first `max_messages` alone."""
    deliver = Inbox.deliver

    def cut_first(self: Inbox, now: Millis, at_most: int, token: str, *, only_control: bool) -> list[PendingMessage]:
        if not only_control:
            return deliver(self, now, at_most, token, only_control=False)
        front = {message.id for message in deliver(self, now, at_most, token, only_control=False)}
        found = [message for message in deliver(self, now, at_most, token, only_control=True) if message.id in front]
        self._delivered = {message.id for message in found}
        return found

    patch.setattr(Inbox, "deliver", cut_first)


@mutant("197f", "NMS-08", "NMS-16", source="what was shown is not kept", base="sqlite")
def a_worker_without_the_name_may_consume_everything(patch: pytest.MonkeyPatch) -> None:
    """A commit consumes whatever it names of what was due at its claim, though only control messages were delivered."""
    patch.setattr(sql_turns, "SEEN_CONTROL", SEEN_ALL)
    patch.setattr(sql_turns, "SEEN_START", SEEN_ALL)


@mutant("198a", "NMS-09", source="a status and no more")
def reopening_leaves_the_output(patch: pytest.MonkeyPatch) -> None:
    """An end that is taken back leaves its output and completed_at."""

    def set_running(state: HubState, instance: Instance, now: Millis) -> None:
        instance.status = OrchestrationStatus.RUNNING
        instance.failure = None
        state.touch(instance, now)

    patch.setattr(messages, "_reopen", set_running)


@mutant("198b", "NMS-09", source="clients' messages alone are looked at for it")
def a_commit_reopens_nothing(patch: pytest.MonkeyPatch) -> None:
    """The message of a commit that would reopen an instance is dropped."""
    deliver = turns.__dict__["deliver"]

    def plain(state: HubState, message: Message, now: Millis) -> Outcome:
        outcome: Outcome = deliver(state, replace(message, reopen=frozenset()), now)
        return outcome

    patch.setattr(turns, "deliver", plain)


@mutant("198c", "NMS-09", source="if message.reopen:")
def any_reopening_message_reopens(patch: pytest.MonkeyPatch) -> None:
    """A message that would reopen an instance of some statuses reopens one of any."""
    refusal = messages._refusal

    def lax(state: HubState, message: Message, now: Millis) -> Outcome | None:
        statuses = frozenset(OrchestrationStatus) if message.reopen else frozenset()
        return refusal(state, replace(message, reopen=statuses), now)

    patch.setattr(messages, "_refusal", lax)


@mutant("198d", "NMS-10", source="replace_if is looked at first")
def a_repeated_create_replaces(patch: pytest.MonkeyPatch) -> None:
    """A create that is repeated when its instance has ended replaces it."""
    create = instances.create_instance

    def replace_first(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        existing = state.instances.get(new.id)
        if existing is not None and existing.status.is_terminal and existing.status in new.replace_if:
            existing.generation = ""
        return create(state, new, now, settled)

    patch.setattr(instances, "create_instance", replace_first)
    patch.setattr(turns, "create_instance", replace_first)


@mutant("198e", "NMS-10", source="an insert that answers whether there was one")
def a_repeated_create_exists(patch: pytest.MonkeyPatch) -> None:
    """A create that is repeated is EXISTS: whoever lost the answer can't tell that it was their own."""
    create = instances.create_instance

    def unaware(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        outcome = create(state, new, now, settled)
        return Outcome.EXISTS if outcome is Outcome.ALREADY else outcome

    patch.setattr(instances, "create_instance", unaware)
    patch.setattr(turns, "create_instance", unaware)


@mutant("199a", "NMS-11", source="one column for both")
def status_rev_moves_with_every_commit(patch: pytest.MonkeyPatch) -> None:
    """status_rev is the rev of the last commit, whether or not that set the custom status."""
    set_state = turns._set_state

    def move(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        set_state(state, instance, commit, now)
        instance.status_rev = instance.rev

    patch.setattr(turns, "_set_state", move)


@mutant("199b", "NMS-11", source="compared with the value from before")
def the_same_status_again_is_no_change(patch: pytest.MonkeyPatch) -> None:
    """status_rev moves only where the custom status is another one than before."""
    set_state = turns._set_state

    def compare(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        before, rev = instance.custom_status, instance.status_rev
        set_state(state, instance, commit, now)
        if instance.custom_status == before:
            instance.status_rev = rev

    patch.setattr(turns, "_set_state", compare)


@mutant("199c", "NMS-11", source="a new row counts from 1")
def a_replacement_counts_its_revs_anew(patch: pytest.MonkeyPatch) -> None:
    """The rev of an instance that replaces another one starts from the beginning."""
    create = instances.create_instance

    def count_anew(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        outcome = create(state, new, now, settled)
        if outcome is Outcome.REPLACED:
            state.instances[new.id].rev = 1
        return outcome

    patch.setattr(instances, "create_instance", count_anew)


@mutant("199d", "NMS-12", source="MIN over what is free")
def next_due_passes_over_leased_items(patch: pytest.MonkeyPatch) -> None:
    """`next_due` doesn't count the expiry of leases under which work waits."""
    next_due = turns._next_due

    def of_free(state: HubState, request: ClaimTurns, kept: Iterable[Instance], now: Millis) -> Millis | None:
        with pytest.MonkeyPatch.context() as inner:
            never = 10**15
            inner.setattr(Ownership, "leased_until", lambda self: never if self.token is not None else 0)
            found = next_due(state, request, kept, now)
        return found if found is None or found < never else None

    patch.setattr(turns, "_next_due", of_free)


@mutant("199e", "NMS-12", source="leases and release delays are columns of their own")
def next_due_passes_over_release_delays(patch: pytest.MonkeyPatch) -> None:
    """`next_due` doesn't count the ends of release delays."""
    claim_turns = turns.claim_turns

    def claim(state: HubState, request: ClaimTurns, max_items: int, now: Millis) -> TurnBatch:
        batch = claim_turns(state, request, max_items, now)
        delays = {instance.ownership.hidden_until for _, instance in state.turns}
        return replace(batch, next_due=None) if batch.next_due in delays else batch

    patch.setattr(memory_hub, "claim_turns", claim)


@mutant("520", "NMS-08", source="control before delay, and nothing else")
def a_delay_that_is_overridden_holds_the_rest_back(patch: pytest.MonkeyPatch) -> None:
    """A claim that gets a hidden instance for a control message gets control messages alone, though it asks for its
    name."""
    lease_turn = turns._lease_turn

    def narrowed(state: HubState, instance: Instance, request: ClaimTurns, now: Millis, held: Lease | None) -> TurnItem:
        is_hidden = instance.ownership.hidden_until > now
        return lease_turn(state, instance, replace(request, names=()) if is_hidden else request, now, held)

    patch.setattr(turns, "_lease_turn", narrowed)


@mutant("521", "NMS-08", source="a column that the claim's UPDATE leaves out")
def a_claim_leaves_the_release_delay(patch: pytest.MonkeyPatch) -> None:
    """A claim that a control message made possible leaves the release delay in force for what comes after it."""
    claim = Ownership.claim

    def claim_without_delay(self: Ownership, fence: int, expires_at: Millis) -> Lease:
        hidden_until = self.hidden_until
        lease = claim(self, fence, expires_at)
        self.hidden_until = hidden_until
        return lease

    patch.setattr(Ownership, "claim", claim_without_delay)


@mutant("522", "NMS-09", source="`status IN reopen` alone")
def whatever_reopen_names_is_reopened(patch: pytest.MonkeyPatch) -> None:
    """A message whose `reopen` names a status that is no end turns such an instance RUNNING and clears its output."""
    deliver = messages.deliver

    def reopening(state: HubState, message: Message, now: Millis, *, from_client: bool = False) -> Outcome:
        outcome = deliver(state, message, now, from_client=from_client)
        instance = state.instances.get(message.instance)
        if outcome is Outcome.OK and instance is not None and instance.status in message.reopen:
            messages._reopen(state, instance, now)
        return outcome

    for module in (messages, turns, activities):
        patch.setattr(module, "deliver", reopening)

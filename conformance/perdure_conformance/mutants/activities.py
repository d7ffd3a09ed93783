"""Mistakes that the cases of activities find out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from perdure.spi import (
    Activity,
    ActivityBatch,
    ActivityDone,
    ClaimActivities,
    Exchange,
    ExchangeResult,
    Hub,
    Lease,
    LeaseKind,
    Message,
    Millis,
    NewActivity,
    Outcome,
    Release,
    TurnCommit,
)
from perdure_conformance.mutant import mutant
from perdure_memory import activities, hub, leases, turns
from perdure_memory.messages import deliver
from perdure_memory.ownership import Ownership
from perdure_memory.state import HubState, Instance, StoredActivity


def _order_activities(patch: pytest.MonkeyPatch, order: str) -> None:
    """Have SQLite claim activities in another order; `{0}` is the table."""
    from perdure_sqlite import agenda  # noqa: PLC0415 - its driver is not everywhere

    statement = agenda.READY_ACTIVITIES
    for table in ("perdure_activities", "j"):
        right = f'ORDER BY {table}.available_at, {table}."key"'
        assert right in statement
        statement = statement.replace(right, "ORDER BY " + order.format(table))
    patch.setattr(agenda, "READY_ACTIVITIES", statement)


def _patch_activity_release(patch: pytest.MonkeyPatch, **fields: Any) -> None:
    """Have activities released in another way than was asked for."""
    release = leases._release

    def altered(state: HubState, item: Release, now: Millis) -> Outcome:
        return release(state, replace(item, **fields) if item.lease.kind is LeaseKind.ACTIVITY else item, now)

    patch.setattr(leases, "_release", altered)


@mutant("27a", "SCH-09", source="a naive retry decorator")
def a_repeated_completion_is_applied_again(patch: pytest.MonkeyPatch) -> None:
    """Completing an activity that is gone already is taken for a retry: it is OK and delivers its message."""
    complete = activities._complete_activity

    def again(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        if done.lease.key in state.activities:
            return complete(state, done, now)
        if done.message is not None:
            deliver(state, done.message, now)
        return Outcome.OK

    patch.setattr(activities, "_complete_activity", again)


@mutant("31", "SCH-11", source="duroxide-pg 0.1.17")
def cancels_apply_before_the_inserts(patch: pytest.MonkeyPatch) -> None:
    """What a commit schedules and cancels is there afterwards."""

    def cancel_first(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        cancelled = set(instance.activities) if commit.cancel_all else set(commit.cancel_activities)
        for activity_id in cancelled & instance.activities.keys():
            state.remove_activity(instance.activities[activity_id])
        for new in commit.activities:
            state.add_activity(instance, new, now)

    patch.setattr(turns, "_change_activities", cancel_first)


@mutant("32", "SCH-12", source="the order of statements")
def cancel_all_takes_the_new_ones(patch: pytest.MonkeyPatch) -> None:
    """`cancel_all` also cancels what the same commit schedules."""
    change = turns._change_activities

    def cancel_last(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        change(state, instance, commit, now)
        if commit.cancel_all:
            state.remove_activities(instance)

    patch.setattr(turns, "_change_activities", cancel_last)


@mutant("35", "SCH-10", "SCH-02", "SCH-17", source="durabletask-python CompleteActivityTask")
def completions_are_not_fenced(patch: pytest.MonkeyPatch) -> None:
    """An activity is completed by whoever names it, with whatever token."""
    complete = activities._complete_activity

    def unfenced(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        activity = state.activities.get(done.lease.key)
        if activity is not None:
            activity.ownership.token = done.lease.token
        return complete(state, done, now)

    patch.setattr(activities, "_complete_activity", unfenced)


@mutant("35a", "SCH-10", source="a hub that is left out of one WHERE", base="sqlite")
def completions_reach_other_hubs(patch: pytest.MonkeyPatch) -> None:
    """A lease of one hub completes its activity through another hub."""
    from perdure_conformance.mutants.schemas import change_statement, only_within  # noqa: PLC0415
    from perdure_sql import hub as sql_hub  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sqlite import transaction  # noqa: PLC0415

    right = "(+ perdure_activities.hub) = ?"
    only_within(
        patch,
        sql_hub,
        "complete_activities",
        lambda inner: change_statement(inner, transaction, "ACTIVITY_ROWS", right, "? > 0"),
    )


@mutant("36", "SCH-14", source="a missing check of the row")
def cancelled_activities_are_only_hidden(patch: pytest.MonkeyPatch) -> None:
    """A cancelled activity is never claimed again, but whoever has it can renew and complete it."""

    def hide(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        cancelled = list(instance.activities.values()) if commit.cancel_all else []
        for new in commit.activities:
            state.add_activity(instance, new, now)
        cancelled += [item for item in instance.activities.values() if item.id in commit.cancel_activities]
        for activity in cancelled:
            activity.due = 2**60
            state.reschedule_activity(activity)

    patch.setattr(turns, "_change_activities", hide)


@mutant("36a", "SCH-14", "SCH-19", source="one answer for everything that is not found")
def a_cancelled_activity_is_lost(patch: pytest.MonkeyPatch) -> None:
    """Renewing an activity that was cancelled answers LOST, so that its worker can't tell why."""
    renew = leases._renew

    def lose(state: HubState, lease: Lease, expires_at: Millis) -> tuple[Outcome, Lease | None]:
        outcome, renewed = renew(state, lease, expires_at)
        return (Outcome.LOST if outcome is Outcome.CANCELLED else outcome), renewed

    patch.setattr(leases, "_renew", lose)


@mutant("37", "SCH-23", "SCH-02", source="a queue by `DELETE RETURNING`", base="sqlite")
def a_claim_deletes_the_activity(patch: pytest.MonkeyPatch) -> None:
    """An activity is gone once it was claimed: with the worker that dies goes the work."""
    from perdure_sql import effects  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sqlite import transaction  # noqa: PLC0415

    statement = "DELETE FROM perdure_activities WHERE key = ?6"
    patch.setitem(transaction.EFFECTS, effects.LEASE_ACTIVITY, statement)


@mutant("38", "SCH-07", "SCH-08", "SCH-09", source="a missing delete")
def completed_activities_are_kept(patch: pytest.MonkeyPatch) -> None:
    """A completed activity stays, is run again after its lease, and can be completed again."""

    def keep(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        activity = state.activities.get(done.lease.key)
        if activity is None or not activity.ownership.grants(done.lease):
            return Outcome.LOST
        if done.message is not None:
            deliver(state, done.message, now)
        return Outcome.OK

    patch.setattr(activities, "_complete_activity", keep)


@mutant("40", "SCH-03", "SCH-18", source="the order of an index", base="sqlite")
def activities_are_claimed_last_in_first_out(patch: pytest.MonkeyPatch) -> None:
    """Of several activities the one scheduled last is claimed first."""
    _order_activities(patch, '{0}.available_at DESC, {0}."key" DESC')


@mutant("51", "SCH-19", "LIF-11", source="a status that is set, and nothing else")
def the_end_leaves_activities(patch: pytest.MonkeyPatch) -> None:
    """The activities of an instance that has ended stay claimable, and can be completed."""
    leave = turns._leave

    def leave_them(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        left = dict(instance.activities)
        instance.activities.clear()
        leave(state, instance, commit, now)
        instance.activities.update(left)

    patch.setattr(turns, "_leave", leave_them)


@mutant("130", "SCH-11", source="statements in a fixed order, deletions first", base="sqlite")
def a_cancel_is_written_before_the_insert(patch: pytest.MonkeyPatch) -> None:
    """What a commit schedules and cancels is inserted after the delete found nothing."""
    from perdure_sql.rows import InstanceRow  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sql.work import Work  # noqa: PLC0415

    def delete_only(work: Work, row: InstanceRow, id_: str) -> None:
        work._cancelled.append((row.key, id_))

    patch.setattr(Work, "cancel_activity", delete_only)


@mutant("131", "SCH-15", "SCH-13", "SCH-14", source="an instance that is left out of one WHERE", base="sqlite")
def a_cancel_reaches_other_instances(patch: pytest.MonkeyPatch) -> None:
    """Cancelling an activity cancels those of the same id in every instance."""
    from perdure_sql import effects  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sqlite import transaction  # noqa: PLC0415

    statement = "DELETE FROM perdure_activities WHERE ? > 0 AND id = ?"
    patch.setitem(transaction.EFFECTS, effects.DELETE_ACTIVITY, statement)


@mutant("132", "SCH-12", source="a wipe before the inserts", base="sqlite")
def cancel_all_lets_a_known_one_come_anew(patch: pytest.MonkeyPatch) -> None:
    """With `cancel_all` an activity from before that is scheduled once more comes back."""
    from perdure_sql.work import Work  # noqa: PLC0415 - its driver is not everywhere

    patch.setattr(Work, "activity_ids", lambda _work, _row: set())


@mutant("133", "SCH-16", source="`INSERT OR REPLACE`", base="sqlite")
def scheduling_again_overwrites(patch: pytest.MonkeyPatch) -> None:
    """An activity that is scheduled once more is a new one: its lease and its count are gone."""
    from perdure_conformance.mutants.schemas import change_effect  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sql import effects  # noqa: PLC0415

    change_effect(patch, effects.INSERT_ACTIVITY, "OR IGNORE", "OR REPLACE")


@mutant("133a", "SCH-16", source="a table of ids against duplicates")
def an_activity_id_is_used_up(patch: pytest.MonkeyPatch) -> None:
    """An activity that is done or was settled can't be scheduled once more under its id."""
    used: WeakKeyDictionary[HubState, set[tuple[int, str]]] = WeakKeyDictionary()
    add = HubState.add_activity

    def add_once(state: HubState, instance: Instance, new: NewActivity, now: Millis) -> None:
        place = (instance.number, new.id)
        here = used.setdefault(state, set())
        if place not in here:
            here.add(place)
            add(state, instance, new, now)

    patch.setattr(HubState, "add_activity", add_once)


@mutant("134", "SCH-19", "SCH-12", "SCH-15", source="the wrong key in one WHERE", base="sqlite")
def the_end_takes_all_activities_of_the_hub(patch: pytest.MonkeyPatch) -> None:
    """When an instance ends, or cancels all its activities, those of every other go too."""
    from perdure_sql import effects  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sqlite import transaction  # noqa: PLC0415

    statement = "DELETE FROM perdure_activities WHERE hub = (SELECT i.hub FROM perdure_instances AS i WHERE i.key = ?)"
    # Another one than that with which a whole instance is deleted.
    wipe = replace(effects.WIPE_ACTIVITIES)
    patch.setitem(transaction.EFFECTS, wipe, statement)
    patch.setattr(effects, "WIPE_ACTIVITIES", wipe)


@mutant("135", "SCH-01", "SCH-02", "SCH-17", source="a count returned from before the update")
def the_first_attempt_is_0(patch: pytest.MonkeyPatch) -> None:
    """An activity is claimed with the number of claims before this one."""
    lease_activity = activities._lease_activity

    def from_before(state: HubState, activity: StoredActivity, expires_at: Millis) -> Activity:
        item = lease_activity(state, activity, expires_at)
        return replace(item, attempt=item.attempt - 1)

    patch.setattr(activities, "_lease_activity", from_before)


@mutant("136", "SCH-02", source="`<` instead of `<=`")
def an_activity_lease_lasts_one_ms_longer(patch: pytest.MonkeyPatch) -> None:
    """An activity is not claimable at the moment at which its lease expires."""
    ready_at = StoredActivity.ready_at

    def later(activity: StoredActivity) -> Millis:
        return ready_at(activity) + (activity.ownership.token is not None)

    patch.setattr(StoredActivity, "ready_at", later)


@mutant("137", "SCH-03", source="the order of an index", base="sqlite")
def activities_are_claimed_by_queue_and_name(patch: pytest.MonkeyPatch) -> None:
    """Activities are claimed queue by queue and name by name, so that the last of them may starve."""
    _order_activities(patch, '{0}.queue, {0}.name, {0}.available_at, {0}."key"')


@mutant("138", "SCH-05", source="`if request.queues`")
def no_queues_are_all_queues(patch: pytest.MonkeyPatch) -> None:
    """A claim for no queue gets activities of every queue."""
    claim = activities.claim_activities

    def any_queue(state: HubState, request: ClaimActivities, max_items: int, now: Millis) -> ActivityBatch:
        if not request.queues:
            request = replace(request, queues={activity.queue for activity in state.activities.values()})
        return claim(state, request, max_items, now)

    patch.setattr(hub, "claim_activities", any_queue)


@mutant("139", "SCH-05", source="a MIN over the whole table")
def next_due_is_that_of_any_queue(patch: pytest.MonkeyPatch) -> None:
    """`next_due` speaks of activities that the request can't have."""
    claim = activities.claim_activities

    def of_any(state: HubState, request: ClaimActivities, max_items: int, now: Millis) -> ActivityBatch:
        batch = claim(state, request, max_items, now)
        return replace(batch, next_due=next((max(at, now) for at, _ in state.queue), None))

    patch.setattr(hub, "claim_activities", of_any)


@mutant("140", "SCH-06", source="a column that is written and not read")
def the_due_time_of_an_activity_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """An activity scheduled for later is claimable at once."""
    add = HubState.add_activity

    def at_once(state: HubState, instance: Instance, new: NewActivity, now: Millis) -> None:
        add(state, instance, replace(new, due=0), now)

    patch.setattr(HubState, "add_activity", at_once)


@mutant("141", "SCH-08", source="`if done.message` around both")
def completing_without_a_message_does_nothing(patch: pytest.MonkeyPatch) -> None:
    """An activity completed without a message stays, and is run again after its lease."""
    complete = activities._complete_activity

    def only_with_message(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        activity = state.activities.get(done.lease.key)
        if done.message is None and activity is not None and activity.ownership.grants(done.lease):
            return Outcome.OK
        return complete(state, done, now)

    patch.setattr(activities, "_complete_activity", only_with_message)


@mutant("142", "SCH-13", source="tombstones")
def a_cancel_of_nothing_waits_for_its_activity(patch: pytest.MonkeyPatch) -> None:
    """An activity whose id was cancelled before it was scheduled never comes."""
    cancelled: WeakKeyDictionary[HubState, set[tuple[int, str]]] = WeakKeyDictionary()
    change = turns._change_activities

    def remember(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        here = cancelled.setdefault(state, set())
        new = [item for item in commit.activities if (instance.number, item.id) not in here]
        here.update((instance.number, activity_id) for activity_id in commit.cancel_activities)
        change(state, instance, replace(commit, activities=new), now)

    patch.setattr(turns, "_change_activities", remember)


@mutant("142a", "SCH-13", source="a count of affected rows that must be right")
def a_cancel_of_nothing_is_an_error(patch: pytest.MonkeyPatch) -> None:
    """A commit that cancels an activity that is not there raises."""

    def strict(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        before = set(instance.activities) if commit.cancel_all else set()
        for new in commit.activities:
            state.add_activity(instance, new, now)
        for activity_id in before.union(commit.cancel_activities):
            state.remove_activity(instance.activities[activity_id])

    patch.setattr(turns, "_change_activities", strict)


@mutant("143", "SCH-17", source="a delay that only turns have")
def an_activity_is_released_without_delay(patch: pytest.MonkeyPatch) -> None:
    """An activity given back for later is claimable at once."""
    _patch_activity_release(patch, delay_ms=0)


@mutant("143a", "SCH-17", source="a count that only turns have")
def a_released_activity_is_always_penalized(patch: pytest.MonkeyPatch) -> None:
    """An activity given back without penalty counts the attempt all the same."""
    _patch_activity_release(patch, penalize=True)


@mutant("144", "SCH-18", source="portions, against a limit on parameters", base="sqlite")
def the_rest_of_many_activities_is_lost(patch: pytest.MonkeyPatch) -> None:
    """Of many activities in one commit only whole portions are inserted."""
    from perdure_sql.work import Work  # noqa: PLC0415 - its driver is not everywhere

    portion = 64
    flush = Work._flush_insertions

    def whole_portions(work: Work) -> None:
        count = len(work._activities)
        if count > portion:
            work._activities = dict(list(work._activities.items())[: count - count % portion])
        flush(work)

    patch.setattr(Work, "_flush_insertions", whole_portions)


@mutant("144a", "SCH-18", "SCH-05", source="a full answer taken for a cut one")
def more_is_true_where_the_answer_is_full(patch: pytest.MonkeyPatch) -> None:
    """`more` is True whenever as many came as were asked for."""
    claim = activities.claim_activities

    def full(state: HubState, request: ClaimActivities, max_items: int, now: Millis) -> ActivityBatch:
        batch = claim(state, request, max_items, now)
        return replace(batch, more=batch.more or (max_items > 0 and len(batch.items) == max_items))

    patch.setattr(hub, "claim_activities", full)


@mutant("145", "SCH-23", source="a counter in the process", base="sqlite")
def attempts_are_counted_in_the_process(patch: pytest.MonkeyPatch) -> None:
    """The attempts of activities are forgotten when the store is closed."""
    from perdure_conformance.mutants.schemas import change_effect  # noqa: PLC0415 - its driver is not everywhere
    from perdure_sql import effects  # noqa: PLC0415
    from perdure_sqlite.hub import SQLiteHub  # noqa: PLC0415

    counts: dict[int, Counter[str]] = {}
    claim = SQLiteHub.claim_activities

    def count(handle: SQLiteHub, request: ClaimActivities) -> ActivityBatch:
        batch = claim(handle, request)
        counted = counts.setdefault(id(handle._provider.store()), Counter())
        counted.update(item.lease.key for item in batch.items)
        items = [replace(item, attempt=counted[item.lease.key]) for item in batch.items]
        return replace(batch, items=items)

    patch.setattr(SQLiteHub, "claim_activities", count)
    change_effect(patch, effects.LEASE_ACTIVITY, "attempt=?", "attempt=attempt + 0 * ?")


@mutant("145a", "SCH-23", source="a recovery at the start that knows of one process only", base="sqlite")
def opening_frees_what_is_leased(patch: pytest.MonkeyPatch) -> None:
    """Whoever opens the store takes the activities away from those who work on them."""
    from perdure_sqlite import SQLiteProvider  # noqa: PLC0415 - its driver is not everywhere

    open_ = SQLiteProvider.open

    def recover(provider: SQLiteProvider) -> None:
        open_(provider)
        provider.store().write(lambda db: db.execute("UPDATE perdure_activities SET lease_until = 0"))

    patch.setattr(SQLiteProvider, "open", recover)


@mutant("146", "SCH-24", source="an expiry check in the fence")
def an_expired_activity_lease_is_lost(patch: pytest.MonkeyPatch) -> None:
    """An activity lease that has expired can't be renewed, even though nobody took the activity."""
    renew_all = leases.renew_leases

    def unexpired(
        state: HubState, asked: Sequence[Lease], for_ms: int, now: Millis
    ) -> list[tuple[Outcome, Lease | None]]:
        for lease in asked:
            activity = state.activities.get(lease.key) if lease.kind is LeaseKind.ACTIVITY else None
            if activity is not None and activity.ownership.leased_until() <= now:
                activity.ownership.token = None
        return renew_all(state, asked, for_ms, now)

    patch.setattr(hub, "renew_leases", unexpired)


@mutant("146a", "SCH-24", source="`lease_until = ?`")
def a_renewal_shortens_a_lease(patch: pytest.MonkeyPatch) -> None:
    """Renewing for less time than is left takes the rest away."""
    extend = Ownership.extend

    def exactly(ownership: Ownership, lease: Lease, expires_at: Millis) -> Lease:
        ownership.expires_at = expires_at
        return extend(ownership, lease, expires_at)

    patch.setattr(Ownership, "extend", exactly)


@mutant("147", "SCH-25", source="the answer of the delivery taken for that of the item")
def an_undeliverable_result_is_lost(patch: pytest.MonkeyPatch) -> None:
    """A completion whose message can't be delivered answers LOST, and the activity is run for ever."""
    complete = activities._complete_activity

    def only_delivered(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        activity = state.activities.get(done.lease.key)
        owned = activity is not None and activity.ownership.grants(done.lease)
        if done.message is not None and owned and deliver(state, done.message, now) is not Outcome.OK:
            return Outcome.LOST
        return complete(state, replace(done, message=None) if owned else done, now)

    patch.setattr(activities, "_complete_activity", only_delivered)


@mutant("148", "SCH-26", "SCH-14", source="one transaction that is rolled back whole")
def one_lost_completion_fails_the_batch(patch: pytest.MonkeyPatch) -> None:
    """Where one completion of a batch is LOST, all are."""
    complete = activities.complete_activities

    def all_or_nothing(state: HubState, done: Sequence[ActivityDone], now: Millis) -> list[Outcome]:
        found = [state.activities.get(item.lease.key) for item in done]
        if all(row and row.ownership.grants(item.lease) for row, item in zip(found, done, strict=True)):
            return complete(state, done, now)
        return [Outcome.LOST] * len(done)

    patch.setattr(hub, "complete_activities", all_or_nothing)


@mutant("148a", "SCH-09", "SCH-26", source="all tokens read before the first delete")
def a_batch_completes_an_activity_twice(patch: pytest.MonkeyPatch) -> None:
    """The same activity twice in one batch is completed twice, and both messages are delivered."""
    complete = activities.complete_activities

    def checked_first(state: HubState, done: Sequence[ActivityDone], now: Millis) -> list[Outcome]:
        found = [state.activities.get(item.lease.key) for item in done]
        owned = [row is not None and row.ownership.grants(item.lease) for row, item in zip(found, done, strict=True)]
        messages = [item.message for item, is_owned in zip(done, owned, strict=True) if is_owned]
        complete(state, [replace(item, message=None) for item in done], now)
        for message in messages:
            if message is not None:
                deliver(state, message, now)
        return [Outcome.OK if is_owned else Outcome.LOST for is_owned in owned]

    patch.setattr(hub, "complete_activities", checked_first)


@mutant("148b", "SCH-26", source="a set of messages")
def results_are_delivered_in_any_order(patch: pytest.MonkeyPatch) -> None:
    """The messages of a batch of completions are delivered in the order of their ids."""
    complete = activities.complete_activities

    def sorted_messages(state: HubState, done: Sequence[ActivityDone], now: Millis) -> list[Outcome]:
        outcomes = complete(state, [replace(item, message=None) for item in done], now)
        messages: list[Message] = [
            item.message
            for item, outcome in zip(done, outcomes, strict=True)
            if item.message is not None and outcome is Outcome.OK
        ]
        for message in sorted(messages, key=lambda message: message.id):
            deliver(state, message, now)
        return outcomes

    patch.setattr(hub, "complete_activities", sorted_messages)


@mutant("149", "SCH-27", source="a join on instances that nobody has leased")
def activities_wait_for_the_lease_on_their_instance(patch: pytest.MonkeyPatch) -> None:
    """While its instance is under a lease an activity can't be claimed."""
    claim = activities.claim_activities

    def unleased(state: HubState, request: ClaimActivities, max_items: int, now: Millis) -> ActivityBatch:
        hidden = [
            activity
            for activity in state.activities.values()
            if state.instances[activity.instance].ownership.leased_until() > now
        ]
        for activity in hidden:
            state.queue.discard(activity.number)
        batch = claim(state, request, max_items, now)
        for activity in hidden:
            state.reschedule_activity(activity)
        return batch

    patch.setattr(hub, "claim_activities", unleased)


@mutant("149a", "SCH-27", "LIF-15", source="the order of an exchange's parts")
def an_exchange_claims_first(patch: pytest.MonkeyPatch) -> None:
    """An exchange claims before it commits, so that it does not return what it made ready."""

    def claim_first(handle: hub.MemoryHub, exchange: Exchange) -> ExchangeResult:
        claims = Exchange(claim_turns=exchange.claim_turns, claim_activities=exchange.claim_activities)
        claimed = Hub.exchange(handle, claims)
        done = Hub.exchange(handle, replace(exchange, claim_turns=None, claim_activities=None))
        return replace(done, turns=claimed.turns, activities=claimed.activities)

    patch.setattr(hub.MemoryHub, "exchange", claim_first)

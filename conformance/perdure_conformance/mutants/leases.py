"""Mistakes that the cases of leases find out."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from perdure.spi import (
    ActivityDone,
    ClaimTurns,
    InvalidRequest,
    Lease,
    LeaseKind,
    Limits,
    Message,
    Millis,
    Outcome,
    Release,
    TurnBatch,
    TurnCommit,
    TurnItem,
    checks,
)
from perdure.spi.checks import requests
from perdure_conformance.mutant import mutant
from perdure_conformance.mutants.schemas import change_effect, change_statement
from perdure_memory import activities, hub, leases, messages, ownership, turns
from perdure_memory.inbox import Inbox
from perdure_memory.ownership import Ownership
from perdure_memory.state import HubState, Instance, StoredActivity
from perdure_sql import Found, effects
from perdure_sqlite import agenda, schema
from perdure_sqlite.transaction import SQLiteTransaction

_Renewal = tuple[Outcome, Lease | None]
_LONG = 2**62


def _before_commit(
    patch: pytest.MonkeyPatch, refuse: Callable[[HubState, Instance, TurnCommit, Millis], Outcome | None]
) -> None:
    """Ask first whether a commit of an instance that exists is to be answered at once."""
    commit_turn = turns._commit_turn

    def commit_after(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        instance = state.instances.get(commit.lease.key)
        outcome = None if instance is None else refuse(state, instance, commit, now)
        return commit_turn(state, commit, now, limits) if outcome is None else outcome

    patch.setattr(turns, "_commit_turn", commit_after)


def _change_renewal(
    patch: pytest.MonkeyPatch,
    renew: Callable[[HubState, Instance | StoredActivity, Lease, Millis], _Renewal | None],
) -> None:
    """Ask first whether the renewal of an item that exists is to be answered at once."""
    usual = leases._renew

    def renew_after(state: HubState, lease: Lease, expires_at: Millis) -> _Renewal:
        item = leases._find(state, lease)
        answer = None if item is None else renew(state, item, lease, expires_at)
        return usual(state, lease, expires_at) if answer is None else answer

    patch.setattr(leases, "_renew", renew_after)


def _change_leaving(patch: pytest.MonkeyPatch, change: Callable[[Instance, TurnCommit], TurnCommit]) -> None:
    """Have a turn end as another commit would end it."""
    leave = turns._leave

    def leave_changed(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        leave(state, instance, change(instance, commit), now)

    patch.setattr(turns, "_leave", leave_changed)


@mutant("1", "LSE-04", source="durabletask-go, go-workflows")
def fence_by_worker_name(patch: pytest.MonkeyPatch) -> None:
    """Who owns an instance is judged by the name of the worker, and not by the token."""
    workers: dict[str | None, str] = {}
    lease_turn = turns._lease_turn

    def lease_noting_worker(
        state: HubState, instance: Instance, request: ClaimTurns, now: Millis, held: Lease | None
    ) -> TurnItem:
        item = lease_turn(state, instance, request, now, held)
        workers[item.lease.token] = request.worker
        return item

    def grants(self: Ownership, lease: Lease) -> bool:
        if self.token not in workers:
            return lease.kind is self.kind and lease.token == self.token
        return workers.get(lease.token) == workers[self.token]

    patch.setattr(turns, "_lease_turn", lease_noting_worker)
    patch.setattr(Ownership, "grants", grants)


@mutant("8", "LSE-06", source="durabletask-mssql, logic.sql")
def stale_commit_undoes_continue_as_new(patch: pytest.MonkeyPatch) -> None:
    """A commit of an older execution is not fenced, and makes that execution the current one again."""

    def roll_back(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> Outcome | None:
        if commit.execution >= instance.execution or commit.commit_id == instance.last_commit_id:
            return None
        instance.execution = commit.execution
        instance.history = list(commit.events)
        return Outcome.OK

    _before_commit(patch, roll_back)


@mutant("11", "LSE-02", source="in-memory back ends")
def leases_never_expire(patch: pytest.MonkeyPatch) -> None:
    """An item whose worker died stays leased for ever."""
    patch.setattr(Ownership, "leased_until", lambda self: 0 if self.token is None else _LONG)


@mutant("12", "LSE-01", source="locks on messages instead of instances")
def new_message_breaks_the_lease(patch: pytest.MonkeyPatch) -> None:
    """An instance under a lease can be claimed when a new message arrives."""
    deliver = messages.deliver

    def deliver_and_free(state: HubState, message: Message, now: Millis, *, from_client: bool = False) -> Outcome:
        outcome = deliver(state, message, now, from_client=from_client)
        if outcome is Outcome.OK:
            instance = state.instances[message.instance]
            instance.ownership.expires_at = now
            state.reschedule(instance)
        return outcome

    patch.setattr(messages, "deliver", deliver_and_free)


@mutant("13", "LSE-02", source="off by one")
def lease_lasts_a_millisecond_longer(patch: pytest.MonkeyPatch) -> None:
    """An expiry is compared by < where it should be <=."""
    patch.setattr(Ownership, "leased_until", lambda self: 0 if self.token is None else self.expires_at + 1)


@mutant("14", "LSE-07", source="duroxide's rule")
def expired_lease_cannot_commit(patch: pytest.MonkeyPatch) -> None:
    """A commit under an expired lease is LOST, though nobody took the instance."""

    def refuse(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> Outcome | None:
        return Outcome.LOST if instance.ownership.leased_until() <= now else None

    _before_commit(patch, refuse)


@mutant("15", "LSE-11", source="go-workflows, Redis XCLAIM")
def renew_takes_a_lost_lease_back(patch: pytest.MonkeyPatch) -> None:
    """Renewing a lease that somebody else took makes it the current one again."""

    def take(state: HubState, item: Instance | StoredActivity, lease: Lease, expires_at: Millis) -> _Renewal | None:
        if item.ownership.token is not None:
            item.ownership.token = lease.token
        return None

    _change_renewal(patch, take)


@mutant("16", "LSE-11", source="durabletask-mssql, _RenewOrchestrationLocks")
def renew_extends_whoever_holds_it(patch: pytest.MonkeyPatch) -> None:
    """Renewing looks for the item and not for the token: it lengthens the thief's lease, and says OK."""

    def extend(state: HubState, item: Instance | StoredActivity, lease: Lease, expires_at: Millis) -> _Renewal | None:
        return Outcome.OK, item.ownership.extend(lease, expires_at)

    _change_renewal(patch, extend)


@mutant("17", "LSE-10", source="a stub")
def renew_does_nothing(patch: pytest.MonkeyPatch) -> None:
    """Renewing a lease says OK, and leaves its expiry where it was."""

    def pretend(state: HubState, item: Instance | StoredActivity, lease: Lease, expires_at: Millis) -> _Renewal | None:
        return (Outcome.OK, replace(lease, expires_at=expires_at)) if item.ownership.grants(lease) else None

    _change_renewal(patch, pretend)


@mutant("18", "LSE-15", source="no token in the WHERE")
def anybody_releases(patch: pytest.MonkeyPatch) -> None:
    """Releasing works without owning the item."""
    release = leases._release

    def release_as_owner(state: HubState, item: Release, now: Millis) -> Outcome:
        found = leases._find(state, item.lease)
        token = None if found is None else found.ownership.token
        return release(state, replace(item, lease=replace(item.lease, token=token or item.lease.token)), now)

    patch.setattr(leases, "_release", release_as_owner)


@mutant("19", "LSE-16", source="durabletask-mssql, abandon")
def release_delay_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """What is released with a delay can be claimed at once."""
    release = leases._release
    patch.setattr(leases, "_release", lambda state, item, now: release(state, replace(item, delay_ms=0), now))


@mutant("20", "LSE-16", source="duroxide")
def release_delays_messages_and_not_the_instance(patch: pytest.MonkeyPatch) -> None:
    """A release delay moves the pending messages into the future: one that arrives later overtakes them."""
    release = leases._release

    def delay_messages(state: HubState, item: Release, now: Millis) -> Outcome:
        if item.lease.kind is LeaseKind.ACTIVITY:
            return release(state, item, now)
        outcome = release(state, replace(item, delay_ms=0), now)
        if outcome is Outcome.OK:
            instance = state.instances[item.lease.key]
            for message in list(instance.inbox._by_id.values()):
                instance.inbox.remove(message.id)
                instance.inbox.add(replace(message, due=max(message.due, now + item.delay_ms)))
            state.reschedule(instance)
        return outcome

    patch.setattr(leases, "_release", delay_messages)


@mutant("21", "LSE-23", source="WHERE token = ? alone")
def token_is_looked_up_globally(patch: pytest.MonkeyPatch) -> None:
    """A token is good with whatever key it comes: items are found by it alone."""

    def refuse(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> Outcome | None:
        for found in state.instances.values():
            if found is not instance and found.ownership.token == commit.lease.token:
                corrected = replace(commit, lease=replace(commit.lease, key=found.id))
                return turns._commit_turn(state, corrected, now, Limits())
        return None

    def find(state: HubState, lease: Lease) -> Instance | StoredActivity | None:
        items: list[Instance | StoredActivity] = [*state.instances.values(), *state.activities.values()]
        return next((item for item in items if item.ownership.token == lease.token), None)

    _before_commit(patch, refuse)
    patch.setattr(leases, "_find", find)


@mutant("22a", "LSE-03", "LSE-22", source="the worker's id as token")
def tokens_are_constant(patch: pytest.MonkeyPatch) -> None:
    """Every claim of this process hands out the same token."""
    patch.setattr(ownership, "secrets", _Secrets(lambda: "5" * 32))


@mutant("22b", "LSE-22", source="a sequence as token")
def tokens_are_counted(patch: pytest.MonkeyPatch) -> None:
    """Tokens are numbers, one after the other."""
    numbers = count(1)
    patch.setattr(ownership, "secrets", _Secrets(lambda: f"{next(numbers):032x}"))


class _Secrets:
    """Takes the place of the module."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def token_hex(self, size: int) -> str:
        return self._make()


@mutant("23", "LSE-19", source="a counter where results are acknowledged")
def attempt_is_counted_at_release(patch: pytest.MonkeyPatch) -> None:
    """A lease that runs out is no attempt: only a release counts one."""
    claim = Ownership.claim

    def claim_uncounted(self: Ownership, fence: int, expires_at: Millis) -> Lease:
        expired = self.token is not None
        lease = claim(self, fence, expires_at)
        self.attempt -= expired
        return lease

    patch.setattr(Ownership, "claim", claim_uncounted)


@mutant("24", "LSE-17", source="a counter in the row")
def attempt_is_never_reset(patch: pytest.MonkeyPatch) -> None:
    """A commit leaves the attempts of the instance as they are."""
    leave = turns._leave

    def leave_counting(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        attempt = instance.ownership.attempt
        leave(state, instance, commit, now)
        instance.ownership.attempt = attempt

    patch.setattr(turns, "_leave", leave_counting)


def _change_giving_back(patch: pytest.MonkeyPatch, give_back: Callable[[int], int]) -> None:
    release = Ownership.release

    def release_changed(self: Ownership, hidden_until: Millis, *, penalize: bool) -> None:
        release(self, hidden_until, penalize=True)
        if not penalize:
            self.attempt = give_back(self.attempt)

    patch.setattr(Ownership, "release", release_changed)


@mutant("25a", "LSE-18", source="duroxide's poison tests")
def attempt_goes_below_none(patch: pytest.MonkeyPatch) -> None:
    """An unpenalised release of an item without attempts leaves it with less than none."""
    _change_giving_back(patch, lambda attempt: attempt - 1)


@mutant("25b", "LSE-18", source="duroxide's poison tests")
def unpenalised_release_forgets_all_attempts(patch: pytest.MonkeyPatch) -> None:
    """An unpenalised release takes back every attempt, and not only its own."""
    _change_giving_back(patch, lambda attempt: 0)


@mutant("59", "LSE-20", source="an option that nobody reads")
def keep_ms_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """A commit that would keep the lease releases it."""
    _change_leaving(patch, lambda instance, commit: replace(commit, keep_ms=None))


@mutant("200", "LSE-11", source="an UPDATE that runs before the check")
def renew_of_a_stolen_lease_lengthens_it_all_the_same(patch: pytest.MonkeyPatch) -> None:
    """Renewing a stolen lease is LOST, but the thief's lease gets longer by it."""

    def extend(state: HubState, item: Instance | StoredActivity, lease: Lease, expires_at: Millis) -> _Renewal | None:
        item.ownership.extend(lease, expires_at)
        return None

    _change_renewal(patch, extend)


@mutant("201", "LSE-05", "LSE-08", "LSE-09", source="WHERE token = ? OR token IS NULL")
def any_token_is_good_where_nobody_owns(patch: pytest.MonkeyPatch) -> None:
    """While an item has no owner, whoever once held a lease on it may use it."""
    patch.setattr(
        Ownership, "grants", lambda self, lease: lease.kind is self.kind and self.token in (None, lease.token)
    )


@mutant("202", "LSE-08", source="a release that only sets the expiry")
def released_token_stays_good(patch: pytest.MonkeyPatch) -> None:
    """A release lets the lease expire, and leaves its token the current one."""
    release = Ownership.release

    def expire(self: Ownership, hidden_until: Millis, *, penalize: bool) -> None:
        token = self.token
        release(self, hidden_until, penalize=penalize)
        self.token, self.expires_at = token, 0

    def release_expiring(state: HubState, item: Release, now: Millis) -> Outcome:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Ownership, "release", expire)
            return usual(state, item, now)

    usual = leases._release
    patch.setattr(leases, "_release", release_expiring)


@mutant("203", "LSE-09", source="a commit that only sets the expiry")
def committed_token_stays_good(patch: pytest.MonkeyPatch) -> None:
    """A commit lets the lease expire, and leaves its token the current one."""
    _change_leaving(
        patch,
        lambda instance, commit: (
            commit if commit.keep_ms is not None or instance.status.is_terminal else replace(commit, keep_ms=-1)
        ),
    )


@mutant("204", "LSE-12", source="WHERE expires_at > now")
def expired_lease_cannot_be_renewed(patch: pytest.MonkeyPatch) -> None:
    """Renewing an expired lease is LOST, though nobody took the item."""
    renew = leases.renew_leases

    def renew_unexpired(state: HubState, asked: Sequence[Lease], for_ms: int, now: Millis) -> list[_Renewal]:
        answers: list[_Renewal] = []
        for lease in asked:
            item = leases._find(state, lease)
            expired = item is not None and item.ownership.grants(lease) and item.ownership.expires_at <= now
            answers += [(Outcome.LOST, None)] if expired else renew(state, [lease], for_ms, now)
        return answers

    patch.setattr(hub, "renew_leases", renew_unexpired)


@mutant("205", "LSE-13", source="one answer for all that can't be found")
def cancelled_activity_is_merely_lost(patch: pytest.MonkeyPatch) -> None:
    """Renewing the lease of a cancelled activity is LOST, as if somebody else had it."""
    renew = leases._renew

    def renew_or_lose(state: HubState, lease: Lease, expires_at: Millis) -> _Renewal:
        outcome, renewed = renew(state, lease, expires_at)
        return (Outcome.LOST if outcome is Outcome.CANCELLED else outcome), renewed

    patch.setattr(leases, "_renew", renew_or_lose)


@mutant("206", "LSE-14", source="a release that waits for the expiry")
def released_item_waits_for_the_expiry(patch: pytest.MonkeyPatch) -> None:
    """What is released can be claimed only when the lease would have ended."""
    release = Ownership.release

    def release_late(self: Ownership, hidden_until: Millis, *, penalize: bool) -> None:
        release(self, max(hidden_until, self.expires_at) if hidden_until else 0, penalize=penalize)

    patch.setattr(Ownership, "release", release_late)


@mutant("207", "LSE-10", source="SET expires_at = expires_at + ?")
def renew_counts_from_the_expiry(patch: pytest.MonkeyPatch) -> None:
    """A renewal adds its time to what is left of the lease, and doesn't count from now."""
    renew = leases.renew_leases

    def renew_adding(state: HubState, asked: Sequence[Lease], for_ms: int, now: Millis) -> list[_Renewal]:
        return [answer for lease in asked for answer in renew(state, [lease], for_ms, lease.expires_at)]

    patch.setattr(hub, "renew_leases", renew_adding)


@mutant("208", "LSE-10", "CLK-03", source="no max()")
def renew_shortens(patch: pytest.MonkeyPatch) -> None:
    """A renewal for less than is left of the lease shortens it."""
    extend = Ownership.extend

    def set_end(self: Ownership, lease: Lease, expires_at: Millis) -> Lease:
        self.expires_at = 0
        return extend(self, lease, expires_at)

    def renew(state: HubState, item: Instance | StoredActivity, lease: Lease, expires_at: Millis) -> _Renewal | None:
        if not item.ownership.grants(lease):
            return None
        renewed = set_end(item.ownership, lease, expires_at)
        leases._reschedule(state, item)
        return Outcome.OK, renewed

    _change_renewal(patch, renew)


@mutant("209", "LSE-21", source="held leases passed over")
def held_leases_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """A kept instance comes back to nobody before its lease expires."""
    patch.setattr(turns, "_held_instances", lambda state, request: {})


@mutant("210", "LSE-21", source="one way to lease")
def held_claim_installs_a_new_token(patch: pytest.MonkeyPatch) -> None:
    """A kept instance comes back to its holder under another token and fence."""
    lease_turn = turns._lease_turn
    patch.setattr(
        turns,
        "_lease_turn",
        lambda state, instance, request, now, held: lease_turn(state, instance, request, now, None),
    )


@mutant("211", "LSE-28", source="no max()")
def held_claim_shortens_the_lease(patch: pytest.MonkeyPatch) -> None:
    """A claim by `held` for less than is left of the lease shortens it."""
    lease_turn = turns._lease_turn

    def lease_shortened(
        state: HubState, instance: Instance, request: ClaimTurns, now: Millis, held: Lease | None
    ) -> TurnItem:
        if held is not None:
            instance.ownership.expires_at = 0
        return lease_turn(state, instance, request, now, held)

    patch.setattr(turns, "_lease_turn", lease_shortened)


@mutant("212", "LSE-23", "LSE-28", source="held leases found by key alone")
def held_leases_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    """A claim that names an instance in `held` gets it, whoever has the lease."""

    def hold(state: HubState, request: ClaimTurns) -> dict[Instance, Lease]:
        found = ((state.instances.get(lease.key), lease) for lease in request.held)
        return {
            instance: replace(lease, token=instance.ownership.token or lease.token)
            for instance, lease in found
            if instance is not None
        }

    patch.setattr(turns, "_held_instances", hold)


@mutant("213", "LSE-28", source="a dictionary by key", base="sqlite")
def held_leases_hide_each_other(patch: pytest.MonkeyPatch) -> None:
    """Where a former lease of an instance is named behind the current one, the current one is passed over."""
    from perdure_sql import turns as sql_turns  # noqa: PLC0415

    held = sql_turns._held

    def last_of_each(work: Any, request: ClaimTurns) -> Any:
        return held(work, replace(request, held=list({lease.key: lease for lease in request.held}.values())))

    patch.setattr(sql_turns, "_held", last_of_each)


@mutant("214", "LSE-29", source="the attempt as it is stored")
def held_claim_is_attempt_none(patch: pytest.MonkeyPatch) -> None:
    """A claim by `held` after a commit says that it is attempt 0."""
    lease_turn = turns._lease_turn

    def lease_as_stored(
        state: HubState, instance: Instance, request: ClaimTurns, now: Millis, held: Lease | None
    ) -> TurnItem:
        attempt = instance.ownership.attempt
        item = lease_turn(state, instance, request, now, held)
        if held is not None:
            item.attempt = instance.ownership.attempt = attempt
        return item

    patch.setattr(turns, "_lease_turn", lease_as_stored)


@mutant("215", "LSE-20", source="a lease that is only lengthened")
def keep_ms_only_lengthens(patch: pytest.MonkeyPatch) -> None:
    """A kept lease ends with the claim's own, where that is later than now + keep_ms."""
    leave = turns._leave

    def leave_longer(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        until = instance.ownership.expires_at
        leave(state, instance, commit, now)
        instance.ownership.expires_at = max(until, instance.ownership.expires_at)
        state.reschedule(instance)

    patch.setattr(turns, "_leave", leave_longer)


@mutant("216", "LSE-27", source="if commit.keep_ms:")
def kept_for_nothing_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    """A commit with `keep_ms=0` releases the lease."""
    _change_leaving(patch, lambda instance, commit: replace(commit, keep_ms=commit.keep_ms or None))


@mutant("217", "LSE-13", "LSE-27", source="one condition too few")
def an_end_keeps_the_lease(patch: pytest.MonkeyPatch) -> None:
    """An instance that ends with `keep_ms` stays leased."""
    leave = turns._leave

    def leave_kept(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        token = instance.ownership.token
        leave(state, instance, commit, now)
        if commit.keep_ms is not None and instance.status.is_terminal:
            instance.ownership.token = token
            instance.ownership.expires_at = now + commit.keep_ms

    patch.setattr(turns, "_leave", leave_kept)


@mutant("218", "LSE-24", source="a join on the instance's lease", base="sqlite")
def leased_instance_blocks_its_activities(patch: pytest.MonkeyPatch) -> None:
    """Activities of an instance that is leased can't be claimed."""
    join = 'perdure_instances."key" = perdure_activities.instance'
    change_statement(patch, agenda, "READY_ACTIVITIES", join, f"{join} AND perdure_instances.token IS NULL")


@mutant("219", "LSE-24", source="WHERE id = ?", base="sqlite")
def claim_leases_all_activities_of_the_same_id(patch: pytest.MonkeyPatch) -> None:
    """Claiming an activity leases every activity of that id, those of other instances too."""
    change_effect(
        patch,
        effects.LEASE_ACTIVITY,
        'perdure_activities."key" = ?',
        'perdure_activities.id = (SELECT x.id FROM perdure_activities AS x WHERE x."key" = ?)',
    )


@mutant("220", "LSE-25", source="two statements, one after the other")
def renewals_are_answered_by_kind(patch: pytest.MonkeyPatch) -> None:
    """A batch of renewals is answered with turns first, in whatever order they were asked."""
    renew = leases.renew_leases

    def renew_sorted(state: HubState, asked: Sequence[Lease], for_ms: int, now: Millis) -> list[_Renewal]:
        ordered = sorted(asked, key=lambda lease: lease.kind is LeaseKind.ACTIVITY)
        return renew(state, ordered, for_ms, now)

    patch.setattr(hub, "renew_leases", renew_sorted)


@mutant("221", "LSE-25", source="an exception instead of an answer")
def renewing_stops_at_the_first_lost_lease(patch: pytest.MonkeyPatch) -> None:
    """Behind a lease that is LOST all others of a batch are LOST too."""
    renew = leases.renew_leases

    def renew_until_lost(state: HubState, asked: Sequence[Lease], for_ms: int, now: Millis) -> list[_Renewal]:
        answers: list[_Renewal] = []
        for lease in asked:
            answers += renew(state, [lease], for_ms, now)
            if answers[-1][0] is not Outcome.OK:
                break
        return answers + [(Outcome.LOST, None)] * (len(asked) - len(answers))

    patch.setattr(hub, "renew_leases", renew_until_lost)


@mutant("222", "LSE-30", source="one transaction, one answer")
def one_lost_release_spoils_the_batch(patch: pytest.MonkeyPatch) -> None:
    """Where one of the leases to be released is LOST, none is released."""
    release = leases.release_leases

    def release_all_or_none(state: HubState, items: Sequence[Release], now: Millis) -> list[Outcome]:
        found = [leases._find(state, item.lease) for item in items]
        if all(one is not None and one.ownership.grants(item.lease) for one, item in zip(found, items, strict=True)):
            return release(state, items, now)
        return [Outcome.LOST] * len(items)

    patch.setattr(hub, "release_leases", release_all_or_none)


@mutant("223", "LSE-26", source="a TTL in seconds")
def leases_last_whole_seconds(patch: pytest.MonkeyPatch) -> None:
    """The expiry of a lease is rounded up to a full second."""
    claim = Ownership.claim
    patch.setattr(Ownership, "claim", lambda self, fence, expires_at: claim(self, fence, -(-expires_at // 1000) * 1000))


@mutant("224", "LSE-31", source="names looked at in one of two places")
def names_do_not_filter_held_leases(patch: pytest.MonkeyPatch) -> None:
    """A kept instance comes back to its holder whatever names the claim asks for."""
    ready_at = Instance.ready_at

    def ready_to_holder(self: Instance, names: Any = None, *, as_holder: bool = False) -> Millis | None:
        return ready_at(self, None if as_holder else names, as_holder=as_holder)

    patch.setattr(Instance, "ready_at", ready_to_holder)


@mutant("225", "LSE-32", source="a set that is only added to")
def what_any_claim_delivered_is_consumed(patch: pytest.MonkeyPatch) -> None:
    """A commit consumes what any claim under its lease delivered, and not the last one alone."""
    deliver = Inbox.deliver

    def deliver_more(self: Inbox, now: Millis, at_most: int, token: str, *, only_control: bool) -> Any:
        before = self._delivered if token == self._delivered_under else set()
        found = deliver(self, now, at_most, token, only_control=only_control)
        self._delivered |= before
        return found

    patch.setattr(Inbox, "deliver", deliver_more)


@mutant("226", "LSE-32", source="DELETE WHERE id IN (...)")
def anything_named_is_consumed(patch: pytest.MonkeyPatch) -> None:
    """A commit consumes whatever is pending under the ids it names, delivered or not."""
    consume = Inbox.consume

    def consume_pending(self: Inbox, message_id: str, token: str, remember_until: Millis) -> bool:
        self._delivered = set(self._by_id)
        self._delivered_under = token
        return consume(self, message_id, token, remember_until)

    patch.setattr(Inbox, "consume", consume_pending)


@mutant("227", "LSE-33", source="ORDER BY key", base="sqlite")
def claims_prefer_the_oldest_instance(patch: pytest.MonkeyPatch) -> None:
    """A claim that can't have all takes the instances that were created first, however long others have waited."""
    change_statement(
        patch,
        agenda,
        "READY_TURNS",
        'ORDER BY j.available_at, j."key"',
        'ORDER BY j."key"',
        'ORDER BY perdure_instances.available_at, perdure_instances."key"',
        'ORDER BY perdure_instances."key"',
    )


@mutant("228", "LSE-34", source="len(items) == max_items")
def a_full_batch_says_that_there_is_more(patch: pytest.MonkeyPatch) -> None:
    """A claim that got as much as it asked for says that there is more, though there isn't."""
    claim_turns, claim_activities = turns.claim_turns, activities.claim_activities

    def claim_full(claim: Callable[..., Any], state: HubState, request: Any, max_items: int, now: Millis) -> Any:
        batch = claim(state, request, max_items, now)
        batch.more = len(batch.items) == max_items
        return batch

    patch.setattr(hub, "claim_turns", lambda *args: claim_full(claim_turns, *args))
    patch.setattr(hub, "claim_activities", lambda *args: claim_full(claim_activities, *args))


@mutant("229", "LSE-35", source="no check")
def impossible_durations_are_taken(patch: pytest.MonkeyPatch) -> None:
    """A lease for no time and a negative delay are taken as they are."""
    patch.setattr(requests, "check_duration", lambda *args, **options: None)


@mutant("230", "LSE-35", source="a check in the loop that does the work")
def releases_are_checked_one_by_one(patch: pytest.MonkeyPatch) -> None:
    """A release with a negative delay is refused after those before it in the batch were done."""
    release = leases._release

    def release_checked(state: HubState, item: Release, now: Millis) -> Outcome:
        if item.delay_ms < 0:
            raise InvalidRequest("a negative delay")
        return release(state, item, now)

    patch.setattr(checks, "check_releases", lambda items, limits, what="items": None)
    patch.setattr(leases, "_release", release_checked)


@mutant("231", "LSE-36", source="recovery at the start", base="sqlite")
def opening_breaks_all_leases(patch: pytest.MonkeyPatch) -> None:
    """A provider that is opened frees whatever is leased, as if nobody else could be at work."""
    prepare = schema.prepare

    def recover(db: sqlite3.Connection, *args: Any, **options: Any) -> None:
        prepare(db, *args, **options)
        for table in ("perdure_instances", "perdure_activities"):
            db.execute(f"UPDATE {table} SET token = NULL, lease_until = 0")

    patch.setattr(schema, "prepare", recover)


@mutant("232", "LSE-07", source="duroxide's rule")
def expired_lease_cannot_complete(patch: pytest.MonkeyPatch) -> None:
    """Completing an activity under an expired lease is LOST, though nobody took it."""
    complete = activities._complete_activity

    def complete_in_time(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
        activity = state.activities.get(done.lease.key)
        if activity is not None and activity.ownership.leased_until() <= now:
            return Outcome.LOST
        return complete(state, done, now)

    patch.setattr(activities, "_complete_activity", complete_in_time)


@mutant("234", "LSE-01", "LSE-02", source="control_due instead of control_at", base="sqlite")
def control_messages_break_leases(patch: pytest.MonkeyPatch) -> None:
    """An instance with a control message can be claimed while it is leased."""
    change_statement(
        patch, agenda, "CONTROLLED_TURNS", "perdure_instances.control_at <=", "perdure_instances.control_due <="
    )


@mutant("235", "LSE-03", source="a constant version")
def fences_do_not_grow(patch: pytest.MonkeyPatch) -> None:
    """Every claim of an item has the same fence."""
    claim = Ownership.claim
    patch.setattr(Ownership, "claim", lambda self, fence, expires_at: claim(self, 1, expires_at))


@mutant("236", "LSE-15", source="two statements, one of them unfenced")
def stale_release_takes_an_attempt_back(patch: pytest.MonkeyPatch) -> None:
    """A stale release that is not to be penalised is LOST, but takes the thief's attempt back."""
    release = leases._release

    def release_twice(state: HubState, item: Release, now: Millis) -> Outcome:
        outcome = release(state, item, now)
        found = leases._find(state, item.lease)
        if outcome is Outcome.LOST and found is not None and not item.penalize:
            found.ownership.attempt = max(0, found.ownership.attempt - 1)
        return outcome

    patch.setattr(leases, "_release", release_twice)


@mutant("237", "LSE-16", source="a send that wakes up")
def new_message_ends_the_release_delay(patch: pytest.MonkeyPatch) -> None:
    """An instance that a release hides comes back with the next message."""
    deliver = messages.deliver

    def deliver_and_show(state: HubState, message: Message, now: Millis, *, from_client: bool = False) -> Outcome:
        outcome = deliver(state, message, now, from_client=from_client)
        if outcome is Outcome.OK:
            state.instances[message.instance].ownership.hidden_until = 0
            state.reschedule(state.instances[message.instance])
        return outcome

    patch.setattr(messages, "deliver", deliver_and_show)


@mutant("238", "LSE-18", source="an option that nobody reads")
def every_release_is_penalised(patch: pytest.MonkeyPatch) -> None:
    """An unpenalised release counts like any other."""
    _change_giving_back(patch, lambda attempt: attempt)


@mutant("239", "LSE-22", source="one token a batch")
def tokens_are_made_once_a_batch(patch: pytest.MonkeyPatch) -> None:
    """All items of a claim share a token."""

    @contextmanager
    def one_token() -> Iterator[None]:
        token = secrets.token_hex(16)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(ownership, "secrets", _Secrets(lambda: token))
            yield

    def claim_sharing(claim: Callable[..., Any], *args: Any) -> Any:
        with one_token():
            return claim(*args)

    claim_turns, claim_activities = turns.claim_turns, activities.claim_activities
    patch.setattr(hub, "claim_turns", lambda *args: claim_sharing(claim_turns, *args))
    patch.setattr(hub, "claim_activities", lambda *args: claim_sharing(claim_activities, *args))


@mutant("240", "LSE-23", source="a collation without case", base="sqlite")
def settling_ignores_case(patch: pytest.MonkeyPatch) -> None:
    """The token of a settled activity is compared without regard to case."""
    change_effect(patch, effects.SETTLE, "perdure_activities.token = ?", "perdure_activities.token = ? COLLATE NOCASE")


@mutant("241", "LSE-23", source="no token in the WHERE", base="sqlite")
def settling_is_unfenced(patch: pytest.MonkeyPatch) -> None:
    """Settling deletes the activity, whoever has its lease."""
    change_effect(patch, effects.SETTLE, "perdure_activities.token = ?", "length(?) >= 0")


@mutant("242", "LSE-17", source="DELETE and INSERT of what is scheduled")
def commit_resets_the_attempts_of_activities(patch: pytest.MonkeyPatch) -> None:
    """A commit sets the attempts of the instance's activities to 0, as it does its own."""
    leave = turns._leave

    def leave_resetting(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
        leave(state, instance, commit, now)
        for activity in instance.activities.values():
            activity.ownership.attempt = 0

    patch.setattr(turns, "_leave", leave_resetting)


@mutant("243", "LSE-04", source="an expiry that proves ownership")
def unexpired_lease_is_good_whoever_owns(patch: pytest.MonkeyPatch) -> None:
    """A commit whose lease has the current fence is taken, whatever its token."""
    grants = Ownership.grants
    patch.setattr(
        Ownership,
        "grants",
        lambda self, lease: grants(self, lease) or (self.token is not None and lease.fence == self.fence),
    )


@mutant("500", "LSE-31", source="names applied to the holder's own instances too")
def a_holder_sleeps_over_control_messages_to_other_names(patch: pytest.MonkeyPatch) -> None:
    """`next_due` leaves out a kept instance of a name that is not asked for, whatever control message comes to it."""
    next_due = turns._next_due

    def without_other_names(
        state: HubState, request: ClaimTurns, kept: Iterable[Instance], now: Millis
    ) -> Millis | None:
        named = [instance for instance in kept if request.names is None or instance.name in request.names]
        return next_due(state, request, named, now)

    patch.setattr(turns, "_next_due", without_other_names)


@mutant("501", "LSE-10", source="the caller's record, changed and given back")
def renewing_changes_the_lease_that_was_given(patch: pytest.MonkeyPatch) -> None:
    """A renewal writes the new expiry into the lease that the caller gave."""
    renew = leases._renew

    def renew_in_place(state: HubState, lease: Lease, expires_at: Millis) -> _Renewal:
        outcome, renewed = renew(state, lease, expires_at)
        if renewed is None:
            return outcome, None
        lease.expires_at = renewed.expires_at
        return outcome, lease

    patch.setattr(leases, "_renew", renew_in_place)


def _claim_in_order_of(patch: pytest.MonkeyPatch, key: Callable[[Instance], Any]) -> None:
    def claim_turns(state: HubState, request: ClaimTurns, max_items: int, now: Millis) -> TurnBatch:
        kept = turns._held_instances(state, request)
        ready = [instance for instance in kept if turns._is_past(instance.ready_at(request.names, as_holder=True), now)]
        for _, instance in state.turns:
            if instance not in kept and turns._is_past(instance.ready_at(request.names), now):
                ready.append(instance)
        chosen = sorted(ready, key=key)[:max_items]
        items = [turns._lease_turn(state, each, request, now, kept.pop(each, None)) for each in chosen]
        next_due = turns._next_due(state, request, kept, now)
        return TurnBatch(items=items, more=len(ready) > max_items, next_due=next_due, now=now)

    patch.setattr(hub, "claim_turns", claim_turns)


@mutant("502", "LSE-33", source="`ORDER BY created_at`")
def the_oldest_instance_comes_first(patch: pytest.MonkeyPatch) -> None:
    """A claim takes the instance that was created first, and not the one claimable longest."""
    _claim_in_order_of(patch, lambda instance: instance.created_at)


@mutant("502b", "LSE-33", source="`ORDER BY updated_at`")
def the_instance_changed_longest_ago_comes_first(patch: pytest.MonkeyPatch) -> None:
    """A claim takes the instance whose last change is longest ago, and not the one claimable longest."""
    _claim_in_order_of(patch, lambda instance: instance.updated_at)


@mutant("502c", "LSE-33", source="`ORDER BY control DESC`")
def control_messages_go_before_everybody(patch: pytest.MonkeyPatch) -> None:
    """A claim takes instances with control messages before those that have been claimable longer."""
    _claim_in_order_of(patch, lambda instance: instance.inbox.first_control_due() is None)


@mutant("503", "LSE-26", source="`EXPIRE` in seconds")
def leases_are_cut_to_whole_seconds(patch: pytest.MonkeyPatch) -> None:
    """A lease of a second or more is cut to whole seconds."""
    lease_turn = turns._lease_turn

    def cut(state: HubState, instance: Instance, request: ClaimTurns, now: Millis, held: Lease | None) -> TurnItem:
        if request.lease_ms >= 1000:
            request = replace(request, lease_ms=request.lease_ms // 1000 * 1000)
        return lease_turn(state, instance, request, now, held)

    patch.setattr(turns, "_lease_turn", cut)


@mutant("504", "LSE-31", source="a second, shorter SELECT for control messages")
def a_control_turn_is_handed_out_bare(patch: pytest.MonkeyPatch) -> None:
    """A turn of control messages alone comes without memo, custom status and history."""
    lease_turn = turns._lease_turn

    def bare(state: HubState, instance: Instance, request: ClaimTurns, now: Millis, held: Lease | None) -> TurnItem:
        item = lease_turn(state, instance, request, now, held)
        if request.names is None or item.name in request.names:
            return item
        return replace(item, memo=None, custom_status=None, history=None)

    patch.setattr(turns, "_lease_turn", bare)


@mutant("505", "LSE-34", source="a LIMIT that counts what is found twice", base="sqlite")
def expired_held_instances_take_the_place_of_others(patch: pytest.MonkeyPatch) -> None:
    """A claim looks for as many instances as are missing beside those it holds, and may find expired ones of these."""
    ready = SQLiteTransaction.ready_turns

    class Uncounted(dict[int, object]):
        """Instances for which nobody makes room."""

        def __len__(self) -> int:
            return 0

    def ready_without_room(
        self: SQLiteTransaction, hub: int, names: Collection[str], now: Millis, most: int, held: Mapping[int, object]
    ) -> Found:
        return ready(self, hub, names, now, most, Uncounted(held))

    patch.setattr(SQLiteTransaction, "ready_turns", ready_without_room)


@mutant("506", "LSE-34", source="`next_due` of what is not held")
def what_max_items_cut_of_the_held_is_out_of_sight(patch: pytest.MonkeyPatch) -> None:
    """Where `max_items` cut the held instances themselves, `next_due` is the end of their leases."""
    next_due = turns._next_due

    def without_ready(state: HubState, request: ClaimTurns, kept: Iterable[Instance], now: Millis) -> Millis | None:
        waiting = [each for each in kept if not turns._is_past(each.ready_at(request.names, as_holder=True), now)]
        return next_due(state, request, waiting, now)

    patch.setattr(turns, "_next_due", without_ready)


@mutant("507", "LSE-17", source="whatever happens to an instance touches its row")
def a_completion_begins_the_count_anew(patch: pytest.MonkeyPatch) -> None:
    """An activity that completes sets the attempts of its instance to 0."""
    remove_activity = HubState.remove_activity

    def resetting(self: HubState, activity: StoredActivity) -> None:
        remove_activity(self, activity)
        self.instances[activity.instance].ownership.attempt = 0

    patch.setattr(HubState, "remove_activity", resetting)

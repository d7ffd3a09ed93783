"""Claiming and committing turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perdure.spi import (
    UNSET,
    ClaimTurns,
    Lease,
    LeaseKind,
    Limits,
    Millis,
    OrchestrationStatus,
    Outcome,
    TurnBatch,
    TurnCommit,
    TurnItem,
)
from perdure_memory.instances import create_instance
from perdure_memory.messages import deliver
from perdure_memory.state import HubState, Instance


def claim_turns(state: HubState, request: ClaimTurns, max_items: int, now: Millis) -> TurnBatch:
    """Lease what the request may have: first what it holds, then what has been claimable longest."""
    kept = _held_instances(state, request)
    ready = [instance for instance in kept if _is_past(instance.ready_at(request.names, as_holder=True), now)]
    for at, instance in state.turns:
        if at > now or len(ready) > max_items:
            break
        if instance not in kept and _is_past(instance.ready_at(request.names), now):
            ready.append(instance)
    chosen = ready[:max_items]
    items = [_lease_turn(state, instance, request, now, kept.pop(instance, None)) for instance in chosen]
    return TurnBatch(
        items=items,
        more=len(ready) > max_items,
        next_due=_next_due(state, request, kept, now),
        now=now,
    )


def _held_instances(state: HubState, request: ClaimTurns) -> dict[Instance, Lease]:
    """Return the instances on which the request holds the current lease."""
    kept: dict[Instance, Lease] = {}
    for lease in request.held:
        instance = state.instances.get(lease.key)
        if instance is not None and instance.ownership.grants(lease):
            kept[instance] = lease
    return kept


def _is_past(moment: Millis | None, now: Millis) -> bool:
    return moment is not None and moment <= now


def _lease_turn(state: HubState, instance: Instance, request: ClaimTurns, now: Millis, held: Lease | None) -> TurnItem:
    ownership = instance.ownership
    expires_at = now + request.lease_ms
    if held is not None:
        lease = ownership.extend(held, expires_at)
        # The commit that kept the lease set it to 0: this turn is the first try since then.
        ownership.attempt = max(1, ownership.attempt)
    else:
        lease = ownership.claim(next(state.numbers), expires_at)
    # Whoever can't run the instance still handles its control messages, and must not swallow anything else.
    named = request.names is None or instance.name in request.names
    messages = instance.inbox.deliver(now, request.max_messages, lease.token, only_control=not named)
    state.reschedule(instance)
    return TurnItem(
        lease=lease,
        instance=instance.id,
        generation=instance.generation,
        execution=instance.execution,
        name=instance.name,
        version=instance.version,
        status=instance.status,
        messages=[message.delivery() for message in messages],
        next_seq=len(instance.history),
        attempt=ownership.attempt,
        history=list(instance.history) if request.inline_history else None,
        custom_status=instance.custom_status,
        memo=instance.memo,
    )


def _next_due(state: HubState, request: ClaimTurns, kept: Iterable[Instance], now: Millis) -> Millis | None:
    """Return when the request, made again, could first have something.

    Args:
        state: the hub, after the claim.
        request: the claim.
        kept: instances whose lease the request named, and that it did not get now.
        now: the time.
    """
    earliest: Millis | None = None
    for instance in kept:
        own = instance.ready_at(request.names, as_holder=True)
        if own is not None and (earliest is None or own < earliest):
            earliest = own
    for at, instance in state.turns:
        if earliest is not None and at >= earliest:
            break
        own = instance.ready_at(request.names)
        if own is not None and (earliest is None or own < earliest):
            earliest = own
    return None if earliest is None else max(earliest, now)


def commit_turns(state: HubState, commits: Sequence[TurnCommit], now: Millis, limits: Limits) -> list[Outcome]:
    """Apply turns one after the other; each sees those before it."""
    return [_commit_turn(state, commit, now, limits) for commit in commits]


def _commit_turn(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
    instance = state.instances.get(commit.lease.key)
    if instance is None or commit.lease.kind is not LeaseKind.TURN:
        return Outcome.LOST
    # Before the token: the commit that is repeated may have released the lease.
    if commit.commit_id == instance.last_commit_id:
        return Outcome.ALREADY
    if not instance.ownership.grants(commit.lease):
        return Outcome.LOST
    if (commit.execution, commit.expected_next_seq) != (instance.execution, len(instance.history)):
        return Outcome.CONFLICT
    _write_history(instance, commit)
    _consume(state, instance, commit, now + limits.dedupe_ms)
    _settle(state, instance, commit)
    _change_activities(state, instance, commit, now)
    _send(state, instance, commit, now)
    _set_state(state, instance, commit, now)
    _leave(state, instance, commit, now)
    return Outcome.OK


def _write_history(instance: Instance, commit: TurnCommit) -> None:
    if commit.rewrite:
        instance.history = list(commit.events)
    else:
        instance.history.extend(commit.events)


def _consume(state: HubState, instance: Instance, commit: TurnCommit, remember_until: Millis) -> None:
    for message_id in commit.consumed:
        if instance.inbox.consume(message_id, commit.lease.token, remember_until):
            state.forget_later(instance, message_id, remember_until)


def _change_activities(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
    cancelled = set(instance.activities) if commit.cancel_all else set()
    for new in commit.activities:
        state.add_activity(instance, new, now)
    # After the inserts, so that scheduling and cancelling in one turn leaves nothing behind.
    for activity_id in cancelled.union(commit.cancel_activities):
        activity = instance.activities.get(activity_id)
        if activity is not None:
            state.remove_activity(activity)


def _send(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
    """Start children, send messages, cancel own ones: whoever can't take a message doesn't get it."""
    # An instance can't replace itself half way through its own commit.
    settled = {instance.id}
    for new in commit.starts:
        outcome = create_instance(state, new, now, settled)
        if outcome is Outcome.EXISTS and new.on_conflict is not None:
            deliver(state, new.on_conflict, now)
    # After the starts, so that a child can be told something at once, behind its start.
    for message in commit.messages:
        deliver(state, message, now)
    for message_id in commit.cancel_messages:
        instance.inbox.remove(message_id)


def _settle(state: HubState, instance: Instance, commit: TurnCommit) -> None:
    for lease in commit.settled:
        activity = state.activities.get(lease.key)
        if activity is not None and activity.instance == instance.id and activity.ownership.grants(lease):
            state.remove_activity(activity)


def _set_state(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
    state.touch(instance, now)
    instance.last_commit_id = commit.commit_id
    instance.status = commit.status
    instance.failure = commit.failure if commit.status is OrchestrationStatus.FAILED else None
    if commit.output is not UNSET:
        instance.output = commit.output
    if commit.memo is not UNSET:
        instance.memo = commit.memo
    if commit.custom_status is not UNSET:
        instance.custom_status = commit.custom_status
        instance.status_rev = instance.rev
    if commit.continued is not None:
        instance.execution += 1
        instance.history = list(commit.continued.events)
        instance.input = commit.continued.input
        instance.version = commit.continued.version


def _leave(state: HubState, instance: Instance, commit: TurnCommit, now: Millis) -> None:
    """End the turn: release the lease or keep it, and let nothing wait for an instance that has ended."""
    ownership = instance.ownership
    ownership.attempt = 0
    if instance.status.is_terminal:
        instance.completed_at = instance.updated_at
        instance.inbox.clear()
        state.remove_activities(instance)
    if commit.keep_ms is None or instance.status.is_terminal:
        ownership.release(hidden_until=0, penalize=True)
    else:
        ownership.expires_at = now + commit.keep_ms
    state.reschedule(instance)
    if len(instance.inbox):
        state.announce(instance)

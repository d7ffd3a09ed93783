"""Claiming and completing activities."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.spi import Activity, ActivityBatch, ActivityDone, ClaimActivities, Millis, Outcome
from perdure_memory.messages import deliver
from perdure_memory.state import HubState, StoredActivity


def claim_activities(state: HubState, request: ClaimActivities, max_items: int, now: Millis) -> ActivityBatch:
    """Lease what the request may have, first in first out."""

    def matches(activity: StoredActivity) -> bool:
        return activity.queue in request.queues and (request.names is None or activity.name in request.names)

    ready: list[StoredActivity] = []
    for at, activity in state.queue:
        if at > now or len(ready) > max_items:
            break
        if matches(activity):
            ready.append(activity)
    items = [_lease_activity(state, activity, now + request.lease_ms) for activity in ready[:max_items]]
    return ActivityBatch(
        items=items,
        more=len(ready) > max_items,
        next_due=next((max(at, now) for at, activity in state.queue if matches(activity)), None),
        now=now,
    )


def _lease_activity(state: HubState, activity: StoredActivity, expires_at: Millis) -> Activity:
    lease = activity.ownership.claim(next(state.numbers), expires_at)
    state.reschedule_activity(activity)
    return Activity(
        lease=lease,
        id=activity.id,
        name=activity.name,
        payload=activity.payload,
        queue=activity.queue,
        instance=activity.instance,
        generation=activity.generation,
        attempt=activity.ownership.attempt,
    )


def complete_activities(state: HubState, done: Sequence[ActivityDone], now: Millis) -> list[Outcome]:
    """Delete finished activities, each with the delivery of its message."""
    return [_complete_activity(state, item, now) for item in done]


def _complete_activity(state: HubState, done: ActivityDone, now: Millis) -> Outcome:
    activity = state.activities.get(done.lease.key)
    if activity is None or not activity.ownership.grants(done.lease):
        return Outcome.LOST
    state.remove_activity(activity)
    if done.message is not None:
        deliver(state, done.message, now)
    return Outcome.OK

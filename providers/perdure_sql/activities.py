"""Claiming and completing activities."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from perdure.spi import Activity, ActivityBatch, ActivityDone, ClaimActivities, Lease, LeaseKind, Outcome
from perdure_sql import effects
from perdure_sql.messages import deliver, load_targets
from perdure_sql.rows import key_of
from perdure_sql.work import Work

__all__ = ["claim_activities", "complete_activities"]


def claim_activities(work: Work, request: ClaimActivities, max_items: int) -> ActivityBatch:
    """Lease what the request may have, first in first out."""
    db, now = work.db, work.now
    queues = sorted(set(request.queues))
    names = sorted(db.activity_names(work.hub, queues) if request.names is None else set(request.names))
    found = db.ready_activities(work.hub, queues, names, now, max_items)
    until = now + request.lease_ms
    items = []
    for key, id_, name, payload, queue, fence, attempt, instance, generation in found.rows:
        lease = Lease(
            kind=LeaseKind.ACTIVITY,
            key=str(key),
            token=secrets.token_hex(16),
            fence=fence + 1,
            expires_at=until,
        )
        items.append(
            Activity(
                lease=lease,
                id=id_,
                name=name,
                payload=payload,
                queue=queue,
                instance=instance,
                generation=generation,
                attempt=attempt + 1,
            )
        )
    if items:
        db.write(
            effects.LEASE_ACTIVITY,
            [(item.lease.token, item.lease.fence, until, 0, item.attempt, int(item.lease.key)) for item in items],
        )
    if found.more:
        return ActivityBatch(items=items, more=True, next_due=now, now=now)
    return ActivityBatch(items=items, more=False, next_due=db.next_activity(work.hub, queues, names, now), now=now)


def complete_activities(work: Work, done: Sequence[ActivityDone]) -> list[Outcome]:
    """Delete finished activities, each with the delivery of its message."""
    if not done:
        return []
    keys = [key_of(item.lease, LeaseKind.ACTIVITY) for item in done]
    messages = [item.message for item in done if item.message is not None]
    work.load((), {message.instance for message in messages})
    work.load_activities(keys)
    load_targets(work, messages)
    outcomes = []
    deleted: list[tuple[int]] = []
    for key, item in zip(keys, done, strict=True):
        row = work.activities.get(key)
        if row is None or not row.owned_by(item.lease):
            outcomes.append(Outcome.LOST)
            continue
        # Gone for whatever comes behind it.
        del work.activities[key]
        deleted.append((key,))
        if item.message is not None:
            deliver(work, item.message)
        outcomes.append(Outcome.OK)
    if deleted:
        work.db.write(effects.COMPLETE, deleted)
    work.flush()
    return outcomes

"""Claiming and completing activities."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, select, update

from perdure.spi import Activity, ActivityBatch, ActivityDone, ClaimActivities, Lease, LeaseKind, Outcome
from perdure_sqlite import agenda
from perdure_sqlite.messages import deliver, load_targets
from perdure_sqlite.rows import key_of
from perdure_sqlite.statements import TABLES, each, number, plain, sql, words
from perdure_sqlite.work import Work

__all__ = ["claim_activities", "complete_activities"]

_activities = TABLES.activities

_LEASED: Final = ("token", "fence", "lease_until", "hidden_until", "attempt")
_LEASE = sql(
    update(_activities)
    .where(_activities.c.key == number("where_key"))
    .values({name: words("set_token") if name == "token" else number(f"set_{name}") for name in _LEASED}),
    *(f"set_{name}" for name in _LEASED),
    "where_key",
)
_TOKENS = sql(
    select(_activities.c.key, _activities.c.token).where(
        _activities.c.key.in_(select(each("list_").c.value)), plain(_activities.c.hub) == number("hub")
    ),
    *("list_", "hub"),
)
_DELETE = sql(delete(_activities).where(_activities.c.key == number("key")), "key")


def claim_activities(work: Work, request: ClaimActivities, max_items: int) -> ActivityBatch:
    """Lease what the request may have, first in first out."""
    db, now = work.db, work.now
    queues = sorted(set(request.queues))
    if request.names is None:
        names = sorted({name for queue in queues for name in _all_names(work, queue)})
    else:
        names = sorted(set(request.names))
    asked = json.dumps(queues, ensure_ascii=False), json.dumps(names, ensure_ascii=False)
    top = max_items + 1
    found = db.execute(agenda.READY_ACTIVITIES, (*asked, work.hub, now, top, top)).fetchall()
    more = len(found) > max_items
    until = now + request.lease_ms
    items = []
    for key, id_, name, payload, queue, _, fence, attempt, instance, generation in found[:max_items]:
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
        db.executemany(
            _LEASE,
            [(item.lease.token, item.lease.fence, until, 0, item.attempt, int(item.lease.key)) for item in items],
        )
    next_due = now if more else db.execute(agenda.NEXT_ACTIVITY, (work.hub, now, *asked)).fetchone()[0]
    return ActivityBatch(items=items, more=more, next_due=next_due, now=now)


def _all_names(work: Work, queue: str) -> list[str]:
    found = work.db.execute(agenda.ACTIVITY_NAMES, (work.hub, queue, work.hub, queue))
    return [name for (name,) in found]


def complete_activities(work: Work, done: Sequence[ActivityDone]) -> list[Outcome]:
    """Delete finished activities, each with the delivery of its message."""
    if not done:
        return []
    keys = [key_of(item.lease, LeaseKind.ACTIVITY) for item in done]
    tokens = dict(work.db.execute(_TOKENS, (json.dumps(keys), work.hub)).fetchall())
    messages = [item.message for item in done if item.message is not None]
    work.load((), {message.instance for message in messages})
    load_targets(work, messages)
    outcomes = []
    deleted: list[tuple[int]] = []
    for key, item in zip(keys, done, strict=True):
        token = tokens.get(key)
        if token is None or token != item.lease.token:
            outcomes.append(Outcome.LOST)
            continue
        # Gone for those behind it in this batch.
        del tokens[key]
        deleted.append((key,))
        if item.message is not None:
            deliver(work, item.message)
        outcomes.append(Outcome.OK)
    if deleted:
        work.db.executemany(_DELETE, deleted)
    work.flush()
    return outcomes

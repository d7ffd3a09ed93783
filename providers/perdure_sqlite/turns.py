"""Claiming turns."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import select, update

from perdure.spi import (
    START_MESSAGE_ID,
    ClaimTurns,
    Delivery,
    Lease,
    LeaseKind,
    Millis,
    TurnBatch,
    TurnItem,
)
from perdure_sql import CorruptRow
from perdure_sqlite import agenda
from perdure_sqlite.history import join_rows
from perdure_sqlite.rows import SEEN_ALL, SEEN_CONTROL, SEEN_START, STATUSES, InstanceRow, key_of
from perdure_sqlite.statements import NONE, ONE, TABLES, each, number, sql, words
from perdure_sqlite.work import Work

__all__ = ["claim_turns"]

_turns, _inbox, _states = TABLES.instances, TABLES.inbox, TABLES.states
_inputs, _history = TABLES.inputs, TABLES.history
_listed = select(each("list_").c.value)

_LEASED: Final = (
    *("token", "fence", "lease_until", "hidden_until", "attempt"),
    *("seen_due", "seen_seq", "seen_arrivals", "seen_kinds"),
)
_LEASE = sql(
    update(_turns)
    .where(_turns.c.key == number("where_key"))
    .values({name: words("set_token") if name == "token" else number(f"set_{name}") for name in _LEASED}),
    *(f"set_{name}" for name in _LEASED),
    "where_key",
)
_delivered = [_inbox.c[name] for name in ("seq", "id", "payload", "due", "enqueued_at", "control")]
_ordered = (_inbox.c.due, _inbox.c.seq)
_MESSAGES = sql(
    select(_inbox.c.instance, *_delivered)
    .where(_inbox.c.instance.in_(_listed), _inbox.c.due <= number("now"))
    .order_by(_inbox.c.instance, *_ordered),
    *("list_", "now"),
)
_FRONT = sql(
    select(_inbox.c.instance, *_delivered)
    .where(_inbox.c.instance == number("instance"), _inbox.c.due <= number("now"))
    .order_by(*_ordered)
    .limit(number("top"))
    .offset(NONE),
    *("instance", "now", "top"),
)
_CONTROL = sql(
    select(_inbox.c.instance, *_delivered)
    .where(_inbox.c.instance == number("instance"), _inbox.c.control == ONE, _inbox.c.due <= number("now"))
    .order_by(*_ordered)
    .limit(number("top"))
    .offset(NONE),
    *("instance", "now", "top"),
)
_STARTS = sql(
    select(_inputs.c.instance, _inputs.c.start, _turns.c.created_at)
    .join(_turns, _turns.c.key == _inputs.c.instance)
    .where(_inputs.c.instance.in_(_listed)),
    "list_",
)
_STATES = sql(
    select(_states.c.instance, _states.c.custom_status, _states.c.memo).where(_states.c.instance.in_(_listed)), "list_"
)
_HISTORIES = sql(
    select(_history.c.instance, _history.c.first_seq, _history.c.count, _history.c.events)
    .where(_history.c.instance.in_(_listed))
    .order_by(_history.c.instance, _history.c.first_seq),
    "list_",
)

_Message = tuple[int, Delivery]


def claim_turns(work: Work, request: ClaimTurns, max_items: int) -> TurnBatch:
    """Lease what the request may have: first what it holds, then what has been claimable longest."""
    now = work.now
    names = None if request.names is None else frozenset(request.names)
    held = _held(work, request)
    chosen = [row for row in held.values() if _is_due(row, names, now)]
    asked = json.dumps(sorted(_all_names(work) if names is None else names), ensure_ascii=False)
    if len(chosen) <= max_items:
        # One more than fits tells whether there is more; held ones may be found once again.
        chosen += _ready(work, asked, max_items - len(chosen) + len(held) + 1, held)
    more = len(chosen) > max_items
    chosen = chosen[:max_items]
    items = _lease(work, request, chosen, held) if chosen else []
    if more:
        return TurnBatch(items=items, more=True, next_due=now, now=now)
    waiting = [row for key, row in held.items() if all(row is not other for other in chosen)]
    return TurnBatch(items=items, more=False, next_due=_next_due(work, asked, names, waiting), now=now)


def _all_names(work: Work) -> list[str]:
    return [name for (name,) in work.db.execute(agenda.TURN_NAMES, (work.hub, work.hub))]


def _held(work: Work, request: ClaimTurns) -> dict[int, InstanceRow]:
    """Return the rows on which the request holds the current lease."""
    if not request.held:
        return {}
    # Not by key: beside the current lease of an instance a former one may be named.
    keys = [key_of(lease, LeaseKind.TURN) for lease in request.held]
    work.load(keys)
    found = ((work.rows.get(key), lease) for key, lease in zip(keys, request.held, strict=True))
    return {row.key: row for row, lease in found if row is not None and row.owned_by(lease)}


def _is_due(row: InstanceRow, names: Collection[str] | None, now: Millis) -> bool:
    due = row.due_to_holder(named=names is None or row.name in names)
    return due is not None and due <= now


def _ready(work: Work, names: str, top: int, held: Collection[int]) -> list[InstanceRow]:
    """Return instances that anybody may claim, in the order in which they became claimable."""
    found: dict[int, tuple[Millis, int, InstanceRow]] = {}
    rows = work.db.execute(agenda.READY_TURNS, (names, work.hub, work.now, top, top)).fetchall()
    rows += work.db.execute(agenda.CONTROLLED_TURNS, (work.hub, work.now, top)).fetchall()
    for *values, at in rows:
        key = values[0]
        if key not in held:
            row = work.rows.get(key) or InstanceRow(*values)
            found[key] = min(found.get(key, (at, key, row)), (at, key, row))
    return [row for _, _, row in sorted(found.values(), key=lambda entry: entry[:2])]


def _next_due(work: Work, asked: str, names: Collection[str] | None, waiting: Sequence[InstanceRow]) -> Millis | None:
    """Return when the request, made again, could first have something; nothing is ready now."""
    moments = [row.due_to_holder(named=names is None or row.name in names) for row in waiting]
    moments += work.db.execute(agenda.NEXT_TURN, (work.hub, work.now, asked)).fetchone()
    moments += work.db.execute(agenda.NEXT_CONTROLLED_TURN, (work.hub, work.now)).fetchone()
    return min((max(moment, work.now) for moment in moments if moment is not None), default=None)


def _lease(work: Work, request: ClaimTurns, rows: Sequence[InstanceRow], held: Collection[int]) -> list[TurnItem]:
    whole = {row.key for row in rows if _is_whole(row, request, work.now)}
    messages = _messages(work, rows, whole, request.max_messages)
    starts = _starts(work, rows)
    until = work.now + request.lease_ms
    for row in rows:
        if row.key in held:
            row.lease_until = max(row.lease_until, until)
            # The commit that kept the lease set it to 0: this turn is the first try since then.
            row.attempt = max(1, row.attempt)
        else:
            row.token = secrets.token_hex(16)
            row.fence += 1
            row.lease_until = until
            row.hidden_until = 0
            row.attempt += 1
        row.seen_arrivals = row.arrivals
        row.seen_kinds = SEEN_ALL if row.key in whole else SEEN_CONTROL if row.key not in starts else SEEN_START
        row.seen_due, row.seen_seq = _last_place(messages.get(row.key, ()))
    work.db.executemany(
        _LEASE,
        [
            (
                row.token, row.fence, row.lease_until, row.hidden_until, row.attempt,
                row.seen_due, row.seen_seq, row.seen_arrivals, row.seen_kinds, row.key,
            )
            for row in rows
        ],
    )  # fmt: skip
    return _items(work, request, rows, starts, messages)


def _is_whole(row: InstanceRow, request: ClaimTurns, now: Millis) -> bool:
    """Tell whether the claim may have more of an instance than its start and control messages."""
    named = request.names is None or row.name in request.names
    return named and (row.start_due is None or row.start_due <= now)


def _last_place(messages: Sequence[_Message]) -> tuple[Millis, int]:
    if not messages:
        return -1, -1
    seq, last = messages[-1]
    return last.due, seq


def _messages(work: Work, rows: Sequence[InstanceRow], whole: Collection[int], most: int) -> dict[int, list[_Message]]:
    """Return by instance its deliverable messages after the start, with their seq.

    Args:
        work: the operation.
        rows: the instances.
        whole: keys of those of which more than control messages is asked for.
        most: how many of each, the start counted.
    """
    together: list[int] = []
    found: dict[int, list[_Message]] = {}
    selected: list[tuple[int, int, str, bytes, int, int, int]] = []
    for row in rows:
        if not row.pending:
            continue
        if row.key not in whole:
            selected += work.db.execute(_CONTROL, (row.key, work.now, most))
        elif row.pending + (row.start_due is not None) > most:
            room = most - (row.start_due is not None)
            selected += work.db.execute(_FRONT, (row.key, work.now, room))
        else:
            together.append(row.key)
    if together:
        selected += work.db.execute(_MESSAGES, (json.dumps(together), work.now))
    for instance, seq, id_, payload, due, enqueued_at, control in selected:
        delivery = Delivery(id=id_, payload=payload, due=due, enqueued_at=enqueued_at, control=bool(control))
        found.setdefault(instance, []).append((seq, delivery))
    return found


def _items(
    work: Work,
    request: ClaimTurns,
    rows: Sequence[InstanceRow],
    starts: dict[int, Delivery],
    messages: dict[int, list[_Message]],
) -> list[TurnItem]:
    db = work.db
    # A row that was never committed has no state yet.
    known = json.dumps([row.key for row in rows if row.commit_id is not None])
    states = {key: (status, memo) for key, status, memo in db.execute(_STATES, (known,))} if known != "[]" else {}
    histories = _histories(work, rows) if request.inline_history else {}
    items = []
    for row in rows:
        custom_status, memo = states.get(row.key, (None, None))
        history, error = histories.get(row.key, (None, None))
        delivered = [delivery for _, delivery in messages.get(row.key, ())]
        if row.key in starts:
            delivered.insert(0, starts[row.key])
        items.append(
            TurnItem(
                lease=Lease(
                    kind=LeaseKind.TURN,
                    key=str(row.key),
                    token=row.token or "",
                    fence=row.fence,
                    expires_at=row.lease_until,
                ),
                instance=row.id,
                generation=row.generation,
                execution=row.execution,
                name=row.name,
                version=row.version,
                status=STATUSES[row.status],
                messages=delivered,
                next_seq=row.next_seq,
                attempt=row.attempt,
                history=history,
                custom_status=custom_status,
                memo=memo,
                error=error,
            )
        )
    return items


def _starts(work: Work, rows: Sequence[InstanceRow]) -> dict[int, Delivery]:
    dues = {row.key: row.start_due for row in rows if row.start_due is not None and row.start_due <= work.now}
    if not dues:
        return {}
    found = work.db.execute(_STARTS, (json.dumps(list(dues)),))
    return {
        key: Delivery(id=START_MESSAGE_ID, payload=payload, due=dues[key], enqueued_at=created_at)
        for key, payload, created_at in found
    }


def _histories(work: Work, rows: Sequence[InstanceRow]) -> dict[int, tuple[list[bytes] | None, str | None]]:
    stored: dict[int, list[tuple[int, int, bytes]]] = {row.key: [] for row in rows}
    for instance, *values in work.db.execute(_HISTORIES, (json.dumps(list(stored)),)):
        stored[instance].append((values[0], values[1], values[2]))
    found: dict[int, tuple[list[bytes] | None, str | None]] = {}
    for row in rows:
        try:
            found[row.key] = join_rows(stored[row.key], 0, row.next_seq), None
        except CorruptRow as error:
            found[row.key] = None, f"history of instance {row.id!r} can't be decoded: {error}"
    return found

"""Claiming turns."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from typing import Any

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
from perdure_sql import effects
from perdure_sql.framing import CorruptRow
from perdure_sql.history import join_rows
from perdure_sql.rows import SEEN_ALL, SEEN_CONTROL, SEEN_START, STATUSES, InstanceRow, key_of
from perdure_sql.work import Work

__all__ = ["claim_turns"]

_Message = tuple[int, Delivery]


def claim_turns(work: Work, request: ClaimTurns, max_items: int) -> TurnBatch:
    """Lease what the request may have: first what it holds, then what has been claimable longest."""
    now = work.now
    names = None if request.names is None else frozenset(request.names)
    held = _held(work, request)
    chosen = [row for row in held.values() if _is_due(row, names, now)]
    asked = sorted(work.db.turn_names(work.hub) if names is None else names)
    more = len(chosen) > max_items
    if more:
        chosen = chosen[:max_items]
    else:
        found = work.db.ready_turns(work.hub, asked, now, max_items - len(chosen), held)
        more = found.more
        chosen += [work.rows.get(values[0]) or InstanceRow(*values) for values in found.rows]
    items = _lease(work, request, chosen, held) if chosen else []
    if more:
        return TurnBatch(items=items, more=True, next_due=now, now=now)
    waiting = [row for key, row in held.items() if all(row is not other for other in chosen)]
    return TurnBatch(items=items, more=False, next_due=_next_due(work, asked, names, waiting), now=now)


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


def _next_due(
    work: Work,
    asked: Collection[str],
    names: Collection[str] | None,
    waiting: Sequence[InstanceRow],
) -> Millis | None:
    """Return when the request, made again, could first have something; nothing is ready now."""
    moments = [row.due_to_holder(named=names is None or row.name in names) for row in waiting]
    moments.append(work.db.next_turn(work.hub, asked, work.now))
    return min((max(moment, work.now) for moment in moments if moment is not None), default=None)


def _lease(work: Work, request: ClaimTurns, rows: Sequence[InstanceRow], held: Collection[int]) -> list[TurnItem]:
    whole = {row.key for row in rows if _is_whole(row, request, work.now)}
    # All that is read is asked for first: a database far away is waited for once.
    asked = _ask_messages(work, rows, whole, request.max_messages)
    asked_starts = _ask_starts(work, rows)
    # A row that was never committed has no state yet.
    known = [row.key for row in rows if row.commit_id is not None]
    states = work.db.states(known) if known else ()
    histories = work.db.histories([row.key for row in rows]) if request.inline_history else ()
    messages = _messages(asked)
    starts = _starts(rows, asked_starts)
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
    work.db.write(
        effects.LEASE_TURN,
        [
            (
                row.token, row.fence, row.lease_until, row.hidden_until, row.attempt,
                row.seen_due, row.seen_seq, row.seen_arrivals, row.seen_kinds, row.key,
            )
            for row in rows
        ],
    )  # fmt: skip
    found = _histories(rows, histories) if request.inline_history else {}
    return _items(rows, starts, messages, {key: (status, memo) for key, status, memo in states}, found)


def _is_whole(row: InstanceRow, request: ClaimTurns, now: Millis) -> bool:
    """Tell whether the claim may have more of an instance than its start and control messages."""
    named = request.names is None or row.name in request.names
    return named and (row.start_due is None or row.start_due <= now)


def _last_place(messages: Sequence[_Message]) -> tuple[Millis, int]:
    if not messages:
        return -1, -1
    seq, last = messages[-1]
    return last.due, seq


def _ask_messages(
    work: Work, rows: Sequence[InstanceRow], whole: Collection[int], most: int
) -> list[Iterable[Sequence[Any]]]:
    """Ask for the deliverable messages of instances, their starts left out.

    Args:
        work: the operation.
        rows: the instances.
        whole: keys of those of which more than control messages is asked for.
        most: how many of each, the start counted.
    """
    together: list[int] = []
    asked = []
    for row in rows:
        if not row.pending:
            continue
        if row.key not in whole:
            asked.append(work.db.first_messages(row.key, work.now, most, control=True))
        elif row.pending + (row.start_due is not None) > most:
            room = most - (row.start_due is not None)
            asked.append(work.db.first_messages(row.key, work.now, room, control=False))
        else:
            together.append(row.key)
    if together:
        asked.append(work.db.messages(together, work.now))
    return asked


def _messages(asked: Iterable[Iterable[Sequence[Any]]]) -> dict[int, list[_Message]]:
    """Return by instance the messages that were asked for, with their seq."""
    found: dict[int, list[_Message]] = {}
    for rows in asked:
        for instance, seq, id_, payload, due, enqueued_at, control in rows:
            delivery = Delivery(id=id_, payload=payload, due=due, enqueued_at=enqueued_at, control=bool(control))
            found.setdefault(instance, []).append((seq, delivery))
    return found


def _items(
    rows: Sequence[InstanceRow],
    starts: dict[int, Delivery],
    messages: dict[int, list[_Message]],
    states: dict[int, tuple[bytes | None, bytes | None]],
    histories: dict[int, tuple[list[bytes] | None, str | None]],
) -> list[TurnItem]:
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


def _ask_starts(work: Work, rows: Sequence[InstanceRow]) -> Iterable[tuple[int, bytes, Millis]]:
    due = [row.key for row in rows if row.start_due is not None and row.start_due <= work.now]
    return work.db.starts(due) if due else ()


def _starts(rows: Sequence[InstanceRow], found: Iterable[tuple[int, bytes, Millis]]) -> dict[int, Delivery]:
    dues = {row.key: row.start_due or 0 for row in rows}
    return {
        key: Delivery(id=START_MESSAGE_ID, payload=payload, due=dues[key], enqueued_at=created_at)
        for key, payload, created_at in found
    }


def _histories(
    rows: Sequence[InstanceRow], selected: Iterable[tuple[int, int, int, bytes]]
) -> dict[int, tuple[list[bytes] | None, str | None]]:
    stored: dict[int, list[tuple[int, int, bytes]]] = {row.key: [] for row in rows}
    for instance, first_seq, count, value in selected:
        stored[instance].append((first_seq, count, value))
    found: dict[int, tuple[list[bytes] | None, str | None]] = {}
    for row in rows:
        try:
            found[row.key] = join_rows(stored[row.key], 0, row.next_seq), None
        except CorruptRow as error:
            found[row.key] = None, f"history of instance {row.id!r} can't be decoded: {error}"
    return found

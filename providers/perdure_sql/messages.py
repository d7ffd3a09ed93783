"""Putting messages into inboxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perdure.spi import Message, OrchestrationStatus, Outcome, Transient
from perdure_sql.rows import TERMINAL, InstanceRow
from perdure_sql.work import Work

__all__ = ["deliver", "load_targets", "send_messages"]


def send_messages(work: Work, messages: Sequence[Message], *, bounded: bool = True) -> list[Outcome]:
    """Send what clients send: their ids are remembered after consumption, and a full inbox refuses if `bounded`."""
    work.load((), {message.instance for message in messages})
    load_targets(work, messages)
    outcomes = []
    for message in messages:
        outcome = deliver(work, message, client=True)
        if bounded and outcome is Outcome.OK:
            _check_room(work, message.instance)
        outcomes.append(outcome)
    work.flush()
    return outcomes


def load_targets(work: Work, messages: Iterable[Message]) -> None:
    """Read whether messages to instances that are loaded are known already."""
    fresh = []
    for message in messages:
        row = work.ids.get(message.instance)
        if row is not None and not work.is_new(row):
            fresh.append((row.key, message.id))
    work.load_messages((), fresh)


def deliver(work: Work, message: Message, *, client: bool = False) -> Outcome:
    """Put one message into the inbox of its target, if that can take it; both must be loaded."""
    row = work.ids[message.instance]
    if row is None or message.generation not in (None, row.generation):
        return Outcome.NOT_FOUND
    ended = row.status in TERMINAL
    if ended and row.status not in message.reopen:
        return Outcome.TERMINAL
    if (row.key, message.id) in work.headers or (row.key, message.id) in work.known:
        return Outcome.DUPLICATE
    if ended:
        _reopen(work, row)
    work.add_message(row, message.id, message.payload, message.due, control=message.control, client=client)
    return Outcome.OK


def _reopen(work: Work, row: InstanceRow) -> None:
    row.status = OrchestrationStatus.RUNNING.value
    row.completed_at = None
    work.set_state(row, "output", None)
    work.set_state(row, "failure", None)
    work.touch(row)


def _check_room(work: Work, instance: str) -> None:
    row = work.ids[instance]
    if row is not None and row.pending + (row.start_due is not None) > work.limits.max_pending:
        # Raised before anything is written: the whole call is without effect.
        raise Transient(f"instance {instance!r} has {work.limits.max_pending} messages pending", retry_after=1.0)

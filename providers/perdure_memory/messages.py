"""Putting messages into inboxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from perdure.spi import Limits, Message, Millis, OrchestrationStatus, Outcome, Transient
from perdure_memory.inbox import PendingMessage
from perdure_memory.state import HubState, Instance


def send_messages(state: HubState, messages: Sequence[Message], now: Millis, limits: Limits) -> list[Outcome]:
    """Send what clients send: their ids are remembered after consumption, and a full inbox refuses."""
    _check_room(state, messages, now, limits)
    return [deliver(state, message, now, from_client=True) for message in messages]


def deliver(state: HubState, message: Message, now: Millis, *, from_client: bool = False) -> Outcome:
    """Put one message into the inbox of its target, if that can take it."""
    refusal = _refusal(state, message, now)
    if refusal is not None:
        return refusal
    instance = state.instances[message.instance]
    if instance.status.is_terminal:
        _reopen(state, instance, now)
    instance.inbox.add(
        PendingMessage(
            id=message.id,
            payload=message.payload,
            due=instance.inbox.stored_due(message.due, now),
            enqueued_at=now,
            number=next(state.numbers),
            control=message.control,
            from_client=from_client,
        )
    )
    state.reschedule(instance)
    state.announce(instance)
    return Outcome.OK


def _refusal(state: HubState, message: Message, now: Millis) -> Outcome | None:
    """Tell why a message can't be taken; None if it can."""
    instance = state.instances.get(message.instance)
    if instance is None or message.generation not in (None, instance.generation):
        return Outcome.NOT_FOUND
    if instance.status.is_terminal and instance.status not in message.reopen:
        return Outcome.TERMINAL
    if instance.inbox.knows(message.id, now):
        return Outcome.DUPLICATE
    return None


def _reopen(state: HubState, instance: Instance, now: Millis) -> None:
    instance.status = OrchestrationStatus.RUNNING
    instance.completed_at = None
    instance.output = None
    instance.failure = None
    state.touch(instance, now)


def _check_room(state: HubState, messages: Sequence[Message], now: Millis, limits: Limits) -> None:
    """Raise `Transient` where an inbox could not take all that would be put into it."""
    arriving: dict[str, set[str]] = defaultdict(set)
    for message in messages:
        if _refusal(state, message, now) is None:
            arriving[message.instance].add(message.id)
    for instance, ids in arriving.items():
        if len(state.instances[instance].inbox) + len(ids) > limits.max_pending:
            raise Transient(f"instance {instance!r} has {limits.max_pending} messages pending", retry_after=1.0)

"""Which of an instance's messages a turn takes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perdure import history as h
from perdure.limits import MAX_TURN_INTAKE_BYTES
from perdure.runtime_state import RuntimeState
from perdure.spi import Delivery

__all__ = ["Intake", "take_in"]


@dataclass(slots=True, kw_only=True)
class Intake:
    """A turn's messages, sorted out."""

    events: list[h.Event] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    """Ids of messages that say nothing (any more)."""

    def has(self, kind: type[h.Event]) -> bool:
        """Return whether an event of `kind` is among them."""
        return any(type(event) is kind for event in self.events)


def take_in(messages: Sequence[Delivery], state: RuntimeState) -> Intake:
    """Sort a claim's messages out, as many from the front as fit into one commit.

    Raises:
        Corrupt: one of them can't be decoded.
    """
    intake = Intake()
    size = 0
    for message in messages:
        size += len(message.payload)
        if size > MAX_TURN_INTAKE_BYTES and intake.events:
            # What stays in the inbox makes the instance claimable again at once.
            break
        if not message.payload:
            # It only had to wake the instance.
            intake.dropped.append(message.id)
            continue
        event = h.decode_event(message.payload)
        number = _answered(event)
        if number is not None and not state.awaits(number, message.id):
            # The outcome of something that this execution doesn't wait for: of a former execution or attempt.
            intake.dropped.append(message.id)
            continue
        intake.events.append(event)
        intake.stored.append(message.payload)
        intake.ids.append(message.id)
    return intake


def _answered(event: h.Event) -> int | None:
    match event:
        case h.TaskCompleted() | h.TaskFailed() | h.SubOrchestrationCompleted() | h.SubOrchestrationFailed():
            return event.task_scheduled_id
        case h.TimerFired():
            return event.timer_id
        case _:
            return None

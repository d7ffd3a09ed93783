"""What a history amounts to: the facts about an execution that don't need its code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from perdure import history as h
from perdure.recording import cancelled_task
from perdure.spi import Millis

__all__ = ["OpenTask", "RuntimeState"]


@dataclass(slots=True, frozen=True)
class OpenTask:
    """Something scheduled that has no outcome yet."""

    kind: Literal["activity", "timer", "child"]
    seq: int
    """Place in history of the event that scheduled it: with the execution id its identity."""
    instance_id: str | None = None
    """Of a child."""


@dataclass(slots=True)
class RuntimeState:
    """One execution, folded up event by event. No I/O, no user code."""

    started: h.ExecutionStarted | None = None
    suspended: bool = False
    awaits_turn: bool = False
    """Continue-as-new opened this execution, and none of its code has run yet."""
    now: Millis = 0
    """The time of the last turn."""
    next_seq: int = 0
    open: dict[int, OpenTask] = field(default_factory=dict)
    """By `event_id`."""

    def apply(self, event: h.Event) -> None:
        """Take the next event of the history in."""
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)
        self.next_seq += 1

    def origin(self, seq: int) -> str:
        """Return the identity of what the event at `seq` scheduled: of the activity, the timer, the result."""
        if self.started is None:
            raise ValueError("nothing is scheduled before the start")
        return f"{self.started.execution_id}:{seq}"

    def awaits(self, event_id: int, origin: str) -> bool:
        """Return whether an outcome that came under `origin` is that of an open task of this execution."""
        task = self.open.get(event_id)
        return task is not None and self.started is not None and self.origin(task.seq) == origin

    def _on_turn(self, event: h.OrchestratorStarted) -> None:
        self.now = event.timestamp
        self.awaits_turn = False

    def _on_started(self, event: h.ExecutionStarted) -> None:
        self.started = event
        self.awaits_turn = event.continued_from is not None

    def _on_suspended(self, event: h.ExecutionSuspended) -> None:
        del event
        self.suspended = True

    def _on_resumed(self, event: h.ExecutionResumed) -> None:
        del event
        self.suspended = False

    def _on_activity(self, event: h.TaskScheduled) -> None:
        self.open[event.event_id] = OpenTask("activity", self.next_seq)

    def _on_timer(self, event: h.TimerCreated) -> None:
        self.open[event.event_id] = OpenTask("timer", self.next_seq)

    def _on_child(self, event: h.SubOrchestrationCreated) -> None:
        self.open[event.event_id] = OpenTask("child", self.next_seq, event.instance_id)

    def _on_outcome(self, event: Any) -> None:
        self.open.pop(event.task_scheduled_id, None)

    def _on_fired(self, event: h.TimerFired) -> None:
        self.open.pop(event.timer_id, None)

    def _on_generic(self, event: h.Generic) -> None:
        cancelled = cancelled_task(event)
        if cancelled is not None:
            self.open.pop(cancelled, None)


_HANDLERS: Final[dict[type[h.Event], Callable[[RuntimeState, Any], None]]] = {
    h.OrchestratorStarted: RuntimeState._on_turn,
    h.ExecutionStarted: RuntimeState._on_started,
    h.ExecutionSuspended: RuntimeState._on_suspended,
    h.ExecutionResumed: RuntimeState._on_resumed,
    h.TaskScheduled: RuntimeState._on_activity,
    h.TimerCreated: RuntimeState._on_timer,
    h.SubOrchestrationCreated: RuntimeState._on_child,
    h.TaskCompleted: RuntimeState._on_outcome,
    h.TaskFailed: RuntimeState._on_outcome,
    h.SubOrchestrationCompleted: RuntimeState._on_outcome,
    h.SubOrchestrationFailed: RuntimeState._on_outcome,
    h.TimerFired: RuntimeState._on_fired,
    h.Generic: RuntimeState._on_generic,
}

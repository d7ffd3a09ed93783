"""A turn's commit in the making: decisions become events, messages, activities and children."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from perdure import decisions as d
from perdure import history as h
from perdure.errors import InstanceAlreadyExists, OrchestrationTerminated
from perdure.failures import FailureDetails
from perdure.intake import Intake
from perdure.live import Live
from perdure.recording import record
from perdure.registry import Registry
from perdure.replay.machine import TurnResult
from perdure.spi import (
    UNSET,
    Message,
    Millis,
    NewActivity,
    NewInstance,
    NextExecution,
    OrchestrationStatus,
    ThreeValued,
    TurnCommit,
    TurnItem,
)

__all__ = ["Draft", "Turn"]

logger = logging.getLogger("perdure")

_RETRY_REPLACES: Final = frozenset({OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED})


@dataclass(slots=True, kw_only=True)
class Turn:
    """A turn that ran."""

    item: TurnItem
    commit: TurnCommit
    at: Millis
    """Its time, in the orchestration's history."""
    started: h.ExecutionStarted | None
    live: Live | None
    """To be kept if the commit is applied; None where nothing of it is worth keeping."""
    is_refusal: bool = False
    """It ends an instance whose real turn the provider refused."""


def _start_event(
    *,
    at: Millis,
    name: str,
    instance_id: str,
    input: bytes | None,
    version: str | None = None,
    parent: h.ParentInstance | None = None,
    tags: Mapping[str, str] | None = None,
    continued_from: str | None = None,
    trace_context: h.TraceContext | None = None,
) -> h.ExecutionStarted:
    """Return the event that starts an execution under a fresh execution id."""
    return h.ExecutionStarted(
        timestamp=at,
        name=name,
        instance_id=instance_id,
        execution_id=uuid.uuid4().hex,
        version=version,
        input=input,
        parent=parent,
        tags=dict(tags) if tags else None,
        continued_from=continued_from,
        trace_context=trace_context,
    )


class Draft:
    """A commit in the making."""

    def __init__(self, item: TurnItem, live: Live, at: Millis, registry: Registry) -> None:
        self.at = at
        self.consumed: list[str] = []
        self._item = item
        self._live: Live | None = live
        self._state = live.state
        self._registry = registry
        self._events: list[bytes] = []
        self._activities: list[NewActivity] = []
        self._messages: list[Message] = []
        self._starts: list[NewInstance] = []
        self._cancel_activities: list[str] = []
        self._cancel_messages: list[str] = []
        self._completion: d.CompleteOrchestration | None = None
        self._continued: NextExecution | None = None
        self._custom_status: ThreeValued = UNSET

    def open_turn(self, intake: Intake, *, used: int | None = None) -> None:
        """Record that a turn began, and the messages that went in."""
        self._append(h.OrchestratorStarted(timestamp=self.at))
        for event, stored in zip(intake.events[:used], intake.stored[:used], strict=True):
            self._append(event, stored)
        self.consumed += intake.ids[:used]

    def forward_control(self, intake: Intake) -> None:
        """Send what suspends or resumes the instance again, as ordinary messages and in order.

        A control message comes to any worker. One that hasn't the instance's code can terminate it, but not hold its
        events back or apply them; an ordinary message comes to a worker that can.
        """
        for event, stored, message_id in zip(intake.events, intake.stored, intake.ids, strict=True):
            if isinstance(event, (h.ExecutionSuspended, h.ExecutionResumed)):
                self.consumed.append(message_id)
                self._messages.append(self._to_self(f"{message_id}+", stored))

    def terminations(self) -> list[d.Decision]:
        """Return the decisions that terminate all open children."""
        return [
            d.TerminateInstance(instance_id=task.instance_id, generation=self._child_generation(task.seq))
            for task in self._state.open.values()
            if task.instance_id is not None
        ]

    def conclude(self, result: TurnResult) -> None:
        """Turn decisions into events and effects."""
        self._custom_status = result.custom_status
        for decision in result.decisions:
            _CONCLUDERS[type(decision)](self, decision)

    def turn(self) -> Turn:
        """Return the commit."""
        item, state = self._item, self._state
        completion = self._completion
        ended = completion is not None or self._continued is not None
        if completion is not None:
            status = completion.status
        elif state.suspended:
            status = OrchestrationStatus.SUSPENDED
        else:
            status = OrchestrationStatus.PENDING if state.started is None else OrchestrationStatus.RUNNING
        failure = completion.failure if completion is not None else None
        if ended:
            # What nobody can wait for any more isn't started: neither by a finished instance nor by a closed execution.
            self._activities.clear()
        commit = TurnCommit(
            lease=item.lease,
            commit_id=uuid.uuid4().hex,
            execution=item.execution,
            expected_next_seq=item.next_seq,
            status=status,
            events=self._events,
            consumed=self.consumed,
            activities=self._activities,
            messages=self._messages,
            starts=self._starts,
            cancel_activities=self._cancel_activities,
            cancel_all=self._continued is not None,
            cancel_messages=self._cancel_messages,
            output=completion.result if completion is not None else UNSET,
            custom_status=self._custom_status,
            failure=h.encode_failure(failure) if failure is not None else None,
            continued=self._continued,
        )
        if ended and self._live is not None:
            self._live.close()
            self._live = None
        return Turn(item=item, commit=commit, at=self.at, started=state.started, live=self._live)

    def _append(self, event: h.Event, stored: bytes | None = None) -> bytes:
        encoded = h.encode_event(event) if stored is None else stored
        self._events.append(encoded)
        self._state.apply(event)
        return encoded

    def _to_self(self, message_id: str, payload: bytes, *, due: Millis = 0) -> Message:
        item = self._item
        return Message(id=message_id, instance=item.instance, generation=item.generation, payload=payload, due=due)

    def _child_identity(self, what: str, seq: int) -> str:
        parts = (what, self._item.instance, self._item.generation, self._state.origin(seq))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def _child_generation(self, seq: int) -> str:
        # Derived, so that a terminate reaches the very child that was started, without a note of it.
        return self._child_identity("generation", seq)

    def _schedule_activity(self, decision: d.ScheduleActivity) -> None:
        origin = self._state.origin(self._state.next_seq)
        stored = self._append(record(decision, self.at))
        self._activities.append(NewActivity(id=origin, name=decision.name, payload=stored))
        if decision.name not in self._registry.activities:
            logger.warning(
                "instance %r calls activity %r, which this worker doesn't register; it waits until some worker does",
                self._item.instance,
                decision.name,
            )

    def _create_timer(self, decision: d.CreateTimer) -> None:
        origin = self._state.origin(self._state.next_seq)
        self._append(record(decision, self.at))
        fired = h.TimerFired(timestamp=decision.fire_at, timer_id=decision.id, fire_at=decision.fire_at)
        # A due of 0 would mean "in order of arrival"; 1 is as long ago and is a timer's.
        self._messages.append(self._to_self(origin, h.encode_event(fired), due=max(1, decision.fire_at)))

    def _start_child(self, decision: d.StartSubOrchestration) -> None:
        item, state = self._item, self._state
        seq = state.next_seq
        origin = state.origin(seq)
        child_id = decision.instance_id or self._child_identity("id", seq)
        self._append(record(replace(decision, instance_id=child_id), self.at))
        assert state.started is not None
        parent = h.ParentInstance(
            instance_id=item.instance,
            generation=item.generation,
            execution_id=state.started.execution_id,
            name=item.name,
            version=item.version,
            task_id=decision.id,
            seq=seq,
        )
        start = _start_event(
            at=self.at,
            name=decision.name,
            instance_id=child_id,
            input=decision.input,
            version=decision.version,
            parent=parent,
            tags=decision.tags,
            trace_context=state.started.trace_context,
        )
        taken = h.SubOrchestrationFailed(
            timestamp=self.at,
            task_scheduled_id=decision.id,
            failure=FailureDetails.from_exception(InstanceAlreadyExists(child_id)),
        )
        self._starts.append(
            NewInstance(
                id=child_id,
                name=decision.name,
                start=h.encode_event(start),
                generation=self._child_generation(seq),
                input=decision.input,
                version=decision.version,
                parent=item.instance,
                tags=decision.tags or {},
                replace_if=_RETRY_REPLACES if decision.retry else frozenset(),
                on_conflict=self._to_self(origin, h.encode_event(taken)),
            )
        )

    def _send_event(self, decision: d.SendEvent) -> None:
        origin = self._state.origin(self._state.next_seq)
        self._append(record(decision, self.at))
        raised = h.EventRaised(timestamp=self.at, name=decision.name, input=decision.input)
        self._messages.append(Message(id=origin, instance=decision.instance_id, payload=h.encode_event(raised)))

    def _cancel_task(self, decision: d.CancelTask) -> None:
        task = self._state.open.get(decision.id)
        self._append(record(decision, self.at))
        if task is None:
            return
        if task.kind == "activity":
            self._cancel_activities.append(self._state.origin(task.seq))
        elif task.kind == "timer":
            self._cancel_messages.append(self._state.origin(task.seq))
        elif task.instance_id is not None:
            generation = self._child_generation(task.seq)
            others = [start for start in self._starts if start.generation != generation]
            if len(others) < len(self._starts):
                # Started in this very turn: it need not be started at all.
                self._starts = others
            else:
                self._terminate(d.TerminateInstance(instance_id=task.instance_id, generation=generation))

    def _terminate(self, decision: d.TerminateInstance) -> None:
        terminated = h.ExecutionTerminated(timestamp=self.at, output=decision.output, recurse=decision.recurse)
        self._messages.append(
            Message(
                id=uuid.uuid4().hex,
                instance=decision.instance_id,
                generation=decision.generation,
                payload=h.encode_event(terminated),
                control=True,
            )
        )

    def _complete(self, decision: d.CompleteOrchestration) -> None:
        self._completion = decision
        self._append(record(decision, self.at))
        parent = self._state.started.parent if self._state.started is not None else None
        if parent is None:
            return
        answer: h.Event
        if decision.status is OrchestrationStatus.COMPLETED:
            answer = h.SubOrchestrationCompleted(
                timestamp=self.at, task_scheduled_id=parent.task_id, result=decision.result
            )
        else:
            failure = decision.failure or FailureDetails.from_exception(OrchestrationTerminated(self._item.instance))
            answer = h.SubOrchestrationFailed(timestamp=self.at, task_scheduled_id=parent.task_id, failure=failure)
        self._messages.append(
            Message(
                id=f"{parent.execution_id}:{parent.seq}",
                instance=parent.instance_id,
                generation=parent.generation,
                payload=h.encode_event(answer),
            )
        )

    def _continue(self, decision: d.ContinueOrchestration) -> None:
        state, old = self._state, self._state.started
        assert old is not None
        self._cancel_messages += [state.origin(task.seq) for task in state.open.values() if task.kind == "timer"]
        self._append(record(decision, self.at))
        version = old.version if decision.version is None else decision.version
        started = _start_event(
            at=self.at,
            name=old.name,
            instance_id=old.instance_id,
            input=decision.input,
            version=version,
            parent=old.parent,
            tags=old.tags,
            continued_from=old.execution_id,
            trace_context=old.trace_context,
        )
        opening = [h.encode_event(h.OrchestratorStarted(timestamp=self.at)), h.encode_event(started)]
        self._continued = NextExecution(events=[*opening, *decision.carried], input=decision.input, version=version)
        self._messages.append(self._to_self(f"{started.execution_id}:start", b""))


_CONCLUDERS: Final[dict[type, Callable[[Draft, Any], None]]] = {
    d.ScheduleActivity: Draft._schedule_activity,
    d.CreateTimer: Draft._create_timer,
    d.StartSubOrchestration: Draft._start_child,
    d.SendEvent: Draft._send_event,
    d.CancelTask: Draft._cancel_task,
    d.TerminateInstance: Draft._terminate,
    d.CompleteOrchestration: Draft._complete,
    d.ContinueOrchestration: Draft._continue,
}

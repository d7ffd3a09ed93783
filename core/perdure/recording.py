"""How decisions stand in history, and how to tell that one of them is what history holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from perdure import decisions as d
from perdure import history as h
from perdure.spi import Millis

__all__ = ["cancelled_task", "describe_decision", "describe_event", "is_recorded_as", "record"]


def record(decision: d.Decision, at: Millis) -> h.Event:
    """Return the event under which `decision` goes into history.

    Args:
        decision: any but a `TerminateInstance`, which leaves no trace; a `StartSubOrchestration` with its id.
        at: the time of the turn.
    """
    return _RECORDERS[type(decision)](decision, at)


def cancelled_task(event: h.Generic) -> int | None:
    """Return the number of the task that `event` says was cancelled, None where it says something else."""
    try:
        said = orjson.loads(event.data or b"null")
    except orjson.JSONDecodeError:
        return None
    number = said.get("cancelled") if isinstance(said, dict) else None
    return number if isinstance(number, int) else None


def is_recorded_as(decision: d.Decision, event: h.Event) -> bool:
    """Return whether `event` is the record of `decision`.

    Kinds, names and targets must be equal. Inputs and times need not be: a deploy that adds a field to an input
    must not break what runs.
    """
    match decision, event:
        case d.ScheduleActivity(), h.TaskScheduled():
            return decision.name == event.name
        case d.StartSubOrchestration(), h.SubOrchestrationCreated():
            return decision.name == event.name and decision.instance_id in {None, event.instance_id}
        case d.SendEvent(), h.EventSent():
            return decision.name == event.name and decision.instance_id == event.instance_id
        case d.CancelTask(), h.Generic():
            return decision.id == cancelled_task(event)
        case d.CompleteOrchestration(), h.ExecutionCompleted():
            return decision.status is event.status
        case (d.CreateTimer(), h.TimerCreated()) | (d.ContinueOrchestration(), h.ContinueAsNew()):
            return True
        case _:
            return False


def describe_decision(decision: d.Decision) -> str:
    """Return `decision` in words, for an error message."""
    match decision:
        case d.ScheduleActivity():
            return f"activity {decision.name!r}"
        case d.CreateTimer():
            return "a timer"
        case d.StartSubOrchestration():
            return f"sub-orchestration {decision.name!r}" + _with_id(decision.instance_id)
        case d.SendEvent():
            return f"event {decision.name!r} to instance {decision.instance_id!r}"
        case d.CancelTask():
            return f"the cancelling of task {decision.id}"
        case d.TerminateInstance():
            return f"the termination of instance {decision.instance_id!r}"
        case d.CompleteOrchestration():
            why = f" ({decision.failure.error_type}: {decision.failure.message})" if decision.failure else ""
            return f"the end with status {decision.status}{why}"
        case d.ContinueOrchestration():
            return "continue-as-new"


def describe_event(event: h.Event) -> str:
    """Return `event` in words, for an error message."""
    match event:
        case h.TaskScheduled():
            return f"activity {event.name!r}"
        case h.TimerCreated():
            return "a timer"
        case h.SubOrchestrationCreated():
            return f"sub-orchestration {event.name!r}" + _with_id(event.instance_id)
        case h.EventSent():
            return f"event {event.name!r} to instance {event.instance_id!r}"
        case h.Generic():
            return f"the cancelling of task {cancelled_task(event)}"
        case h.ExecutionCompleted():
            return f"the end with status {event.status}"
        case h.ContinueAsNew():
            return "continue-as-new"
        case _:
            return type(event).__name__


def _with_id(instance_id: str | None) -> str:
    return f" with id {instance_id!r}" if instance_id is not None else ""


def _record_child(decision: d.StartSubOrchestration, at: Millis) -> h.Event:
    if decision.instance_id is None:
        raise ValueError("a sub-orchestration is recorded under the id that it was given")
    return h.SubOrchestrationCreated(
        timestamp=at,
        event_id=decision.id,
        name=decision.name,
        instance_id=decision.instance_id,
        version=decision.version,
        input=decision.input,
    )


_RECORDERS: Final[dict[type, Callable[[Any, Millis], h.Event]]] = {
    d.ScheduleActivity: lambda decision, at: h.TaskScheduled(
        timestamp=at, event_id=decision.id, name=decision.name, version=decision.version, input=decision.input
    ),
    d.CreateTimer: lambda decision, at: h.TimerCreated(timestamp=at, event_id=decision.id, fire_at=decision.fire_at),
    d.StartSubOrchestration: _record_child,
    d.SendEvent: lambda decision, at: h.EventSent(
        timestamp=at,
        event_id=decision.id,
        instance_id=decision.instance_id,
        name=decision.name,
        input=decision.input,
    ),
    d.CancelTask: lambda decision, at: h.Generic(timestamp=at, data=orjson.dumps({"cancelled": decision.id})),
    d.CompleteOrchestration: lambda decision, at: h.ExecutionCompleted(
        timestamp=at, status=decision.status, result=decision.result, failure=decision.failure
    ),
    d.ContinueOrchestration: lambda decision, at: h.ContinueAsNew(timestamp=at, input=decision.input),
}

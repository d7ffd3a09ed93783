"""The events of an orchestration, and how they are stored.

The model follows Durable Task: each turn opens with `OrchestratorStarted`, whose timestamp is the
orchestration's clock; what arrives (`ExecutionStarted`, `TaskCompleted`, `EventRaised`...) comes next, and
then what the orchestrator decided (`TaskScheduled`, `TimerCreated`...). `event_id` is the number of a
decision, chosen by the orchestrator's side and not unique in a history; events that arrive have -1.
A message in an instance's inbox is an event too, encoded the same way, and goes into history as it came.

Stored form: a line of JSON with all fields but the payload, then, if there is a payload, a newline and the
payload's own bytes. So a payload is never escaped again, grows by nothing, and comes back byte for byte.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import orjson

from perdure.errors import Corrupt
from perdure.failures import FailureDetails
from perdure.spi import Millis, OrchestrationStatus

__all__ = [
    "ContinueAsNew",
    "Event",
    "EventRaised",
    "EventSent",
    "ExecutionCompleted",
    "ExecutionResumed",
    "ExecutionRewound",
    "ExecutionStarted",
    "ExecutionSuspended",
    "ExecutionTerminated",
    "Generic",
    "OrchestratorStarted",
    "ParentInstance",
    "SubOrchestrationCompleted",
    "SubOrchestrationCreated",
    "SubOrchestrationFailed",
    "TaskCompleted",
    "TaskFailed",
    "TaskScheduled",
    "TimerCreated",
    "TimerFired",
    "TraceContext",
    "decode_event",
    "decode_failure",
    "encode_event",
    "encode_failure",
]


@dataclass(slots=True, kw_only=True, frozen=True)
class TraceContext:
    """A W3C trace context, carried along and never looked into."""

    traceparent: str
    tracestate: str | None = None


@dataclass(slots=True, kw_only=True, frozen=True)
class ParentInstance:
    """Which task of which instance waits for a sub-orchestration."""

    instance_id: str
    generation: str
    execution_id: str
    name: str
    version: str | None = None
    task_id: int
    """`event_id` of its `SubOrchestrationCreated`."""
    seq: int
    """Place of that event in the parent's history."""


@dataclass(slots=True, kw_only=True)
class Event:
    """What all events have."""

    PAYLOAD: ClassVar[str | None] = None
    """Name of the field that holds the payload: JSON text as UTF-8."""

    timestamp: Millis
    event_id: int = -1


@dataclass(slots=True, kw_only=True)
class OrchestratorStarted(Event):
    """A turn begins; its timestamp is the orchestration's time until the next."""


@dataclass(slots=True, kw_only=True)
class ExecutionStarted(Event):
    """The instance begins an execution."""

    PAYLOAD: ClassVar[str | None] = "input"

    name: str
    instance_id: str
    execution_id: str
    """32 hex digits, fresh for each execution."""
    version: str | None = None
    input: bytes | None = None
    parent: ParentInstance | None = None
    tags: Mapping[str, str] | None = None
    trace_context: TraceContext | None = None
    continued_from: str | None = None
    """The execution id that continue-as-new closed. Such a start, and what crossed over behind it, takes
    effect at the next `OrchestratorStarted`: the turn that wrote it ran none of the new execution's code."""


@dataclass(slots=True, kw_only=True)
class ExecutionCompleted(Event):
    """The instance has ended."""

    PAYLOAD: ClassVar[str | None] = "result"

    status: OrchestrationStatus
    result: bytes | None = None
    failure: FailureDetails | None = None


@dataclass(slots=True, kw_only=True)
class ExecutionTerminated(Event):
    """Somebody ended the instance from outside."""

    PAYLOAD: ClassVar[str | None] = "output"

    output: bytes | None = None
    recurse: bool = True


@dataclass(slots=True, kw_only=True)
class ExecutionSuspended(Event):
    """From here on everything is recorded and nothing applied."""

    PAYLOAD: ClassVar[str | None] = "reason"

    reason: bytes | None = None


@dataclass(slots=True, kw_only=True)
class ExecutionResumed(Event):
    """What was held back is applied, in order."""

    PAYLOAD: ClassVar[str | None] = "reason"

    reason: bytes | None = None


@dataclass(slots=True, kw_only=True)
class ExecutionRewound(Event):
    """A failed instance was set back to where it failed."""

    PAYLOAD: ClassVar[str | None] = "reason"

    reason: bytes | None = None


@dataclass(slots=True, kw_only=True)
class ContinueAsNew(Event):
    """The execution ends and the next begins."""

    PAYLOAD: ClassVar[str | None] = "input"

    input: bytes | None = None


@dataclass(slots=True, kw_only=True)
class TaskScheduled(Event):
    """An activity was scheduled."""

    PAYLOAD: ClassVar[str | None] = "input"

    name: str
    version: str | None = None
    input: bytes | None = None
    trace_context: TraceContext | None = None


@dataclass(slots=True, kw_only=True)
class TaskCompleted(Event):
    """An activity returned."""

    PAYLOAD: ClassVar[str | None] = "result"

    task_scheduled_id: int
    result: bytes | None = None


@dataclass(slots=True, kw_only=True)
class TaskFailed(Event):
    """An activity raised."""

    task_scheduled_id: int
    failure: FailureDetails


@dataclass(slots=True, kw_only=True)
class SubOrchestrationCreated(Event):
    """A sub-orchestration was started."""

    PAYLOAD: ClassVar[str | None] = "input"

    name: str
    instance_id: str
    version: str | None = None
    input: bytes | None = None


@dataclass(slots=True, kw_only=True)
class SubOrchestrationCompleted(Event):
    """A sub-orchestration returned."""

    PAYLOAD: ClassVar[str | None] = "result"

    task_scheduled_id: int
    result: bytes | None = None


@dataclass(slots=True, kw_only=True)
class SubOrchestrationFailed(Event):
    """A sub-orchestration failed, was terminated, or could not be started."""

    task_scheduled_id: int
    failure: FailureDetails


@dataclass(slots=True, kw_only=True)
class TimerCreated(Event):
    """A durable timer was set."""

    fire_at: Millis


@dataclass(slots=True, kw_only=True)
class TimerFired(Event):
    """A durable timer is due."""

    timer_id: int
    fire_at: Millis


@dataclass(slots=True, kw_only=True)
class EventSent(Event):
    """An event was sent to another instance."""

    PAYLOAD: ClassVar[str | None] = "input"

    instance_id: str
    name: str
    input: bytes | None = None


@dataclass(slots=True, kw_only=True)
class EventRaised(Event):
    """An external event arrived."""

    PAYLOAD: ClassVar[str | None] = "input"

    name: str
    input: bytes | None = None


@dataclass(slots=True, kw_only=True)
class Generic(Event):
    """Something of our own that Durable Task has no kind for.

    The one in use: `{"cancelled": N}`, the orchestrator cancelled its task N.
    """

    PAYLOAD: ClassVar[str | None] = "data"

    data: bytes | None = None


_KINDS: Final[dict[str, type[Event]]] = {
    kind.__name__: kind
    for kind in (
        OrchestratorStarted,
        ExecutionStarted,
        ExecutionCompleted,
        ExecutionTerminated,
        ExecutionSuspended,
        ExecutionResumed,
        ExecutionRewound,
        ContinueAsNew,
        TaskScheduled,
        TaskCompleted,
        TaskFailed,
        SubOrchestrationCreated,
        SubOrchestrationCompleted,
        SubOrchestrationFailed,
        TimerCreated,
        TimerFired,
        EventSent,
        EventRaised,
        Generic,
    )
}
_FIELDS: Final[dict[type[Event], tuple[str, ...]]] = {
    kind: tuple(field.name for field in dataclasses.fields(kind) if field.name != kind.PAYLOAD)
    for kind in _KINDS.values()
}

# What would go wrong far from here if it were something else.
_TYPES: Final[dict[str, type]] = {
    **dict.fromkeys(("timestamp", "event_id", "task_scheduled_id", "timer_id", "fire_at"), int),
    **dict.fromkeys(("name", "instance_id", "execution_id", "continued_from"), str),
}

# Fields whose stored form is not the value itself: how to read them back.
_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "failure": FailureDetails.from_json,
    "parent": lambda stored: ParentInstance(**stored),
    "status": OrchestrationStatus,
    "trace_context": lambda stored: TraceContext(**stored),
}


def encode_event(event: Event) -> bytes:
    """Return the stored form of `event`."""
    kind = type(event)
    head: dict[str, Any] = {"kind": kind.__name__}
    for name in _FIELDS[kind]:
        value = getattr(event, name)
        if value is not None and not (name == "event_id" and value == -1):
            head[name] = value.to_json() if isinstance(value, FailureDetails) else value
    line = orjson.dumps(head)
    payload: bytes | None = getattr(event, kind.PAYLOAD) if kind.PAYLOAD else None
    return line if payload is None else b"%b\n%b" % (line, payload)


def encode_failure(failure: FailureDetails) -> bytes:
    """Return the stored form of an instance's failure."""
    return orjson.dumps(failure.to_json())


def decode_failure(stored: bytes) -> FailureDetails:
    """Read an instance's failure back.

    Raises:
        Corrupt: these bytes are no failure.
    """
    try:
        return FailureDetails.from_json(orjson.loads(stored))
    except ValueError as error:
        raise Corrupt(f"this is no failure that perdure wrote: {stored[:200]!r} ({error})") from error


def decode_event(stored: bytes) -> Event:
    """Read an event back.

    Raises:
        Corrupt: these bytes are no event, or one of a kind that this version doesn't know.
    """
    line, newline, payload = stored.partition(b"\n")
    try:
        head = orjson.loads(line)
        kind = _KINDS[head.pop("kind")]
        for name, value in head.items():
            kind_of = _TYPES.get(name)
            if kind_of is not None and type(value) is not kind_of:
                raise TypeError(f"{name} is {value!r:.50}")
            read = _READERS.get(name)
            if read is not None:
                head[name] = read(value)
        if newline and kind.PAYLOAD:
            head[kind.PAYLOAD] = payload
        return kind(**head)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(
            f"this is no history event that this version of perdure can read: {line[:200]!r} ({error}); "
            "if a newer version wrote it, run workers of that version"
        ) from error

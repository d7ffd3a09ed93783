"""What an orchestrator decided in a turn: the neutral list between the replay machine and the engine.

Whoever produces such a list may take the machine's place: an orchestrator in another process or language
does no more than this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from perdure.failures import FailureDetails
from perdure.spi import Millis, OrchestrationStatus

__all__ = [
    "CancelTask",
    "CompleteOrchestration",
    "ContinueOrchestration",
    "CreateTimer",
    "Decision",
    "ScheduleActivity",
    "SendEvent",
    "StartSubOrchestration",
    "TerminateInstance",
]


@dataclass(slots=True, kw_only=True)
class ScheduleActivity:
    """Run an activity."""

    id: int
    name: str
    input: bytes | None
    version: str | None = None


@dataclass(slots=True, kw_only=True)
class CreateTimer:
    """Wake the orchestrator at `fire_at`."""

    id: int
    fire_at: Millis


@dataclass(slots=True, kw_only=True)
class StartSubOrchestration:
    """Start a child and tell its parent how it ended."""

    id: int
    name: str
    input: bytes | None
    instance_id: str | None = None
    """None: an id derived from the parent's identity and the place in its history."""
    version: str | None = None
    tags: Mapping[str, str] | None = None
    retry: bool = False
    """Take the place of a failed or terminated instance of that id."""


@dataclass(slots=True, kw_only=True)
class SendEvent:
    """Raise an event on another instance; nobody is told whether it was there."""

    id: int
    instance_id: str
    name: str
    input: bytes | None


@dataclass(slots=True, kw_only=True)
class CancelTask:
    """Drop an activity that has no result yet, a timer that hasn't fired, or terminate a child that runs."""

    id: int
    """Of the decision that is taken back."""


@dataclass(slots=True, kw_only=True)
class TerminateInstance:
    """Terminate another instance; `generation` None means whichever is current."""

    instance_id: str
    output: bytes | None = None
    recurse: bool = True
    generation: str | None = None


@dataclass(slots=True, kw_only=True)
class CompleteOrchestration:
    """End the instance."""

    status: OrchestrationStatus
    result: bytes | None = None
    failure: FailureDetails | None = None


@dataclass(slots=True, kw_only=True)
class ContinueOrchestration:
    """End this execution and begin the next (continue-as-new)."""

    input: bytes | None
    carried: tuple[bytes, ...] = ()
    """Encoded `EventRaised` that arrived and that nobody took, in order."""
    version: str | None = None


Decision: TypeAlias = (
    ScheduleActivity
    | CreateTimer
    | StartSubOrchestration
    | SendEvent
    | CancelTask
    | TerminateInstance
    | CompleteOrchestration
    | ContinueOrchestration
)

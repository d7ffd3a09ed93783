"""The replay machine alone, turn by turn: no engine, no provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from perdure import history as h
from perdure.codec import dumps
from perdure.conversion import JsonDataConverter
from perdure.decisions import Decision, StartSubOrchestration
from perdure.failures import FailureDetails
from perdure.recording import record
from perdure.registry import Registry
from perdure.replay.machine import Machine, TurnResult

EXECUTION_ID = "0123456789abcdef0123456789abcdef"
START = 1_700_000_000_000
BOOM = FailureDetails(error_type="ValueError", message="boom")


def machine_for(function: Callable[..., Any]) -> Machine:
    registry = Registry()
    name = registry.add_orchestrator(function, name=getattr(function, "__name__", "flow").replace("<lambda>", "flow"))
    return Machine(registry.orchestrator(name), JsonDataConverter())


def started(value: Any = None, **fields: Any) -> h.ExecutionStarted:
    defaults: dict[str, Any] = {
        "timestamp": START,
        "name": "flow",
        "instance_id": "i",
        "execution_id": EXECUTION_ID,
        "input": None if value is None else dumps(value),
    }
    return h.ExecutionStarted(**(defaults | fields))


def turn_at(timestamp: int = START) -> h.OrchestratorStarted:
    return h.OrchestratorStarted(timestamp=timestamp)


def completed(task: int, result: Any = None) -> h.TaskCompleted:
    return h.TaskCompleted(timestamp=0, task_scheduled_id=task, result=None if result is None else dumps(result))


def failed(task: int, failure: FailureDetails = BOOM) -> h.TaskFailed:
    return h.TaskFailed(timestamp=0, task_scheduled_id=task, failure=failure)


def child_completed(task: int, result: Any = None) -> h.SubOrchestrationCompleted:
    return h.SubOrchestrationCompleted(
        timestamp=0, task_scheduled_id=task, result=None if result is None else dumps(result)
    )


def fired(timer: int) -> h.TimerFired:
    return h.TimerFired(timestamp=0, timer_id=timer, fire_at=0)


def raised(name: str, data: Any = None) -> h.EventRaised:
    return h.EventRaised(timestamp=0, name=name, input=None if data is None else dumps(data))


def suspended() -> h.ExecutionSuspended:
    return h.ExecutionSuspended(timestamp=0)


def resumed() -> h.ExecutionResumed:
    return h.ExecutionResumed(timestamp=0)


def scheduled(number: int, name: str) -> h.TaskScheduled:
    return h.TaskScheduled(timestamp=0, event_id=number, name=name)


class Play:
    """One execution, with the history that an engine would write of it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.machine = machine_for(function)
        self.history: list[h.Event] = []
        self.now = START

    def start(self, value: Any = None, **fields: Any) -> TurnResult:
        return self.turn(started(value, **fields))

    def turn(self, *events: h.Event) -> TurnResult:
        """Run a turn a second after the last, and put it on record."""
        opening = h.OrchestratorStarted(timestamp=self.now)
        result = self.machine.advance([opening, *events])
        self.history += [opening, *events[: result.used - 1]]
        self.history += [record(named(decision), self.now) for decision in result.decisions]
        self.now += 1000
        return result

    def decide(self, *events: h.Event) -> list[Decision]:
        return self.turn(*events).decisions

    def replayed(self, function: Callable[..., Any] | None = None) -> Machine:
        """Return a fresh machine that went through the same history."""
        machine = machine_for(function or self.function)
        machine.replay(self.history)
        return machine


def named(decision: Decision) -> Decision:
    """Give a child its id, as the engine does."""
    if isinstance(decision, StartSubOrchestration) and decision.instance_id is None:
        return replace(decision, instance_id="child")
    return decision

"""A stage for orchestrations in virtual time: no threads, no sleeping, and every round made by hand."""

from __future__ import annotations

import asyncio
import inspect
import queue
from collections.abc import Callable, Generator, Mapping
from datetime import timedelta
from itertools import count
from typing import Any, TypeAlias

from perdure import requests
from perdure.activities import ActivityContext, Finished, run_activity, run_async_activity
from perdure.codec import loads
from perdure.conversion import DataConverter, JsonDataConverter
from perdure.engine import Engine
from perdure.failures import FailureDetails
from perdure.history import Event, ExecutionStarted, OrchestratorStarted, decode_event, decode_failure
from perdure.registry import Registry
from perdure.replay.context import OrchestrationContext
from perdure.spi import (
    Activity,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    Hub,
    InstanceInfo,
    ManualClock,
    Message,
    Millis,
    OrchestrationStatus,
    Outcome,
)
from perdure_conformance.driver import whole_history

Ctx: TypeAlias = OrchestrationContext
Flow: TypeAlias = Generator[Any, Any, Any]

LEASE_SECONDS = 30.0
_MAX_ROUNDS = 20_000
_MAX_IN_VAIN = 200

numbers = count(1)


class InlineRunner:
    """Runs an activity where it is started; or keeps it, to be run when the test says so."""

    def __init__(self, registry: Registry, converter: DataConverter, now: Callable[[], Millis]) -> None:
        self.finished: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        self.holds = False
        self.held: list[Activity] = []
        self.started: list[str] = []
        """Names of what was started, in order."""
        self.warned: list[str] = []
        """Names of what was started and told that it may be lost."""
        self.cancelled: list[str] = []
        """Names of what was started and cancelled."""
        self._registry = registry
        self._converter = converter
        self._now = now
        self._names: dict[str, str] = {}

    def start(self, activity: Activity) -> None:
        self.started.append(activity.name)
        self._names[activity.lease.token] = activity.name
        if self.holds:
            self.held.append(activity)
        else:
            self._run(activity)

    def release(self) -> None:
        """Run what was held."""
        held, self.held = self.held, []
        for activity in held:
            self._run(activity)

    def cancel(self, token: str) -> None:
        self.cancelled.append(self._names[token])

    def close(self) -> None:
        self.held.clear()

    def _run(self, activity: Activity) -> None:
        task_id = decode_event(activity.payload).event_id
        context = ActivityContext(
            orchestration_id=activity.instance, task_id=task_id, name=activity.name, attempt=activity.attempt
        )
        if inspect.iscoroutinefunction(self._registry.activity(activity.name).function):
            message = asyncio.run(run_async_activity(self._registry, self._converter, activity, context, self._now))
        else:
            message = run_activity(self._registry, self._converter, activity, context, self._now)
        self.finished.put(Finished(activity, message))


class Stage:
    """One hub with everything around it: clients, workers, and the clock."""

    def __init__(self, hub: Hub, clock: ManualClock, *, cold: bool = False) -> None:
        self.hub = hub
        self.clock = clock
        self.cold = cold
        """Drop the cache after each round, so that every turn is a replay."""
        self.registry = Registry()
        self.converter = JsonDataConverter()
        self.engines: list[Engine] = []
        self.runners: dict[int, InlineRunner] = {}

    # Workers.

    def orchestrators(self, *functions: Callable[..., Any]) -> None:
        for function in functions:
            self.registry.add_orchestrator(function)

    def activities(self, *functions: Callable[..., Any]) -> None:
        for function in functions:
            self.registry.add_activity(function)

    def add_engine(self, registry: Registry | None = None, *, hub: Any = None, **options: Any) -> Engine:
        """Start one more worker, on a `hub` of its own if it is to see another one."""
        registry = registry or self.registry
        runner = InlineRunner(registry, self.converter, lambda: engine.now)
        settings: dict[str, Any] = {"max_turns": 100, "max_activities": 100, "lease_seconds": LEASE_SECONDS} | options
        engine = Engine(hub or self.hub, registry, self.converter, runner, **settings)
        self.engines.append(engine)
        self.runners[id(engine)] = runner
        return engine

    @property
    def engine(self) -> Engine:
        """The worker, where there is one; made at first use."""
        return self.engines[0] if self.engines else self.add_engine()

    @property
    def runner(self) -> InlineRunner:
        return self.runner_of(self.engine)

    def runner_of(self, engine: Engine) -> InlineRunner:
        return self.runners[id(engine)]

    def crash(self, engine: Engine | None = None, **options: Any) -> Engine:
        """Drop a worker with all that it holds, and start another in its place."""
        lost = engine or self.engine
        place = self.engines.index(lost)
        self.engines.remove(lost)
        registry = lost._registry
        fresh = self.add_engine(registry, **options)
        self.engines.insert(place, self.engines.pop())
        return fresh

    # Clients.

    def start(
        self,
        orchestrator: Callable[..., Any] | str,
        input: Any = None,
        *,
        instance: str | None = None,
        start_at: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        version: str | None = None,
        replace: bool = False,
    ) -> str:
        new = requests.new_instance(
            orchestrator,
            converter=self.converter,
            input=input,
            instance_id=instance or f"i{next(numbers)}",
            start_at=start_at,
            tags=tags,
            version=version,
            reuse_id_policy="replace_finished" if replace else None,
        )(self.hub.now())
        (outcome,) = self.hub.create_instances([new])
        assert outcome is (Outcome.REPLACED if replace else Outcome.OK)
        return new.id

    def raise_event(self, instance: str, name: str, data: Any = None) -> Outcome:
        return self._send(requests.raise_event(instance, name, data, self.converter))

    def terminate(self, instance: str, output: Any = None, *, recursive: bool = True) -> Outcome:
        return self._send(requests.terminate(instance, output, self.converter, recursive=recursive))

    def suspend(self, instance: str) -> Outcome:
        return self._send(requests.suspend(instance, None))

    def resume(self, instance: str) -> Outcome:
        return self._send(requests.resume(instance, None))

    def _send(self, make: Callable[[Millis], Message]) -> Outcome:
        (outcome,) = self.hub.send_messages([make(self.hub.now())])
        return outcome

    # Time.

    def round(self, engine: Engine | None = None) -> float:
        """Let one worker do one exchange."""
        engine = engine or self.engine
        delay = engine.round()
        if self.cold:
            engine.close()
        return delay

    def drain(self) -> None:
        """Make rounds until no worker finds anything to do at this time."""
        for _ in range(_MAX_ROUNDS):
            delays = [self.round(engine) for engine in self.engines or [self.engine]]
            if min(delays) > 0:
                return
        raise AssertionError("the workers don't come to rest")

    def advance(self, by: timedelta) -> None:
        """Let time pass, and then do what is to be done."""
        self.clock.advance(by // timedelta(milliseconds=1))
        self.drain()

    def next_due(self) -> Millis | None:
        """Return when any worker could next find something to do."""
        exchange = Exchange(
            claim_turns=ClaimTurns(worker="stage", max_items=0, lease_ms=1),
            claim_activities=ClaimActivities(worker="stage", max_items=0, lease_ms=1),
        )
        result = self.hub.exchange(exchange)
        assert result.turns is not None
        assert result.activities is not None
        return min(
            (due for due in (result.turns.next_due, result.activities.next_due) if due is not None), default=None
        )

    def advance_to_next(self) -> bool:
        """Jump to when something is next due, and do it; False where nothing is in sight."""
        due = self.next_due()
        if due is None:
            return False
        self.clock.set(max(due, self.clock.now()))
        self.drain()
        return True

    def run_to_end(self, instance: str) -> InstanceInfo:
        """Let as much time pass as the instance needs."""
        self.drain()
        in_vain = 0
        for _ in range(_MAX_ROUNDS):
            state = self.state(instance)
            if state.status.is_terminal:
                return state
            before = self.clock.now()
            if not self.advance_to_next():
                raise AssertionError(f"{instance!r} is {state.status}, nothing is in sight: {self.kinds(instance)}")
            in_vain = 0 if self.clock.now() > before else in_vain + 1
            if in_vain == _MAX_IN_VAIN:
                break
        raise AssertionError(f"instance {instance!r} doesn't end, though there always seems to be work")

    def run(self, orchestrator: Callable[..., Any] | str, input: Any = None, **options: Any) -> InstanceInfo:
        """Start an instance and run it to its end."""
        if callable(orchestrator):
            self.orchestrators(orchestrator)
        return self.run_to_end(self.start(orchestrator, input, **options))

    def result(self, orchestrator: Callable[..., Any] | str, input: Any = None, **options: Any) -> Any:
        """Run an instance that must complete, and return its output."""
        return output_of(self.run(orchestrator, input, **options))

    # Reads.

    def state(self, instance: str) -> InstanceInfo:
        (info,) = self.hub.get_instances([instance])
        assert info is not None, f"there is no instance {instance!r}"
        return info

    def status(self, instance: str) -> OrchestrationStatus:
        return self.state(instance).status

    def custom_status(self, instance: str) -> Any:
        return custom_status_of(self.state(instance))

    def stored_history(self, instance: str) -> list[bytes]:
        return whole_history(self.hub, instance)

    def history(self, instance: str) -> list[Event]:
        return [decode_event(stored) for stored in self.stored_history(instance)]

    def kinds(self, instance: str) -> list[str]:
        return [type(event).__name__ for event in self.history(instance)]

    def execution_id(self, instance: str) -> str:
        return next(event.execution_id for event in self.history(instance) if isinstance(event, ExecutionStarted))


def output_of(state: InstanceInfo) -> Any:
    assert state.status is OrchestrationStatus.COMPLETED, (state.status, state.failure)
    return None if state.output is None else loads(state.output)


def failure_of(state: InstanceInfo) -> FailureDetails:
    assert state.status is OrchestrationStatus.FAILED, (state.status, state.output)
    assert state.failure is not None
    return decode_failure(state.failure)


def custom_status_of(state: InstanceInfo) -> Any:
    """Return the value, None where there is none: no stored status decodes to None."""
    return None if state.custom_status is None else loads(state.custom_status)


# Activities that many tests use; the fixture registers them.


def echo(ctx: ActivityContext, value: Any) -> Any:
    return value


def add_one(ctx: ActivityContext, value: int) -> int:
    return value + 1


def fail(ctx: ActivityContext, message: str) -> None:
    raise ValueError(message)


def child(ctx: Ctx, value: Any) -> Flow:
    """An orchestrator of one step."""
    return (yield ctx.call_activity("echo", input=value))


def failing_child(ctx: Ctx, message: str) -> Flow:
    yield ctx.create_timer(timedelta(seconds=1))
    raise ValueError(message)


def waiter(ctx: Ctx, name: Any = None) -> Flow:
    """An orchestrator that waits for an event, `go` by default, and returns its data."""
    return (yield ctx.wait_for_external_event(name or "go"))


class FaultyHub:
    """A hub on which calls fail: before anything of them is done, or after all of it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.calls: list[str] = []
        """Every call, in order."""
        self.fail: Callable[[str, int], tuple[str, Exception] | None] = lambda name, number: None
        """Told the call and how many there were before; returns ("before" or "after", error) to make it fail."""

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._hub, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            fault = self.fail(name, len(self.calls))
            self.calls.append(name)
            if fault is not None and fault[0] == "before":
                raise fault[1]
            result = attribute(*args, **kwargs)
            if fault is not None:
                raise fault[1]
            return result

        return call


def check_history(stage: Stage, instance: str) -> None:
    """Check what must hold of every history, whatever happened on the way."""
    events = stage.history(instance)
    assert stage.state(instance).next_seq == len(events), "a gap"
    assert [type(event).__name__ for event in events].count("ExecutionCompleted") <= 1
    numbers = [event.event_id for event in events if event.event_id != -1]
    assert numbers == sorted(set(numbers)), "a decision is recorded twice, or out of order"
    outcomes = [answered_by(event) for event in events if answered_by(event) is not None]
    assert len(outcomes) == len(set(outcomes)), "an outcome is recorded twice"
    assert set(outcomes) <= set(numbers), "an outcome of nothing"
    times = [event.timestamp for event in events if isinstance(event, OrchestratorStarted)]
    assert times == sorted(times), "time went back"


def answered_by(event: Event) -> int | None:
    """Return the number of the decision whose outcome the event is."""
    number = getattr(event, "task_scheduled_id", getattr(event, "timer_id", None))
    return number if isinstance(number, int) else None

"""What an orchestrator is given: the only door through which it may know or do anything."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from perdure.conversion import return_type as return_type_of
from perdure.decisions import ScheduleActivity, SendEvent, StartSubOrchestration
from perdure.errors import Evicted
from perdure.history import ExecutionStarted
from perdure.identifiers import check_instance_id, check_name, check_tags
from perdure.registry import name_of
from perdure.replay.scheduled import CallTask, TimerTask
from perdure.replay.tasks import EventTask, Task
from perdure.retry import RetryPolicy
from perdure.times import as_datetime, as_millis, span_millis

if TYPE_CHECKING:
    from perdure.activities import ActivityContext
    from perdure.replay.machine import Machine

__all__ = ["OrchestrationContext"]

I = TypeVar("I")  # noqa: E741 - an input
O = TypeVar("O")  # noqa: E741 - an output

# A loop with a bare `except:` swallows any error for ever. Let through in the end, it comes to its next wait, and there
# Python ends it. What it decides on the way goes to a machine that nobody listens to any more.
_MAX_REFUSALS = 100


class OrchestrationContext:
    """The world as an orchestrator may see it: the same on every replay.

    Time, ids and random numbers come from here; I/O belongs in activities. All methods that return a `Task`
    decide something at once and give its result to `yield task` or `await task`.
    """

    def __init__(self, machine: Machine) -> None:
        self._played_by = machine
        self._refusals_left: int | None = None
        self._started: ExecutionStarted | None = None
        self._uuids = 0
        self._random: random.Random | None = None

    def begin(self, started: ExecutionStarted) -> None:
        """Take over what the start says (for the replay machine)."""
        self._started = started

    def seal(self) -> None:
        """Make every further use raise `Evicted` (for the replay machine)."""
        self._refusals_left = _MAX_REFUSALS

    @property
    def _machine(self) -> Machine:
        self._check_sealed()
        return self._played_by

    @property
    def _start(self) -> ExecutionStarted:
        self._check_sealed()
        if self._started is None:
            raise RuntimeError("the orchestration has not started")
        return self._started

    @property
    def instance_id(self) -> str:
        """The id of this instance."""
        return self._start.instance_id

    @property
    def execution_id(self) -> str:
        """32 hex digits, fresh for each execution: continue-as-new changes it."""
        return self._start.execution_id

    @property
    def name(self) -> str:
        """The name under which this orchestrator was started."""
        return self._start.name

    @property
    def version(self) -> str | None:
        """The version under which this instance was started."""
        return self._start.version

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags given at the start."""
        return dict(self._start.tags or {})

    @property
    def parent_instance_id(self) -> str | None:
        """The id of the instance that called this one as a sub-orchestration."""
        parent = self._start.parent
        return None if parent is None else parent.instance_id

    @property
    def current_utc_datetime(self) -> datetime:
        """The time of this turn, aware, UTC: the same on every replay."""
        return as_datetime(self._machine.now)

    @property
    def is_replaying(self) -> bool:
        """Whether this code runs over what is on record already. `set_custom_status` needs no such test."""
        return self._machine.replaying

    @property
    def is_quiet(self) -> bool:
        """Whether replay-safe loggers are silent (for those)."""
        return self._machine.replaying or self._machine.is_silent

    @property
    def random(self) -> random.Random:
        """Random numbers that are the same on every replay. Not for secrets."""
        start = self._start
        if self._random is None:
            self._random = random.Random(start.execution_id)  # noqa: S311 - reproducible is what it must be
        return self._random

    def new_uuid(self) -> str:
        """Return a new UUID as text, the same on every replay and no other instance's."""
        self._uuids += 1
        return str(uuid.uuid5(uuid.UUID(hex=self._start.execution_id), f"{self._start.instance_id}:{self._uuids}"))

    def create_replay_safe_logger(self, logger: logging.Logger) -> logging.LoggerAdapter[logging.Logger]:
        """Return a logger that is silent during replay, so that each line is logged once."""
        return _ReplaySafeLogger(logger, self)

    def set_custom_status(self, value: Any) -> None:
        """Publish a small JSON value that anyone may read while this instance runs.

        It goes out with the turn: at the next wait, return or error; the last call of a turn wins. An activity
        called after it starts only when it is readable. None clears it.

        Raises:
            CustomStatusTooLarge: it is over 16 KB of UTF-16; nothing has changed.
            PayloadError: it is not JSON.
        """
        self._machine.set_custom_status(value)

    @overload
    def call_activity(
        self,
        activity: Callable[[ActivityContext, I], Awaitable[O]],
        *,
        input: I,
        retry_policy: RetryPolicy | None = None,
        return_type: None = None,
    ) -> Task[O]: ...
    @overload
    def call_activity(
        self,
        activity: Callable[[ActivityContext], Awaitable[O]],
        *,
        retry_policy: RetryPolicy | None = None,
        return_type: None = None,
    ) -> Task[O]: ...
    @overload
    def call_activity(
        self,
        activity: Callable[[ActivityContext, I], O],
        *,
        input: I,
        retry_policy: RetryPolicy | None = None,
        return_type: None = None,
    ) -> Task[O]: ...
    @overload
    def call_activity(
        self,
        activity: Callable[[ActivityContext], O],
        *,
        retry_policy: RetryPolicy | None = None,
        return_type: None = None,
    ) -> Task[O]: ...
    @overload
    def call_activity(
        self,
        activity: Callable[[ActivityContext, I], Any],
        *,
        input: I,
        retry_policy: RetryPolicy | None = None,
        return_type: type[O],
    ) -> Task[O]: ...
    @overload
    def call_activity(
        self,
        activity: Callable[[ActivityContext], Any],
        *,
        retry_policy: RetryPolicy | None = None,
        return_type: type[O],
    ) -> Task[O]: ...
    @overload
    def call_activity(
        self,
        activity: str,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        return_type: type[O],
    ) -> Task[O]: ...
    @overload
    def call_activity(
        self,
        activity: str,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        return_type: None = None,
    ) -> Task[Any]: ...
    def call_activity(
        self,
        activity: Callable[..., Any] | str,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        return_type: Any = None,
    ) -> Task[Any]:
        """Schedule an activity. It starts once this turn is durable, with the custom status set so far.

        Args:
            activity: the function, or the name it is registered under.
            input: any JSON value, dataclasses and dates among them.
            retry_policy: when to try again; without one the first failure is the result.
            return_type: what the result is rebuilt as; by default as the function is annotated.

        Raises:
            PayloadError, PayloadTooLarge: the input can't be stored.
            TaskFailedError: (when awaited) it failed, the last attempt included.
        """
        name = name_of(activity)
        machine = self._machine
        payload = machine.dump(input)
        return CallTask[Any](
            machine,
            lambda number, _attempt: ScheduleActivity(id=number, name=name, input=payload),
            what=f"activity {name!r}",
            policy=retry_policy,
            return_type=_result_type(activity, return_type),
        )

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[[OrchestrationContext, I], Generator[Any, Any, O] | Awaitable[O]],
        *,
        input: I,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: None = None,
    ) -> Task[O]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[[OrchestrationContext], Generator[Any, Any, O] | Awaitable[O]],
        *,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: None = None,
    ) -> Task[O]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[[OrchestrationContext, I], Any],
        *,
        input: I,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: type[O],
    ) -> Task[O]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[[OrchestrationContext], Any],
        *,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: type[O],
    ) -> Task[O]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: type[O],
    ) -> Task[O]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: None = None,
    ) -> Task[Any]: ...
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[..., Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: Any = None,
    ) -> Task[Any]:
        """Start another orchestration as a child of this one.

        Args:
            orchestrator: the function, or the name it is registered under.
            input: any JSON value.
            instance_id: by default 32 hex digits derived from this instance's identity, the same on replay. One
                that is taken fails the task, but on a retry a failed or terminated one is replaced.
            retry_policy: when to try again.
            version: of the child.
            tags: of the child.
            return_type: what the result is rebuilt as; by default as the function is annotated.

        Raises:
            TaskFailedError: (when awaited) it failed, was terminated, or could not be started.
        """
        name = name_of(orchestrator)
        if instance_id is not None:
            check_instance_id(instance_id)
        if tags is not None:
            check_tags(tags)
        if version is not None:
            check_name(version, "version")
        machine = self._machine
        payload = machine.dump(input)
        return CallTask[Any](
            machine,
            lambda number, attempt: StartSubOrchestration(
                id=number,
                name=name,
                input=payload,
                instance_id=instance_id,
                version=version,
                tags=tags,
                retry=attempt > 1,
            ),
            what=f"sub-orchestration {name!r}",
            policy=retry_policy,
            return_type=_result_type(orchestrator, return_type),
        )

    def create_timer(self, fire_at: datetime | timedelta) -> Task[None]:
        """Set a durable timer of any length.

        Args:
            fire_at: a point in time (naive: UTC), or a duration from `current_utc_datetime`. The past fires at once.
        """
        return TimerTask(self._machine, self._millis(fire_at))

    @overload
    def wait_for_external_event(
        self, name: str, *, timeout: timedelta | float | None = None, data_type: type[O]
    ) -> Task[O]: ...
    @overload
    def wait_for_external_event(
        self, name: str, *, timeout: timedelta | float | None = None, data_type: None = None
    ) -> Task[Any]: ...
    def wait_for_external_event(
        self, name: str, *, timeout: timedelta | float | None = None, data_type: Any = None
    ) -> Task[Any]:
        """Wait for an event raised on this instance. Names are compared without regard to case.

        It takes an event only while it is being awaited, alone or within a composite; until then events wait, in
        order. Of several awaited waits of one name the oldest is served first.

        Args:
            name: of the event.
            timeout: a duration, or seconds. When it has passed, awaiting raises `TimeoutError`.
            data_type: what the event's data is rebuilt as.
        """
        machine = self._machine
        wait = EventTask[Any](machine, check_name(name, "event"), Any if data_type is None else data_type)
        if timeout is not None:
            limit = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
            wait.timer = _TimeOut(machine, self._millis(limit), wait)
        return wait

    def send_event(self, instance_id: str, name: str, *, data: Any = None) -> None:
        """Raise an event on another instance. If there is none of that id, or it has ended, nothing happens."""
        check_instance_id(instance_id)
        check_name(name, "event")
        machine = self._machine
        payload = machine.dump(data)
        machine.announce(lambda number: SendEvent(id=number, instance_id=instance_id, name=name, input=payload))

    def continue_as_new(self, new_input: Any, *, save_events: bool = True) -> None:
        """Start over with a new input and an empty history, as the same instance.

        It takes effect when the orchestrator next returns or waits. Results, timers and children of this execution
        don't cross over; the custom status does.

        Args:
            new_input: any JSON value.
            save_events: keep the events that nobody has taken yet.
        """
        self._machine.continue_as_new(new_input, save_events=save_events)

    def _check_sealed(self) -> None:
        if self._refusals_left:
            self._refusals_left -= 1
            raise Evicted

    def _millis(self, fire_at: datetime | timedelta) -> int:
        if isinstance(fire_at, timedelta):
            return self._machine.now + span_millis(fire_at)
        return max(0, as_millis(fire_at))


class _TimeOut(TimerTask):
    __slots__ = ("_wait",)

    def __init__(self, machine: Machine, fire_at: int, wait: EventTask[Any]) -> None:
        super().__init__(machine, fire_at)
        self._wait = wait

    def fired(self) -> None:
        super().fired()
        self._wait.fail(TimeoutError(f"no event {self._wait.name!r} came in time"))


class _ReplaySafeLogger(logging.LoggerAdapter[logging.Logger]):
    def __init__(self, logger: logging.Logger, context: OrchestrationContext) -> None:
        super().__init__(logger, {})
        self._context = context

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's own name
        return not self._context.is_quiet and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs


def _result_type(function_or_name: Callable[..., Any] | str, given: Any) -> Any:
    if given is not None or isinstance(function_or_name, str):
        return Any if given is None else given
    return cast("Any", return_type_of(function_or_name))

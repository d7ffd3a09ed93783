"""The state machine that runs an orchestrator over its history.

Events go in, one by one and in order; the orchestrator runs on as far as each allows; what it decides comes
out. Fed with events that are on record already, it checks that the orchestrator decides again what is on
record; so the very same path serves a live turn and a replay.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from perdure import history as h
from perdure.conversion import DataConverter
from perdure.custom_status import dump_custom_status
from perdure.decisions import (
    CancelTask,
    CompleteOrchestration,
    ContinueOrchestration,
    CreateTimer,
    Decision,
)
from perdure.errors import InvalidYield, NonDeterminismError
from perdure.failures import FailureDetails
from perdure.payloads import dump, load
from perdure.recording import describe_decision, describe_event, is_recorded_as
from perdure.registry import Registration
from perdure.replay.context import OrchestrationContext
from perdure.replay.scheduled import ScheduledTask
from perdure.replay.tasks import EventTask, Task
from perdure.spi import UNSET, Millis, OrchestrationStatus, ThreeValued

__all__ = ["Machine", "TurnResult"]


@dataclass(slots=True, kw_only=True)
class TurnResult:
    """What came of a turn."""

    decisions: list[Decision]
    custom_status: ThreeValued
    used: int
    """How many of the turn's events went in: fewer than there were if the orchestrator ended before."""


class Machine:
    """One execution of one orchestration instance.

    Args:
        registration: the orchestrator.
        converter: turns payloads into values and back.
        is_silent: its replay-safe loggers never log, since another machine goes through the same turn.
    """

    def __init__(self, registration: Registration, converter: DataConverter, *, is_silent: bool = False) -> None:
        self.converter = converter
        self.is_silent = is_silent
        self.replaying = False
        self.now: Millis = 0
        """The orchestration's time: that of the turn's `OrchestratorStarted`."""
        self._registration = registration
        self._context = OrchestrationContext(self)
        self._program: Any = None
        self._awaiting: Task[Any] | None = None
        self._finished = False
        self._open: dict[int, ScheduledTask[Any]] = {}
        self._numbers = count()
        self._wait_numbers = count()
        # Events that nobody has taken yet: by name and in order, each with its place in the order of all.
        self._buffer: dict[str, deque[tuple[int, h.EventRaised]]] = {}
        self._arrivals = count()
        # What was decided and is not on record yet.
        self._decided: deque[Decision] = deque()
        self._custom_status: ThreeValued = UNSET
        self._continue: ContinueOrchestration | None = None
        self._saves_events = True
        # What must not take effect yet: from ExecutionSuspended to ExecutionResumed, and from the start of a
        # continued execution to the turn after the one that wrote it.
        self._held: list[tuple[Handler, h.Event]] | None = None
        self._suspended = False
        self._seq = 0

    def replay(self, events: Iterable[h.Event]) -> None:
        """Go through whole turns that are on record.

        Raises:
            NonDeterminismError: the orchestrator doesn't decide what is on record.
        """
        self.replaying = True
        for event in events:
            self._feed(event)
            self._seq += 1
        self._expect_all_recorded()
        self.replaying = False
        self._custom_status = UNSET

    def advance(self, events: Sequence[h.Event]) -> TurnResult:
        """Go through the events of a new turn, the first of which is its `OrchestratorStarted`."""
        used = 0
        for event in events:
            if self._finished:
                break
            self._feed(event)
            used += 1
        if self._finished and self._continue is not None and self._saves_events:
            # Only now: what was held back until this turn may have arrived behind the end.
            self._continue.carried = self._unconsumed_events()
        decisions, custom_status = list(self._decided), self._custom_status
        self._decided.clear()
        self._custom_status = UNSET
        return TurnResult(decisions=decisions, custom_status=custom_status, used=used)

    @property
    def is_waiting(self) -> bool:
        """Whether the orchestrator stands at a wait, with a frame to be dropped."""
        return self._program is not None and not self._finished

    def close(self) -> None:
        """Drop the orchestrator's frame. Its `finally` blocks run, but can decide nothing any more."""
        self._context.seal()
        if self.is_waiting:
            # User code on its way out: whatever it raises decides nothing.
            with contextlib.suppress(BaseException):
                self._program.close()
        self._program = None

    # What the context and its tasks ask for.

    def schedule(self, task: ScheduledTask[Any], decide: Callable[[int], Decision]) -> int:
        """Note a decision whose outcome `task` will hear of, and return its number."""
        number = next(self._numbers)
        self._open[number] = task
        self._decided.append(decide(number))
        return number

    def create_timer(self, task: ScheduledTask[Any], fire_at: Millis) -> int:
        """Set a timer and return its number."""
        return self.schedule(task, lambda number: CreateTimer(id=number, fire_at=fire_at))

    def announce(self, decide: Callable[[int], Decision]) -> None:
        """Note a decision without an outcome."""
        self._decided.append(decide(next(self._numbers)))

    def cancel(self, number: int) -> None:
        """Take a decision back whose outcome isn't known yet."""
        if self._open.pop(number, None) is not None:
            self._decided.append(CancelTask(id=number))

    def next_wait(self) -> int:
        """Return the age of a new wait for an event."""
        return next(self._wait_numbers)

    def set_custom_status(self, value: Any) -> None:
        """Note the custom status; the last of a turn wins."""
        text = dump_custom_status(value)
        self._custom_status = None if text == b"null" else text

    def continue_as_new(self, new_input: Any, *, save_events: bool) -> None:
        """Note that this execution ends where the orchestrator next returns or waits."""
        self._continue = ContinueOrchestration(input=self.dump(new_input))
        self._saves_events = save_events

    def dump(self, value: Any) -> bytes | None:
        """Encode a payload."""
        return dump(self.converter, value)

    def load(self, payload: bytes | None, hint: Any) -> Any:
        """Decode a payload."""
        return load(self.converter, payload, hint)

    # Events in.

    def _feed(self, event: h.Event) -> None:
        handler = _HANDLERS.get(type(event))
        if handler is None:
            return
        if self._held is not None and type(event) in _HELD_BACK:
            self._held.append((handler, event))
        else:
            handler(self, event)

    def _release_held(self) -> None:
        held, self._held = self._held or [], None
        for handler, event in held:
            if not self._finished:
                handler(self, event)
            elif isinstance(event, h.EventRaised):
                # It has left the inbox already, so only the next execution can still have it.
                self._keep(event)

    def _on_turn(self, event: h.OrchestratorStarted) -> None:
        self._expect_all_recorded()
        self.now = event.timestamp
        if not self._suspended:
            self._release_held()

    def _on_started(self, event: h.ExecutionStarted) -> None:
        if event.continued_from is None:
            self._start(event)
        else:
            self._held = [(Machine._start, event)]

    def _on_suspended(self, event: h.ExecutionSuspended) -> None:
        del event
        self._suspended = True
        if self._held is None:
            self._held = []

    def _on_resumed(self, event: h.ExecutionResumed) -> None:
        del event
        self._suspended = False
        self._release_held()

    def _on_success(self, event: h.TaskCompleted | h.SubOrchestrationCompleted) -> None:
        # An outcome that nobody waits for is that of a task cancelled in the same turn: it came too late.
        task = self._open.pop(event.task_scheduled_id, None)
        if task is not None:
            task.succeeded(event.result)
            self._go_on()

    def _on_failure(self, event: h.TaskFailed | h.SubOrchestrationFailed) -> None:
        task = self._open.pop(event.task_scheduled_id, None)
        if task is not None:
            task.failed(event.failure)
            self._go_on()

    def _on_timer(self, event: h.TimerFired) -> None:
        task = self._open.pop(event.timer_id, None)
        if task is not None:
            task.fired()
            self._go_on()

    def _on_raised(self, event: h.EventRaised) -> None:
        self._keep(event)
        self._hand_out_events()
        self._go_on()

    def _keep(self, event: h.EventRaised) -> None:
        self._buffer.setdefault(event.name.casefold(), deque()).append((next(self._arrivals), event))

    def _on_record(self, event: h.Event) -> None:
        if not self._decided:
            raise NonDeterminismError(self._seq, describe_event(event), self._standstill())
        decision = self._decided.popleft()
        if not is_recorded_as(decision, event):
            raise NonDeterminismError(self._seq, describe_event(event), describe_decision(decision))

    def _expect_all_recorded(self) -> None:
        if self._decided:
            raise NonDeterminismError(self._seq, "no decision", describe_decision(self._decided[0]))

    def _standstill(self) -> str:
        return "nothing: it has ended" if self._finished else "nothing: it waits"

    # The orchestrator runs.

    def _start(self, event: h.ExecutionStarted) -> None:
        self._context.begin(event)
        registration = self._registration
        try:
            arguments = [self.load(event.input, registration.input_type)] if registration.takes_input else []
            program = registration.function(self._context, *arguments)
        except BaseException as error:  # SystemExit and its like in user code must not end the worker.
            self._fail(error)
            return
        if inspect.isgenerator(program) or inspect.iscoroutine(program):
            self._program = program
            self._run(program.send, None)
        else:
            self._finish(program)

    def _go_on(self) -> None:
        task = self._awaiting
        if task is None or not task.is_complete or self._finished:
            return
        self._awaiting = None
        error = task.get_exception()
        if error is None:
            self._run(self._program.send, task.get_result())
        else:
            self._run(self._program.throw, error)

    def _run(self, resume: Callable[[Any], Any], value: Any) -> None:
        # A loop, not recursion: an orchestrator may await any number of complete tasks.
        while True:
            try:
                awaited = resume(value)
            except StopIteration as stop:
                self._finish(stop.value)
                return
            except BaseException as error:  # As in _start.
                self._fail(error)
                return
            if self._continue is not None:
                self._leave()
                return
            if not isinstance(awaited, Task) or not awaited.belongs_to(self):
                resume, value = self._program.throw, InvalidYield(awaited)
                continue
            self._awaiting = awaited
            self._hand_out_events()
            if not awaited.is_complete:
                return
            self._awaiting = None
            error_ = awaited.get_exception()
            if error_ is None:
                resume, value = self._program.send, awaited.get_result()
            else:
                resume, value = self._program.throw, error_

    def _leave(self) -> None:
        """End where the orchestrator waits, after it asked for continue-as-new."""
        try:
            self._program.close()
        except BaseException as error:  # Its `finally` blocks are user code too.
            self._fail(error)
        else:
            self._finish(None)

    def _hand_out_events(self) -> None:
        # In the order of arrival, each to the oldest wait of its name. Which waits there are is asked anew after
        # each: it may have decided a when_any, alone or inside another task, whose losers must not swallow the next.
        task = self._awaiting
        while task is not None and self._buffer:
            oldest: dict[str, EventTask[Any]] = {}
            for wait in task.waits():
                if wait.name in self._buffer and wait.number <= oldest.setdefault(wait.name, wait).number:
                    oldest[wait.name] = wait
            if not oldest:
                return
            name = min(oldest, key=lambda name: self._buffer[name][0][0])
            _, event = self._buffer[name].popleft()
            if not self._buffer[name]:
                del self._buffer[name]
            oldest[name].take(event.input)

    def _finish(self, result: Any) -> None:
        if self._continue is not None:
            self._end(self._continue)
            return
        try:
            stored = self.dump(result)
        except BaseException as error:  # What can't be stored fails the orchestration, whatever the converter raises.
            self._fail(error)
        else:
            self._end(CompleteOrchestration(status=OrchestrationStatus.COMPLETED, result=stored))

    def _fail(self, error: BaseException) -> None:
        failure = FailureDetails.from_exception(error)
        self._end(CompleteOrchestration(status=OrchestrationStatus.FAILED, failure=failure))

    def _end(self, decision: CompleteOrchestration | ContinueOrchestration) -> None:
        self._finished = True
        self._decided.append(decision)

    def _unconsumed_events(self) -> tuple[bytes, ...]:
        waiting = sorted((item for events in self._buffer.values() for item in events), key=lambda item: item[0])
        return tuple(h.encode_event(event) for _, event in waiting)


Handler = Callable[[Machine, Any], None]

_HELD_BACK: Final[dict[type[h.Event], Handler]] = {
    h.ExecutionStarted: Machine._on_started,
    h.TaskCompleted: Machine._on_success,
    h.TaskFailed: Machine._on_failure,
    h.SubOrchestrationCompleted: Machine._on_success,
    h.SubOrchestrationFailed: Machine._on_failure,
    h.TimerFired: Machine._on_timer,
    h.EventRaised: Machine._on_raised,
}
_HANDLERS: Final[dict[type[h.Event], Handler]] = {
    **_HELD_BACK,
    h.OrchestratorStarted: Machine._on_turn,
    h.ExecutionSuspended: Machine._on_suspended,
    h.ExecutionResumed: Machine._on_resumed,
    h.TaskScheduled: Machine._on_record,
    h.SubOrchestrationCreated: Machine._on_record,
    h.TimerCreated: Machine._on_record,
    h.EventSent: Machine._on_record,
    h.Generic: Machine._on_record,
    h.ExecutionCompleted: Machine._on_record,
    h.ContinueAsNew: Machine._on_record,
}

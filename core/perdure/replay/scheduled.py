"""Tasks behind which stands a numbered decision: timers, activities, sub-orchestrations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.decisions import Decision
from perdure.errors import TaskFailedError
from perdure.failures import FailureDetails
from perdure.replay.tasks import Task
from perdure.retry import RetryPolicy
from perdure.spi import Millis

if TYPE_CHECKING:
    from perdure.replay.machine import Machine

__all__ = ["CallTask", "ScheduledTask", "TimerTask"]

T = TypeVar("T")


class ScheduledTask(Task[T]):
    """A task that history answers by the number of its decision."""

    __slots__ = ("_machine", "id")

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self.id = -1

    def succeeded(self, payload: bytes | None) -> None:
        """Hear of a result, as it is stored."""
        raise NotImplementedError

    def failed(self, failure: FailureDetails) -> None:
        """Hear of a failure."""
        raise NotImplementedError

    def fired(self) -> None:
        """Hear that a timer is due."""
        raise NotImplementedError

    def belongs_to(self, machine: Machine) -> bool:
        return self._machine is machine

    def _withdraw(self) -> None:
        self._machine.cancel(self.id)


class TimerTask(ScheduledTask[None]):
    """A durable timer."""

    __slots__ = ()

    def __init__(self, machine: Machine, fire_at: Millis) -> None:
        super().__init__(machine)
        self.id = machine.create_timer(self, fire_at)

    def fired(self) -> None:
        self.complete(None)


class CallTask(ScheduledTask[T]):
    """An activity or a sub-orchestration, with its further attempts.

    Args:
        machine: where decisions go.
        decide: makes the decision of an attempt from its number in history and the number of the attempt.
        what: the call in words, for errors.
        policy: when to try again.
        return_type: what the result is rebuilt as.
    """

    __slots__ = ("_attempt", "_decide", "_first_at", "_policy", "_return_type", "_what")

    def __init__(
        self,
        machine: Machine,
        decide: Callable[[int, int], Decision],
        *,
        what: str,
        policy: RetryPolicy | None,
        return_type: Any,
    ) -> None:
        super().__init__(machine)
        self._decide = decide
        self._what = what
        self._policy = policy
        self._return_type = return_type
        self._attempt = 0
        self._first_at = machine.now
        self._start()

    def succeeded(self, payload: bytes | None) -> None:
        try:
            result = self._machine.load(payload, self._return_type)
        except BaseException as error:  # A converter is user code: what it raises belongs to the awaiting orchestrator.
            self.fail(error)
        else:
            self.complete(result)

    def failed(self, failure: FailureDetails) -> None:
        delay: int | None = None
        if self._policy is not None:
            try:
                delay = self._policy.delay_ms(
                    attempt=self._attempt, failure=failure, elapsed_ms=self._machine.now - self._first_at
                )
            except BaseException as error:  # The predicate is the orchestrator's own code.
                self.fail(error)
                return
        if delay is None:
            self.fail(TaskFailedError(f"{self._what} failed: {failure.error_type}: {failure.message}", failure))
        elif delay == 0:
            self._start()
        else:
            self.id = self._machine.create_timer(self, self._machine.now + delay)

    def fired(self) -> None:
        self._start()

    def _start(self) -> None:
        self._attempt += 1
        attempt = self._attempt
        self.id = self._machine.schedule(self, lambda number: self._decide(number, attempt))

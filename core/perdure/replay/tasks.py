"""What an orchestrator yields or awaits: something that will have a result."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from perdure.errors import TaskCancelledError

if TYPE_CHECKING:
    from perdure.replay.machine import Machine

__all__ = ["EventTask", "Task", "WhenAllTask", "WhenAnyTask", "when_all", "when_any"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Task(Generic[T_co]):
    """A result that may not be there yet. Get it with `yield task` or `await task`.

    Tasks come from the context's methods, `when_all` and `when_any`, and belong to one orchestration.
    """

    __slots__ = ("_error", "_is_complete", "_parents", "_result")

    def __init__(self) -> None:
        self._is_complete = False
        self._result: Any = None
        self._error: BaseException | None = None
        # A dict for its order: who is told first must not depend on hashes.
        self._parents: dict[_CompositeTask[Any], None] = {}

    @property
    def is_complete(self) -> bool:
        """Whether there is a result or an error."""
        return self._is_complete

    @property
    def is_failed(self) -> bool:
        """Whether there is an error."""
        return self._error is not None

    def get_result(self) -> T_co:
        """Return the result, or raise the error.

        Raises:
            ValueError: the task isn't complete; yield or await it first.
        """
        if self._error is not None:
            raise self._error
        if not self._is_complete:
            raise ValueError("this task has no result yet; yield or await it first")
        return cast("T_co", self._result)

    def get_exception(self) -> BaseException | None:
        """Return the error of a failed task, else None."""
        return self._error

    def cancel(self) -> bool:
        """Give the task up: awaiting it then raises `TaskCancelledError`.

        An activity that hasn't started won't run, one that runs is told, and its result is dropped; a timer
        is taken back; a sub-orchestration is terminated; of a composite all parts that aren't complete.

        Returns:
            Whether there was something to cancel.
        """
        if self._is_complete:
            return False
        # First itself: a composite must not take the cancelling of its parts for a result.
        self.fail(TaskCancelledError())
        self._withdraw()
        return True

    def __await__(self) -> Generator[Task[T_co], Any, T_co]:
        return cast("T_co", (yield self))

    def belongs_to(self, machine: Machine) -> bool:
        """Return whether it is a task of that machine's orchestration (for the replay machine)."""
        raise NotImplementedError

    def complete(self, result: Any) -> None:
        """Set the result (for the replay machine)."""
        self._settle(result, None)

    def fail(self, error: BaseException) -> None:
        """Set the error (for the replay machine)."""
        self._settle(None, error)

    def waits(self) -> Iterator[EventTask[Any]]:
        """Yield the event waits in it that are still open (for the replay machine)."""
        return iter(())

    def _withdraw(self) -> None:
        """Take back what stands behind the task."""

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self._is_complete:
            return
        self._is_complete, self._result, self._error = True, result, error
        parents, self._parents = list(self._parents), {}
        for parent in parents:
            parent.child_settled(self)


class EventTask(Task[T_co]):
    """A wait for an external event. It takes one only while it is being awaited."""

    __slots__ = ("_machine", "name", "number", "return_type", "timer")

    def __init__(self, machine: Machine, name: str, return_type: Any) -> None:
        super().__init__()
        self._machine = machine
        self.name = name.casefold()
        self.number = machine.next_wait()
        """Age among the orchestration's waits: of one name the oldest is served first."""
        self.return_type = return_type
        self.timer: Task[None] | None = None

    def take(self, payload: bytes | None) -> None:
        """Take an event's payload, as it is stored (for the replay machine)."""
        try:
            result = self._machine.load(payload, self.return_type)
        except BaseException as error:  # A converter is user code: what it raises belongs to the awaiting orchestrator.
            self.fail(error)
        else:
            self.complete(result)

    def belongs_to(self, machine: Machine) -> bool:
        return self._machine is machine

    def waits(self) -> Iterator[EventTask[Any]]:
        if not self._is_complete:
            yield self

    def _settle(self, result: Any, error: BaseException | None) -> None:
        super()._settle(result, error)
        if self.timer is not None:
            self.timer.cancel()


class _CompositeTask(Task[T_co]):
    __slots__ = ("_children",)

    def __init__(self, children: Sequence[Task[Any]]) -> None:
        super().__init__()
        for child in children:
            if not isinstance(child, Task):
                raise TypeError(f"when_all and when_any take tasks of this orchestration, not {child!r}")
        self._children = children
        for child in dict.fromkeys(children):
            if child.is_complete:
                self.child_settled(child)
            elif not self._is_complete:
                child._parents[self] = None

    def child_settled(self, child: Task[Any]) -> None:
        """Hear that a part is complete."""
        raise NotImplementedError

    def belongs_to(self, machine: Machine) -> bool:
        return all(child.belongs_to(machine) for child in self._children)

    def waits(self) -> Iterator[EventTask[Any]]:
        if not self._is_complete:
            for child in self._children:
                yield from child.waits()

    def _settle(self, result: Any, error: BaseException | None) -> None:
        # Let go of the rest, so that a loop over when_any doesn't pile composites up on a slow task.
        for child in self._children:
            child._parents.pop(self, None)
        super()._settle(result, error)

    def _withdraw(self) -> None:
        for child in self._children:
            child.cancel()


class WhenAllTask(_CompositeTask[list[T]]):
    """Complete when all are: with their results in order, or the error of the one that failed first."""

    __slots__ = ("_first_error", "_missing")

    def __init__(self, children: Sequence[Task[T]]) -> None:
        # By identity, for which a child need not be a task: that is checked next.
        self._missing = len({id(child) for child in children})
        self._first_error: BaseException | None = None
        super().__init__(children)
        if not children:
            self.complete([])

    def child_settled(self, child: Task[Any]) -> None:
        self._missing -= 1
        if self._first_error is None:
            self._first_error = child.get_exception()
        if self._missing:
            return
        if self._first_error is not None:
            self.fail(self._first_error)
        else:
            self.complete([part.get_result() for part in self._children])


class WhenAnyTask(_CompositeTask[Task[T]]):
    """Complete when one is, with that task."""

    __slots__ = ()

    def child_settled(self, child: Task[Any]) -> None:
        self.complete(child)


def when_all(tasks: Iterable[Task[T]]) -> WhenAllTask[T]:
    """Return a task that is complete when all `tasks` are, with the list of their results.

    If some fail, awaiting it raises the error of the one that failed first, when all have ended. The same task may
    stand in it twice. Of no tasks it is complete at once, with `[]`.
    """
    return WhenAllTask(list(tasks))


def when_any(tasks: Iterable[Task[T]]) -> WhenAnyTask[T]:
    """Return a task that is complete when one of `tasks` is, with that one as its result.

    A failed task counts too: its `get_result` raises. The others go on.

    Raises:
        ValueError: there are no tasks, so that it would wait for ever.
    """
    children = list(tasks)
    if not children:
        raise ValueError("when_any needs at least one task")
    return WhenAnyTask(children)

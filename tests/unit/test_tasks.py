"""Tasks and what is composed of them."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.errors import TaskCancelledError
from perdure.replay.tasks import Task, WhenAnyTask, when_all, when_any


class Plain(Task[Any]):
    """A task that the test completes, and that notes its withdrawal."""

    __slots__ = ("withdrawn",)

    def __init__(self) -> None:
        super().__init__()
        self.withdrawn = 0

    def _withdraw(self) -> None:
        self.withdrawn += 1


def tasks(number: int) -> list[Plain]:
    return [Plain() for _ in range(number)]


BOOM = ValueError("boom")


def test_a_task_has_no_result_before_it_is_complete() -> None:
    task = Plain()
    assert not task.is_complete
    assert not task.is_failed
    assert task.get_exception() is None
    with pytest.raises(ValueError, match="yield or await it first"):
        task.get_result()


def test_the_first_outcome_counts() -> None:
    task = Plain()
    task.complete(1)
    task.complete(2)
    task.fail(BOOM)
    assert (task.is_complete, task.is_failed, task.get_result()) == (True, False, 1)


def test_a_failed_task_raises_its_error() -> None:
    task = Plain()
    task.fail(BOOM)
    assert (task.is_complete, task.is_failed, task.get_exception()) == (True, True, BOOM)
    with pytest.raises(ValueError, match="boom"):
        task.get_result()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_when_all_gives_results_in_the_order_asked(order: tuple[int, ...]) -> None:
    parts = tasks(3)
    whole = when_all(parts)
    for i in order:
        assert not whole.is_complete
        parts[i].complete(i)
    assert whole.get_result() == [0, 1, 2]


def test_when_all_of_nothing_is_complete() -> None:
    assert when_all([]).get_result() == []


def test_when_any_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        when_any([])


@pytest.mark.parametrize("compose", [when_all, when_any])
@pytest.mark.parametrize("bad", [[5], [None], ["x"], [[]]])
def test_only_tasks_are_composed(compose: Any, bad: list[Any]) -> None:
    with pytest.raises(TypeError, match="take tasks"):
        compose([*tasks(1), *bad])


def test_the_same_task_twice() -> None:
    one, other = tasks(2)
    both, either = when_all([one, other, one]), when_any([one, one])
    one.complete(1)
    assert either.get_result() is one
    assert not both.is_complete
    other.complete(2)
    assert both.get_result() == [1, 2, 1]


@pytest.mark.parametrize("complete_before", [0, 1, 2, 3])
def test_parts_that_are_complete_already(complete_before: int) -> None:
    parts = tasks(3)
    for i in range(complete_before):
        parts[i].complete(i)
    both, either = when_all(parts), when_any(parts)
    assert either.is_complete == (complete_before > 0)
    for i in range(complete_before, 3):
        parts[i].complete(i)
    assert both.get_result() == [0, 1, 2]
    assert either.get_result() is parts[0]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("composed_first", [True, False])
def test_a_failure_among_several(order: tuple[int, int], composed_first: bool) -> None:
    parts = tasks(2)
    whole = when_all(parts) if composed_first else None
    for i in order:
        if i == 0:
            parts[i].fail(BOOM)
        else:
            parts[i].complete(1)
    whole = whole or when_all(parts)
    assert whole.get_exception() is BOOM
    assert when_any(parts).is_complete


def test_of_several_failures_the_first_is_raised() -> None:
    parts = tasks(2)
    whole = when_all(parts)
    parts[1].fail(BOOM)
    parts[0].fail(KeyError("later"))
    assert whole.get_exception() is BOOM


def test_a_failed_part_completes_a_when_any() -> None:
    part = Plain()
    either = when_any([part, Plain()])
    part.fail(BOOM)
    assert not either.is_failed
    assert either.get_result() is part


def test_nesting() -> None:
    a, b, c, d = tasks(4)
    parts: list[Task[Any]] = [when_any([a, b]), when_all([c, when_any([when_all([]), d])])]
    whole = when_all(parts)
    b.complete("b")
    assert not whole.is_complete
    c.complete("c")
    first, (third, inner) = whole.get_result()
    assert (first, third) == (b, "c")
    assert inner.get_result() == []


def test_cancelling() -> None:
    part = Plain()
    assert part.cancel()
    assert not part.cancel()
    assert part.withdrawn == 1
    with pytest.raises(TaskCancelledError):
        part.get_result()


def test_cancelling_what_is_complete_does_nothing() -> None:
    part = Plain()
    part.complete(1)
    assert not part.cancel()
    assert (part.get_result(), part.withdrawn) == (1, 0)


@pytest.mark.parametrize("compose", [when_all, when_any])
def test_cancelling_a_composite_cancels_its_open_parts(compose: Any) -> None:
    open_, complete, shared = tasks(3)
    whole = compose([open_, when_any([shared])]) if compose is when_any else compose([open_, complete, shared])
    complete.complete(1)
    assert whole.cancel()
    assert isinstance(whole.get_exception(), TaskCancelledError)
    assert (open_.withdrawn, complete.withdrawn, shared.withdrawn) == (1, 0, 1)
    assert not whole.cancel()


def test_a_cancelled_part_fails_what_it_belongs_to() -> None:
    part = Plain()
    whole = when_all([part])
    part.cancel()
    assert isinstance(whole.get_exception(), TaskCancelledError)


def test_a_race_in_a_loop_piles_nothing_up_on_a_slow_task() -> None:
    slow = Plain()
    for _ in range(100):
        quick = Plain()
        when_any([slow, quick])
        quick.complete(1)
    assert not slow._parents


class Noting(WhenAnyTask[Any]):
    """A composite that notes when it is told."""

    def __init__(self, part: Plain, told: list[Noting]) -> None:
        super().__init__([part])
        self._told = told

    def child_settled(self, child: Task[Any]) -> None:
        self._told.append(self)


def test_parts_are_told_in_the_order_in_which_they_were_composed() -> None:
    part = Plain()
    told: list[Noting] = []
    composed = [Noting(part, told) for _ in range(20)]
    part.complete(1)
    assert told == composed

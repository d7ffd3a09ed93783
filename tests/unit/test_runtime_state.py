"""What a history amounts to without its code, and how decisions stand in it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.machine_play import (
    BOOM,
    EXECUTION_ID,
    child_completed,
    completed,
    failed,
    fired,
    raised,
    resumed,
    scheduled,
    started,
    suspended,
    turn_at,
)

from perdure import decisions as d
from perdure import history as h
from perdure.recording import cancelled_task, describe_decision, describe_event, is_recorded_as, record
from perdure.runtime_state import OpenTask, RuntimeState
from perdure.spi import OrchestrationStatus


def state_of(*events: h.Event) -> RuntimeState:
    state = RuntimeState()
    for event in events:
        state.apply(event)
    return state


OPEN = [
    scheduled(0, "a"),
    h.TimerCreated(timestamp=0, event_id=1, fire_at=5),
    h.SubOrchestrationCreated(timestamp=0, event_id=2, name="c", instance_id="kid"),
]


def test_a_fresh_one() -> None:
    state = state_of()
    assert (state.started, state.suspended, state.awaits_turn, state.now, state.next_seq) == (None, False, False, 0, 0)
    assert not state.awaits(0, "anything")
    with pytest.raises(ValueError, match="before the start"):
        state.origin(0)


def test_what_is_scheduled_is_open_at_its_place() -> None:
    state = state_of(turn_at(7), started(), *OPEN)
    assert state.open == {0: OpenTask("activity", 2), 1: OpenTask("timer", 3), 2: OpenTask("child", 4, "kid")}
    assert (state.now, state.next_seq) == (7, 5)
    assert state.origin(2) == f"{EXECUTION_ID}:2"


@pytest.mark.parametrize(
    ("closing", "number"),
    [
        (completed(0), 0),
        (failed(0), 0),
        (fired(1), 1),
        (child_completed(2), 2),
        (h.SubOrchestrationFailed(timestamp=0, task_scheduled_id=2, failure=BOOM), 2),
        (h.Generic(timestamp=0, data=b'{"cancelled":1}'), 1),
    ],
)
def test_an_outcome_closes_it(closing: h.Event, number: int) -> None:
    state = state_of(turn_at(), started(), *OPEN, closing)
    assert set(state.open) == {0, 1, 2} - {number}
    assert state_of(turn_at(), started(), *OPEN, closing, closing).open == state.open


def test_an_outcome_is_awaited_under_its_own_origin_only() -> None:
    state = state_of(turn_at(), started(), *OPEN)
    assert state.awaits(0, f"{EXECUTION_ID}:2")
    assert not state.awaits(0, f"{EXECUTION_ID}:3")
    assert not state.awaits(0, "f" * 32 + ":2")
    assert not state.awaits(3, f"{EXECUTION_ID}:2")


def test_suspension() -> None:
    assert state_of(suspended()).suspended
    assert state_of(started(), suspended(), suspended()).suspended
    assert not state_of(started(), suspended(), raised("e"), resumed()).suspended


def test_a_continued_execution_awaits_its_first_turn() -> None:
    opening = [turn_at(), started(continued_from="f" * 32), raised("e")]
    assert state_of(*opening).awaits_turn
    assert not state_of(*opening, turn_at()).awaits_turn
    assert not state_of(turn_at(), started()).awaits_turn


@pytest.mark.parametrize("data", [None, b"", b"garbage", b"[]", b"{}", b'{"cancelled":"1"}', b'{"other":1}'])
def test_a_generic_event_of_another_kind_cancels_nothing(data: bytes | None) -> None:
    event = h.Generic(timestamp=0, data=data)
    assert cancelled_task(event) is None
    assert len(state_of(turn_at(), started(), *OPEN, event).open) == 3


# Decisions and their records.

DECISIONS: list[d.Decision] = [
    d.ScheduleActivity(id=1, name="a", input=b"1", version="2"),
    d.CreateTimer(id=2, fire_at=9),
    d.StartSubOrchestration(id=3, name="c", input=b"1", instance_id="kid", version="2"),
    d.SendEvent(id=4, instance_id="x", name="e", input=b"1"),
    d.CancelTask(id=5),
    d.CompleteOrchestration(status=OrchestrationStatus.COMPLETED, result=b"1"),
    d.CompleteOrchestration(status=OrchestrationStatus.FAILED, failure=BOOM),
    d.ContinueOrchestration(input=b"1"),
]


@pytest.mark.parametrize("place", range(len(DECISIONS)))
def test_a_decision_is_told_from_all_others_by_its_record(place: int) -> None:
    records = [record(decision, 7) for decision in DECISIONS]
    matches = [i for i, event in enumerate(records) if is_recorded_as(DECISIONS[place], event)]
    assert matches == [place]
    assert records[place].timestamp == 7
    # Both sides of a mismatch are described in the same words.
    assert describe_decision(DECISIONS[place]).startswith(describe_event(records[place]))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (d.ScheduleActivity(id=0, name="a", input=None), d.ScheduleActivity(id=0, name="b", input=None), False),
        (d.ScheduleActivity(id=0, name="a", input=b"1"), d.ScheduleActivity(id=0, name="a", input=b"2"), True),
        (d.CreateTimer(id=0, fire_at=1), d.CreateTimer(id=0, fire_at=2), True),
        (
            d.StartSubOrchestration(id=0, name="c", input=None),
            d.StartSubOrchestration(id=0, name="c", input=None, instance_id="derived"),
            True,
        ),
        (
            d.StartSubOrchestration(id=0, name="c", input=None, instance_id="a"),
            d.StartSubOrchestration(id=0, name="c", input=None, instance_id="b"),
            False,
        ),
        (d.CancelTask(id=1), d.CancelTask(id=2), False),
    ],
)
def test_what_must_be_equal_and_what_may_change(one: d.Decision, other: d.Decision, same: bool) -> None:
    assert is_recorded_as(one, record(other, 0)) is same


def test_what_is_recorded_says_all() -> None:
    expected: list[Any] = [
        h.TaskScheduled(timestamp=7, event_id=1, name="a", version="2", input=b"1"),
        h.TimerCreated(timestamp=7, event_id=2, fire_at=9),
        h.SubOrchestrationCreated(timestamp=7, event_id=3, name="c", instance_id="kid", version="2", input=b"1"),
        h.EventSent(timestamp=7, event_id=4, instance_id="x", name="e", input=b"1"),
        h.Generic(timestamp=7, data=b'{"cancelled":5}'),
        h.ExecutionCompleted(timestamp=7, status=OrchestrationStatus.COMPLETED, result=b"1"),
        h.ExecutionCompleted(timestamp=7, status=OrchestrationStatus.FAILED, failure=BOOM),
        h.ContinueAsNew(timestamp=7, input=b"1"),
    ]
    assert [record(decision, 7) for decision in DECISIONS] == expected


def test_a_child_is_recorded_under_the_id_that_it_was_given() -> None:
    with pytest.raises(ValueError, match="the id that it was given"):
        record(d.StartSubOrchestration(id=0, name="c", input=None), 0)


def test_a_termination_is_described() -> None:
    assert describe_decision(d.TerminateInstance(instance_id="x")) == "the termination of instance 'x'"


@pytest.mark.parametrize("event", [turn_at(), raised("e"), suspended()])
def test_what_is_no_decision_is_described_by_its_kind(event: h.Event) -> None:
    assert describe_event(event) == type(event).__name__

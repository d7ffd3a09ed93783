"""Events and control messages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.client.hand import COMPLETED, Hand, nested

from perdure.client import Client
from perdure.errors import (
    InstanceFinished,
    InstanceNotFound,
    InvalidArgument,
    InvalidInstanceId,
    InvalidName,
    PayloadError,
)
from perdure.history import EventRaised, ExecutionResumed, ExecutionSuspended, ExecutionTerminated
from perdure.spi import ManualClock

SENDERS: list[Callable[[Client, str], None]] = [
    lambda client, instance: client.raise_orchestration_event(instance, "go"),
    lambda client, instance: client.terminate_orchestration(instance),
    lambda client, instance: client.suspend_orchestration(instance),
    lambda client, instance: client.resume_orchestration(instance),
]


@pytest.fixture
def running(client: Client, hand: Hand) -> str:
    instance = client.schedule_new_orchestration("flow", instance_id="a")
    hand.turn(instance)
    return instance


def test_events_arrive_in_order(client: Client, hand: Hand, running: str, clock: ManualClock) -> None:
    client.raise_orchestration_event(running, "Booked", data={"seat": 7})
    client.raise_orchestration_event(running, "Booked")
    assert hand.inbox(running) == [
        EventRaised(timestamp=clock.now(), name="Booked", input=b'{"seat":7}'),
        EventRaised(timestamp=clock.now(), name="Booked", input=None),
    ]


def test_equal_events_are_two_events(client: Client, hand: Hand, running: str) -> None:
    for _ in range(3):
        client.raise_orchestration_event(running, "tick", data=1)
    assert len(hand.inbox(running)) == 3


def test_control_messages(client: Client, hand: Hand, running: str, clock: ManualClock) -> None:
    client.suspend_orchestration(running, reason="Pause für heute")
    client.resume_orchestration(running)
    client.terminate_orchestration(running, output={"why": "over"}, recursive=False)
    client.terminate_orchestration(running)
    now = clock.now()
    assert hand.inbox(running) == [
        ExecutionSuspended(timestamp=now, reason='"Pause für heute"'.encode()),
        ExecutionResumed(timestamp=now, reason=None),
        ExecutionTerminated(timestamp=now, output=b'{"why":"over"}', recurse=False),
        ExecutionTerminated(timestamp=now, output=None, recurse=True),
    ]


def test_control_messages_reach_an_instance_that_is_not_due(client: Client, hand: Hand) -> None:
    instance = client.schedule_new_orchestration("flow", start_at=timedelta(days=1))
    client.raise_orchestration_event(instance, "early")
    with pytest.raises(KeyError):
        hand.claim(instance)
    client.terminate_orchestration(instance)
    assert [type(event) for event in hand.inbox(instance)] == [ExecutionTerminated]


@pytest.mark.parametrize("send", SENDERS)
def test_an_unknown_instance(client: Client, send: Callable[[Client, str], None]) -> None:
    with pytest.raises(InstanceNotFound, match="'nobody'"):
        send(client, "nobody")


@pytest.mark.parametrize("send", SENDERS)
def test_an_ended_instance(client: Client, hand: Hand, running: str, send: Callable[[Client, str], None]) -> None:
    hand.turn(running, COMPLETED)
    with pytest.raises(InstanceFinished, match="COMPLETED") as caught:
        send(client, running)
    assert (caught.value.instance_id, caught.value.status) == (running, COMPLETED)


@pytest.mark.parametrize("send", SENDERS)
def test_a_malformed_id(client: Client, send: Callable[[Client, str], None]) -> None:
    with pytest.raises(InvalidInstanceId):
        send(client, "a#b")


def test_malformed_arguments(client: Client, running: str) -> None:
    with pytest.raises(InvalidName):
        client.raise_orchestration_event(running, "")
    with pytest.raises(PayloadError):
        client.raise_orchestration_event(running, "go", data={1: 2})
    with pytest.raises(PayloadError, match="nested over 200 levels"):
        client.raise_orchestration_event(running, "go", data=nested(30_000))
    with pytest.raises(PayloadError):
        client.terminate_orchestration(running, output=float("inf"))
    bad: Any = 5
    with pytest.raises(InvalidArgument, match="reason must be a str, not int"):
        client.suspend_orchestration(running, reason=bad)

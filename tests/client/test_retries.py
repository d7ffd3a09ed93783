"""What becomes of a store that is in trouble for a moment, and of answers that get lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.client.hand import COMPLETED, Hand, blocking

from perdure import operations
from perdure.client import Client
from perdure.errors import (
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    Transient,
)
from perdure.history import EventRaised
from perdure.spi import Hub, Provider


class Trouble:
    """Makes single calls of a hub fail, before or after they are applied."""

    def __init__(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hub = hub
        self._monkeypatch = monkeypatch

    def on(self, method: str, *errors: ProviderError, then: Callable[[], Any] = lambda: None) -> list[int]:
        """Raise `errors`, one at each call; an `OutcomeUnknown` after the call was applied, and `then` after that."""
        left, calls = list(errors), [0]
        real = getattr(self._hub, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if not left:
                return real(*args, **kwargs)
            error = left.pop(0)
            if isinstance(error, OutcomeUnknown):
                real(*args, **kwargs)
                then()
            raise error

        self._monkeypatch.setattr(self._hub, method, call)
        return calls


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_RETRY_DELAYS", (0.001, 0.001, 0.001, 0.001, None))


@pytest.fixture
def plain(memory: Provider) -> Hub:
    """A hub without trouble."""
    return memory.hub("default")


@pytest.fixture
def hand(plain: Hub) -> Hand:
    return Hand(plain)


@pytest.fixture
def trouble(memory: Provider, plain: Hub, monkeypatch: pytest.MonkeyPatch) -> Trouble:
    hub = memory.hub("default")
    monkeypatch.setattr(memory, "hub", lambda name: hub)
    return Trouble(hub, monkeypatch)


@pytest.fixture
def client(memory: Provider, kind: str, trouble: Trouble) -> Iterator[Client]:
    with Client(memory) if kind == "sync" else blocking(memory) as client:
        yield client


def test_a_start_is_tried_again(client: Client, trouble: Trouble) -> None:
    calls = trouble.on("create_instances", Transient(), OutcomeUnknown(), OutcomeUnknown(), Transient())
    client.schedule_new_orchestration("flow", instance_id="a", input=1)
    assert calls == [5]
    assert [state.instance_id for state in client.get_all_orchestration_states()] == ["a"]


def test_a_start_whose_answer_was_lost_is_found_even_if_it_ended(client: Client, trouble: Trouble, hand: Hand) -> None:
    trouble.on("create_instances", OutcomeUnknown(), then=lambda: hand.turn("a", COMPLETED))
    assert client.schedule_new_orchestration("flow", instance_id="a") == "a"
    trouble.on("create_instances", OutcomeUnknown(), then=lambda: hand.turn("a", COMPLETED))
    assert client.schedule_new_orchestration("flow", instance_id="a", reuse_id_policy="replace_finished") == "a"
    assert hand.get("a").status is COMPLETED


def test_five_tries_and_no_more(client: Client, trouble: Trouble) -> None:
    calls = trouble.on("create_instances", *(Transient(f"no {number}") for number in range(9)))
    with pytest.raises(Transient, match="no 4"):
        client.schedule_new_orchestration("flow")
    assert calls == [5]


def test_other_errors_are_not_tried_again(client: Client, trouble: Trouble) -> None:
    calls = trouble.on("create_instances", ProviderUnavailable(), ProviderUnavailable())
    with pytest.raises(ProviderUnavailable):
        client.schedule_new_orchestration("flow")
    assert calls == [1]


def test_the_providers_advice_is_taken(client: Client, trouble: Trouble) -> None:
    trouble.on("get_instances", Transient(retry_after=0.1))
    began = time.monotonic()
    assert client.get_orchestration_state("a") is None
    assert time.monotonic() - began >= 0.1


def test_endless_advice_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = operations.retried(lambda hub: None)
    next(steps)
    assert steps.throw(Transient(retry_after=3600)) == operations.Sleep(10.0)
    steps.close()


def test_an_event_whose_answer_was_lost_arrives_once(client: Client, trouble: Trouble, hand: Hand) -> None:
    client.schedule_new_orchestration("flow", instance_id="a")
    hand.turn("a")
    trouble.on("send_messages", OutcomeUnknown(), OutcomeUnknown(), Transient())
    client.raise_orchestration_event("a", "go")
    assert [type(event) for event in hand.inbox("a")] == [EventRaised]


def test_an_event_whose_answer_was_lost_and_that_was_consumed(client: Client, trouble: Trouble, hand: Hand) -> None:
    client.schedule_new_orchestration("flow", instance_id="a")
    hand.turn("a")

    def consume() -> None:
        hand.claim("a")
        hand.turn("a")

    trouble.on("send_messages", OutcomeUnknown(), then=consume)
    client.raise_orchestration_event("a", "go")
    assert hand.inbox("a") == []


def test_an_instance_that_ended_by_the_lost_message(client: Client, trouble: Trouble, hand: Hand) -> None:
    for instance in ("a", "b"):
        client.schedule_new_orchestration("flow", instance_id=instance)
        hand.turn(instance)
    trouble.on("send_messages", OutcomeUnknown("lost"), then=lambda: hand.turn("a", COMPLETED))
    # Whether the event was taken or came too late nobody can tell: neither must this.
    with pytest.raises(OutcomeUnknown, match="lost"):
        client.raise_orchestration_event("a", "go")
    trouble.on("send_messages", OutcomeUnknown(), then=lambda: hand.turn("b", COMPLETED))
    client.terminate_orchestration("b")
    with pytest.raises(InstanceFinished):
        client.terminate_orchestration("b")


def test_reads_and_purges_are_tried_again(client: Client, trouble: Trouble, hand: Hand) -> None:
    client.schedule_new_orchestration("flow", instance_id="a")
    hand.turn("a", COMPLETED)
    for method in ("get_instances", "query_instances", "read_history", "purge"):
        trouble.on(method, Transient(), Transient())
    assert client.get_orchestration_state("a") is not None
    assert len(client.get_all_orchestration_states()) == 1
    assert list(client.read_history("a")) == []
    assert client.purge_orchestrations_by().deleted_instance_count == 1


def test_a_wait_outlives_trouble(client: Client, trouble: Trouble, hand: Hand) -> None:
    client.schedule_new_orchestration("flow", instance_id="a")
    hand.turn("a", COMPLETED)
    trouble.on("get_instances", Transient(), Transient())
    trouble.on("subscribe", Transient())
    assert client.wait_for_orchestration_completion("a").runtime_status is COMPLETED


def test_a_wait_whose_time_is_over_in_trouble_is_a_time_out(client: Client, trouble: Trouble) -> None:
    client.schedule_new_orchestration("flow", instance_id="a")
    trouble.on("get_instances", *(Transient("down", retry_after=1) for _ in range(99)))
    began = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        client.wait_for_orchestration_completion("a", timeout=0.1)
    assert isinstance(caught.value.__cause__, Transient)
    assert 0.1 <= time.monotonic() - began < 0.9


def test_a_wait_ends_with_lasting_trouble(client: Client, trouble: Trouble) -> None:
    client.schedule_new_orchestration("flow", instance_id="a")
    trouble.on("get_instances", *(Transient("down") for _ in range(99)))
    with pytest.raises(Transient, match="down"):
        client.wait_for_orchestration_completion("a")


def test_a_replacement_that_lost_a_race_does_not_blame_a_finished_instance(
    client: Client, trouble: Trouble, hand: Hand, plain: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.schedule_new_orchestration("flow", instance_id="a")
    real = plain.get_instances
    hub = trouble._hub

    def end_first(*args: Any, **kwargs: Any) -> Any:
        hand.turn("a", COMPLETED)
        return real(*args, **kwargs)

    monkeypatch.setattr(hub, "get_instances", end_first)
    with pytest.raises(InstanceAlreadyExists) as caught:
        client.schedule_new_orchestration("flow", instance_id="a", reuse_id_policy="replace_finished")
    assert caught.value.status is None


def test_a_missing_hub_is_no_missing_instance(client: Client, memory: Provider) -> None:
    client.schedule_new_orchestration("flow", instance_id="a")
    memory.delete_hub("default")
    for call in (
        lambda: client.get_orchestration_state("a"),
        lambda: list(client.read_history("a")),
        lambda: client.wait_for_orchestration_start("a"),
        lambda: client.raise_orchestration_event("a", "go"),
    ):
        with pytest.raises(NotFound, match="hub"):
            call()
    memory.create_hub("default")
    with pytest.raises(InstanceNotFound):
        list(client.read_history("a"))

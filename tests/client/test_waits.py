"""Waiting, with both clients and with and without hints."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import pytest
from tests.client.hand import COMPLETED, FAILED, RUNNING, TERMINATED, Background, Hand

from perdure import waits
from perdure.client import Client
from perdure.errors import (
    Closed,
    InstanceNotFound,
    InvalidArgument,
    InvalidInstanceId,
    OrchestrationNotStarted,
    PerdureError,
)
from perdure.spi import Hub, OrchestrationStatus, Provider, PurgeRequest, Subscription, Wake

WAITS: list[Callable[..., Any]] = [
    lambda client, instance, **fields: client.wait_for_orchestration_start(instance, **fields),
    lambda client, instance, **fields: client.wait_for_orchestration_completion(instance, **fields),
    lambda client, instance, **fields: client.wait_for_custom_status(instance, **fields),
]


@pytest.fixture(params=["hints", "polling"], autouse=True)
def hints(request: pytest.FixtureRequest, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "polling":
        kind = type(provider.hub("default"))
        monkeypatch.setattr(kind, "subscribe", lambda hub, on_wake: None)
    return str(request.param)


@pytest.fixture
def waiting(client: Client, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Background]:
    """Start a wait in a thread, and return once it has looked for the first time."""

    def start(function: Callable[..., Any], *args: Any, **fields: Any) -> Background:
        looked = threading.Event()
        real = waits.Watch._look

        def look(watch: Any, *args: Any) -> Generator[Any, Any, Any]:
            info = yield from real(watch, *args)
            looked.set()
            return info

        with monkeypatch.context() as patch:
            patch.setattr(waits.Watch, "_look", look)
            background = Background(lambda: function(*args, **fields))
            looked.wait(5)
        return background

    return start


@pytest.fixture
def running(client: Client, hand: Hand) -> str:
    instance = client.schedule_new_orchestration("flow", instance_id="a", input=[1])
    hand.turn(instance)
    return instance


class TestStart:
    def test_it_has_started_already(self, client: Client, running: str) -> None:
        state = client.wait_for_orchestration_start(running, timeout=0)
        assert (state.runtime_status, state.serialized_input) == (RUNNING, None)
        assert client.wait_for_orchestration_start(running, fetch_payloads=True).get_input() == [1]

    def test_it_starts(self, client: Client, hand: Hand, waiting: Callable[..., Background]) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        wait = waiting(client.wait_for_orchestration_start, "a")
        hand.turn("a", custom_status=b"1")
        assert wait.result().get_custom_status() == 1

    def test_it_starts_by_ending(self, client: Client, hand: Hand, waiting: Callable[..., Background]) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        wait = waiting(client.wait_for_orchestration_start, "a")
        hand.turn("a", TERMINATED, output=b"5")
        state = wait.result()
        assert (state.runtime_status, state.serialized_output) == (TERMINATED, None)

    def test_nobody_takes_it(self, client: Client) -> None:
        client.schedule_new_orchestration("lonely", instance_id="a")
        with pytest.raises(OrchestrationNotStarted, match=r"start a worker .* 'lonely' registered") as caught:
            client.wait_for_orchestration_start("a", timeout=0.02)
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, PerdureError)


class TestCompletion:
    def test_it_has_ended_already(self, client: Client, hand: Hand, running: str) -> None:
        hand.turn(running, COMPLETED, output=b'"out"', custom_status=b'"status"')
        state = client.wait_for_orchestration_completion(running, timeout=0)
        assert (state.get_input(), state.get_output(), state.get_custom_status()) == ([1], "out", "status")
        light = client.wait_for_orchestration_completion(running, fetch_payloads=False)
        assert (light.serialized_input, light.serialized_output) == (None, None)
        assert light.get_custom_status() == "status"

    @pytest.mark.parametrize("status", [COMPLETED, FAILED, TERMINATED])
    def test_it_ends(
        self, client: Client, hand: Hand, running: str, waiting: Callable[..., Background], status: OrchestrationStatus
    ) -> None:
        wait = waiting(client.wait_for_orchestration_completion, running)
        hand.turn(running, custom_status=b"1")
        hand.turn(running, status, output=b"2")
        state = wait.result()
        assert (state.runtime_status, state.get_output()) == (status, 2)

    def test_it_does_not_end(self, client: Client, running: str) -> None:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"'a' has not ended within 0.05 s \(it is RUNNING\)"):
            client.wait_for_orchestration_completion(running, timeout=0.05)
        assert 0.05 <= time.monotonic() - began < 5

    def test_without_a_limit(
        self, client: Client, hand: Hand, running: str, waiting: Callable[..., Background]
    ) -> None:
        wait = waiting(client.wait_for_orchestration_completion, running, timeout=None)
        hand.turn(running, COMPLETED)
        assert wait.result().runtime_status is COMPLETED

    def test_it_continues_as_new(
        self, client: Client, hand: Hand, running: str, waiting: Callable[..., Background]
    ) -> None:
        wait = waiting(client.wait_for_orchestration_completion, running)
        hand.continue_as_new(running, input=b"[2]")
        hand.turn(running, COMPLETED)
        state = wait.result()
        assert (state.get_input(), state.execution) == ([2], 2)

    def test_it_is_purged_after_its_end(
        self, client: Client, hand: Hand, running: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Between the look that saw the end and the one that fetches the input.
        hand.turn(running, COMPLETED, output=b"2")
        real = waits.Watch._look

        def look(watch: Any, *args: Any) -> Generator[Any, Any, Any]:
            info = yield from real(watch, *args)
            hub.purge(PurgeRequest(ids=[running]))
            return info

        monkeypatch.setattr(waits.Watch, "_look", look)
        state = client.wait_for_orchestration_completion(running)
        assert (state.get_output(), state.get_input()) == (2, None)


class TestCustomStatus:
    def test_the_next_one(self, client: Client, hand: Hand, running: str, waiting: Callable[..., Background]) -> None:
        hand.turn(running, custom_status=b'"before"')
        wait = waiting(client.wait_for_custom_status, running)
        hand.turn(running)
        hand.turn(running, custom_status=b'"after"')
        state = wait.result()
        assert state.get_custom_status() == "after"
        assert state.status_rev == state.rev

    def test_clearing_and_setting_the_same_count(
        self, client: Client, hand: Hand, running: str, waiting: Callable[..., Background]
    ) -> None:
        hand.turn(running, custom_status=b"1")
        wait = waiting(client.wait_for_custom_status, running)
        hand.turn(running, custom_status=b"1")
        assert wait.result().get_custom_status() == 1
        wait = waiting(client.wait_for_custom_status, running)
        hand.turn(running, custom_status=None)
        assert wait.result().get_custom_status() is None

    def test_since(self, client: Client, hand: Hand, running: str) -> None:
        hand.turn(running, custom_status=b"1")
        first = client.wait_for_custom_status(running, since=0)
        assert first.get_custom_status() == 1
        hand.turn(running, custom_status=b"2")
        hand.turn(running, custom_status=b"3")
        second = client.wait_for_custom_status(running, since=first.status_rev)
        assert second.get_custom_status() == 3
        with pytest.raises(TimeoutError, match="has not shown a new custom status"):
            client.wait_for_custom_status(running, since=second.status_rev, timeout=0.02)

    def test_no_turn_is_missed_by_since(
        self, client: Client, hand: Hand, running: str, waiting: Callable[..., Background]
    ) -> None:
        def follow() -> list[Any]:
            seen: list[Any] = []
            since = 0
            while not seen or seen[-1] < 30:
                state = client.wait_for_custom_status(running, since=since)
                since = state.status_rev
                seen.append(state.get_custom_status())
            return seen

        wait = waiting(follow)
        for number in range(1, 31):
            hand.turn(running, custom_status=str(number).encode())
        seen = wait.result()
        assert seen == sorted(set(seen))
        assert seen[-1] == 30

    def test_a_predicate_holds_already(self, client: Client, hand: Hand, running: str) -> None:
        assert client.wait_for_custom_status(running, lambda status: status is None, timeout=0).status_rev == 0
        hand.turn(running, custom_status=b'{"progress":1}')
        state = client.wait_for_custom_status(running, lambda status: status["progress"] == 1, timeout=0)
        assert state.get_custom_status() == {"progress": 1}

    def test_a_predicate_comes_to_hold(
        self, client: Client, hand: Hand, running: str, waiting: Callable[..., Background]
    ) -> None:
        wait = waiting(client.wait_for_custom_status, running, lambda status: status == 3)
        for number in (1, 2, 3):
            hand.turn(running, custom_status=str(number).encode())
        assert wait.result().get_custom_status() == 3

    def test_a_predicate_and_since(self, client: Client, hand: Hand, running: str) -> None:
        hand.turn(running, custom_status=b"1")
        rev = hand.get(running).status_rev
        with pytest.raises(TimeoutError, match="has not shown the custom status waited for"):
            client.wait_for_custom_status(running, lambda status: status == 1, since=rev, timeout=0.02)

    def test_a_predicate_that_fails(self, client: Client, hand: Hand, running: str) -> None:
        hand.turn(running, custom_status=b"1")
        with pytest.raises(KeyError):
            client.wait_for_custom_status(running, lambda status: {}[status])

    def test_the_end_ends_it(
        self, client: Client, hand: Hand, running: str, waiting: Callable[..., Background]
    ) -> None:
        wait = waiting(client.wait_for_custom_status, running, lambda status: False)
        hand.turn(running, COMPLETED, output=b'"out"')
        state = wait.result()
        assert (state.runtime_status, state.get_output()) == (COMPLETED, "out")
        assert client.wait_for_custom_status(running).runtime_status is COMPLETED

    def test_time_is_over(self, client: Client, running: str) -> None:
        with pytest.raises(TimeoutError):
            client.wait_for_custom_status(running, timeout=0)


@pytest.mark.parametrize("wait", WAITS)
class TestAllWaits:
    def test_an_unknown_instance(self, client: Client, wait: Callable[..., Any]) -> None:
        with pytest.raises(InstanceNotFound):
            wait(client, "nobody")

    def test_bad_arguments(self, client: Client, running: str, wait: Callable[..., Any]) -> None:
        with pytest.raises(InvalidInstanceId):
            wait(client, "a/b")
        for timeout in (-1, float("nan"), "60"):
            with pytest.raises(InvalidArgument, match="timeout is"):
                wait(client, running, timeout=timeout)

    def test_it_is_purged(
        self, client: Client, hand: Hand, waiting: Callable[..., Background], wait: Callable[..., Any]
    ) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        waited = waiting(wait, client, "a")
        client.purge_orchestration("a", force=True)
        with pytest.raises(InstanceNotFound):
            waited.result()

    def test_it_is_replaced(
        self, client: Client, hand: Hand, wait: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        real, looked, replaced = waits.Watch._look, threading.Event(), threading.Event()

        def look(watch: Any, *args: Any) -> Generator[Any, Any, Any]:
            # No look between the purge and the new start.
            if looked.is_set():
                replaced.wait(5)
            info = yield from real(watch, *args)
            looked.set()
            return info

        monkeypatch.setattr(waits.Watch, "_look", look)
        waited = Background(lambda: wait(client, "a"))
        assert looked.wait(5)
        hand.hub.purge(PurgeRequest(ids=["a"], force=True))
        hand.create_child("a", of="b")
        replaced.set()
        with pytest.raises(InstanceNotFound) as caught:
            waited.result()
        assert "another one was started under its id" in caught.value.__notes__[0]

    def test_the_client_is_closed(
        self, client: Client, waiting: Callable[..., Background], wait: Callable[..., Any]
    ) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        waited = waiting(wait, client, "a")
        began = time.monotonic()
        client.close()
        with pytest.raises(Closed):
            waited.result()
        assert time.monotonic() - began < 0.9


def test_nobody_waits_for_the_slow_poll(
    client: Client, hand: Hand, running: str, waiting: Callable[..., Background]
) -> None:
    # With hints a poll comes only after a second; without any they are closer.
    wait = waiting(client.wait_for_orchestration_completion, running)
    time.sleep(0.05)
    began = time.monotonic()
    hand.turn(running, COMPLETED)
    wait.result()
    assert time.monotonic() - began < 0.9


def test_a_hint_is_good_for_one_look(
    client: Client, provider: Provider, hub: Hub, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Callable[[Wake], None]] = []
    looks: list[Any] = []
    kind, real = type(hub), waits.Watch._look

    class Silent(Subscription):
        def close(self) -> None: ...

    def subscribe(hub: Hub, on_wake: Callable[[Wake], None]) -> Subscription:
        told.append(on_wake)
        return Silent()

    def look(watch: Any, *args: Any) -> Generator[Any, Any, Any]:
        looks.append(watch)
        return (yield from real(watch, *args))

    monkeypatch.setattr(kind, "subscribe", subscribe)
    monkeypatch.setattr(waits.Watch, "_look", look)
    wait = Background(lambda: client.wait_for_orchestration_completion(running, timeout=0.4))
    while not looks:
        time.sleep(0.001)
    for hint in (Wake(kind="changed"), Wake(kind="changed", ids=frozenset({running, "other"}))):
        told[0](hint)
        time.sleep(0.05)
    for hint in (Wake(kind="work"), Wake(kind="changed", ids=frozenset({"other"}))):
        told[0](hint)
    with pytest.raises(TimeoutError):
        wait.result()
    # The first, one for each hint that concerns it, and the last.
    assert 3 <= len(looks) <= 4


def test_many_threads_share_one_subscription(
    provider: Provider, hand: Hand, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Subscription | None] = []
    kind = type(provider.hub("default"))
    real = kind.subscribe

    def subscribe(hub: Hub, on_wake: Callable[[Wake], None]) -> Subscription | None:
        made.append(real(hub, on_wake))
        return made[-1]

    monkeypatch.setattr(kind, "subscribe", subscribe)
    ids = [client.schedule_new_orchestration("flow") for _ in range(10)]
    waiting = [Background(partial(client.wait_for_orchestration_completion, instance)) for instance in ids * 2]
    for instance in ids:
        hand.turn(instance, COMPLETED)
    assert sorted(wait.result().instance_id for wait in waiting) == sorted(ids * 2)
    if made[0] is not None:
        assert len(made) == 1

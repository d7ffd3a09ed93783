"""Hints: some arrive, none is needed. The only tests here that wait in real time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perdure.spi import Hub, ManualClock, Provider, Subscription, Wake
from perdure_conformance.driver import Driver

# Long enough for any thread on a busy machine; nobody waits for it unless a test fails.
PATIENCE_SECONDS = 10


@pytest.fixture(autouse=True)
def _needs_push(provider: Provider) -> None:
    if provider.capabilities.push == "none":
        pytest.skip("this provider only polls")


@contextmanager
def hints(hub: Hub) -> Iterator[queue.SimpleQueue[Wake]]:
    """Collect the hints of a hub."""
    received: queue.SimpleQueue[Wake] = queue.SimpleQueue()
    subscription = hub.subscribe(received.put)
    assert subscription is not None
    try:
        yield received
    finally:
        subscription.close()


def expect(received: queue.SimpleQueue[Wake], kind: str, instance: str) -> None:
    """Wait for a hint of this kind that concerns the instance; others may come before it."""
    while True:
        wake = received.get(timeout=PATIENCE_SECONDS)
        if wake.kind == kind and (wake.ids is None or instance in wake.ids):
            return


def test_what_makes_work_is_hinted(driver: Driver) -> None:
    with hints(driver.hub) as received:
        driver.create()
        expect(received, "work", "a")
        driver.turn()
        driver.send()
        expect(received, "work", "a")


def test_what_changes_is_hinted(driver: Driver) -> None:
    driver.create()
    with hints(driver.hub) as received:
        driver.turn(custom_status=b"1")
        expect(received, "changed", "a")


def test_another_handle_is_woken_too(driver: Driver, provider: Provider) -> None:
    with hints(provider.hub("h")) as received:
        driver.create()
        expect(received, "work", "a")


def test_another_hub_is_not_woken(driver: Driver, provider: Provider, clock: ManualClock) -> None:
    provider.create_hub("h1")
    other = Driver(provider.hub("h1"), clock)
    with hints(other.hub) as received:
        driver.create("a")
        other.create("b")
        wake = received.get(timeout=PATIENCE_SECONDS)
        assert wake.ids in (None, frozenset({"b"}))


def test_no_callback_starts_after_close_and_no_thread_is_left(driver: Driver) -> None:
    before = threading.active_count()
    received: list[Wake] = []
    subscription = driver.hub.subscribe(received.append)
    assert subscription is not None
    driver.create("a")
    subscription.close()
    subscription.close()
    count = len(received)
    driver.create("b")
    assert len(received) == count
    assert threading.active_count() <= before


def test_closing_the_provider_ends_its_subscriptions(driver: Driver, provider: Provider) -> None:
    received: list[Wake] = []
    driver.hub.subscribe(received.append)
    provider.close()
    assert not [thread for thread in threading.enumerate() if "perdure" in thread.name and thread.is_alive()]


def test_a_subscriber_may_close_itself(driver: Driver) -> None:
    closed = threading.Event()
    subscriptions: list[Subscription] = []

    def close(wake: Wake) -> None:
        subscriptions.pop().close()
        closed.set()

    subscription = driver.hub.subscribe(close)
    assert subscription is not None
    subscriptions.append(subscription)
    driver.create()
    assert closed.wait(PATIENCE_SECONDS)


def test_an_error_in_a_callback_ends_nothing(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    received: queue.SimpleQueue[Wake] = queue.SimpleQueue()

    def fail(wake: Wake) -> None:
        received.put(wake)
        raise RuntimeError

    subscription = driver.hub.subscribe(fail)
    assert subscription is not None
    driver.create("a")
    received.get(timeout=PATIENCE_SECONDS)
    driver.create("b")
    expect(received, "work", "b")
    subscription.close()
    assert "RuntimeError" in caplog.text


def test_hints_are_merged_while_a_subscriber_is_busy(driver: Driver) -> None:
    entered, leave = threading.Event(), threading.Event()
    received: list[Wake] = []
    last = threading.Event()

    def slow(wake: Wake) -> None:
        entered.set()
        leave.wait(PATIENCE_SECONDS)
        received.append(wake)
        if wake.ids is None or "last" in wake.ids:
            last.set()

    subscription = driver.hub.subscribe(slow)
    assert subscription is not None
    driver.create("first")
    assert entered.wait(PATIENCE_SECONDS)
    for number in range(200):
        driver.create(f"i{number}")
    driver.create("last")
    leave.set()
    assert last.wait(PATIENCE_SECONDS)
    subscription.close()
    assert len(received) < 20

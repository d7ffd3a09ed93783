"""NOT: hints, which nobody relies on. Some of these cases wait in real time."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

from perdure import Worker, requests
from perdure.conversion import JsonDataConverter
from perdure.spi import Hub, OnWake, Outcome, Provider, Subscription, Wake
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import COMPLETED, activity, ids_of, message, new_instance
from perdure_conformance.stage import add_one, output_of

_OK: Final = Outcome.OK

PATIENCE_SECONDS = 10.0
"""Long enough for any thread on a busy machine; nobody waits for it unless a case fails."""

_MOST_HINTS: Final = 20


class WakeUpCases:
    """Cases NOT."""

    @case("WAKE", level=Level.L2, requires=("push", "concurrent_threads"), variants=("same handle", "another handle"))
    def test_not_01_what_happens_is_hinted(self, bench: Bench) -> None:
        """A subscriber is told soon when something becomes claimable, and when an instance changes visibly."""
        listener = bench.hub
        if bench.variant == "another handle" and (provider := bench.another_handle()) is not None:
            listener = bench.on(provider).hub
        with _hints(listener) as hints:
            bench.create("a", "b")
            hints.expect("work", "a", "b")
        with _hints(listener) as hints:
            bench.create("x", name="other")
            hints.expect("changed", "x")
        (other,) = bench.claim(names=["other"])
        with _hints(listener) as hints:
            assert bench.release(other.lease) is _OK
            hints.expect("work", "x")
        assert bench.commit(bench.claim_one(names=["other"]), status=COMPLETED) is _OK
        with _hints(listener) as hints:
            assert bench.send("again", instance="x", reopen=frozenset({COMPLETED})) == [_OK]
            hints.expect("changed", "x")
        assert bench.commit(bench.claim_one(names=["other"]), activities=[activity("released")]) is _OK
        released = bench.claim_one_work()
        with _hints(listener) as hints:
            assert bench.release(released.lease) is _OK
            hints.expect("work", "x")
        assert bench.complete(bench.claim_one_work()) is _OK
        items = {item.instance: item for item in bench.claim()}
        with _hints(listener) as hints:
            assert bench.commit(items["a"], custom_status=b"1") is _OK
            hints.expect("changed", "a")
        with _hints(listener) as hints:
            bench.send()
            hints.expect("work", "a")
        bench.turn()
        with _hints(listener) as hints:
            assert bench.commit(items["b"], messages=[message("from-b", "a")]) is _OK
            hints.expect("work", "a")
        with _hints(listener) as hints:
            bench.turn(activities=[activity()], starts=[new_instance("c")])
            hints.expect("work", "a", "c")
        assert bench.commit(bench.claim_one()) is _OK
        work = bench.claim_one_work()
        with _hints(listener) as hints:
            assert bench.complete(work, message("r")) is _OK
            hints.expect("work", "a")
        # What arrives under a lease is claimable with the commit.
        item = bench.claim_one()
        bench.send("late")
        with _hints(listener) as hints:
            assert bench.commit(item) is _OK
            hints.expect("work", "a")
        with _hints(listener) as hints:
            bench.turn(status=COMPLETED)
            hints.expect("changed", "a")

    @case("WAKE", "I10")
    def test_not_03_what_is_due_later_needs_no_hint(self, bench: Bench) -> None:
        """Whoever sleeps until `next_due` and listens to nothing misses nothing, whatever it is that will be due."""
        now = bench.clock.now()
        bench.started(
            "a",
            messages=[message("timer", due=now + 1_000)],
            activities=[activity("t", due=now + 2_000), activity("u")],
        )
        bench.create("later", due=now + 3_000)
        bench.create("held", "delayed", "kept")
        items = {item.instance: item for item in bench.claim(lease_ms=4_000)}
        bench.release(items["delayed"].lease, delay_ms=5_000)
        bench.send("m", instance="kept")
        assert bench.commit(items["kept"], consumed=["@start"], keep_ms=6_000) is _OK
        assert ids_of(bench.claim_work(lease_ms=7_000)) == ["u"]
        seen: dict[str, int] = {}
        # One that is told a time that is too early asks again then.
        for _ in range(1000):
            batch, work = bench.claim_batch(), bench.claim_work_batch()
            for item in batch.items:
                seen.update((f"{item.instance} {delivery.id}", bench.clock.now() - now) for delivery in item.messages)
                assert bench.commit(item) is _OK
            for done in work.items:
                seen[done.id] = bench.clock.now() - now
                assert bench.complete(done) is _OK
            if batch.items or work.items:
                continue
            moments = [due for due in (batch.next_due, work.next_due) if due is not None]
            if not moments:
                break
            assert min(moments) > bench.clock.now()
            bench.clock.set(min(moments))
        assert seen == {
            "a timer": 1_000,
            "t": 2_000,
            "later @start": 3_000,
            "held @start": 4_000,
            "delayed @start": 5_000,
            "kept m": 6_000,
            "u": 7_000,
        }

    @case("WAKE", "I20", level=Level.L2, requires=("push", "concurrent_threads"))
    def test_not_04_closing_ends_callbacks_and_threads(self, bench: Bench) -> None:
        """No callback starts after a subscription or its provider was closed, and no thread of it is left."""
        beginning = threading.active_count()
        provider = bench.another_handle()
        other = bench if provider is None else bench.on(provider)
        # Whatever a driver starts at its first use is there now.
        other.find(), other.claim(), other.send("x", instance="nobody")
        before = set(threading.enumerate())
        received: list[Wake] = []
        called = threading.Event()

        def note(wake: Wake) -> None:
            received.append(wake)
            called.set()

        subscription = _subscribe(other.hub, note)
        bench.create("a")
        assert called.wait(PATIENCE_SECONDS), "no hint came"
        subscription.close()
        subscription.close()
        count = len(received)
        assert _comes_true(lambda: set(threading.enumerate()) <= before), "a thread of the closed subscription is left"
        bench.create("b")
        bench.send("m")
        called.clear()
        third = _subscribe(other.hub, lambda wake: called.set())
        bench.create("c")
        assert called.wait(PATIENCE_SECONDS), "no hint came after another subscription was closed"
        assert len(received) == count
        # A callback that runs is waited for.
        entered, leave = threading.Event(), threading.Event()

        def dawdle(wake: Wake) -> None:
            del wake
            entered.set()
            leave.wait(PATIENCE_SECONDS)

        slow = _subscribe(other.hub, dawdle)
        bench.send("n")
        assert entered.wait(PATIENCE_SECONDS), "no hint came to a third subscription"
        closing = threading.Thread(target=slow.close)
        closing.start()
        closing.join(0.05)
        was_waiting = closing.is_alive()
        leave.set()
        closing.join(PATIENCE_SECONDS)
        assert (was_waiting, closing.is_alive()) == (True, False)
        # The provider ends those that nobody closed.
        last: list[Wake] = []
        _subscribe(other.hub, last.append)
        if provider is None:
            bench.session.close()
        else:
            provider.close()
        count = len(last)
        third.close()
        assert _comes_true(lambda: threading.active_count() <= beginning), "a thread of the closed provider is left"
        if provider is not None:
            bench.create("d")
            assert bench.find() == ["a", "b", "c", "d"]
        assert len(last) == count

    @case("WAKE", level=Level.L2, requires=("push", "concurrent_threads"))
    def test_not_05_an_error_in_a_callback_ends_nothing(self, bench: Bench) -> None:
        """An error from a callback is logged, and neither its subscription nor any other ends with it."""
        with _log() as lines, _hints(bench.hub, _FailingHints) as failing, _hints(bench.hub) as hints:
            for name in ("a", "b", "c"):
                bench.create(name)
                failing.expect("work", name)
                hints.expect("work", name)
        assert [line for line in lines if _CallbackFailed.__name__ in line], "the callback's error is not logged"

    @case("WAKE", level=Level.L2, requires=("push", "concurrent_threads"))
    def test_not_06_hints_are_merged_and_one_follows_the_last_event(self, bench: Bench) -> None:
        """What happens while a subscriber is busy is merged into few hints, and the last of it is among them."""
        entered, leave, last = threading.Event(), threading.Event(), threading.Event()
        received: list[Wake] = []
        callers: set[threading.Thread] = set()
        was_left: list[bool] = []

        def slow(wake: Wake) -> None:
            callers.add(threading.current_thread())
            received.append(wake)
            if not entered.is_set():
                entered.set()
                # As long as all the calls may take where the store is slow: only who waits for it has to wait so long.
                was_left.append(leave.wait(6 * PATIENCE_SECONDS))
            if wake.kind == "work" and (wake.ids is None or "last" in wake.ids):
                last.set()

        subscription = _subscribe(bench.hub, slow)
        try:
            bench.started("first")
            assert entered.wait(PATIENCE_SECONDS), "no hint came"
            # Many calls, and as many messages as an inbox holds.
            size = max(1, min(100, bench.limits.max_pending // 100))
            for number in range(100):
                names = [f"m{number}-{index}" for index in range(size)]
                assert bench.send(*names, instance="first") == [_OK] * len(names)
            bench.create("last")
            leave.set()
            assert last.wait(PATIENCE_SECONDS), "no hint followed the last event"
        finally:
            leave.set()
            subscription.close()
        assert len(received) < _MOST_HINTS
        # Nobody who writes waits for a subscriber.
        assert was_left == [True], "a call waited until a callback had ended"
        assert threading.current_thread() not in callers

    @case("WAKE", "ENGINE", level=Level.L2, requires=("concurrent_threads",))
    def test_not_08_a_worker_without_hints_finishes_everything(self, bench: Bench) -> None:
        """A worker that gets no hints finds all its work by polling."""
        worker = Worker(_Polled(bench), hub=bench.hub.name)
        worker.add_orchestrator(_count_up, name="count_up")
        worker.add_activity(add_one)
        worker.start()
        try:
            for name, count in (("a", 1), ("b", 3)):
                # The second when the worker has nothing to do any more.
                new = requests.new_instance(
                    "count_up",
                    converter=JsonDataConverter(),
                    input=count,
                    instance_id=name,
                    start_at=None,
                    tags=None,
                    version=None,
                    reuse_id_policy=None,
                )
                assert bench.hub.create_instances([new(bench.clock.now())]) == [_OK]
                assert _comes_true(partial(_has_ended, bench, name)), f"instance {name} doesn't end"
                assert output_of(bench.get(name)) == count
        finally:
            worker.stop()

    @case("WAKE", level=Level.L2, requires=("push", "concurrent_threads"))
    def test_not_09_a_callback_may_use_the_hub_and_close_its_subscription(self, bench: Bench) -> None:
        """A callback may call the hub, and may close the subscription that called it."""
        answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        subscriptions: queue.SimpleQueue[Subscription] = queue.SimpleQueue()

        def act(wake: Wake) -> None:
            try:
                subscription = subscriptions.get(timeout=PATIENCE_SECONDS)
                found = bench.claim()
                if not found:
                    # A hint may come for nothing: the next one is for the work.
                    subscriptions.put(subscription)
                    return
                sent = bench.send("from-callback")
                subscription.close()
                answers.put(([item.instance for item in found], sent))
            except Exception as error:
                answers.put(error)

        subscription = _subscribe(bench.hub, act)
        subscriptions.put(subscription)
        bench.create("a")
        assert _comes_true(lambda: not answers.empty()), "the callback doesn't end"
        assert answers.get() == (["a"], [_OK])
        # What it did itself calls it no more.
        bench.create("b")
        with _hints(bench.hub) as hints:
            bench.create("c")
            hints.expect("work", "c")
        subscription.close()
        assert answers.empty()

    @case("WAKE", level=Level.L2, requires=("push", "concurrent_threads"))
    def test_not_10_subscribers_are_independent(self, bench: Bench) -> None:
        """Each subscriber gets all hints of its hub; one that is closed takes nothing from the others."""
        with _hints(bench.hub) as one, _hints(bench.hub) as two:
            bench.create("a")
            one.expect("work", "a")
            two.expect("work", "a")
            one.close()
            bench.create("b")
            two.expect("work", "b")
            provider = bench.another_handle()
            if provider is not None:
                with _hints(bench.on(provider).hub) as three:
                    bench.create("c")
                    three.expect("work", "c")
                    two.expect("work", "c")
                    # A provider ends its own subscriptions, and those alone.
                    provider.close()
                    bench.create("d")
                    two.expect("work", "d")
            bench.create("e")
            two.expect("work", "e")


class _CallbackFailed(Exception):
    """What a callback raises."""


class _Hints:
    """A running subscription and the hints that came."""

    def __init__(self, hub: Hub) -> None:
        self._received: queue.SimpleQueue[Wake] = queue.SimpleQueue()
        self._subscription = _subscribe(hub, self.note)

    def note(self, wake: Wake) -> None:
        """Take a hint."""
        self._received.put(wake)

    def _check(self, wake: Wake) -> None:
        assert wake.kind in ("work", "changed")
        assert wake.ids is None or (type(wake.ids) is frozenset and {type(id_) for id_ in wake.ids} <= {str})

    def expect(self, kind: str, *instances: str) -> None:
        """Wait for hints of this kind that concern all these instances; others may come among them."""
        missing = set(instances)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while missing:
            try:
                wake = self._received.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no hint {kind!r} came for {sorted(missing)}") from None
            self._check(wake)
            if wake.kind == kind:
                missing -= missing if wake.ids is None else wake.ids

    def close(self) -> None:
        """End the subscription."""
        self._subscription.close()


class _FailingHints(_Hints):
    """Hints whose subscriber raises at each."""

    def note(self, wake: Wake) -> None:
        super().note(wake)
        raise _CallbackFailed


@contextmanager
def _hints(hub: Hub, kind: type[_Hints] = _Hints) -> Iterator[_Hints]:
    hints = kind(hub)
    try:
        yield hints
    finally:
        hints.close()


def _subscribe(hub: Hub, on_wake: Callable[[Wake], None]) -> Subscription:
    subscription = hub.subscribe(on_wake)
    assert subscription is not None, "push is declared, but subscribe returns None"
    return subscription


@contextmanager
def _log() -> Iterator[list[str]]:
    """Collect what is logged, with tracebacks, whatever handlers there are."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter().format(record))

    handler = Collect(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(handler)


def _comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def _has_ended(bench: Bench, name: str) -> bool:
    return bench.get(name).status.is_terminal


def _count_up(ctx: Any, count: int) -> Any:
    """Count from 0, an activity a step."""
    value = 0
    for _ in range(count):
        value = yield ctx.call_activity("add_one", input=value)
    return value


class _Polled(Provider):
    """The bench's provider, on whose hubs there are no hints."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(f"polled://{bench.hub.name}")
        self._bench = bench
        self.name, self.version = "polled", bench.provider.version
        self.capabilities, self.limits = bench.capabilities, bench.limits

    def open(self) -> None:
        """Do nothing: it is open."""

    def close(self) -> None:
        """Do nothing: it is the bench's."""

    def create_hub(self, name: str) -> Outcome:
        return Outcome.EXISTS

    def delete_hub(self, name: str) -> Outcome:
        return Outcome.NOT_FOUND

    def hub(self, name: str) -> Hub:
        return cast("Hub", _PolledHub(self._bench.hub))

    def list_hubs(self) -> list[str]:
        return [self._bench.hub.name]


class _PolledHub:
    """A hub without hints."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hub, name)

    def subscribe(self, on_wake: OnWake) -> None:
        """Tell that there are none."""

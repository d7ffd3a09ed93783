"""Mistakes that the cases of wakeup find out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final, Literal, TypeAlias

import pytest

from perdure.spi import ActivityDone, Exchange, ExchangeResult, Millis, OnWake, Outcome, Release, Wake
from perdure_conformance.cases import wakeup as cases
from perdure_conformance.mutant import mutant
from perdure_memory import activities, hub, leases, messages, turns, wakeup
from perdure_memory.hub import MemoryHub
from perdure_memory.provider import MemoryProvider
from perdure_memory.state import HubState, Instance
from perdure_memory.store import Store
from perdure_memory.wakeup import MemorySubscription

_Kind: TypeAlias = Literal["work", "changed"]

_PATIENCE_SECONDS: Final = 1.0
"""Enough where it is certain that nothing will come."""


def _impatient(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cases, "PATIENCE_SECONDS", _PATIENCE_SECONDS)


@mutant("407", "NOT-01", source="a notification in one of two paths")
def results_of_activities_are_not_hinted(patch: pytest.MonkeyPatch) -> None:
    """Nobody is told of the message that comes with a completed activity."""
    _impatient(patch)
    complete = activities.complete_activities

    def in_silence(state: HubState, done: Sequence[ActivityDone], now: Millis) -> list[Outcome]:
        outcomes = complete(state, done, now)
        state.work_hints.clear()
        return outcomes

    patch.setattr(hub, "complete_activities", in_silence)


@mutant("408", "NOT-01", "NOT-10", source="listeners kept by the connection")
def hints_stay_with_their_handle(patch: pytest.MonkeyPatch) -> None:
    """Only the subscribers of the handle on which something is done are told of it."""
    _impatient(patch)
    publish = Store.publish
    transaction = MemoryHub._transaction
    current: list[set[MemorySubscription]] = []

    def remember(self: MemoryHub) -> AbstractContextManager[HubState]:
        current[:] = [self._context.subscriptions]
        return transaction(self)

    def publish_here(self: Store, name: str) -> None:
        everybody = self.subscriptions.get(name, [])
        self.subscriptions[name] = [other for other in everybody if other in current[0]]
        try:
            publish(self, name)
        finally:
            self.subscriptions[name] = everybody

    patch.setattr(MemoryHub, "_transaction", remember)
    patch.setattr(Store, "publish", publish_here)


@mutant("409", "NOT-03", source="a scheduler that tells when a timer is due")
def next_due_counts_on_hints(patch: pytest.MonkeyPatch) -> None:
    """A claim of instances doesn't say when something will be due, since a hint would come."""
    patch.setattr(turns, "_next_due", lambda *arguments: None)


@mutant("86", "NOT-04", source="a daemon thread that nobody ends")
def a_listener_outlives_its_subscription(patch: pytest.MonkeyPatch) -> None:
    """The thread of a closed subscription waits on for ever; it calls nobody any more."""
    _impatient(patch)

    def forget(self: MemorySubscription) -> None:
        self._on_close(self)

    patch.setattr(MemorySubscription, "close", forget)


@mutant("410", "NOT-04", source="a flag that nobody looks at")
def a_closed_subscription_is_called_on(patch: pytest.MonkeyPatch) -> None:
    """Closing a subscription changes nothing: its callback is called as before."""
    _impatient(patch)
    patch.setattr(MemorySubscription, "close", lambda self: None)


@mutant("411", "NOT-04", source="subscriptions that only their owners know")
def closing_the_provider_leaves_its_subscriptions(patch: pytest.MonkeyPatch) -> None:
    """Subscriptions of a closed provider go on."""
    _impatient(patch)
    close = MemoryProvider.close

    def leave(self: MemoryProvider) -> None:
        self._subscriptions.clear()
        close(self)

    patch.setattr(MemoryProvider, "close", leave)


@mutant("412", "NOT-05", "NOT-09", source="a loop without try")
def an_error_ends_the_listener(patch: pytest.MonkeyPatch) -> None:
    """A callback that raises is called no more; one that closes its own subscription fails."""
    _impatient(patch)
    close = MemorySubscription.close

    def run(self: MemorySubscription) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._pending or self._closed)
                if self._closed:
                    return
                kind, ids = self._pending.popitem()
            try:
                self._on_wake(Wake(kind=kind, ids=ids))
            except Exception:
                wakeup._LOG.exception("a subscriber failed, and is called no more")
                return

    def close_from_outside(self: MemorySubscription) -> None:
        if self._thread is threading.current_thread():
            raise RuntimeError("cannot join current thread")
        close(self)

    patch.setattr(MemorySubscription, "_run", run)
    patch.setattr(MemorySubscription, "close", close_from_outside)


@mutant("413", "NOT-05", source="`except Exception: pass`")
def an_error_is_swallowed(patch: pytest.MonkeyPatch) -> None:
    """Nobody hears of a callback that raises."""
    patch.setattr(wakeup._LOG, "exception", lambda *arguments: None)


@mutant("414", "NOT-06", source="a queue of notifications")
def each_event_has_its_own_hint(patch: pytest.MonkeyPatch) -> None:
    """Hints are never merged: a subscriber that was busy is called once for each event it missed."""
    _impatient(patch)
    patch.setattr(hub, "MemorySubscription", _Queued)


@mutant("415", "NOT-06", source="a flag that is cleared after the call instead of before it")
def hints_for_a_busy_subscriber_are_lost(patch: pytest.MonkeyPatch) -> None:
    """What happens while a subscriber is called is not told of afterwards."""
    _impatient(patch)
    patch.setattr(hub, "MemorySubscription", _Forgetful)


@mutant("416", "NOT-06", "NOT-09", source="callbacks called by whoever writes")
def callbacks_run_in_the_writers_thread(patch: pytest.MonkeyPatch) -> None:
    """A subscriber is called by the thread that writes, which waits for it, and has to be through before it is told."""
    _impatient(patch)
    patch.setattr(hub, "MemorySubscription", _Synchronous)


@mutant("417", "NOT-10", source="UNLISTEN *")
def closing_one_subscription_ends_all(patch: pytest.MonkeyPatch) -> None:
    """When a subscription is closed, nobody else of its hub gets hints any more."""
    _impatient(patch)

    def unsubscribe(self: Store, name: str, subscription: MemorySubscription) -> None:
        with self.lock:
            self.subscriptions.pop(name, None)

    patch.setattr(Store, "unsubscribe", unsubscribe)


@mutant("85", "NOT-08", source="work that is only looked for when a notification tells of it")
def work_is_found_by_hints_alone(patch: pytest.MonkeyPatch) -> None:
    """Once an exchange found nothing, none looks for work again before a hint; without a listener there is none."""
    _impatient(patch)
    exchange, publish = MemoryHub.exchange, Store.publish
    idle: set[tuple[int, str]] = set()

    def look_when_told(self: MemoryHub, asked: Exchange) -> ExchangeResult:
        place = (id(self._context.store), self.name)
        if place in idle:
            turns = None if asked.claim_turns is None else replace(asked.claim_turns, max_items=0)
            work = None if asked.claim_activities is None else replace(asked.claim_activities, max_items=0)
            return exchange(self, replace(asked, claim_turns=turns, claim_activities=work))
        result = exchange(self, asked)
        if all(batch is not None and not batch.items for batch in (result.turns, result.activities)):
            idle.add(place)
        return result

    def publish_and_wake(self: Store, name: str) -> None:
        if self.subscriptions.get(name):
            idle.discard((id(self), name))
        publish(self, name)

    patch.setattr(MemoryHub, "exchange", look_when_told)
    patch.setattr(Store, "publish", publish_and_wake)


class _Queued(MemorySubscription):
    """Calls its subscriber once for each hint."""

    def __init__(self, on_wake: OnWake, on_close: Callable[[MemorySubscription], None]) -> None:
        self._hints: list[Wake] = []
        super().__init__(on_wake, on_close)

    def hint(self, kind: _Kind, ids: frozenset[str]) -> None:
        with self._condition:
            self._hints.append(Wake(kind=kind, ids=ids))
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._hints or self._closed)
                if self._closed:
                    return
                wake = self._hints.pop(0)
            self._on_wake(wake)


class _Forgetful(MemorySubscription):
    """Looks for hints before its subscriber is called, and takes them off afterwards."""

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._pending or self._closed)
                if self._closed:
                    return
                kind, ids = next(iter(self._pending.items()))
            self._on_wake(Wake(kind=kind, ids=ids))
            with self._condition:
                self._pending.clear()


class _Synchronous(MemorySubscription):
    """Has whoever gives a hint call the subscriber."""

    def hint(self, kind: _Kind, ids: frozenset[str]) -> None:
        if not self._closed:
            self._on_wake(Wake(kind=kind, ids=ids))


@mutant("590", "NOT-04", source="a flag that the thread sees in time")
def closing_does_not_wait_for_the_callback(patch: pytest.MonkeyPatch) -> None:
    """Closing a subscription returns while its callback runs."""
    _impatient(patch)

    def close(self: MemorySubscription) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._on_close(self)

    patch.setattr(MemorySubscription, "close", close)


@mutant("641", "NOT-01", source="a notification in some paths")
def releases_are_not_hinted(patch: pytest.MonkeyPatch) -> None:
    """Nobody is told of what was given back."""
    _impatient(patch)
    release = leases.release_leases

    def in_silence(state: HubState, items: Sequence[Release], now: Millis) -> list[Outcome]:
        outcomes = release(state, items, now)
        state.work_hints.clear()
        return outcomes

    patch.setattr(hub, "release_leases", in_silence)


@mutant("642", "NOT-06", source="a lock held over a callback")
def callers_wait_for_subscribers(patch: pytest.MonkeyPatch) -> None:
    """Whoever changes something waits until a subscriber's callback has ended."""
    _impatient(patch)
    init = MemorySubscription.__init__

    def begin(self: MemorySubscription, on_wake: OnWake, on_close: Callable[[MemorySubscription], None]) -> None:
        def called(wake: Wake) -> None:
            with self._condition:
                on_wake(wake)

        init(self, called, on_close)

    patch.setattr(MemorySubscription, "__init__", begin)


@mutant("643", "NOT-01", source="a notification in some paths")
def a_reopening_is_no_change(patch: pytest.MonkeyPatch) -> None:
    """Nobody who watches an instance is told that it was reopened."""
    _impatient(patch)
    reopen = messages._reopen

    def in_silence(state: HubState, instance: Instance, now: Millis) -> None:
        reopen(state, instance, now)
        state.change_hints.discard(instance.id)

    patch.setattr(messages, "_reopen", in_silence)

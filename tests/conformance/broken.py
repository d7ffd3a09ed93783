"""Providers that are broken as a whole, by URL: `broken://raises`. Those of the mutants have one mistake each."""

from __future__ import annotations

import os
import time
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from perdure.spi import (
    ActivityBatch,
    Capabilities,
    Clock,
    HistoryPage,
    Hub,
    HubStats,
    Limits,
    Outcome,
    Page,
    Provider,
    ProviderURL,
    PurgeResult,
    QueueStats,
    TurnBatch,
)
from perdure_conformance import Adapter
from perdure_memory import MemoryProvider

PASSWORD = "pa55word"


class ClosedProvider(MemoryProvider):
    """Can't be opened."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("memory://closed")
        self._error = error

    def open(self) -> None:
        raise self._error


class RaisingProvider(Provider):
    """Every method raises."""

    def _raise(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("not written yet")

    open = close = create_hub = delete_hub = hub = list_hubs = _raise


class EmptyHub(Hub):
    """Every method returns as little as it can."""

    def __init__(self, name: str, outcome: Outcome | None) -> None:
        self.name = name
        self._outcome = outcome

    def _outcomes(self, *requests: Any) -> Any:
        return [] if self._outcome is None else [self._outcome] * len(requests[0])

    commit_turns = complete_activities = release = create_instances = send_messages = _outcomes  # type: ignore[assignment]

    def renew(self, leases: Any, for_ms: int) -> list[Any]:
        return [(outcome, None) for outcome in self._outcomes(leases)]

    def now(self) -> int:
        return 0

    def claim_turns(self, request: Any) -> TurnBatch:
        return TurnBatch(items=[], more=False, next_due=None, now=0)

    def claim_activities(self, request: Any) -> ActivityBatch:
        return ActivityBatch(items=[], more=False, next_due=None, now=0)

    def get_instances(self, ids: Sequence[str], **_: Any) -> list[Any]:
        return [None] * len(ids)

    def query_instances(self, query: Any) -> Page[Any]:
        return Page(items=[], cursor=None)

    def read_history(self, instance: str, **_: Any) -> HistoryPage:
        return HistoryPage(events=[], first_seq=0, more=False, generation="", execution=1)

    def stats(self) -> HubStats:
        nothing = QueueStats(ready=0, future=0, leased=0, oldest_ready_age_ms=0)
        return HubStats(instances={}, turns=nothing, activities=nothing, now=0)

    def purge(self, request: Any) -> PurgeResult:
        return PurgeResult(deleted=0, complete=True)


class EmptyProvider(Provider):
    """Opens, has hubs, and nothing in them. All outcomes are `outcome`, or none where it is None."""

    name = "empty"
    version = "0"
    capabilities = Capabilities(durable=False, concurrent_threads=False, multi_process=False, multi_host=False)
    limits = Limits()

    def __init__(self, url: str | ProviderURL, *, clock: Clock | None = None, outcome: Outcome | None = None) -> None:
        super().__init__(url, clock=clock)
        self._outcome = outcome

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def create_hub(self, name: str) -> Outcome:
        return Outcome.OK

    def delete_hub(self, name: str) -> Outcome:
        return Outcome.OK

    def hub(self, name: str) -> Hub:
        return EmptyHub(name, self._outcome)

    def list_hubs(self) -> list[str]:
        return []


class AlteredHub:
    """A hub of the memory provider on which creating an instance does something else."""

    def __init__(self, hub: Hub, create: Callable[..., Any]) -> None:
        self._hub = hub
        self._create = create

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hub, name)

    def create_instances(self, new: Any) -> Any:
        return self._create(self._hub, new)


class AlteredProvider(MemoryProvider):
    """The memory provider, but for creating instances."""

    def __init__(self, url: str, *, clock: Clock | None, create: Callable[..., Any]) -> None:
        super().__init__(f"memory://{ProviderURL.parse(url).rest}", clock=clock)
        self._create = create

    def hub(self, name: str) -> Any:
        return AlteredHub(super().hub(name), self._create)


def _raising(error: BaseException) -> Callable[..., Any]:
    def create(hub: Hub, new: Any) -> Any:
        raise error

    return create


def _hang(hub: Hub, new: Any) -> Any:
    Path("hanging").touch()
    time.sleep(60)


def _die(hub: Hub, new: Any) -> Any:
    if new[0].input == b"b":
        os._exit(1)
    return hub.create_instances(new)


def _failing_at_first() -> Callable[..., Any]:
    answers = iter([[Outcome.EXISTS]])
    return lambda hub, new: next(answers, None) or hub.create_instances(new)


def _fail_in_the_first_process(hub: Hub, new: Any) -> Any:
    first = Path("first")
    if not first.exists():
        first.write_text(str(os.getpid()))
    return [Outcome.EXISTS] if first.read_text() == str(os.getpid()) else hub.create_instances(new)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no message either")


CREATE: dict[str, Callable[..., Any]] = {
    "skip": _raising(pytest.skip.Exception("not in the mood")),
    "xfail": _raising(pytest.xfail.Exception("not in the mood")),
    "exit": _raising(pytest.exit.Exception("enough", returncode=0)),
    "system_exit": _raising(SystemExit(0)),
    "odd": _raising(ValueError("\ud800 \x1b[31m 中 " + "long " * 1000)),
    "unprintable": _raising(Unprintable()),
    "leak": _raising(ConnectionError(f"can't reach broken://u:{PASSWORD}@leak (password {PASSWORD})")),
    "hang": _hang,
    "die": _die,
    "flaky": _failing_at_first(),
    "flaky_unseen": _failing_at_first(),
    "first_process": _fail_in_the_first_process,
    "cancel": _raising(CancelledError("enough")),
    "long": lambda hub, new: [Outcome.OK] * 300 + [Outcome.EXISTS],
}


def make(url: str | ProviderURL, *, clock: Clock | None = None) -> Provider:
    """Return the broken provider that a URL names."""
    what = ProviderURL.parse(str(url)).rest.rpartition("@")[2]
    match what:
        case "unbuilt":
            raise ValueError("never built")
        case "cancelled":
            return ClosedProvider(CancelledError("not now"))  # no Exception, and what a provider on asyncio may raise
        case "mute":
            return ClosedProvider(Unprintable())
        case "raises":
            return RaisingProvider(url, clock=clock)
        case "empty":
            return EmptyProvider(url, clock=clock)
        case "agrees":
            return EmptyProvider(url, clock=clock, outcome=Outcome.OK)
        case _:
            return AlteredProvider(str(url), clock=clock, create=CREATE[what])


class BrokenAdapter(Adapter):
    def build(self, clock: Clock | None) -> Provider:
        return make(self.url, clock=clock)

"""The bench a case works at: a fresh hub of the provider under test, and the means to look at it from all sides."""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, Final, cast

from perdure.spi import (
    Capabilities,
    ClaimActivities,
    ClaimTurns,
    Clock,
    Hub,
    InstanceQuery,
    Limits,
    ManualClock,
    NotFound,
    Outcome,
    Provider,
)
from perdure_conformance.adapter import Adapter
from perdure_conformance.case import NO_ASSERTIONS
from perdure_conformance.driver import Driver
from perdure_conformance.evidence import Evidence, RecordingHub
from perdure_conformance.guard import guarded, ignoring_errors

__all__ = ["START", "Bench", "Session"]

START: Final = 1_700_000_000_000
"""What the clock says when a case begins, in ms."""

_LARGE: Final = 1000
_numbers = count(1)


class Session:
    """One store under test, kept open from case to case.

    Args:
        adapter: the provider under test.
        seed: from which each case's own is made.
        full: run large cases in full.
        hunting: generate as many examples as in full, though no more than it takes to find one that fails.
    """

    def __init__(self, adapter: Adapter, *, seed: int = 0, full: bool = False, hunting: bool = False) -> None:
        self.adapter = adapter
        self.seed = seed
        self.scale = 1.0 if full else adapter.scale
        self.full = full
        self.hunting = hunting
        self.clock = ManualClock(START)
        self._provider: Provider | None = None
        self._was_open = False
        self._refusal: BaseException | None = None
        if not __debug__:
            raise RuntimeError(NO_ASSERTIONS)
        # Runs that share a store must not share hubs.
        self._run = secrets.token_hex(4)

    @property
    def provider(self) -> Provider:
        """The open provider, its clock in our hands. Opened at first use."""
        if self._provider is None:
            if self._refusal is not None:
                # Not tried again at every case: to find no server can take its time.
                raise self._refusal.with_traceback(None)
            try:
                self._provider = self._open()
            except BaseException as error:
                if not self._was_open:
                    self._refusal = error
                raise
            self._was_open = True
        return self._provider

    def _open(self) -> Provider:
        provider = self.adapter.build(self.clock)
        try:
            provider.open()
        except BaseException:
            with ignoring_errors():
                provider.close()
            raise
        return provider

    def reopen(self) -> Provider:
        """Close the provider and open the store anew."""
        self.close()
        return self.provider

    def close(self) -> None:
        """Close the provider, if it is open."""
        provider, self._provider = self._provider, None
        if provider is not None:
            provider.close()

    def abandon(self) -> None:
        """Close the provider, whatever it says to that: after a failure nobody knows how it was left."""
        with ignoring_errors(), guarded(self.adapter.patience):
            self.close()

    def hub_name(self) -> str:
        """Return a name that no hub of the store has."""
        return f"c{self._run}-{next(_numbers)}"

    def case_seed(self, case_id: str, variant: str) -> int:
        """Return the seed of one case."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}:{case_id}:{variant}".encode()).digest()[:4])


class Fuse:
    """Makes a call to the driver fail: for `Bench.intercepted`."""

    def __init__(self) -> None:
        self.left: int | None = None
        """How many calls until then; None: it doesn't."""
        self.has_blown = False

    def burn(self) -> None:
        """Count a call, and fail if it is the one."""
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            self.has_blown = True
            raise ConnectionError("broken off")


class Bench(Driver):
    """A `Driver` of a hub that nobody else has, with everything around it.

    Args:
        session: the store.
        seed: of `rng`.
        variant: that of the case.
    """

    hub: Hub

    def __init__(self, session: Session, *, seed: int = 0, variant: str = "") -> None:
        self.session = session
        self.adapter = session.adapter
        self.variant = variant
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311 - cases are to be repeated, not kept secret
        self.evidence = Evidence()
        self._opened: list[Provider] = []
        self._hubs: list[str] = []
        session.clock.set(START)
        super().__init__(cast("Hub", None), session.clock)
        try:
            self.hub = self.new_hub().hub
        except BaseException:
            # Nobody else will: there is no bench.
            self.clear()
            raise

    @property
    def provider(self) -> Provider:
        """The provider, open."""
        return self.session.provider

    @property
    def capabilities(self) -> Capabilities:
        """What the provider declares."""
        return self.provider.capabilities

    @property
    def limits(self) -> Limits:
        """The provider's limits."""
        return self.provider.limits

    @property
    def url(self) -> str:
        """The provider's URL."""
        return self.adapter.url

    def control(self) -> None:
        """Say that the provider was just seen to do what it should, where no call of a hub shows it."""
        self.evidence.control()

    def scaled(self, number: int) -> int:
        """Return how many of `number` operations to do: all, or in a run that is not full a part of them."""
        return number if number <= _LARGE else max(_LARGE, int(number * self.session.scale))

    # Hubs and handles.

    def hub_name(self) -> str:
        """Return a name for a hub that the case makes itself; it is deleted afterwards."""
        name = self.session.hub_name()
        self._hubs.append(name)
        return name

    def drop_later(self, *names: str) -> None:
        """Delete these hubs after the case, if they are there."""
        self._hubs.extend(names)

    def new_hub(self, name: str | None = None, *, provider: Provider | None = None) -> Driver:
        """Create a further hub, by default on the case's handle; it is deleted after the case."""
        provider = self.provider if provider is None else provider
        if name is None:
            name = self.hub_name()
        else:
            self.drop_later(name)
        outcome = provider.create_hub(name)
        assert outcome is Outcome.OK, f"create_hub of a new name answered {outcome}"
        return self.on(provider, name)

    def new_hub_in_real_time(self) -> Driver:
        """Create a further hub, and return a driver of it on a handle that has no injected clock."""
        return self.new_hub(provider=self.open(self.adapter.build(None)))

    def on(self, provider: Provider, name: str | None = None) -> Driver:
        """Return a driver of a hub (by default that of the case) on any handle."""
        hub = provider.hub(self.hub.name if name is None else name)
        return Driver(cast("Hub", RecordingHub(hub, self.evidence)), self.clock)

    def connect(self, *, clock: Clock | None = None) -> Provider:
        """Open one more handle on the store, on the case's clock or another; it is closed after the case."""
        return self.open(self.adapter.build(clock or self.clock))

    def another_handle(self, *, clock: Clock | None = None) -> Provider | None:
        """Open one more handle on which the case's hub is; where the store lives in its handle, close it: None.

        Raises:
            AssertionError: the hub is not there, though the store is declared to outlive its handle.
        """
        provider = self.connect(clock=clock)
        self.settle_reads()
        if self.hub.name in provider.list_hubs():
            return provider
        assert not self.capabilities.durable, "a hub of a durable store is not on another handle"
        assert not self.capabilities.multi_process, "a hub of a shared store is not on another handle"
        provider.close()
        return None

    def a_handle_each(self, number: int) -> list[Driver]:
        """Return drivers of the case's hub, each on a further handle, or all on its own where the store lives in it."""
        first = self.another_handle()
        if first is None:
            return [self] * number
        return [self.on(first), *(self.on(self.connect()) for _ in range(number - 1))]

    def settle_reads(self) -> None:
        """Wait until all handles see what was written on any."""
        time.sleep(self.capabilities.read_lag_ms / 1000)

    def open(self, provider: Provider) -> Provider:
        """Open a handle that is to be closed after the case."""
        self._opened.append(provider)
        provider.open()
        return provider

    def reopen(self) -> None:
        """Close the handle and go on with a new one."""
        name = self.hub.name
        self.session.reopen()
        self.hub = self.on(self.provider, name).hub

    @contextmanager
    def intercepted(self, before_call: Callable[[], None]) -> Iterator[None]:
        """Go on with a handle on which `before_call` is called before each call to the driver."""
        with self.adapter.intercept(before_call):
            self.reopen()
            yield
        self.reopen()

    # Looking.

    def snapshot(self, *instances: str) -> list[object]:
        """Return all that can be read of the hub without changing it, and of these instances their history."""
        nothing: dict[str, Any] = {"worker": "reader", "max_items": 0, "lease_ms": 1}
        turns = self.hub.claim_turns(ClaimTurns(**nothing))
        work = self.hub.claim_activities(ClaimActivities(**nothing))
        return [
            list(self.hub.get_instances(instances)),
            [self._history(instance) for instance in instances],
            list(self.hub.query_instances(InstanceQuery(page_size=_LARGE)).items),
            self.hub.stats(),
            (turns.more, turns.next_due, work.more, work.next_due),
        ]

    def _history(self, instance: str) -> object:
        try:
            return self.history(instance)
        except NotFound:
            return None

    @contextmanager
    def unchanged(self, *instances: str) -> Iterator[None]:
        """Check that nothing that can be read changes in this context.

        Afterwards the case must see something work that would have failed had there been an effect: its positive
        control. Else it is reported as vacuous.

        Args:
            instances: touched and untouched ones, of which also the histories are compared.
        """
        before = self.snapshot(*instances)
        yield
        assert self.snapshot(*instances) == before
        self.evidence.lacks_control = True

    # The end.

    def finish(self) -> None:
        """Check that the case was not vacuous."""
        self.evidence.check()

    def clear(self) -> None:
        """Close the handles and delete the hubs that the case made."""
        for provider in self._opened:
            with ignoring_errors():
                provider.close()
        self._delete(self._hubs)

    def _delete(self, names: Sequence[str]) -> None:
        # What a broken provider says to it was for the cases to find out.
        with ignoring_errors():
            provider = self.session.provider
            for name in names:
                with suppress(NotFound):
                    provider.delete_hub(name)

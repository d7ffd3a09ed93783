"""The provider: a handle on a store of this process."""

from __future__ import annotations

from perdure.spi import (
    Capabilities,
    Clock,
    Closed,
    InvalidRequest,
    Limits,
    Outcome,
    Provider,
    ProviderURL,
    SystemClock,
    checks,
)
from perdure_memory.hub import Context, MemoryHub
from perdure_memory.state import HubState
from perdure_memory.store import shared_store
from perdure_memory.wakeup import MemorySubscription


class MemoryProvider(Provider):
    """`memory://name`: all handles of one name in one process share a store.

    Closing a handle closes that handle alone; another one finds the store as it was left.
    """

    name = "memory"
    version = "0.1.0"
    capabilities = Capabilities(
        durable=False,
        concurrent_threads=True,
        multi_process=False,
        multi_host=False,
        single_txn_exchange=True,
        push="process",
        tag_query=True,
        purge_cascade=True,
    )
    limits = Limits()

    def __init__(self, url: str | ProviderURL, *, clock: Clock | None = None) -> None:
        super().__init__(url, clock=clock)
        if self.url.parameters:
            raise InvalidRequest(f"unknown parameter {min(self.url.parameters)} in {self.url}; there is no driver")
        self._store = shared_store(self.url.rest)
        self._subscriptions: set[MemorySubscription] = set()
        self._is_open = False
        self._is_closed = False
        self._context = Context(
            store=self._store,
            clock=SystemClock() if clock is None else clock,
            capabilities=self.capabilities,
            limits=self.limits,
            check_open=self._check_open,
            subscriptions=self._subscriptions,
        )

    def open(self) -> None:
        with self._store.lock:
            if self._is_closed:
                raise Closed
            self._is_open = True

    def close(self) -> None:
        with self._store.lock:
            self._is_closed = True
            subscriptions = list(self._subscriptions)
        # Not under the lock: a subscriber that is being called may be waiting for it.
        for subscription in subscriptions:
            subscription.close()

    def create_hub(self, name: str) -> Outcome:
        with self._store.lock:
            self._check_open()
            checks.check_hub_name(name)
            if name in self._store.hubs:
                return Outcome.EXISTS
            self._store.hubs[name] = HubState()
            return Outcome.OK

    def delete_hub(self, name: str) -> Outcome:
        with self._store.lock:
            self._check_open()
            checks.check_hub_name(name)
            return Outcome.NOT_FOUND if self._store.hubs.pop(name, None) is None else Outcome.OK

    def hub(self, name: str) -> MemoryHub:
        self._check_open()
        checks.check_hub_name(name)
        return MemoryHub(name, self._context)

    def list_hubs(self) -> list[str]:
        with self._store.lock:
            self._check_open()
            # Code points sort as their UTF-8 bytes do.
            return sorted(self._store.hubs)

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed
        if not self._is_open:
            raise Closed("The provider is not open: call open() first.")

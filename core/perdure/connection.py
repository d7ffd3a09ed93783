"""A client's way to its hub, and the one subscription that all its waits share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from perdure.errors import Closed, ProviderError
from perdure.plugins import connect
from perdure.spi import Hub, Provider, Subscription, Wake

__all__ = ["Changes", "Connection", "OnChange"]

T = TypeVar("T")

OnChange: TypeAlias = Callable[[], None]
"""Called from any thread, and must return at once."""


class Connection:
    """The hub that a client talks to, connected with when it is first used.

    Args:
        provider: a URL, and then the provider is opened and closed here; or an opened provider of the caller's.
        hub: name of the task hub; None: that of the provider's URL. It is created if it doesn't exist.
    """

    def __init__(self, provider: Provider | str, hub: str | None) -> None:
        if not isinstance(provider, Provider | str):
            raise TypeError(f"provider must be a URL or an opened Provider, not {type(provider).__name__}")
        self.changes = Changes()
        self._provider = provider
        self._hub_name = hub
        self._owned: Provider | None = None
        self._hub: Hub | None = None
        self._closed = False
        # Held while connecting, so that many threads connect once.
        self._lock = threading.Lock()

    def call(self, function: Callable[[Hub], T]) -> T:
        """Return `function(hub)`. Blocks.

        Raises:
            Closed: the client was closed.
        """
        hub = self._hub
        if hub is None or self._closed:
            hub = self._connect()
        return function(hub)

    def close(self) -> None:
        """Let go of the hub, end all waits, and close the provider if it was opened here. Idempotent."""
        with self._lock:
            self._closed = True
            owned, self._owned = self._owned, None
        self.changes.close()
        if owned is not None:
            owned.close()

    def _connect(self) -> Hub:
        with self._lock:
            if self._closed:
                raise Closed("this client was closed; make a new one")
            if self._hub is None:
                self._hub = self._open(self._provider)
            return self._hub

    def _open(self, provider: Provider | str) -> Hub:
        if isinstance(provider, Provider):
            return _hub_of(provider, self._hub_name)
        opened = connect(provider)
        try:
            hub = _hub_of(opened, self._hub_name)
        except BaseException:
            opened.close()
            raise
        self._owned = opened
        return hub


class Changes:
    """Tells waits that their instances changed: one subscription to the hub for all, made with the first."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[OnChange]] = {}
        self._lock = threading.Lock()
        self._subscription: Subscription | None = None
        self._closed = False
        # Apart from the lock above, which the subscription's own thread takes: closing it waits for that thread.
        self._subscribing = threading.Lock()

    @property
    def are_pushed(self) -> bool:
        """Whether hints may come; if not, only polling helps."""
        return self._subscription is not None

    def watch(self, instance_id: str, on_change: OnChange) -> None:
        """Call `on_change` from now on when the instance may have changed, until `unwatch`. Needs `subscribe`."""
        with self._lock:
            self._waiting.setdefault(instance_id, []).append(on_change)

    def subscribe(self, hub: Hub) -> None:
        """Have hints come, if they don't and if the provider has any. May block."""
        with self._subscribing:
            if self._subscription is None and not self._closed:
                # Hints only save time. If the store is in trouble the next read says so.
                with contextlib.suppress(ProviderError):
                    self._subscription = hub.subscribe(self._on_wake)

    def unwatch(self, instance_id: str, on_change: OnChange) -> None:
        """Undo `watch`; do nothing if there was none."""
        with self._lock:
            waiting = self._waiting.get(instance_id, [])
            if on_change in waiting:
                waiting.remove(on_change)
            if not waiting:
                self._waiting.pop(instance_id, None)

    def close(self) -> None:
        """End the subscription, and wake everyone who waits. Idempotent."""
        with self._subscribing:
            self._closed = True
            subscription, self._subscription = self._subscription, None
            if subscription is not None:
                subscription.close()
        self._on_wake(Wake(kind="changed"))

    def _on_wake(self, wake: Wake) -> None:
        if wake.kind != "changed":
            return
        with self._lock:
            ids = self._waiting.keys() if wake.ids is None else self._waiting.keys() & wake.ids
            concerned = [on_change for instance_id in ids for on_change in self._waiting[instance_id]]
        for on_change in concerned:
            on_change()


def _hub_of(provider: Provider, name: str | None) -> Hub:
    chosen = provider.url.hub if name is None else name
    provider.create_hub(chosen)
    return provider.hub(chosen)

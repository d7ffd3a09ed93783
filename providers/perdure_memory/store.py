"""What all handles of one `memory://name` in this process share."""

from __future__ import annotations

import threading

from perdure_memory.state import HubState
from perdure_memory.wakeup import MemorySubscription


class Store:
    """The hubs of one name, under one lock: whoever holds it sees and leaves a consistent whole."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.hubs: dict[str, HubState] = {}
        self.subscriptions: dict[str, list[MemorySubscription]] = {}
        """By hub, kept apart from it so that they outlive its deletion."""

    def publish(self, hub: str) -> None:
        """Pass the hints that gathered in a hub on to its subscribers."""
        state = self.hubs.get(hub)
        if state is None:
            return
        work, changed = frozenset(state.work_hints), frozenset(state.change_hints)
        state.work_hints.clear()
        state.change_hints.clear()
        for subscription in self.subscriptions.get(hub, ()):
            if work:
                subscription.hint("work", work)
            if changed:
                subscription.hint("changed", changed)

    def subscribe(self, hub: str, subscription: MemorySubscription) -> None:
        """Add a subscriber of a hub."""
        with self.lock:
            self.subscriptions.setdefault(hub, []).append(subscription)

    def unsubscribe(self, hub: str, subscription: MemorySubscription) -> None:
        """Take a subscriber out, if it is in."""
        with self.lock:
            subscribers = self.subscriptions.get(hub, [])
            if subscription in subscribers:
                subscribers.remove(subscription)


_stores: dict[str, Store] = {}
_stores_lock = threading.Lock()


def shared_store(name: str) -> Store:
    """Return the store of this name: the same one for the process's whole life."""
    with _stores_lock:
        return _stores.setdefault(name, Store())

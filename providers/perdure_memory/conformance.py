"""What the conformance suite may do with the memory provider."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.spi import ProviderURL
from perdure_conformance import Adapter
from perdure_memory.store import shared_store


class MemoryAdapter(Adapter):
    """`memory://name`. There is no driver to intercept, and no stored row that could go bad."""

    def count_rows(self, hub: str) -> Mapping[str, int]:
        store = shared_store(ProviderURL.parse(self.url).rest)
        with store.lock:
            state = store.hubs.get(hub)
            if state is None:
                return {}
            inboxes = [instance.inbox for instance in state.instances.values()]
            return {
                "instances": len(state.instances),
                "timeline": len(state.timeline),
                "children": sum(map(len, state.children.values())),
                "turns": len(list(state.turns)),
                "activities": len(state.activities),
                "queue": len(list(state.queue)),
                "messages": sum(map(len, inboxes)),
                "remembered": sum(inbox.remembered for inbox in inboxes),
            }

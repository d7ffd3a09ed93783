"""Hints to subscribers, from a thread for each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from perdure.spi import OnWake, Subscription, Wake

_LOG = logging.getLogger(__name__)

# Beyond it the ids of merged hints are worth less than what they cost.
_MAX_IDS: Final = 1000

_Kind: TypeAlias = Literal["work", "changed"]


class MemorySubscription(Subscription):
    """Calls one subscriber. What happens while it is being called is merged into its next call."""

    def __init__(self, on_wake: OnWake, on_close: Callable[[MemorySubscription], None]) -> None:
        self._on_wake = on_wake
        self._on_close = on_close
        self._condition = threading.Condition()
        self._pending: dict[_Kind, frozenset[str] | None] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="perdure-memory-wakeup", daemon=True)
        self._thread.start()

    def hint(self, kind: _Kind, ids: frozenset[str]) -> None:
        """Have the subscriber called soon. Returns at once."""
        with self._condition:
            known = self._pending.get(kind, frozenset())
            merged = None if known is None else known | ids
            self._pending[kind] = None if merged is None or len(merged) > _MAX_IDS else merged
            self._condition.notify()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._on_close(self)
        # A subscriber may close from inside its own call, and can't wait for itself.
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._pending or self._closed)
                if self._closed:
                    return
                kind, ids = self._pending.popitem()
            try:
                self._on_wake(Wake(kind=kind, ids=ids))
            except Exception:
                _LOG.exception("a subscriber failed")

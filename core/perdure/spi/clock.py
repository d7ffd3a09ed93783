"""Time as an interface, so that a month passes in a millisecond under test."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import TypeAlias

__all__ = ["Clock", "ManualClock", "Millis", "SystemClock"]

Millis: TypeAlias = int
"""Milliseconds since the Unix epoch, UTC, on the hub's clock."""


class Clock(ABC):
    """Where a provider reads the time when one is injected.

    With an injected clock a provider has no other: leases, timers, visibility and `updated_at` all
    come from it. Implementations are called from many threads.
    """

    @abstractmethod
    def now(self) -> Millis:
        """Return the time. It may jump in either direction: safety never rests on it."""


class SystemClock(Clock):
    """The wall clock of this machine."""

    def now(self) -> Millis:
        return time.time_ns() // 1_000_000


class ManualClock(Clock):
    """A clock that stands still until it is moved.

    Args:
        start: its first reading, in ms since the epoch.
    """

    def __init__(self, start: Millis = 1_700_000_000_000) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> Millis:
        return self._now

    def advance(self, ms: int) -> Millis:
        """Move by `ms` milliseconds (negative: back) and return the new reading."""
        with self._lock:
            self._now += ms
            return self._now

    def set(self, now: Millis) -> None:
        """Jump to `now`."""
        with self._lock:
            self._now = now

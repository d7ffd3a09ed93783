"""What bounds a purge."""

from __future__ import annotations

import time

from perdure.spi.records import PurgeRequest

__all__ = ["PurgeBounds"]


class PurgeBounds:
    """How much a purge may still do: its limit and its budget, kept alike by all providers.

    Args:
        request: the purge.
    """

    def __init__(self, request: PurgeRequest) -> None:
        self.deleted = 0
        """How many instances are gone; whoever deletes counts them here."""
        self._limit = request.limit
        # Of real time: a budget spares the caller, and has nothing to do with what is stored.
        self._deadline = None if request.budget_ms is None else time.monotonic() + request.budget_ms / 1000

    def allow(self, size: int) -> bool:
        """Tell whether as many more instances may go now.

        The first family goes whole even if it is larger than the limit, or the purge would never end;
        and once the budget is over nothing but that first one.
        """
        if self._limit == 0:
            return False
        if self.deleted == 0:
            return True
        in_time = self._deadline is None or time.monotonic() < self._deadline
        return in_time and (self._limit is None or self.deleted + size <= self._limit)

"""The reference: the memory provider with the limits of the one under test, to be compared with it call by call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from perdure.spi import Hub, Limits, ManualClock
from perdure_conformance.bench import Bench
from perdure_memory import MemoryProvider

__all__ = ["reference_hub"]

_numbers = count(1)


class _Reference(MemoryProvider):
    def __init__(self, clock: ManualClock, limits: Limits) -> None:
        self.limits = limits
        super().__init__("memory://conformance-reference", clock=clock)


@contextmanager
def reference_hub(bench: Bench, clock: ManualClock) -> Iterator[Hub]:
    """Open a hub of the reference that nobody else has, for one comparison."""
    name = f"m{next(_numbers)}"
    with _Reference(clock, bench.limits) as provider:
        provider.create_hub(name)
        yield provider.hub(name)
        provider.delete_hub(name)

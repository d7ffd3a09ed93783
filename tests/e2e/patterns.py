"""The three patterns of the examples, with gates in the place of the time that their activities take.

As a program it is a worker for them, in a process of its own: `patterns.py URL GATES`, until its stdin is closed.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import perdure

EXAMPLES = Path(__file__).parents[2] / "examples"
PATTERNS = ("sequence", "city_recommender", "ticket_reservation")


class Gates:
    """Stands for the module `time` in an example: who would sleep waits for the next gate to be opened.

    Gates are files in a directory, so that they can be opened from another process.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._opened = itertools.count(1)
        self._reached = itertools.count(1)

    def open(self, gates: int = 1) -> None:
        """Let that many more activities pass."""
        for gate in itertools.islice(self._opened, gates):
            (self.directory / f"open-{gate}").touch()

    def reached(self) -> int:
        """Return how many activities have come to a gate so far."""
        return len(list(self.directory.glob("reached-*")))

    def sleep(self, seconds: float) -> None:
        gate = next(self._reached)
        (self.directory / f"reached-{gate}").touch()
        deadline = time.monotonic() + 60
        while not (self.directory / f"open-{gate}").exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"gate {gate} is never opened")
            time.sleep(0.005)


def load(gates: Gates) -> Iterator[Any]:
    """Import the examples anew, and put gates into them."""
    for name in PATTERNS:
        spec = importlib.util.spec_from_file_location(f"patterns_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module  # where its annotations are looked up
        spec.loader.exec_module(module)
        if hasattr(module, "time"):
            module.time = gates
        yield module


def make_worker(url: str, gates: Gates) -> perdure.Worker:
    sequence, city_recommender, ticket_reservation = load(gates)
    worker = perdure.Worker(url)
    for orchestrator in (sequence.sequence, city_recommender.city_recommender, ticket_reservation.ticket_reservation):
        worker.add_orchestrator(orchestrator)
    for activity in (sequence.say_hello, city_recommender.describe, ticket_reservation.compute_discount):
        worker.add_activity(activity)
    return worker


if __name__ == "__main__":
    with make_worker(sys.argv[1], Gates(Path(sys.argv[2]))):
        sys.stdin.read()

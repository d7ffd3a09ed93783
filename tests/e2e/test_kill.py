"""SIGKILL again and again in the midst of an inventory: nothing lost, nothing twice, the same report.

`PERDURE_KILLS` is the dose. 12 kills are enough for every change; 50 are those of the promise, for a release:

    PERDURE_KILLS=50 pytest tests/e2e/test_kill.py
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.e2e.command import EXAMPLES, Command

import perdure as api
from perdure.history import (
    Event,
    ExecutionCompleted,
    ExecutionStarted,
    OrchestratorStarted,
    TaskCompleted,
    TaskScheduled,
    decode_event,
)
from perdure.spi import Hub

KILLS = int(os.environ.get("PERDURE_KILLS", "12"))
FILES = 5_000 if KILLS >= 50 else 100 * KILLS
LEASE_SECONDS = 0.5
# Where the last kill lands: the rest of the way is left for the run that may finish.
LAST_KILL_AT = 0.95

pytestmark = pytest.mark.slow


def plant(root: Path) -> int:
    """Make the tree, and return how many directories it has."""
    dice = random.Random(7)
    for number in range(FILES):
        file = root / f"part-{number % 40:02}" / f"file-{number:05}.{dice.choice(['txt', 'py', 'json', 'dat'])}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(dice.randbytes(dice.randrange(200)) if number % 10 else b"the same everywhere")
    return 1 + sum(1 for path in root.rglob("*") if path.is_dir())


class Odometer:
    """How many activities have a result on record, read from outside, a page at a time."""

    def __init__(self, hub: Hub, instance_id: str) -> None:
        self._hub = hub
        self._id = instance_id
        self._after = -1
        self.completed = 0

    def read(self) -> int:
        more = self._hub.get_instances([self._id])[0] is not None
        while more:
            page = self._hub.read_history(self._id, after=self._after)
            assert not page.events or page.first_seq == self._after + 1
            self._after += len(page.events)
            self.completed += sum(isinstance(decode_event(stored), TaskCompleted) for stored in page.events)
            more = page.more
        return self.completed


def kill_at(process: subprocess.Popen[str], odometer: Odometer, target: int) -> None:
    """Kill the run once it has got to `target`, and further than the run before it."""
    start = odometer.read()
    deadline = time.monotonic() + 60
    while odometer.read() < max(target, start + 1):
        assert process.poll() is None, f"it ended by itself, short of {target}: {process.communicate()[1]}"
        assert time.monotonic() < deadline, f"no progress past {odometer.completed} for a minute"
        time.sleep(0.002)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_kills_lose_nothing_and_double_nothing(perdure: Command, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    activities = FILES + plant(tree) + 1
    arguments = ("run", str(EXAMPLES / "inventory.py"), "--input", json.dumps({"path": str(tree)}))
    undisturbed = perdure.run(*arguments, timeout=120)
    assert undisturbed.json["files"] == FILES

    with api.connect(f"sqlite:///{perdure.directory}/killed.db") as provider:
        hub = provider.hub("default")
        odometer = Odometer(hub, "killed")
        disturbed = (
            *arguments,
            "--id",
            "killed",
            "--lease-seconds",
            str(LEASE_SECONDS),
            "--provider",
            str(provider.url),
        )
        for kill in range(1, KILLS + 1):
            target = round(activities * LAST_KILL_AT * kill / KILLS)
            kill_at(perdure.start(*disturbed), odometer, target)
        assert odometer.read() < activities
        final = perdure.run(*disturbed, timeout=120)

        check(list(api.Client(provider).read_history("killed")), activities)
    assert final.stdout == undisturbed.stdout


def check(events: list[Event], activities: int) -> None:
    """A history with a beginning, an end, and one result for each activity."""
    kinds = Counter(type(event) for event in events)
    assert set(kinds) == {OrchestratorStarted, ExecutionStarted, TaskScheduled, TaskCompleted, ExecutionCompleted}
    assert isinstance(events[0], OrchestratorStarted)
    assert isinstance(events[1], ExecutionStarted)
    assert isinstance(events[-1], ExecutionCompleted)
    assert kinds[ExecutionStarted] == kinds[ExecutionCompleted] == 1

    scheduled = [event.event_id for event in events if isinstance(event, TaskScheduled)]
    completed = [event.task_scheduled_id for event in events if isinstance(event, TaskCompleted)]
    assert scheduled == list(range(activities)), "decisions are numbered in order, with no gap and no duplicate"
    assert sorted(completed) == scheduled, "each activity has exactly one result"

    open_tasks: set[int] = set()
    for event in events:
        if isinstance(event, TaskScheduled):
            open_tasks.add(event.event_id)
        elif isinstance(event, TaskCompleted):
            open_tasks.remove(event.task_scheduled_id)
    assert not open_tasks

"""What do claims cost in a hub that is full of what they don't ask for?

Measures one call of each kind in an empty hub, and in one with 100,000 ready instances of a name that nobody asks for,
5,000 idle timers, 100,000 finished instances and 20,000 activities that nobody asks for. The two hubs are in stores
of their own and measured by turns, within one run:

    python benchmarks/claims.py sqlite:////tmp/claims.db postgresql://user:password@127.0.0.1/postgres

It prints the medians in ms and their ratio: right after loading, when what the load left behind was not swept up yet;
after `VACUUM ANALYZE` (as autovacuum does every minute); and for a handle that was at work when the store was empty,
and so may have made plans for an empty one. Then what claims of any name cost by how many names there are.

Of each URL it makes several stores: schemas `benchmark_...`, or files beside the one that is named. They are deleted in
the end. A Postgres for it is started by `python -m tests.servers`.
"""

import argparse
import itertools
import secrets
import sqlite3
import statistics
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import perdure
from perdure.spi import (
    Activity,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    Hub,
    Lease,
    Message,
    NewActivity,
    NewInstance,
    OrchestrationStatus,
    ProviderURL,
    Release,
    TurnCommit,
    TurnItem,
)

BATCH = 500
ASKED = ("nothing", "one", "sixteen", "step")
LONG_MS = 3_600_000
FAR_MS = 365 * 24 * LONG_MS
NAMES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much a hub is to hold of what nobody asks for."""

    ready: int = 0
    timers: int = 0
    finished: int = 0
    activities: int = 0


def new(name: str, count: int, due: int = 0) -> Iterator[list[NewInstance]]:
    """Return new instances in batches."""
    for first in range(0, count, BATCH):
        yield [
            NewInstance(
                id=f"{name}-{uuid.uuid4().hex}",
                name=name,
                start=b'{"kind":"ExecutionStarted"}\n[1,2,3]',
                generation=secrets.token_hex(8),
                input=b"[1,2,3]",
                due=due,
            )
            for _ in range(first, min(first + BATCH, count))
        ]


def claim(names: Sequence[str] | None, most: int = 100) -> ClaimTurns:
    """Return a request as an engine makes it."""
    asked = None if names is None else frozenset(names)
    return ClaimTurns(worker="benchmark", max_items=most, lease_ms=LONG_MS, names=asked)


def commit(item: TurnItem, status: OrchestrationStatus = OrchestrationStatus.RUNNING, **more: Any) -> TurnCommit:
    """Return a commit that consumes all that an item brought."""
    return TurnCommit(
        lease=item.lease,
        commit_id=uuid.uuid4().hex,
        execution=item.execution,
        expected_next_seq=item.next_seq,
        status=status,
        events=[b'{"kind":"OrchestratorStarted"}'],
        consumed=[message.id for message in item.messages],
        **more,
    )


def message(item: TurnItem, due: int = 0) -> Message:
    """Return a message of an instance to itself."""
    return Message(id=uuid.uuid4().hex, instance=item.instance, payload=b'{"kind":"TimerFired"}', due=due)


def scheduled(name: str, count: int) -> list[NewActivity]:
    """Return new activities."""
    return [NewActivity(id=uuid.uuid4().hex, name=name, payload=b"[1,2,3]") for _ in range(count)]


def run(hub: Hub, name: str, count: int, turn: Callable[[TurnItem], TurnCommit]) -> None:
    """Create instances, and do one turn of each."""
    commits: list[TurnCommit] = []
    for batch in new(name, count):
        hub.create_instances(batch)
        found = hub.exchange(Exchange(commits=commits, claim_turns=claim([name], BATCH))).turns
        assert found is not None
        commits = [turn(item) for item in found.items]
        if len(commits) != len(batch):
            raise SystemExit(f"{len(commits)} of {len(batch)} instances were claimed")
    hub.commit_turns(commits)


def fill(hub: Hub, load: Load) -> None:
    """Put all that nobody asks for into a hub: timers and finished instances of the very names that are asked for."""
    far = hub.now() + FAR_MS
    # What is asked for later on, and may be there already, is no part of it.
    kept = hub.claim_turns(claim(ASKED)).items
    for name in ASKED:
        run(hub, name, load.finished // len(ASKED), lambda item: commit(item, OrchestrationStatus.COMPLETED))
        run(hub, name, load.timers // len(ASKED), lambda item: commit(item, messages=[message(item, far)]))
    run(hub, "holder", load.activities // 100, lambda item: commit(item, activities=scheduled("unasked", 100)))
    for batch in new("unasked", load.ready):
        hub.create_instances(batch)
    if kept:
        hub.release([Release(lease=item.lease, penalize=False) for item in kept])


class Stage:
    """A hub, and what the measured calls need to be in it.

    Args:
        hub: an open one.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.target = ""
        self.item: TurnItem | None = None

    def prepare(self) -> None:
        """Add what is asked for."""
        for name, count in (("one", 1), ("sixteen", 16)):
            for batch in new(name, count):
                self.hub.create_instances(batch)
        run(self.hub, "holder", 1, lambda item: commit(item, activities=scheduled("asked", 16)))
        for batch in new("step", 1):
            self.hub.create_instances(batch)
            self.target = batch[0].id
        (self.item,) = self.hub.claim_turns(claim(["step"])).items

    def calls(self) -> dict[str, Callable[[], float]]:
        """Return what is measured; each returns seconds, and leaves what the next one needs."""
        return {
            "claim_turns finds 0": lambda: self._turns("nothing", 0),
            "claim_turns finds 1": lambda: self._turns("one", 1),
            "claim_turns finds 16": lambda: self._turns("sixteen", 16),
            "claim_activities finds 0": lambda: self._activities("nothing", 0),
            "claim_activities finds 16": lambda: self._activities("asked", 16),
            "exchange of an idle worker": self._idle,
            "exchange: commit and claim": self._step,
            "create_instances of 1": self._create,
            "send_messages of 1": self._send,
        }

    def _turns(self, name: str, count: int) -> float:
        request = claim([name])
        start = time.perf_counter()
        found = self.hub.claim_turns(request)
        spent = time.perf_counter() - start
        self._give_back([item.lease for item in found.items], count)
        return spent

    def _activities(self, name: str, count: int) -> float:
        request = ClaimActivities(worker="benchmark", max_items=32, lease_ms=LONG_MS, names=[name])
        start = time.perf_counter()
        found: Sequence[Activity] = self.hub.claim_activities(request).items
        spent = time.perf_counter() - start
        self._give_back([item.lease for item in found], count)
        return spent

    def _idle(self) -> float:
        activities = ClaimActivities(worker="benchmark", max_items=32, lease_ms=LONG_MS, names=["nothing"])
        exchange = Exchange(claim_turns=claim(["nothing"]), claim_activities=activities)
        start = time.perf_counter()
        self.hub.exchange(exchange)
        return time.perf_counter() - start

    def _step(self) -> float:
        assert self.item is not None
        exchange = Exchange(commits=[commit(self.item, messages=[message(self.item)])], claim_turns=claim(["step"]))
        start = time.perf_counter()
        found = self.hub.exchange(exchange).turns
        spent = time.perf_counter() - start
        assert found is not None
        (self.item,) = found.items
        return spent

    def _create(self) -> float:
        (batch,) = new("unasked", 1)
        start = time.perf_counter()
        self.hub.create_instances(batch)
        return time.perf_counter() - start

    def _send(self) -> float:
        sent = Message(id=uuid.uuid4().hex, instance=self.target, payload=b'{"kind":"EventRaised"}')
        start = time.perf_counter()
        self.hub.send_messages([sent])
        return time.perf_counter() - start

    def _give_back(self, leases: Sequence[Lease], count: int) -> None:
        if len(leases) != count:
            raise SystemExit(f"{len(leases)} items claimed, and {count} are there")
        if leases:
            self.hub.release([Release(lease=lease, penalize=False) for lease in leases])


def by_turns(stages: Sequence[Stage], rounds: int) -> dict[str, list[float]]:
    """Return the median in ms of each call on each stage."""
    spent: dict[str, list[list[float]]] = {}
    made = [stage.calls() for stage in stages]
    for number in range(rounds):
        for name in made[0]:
            places = range(len(stages))
            # In turn first: who comes second finds caches warm.
            for place in places if number % 2 else reversed(places):
                spent.setdefault(name, [[] for _ in stages])[place].append(made[place][name]())
    return {name: [statistics.median(values) * 1000 for values in columns] for name, columns in spent.items()}


def show(title: str, medians: dict[str, list[float]]) -> None:
    """Print a table with ratios."""
    print(f"{title:<44}{'empty':>10}{'loaded':>10}{'loaded / empty':>16}", flush=True)
    for name, (empty, loaded) in medians.items():
        print(f"  {name:<42}{empty:>10.3f}{loaded:>10.3f}{loaded / empty:>16.2f}", flush=True)


class Store:
    """Several stores made of one URL.

    Args:
        url: of a SQLite file or a Postgres database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._made: list[str] = []

    @contextmanager
    def hub(self, name: str) -> Iterator[Hub]:
        """Open a handle of its own on the hub of the store of this name."""
        if self._url.startswith("sqlite"):
            url = f"{self._url.removesuffix('.db')}-{name}.db"
        else:
            url = f"{self._url}{'&' if '?' in self._url else '?'}op_schema=benchmark_{name}"
        self._made.append(name)
        with perdure.connect(url) as provider:
            provider.create_hub("benchmark")
            yield provider.hub("benchmark")

    def sweep(self) -> None:
        """Have the databases sweep up what is dead, and look at what their tables hold."""
        for name in dict.fromkeys(self._made):
            if self._url.startswith("sqlite"):
                with closing(sqlite3.connect(self._file(name))) as file:
                    file.execute("ANALYZE")
        if not self._url.startswith("sqlite"):
            self._execute("VACUUM ANALYZE")

    def clear(self) -> None:
        """Delete the stores."""
        for name in dict.fromkeys(self._made):
            if self._url.startswith("sqlite"):
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self._file(name)}{suffix}").unlink(missing_ok=True)
            else:
                self._execute(f"DROP SCHEMA IF EXISTS benchmark_{name} CASCADE")

    def _file(self, name: str) -> str:
        return f"{self._url.removeprefix('sqlite:///').removesuffix('.db')}-{name}.db"

    def _execute(self, statement: str) -> None:
        import psycopg  # noqa: PLC0415

        with psycopg.connect(self._url, autocommit=True) as session:
            session.execute(statement.encode())


def loaded(store: Store, load: Load, rounds: int) -> None:
    """Compare an empty hub and a loaded one."""
    with store.hub("empty") as empty, store.hub("loaded") as full:
        stages = [Stage(empty), Stage(full)]
        with store.hub("loaded") as other:
            fill(other, load)
        for stage in stages:
            stage.prepare()
        show("right after loading", by_turns(stages, rounds))
        store.sweep()
        show("swept up", by_turns(stages, rounds))


def surprised(store: Store, load: Load, rounds: int) -> None:
    """Compare them for handles that were at work when both were empty, and known to be."""
    with store.hub("empty2") as empty, store.hub("loaded2") as full:
        stages = [Stage(empty), Stage(full)]
        store.sweep()
        for stage in stages:
            stage.prepare()
        by_turns(stages, 20)
        with store.hub("loaded2") as other:
            fill(other, load)
        show("with plans made for an empty store", by_turns(stages, rounds))


def any_name(store: Store, load: Load, rounds: int) -> None:
    """Print what claims of any name cost."""
    kinds = {
        "16 ready of one name": (("n",), 16, 0),
        f"{load.ready:,} ready of one name": (("n",), load.ready, 0),
        f"{load.ready:,} ready of {NAMES:,} names": ([f"n{n}" for n in range(NAMES)], load.ready // NAMES, 0),
        f"{NAMES:,} names, {NAMES:,} idle, none ready": ([f"n{n}" for n in range(NAMES)], 1, FAR_MS),
    }
    print(f"{'claims of 16 instances of any name':<44}{'median ms':>10}", flush=True)
    for number, (title, (names, each, due)) in enumerate(kinds.items()):
        with store.hub(f"any{number}") as hub:
            far = hub.now() + due if due else 0
            found = itertools.chain.from_iterable(batch for name in names for batch in new(name, each, far))
            while batch := list(itertools.islice(found, BATCH)):
                hub.create_instances(batch)
            spent = []
            for _ in range(rounds):
                start = time.perf_counter()
                items = hub.claim_turns(claim(None, 16)).items
                spent.append(time.perf_counter() - start)
                if items:
                    hub.release([Release(lease=item.lease, penalize=False) for item in items])
            print(f"  {title:<42}{statistics.median(spent) * 1000:>10.3f}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="What claims cost in a hub full of what they don't ask for.")
    parser.add_argument(
        "urls", nargs="+", metavar="URL", help="of a SQLite file that isn't there, or a Postgres database"
    )
    parser.add_argument("--ready", type=int, default=100_000)
    parser.add_argument("--timers", type=int, default=5_000)
    parser.add_argument("--finished", type=int, default=100_000)
    parser.add_argument("--activities", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    load = Load(ready=options.ready, timers=options.timers, finished=options.finished, activities=options.activities)
    for url in options.urls:
        store = Store(url)
        print(f"\n{ProviderURL.parse(url)}: medians of {options.rounds} calls, ms")
        try:
            loaded(store, load, options.rounds)
            surprised(store, load, options.rounds)
            any_name(store, load, options.rounds)
        finally:
            store.clear()


if __name__ == "__main__":
    main()

"""CON: many threads at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from perdure.spi import (
    Activity,
    ActivityDone,
    Closed,
    InstanceQuery,
    Lease,
    NewInstance,
    NextExecution,
    Outcome,
    TurnItem,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    LEASE_MS,
    Driver,
    activity,
    fresh,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
    turn_commit,
)
from perdure_conformance.threads import PATIENCE_SECONDS, THREADS, at_once

_OK: Final = Outcome.OK
_LOST: Final = Outcome.LOST

_BLOCKED_SECONDS: Final = 1.0
"""No reader waits longer than this for a writer."""

_ATTEMPTS: Final = 3
"""A busy machine may hold anybody up, but not each time."""


class ConcurrencyCases:
    """Cases CON."""

    @case("I2", "I1", level=Level.L2, requires=("concurrent_threads",))
    def test_con_01_single_shots_get_one_item_each(self, bench: Bench) -> None:
        """As many threads as there are ready items, each claiming once: each gets one, none the same, none nothing."""
        _single_shots([bench] * THREADS)

    @case("I2", "I7", level=Level.L2, requires=("concurrent_threads",))
    def test_con_02_draining_is_disjoint_and_complete(self, bench: Bench) -> None:
        """Threads that claim until nothing is left have claimed every instance, and each once."""
        _drain([bench] * THREADS)

    @case("I1", "I2", level=Level.L2, requires=("concurrent_threads",))
    def test_con_03_one_item_has_one_winner(self, bench: Bench) -> None:
        """Of many threads that claim one ready instance or activity exactly one gets it."""
        _one_winner([bench] * THREADS)

    @case("I3", "I5", "I4", level=Level.L2, requires=("concurrent_threads",))
    def test_con_04_one_lease_is_committed_once(self, bench: Bench) -> None:
        """Of many commits under one lease exactly one is applied; a commit that is repeated is ALREADY."""
        _one_commit([bench] * THREADS)

    @case("I12", "I3", level=Level.L2, requires=("concurrent_threads",))
    def test_con_05_one_activity_is_completed_once(self, bench: Bench) -> None:
        """Of many completions under one lease exactly one is done, and its message alone is delivered."""
        _one_completion([bench] * THREADS)

    @case("I5", "REPLACE", level=Level.L2, requires=("concurrent_threads",))
    def test_con_06_one_id_is_created_once(self, bench: Bench) -> None:
        """Of many creates of one id exactly one makes, or replaces, the instance, and it starts once."""
        _one_create([bench] * THREADS)

    @case("I9", "I7", "I8", level=Level.L2, requires=("concurrent_threads",), slow=True)
    def test_con_07_no_wake_up_is_lost(self, bench: Bench) -> None:
        """A message that is sent while a turn is committed is claimable afterwards, however the two interleave."""
        bench.started("a")
        for number in range(bench.scaled(200)):
            bench.send(f"m{number}")
            item = bench.claim_one()
            assert ids_of(item.messages) == [f"m{number}"]
            # A barrier, and one shot each: this meets the gap between reading and writing most often.
            assert _race(partial(bench.commit, item), partial(bench.send, f"n{number}")) == [_OK, [_OK]]
            item = bench.claim_one()
            assert ids_of(item.messages) == [f"n{number}"]
            assert bench.commit(item) is _OK
        _send_and_consume(bench, bench.scaled(500))
        assert bench.claim() == []
        stats = bench.hub.stats().turns
        assert (stats.ready, stats.leased, stats.future) == (0, 0, 0)

    @case("I7", level=Level.L2, requires=("concurrent_threads",))
    def test_con_08_one_message_is_delivered_once(self, bench: Bench) -> None:
        """Of many sends of one message id exactly one is delivered, the others are DUPLICATE."""
        _one_message([bench] * THREADS)

    @case("I1", "I3", level=Level.L2, requires=("concurrent_threads",), variants=("turns", "activities"))
    def test_con_09_renewing_and_stealing_never_both_succeed(self, bench: Bench) -> None:
        """At the moment a lease expires it is either renewed or taken over, never both and never twice."""
        _renewing_and_stealing([bench] * THREADS, bench.variant)

    @case("I7", "I12", "I4", level=Level.L2, requires=("concurrent_threads",), slow=True)
    def test_con_10_fan_out_and_fan_in_lose_and_double_nothing(self, bench: Bench) -> None:
        """Many threads work off instances with many activities: each result arrives, and each once."""
        _soak([bench] * THREADS, instances=max(10, bench.scaled(1_000) // 20), width=20)

    @case(
        "I1",
        "I2",
        "I19",
        level=Level.L2,
        requires=("concurrent_threads",),
        variants=("claims", "drain", "winner", "commits", "completions", "creates", "messages", "renewals", "soak"),
    )
    def test_con_11_several_handles_on_one_store_agree(self, bench: Bench) -> None:
        """All this holds as well where each thread has a handle of its own."""
        drivers = bench.a_handle_each(THREADS)
        settle = bench.settle_reads
        match bench.variant:
            case "claims":
                _single_shots(drivers, settle=settle)
            case "drain":
                _drain(drivers)
            case "winner":
                _one_winner(drivers)
            case "commits":
                _one_commit(drivers, settle=settle)
            case "completions":
                _one_completion(drivers)
            case "creates":
                _one_create(drivers, settle=settle)
            case "messages":
                _one_message(drivers)
            case "renewals":
                _renewing_and_stealing(drivers, "turns")
                _renewing_and_stealing(drivers, "activities")
            case _:
                _soak(drivers, instances=10, width=5, settle=settle)

    @case("ERRORS", "I20", level=Level.L2, requires=("concurrent_threads",))
    def test_con_14_closing_ends_calls_in_flight(self, bench: Bench) -> None:
        """While a handle is closed, calls on it in other threads finish or raise Closed, and none hangs."""
        shared = bench.another_handle()
        provider = bench.connect() if shared is None else shared
        if shared is None:
            # A store that lives in its handle.
            provider.create_hub(bench.hub.name)
        driver = bench.on(provider)
        driver.started("a", activities=[activity(fresh("t")) for _ in range(100)])
        working = threading.Barrier(THREADS)
        created: list[str] = []

        def use(number: int) -> str:
            if number == 0:
                working.wait(PATIENCE_SECONDS)
                provider.close()
                return "closed"
            calls = _uses(driver, created)
            waited = False
            deadline = time.monotonic() + PATIENCE_SECONDS / 2
            while time.monotonic() < deadline:
                try:
                    calls[number % len(calls)]()
                except Closed:
                    return "closed"
                except BaseException:
                    working.abort()
                    raise
                if not waited:
                    waited = True
                    working.wait(PATIENCE_SECONDS)
            return "open"

        assert at_once(use) == ["closed"] * THREADS
        if shared is not None:
            # What was answered with OK is there, and within the lag others see it.
            bench.settle_reads()
            assert [info and info.id for info in bench.hub.get_instances(created)] == created
            bench.wait(LEASE_MS)
            assert bench.get().id == "a"

    @case("I19", level=Level.L2, requires=("concurrent_threads",), slow=True)
    def test_con_15_a_writer_does_not_block_readers(self, bench: Bench) -> None:
        """While a commit of 5,000 events is under way, a read takes less than a second."""
        bench.started("b", events=[b"e"])
        waits = []
        for number in range(_ATTEMPTS):
            name = f"a{number}"
            bench.create(name)
            waits.append(_slowest_read(bench, bench.claim_one()))
            assert bench.get(name).next_seq == 5_000
            if waits[-1] < _BLOCKED_SECONDS:
                return
        assert min(waits) < _BLOCKED_SECONDS

    @case("I12", "I13", level=Level.L2, requires=("concurrent_threads",))
    def test_con_16_an_activity_is_either_completed_or_taken_away(self, bench: Bench) -> None:
        """A completion that races with a cancel, a settling or the instance's end is done whole, or LOST whole."""
        for number in range(12):
            name = fresh("i")
            bench.started(name, activities=[activity("t")])
            bench.send("go", instance=name)
            item, work = bench.claim_one(), bench.claim_one_work()
            takes: tuple[dict[str, object], ...] = (
                {"cancel_activities": ["t"]},
                {"cancel_all": True},
                {"settled": [work.lease]},
                {"status": COMPLETED},
            )
            take = takes[number % len(takes)]
            completed, committed = _race(
                partial(bench.complete, work, message("r", name)), partial(bench.commit, item, events=[b"e"], **take)
            )
            assert committed is _OK
            assert completed in (_OK, _LOST)
            assert bench.complete(work, message("again", name)) is _LOST
            bench.wait(LEASE_MS)
            assert bench.claim_work() == []
            delivered = [ids_of(turn.messages) for turn in bench.claim()]
            ends = "status" in take
            assert delivered == ([["r"]] if completed is _OK and not ends else [])
            bench.purge(name, force=True)

    @case("I4", "I5", level=Level.L2, requires=("concurrent_threads",))
    def test_con_17_a_child_is_started_once(self, bench: Bench) -> None:
        """Of many commits that start the same child one does, and the parents of all others are told."""
        for _ in range(5):
            child = fresh("child")
            parents = [fresh("i") for _ in range(THREADS)]
            bench.create(*parents, name="parent")
            items = bench.claim(names=["parent"])

            def start(number: int, items: Sequence[TurnItem] = items, child: str = child) -> Outcome:
                item = items[number]
                told = message("conflict", item.instance)
                new = new_instance(child, name="child", parent=item.instance, on_conflict=told)
                return bench.commit(item, events=[b"e"], starts=[new])

            assert at_once(start) == [_OK] * THREADS
            told = ids_by_instance(bench.claim(names=["parent"]))
            parent = bench.get(child).parent
            assert parent in parents
            assert told == {name: ["conflict"] for name in parents if name != parent}
            assert [ids_of(item.messages) for item in bench.claim(names=["child"])] == [["@start"]]
            bench.purge(*parents, child, force=True)

    @case("I3", "I1", level=Level.L2, requires=("concurrent_threads",), variants=("turns", "activities"))
    def test_con_18_a_late_release_takes_nothing_from_who_took_over(self, bench: Bench) -> None:
        """At the moment a lease expires, giving it back never ends the lease of whoever took the item over."""
        for number in range(5):
            name = fresh("i")
            if bench.variant == "turns":
                bench.create(name)
                lease = bench.claim_one().lease
            else:
                bench.started(name, activities=[activity(name)])
                lease = bench.claim_one_work().lease
            bench.wait(LEASE_MS)

            def race(thread: int, lease: Lease = lease) -> Lease | None:
                if thread % 2:
                    assert bench.release(lease) in (_OK, _LOST)
                    return None
                claimed = bench.claim() if bench.variant == "turns" else bench.claim_work()
                return claimed[0].lease if claimed else None

            taken = [found for found in at_once(race) if found is not None]
            if not taken:
                # Each came while the other, or one that gave it back, had it locked.
                taken = [bench.claim_one().lease if bench.variant == "turns" else bench.claim_one_work().lease]
            assert (number, len(taken)) == (number, 1)
            assert bench.release(lease) is _LOST
            assert bench.renew(taken[0])[0] is _OK
            assert bench.purge(name, force=True).deleted == 1

    @case("I4", "I19", level=Level.L2, requires=("concurrent_threads",))
    def test_con_19_a_read_shows_no_half_of_a_commit(self, bench: Bench) -> None:
        """What one read returns is of one moment: fields, payloads and history of the same commit."""
        bench.create("a", input=b"1")
        item = bench.claim_one()
        first = {"custom_status": b"1", "output": b"1", "events": [b"1"]}
        assert bench.commit(item, keep_ms=LEASE_MS, **first) is _OK
        done = threading.Event()

        def write() -> None:
            try:
                for number in range(2, 102):
                    mark = b"%d" % number
                    following = NextExecution(events=[mark], input=mark)
                    fields = {"execution": number - 1, "expected_next_seq": 1, "consumed": [], "continued": following}
                    assert bench.commit(item, custom_status=mark, output=mark, keep_ms=LEASE_MS, **fields) is _OK
                    # So that readers come in between.
                    time.sleep(0.001)
            finally:
                done.set()

        def read() -> None:
            while not done.is_set():
                (found,) = bench.hub.query_instances(InstanceQuery()).items
                for info in (bench.get(), found):
                    mark = b"%d" % info.execution
                    assert (info.input, info.custom_status, info.output) == (mark, mark, mark)
                    assert (info.status_rev, info.next_seq) == (info.rev, 1)
                page = bench.hub.read_history("a")
                assert (list(page.events), page.more) == ([b"%d" % page.execution], False)

        at_once(lambda thread: read() if thread else write(), 4)
        assert bench.get().execution == 101

    @case("I19", "I20", level=Level.L2, requires=("concurrent_threads",))
    def test_con_20_what_one_handle_knows_the_others_know(self, bench: Bench) -> None:
        """Nothing is kept in a handle: leases, ids, counts and order are the same whichever handle is asked."""
        one, other = bench.another_handle(), bench.another_handle()
        if one is None or other is None:
            # Nobody else sees anything of the store.
            bench.control()
            return
        here, there = bench.on(one), bench.on(other)
        # All is done by one handle and asked of the other.
        assert here.create("a", "b", tags={"k": "v"}) == [_OK] * 2
        assert here.send("m") == [_OK]
        items = there.claim_each("a", "b")
        assert there.send("m") == [Outcome.DUPLICATE]
        effects = {"activities": [activity("t"), activity("u")], "events": [b"e"]}
        assert here.commit(items["a"], commit_id="c", **effects) is _OK
        assert there.commit(items["a"], commit_id="c", **effects) is Outcome.ALREADY
        assert (here.send("m"), there.send("m")) == ([Outcome.DUPLICATE],) * 2
        assert here.renew(items["b"].lease, 2 * LEASE_MS)[0] is _OK
        work = {each.id: each for each in there.claim_work()}
        assert here.renew(work["t"].lease)[0] is _OK
        assert here.complete(work["u"], message("r")) is _OK
        assert there.complete(work["u"], message("r")) is _LOST
        # Order and fences go on, though the clock jumps back.
        there.wait(-1000)
        assert there.send("later") == [_OK]
        there.wait(1000)
        item = here.claim_one()
        assert ids_of(item.messages) == ["r", "later"]
        assert item.lease.fence > items["a"].lease.fence
        assert there.release(item.lease, penalize=False) is _OK
        again = there.claim_one()
        assert (again.attempt, again.lease.fence > item.lease.fence) == (1, True)
        # What is asked twice is asked anew.
        for number in range(2):
            before = [there.get(), there.find(), there.history(), there.hub.stats()]
            assert here.commit(again, events=[b"f"], consumed=["r"], custom_status=b"%d" % number) is _OK
            assert here.create(f"new{number}", due=bench.clock.now() + 10 * LEASE_MS) == [_OK]
            bench.settle_reads()
            after = [there.get(), there.find(), there.history(), there.hub.stats()]
            assert [then == now for then, now in zip(before, after, strict=True)] == [False] * 4
            assert after == [here.get(), here.find(), here.history(), here.hub.stats()]
            again = there.claim_one()
        # A handle that is closed takes nothing along.
        other.close()
        assert here.claim() == []
        assert here.claim_work() == []
        assert here.commit(again) is here.commit(items["b"]) is _OK
        assert here.complete(work["t"]) is _OK


def _race(*calls: Callable[[], object]) -> list[object]:
    """Make these calls at once, each in a thread of its own."""
    return at_once(lambda number: calls[number](), len(calls))


# Each of these runs on one handle, and on several: then `settle` waits until all see what was written.


def _settled() -> None:
    """Wait for nothing: a handle reads at once what it wrote."""


def _single_shots(drivers: Sequence[Driver], *, settle: Callable[[], None] = _settled) -> None:
    for _ in range(10):
        names = [fresh("i") for _ in range(THREADS)]
        drivers[0].create(*names)
        settle()
        # One shot each: whoever lost an item to another had the next to take.
        claims = at_once(lambda number: drivers[number].claim(max_items=1))
        assert [len(claim) for claim in claims] == [1] * THREADS
        assert sorted(item.instance for (item,) in claims) == sorted(names)
        items = [item for (item,) in claims]
        assert len({item.lease.token for item in items}) == THREADS
        commits = [turn_commit(item) for item in items]
        commits[0].activities = [activity(fresh("t")) for _ in range(THREADS)]
        assert drivers[0].hub.commit_turns(commits) == [_OK] * THREADS
        settle()
        work = at_once(lambda number: drivers[number].claim_work(max_items=1))
        assert [len(claim) for claim in work] == [1] * THREADS
        assert sorted(item.id for (item,) in work) == sorted(new.id for new in commits[0].activities)
        drivers[0].purge(*names, force=True)


def _drain(drivers: Sequence[Driver]) -> None:
    names = [fresh("i") for _ in range(200)]
    for start in range(0, len(names), 50):
        drivers[0].create(*names[start : start + 50])

    def drain(number: int) -> list[str]:
        got: list[str] = []
        while items := drivers[number].claim(max_items=3):
            got += [item.instance for item in items]
            assert len(got) <= len(names)
        return got

    assert sorted(name for got in at_once(drain) for name in got) == sorted(names)


def _one_winner(drivers: Sequence[Driver]) -> None:
    for _ in range(5):
        name = fresh("i")
        drivers[0].create(name)
        claims = at_once(lambda number: drivers[number].claim())
        items = [item for claim in claims for item in claim]
        assert [(item.instance, item.attempt) for item in items] == [(name, 1)]
        item = items[0]
        assert drivers[0].commit(item, activities=[activity(name)]) is _OK
        taken = at_once(lambda number: drivers[number].claim_work())
        won = [work for claim in taken for work in claim]
        assert [(work.id, work.attempt) for work in won] == [(name, 1)]
        assert drivers[0].complete(won[0]) is _OK


def _one_commit(drivers: Sequence[Driver], *, settle: Callable[[], None] = _settled) -> None:
    for name in ("a", "b"):
        drivers[0].create(name)
        item = drivers[0].claim_one()

        def commit(number: int, item: TurnItem = item) -> Outcome:
            told = [message(f"m{number}", item.instance)]
            return drivers[number].commit(item, events=[b"%d" % number], messages=told)

        outcomes = at_once(commit)
        assert Counter(outcomes) == {_OK: 1, _LOST: THREADS - 1}
        winner = outcomes.index(_OK)
        settle()
        assert drivers[0].history(name) == [b"%d" % winner]
        assert ids_of(drivers[0].claim_one().messages) == [f"m{winner}"]
    drivers[0].create("c")
    same = turn_commit(drivers[0].claim_one(), events=[b"e"], messages=[message("m", "c")])
    outcomes = at_once(lambda number: drivers[number].hub.commit_turns([same])[0])
    assert Counter(outcomes) == {_OK: 1, Outcome.ALREADY: THREADS - 1}
    settle()
    assert drivers[0].history("c") == [b"e"]
    assert ids_of(drivers[0].claim_one().messages) == ["m"]


def _one_completion(drivers: Sequence[Driver]) -> None:
    for name in ("a", "b"):
        drivers[0].started(name, activities=[activity()])
        work = drivers[0].claim_one_work()

        def complete(number: int, name: str = name, work: Activity = work) -> Outcome:
            return drivers[number].complete(work, message(f"r{number}", name))

        outcomes = at_once(complete)
        assert Counter(outcomes) == {_OK: 1, _LOST: THREADS - 1}
        assert ids_of(drivers[0].claim_one().messages) == [f"r{outcomes.index(_OK)}"]


def _one_create(drivers: Sequence[Driver], *, settle: Callable[[], None] = _settled) -> None:
    def race(new: Callable[[int], NewInstance], won: Outcome, others: Outcome) -> None:
        made = [new(number) for number in range(THREADS)]
        outcomes = at_once(lambda number: drivers[number].hub.create_instances([made[number]])[0])
        assert Counter(outcomes) == {won: 1, others: THREADS - 1}
        winner = made[outcomes.index(won)]
        settle()
        info = drivers[0].get(winner.id)
        assert (info.generation, info.input, info.next_seq) == (winner.generation, winner.input, 0)
        item = drivers[0].claim_one()
        assert [(delivery.id, delivery.payload) for delivery in item.messages] == [("@start", winner.start)]
        assert drivers[0].commit(item, events=[b"e"], status=COMPLETED) is _OK

    def numbered(number: int) -> NewInstance:
        return new_instance("a", input=b"%d" % number, start=b"start %d" % number, replace_if=ENDED)

    race(numbered, _OK, Outcome.EXISTS)
    race(numbered, Outcome.REPLACED, Outcome.EXISTS)
    race(lambda number: new_instance("b", generation="one"), _OK, Outcome.ALREADY)


def _one_message(drivers: Sequence[Driver]) -> None:
    for name in ("a", "b"):
        drivers[0].started(name)

        def send(number: int, name: str = name) -> Outcome:
            return drivers[number].send("m", instance=name, payload=b"%d" % number)[0]

        outcomes = at_once(send)
        assert Counter(outcomes) == {_OK: 1, Outcome.DUPLICATE: THREADS - 1}
        delivered = [(delivery.id, delivery.payload) for delivery in drivers[0].claim_one().messages]
        assert delivered == [("m", b"%d" % outcomes.index(_OK))]


def _renewing_and_stealing(drivers: Sequence[Driver], kind: str) -> None:
    for _ in range(10):
        name = fresh("i")
        lease: Lease
        if kind == "turns":
            drivers[0].create(name)
            lease = drivers[0].claim_one().lease
        else:
            drivers[0].started(name, activities=[activity(name)])
            lease = drivers[0].claim_one_work().lease
        drivers[0].wait(LEASE_MS)

        def race(number: int, lease: Lease = lease) -> Lease | None:
            if number % 2:
                outcome, renewed = drivers[number].renew(lease)
                assert (outcome is _OK) == (renewed is not None)
                return renewed
            claimed = drivers[number].claim() if kind == "turns" else drivers[number].claim_work()
            return claimed[0].lease if claimed else None

        answers = at_once(race)
        stolen = [lease for lease in answers[0::2] if lease is not None]
        renewed = [lease for lease in answers[1::2] if lease is not None]
        assert (len(stolen), len(renewed)) in ((1, 0), (0, THREADS // 2))
        now = drivers[0].clock.now()
        assert {owner.expires_at for owner in stolen + renewed} == {now + LEASE_MS}
        # Whoever was told that it has the item has it, and nobody else.
        if stolen:
            assert drivers[0].release(lease) is _LOST
        assert drivers[0].release((stolen + renewed)[0]) is _OK
        drivers[0].purge(name, force=True)


def _send_and_consume(driver: Driver, total: int) -> None:
    """Let two threads send to one instance while a third claims and commits, with no pause anywhere."""
    sent = threading.Semaphore(0)
    failed = threading.Event()

    def send(number: int) -> None:
        for index in range(total):
            if failed.is_set():
                return
            assert driver.send(f"s{number}-{index}") == [_OK]
        sent.release()

    def work() -> list[str]:
        got: list[str] = []
        senders = 2
        try:
            while True:
                # Looked at first: what comes after the last look has been sent before it.
                if senders and sent.acquire(blocking=False):
                    senders -= 1
                items = driver.claim()
                for item in items:
                    got += ids_of(item.messages)
                    assert driver.commit(item) is _OK
                if not senders and not items:
                    return got
        finally:
            failed.set()

    got = at_once(lambda number: work() if number == 2 else send(number), 3)[2]
    assert got is not None
    assert len(got) == len(set(got)) == 2 * total
    for number in (0, 1):
        assert [name for name in got if name.startswith(f"s{number}-")] == [f"s{number}-{x}" for x in range(total)]


def _soak(drivers: Sequence[Driver], *, instances: int, width: int, settle: Callable[[], None] = _settled) -> None:
    names = [fresh("i") for _ in range(instances)]
    drivers[0].create(*names)
    ended: set[str] = set()
    seen: dict[str, list[str]] = {name: [] for name in names}
    over = threading.Event()
    deadline = time.monotonic() + PATIENCE_SECONDS

    def turn(driver: Driver, item: TurnItem) -> None:
        # Only one thread at a time has an instance, and with it this list.
        seen[item.instance] += [name for name in ids_of(item.messages) if name != "@start"]
        first = item.next_seq == 0
        ends = len(seen[item.instance]) >= width
        fields = {"status": COMPLETED} if ends else {}
        scheduled = [activity(f"t{number}") for number in range(width)] if first else []
        assert driver.commit(item, events=[b"e"], activities=scheduled, **fields) is _OK
        if ends:
            ended.add(item.instance)

    def run(number: int) -> None:
        driver = drivers[number]
        try:
            while len(ended) < instances and not over.is_set() and time.monotonic() < deadline:
                for item in driver.claim(max_items=2):
                    turn(driver, item)
                work = driver.claim_work(max_items=5)
                done = [ActivityDone(lease=item.lease, message=message(item.id, item.instance)) for item in work]
                assert driver.hub.complete_activities(done) == [_OK] * len(done)
        except BaseException:
            over.set()
            raise

    at_once(run, patience=2 * PATIENCE_SECONDS)
    expected = sorted(f"t{number}" for number in range(width))
    assert [sorted(got) for got in seen.values()] == [expected] * instances
    assert len(ended) == instances
    assert (drivers[0].claim(), drivers[0].claim_work()) == ([], [])
    settle()
    stats = drivers[0].hub.stats()
    assert (stats.activities.ready, stats.activities.leased, stats.activities.future) == (0, 0, 0)
    assert {status: count for status, count in stats.instances.items() if count} == {COMPLETED: instances}


def _uses(driver: Driver, created: list[str]) -> list[Callable[[], object]]:
    """Return what a thread may do again and again until the handle is closed."""

    def create() -> None:
        name = fresh("i")
        if driver.create(name) == [_OK]:
            created.append(name)

    def work() -> None:
        for item in driver.claim_work(max_items=1):
            driver.complete(item, message(fresh("r")))

    def turn() -> None:
        for item in driver.claim(max_items=1):
            driver.commit(item, events=[b"e"])

    return [create, turn, work, driver.find, driver.history, lambda: driver.send(fresh("m"))]


def _slowest_read(bench: Bench, item: TurnItem) -> float:
    """Read while a large commit is made, and return how long the slowest read took."""
    ended = threading.Event()

    def write() -> float:
        try:
            assert bench.commit(item, events=[b"%05d" % number * 200 for number in range(5_000)]) is _OK
        finally:
            ended.set()
        return 0.0

    def read() -> float:
        slowest = 0.0
        last = False
        while not last:
            # One more after the commit, so that there is always one beside it.
            last = ended.is_set()
            begun = time.monotonic()
            assert bench.history("b") == [b"e"]
            assert bench.get(item.instance).next_seq in (0, 5_000)
            slowest = max(slowest, time.monotonic() - begun)
        return slowest

    return at_once(lambda number: write() if number == 0 else read(), 3)[1]

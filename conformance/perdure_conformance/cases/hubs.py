"""HUB: task hubs are tenants."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pytest

from perdure.spi import (
    BadId,
    ClaimTurns,
    Exchange,
    InstanceQuery,
    NotFound,
    Outcome,
    QueueStats,
    Wake,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.cases.purge import by
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    FAILED,
    LEASE_MS,
    RUNNING,
    Driver,
    activity,
    ids_of,
    message,
    new_instance,
    turn_commit,
)
from perdure_conformance.threads import PATIENCE_SECONDS, THREADS, at_once

READS_AND_WORK: Final[dict[str, Callable[[Driver], object]]] = {
    "claim_turns": lambda driver: driver.claim(),
    "claim_activities": lambda driver: driver.claim_work(),
    "create_instances": lambda driver: driver.hub.create_instances([new_instance()]),
    "send_messages": lambda driver: driver.hub.send_messages([message()]),
    "get_instances": lambda driver: driver.hub.get_instances(["a"]),
    "query_instances": lambda driver: driver.find(),
    "read_history": lambda driver: driver.hub.read_history("a"),
    "stats": lambda driver: driver.hub.stats(),
    "purge by id": lambda driver: driver.purge("a"),
    "purge by query": lambda driver: driver.purge(query=InstanceQuery()),
    "exchange": lambda driver: driver.hub.exchange(
        Exchange(claim_turns=ClaimTurns(worker="w", max_items=1, lease_ms=LEASE_MS))
    ),
    # Whoever has nothing to do returns early, and then finds out nothing.
    "now": lambda driver: driver.hub.now(),
    "claim_turns of none": lambda driver: driver.claim(max_items=0),
    "claim_turns of no names": lambda driver: driver.claim(names=[]),
    "claim_activities of none": lambda driver: driver.claim_work(max_items=0),
    "claim_activities of no queues": lambda driver: driver.claim_work(queues=[]),
    "commit_turns of nothing": lambda driver: driver.hub.commit_turns([]),
    "complete_activities of nothing": lambda driver: driver.hub.complete_activities([]),
    "renew of nothing": lambda driver: driver.hub.renew([], LEASE_MS),
    "release of nothing": lambda driver: driver.hub.release([]),
    "create_instances of nothing": lambda driver: driver.hub.create_instances([]),
    "send_messages of nothing": lambda driver: driver.hub.send_messages([]),
    "get_instances of nothing": lambda driver: driver.hub.get_instances([]),
    "query_instances of nothing": lambda driver: driver.find(names=[]),
    "purge of nothing": lambda driver: driver.purge(ids=[]),
    "purge by a query of nothing": lambda driver: driver.purge(query=InstanceQuery(names=[])),
    "exchange of nothing": lambda driver: driver.hub.exchange(Exchange()),
}


def busy(driver: Driver, *, tag: str) -> None:
    """Fill a hub with work of every kind, ready and to come: "a", "b" and "c" with the marks of one hub."""
    mark = tag.encode()
    now = driver.clock.now()
    driver.create("a", input=mark, tags={"hub": tag}, version=tag, parent="p", generation="g")
    item = driver.claim_one()
    assert (
        driver.commit(
            item,
            commit_id="commit",
            events=[mark],
            custom_status=mark,
            memo=mark,
            activities=[activity("t", payload=mark), activity("later", payload=mark, due=now + 500)],
            messages=[message("timer", payload=mark, due=now + 500), message("self", payload=mark)],
        )
        is Outcome.OK
    )
    driver.ended("b", output=mark)
    driver.create("c", start=mark, due=now + 600)


def marks(driver: Driver) -> list[object]:
    """Return what can be seen of what `busy` put into a hub, with the work that is ready claimed."""
    (info,) = driver.hub.query_instances(InstanceQuery(id_prefix="a")).items
    (item,) = driver.claim(inline_history=True)
    (work,) = driver.claim_work()
    return [
        (info.input, info.custom_status, dict(info.tags), info.version, info.generation),
        driver.history(),
        (item.instance, item.memo, list(item.history or ())),
        [(delivery.id, delivery.payload) for delivery in item.messages],
        (work.id, work.payload, work.attempt),
        driver.get("b").output,
    ]


def seen_of(tag: str) -> list[object]:
    """Return what `marks` returns of a hub that nobody but `busy` touched."""
    mark = tag.encode()
    return [
        (mark, mark, {"hub": tag}, tag, "g"),
        [mark],
        ("a", mark, [mark]),
        [("self", mark)],
        ("t", mark, 1),
        mark,
    ]


class HubCases:
    """Cases HUB."""

    @case("I15")
    def test_hub_01_the_same_ids_are_independent(self, bench: Bench) -> None:
        """The same ids of instances, generations, activities, messages and commits in two hubs are independent."""
        other = bench.new_hub()
        for driver, tag in ((bench, "1"), (other, "2")):
            busy(driver, tag=tag)
        assert [marks(bench), marks(other)] == [seen_of("1"), seen_of("2")]
        bench.wait(LEASE_MS)
        # A consumed id is remembered in its own hub only, and so is a commit.
        bench.send("client")
        bench.turn_all(commit_id="last")
        assert (bench.send("client"), other.send("client")) == ([Outcome.DUPLICATE], [Outcome.OK])
        items = {item.instance: item for item in other.claim()}
        assert ids_of(items["a"].messages) == ["self", "timer", "client"]
        assert other.commit(items["a"], commit_id="last", events=[b"more"]) is Outcome.OK
        assert (bench.history(), other.history()) == ([b"1"], [b"2", b"more"])
        # Completing, cancelling, ending and purging the one leaves the other.
        assert [bench.complete(work) for work in bench.claim_work()] == [Outcome.OK] * 2
        bench.send("go")
        bench.turn(status=FAILED)
        assert bench.purge("a").deleted == 1
        assert bench.create("a", generation="g") == [Outcome.OK]
        assert other.get().status is RUNNING
        assert {work.id for work in other.claim_work()} == {"t", "later"}

    @case("I15")
    def test_hub_02_nothing_crosses(self, bench: Bench) -> None:
        """Claims, reads, counts, purges, messages and next_due of one hub know nothing of another."""
        other = bench.new_hub()
        busy(other, tag="1")
        # Control messages are found by ways of their own.
        other.send("stop later", instance="c", control=True, due=bench.clock.now() + 700)
        nothing = QueueStats(ready=0, leased=0, future=0, oldest_ready_age_ms=None)

        def check_empty(driver: Driver) -> None:
            for names in (None, [], ["flow", "work"]):
                turns, work = driver.claim_batch(names=names), driver.claim_work_batch(names=names)
                assert (list(turns.items), turns.more, turns.next_due) == ([], False, None)
                assert (list(work.items), work.more, work.next_due) == ([], False, None)
            assert driver.hub.get_instances(["a", "b", "c"]) == [None] * 3
            for filters in ({}, {"names": ["flow"]}, {"id_prefix": "a"}, {"parent": "p"}, {"statuses": [COMPLETED]}):
                assert (filters, driver.find(**filters), driver.find(descending=True, **filters)) == (filters, [], [])
            with pytest.raises(NotFound):
                driver.hub.read_history("a")
            stats = driver.hub.stats()
            assert (sum(stats.instances.values()), stats.turns, stats.activities) == (0, nothing, nothing)
            assert driver.send("m") == [Outcome.NOT_FOUND]
            assert driver.send("m", generation="g") == [Outcome.NOT_FOUND]
            assert driver.send("m", instance="b", reopen=ENDED) == [Outcome.NOT_FOUND]
            for force in (False, True):
                result = driver.purge("a", "b", "c", force=force)
                assert (result.deleted, list(result.outcomes)) == (0, [Outcome.NOT_FOUND] * 3)
                assert driver.purge(query=InstanceQuery(), force=force).deleted == 0
            if bench.capabilities.purge_cascade:
                assert driver.purge("p", "a", cascade=True, force=True).deleted == 0

        check_empty(bench)
        other.send("stop", instance="c", control=True)
        check_empty(bench)
        (stopped,) = other.claim(names=[])
        assert ids_of(stopped.messages) == ["stop"]
        assert other.commit(stopped, cancel_messages=["stop later"]) is Outcome.OK
        # A commit of the one reaches nobody of the other: neither by a message, nor as parent or child.
        bench.create("x", "p", name="apart")
        effects: dict[str, Any] = {"cancel_activities": ["t"], "cancel_all": True, "cancel_messages": ["self"]}
        for item in bench.claim():
            to_other = [message("stray", "a"), message("stray", "c", control=True)]
            assert bench.commit(item, messages=to_other, status=COMPLETED, **effects) is Outcome.OK
        assert bench.find(parent="p") == []
        if bench.capabilities.purge_cascade:
            assert bench.purge("p", cascade=True).deleted == 1
        bench.purge(query=InstanceQuery(), force=True)
        check_empty(bench)
        # The other has all that it had.
        stats = other.hub.stats()
        counts = {status: count for status, count in stats.instances.items() if count}
        assert counts == {RUNNING: 2, COMPLETED: 1}
        assert (stats.turns.ready, stats.turns.future) == (1, 1)
        assert (stats.activities.ready, stats.activities.future) == (1, 1)
        assert marks(other) == seen_of("1")

    @case("I15", "I3", variants=("calls", "exchange"))
    def test_hub_03_leases_are_lost_elsewhere(self, bench: Bench) -> None:
        """A lease of one hub is LOST in another, though the same item be leased there, or free."""
        other = bench.new_hub()
        for driver in (other, bench):
            driver.started("a", activities=[activity()])
            driver.started("free", activities=[activity("free")])
            driver.send("m")
            driver.send("m", instance="free")
        taken, taken_work = ({item.instance: item for item in other.claim()}, other.claim_work())
        mine = bench.claim_one(max_items=1)
        my_work = bench.claim_one_work(max_items=1)
        through = Driver(by(bench.variant, bench.hub), bench.clock)
        effects: dict[str, Any] = {"events": [b"x"], "activities": [activity("x")], "messages": [message("x", "free")]}
        with bench.unchanged("a", "free"):
            for item in taken.values():
                assert through.commit(item, **effects) is Outcome.LOST
                assert through.commit(item, status=COMPLETED, settled=[my_work.lease]) is Outcome.LOST
                assert through.renew(item.lease, 10 * LEASE_MS) == (Outcome.LOST, None)
                assert through.release(item.lease) is Outcome.LOST
            for work in taken_work:
                assert through.complete(work, message("r", "free")) is Outcome.LOST
                assert through.renew(work.lease, 10 * LEASE_MS)[0] in (Outcome.LOST, Outcome.CANCELLED)
                assert through.release(work.lease) is Outcome.LOST
        # Neither does it hold, or settle, anything here.
        held = bench.claim(held=[item.lease for item in taken.values()], max_items=100)
        assert {item.instance for item in held} == {"a", "free"} - {mine.instance}
        assert all(item.lease.token not in {each.lease.token for each in taken.values()} for item in held)
        assert bench.commit(mine, settled=[work.lease for work in taken_work]) is Outcome.OK
        assert bench.complete(my_work) is Outcome.OK
        assert len(bench.claim_work()) == 1
        # All this time the leases were good at home.
        for item in taken.values():
            assert other.commit(item) is Outcome.OK
        assert [other.complete(work) for work in taken_work] == [Outcome.OK] * 2

    @case("I15", "ERRORS")
    def test_hub_04_deletion(self, bench: Bench) -> None:
        """Deleting a hub takes everything of it and nothing of others; its handles then raise NotFound."""
        doomed = bench.new_hub()
        for driver, tag in ((bench, "1"), (doomed, "2")):
            busy(driver, tag=tag)
        item, work = doomed.claim_one(), doomed.claim_one_work()
        assert bench.provider.delete_hub(doomed.hub.name) is Outcome.OK
        assert doomed.hub.name not in bench.provider.list_hubs()
        again = bench.on(bench.provider, doomed.hub.name)
        for driver in (doomed, again):
            for name, call in READS_AND_WORK.items():
                try:
                    answer = call(driver)
                except NotFound:
                    continue
                pytest.fail(f"{name} on a hub that was deleted answered {answer!r}")
        calls: list[Callable[[], object]] = [
            lambda: doomed.commit(item, events=[b"x"]),
            lambda: doomed.renew(item.lease)[0],
            lambda: doomed.release(item.lease),
            lambda: doomed.complete(work),
            lambda: doomed.renew(work.lease)[0],
        ]
        for call_with_lease in calls:
            try:
                outcome = call_with_lease()
            except NotFound:
                continue
            assert outcome in (Outcome.LOST, Outcome.CANCELLED)
        assert bench.provider.delete_hub(doomed.hub.name) is Outcome.NOT_FOUND
        assert marks(bench) == seen_of("1")
        bench.wait(LEASE_MS)
        assert {item.instance for item in bench.claim()} == {"a", "c"}
        assert {work.id for work in bench.claim_work()} == {"t", "later"}

    @case("I15")
    def test_hub_05_creation_and_listing(self, bench: Bench) -> None:
        """A hub is created once, then EXISTS as it is; the list shows the hubs that there are, sorted."""
        provider = bench.provider
        names = [bench.hub_name() for _ in range(4)]
        mine = {*names, bench.hub.name}

        def listed() -> list[str]:
            # Other hubs of the store are none of our business, but their order is.
            found = provider.list_hubs()
            assert found == sorted(found, key=str.encode)
            for name in set(found) - {*mine}:
                # One that is listed is there, unless somebody else has just deleted it.
                try:
                    provider.hub(name).now()
                except NotFound:
                    assert name not in provider.list_hubs()
            return [name for name in found if name in mine]

        assert listed() == [bench.hub.name]
        assert provider.delete_hub(names[0]) is Outcome.NOT_FOUND
        for name in reversed(names):
            assert provider.create_hub(name) is Outcome.OK
        assert listed() == sorted(mine, key=str.encode)
        bench.started("a", events=[b"e"])
        for name in (bench.hub.name, *names):
            assert provider.create_hub(name) is Outcome.EXISTS
        assert listed() == sorted(mine, key=str.encode)
        assert (bench.find(), bench.history()) == (["a"], [b"e"])
        assert provider.delete_hub(names[1]) is Outcome.OK
        assert provider.delete_hub(names[1]) is Outcome.NOT_FOUND
        assert listed() == sorted(mine - {names[1]}, key=str.encode)
        assert provider.create_hub(names[1]) is Outcome.OK
        assert listed() == sorted(mine, key=str.encode)

    @case("I17", "I15")
    def test_hub_06_names(self, bench: Bench) -> None:
        """A name is any text of 1 to 64 characters, compared as code points; a malformed one is a BadId."""
        base = bench.hub_name()
        room = 64 - len(base)
        names = [
            *(base, base.upper(), f"{base} ", f" {base}", f"{base}\n", f"{base}.b", f"{base}/b"),
            *(f"{base}'", f'{base}"', f"{base}`", f"{base}%", f"{base}_", f"{base}\\", f"{base}$", f"{base}; drop"),
            *(f"{base}\u00e9", f"{base}e\u0301", f"{base}ü", f"{base}\u0001", f"select {base}", f"{base}*", f"{base}["),
            *(f"{base}:b", f"{base}-b", f"{base}|b", f"{base}#b", f"{base},b", f"{base}?b", f"{base}@b", f"{base}&b"),
            *(base + "x" * room, base + "😀" * room, base + "\uffff", base + "\U0010ffff"),
        ]
        assert len(set(names)) == len(names)
        self._check_names(bench, names)
        # Names that everybody might use: where they are taken there is nothing to see here.
        common = [name for name in ("h", "0", "select", "default", "system") if name not in bench.provider.list_hubs()]
        self._check_names(bench, [name for name in common if bench.provider.create_hub(name) is Outcome.OK], made=True)
        for name in ("", "x" * 65, "😀" * 65, "a\0b", "\ud800"):
            with pytest.raises(BadId):
                bench.provider.create_hub(name)
            with pytest.raises(BadId):
                bench.provider.delete_hub(name)

    def _check_names(self, bench: Bench, names: list[str], *, made: bool = False) -> None:
        bench.drop_later(*names)
        provider = bench.provider
        for name in names:
            if not made:
                assert (name, provider.create_hub(name)) == (name, Outcome.OK)
            bench.on(provider, name).create("a", input=name.encode())
        listed = [name for name in provider.list_hubs() if name in names]
        assert listed == sorted(names, key=str.encode)
        for name in names:
            assert (name, provider.create_hub(name)) == (name, Outcome.EXISTS)
            driver = bench.on(provider, name)
            assert (driver.hub.name, driver.get("a").input) == (name, name.encode())
            assert [item.instance for item in driver.claim()] == ["a"]
        for place, name in enumerate(names):
            assert provider.delete_hub(name) is Outcome.OK
            with pytest.raises(NotFound):
                bench.on(provider, name).find()
            for other in names[place + 1 :]:
                assert (other, bench.on(provider, other).get("a").input) == (other, other.encode())

    @case("I15", "I3")
    def test_hub_07_deleted_and_created_again(self, bench: Bench) -> None:
        """A hub that was deleted and created again is empty, and whatever was meant for the old one is lost."""
        hub = bench.new_hub()
        busy(hub, tag="1")
        item, work = hub.claim_one(), hub.claim_one_work()
        last = turn_commit(item, events=[b"x"], commit_id="last")
        assert list(hub.hub.commit_turns([last])) == [Outcome.OK]
        hub.send("m")
        item = hub.claim_one()
        assert bench.provider.delete_hub(hub.hub.name) is Outcome.OK
        assert bench.provider.create_hub(hub.hub.name) is Outcome.OK

        def check_lost() -> None:
            assert list(hub.hub.commit_turns([last])) == [Outcome.LOST]
            assert hub.commit(item, events=[b"x"]) is Outcome.LOST
            assert hub.renew(item.lease) == (Outcome.LOST, None)
            assert hub.release(item.lease) is hub.release(work.lease) is hub.complete(work) is Outcome.LOST
            assert hub.renew(work.lease)[0] in (Outcome.LOST, Outcome.CANCELLED)

        check_lost()
        assert hub.find() == []
        assert hub.hub.get_instances(["a", "b", "c"]) == [None] * 3
        assert (hub.claim(), hub.claim_work()) == ([], [])
        assert sum(hub.hub.stats().instances.values()) == 0
        hub.create("p", due=bench.clock.now() + 100 * LEASE_MS)
        assert hub.find(parent="p") == []
        assert hub.purge("p", force=True, cascade=bench.capabilities.purge_cascade).deleted == 1
        assert hub.create("a", generation="new") == [Outcome.OK]
        assert hub.send("old", generation="g") == [Outcome.NOT_FOUND]
        assert hub.send("m", "self", generation="new") == [Outcome.OK, Outcome.OK]
        check_lost()
        assert hub.history() == []
        assert (hub.get().status_rev, hub.get().custom_status, dict(hub.get().tags)) == (0, None, {})
        again = hub.claim_one()
        assert (ids_of(again.messages), again.attempt, again.memo) == (["@start", "m", "self"], 1, None)
        check_lost()
        assert hub.commit(again, events=[b"new"], commit_id="last", activities=[activity("t")]) is Outcome.OK
        bench.wait(10 * LEASE_MS)
        assert (hub.claim(), hub.history()) == ([], [b"new"])
        assert [(found.id, found.attempt) for found in hub.claim_work()] == [("t", 1)]

    @case("I15")
    def test_hub_08_names_that_begin_alike(self, bench: Bench) -> None:
        """Hubs whose names begin alike, or match as patterns, don't leak into each other."""
        base = bench.hub_name()
        # Also where hub and id are joined to one key, with whatever stands between them.
        joined = [f"{mark}a" for mark in ":/.-|#, \u001f"]
        names = [base, *(base + rest for rest in ("1", "_1", "%", "x1", *joined))]
        hubs = {name: bench.new_hub(name) for name in names}
        ids = ("a", "1:a", "1a", ":a", "_1", "%a", "x1", *(f"a{rest}" for rest in joined))
        for name, driver in hubs.items():
            mark = name.encode()
            assert driver.create(*ids, input=mark) == [Outcome.OK] * len(ids)
            driver.turn_all(events=[mark], activities=[activity("t", payload=mark)])
            driver.send("m", payload=mark)

        def check(names: list[str]) -> None:
            for name in names:
                driver, mark = hubs[name], name.encode()
                assert sorted(driver.find()) == sorted(ids)
                assert [driver.history(id_) for id_ in ids] == [[mark]] * len(ids)
                assert driver.hub.stats().turns.ready == 1
                assert driver.hub.stats().activities.ready == len(ids)

        check(list(hubs))
        for name, driver in hubs.items():
            (item,) = driver.claim()
            assert [delivery.payload for delivery in item.messages] == [name.encode()]
            driver.release(item.lease)
        left = list(hubs)
        assert hubs[f"{base}x1"].purge(query=InstanceQuery(), force=True).deleted == len(ids)
        left.remove(f"{base}x1")
        check(left)
        for name in (base, f"{base}_1", f"{base}%"):
            assert bench.provider.delete_hub(name) is Outcome.OK
            left.remove(name)
            check(left)
        for name in left:
            assert {work.payload for work in hubs[name].claim_work()} == {name.encode()}

    @case("I15", level=Level.L1, requires=("durable",), hooks=("intercept",), slow=True)
    def test_hub_09_a_claim_costs_the_same_however_many_hubs(self, bench: Bench) -> None:
        """A claim takes as many statements in a store of fifty hubs as in one of few, with and without names."""
        calls = 0

        def count() -> None:
            nonlocal calls
            calls += 1

        def cost(claim: Callable[[], object]) -> int:
            nonlocal calls
            counts = []
            for _ in range(5):
                bench.wait(LEASE_MS)
                calls = 0
                assert claim()
                counts.append(calls)
            # Something may run beside it: not always.
            return min(counts)

        claims: list[Callable[[], object]] = [
            bench.claim,
            lambda: bench.claim(names=["flow"]),
            bench.claim_work,
            lambda: bench.claim_work(names=["work"]),
        ]
        with bench.intercepted(count):
            bench.started("a", activities=[activity()])
            bench.send("m")
            few = [cost(claim) for claim in claims]
            assert min(few) > 0
            for number in range(50):
                other = bench.new_hub()
                other.create("a", f"i{number}", name=f"flow{number}")
            many = [cost(claim) for claim in claims]
            assert all(more <= less for more, less in zip(many, few, strict=True)), f"{many} calls, {few} with few hubs"

    @case("WAKE", "I15", requires=("push",))
    def test_hub_10_hints_stay_in_their_hub(self, bench: Bench) -> None:
        """Who subscribes to a hub is told of its instances, and not of another hub's."""
        other = bench.new_hub()
        received: queue.SimpleQueue[Wake] = queue.SimpleQueue()
        subscription = bench.hub.subscribe(received.put)
        assert subscription is not None
        try:
            other.started("theirs", activities=[activity()])
            other.send("m", instance="theirs")
            other.turn()
            bench.create("mine")
            wakes = [received.get(timeout=PATIENCE_SECONDS)]
            while wakes[-1].ids is not None and "mine" not in wakes[-1].ids:
                wakes.append(received.get(timeout=PATIENCE_SECONDS))
        except queue.Empty:
            pytest.fail("no hint followed what happened in the hub")
        finally:
            subscription.close()
        while not received.empty():
            wakes.append(received.get())
        assert [wake for wake in wakes if wake.ids is not None and "theirs" in wake.ids] == []

    @case("I15", hooks=("count_rows",))
    def test_hub_11_no_rows_are_left(self, bench: Bench) -> None:
        """Deleting a hub leaves no row behind of any kind, and takes none of another's."""
        busy(bench, tag="1")
        hub = bench.new_hub()
        bench.hub.pump()
        before = bench.adapter.count_rows(bench.hub.name)
        busy(hub, tag="2")
        hub.send("m", "n")
        hub.claim(), hub.claim_work()
        assert sum(bench.adapter.count_rows(hub.hub.name).values()) > 0
        assert bench.provider.delete_hub(hub.hub.name) is Outcome.OK
        bench.hub.pump()
        assert sum(bench.adapter.count_rows(hub.hub.name).values()) == 0
        assert bench.adapter.count_rows(bench.hub.name) == before
        assert marks(bench) == seen_of("1")

    @case("I15", level=Level.L2, requires=("concurrent_threads",))
    def test_hub_12_one_creation_wins(self, bench: Bench) -> None:
        """Of many threads that create or delete a hub at once, one does it; the others find it done."""
        for _ in range(5):
            name = bench.hub_name()

            def create(_: int, name: str = name) -> Outcome:
                return bench.provider.create_hub(name)

            def delete(_: int, name: str = name) -> Outcome:
                return bench.provider.delete_hub(name)

            assert Counter(at_once(create)) == {Outcome.OK: 1, Outcome.EXISTS: THREADS - 1}
            assert Counter(at_once(delete)) == {Outcome.OK: 1, Outcome.NOT_FOUND: THREADS - 1}
        bench.control()

    @case("I15", "I19", level=Level.L2)
    def test_hub_13_other_handles_follow(self, bench: Bench) -> None:
        """What one handle does to a hub the others see: they find it, lose it, and find another one of its name."""
        second = bench.another_handle()
        if second is None:
            # Nobody else sees anything of the store.
            bench.control()
            return
        name = bench.hub_name()
        here, there = bench.on(bench.provider, name), bench.on(second, name)
        for number in range(2):
            mark = b"%d" % number
            assert second.create_hub(name) is Outcome.OK
            bench.settle_reads()
            assert name in bench.provider.list_hubs()
            assert here.create("a", input=mark) == [Outcome.OK]
            bench.settle_reads()
            assert (there.get().input, there.get().next_seq) == (mark, 0)
            (item,) = there.claim()
            assert there.commit(item, events=[b"e"]) is Outcome.OK
            bench.settle_reads()
            assert here.history() == [b"e"]
            assert bench.provider.delete_hub(name) is Outcome.OK
            bench.settle_reads()
            for driver in (here, there):
                with pytest.raises(NotFound):
                    driver.find()
                with pytest.raises(NotFound):
                    driver.create("a")
            assert name not in second.list_hubs()
            # A handle that was not asked meanwhile doesn't miss that there is another hub now.
            assert bench.provider.create_hub(name) is Outcome.OK
            assert here.create("a") == [Outcome.OK]
            bench.settle_reads()
            assert there.get().input is None
            assert bench.provider.delete_hub(name) is bench.provider.create_hub(name) is Outcome.OK
            bench.settle_reads()
            assert there.find() == []
            assert there.hub.get_instances(["a"]) == [None]
            assert (there.claim(), there.claim_work()) == ([], [])
            assert there.create("b") == [Outcome.OK]
            bench.settle_reads()
            assert here.find() == ["b"]
            assert bench.provider.delete_hub(name) is Outcome.OK
            bench.settle_reads()
        if not bench.capabilities.durable:
            return
        bench.reopen()
        assert name not in bench.provider.list_hubs()
        assert bench.hub.get_instances(["a"]) == [None]

    @case("I15", slow=True)
    def test_hub_14_all_hubs_are_listed(self, bench: Bench) -> None:
        """The list of hubs is whole, however many there are."""
        names = {bench.hub_name() for _ in range(110)}
        for name in names:
            assert bench.provider.create_hub(name) is Outcome.OK
        listed = bench.provider.list_hubs()
        assert names <= set(listed)
        assert listed == sorted(listed, key=str.encode)
        bench.control()

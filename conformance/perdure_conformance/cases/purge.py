"""PRG: deleting instances."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from perdure.spi import (
    BadId,
    Fields,
    Hub,
    InstanceQuery,
    InvalidRequest,
    NextExecution,
    NotFound,
    Outcome,
    PurgeRequest,
)
from perdure_conformance.bench import START, Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    FAILED,
    LEASE_MS,
    PENDING,
    RUNNING,
    SUSPENDED,
    ByExchange,
    Driver,
    activity,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
    turn_commit,
)
from perdure_conformance.threads import at_once


def by(variant: str, hub: Hub) -> Hub:
    """Return the hub, or in the variant "exchange" one whose hot path goes through `exchange`."""
    return cast("Hub", ByExchange(hub)) if variant == "exchange" else hub


def full(driver: Driver, instance: str = "a") -> None:
    """Create an instance that has something of every kind, and runs."""
    driver.create(instance, input=b"in", tags={"k": "v", "ü": ""}, parent="p", version="1")
    driver.send("consumed", "pending", instance=instance)
    items = {item.instance: item for item in driver.claim()}
    outcome = driver.commit(
        items[instance],
        consumed=["@start", "consumed"],
        events=[b"old"],
        continued=NextExecution(events=[b"e0", b"e1"], input=b"next", version="2"),
        activities=[activity("t1"), activity("t2"), activity("later", due=driver.clock.now() + 5000)],
        messages=[message("timer", instance, due=driver.clock.now() + 5000), message("self", instance)],
        custom_status=b"status",
        memo=b"memo",
        output=b"out",
    )
    assert outcome is Outcome.OK


def family(bench: Driver) -> None:
    """Make root > child > grandchild, all ended, and two who only have similar parents."""
    bench.ended("root")
    for name, parent in [("child", "root"), ("grandchild", "child"), ("other", "roo"), ("Other", "Root")]:
        bench.create(name, parent=parent)
    bench.turn_all(status=FAILED)


def end_all(bench: Bench, names: Sequence[str]) -> None:
    """Create any number of instances and end them."""
    size = min(500, bench.limits.max_batch)
    for start in range(0, len(names), size):
        portion = names[start : start + size]
        assert bench.create(*portion) == [Outcome.OK] * len(portion)
        items = bench.claim(max_items=size)
        outcomes = bench.hub.commit_turns([turn_commit(item, status=COMPLETED) for item in items])
        assert list(outcomes) == [Outcome.OK] * len(portion)


def call_one(calls: Sequence[Callable[[], None]], number: int) -> None:
    """Call one of several."""
    calls[number]()


def purge_all(driver: Driver, names: Sequence[str], purged: list[Outcome]) -> None:
    """Purge instances, whatever they are doing."""
    purged += driver.purge(*names, force=True).outcomes


def take_turns(driver: Driver, names: Sequence[str], told: list[str]) -> None:
    """Claim and commit turns, each telling the witness that it was."""
    for item in driver.claim(names=["flow"], inline_history=True):
        assert item.instance in names
        assert (item.next_seq, list(item.history or ()), item.error) == (2, [b"e0", b"e1"], None)
        assert ids_of(item.messages)[:1] == ["self"]
        result = message(f"turn-{item.instance}", "witness")
        outcome = driver.commit(item, events=[b"e2"], messages=[result])
        assert outcome in (Outcome.OK, Outcome.LOST)
        if outcome is Outcome.OK:
            told.append(result.id)


def do_work(driver: Driver, names: Sequence[str], told: list[str]) -> None:
    """Claim and complete activities, each telling the witness that it was."""
    for work in driver.claim_work():
        assert work.instance in names
        assert work.payload == b"payload"
        result = message(f"{work.id}-{work.instance}", "witness")
        outcome = driver.complete(work, result)
        assert outcome in (Outcome.OK, Outcome.LOST)
        if outcome is Outcome.OK:
            told.append(result.id)


def send_to(driver: Driver, names: Sequence[str]) -> None:
    """Send each instance something."""
    outcomes = driver.hub.send_messages([message("m", name) for name in names])
    assert set(outcomes) <= {Outcome.OK, Outcome.NOT_FOUND}


def read(driver: Driver, names: Sequence[str]) -> None:
    """Read instances, whole or not at all."""
    for name, info in zip(names, driver.hub.get_instances(names), strict=True):
        assert info is None or info.next_seq in (2, 3)
        try:
            assert driver.history(name) in ([b"e0", b"e1"], [b"e0", b"e1", b"e2"])
        except NotFound:
            assert driver.find(id_prefix=name) == []


class PurgeCases:
    """Cases PRG."""

    @case("PURGE", "I5")
    def test_prg_01_nothing_is_left_of_an_ended_instance(self, bench: Bench) -> None:
        """A purged instance is gone with everything of it, and a new one of its id knows nothing of it."""
        full(bench, "b")
        b = bench.get("b"), bench.history("b")
        for item in bench.claim():
            bench.release(item.lease, delay_ms=LEASE_MS)
        full(bench, "a")
        old = bench.claim_one()
        last: dict[str, Any] = {"status": FAILED, "failure": b"why", "events": [b"e2"], "commit_id": "last"}
        assert bench.commit(old, messages=[message("told", "b")], **last) is Outcome.OK
        result = bench.purge("a")
        assert (result.deleted, result.complete, list(result.outcomes)) == (1, True, [Outcome.OK])
        assert bench.hub.get_instances(["a", "b"]) == [None, b[0]]
        with pytest.raises(NotFound):
            bench.hub.read_history("a")
        assert (bench.find(), bench.find(statuses=[FAILED]), bench.find(id_prefix="a")) == (["b"], [], [])
        counts = bench.hub.stats().instances
        assert {status: count for status, count in counts.items() if count} == {RUNNING: 1}
        assert bench.send("m", reopen=ENDED) == [Outcome.NOT_FOUND]
        # Also the commit that ended it is no longer known.
        assert bench.commit(old, **last) is Outcome.LOST
        bench.wait(1)
        assert bench.create("a") == [Outcome.OK]
        info = bench.get("a")
        assert (info.next_seq, info.execution, info.status_rev, info.status) == (0, 1, 0, PENDING)
        assert (info.input, info.output, info.custom_status, info.failure) == (None, None, None, None)
        assert (info.tags, info.parent, info.version, info.completed_at) == ({}, None, None, None)
        assert (info.created_at, info.updated_at) == (bench.clock.now(), bench.clock.now())
        assert bench.history("a") == []
        assert bench.commit(old, **last) is Outcome.LOST
        assert bench.send("consumed", "pending") == [Outcome.OK, Outcome.OK]
        item = bench.claim_one(inline_history=True)
        assert ids_of(item.messages) == ["@start", "consumed", "pending"]
        assert (item.generation, item.attempt, list(item.history or ())) == (info.generation, 1, [])
        assert (item.memo, item.custom_status) == (None, None)
        assert bench.commit(item, commit_id="last", events=[b"new"], activities=[activity("t1")]) is Outcome.OK
        assert bench.history("a") == [b"new"]
        work = {(item.instance, item.id): item.attempt for item in bench.claim_work()}
        assert work == {("a", "t1"): 1, ("b", "t1"): 1, ("b", "t2"): 1}
        bench.wait(LEASE_MS)
        assert ids_by_instance(bench.claim()) == {"b": ["pending", "self", "told", "timer"]}
        assert (bench.get("b"), bench.history("b")) == b
        # Whatever way it ended.
        bench.wait(1)
        for status in ENDED:
            bench.ended(status.value, status)
        assert bench.purge(*(status.value for status in ENDED)).deleted == len(ENDED)

    @case("PURGE")
    def test_prg_02_running_instances_are_in_the_way(self, bench: Bench) -> None:
        """Without force an instance that hasn't ended is a CONFLICT, and stays as it is; its neighbours go."""
        bench.ended("b")
        bench.started("running", activities=[activity()])
        bench.started("suspended", status=SUSPENDED, messages=[message("timer", "suspended", due=START + 5)])
        bench.create("due", due=START + 5)
        bench.ended("reopened")
        assert bench.send("again", instance="reopened", reopen=ENDED, due=START + 5) == [Outcome.OK]
        full(bench, "leased")
        (item,) = bench.claim()
        bench.create("pending")
        names = ("running", "suspended", "due", "reopened", "leased", "pending")
        with bench.unchanged(*names, "b"):
            result = bench.purge(*names)
            assert list(result.outcomes) == [Outcome.CONFLICT] * len(names)
            assert (result.deleted, result.complete) == (0, True)
            result = bench.purge(query=InstanceQuery(statuses=[RUNNING, SUSPENDED, PENDING]))
            assert (result.deleted, result.complete, list(result.outcomes)) == (0, True, [])
        result = bench.purge("running", "nobody", "b", "leased")
        assert list(result.outcomes) == [Outcome.CONFLICT, Outcome.NOT_FOUND, Outcome.OK, Outcome.CONFLICT]
        assert (result.deleted, result.complete) == (1, True)
        assert bench.commit(item) is Outcome.OK
        bench.wait(5)
        assert {item.instance for item in bench.claim()} == {"suspended", "due", "reopened", "pending"}
        assert {work.instance for work in bench.claim_work()} == {"running", "leased"}

    @case("PURGE", "I3", variants=("calls", "exchange"))
    def test_prg_03_force_fences_turns(self, bench: Bench) -> None:
        """A forced purge takes a running instance; whoever leases it is LOST, and brings nothing of it back."""
        driver = Driver(by(bench.variant, bench.hub), bench.clock)
        bench.create("expired", "stolen")
        expired = {item.instance: item for item in driver.claim(lease_ms=10)}
        bench.wait(10)
        stolen = {item.instance: item for item in driver.claim(max_items=1)}
        late = {name: item for name, item in expired.items() if name not in stolen}
        bench.create("kept", "a", "other")
        items = {item.instance: item for item in driver.claim(lease_ms=2 * LEASE_MS)}
        items = stolen | items | {name: item for name, item in late.items() if name not in items}
        assert driver.commit(items.pop("other")) is Outcome.OK
        (kept,) = bench.hub.commit_turns([turn_commit(items["kept"], keep_ms=LEASE_MS, events=[b"e"])])
        assert kept is Outcome.OK
        bench.send("m", instance="kept")
        bench.send("timer", due=bench.clock.now() + 5)
        bench.send("m", "n")
        names = list(items)
        result = bench.purge(*names, force=True)
        assert (result.deleted, list(result.outcomes)) == (len(names), [Outcome.OK] * len(names))

        def check_fenced() -> None:
            for name, item in items.items():
                effects: dict[str, Any] = {
                    "events": [b"x"],
                    "activities": [activity()],
                    "messages": [message("m", "other"), message("self", name)],
                    "starts": [new_instance("child")],
                    "custom_status": b"x",
                }
                assert driver.commit(item, **effects) is Outcome.LOST
                assert driver.commit(item, status=COMPLETED, expected_next_seq=0) is Outcome.LOST
                assert driver.renew(item.lease) == (Outcome.LOST, None)
                assert driver.release(item.lease) is Outcome.LOST
                assert driver.release(item.lease, delay_ms=5, penalize=False) is Outcome.LOST
            assert driver.claim(held=[item.lease for item in items.values()]) == []

        check_fenced()
        assert bench.hub.get_instances(names) == [None] * len(names)
        assert bench.find() == ["other"]
        bench.create(*names)
        fresh_items = {item.instance: item for item in driver.claim()}
        assert {name: ids_of(item.messages) for name, item in fresh_items.items()} == {
            name: ["@start"] for name in names
        }
        with bench.unchanged(*names, "other"):
            check_fenced()
        stale = turn_commit(items["a"], events=[b"x"])
        good = [turn_commit(item, events=[b"new"]) for item in fresh_items.values()]
        outcomes = driver.hub.commit_turns([stale, *good[:1], stale, *good[1:]])
        assert list(outcomes) == [Outcome.LOST, Outcome.OK, Outcome.LOST, *[Outcome.OK] * (len(good) - 1)]
        assert [bench.history(name) for name in names] == [[b"new"]] * len(names)
        bench.wait(2 * LEASE_MS)
        assert driver.claim() == []

    @case("PURGE", "I12", variants=("calls", "exchange"))
    def test_prg_04_force_fences_activities(self, bench: Bench) -> None:
        """The activities of a purged instance are cancelled: not to be completed, renewed or claimed any more."""
        driver = Driver(by(bench.variant, bench.hub), bench.clock)
        bench.started("other", activities=[activity("t1")])
        bench.started("a", activities=[activity("t1"), activity("t2")])
        work = {(item.instance, item.id): item for item in driver.claim_work(lease_ms=10)}
        mine = [work["a", "t1"], work["a", "t2"]]
        assert driver.renew(work["other", "t1"].lease, LEASE_MS)[0] is Outcome.OK
        assert driver.renew(mine[0].lease, LEASE_MS)[0] is Outcome.OK
        bench.send("go")
        later = {"due": bench.clock.now() + 2 * LEASE_MS}
        bench.turn(activities=[activity("ready"), activity("later", **later)])
        bench.wait(10)
        assert bench.purge("a", force=True).deleted == 1
        for item in mine:
            assert driver.renew(item.lease) == (Outcome.CANCELLED, None)
            assert driver.complete(item, message("r", "other")) is Outcome.LOST
            assert driver.release(item.lease) is Outcome.LOST
            assert driver.renew(item.lease) == (Outcome.CANCELLED, None)
        assert driver.claim_work() == []
        assert driver.claim() == []
        bench.create("a")
        bench.turn(activities=[activity("t1"), activity("t2")])
        for item in mine:
            assert driver.renew(item.lease)[0] in (Outcome.LOST, Outcome.CANCELLED)
            assert driver.complete(item, message("r", "a")) is driver.release(item.lease) is Outcome.LOST
        bench.send("go")
        # A commit can't settle with leases that died.
        bench.turn(settled=[item.lease for item in mine])
        assert {item.id: item.attempt for item in driver.claim_work()} == {"t1": 1, "t2": 1}
        assert driver.claim() == []
        assert driver.complete(work["other", "t1"], message("r", "other")) is Outcome.OK
        assert ids_of(driver.claim_one().messages) == ["r"]

    @case("PURGE", "QUERIES")
    def test_prg_05_by_query(self, bench: Bench) -> None:
        """A purge by query deletes the ended instances that match, all of them and no others."""
        for name in ("old1", "old2"):
            bench.ended(name)
        bench.started("old3")
        bench.wait(1000)
        bench.ended("new")
        # How the query's page would be cut doesn't matter, nor where one would start.
        query = InstanceQuery(statuses=ENDED, completed_to=START + 1000, page_size=1)
        query = replace(query, cursor=bench.hub.query_instances(query).cursor)
        bench.create(*(f"many{number}" for number in range(20)), parent="many")
        bench.turn_all(status=COMPLETED)
        result = bench.purge(query=replace(query, completed_to=None, parent="many", descending=True))
        assert (result.deleted, result.complete) == (20, True)
        result = bench.purge(query=query)
        assert (result.deleted, result.complete, list(result.outcomes)) == (2, True, [])
        assert bench.find() == ["old3", "new"]
        assert bench.purge(query=InstanceQuery(statuses=[RUNNING])).deleted == 0
        assert bench.purge(query=InstanceQuery(statuses=[RUNNING]), force=True).deleted == 1
        assert bench.purge(query=InstanceQuery(id_prefix="new")).deleted == 1
        instances: dict[str, dict[str, Any]] = {
            "early": {},
            "plain": {},
            "named": {"name": "other"},
            "versioned": {"version": "1"},
            "a%b": {},
            "axb": {},
            "child": {"parent": "p"},
            "failed": {},
            "late": {},
        }
        for name, fields in instances.items():
            bench.create(name, **fields)
            bench.wait(1000)
        start = bench.clock.now()
        for item in bench.claim():
            bench.wait(1000 if item.instance == "late" else 0)
            bench.commit(item, status=FAILED if item.instance == "failed" else COMPLETED)
        bench.create("runs", name="other", version="1", parent="p")
        for empty in (InstanceQuery(statuses=[]), InstanceQuery(names=()), InstanceQuery(versions=frozenset())):
            result = bench.purge(query=empty, force=True)
            assert (empty, result.deleted, result.complete) == (empty, 0, True)
        nobody: list[dict[str, Any]] = [
            {"parent": "q"},
            {"created_to": START},
            {"names": ["other"], "versions": ["1"]},
            {"statuses": [FAILED], "names": ["other"]},
            {"id_prefix": "a_"},
            {"completed_from": start, "completed_to": start},
        ]
        for fields in nobody:
            assert (fields, bench.purge(query=InstanceQuery(**fields)).deleted) == (fields, 0)
        one: list[tuple[dict[str, Any], str]] = [
            ({"created_to": START + 2000}, "early"),
            ({"names": ["other"]}, "named"),
            ({"versions": ["1"]}, "versioned"),
            ({"id_prefix": "a%"}, "a%b"),
            ({"parent": "p"}, "child"),
            ({"statuses": [FAILED]}, "failed"),
            ({"updated_from": start + 1000, "created_to": start}, "late"),
        ]
        left = set(bench.find())
        for fields, name in one:
            result = bench.purge(query=InstanceQuery(**fields))
            left.discard(name)
            assert (name, result.deleted, set(bench.find())) == (name, 1, left)
        assert bench.purge(query=InstanceQuery()).deleted == 2
        assert bench.find() == ["runs"]

    @case("PURGE")
    def test_prg_06_limit_and_budget(self, bench: Bench) -> None:
        """A purge that its limit or its budget ends early says so, and calling again finishes it."""
        names = [f"i{number:02}" for number in range(20)]
        # Those that stay don't count, wherever they stand.
        bench.started("before")
        end_all(bench, names)
        bench.started("running")
        assert bench.purge(query=InstanceQuery(), limit=1).deleted == 1
        counts = [1]
        while len(counts) <= len(names):
            result = bench.purge(query=InstanceQuery(), limit=6)
            counts.append(result.deleted)
            if result.complete:
                break
        assert max(counts) == 6
        assert (sum(counts), bench.find()) == (20, ["before", "running"])
        end_all(bench, names)
        deleted = calls = 0
        while calls <= len(names):
            result = bench.purge(query=InstanceQuery(), budget_ms=0)
            calls += 1
            deleted += result.deleted
            if result.complete:
                break
        assert (deleted, bench.find()) == (20, ["before", "running"])
        # By id the limit counts those that go; the outcomes of those not reached are missing.
        end_all(bench, names[:5])
        result = bench.purge("nobody", "running", *names[:5], limit=2)
        assert (result.deleted, result.complete) == (2, False)
        assert list(result.outcomes) == [Outcome.NOT_FOUND, Outcome.CONFLICT, Outcome.OK, Outcome.OK]
        assert set(bench.find()) == {"before", "running", *names[2:5]}
        result = bench.purge(*names[2:5], limit=3, budget_ms=60_000)
        assert (result.deleted, result.complete, list(result.outcomes)) == (3, True, [Outcome.OK] * 3)
        end_all(bench, names[:3])
        assert bench.purge(query=InstanceQuery(), limit=0).deleted <= 1

    @case("PURGE", requires=("purge_cascade",))
    def test_prg_07_cascade(self, bench: Bench) -> None:
        """With cascade an instance goes with all its descendants; without it they stay as they are."""
        family(bench)
        bench.create("deeper", parent="grandchild")
        bench.turn(status=COMPLETED)
        children = [bench.get(name) for name in ("child", "grandchild", "deeper")]
        result = bench.purge("root", cascade=True)
        assert (result.deleted, result.complete, list(result.outcomes)) == (4, True, [Outcome.OK])
        assert bench.find() == ["Other", "other"]
        bench.purge("Other", "other")
        family(bench)
        assert bench.purge("root").deleted == 1
        assert bench.find() == ["Other", "child", "grandchild", "other"]
        assert [bench.get(name).parent for name in ("child", "grandchild")] == [info.parent for info in children[:2]]
        # Its children were asked for by id beside it, and went with it already.
        bench.ended("root")
        result = bench.purge("child", "root", "grandchild", "root", cascade=True)
        assert list(result.outcomes) == [Outcome.OK, Outcome.OK, Outcome.NOT_FOUND, Outcome.NOT_FOUND]
        assert (result.deleted, result.complete) == (3, True)
        # A parent is a mere id: they may form a circle, and an instance may name itself.
        bench.create("one", parent="two")
        bench.create("two", parent="one")
        bench.create("self", parent="self")
        bench.turn_all(status=COMPLETED)
        assert bench.purge("one", cascade=True).deleted == 2
        assert bench.purge("self", cascade=True).deleted == 1
        assert bench.find() == ["Other", "other"]
        # However deep and wide.
        for number in range(40):
            bench.create(f"deep{number}", parent=f"deep{number - 1}")
            bench.create(f"wide{number}", parent="deep0")
        bench.turn_all(status=COMPLETED)
        assert bench.purge("deep0", cascade=True).deleted == 80
        assert bench.find() == ["Other", "other"]
        result = bench.purge("roo", cascade=True)
        assert (list(result.outcomes), bench.find()) == ([Outcome.NOT_FOUND], ["Other", "other"])
        # What is a child in another hub is none here, and the other way round.
        apart = bench.new_hub()
        family(apart)
        bench.create("root", "child", "between")
        apart.create("between", parent="root")
        bench.create("grandchild", parent="between")
        bench.create("longer", parent="root1")
        for driver in (bench, apart):
            driver.turn_all(status=COMPLETED)
        assert bench.purge("root", cascade=True).deleted == 1
        assert sorted(bench.find()) == ["Other", "between", "child", "grandchild", "longer", "other"]
        assert sorted(apart.find()) == ["Other", "between", "child", "grandchild", "other", "root"]
        assert bench.purge("between", cascade=True).deleted == 2
        assert apart.purge("root", cascade=True).deleted == 4
        assert (sorted(bench.find()), sorted(apart.find())) == (
            ["Other", "child", "longer", "other"],
            ["Other", "other"],
        )

    @case("PURGE", requires=("purge_cascade",))
    def test_prg_08_a_running_descendant_is_in_the_way(self, bench: Bench) -> None:
        """Without force a descendant that runs makes the whole family a CONFLICT; with it all go, leased or not."""
        family(bench)
        bench.create("late", parent="grandchild")
        bench.turn(activities=[activity()], messages=[message("self", "late")])
        work, item = bench.claim_one_work(), bench.claim_one()
        with bench.unchanged("root", "child", "grandchild", "late", "other"):
            for name in ("root", "child", "grandchild"):
                result = bench.purge(name, cascade=True)
                assert (result.deleted, result.complete, list(result.outcomes)) == (0, True, [Outcome.CONFLICT])
        result = bench.purge("other", "root", "Other", cascade=True)
        assert list(result.outcomes) == [Outcome.OK, Outcome.CONFLICT, Outcome.OK]
        assert bench.renew(item.lease)[0] is Outcome.OK
        assert bench.purge("root", cascade=True, force=True).deleted == 4
        assert bench.find() == []
        assert bench.commit(item) is Outcome.LOST
        assert bench.renew(work.lease) == (Outcome.CANCELLED, None)

    @case("PURGE", hooks=("count_rows",), variants=("ended", "forced", "query", "replaced"))
    def test_prg_09_no_rows_are_left(self, bench: Bench) -> None:
        """A purge leaves no row behind of any kind, whatever the instance had."""
        bench.create("stays", tags={"k": "v"}, input=b"in")
        bench.send("m", instance="stays")
        bench.turn(events=[b"e"], activities=[activity()], custom_status=b"status")
        bench.hub.pump()
        before = bench.adapter.count_rows(bench.hub.name)
        full(bench, "a")
        if bench.variant == "replaced":
            bench.turn(status=COMPLETED, failure=b"why")
            assert bench.create("a", replace_if=ENDED, tags={"k": "w"}) == [Outcome.REPLACED]
        bench.claim_work(names=["work"], max_items=2)
        bench.claim()
        assert sum(bench.adapter.count_rows(bench.hub.name).values()) > sum(before.values())
        if bench.variant == "ended":
            bench.wait(LEASE_MS)
            bench.turn(status=FAILED, output=b"out", failure=b"why", events=[b"last"])
        if bench.variant == "query":
            assert bench.purge(query=InstanceQuery(id_prefix="a"), force=True).deleted == 1
        else:
            assert bench.purge("a", force=bench.variant != "ended").deleted == 1
        bench.hub.pump()
        assert bench.adapter.count_rows(bench.hub.name) == before

    @case("PURGE", "RESULTS")
    def test_prg_10_unknown_ids(self, bench: Bench) -> None:
        """An id that is unknown, or was purged before, is NOT_FOUND, and no ids at all purge nothing."""
        bench.ended("a")
        bench.ended("A")
        with bench.unchanged("a", "A"):
            for force in (False, True):
                result = bench.purge("b", "a ", force=force)
                assert (result.deleted, list(result.outcomes)) == (0, [Outcome.NOT_FOUND] * 2)
                result = bench.purge(ids=[], force=force)
                assert (result.deleted, result.complete, list(result.outcomes)) == (0, True, [])
        result = bench.purge("x", "a", "a", "y")
        assert list(result.outcomes) == [Outcome.NOT_FOUND, Outcome.OK, Outcome.NOT_FOUND, Outcome.NOT_FOUND]
        assert (result.deleted, result.complete) == (1, True)
        result = bench.purge("a", force=True)
        assert (result.deleted, result.complete, list(result.outcomes)) == (0, True, [Outcome.NOT_FOUND])
        assert bench.find() == ["A"]

    @case("PURGE", "I4", level=Level.L2, requires=("concurrent_threads",), variants=("one handle", "a handle each"))
    def test_prg_12_purge_while_others_work(self, bench: Bench) -> None:
        """What is purged while others work on it is done whole or LOST: no error, and no half of an instance."""
        bench.create("witness", name="witness")
        drivers = [bench] * 5 if bench.variant == "one handle" else bench.a_handle_each(5)
        told: list[str] = []
        for number in range(5):
            names = [f"{number}-{letter}" for letter in "abc"]
            bench.create(*names)
            for item in bench.claim(names=["flow"]):
                fields: dict[str, Any] = {"events": [b"e0", b"e1"], "activities": [activity("t1"), activity("t2")]}
                assert bench.commit(item, messages=[message("self", item.instance)], **fields) is Outcome.OK
            purged: list[Outcome] = []
            calls: list[Callable[[], None]] = [
                # In either order: two that wait for each other are none of the caller's business.
                partial(purge_all, drivers[0], names, purged),
                partial(purge_all, drivers[1], names[::-1], purged),
                partial(take_turns, drivers[2], names, told),
                partial(do_work, drivers[3], names, told),
                partial(send_to, drivers[4], names),
                partial(read, bench, names),
            ]
            at_once(partial(call_one, calls), len(calls))
            assert Counter(purged) == {Outcome.OK: len(names), Outcome.NOT_FOUND: len(names)}
            assert drivers[0].hub.get_instances(names) == [None] * len(names)
            assert (bench.claim(names=["flow"]), bench.claim_work()) == ([], [])
        bench.wait(LEASE_MS)
        assert bench.claim_work() == []
        item = bench.claim_one()
        assert (item.instance, sorted(ids_of(item.messages))) == ("witness", sorted(["@start", *told]))

    @case("PURGE", slow=True)
    def test_prg_13_many_instances(self, bench: Bench) -> None:
        """Ten thousand instances are purged by one query after another, none forgotten and none twice."""
        # More than the round number at which a scan or a page is often cut.
        names = [f"i{number:05}" for number in range(bench.scaled(10_000) + 100)]
        end_all(bench, names)
        bench.started("running")
        begun = time.monotonic()
        result = bench.purge(query=InstanceQuery(), budget_ms=1)
        # It need not stop at once, only not go on and on.
        assert not result.complete or time.monotonic() - begun < 5
        deleted = result.deleted
        assert deleted > 0
        while not result.complete:
            result = bench.purge(query=InstanceQuery(), limit=len(names) // 3)
            assert result.deleted <= len(names) // 3
            assert result.deleted > 0 or result.complete
            deleted += result.deleted
        assert deleted == len(names)
        assert bench.find() == ["running"]
        # Without a bound all of them go in one call.
        end_all(bench, names)
        result = bench.purge(query=InstanceQuery())
        assert (result.deleted, result.complete, bench.find()) == (len(names), True, ["running"])

    @case("PURGE", "QUERIES", requires=("purge_cascade",))
    def test_prg_14_queries_with_cascade(self, bench: Bench) -> None:
        """A query with cascade takes the descendants of what it finds, and passes over families that still run."""
        family(bench)
        result = bench.purge(query=InstanceQuery(id_prefix="root"), cascade=True)
        assert (result.deleted, result.complete) == (3, True)
        assert bench.purge(query=InstanceQuery(statuses=ENDED), cascade=True).deleted == 2
        family(bench)
        # One that goes with its parent is found by the query too, and counted once.
        assert bench.purge(query=InstanceQuery(id_prefix=""), cascade=True).deleted == 5
        family(bench)
        bench.create("late", parent="grandchild")
        # Those passed over don't count.
        assert bench.purge(query=InstanceQuery(), cascade=True, limit=1).deleted == 1
        result = bench.purge(query=InstanceQuery(), cascade=True)
        assert (result.deleted, result.complete) == (1, True)
        assert sorted(bench.find()) == ["child", "grandchild", "late", "root"]
        # Without cascade a descendant that runs is in nobody's way.
        assert bench.purge(query=InstanceQuery(id_prefix="root")).deleted == 1
        assert bench.purge(query=InstanceQuery(statuses=ENDED), cascade=True, force=True).deleted == 3
        assert bench.find() == []

    @case("PURGE", requires=("purge_cascade",))
    def test_prg_15_families_go_whole(self, bench: Bench) -> None:
        """The first family of a call goes whole, though it be over the limit; any later one only if it fits."""
        family(bench)
        bench.ended("second")
        result = bench.purge("root", "second", cascade=True, limit=1)
        assert (result.deleted, result.complete, list(result.outcomes)) == (3, False, [Outcome.OK])
        assert bench.find() == ["Other", "other", "second"]
        bench.purge("Other", "other")
        family(bench)
        result = bench.purge(query=InstanceQuery(id_prefix="root"), cascade=True, limit=2)
        assert (result.deleted, bench.find()) == (3, ["Other", "other", "second"])
        bench.purge("Other", "other")
        family(bench)
        result = bench.purge("second", "root", "other", cascade=True, limit=2)
        assert (result.deleted, result.complete, list(result.outcomes)) == (1, False, [Outcome.OK])
        assert bench.find() == ["Other", "child", "grandchild", "other", "root"]
        result = bench.purge("root", "other", "Other", cascade=True, limit=4)
        assert (result.deleted, result.complete, list(result.outcomes)) == (4, False, [Outcome.OK, Outcome.OK])

    @case("RESULTS", "PURGE")
    def test_prg_16_malformed_requests(self, bench: Bench) -> None:
        """A purge needs either ids or a query; a malformed request raises, and nothing of it is done."""
        full(bench)
        bench.ended("b")
        with bench.unchanged("a", "b"):
            for asked in (
                PurgeRequest(force=True),
                PurgeRequest(ids=["b"], query=InstanceQuery(), force=True),
                PurgeRequest(ids=[], query=InstanceQuery(), force=True),
                PurgeRequest(ids=["b"], limit=-1),
                PurgeRequest(ids=["b"], budget_ms=-1),
            ):
                with pytest.raises(InvalidRequest):
                    bench.hub.purge(asked)
            for bad in ("", "a\0b", "\ud800"):
                with pytest.raises(BadId) as caught:
                    bench.purge("b", bad, "a", force=True)
                assert caught.value.index == 1
                for query in (InstanceQuery(parent=bad), InstanceQuery(names=["flow", bad])):
                    with pytest.raises(BadId):
                        bench.purge(query=query, force=True)
        assert bench.purge("b").deleted == 1

    @case("PURGE", "QUERIES", variants=("ended", "forced"))
    def test_prg_17_a_purge_takes_what_its_query_finds(self, bench: Bench) -> None:
        """A purge by query takes exactly the instances that the query finds, to the millisecond, whatever its page."""
        tick = bench.limits.time_resolution_ms
        step, empty = 1000 * tick, dict[str, Any]()
        # Of each group x was created at 0, ended at 1; y: at 2 and 3; z, created at 4, runs.
        asked: list[tuple[dict[str, Any], str]] = [
            ({"statuses": [COMPLETED]}, "x"),
            ({"statuses": [RUNNING, FAILED]}, "yz"),
            ({"statuses": []}, ""),
            ({"names": ["fl,ow", "other"]}, "y"),
            ({"names": ["flow"]}, "xz"),
            ({"names": []}, ""),
            ({"versions": [None]}, "xz"),
            ({"versions": [""]}, ""),
            ({"versions": ["1", None]}, "xyz"),
            ({"versions": []}, ""),
            ({"parent": "p"}, "y"),
            ({"parent": "P"}, ""),
            # As it would be for a page: each is ignored.
            ({"page_size": 1}, "xyz"),
            ({"page_size": 1, "descending": True}, "xyz"),
            ({"fields": Fields.NONE}, "xyz"),
        ]
        if bench.capabilities.tag_query:
            asked += [({"tags": {"k": "v"}}, "y"), ({"tags": {"k": ""}}, ""), ({"tags": {}}, "xyz")]
        for what, times in (("created", (0, 2, 4)), ("updated", (1, 3, 4)), ("completed", (1, 3))):
            for place, at in enumerate(times):
                moment = START + at * step
                asked += [
                    ({f"{what}_from": moment}, "xyz"[place : len(times)]),
                    ({f"{what}_from": moment + tick}, "xyz"[place + 1 : len(times)]),
                    ({f"{what}_to": moment}, "xyz"[:place]),
                    ({f"{what}_to": moment + tick}, "xyz"[: place + 1]),
                ]
            # Neither the time 0 nor one before it is no bound.
            asked += [({f"{what}_from": bound}, "xyz"[: len(times)]) for bound in (0, -1)]
            asked += [({f"{what}_to": bound}, "") for bound in (0, -1)]
        groups = [f"{number:03}" for number in range(len(asked))]
        more = {"x": empty, "y": {"name": "other", "version": "1", "parent": "p", "tags": {"k": "v"}}, "z": empty}
        ends = {"x": COMPLETED, "y": FAILED, "z": RUNNING}
        for letter, fields in more.items():
            bench.create(*(group + letter for group in groups), **fields)
            bench.wait(step if letter != "z" else 0)
            items = bench.claim(max_items=len(groups))
            outcomes = bench.hub.commit_turns([turn_commit(item, status=ends[letter]) for item in items])
            assert list(outcomes) == [Outcome.OK] * len(groups)
            bench.wait(step)
        behind = bench.hub.query_instances(InstanceQuery(page_size=1)).cursor
        forced = bench.variant == "forced"
        left = set(bench.find(page_size=10_000))
        for group, (fields, expected) in zip(groups, asked, strict=True):
            query = InstanceQuery(id_prefix=group, **({"cursor": behind} | fields))
            gone = {group + letter for letter in expected if forced or ends[letter] is not RUNNING}
            assert (fields, set(bench.find(id_prefix=group, **fields | {"page_size": 9}))) == (
                fields,
                {group + letter for letter in expected},
            )
            result = bench.purge(query=query, force=forced)
            left -= gone
            assert (fields, result.deleted, result.complete) == (fields, len(gone), True)
            assert (fields, set(bench.find(page_size=10_000))) == (fields, left)

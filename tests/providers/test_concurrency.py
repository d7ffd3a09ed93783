"""Many threads on one hub, through one handle and through several."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from perdure.spi import ActivityDone, Closed, Hub, InstanceQuery, ManualClock, Outcome, Provider, TurnItem
from perdure_conformance.driver import (
    COMPLETED,
    LEASE_MS,
    Driver,
    activity,
    fresh,
    ids_of,
    message,
    new_instance,
    turn_commit,
)

T = TypeVar("T")
THREADS = 8


def at_once(call: Callable[[int], T], threads: int = THREADS) -> list[T]:
    """Run `call` in many threads that start together, and return what each returned."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> T:
        barrier.wait(10)
        return call(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


@pytest.fixture(params=["one handle", "a handle each"])
def drivers(
    request: pytest.FixtureRequest, hub: Hub, clock: ManualClock, connect: Callable[[], Provider]
) -> list[Driver]:
    if request.param == "one handle":
        return [Driver(hub, clock)] * THREADS
    return [Driver(connect().hub("h"), clock) for _ in range(THREADS)]


def test_single_shots_get_one_instance_each(drivers: list[Driver]) -> None:
    for _ in range(5):
        names = [fresh("i") for _ in range(THREADS)]
        drivers[0].create(*names)
        claims = at_once(lambda number: drivers[number].claim(max_items=1))
        assert sorted(item.instance for claim in claims for item in claim) == sorted(names)
        assert all(len(claim) == 1 for claim in claims)


def test_one_instance_has_one_winner(drivers: list[Driver]) -> None:
    for _ in range(5):
        name = fresh("i")
        drivers[0].create(name)
        claims = at_once(lambda number: drivers[number].claim())
        assert [item.instance for claim in claims for item in claim] == [name]


def test_draining_is_disjoint_and_complete(drivers: list[Driver]) -> None:
    names = [f"i{number}" for number in range(200)]
    drivers[0].create(*names)

    def drain(number: int) -> list[str]:
        got: list[str] = []
        while items := drivers[number].claim(max_items=3):
            got += [item.instance for item in items]
        return got

    assert sorted(name for got in at_once(drain) for name in got) == sorted(names)


def test_one_lease_is_committed_once(drivers: list[Driver]) -> None:
    drivers[0].create()
    item = drivers[0].claim_one()
    outcomes = at_once(lambda number: drivers[number].commit(item, events=[b"%d" % number]))
    assert Counter(outcomes) == {Outcome.OK: 1, Outcome.LOST: THREADS - 1}
    assert len(drivers[0].history()) == 1


def test_one_activity_is_completed_once(drivers: list[Driver]) -> None:
    drivers[0].started(activities=[activity()])
    work = drivers[0].claim_one_work()
    outcomes = at_once(lambda number: drivers[number].complete(work, message(f"r{number}")))
    assert Counter(outcomes) == {Outcome.OK: 1, Outcome.LOST: THREADS - 1}
    assert len(drivers[0].claim_one().messages) == 1


def test_one_id_is_created_once(drivers: list[Driver]) -> None:
    outcomes = at_once(lambda number: drivers[number].create("a"))
    assert Counter(outcome for (outcome,) in outcomes) == {Outcome.OK: 1, Outcome.EXISTS: THREADS - 1}
    assert ids_of(drivers[0].claim_one().messages) == ["@start"]


def test_one_message_is_delivered_once(drivers: list[Driver]) -> None:
    drivers[0].started()
    outcomes = at_once(lambda number: drivers[number].send("m"))
    assert Counter(outcome for (outcome,) in outcomes) == {Outcome.OK: 1, Outcome.DUPLICATE: THREADS - 1}
    assert ids_of(drivers[0].claim_one().messages) == ["m"]


def test_renewing_and_stealing_never_both_succeed(drivers: list[Driver]) -> None:
    for _ in range(20):
        drivers[0].create(fresh("i"))
        item = drivers[0].claim_one()
        drivers[0].wait(LEASE_MS)

        def race(number: int, item: TurnItem = item) -> bool:
            if number % 2:
                return drivers[number].renew(item.lease)[0] is Outcome.OK
            return bool(drivers[number].claim())

        wins = at_once(race)
        assert any(wins[0::2]) != any(wins[1::2])
        drivers[0].purge(item.instance, force=True)


def test_no_wake_up_is_lost(drivers: list[Driver]) -> None:
    driver, total = drivers[0], 300
    driver.started()
    sent = threading.Event()

    def send(number: int) -> None:
        for index in range(total):
            drivers[number].send(f"m{number}-{index}")

    def work(number: int) -> list[str]:
        got: list[str] = []
        while True:
            finished = sent.is_set()
            items = drivers[number].claim()
            for item in items:
                got += ids_of(item.messages)
                assert drivers[number].commit(item) is Outcome.OK
            if finished and not items:
                return got

    senders = [threading.Thread(target=send, args=(number,)) for number in (1, 2)]
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(work, 0)
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        sent.set()
        got = worker.result(60)
    assert len(got) == len(set(got)) == 2 * total
    for number in (1, 2):
        assert [name for name in got if name.startswith(f"m{number}-")] == [f"m{number}-{x}" for x in range(total)]


def test_fan_out_and_fan_in_lose_and_double_nothing(drivers: list[Driver]) -> None:
    instances, width = 20, 10
    drivers[0].create(*(f"i{number}" for number in range(instances)))
    finished = threading.Event()
    seen: dict[str, list[str]] = {f"i{number}": [] for number in range(instances)}

    def turn(driver: Driver, item: TurnItem) -> None:
        results = [name for name in ids_of(item.messages) if name != "@start"]
        seen[item.instance] += results
        scheduled = [activity(f"t{number}") for number in range(width)] if item.next_seq == 0 else []
        ends = len(seen[item.instance]) == width
        fields = {"status": COMPLETED} if ends else {}
        assert driver.commit(item, events=[b"e"], activities=scheduled, **fields) is Outcome.OK

    def run(number: int) -> None:
        driver = drivers[number]
        while not finished.is_set():
            for item in driver.claim(max_items=2):
                turn(driver, item)
            work = driver.claim_work(max_items=5)
            done = [ActivityDone(lease=w.lease, message=message(w.id, w.instance)) for w in work]
            assert set(driver.hub.complete_activities(done)) <= {Outcome.OK}
            if len(driver.find(statuses=[COMPLETED])) == instances:
                finished.set()

    at_once(run, 4)
    assert all(sorted(got) == sorted(f"t{number}" for number in range(width)) for got in seen.values())


def test_commits_that_message_each_other_do_not_deadlock(drivers: list[Driver]) -> None:
    drivers[0].create("a", "b")
    items = {item.instance: item for item in drivers[0].claim()}

    def run(number: int) -> list[Outcome]:
        own, other = ("a", "b") if number % 2 else ("b", "a")
        return drivers[number].hub.commit_turns(
            [turn_commit(items[own], messages=[message(f"from-{own}", other)], keep_ms=LEASE_MS)]
        )

    outcomes = at_once(run)
    assert all(outcome == [Outcome.OK] for outcome in outcomes)
    drivers[0].wait(LEASE_MS)
    assert {item.instance: ids_of(item.messages) for item in drivers[0].claim()} == {"a": ["from-b"], "b": ["from-a"]}


def test_readers_see_whole_commits_only(drivers: list[Driver]) -> None:
    driver = drivers[0]
    driver.create()
    item = driver.claim_one()
    done = threading.Event()

    def read(number: int) -> int:
        looks = 0
        while not done.is_set() or not looks:
            info = drivers[number].get()
            page = drivers[number].hub.read_history("a", limit=10_000)
            assert info.next_seq % 3 == 0
            assert len(page.events) % 3 == 0
            assert len(page.events) >= info.next_seq
            assert info.custom_status == (b"%d" % info.next_seq if info.next_seq else None)
            looks += 1
        return looks

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, number) for number in (1, 2, 3)]
        for number in range(1, 101):
            item.next_seq = 3 * (number - 1)
            fields = {"consumed": [], "keep_ms": LEASE_MS, "custom_status": b"%d" % (3 * number)}
            assert driver.commit(item, events=[b"e"] * 3, **fields) is Outcome.OK
        done.set()
        assert all(reader.result(60) for reader in readers)


def test_purge_and_claim_leave_no_half_instance(drivers: list[Driver]) -> None:
    for _ in range(5):
        names = [fresh("i") for _ in range(10)]
        drivers[0].create(*names)

        def run(number: int, names: list[str] = names) -> list[TurnItem]:
            if number % 2:
                drivers[number].purge(*names, force=True)
                return []
            return drivers[number].claim()

        items = [item for claimed in at_once(run) for item in claimed]
        assert drivers[0].hub.query_instances(InstanceQuery()).items == []
        assert all(drivers[0].commit(item) is Outcome.LOST for item in items)


def test_closing_ends_calls_in_flight(provider: Provider, driver: Driver) -> None:
    driver.create()
    started = threading.Barrier(3)

    def run() -> str:
        started.wait(10)
        try:
            while True:
                driver.find()
                driver.hub.create_instances([new_instance(fresh("i"))])
        except Closed:
            return "closed"

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(run) for _ in range(2)]
        started.wait(10)
        provider.close()
        assert [call.result(30) for call in calls] == ["closed", "closed"]

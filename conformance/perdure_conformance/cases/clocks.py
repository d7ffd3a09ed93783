"""CLK: the clock, and what it may do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from perdure.spi import (
    ClaimActivities,
    ClaimTurns,
    Exchange,
    ManualClock,
    Millis,
    Outcome,
    SystemClock,
)
from perdure_conformance.bench import START, Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import (
    COMPLETED,
    LEASE_MS,
    Driver,
    activity,
    check_next_due,
    ids_of,
    message,
    new_instance,
)

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

MOMENTS: Final = {
    "0": 0,
    "1": 1,
    "2**31 - 1 ms": 2**31 - 1,
    "2**31 ms": 2**31,
    "2**31 + 1 ms": 2**31 + 1,
    "2**31 s": 2**31 * 1000,
    "year 9999": 253_370_764_800_000,
}


class ClockCases:
    """Cases CLK."""

    @case("CLOCK", "I2", variants=("past", "future"))
    def test_clk_01_the_injected_clock_is_the_only_one(self, bench: Bench) -> None:
        """With an injected clock all times come from it: while it stands still nothing expires and nothing becomes due,
        and when it says so everything does, whatever the real time is."""
        if bench.variant == "future":
            bench.clock.set(START + 100_000 * DAY_MS)
        now = bench.clock.now()
        hub = bench.hub
        bench.started(
            "a", messages=[message("timer", due=now + 1)], activities=[activity(), activity("t2", due=now + 1)]
        )
        bench.create("b", "c", "start")
        items = bench.claim_each("b", "c", "start", lease_ms=1)
        assert bench.release(items["c"].lease, delay_ms=1) is Outcome.OK
        assert bench.commit(items["start"], consumed=[], keep_ms=1) is Outcome.OK
        bench.hub.create_instances([new_instance("d", due=now + 1)])
        work = bench.claim_one_work(lease_ms=1)
        bench.ended("e")
        # Leases and timers of 1 ms are long over by any other clock.
        time.sleep(0.01)
        bench.hub.pump()
        for _ in range(2):
            check_next_due(bench.claim_batch(), now + 1)
            check_next_due(bench.claim_work_batch(), now + 1)
        claims: dict[str, Any] = {"worker": "w", "max_items": 10, "lease_ms": LEASE_MS}
        result = hub.exchange(Exchange(claim_turns=ClaimTurns(**claims), claim_activities=ClaimActivities(**claims)))
        assert result.turns is not None
        assert result.activities is not None
        assert (list(result.turns.items), list(result.activities.items)) == ([], [])
        assert [result.now, result.turns.now, result.activities.now, hub.now(), hub.stats().now] == [now] * 5
        ended = bench.get("e")
        assert (ended.created_at, ended.updated_at, ended.completed_at) == (now, now, now)
        stats = hub.stats()
        assert (stats.turns.leased, stats.turns.future, stats.activities.leased) == (2, 3, 1)

        bench.wait(1)
        claimed = bench.claim_each("a", "b", "c", "d", "start")
        assert {item.lease.expires_at for item in claimed.values()} == {now + 1 + LEASE_MS}
        assert [(one.enqueued_at, one.due) for one in claimed["c"].messages] == [(now, now)]
        again = bench.claim_work()
        assert sorted(ids_of(again)) == ["t", "t2"]
        assert bench.complete(work) is Outcome.LOST
        assert bench.commit(claimed["a"], keep_ms=7) is Outcome.OK
        assert bench.get("a").updated_at == now + 1
        outcome, renewed = bench.renew(claimed["b"].lease, 2 * LEASE_MS)
        assert outcome is Outcome.OK
        assert renewed is not None
        assert renewed.expires_at == now + 1 + 2 * LEASE_MS
        bench.send("m")
        check_next_due(bench.claim_batch(), now + 8)
        bench.wait(7)
        item = bench.claim_one()
        assert [(one.enqueued_at, one.due) for one in item.messages] == [(now + 1, now + 1)]
        # What is remembered of it is remembered by this clock too.
        assert bench.commit(item) is Outcome.OK
        hub.pump()
        assert bench.send("m") == [Outcome.DUPLICATE]

    @case("CLOCK", "I14")
    def test_clk_02_a_jump_forward_loses_nothing(self, bench: Bench) -> None:
        """When the clock jumps ahead by a day, leases expire and everything due comes, once and in order."""
        now = bench.clock.now()
        timers = [message("late", due=now + 2 * HOUR_MS), message("early", due=now + HOUR_MS)]
        bench.started("a", messages=timers, activities=[activity("t1"), activity("t2", due=now + HOUR_MS)])
        bench.create("start", due=now + HOUR_MS)
        bench.create("leased")
        leased, work = bench.claim_one(), bench.claim_one_work()
        bench.wait(DAY_MS)
        # Overdue as they are, they are still whose they were.
        assert bench.renew(leased.lease)[0] is Outcome.OK
        items = {item.instance: item for item in bench.claim()}
        assert {instance: ids_of(item.messages) for instance, item in items.items()} == {
            "a": ["early", "late"],
            "start": ["@start"],
        }
        assert {task.id: task.attempt for task in bench.claim_work()} == {"t1": 2, "t2": 1}
        assert bench.complete(work) is Outcome.LOST
        assert bench.claim() == []
        for item in (*items.values(), leased):
            assert bench.commit(item) is Outcome.OK
        assert bench.get("a").updated_at == now + DAY_MS
        bench.wait(DAY_MS)
        assert bench.claim() == []

    @case("CLOCK", "I18", "I1")
    def test_clk_03_a_jump_back_breaks_nothing(self, bench: Bench) -> None:
        """When the clock jumps back by an hour, leases stay exclusive and good, `rev` grows, `updated_at` doesn't go
        back, nothing fires twice, and no message overtakes another."""
        now = bench.clock.now()
        bench.started("a", messages=[message("timer", due=now + 10)], activities=[activity()])
        bench.create("b", "c")
        other = bench.claim_each("b", "c")
        bench.wait(10)
        item, work = bench.claim_one(), bench.claim_one_work()
        assert ids_of(item.messages) == ["timer"]
        bench.send("before")
        before = bench.get()

        bench.wait(-HOUR_MS)
        assert bench.claim() == []
        assert bench.claim_work() == []
        bench.send("after")
        # No lease is shortened by a renewal that would end before it did.
        for lease in (work.lease, other["b"].lease):
            outcome, renewed = bench.renew(lease)
            assert outcome is Outcome.OK
            assert renewed is not None
            assert renewed.expires_at == lease.expires_at
        assert bench.commit(item, events=[b"1"], custom_status=b"s") is Outcome.OK
        after = bench.get()
        assert after.rev > before.rev
        assert after.status_rev == after.rev
        assert after.updated_at >= before.updated_at
        assert bench.commit(other["b"], status=COMPLETED) is Outcome.OK
        ended = bench.get("b")
        assert ended.completed_at == ended.updated_at
        assert ended.updated_at >= now
        assert bench.release(other["c"].lease, delay_ms=MINUTE_MS) is Outcome.OK
        assert bench.complete(work, message("result")) is Outcome.OK
        # Order is kept, at the price of waiting until the clock has caught up.
        check_next_due(bench.claim_batch(names=["flow"]), now + 10)

        bench.wait(2 * HOUR_MS)
        items = {item.instance: item for item in bench.claim()}
        assert {instance: ids_of(item.messages) for instance, item in items.items()} == {
            "a": ["before", "after", "result"],
            "c": ["@start"],
        }
        assert (items["a"].attempt, items["c"].attempt) == (1, 2)
        for claimed in items.values():
            assert bench.commit(claimed) is Outcome.OK
        assert bench.get().updated_at == bench.clock.now()
        # Neither does the message that reopens an instance take it back.
        ended = bench.get("b")
        bench.clock.set(now - HOUR_MS)
        assert bench.send("again", instance="b", reopen=frozenset({COMPLETED})) == [Outcome.OK]
        assert bench.get("b").updated_at >= ended.updated_at
        bench.clock.set(now + 2 * HOUR_MS)
        assert bench.commit(bench.claim_one(names=["flow"])) is Outcome.OK
        assert bench.claim_work() == []
        bench.wait(LEASE_MS)
        assert bench.claim() == []

    @case("CLOCK", "I1", level=Level.L2)
    def test_clk_04_handles_with_skewed_clocks_exclude_each_other(self, bench: Bench) -> None:
        """Handles whose clocks differ by 5 minutes never both succeed with one item, and none waits for longer than the
        lease and the difference."""
        ahead, behind = (ManualClock(bench.clock.now() + minutes * MINUTE_MS) for minutes in (5, -5))
        first, second = bench.another_handle(clock=ahead), bench.another_handle(clock=behind)
        if first is None or second is None:
            # Each handle is a store of its own: there is nothing to exclude.
            bench.control()
            return
        fast = Driver(bench.on(first).hub, ahead)
        slow = Driver(bench.on(second).hub, behind)
        start = bench.clock.now()
        for instance in ("a", "b"):
            bench.started(instance, activities=[activity()])
        bench.hub.send_messages([message(instance=instance) for instance in ("a", "b")])

        # For the fast one these leases have expired long ago.
        robbed, robbed_work = bench.claim_each("a", "b"), bench.claim_each_work("a", "b")
        stolen, stolen_work = fast.claim_each("a", "b"), fast.claim_each_work("a", "b")
        for instance in ("a", "b"):
            assert bench.commit(robbed[instance], events=[b"robbed"]) is Outcome.LOST
            assert bench.complete(robbed_work[instance], message("robbed", instance)) is Outcome.LOST
            for lease in (robbed[instance].lease, robbed_work[instance].lease):
                assert bench.renew(lease) == (Outcome.LOST, None)
        for driver in (slow, bench, fast):
            assert driver.claim() == []
            assert driver.claim_work() == []
        assert fast.commit(stolen["a"], events=[b"fast"]) is Outcome.OK
        assert fast.history("a") == [b"fast"]
        assert fast.complete(stolen_work["a"]) is Outcome.OK

        # What the fast one leased and left, others get when their own clocks say so.
        bench.wait(5 * MINUTE_MS + LEASE_MS - 1)
        assert bench.claim() == []
        assert bench.claim_work() == []
        behind.set(start + 5 * MINUTE_MS + LEASE_MS)
        item, work = slow.claim_one(), slow.claim_one_work()
        assert (item.instance, item.attempt, ids_of(item.messages)) == ("b", 3, ["m"])
        assert (work.instance, work.attempt) == ("b", 3)
        assert fast.commit(stolen["b"], events=[b"fast"]) is Outcome.LOST
        assert fast.complete(stolen_work["b"], message("fast", "b")) is Outcome.LOST
        assert slow.commit(item, events=[b"slow"]) is Outcome.OK
        assert slow.complete(work) is Outcome.OK

        # Messages keep the order in which they were sent, and are read by all within the difference.
        bench.clock.set(start)
        behind.set(start - 5 * MINUTE_MS)
        for driver, name in ((fast, "1"), (slow, "2"), (bench, "3")):
            assert driver.send(name) == [Outcome.OK]
        bench.wait(5 * MINUTE_MS)
        behind.advance(10 * MINUTE_MS)
        assert ids_of(slow.claim_one().messages) == ["1", "2", "3"]
        assert bench.claim() == []

    @case("CLOCK", "I2", requires=("server_clock",))
    def test_clk_05_the_clock_of_the_clients_machine_does_not_matter(self, bench: Bench) -> None:
        """A provider that declares `server_clock` reads no clock of its own machine: moved by a day it makes no lease
        expire and no timer fire, and holds none back."""
        driver = bench.new_hub_in_real_time()
        real = driver.hub.now()
        driver.started("a", activities=[activity()])
        driver.create("b")
        driver.send("timer", due=real + HOUR_MS)
        leased, work = driver.claim_one(lease_ms=HOUR_MS), driver.claim_one_work(lease_ms=HOUR_MS)
        for by in (DAY_MS, -DAY_MS):
            with _wall_clock_moved(by):
                assert abs(driver.hub.now() - real) < HOUR_MS / 2
                assert driver.claim() == []
                assert driver.claim_work() == []
                fresh = f"moved by {by}"
                assert driver.create(fresh) == [Outcome.OK]
                item = driver.claim_one(lease_ms=HOUR_MS)
                assert item.instance == fresh
                assert abs(item.lease.expires_at - real - HOUR_MS) < HOUR_MS / 2
                assert abs(driver.get(fresh).created_at - real) < HOUR_MS / 2
                outcome, renewed = driver.renew(leased.lease, HOUR_MS)
                assert outcome is Outcome.OK
                assert renewed is not None
                assert abs(renewed.expires_at - real - HOUR_MS) < HOUR_MS / 2
                assert driver.send("now", instance=fresh) == [Outcome.OK]
                assert driver.commit(item) is Outcome.OK
                assert ids_of(driver.turn().messages) == ["now"]
        assert driver.commit(leased) is Outcome.OK
        assert driver.complete(work) is Outcome.OK

    @case("I8", "CLOCK")
    def test_clk_06_what_comes_at_one_moment_keeps_its_order(self, bench: Bench) -> None:
        """Whatever happens in one millisecond keeps the order in which it happened: messages from everywhere,
        activities, history, `rev`."""
        first = bench.started("a", keep_ms=LEASE_MS, activities=[activity(f"t{number}") for number in range(5)])
        bench.started("b", activities=[activity("b")])
        expected = []
        for number in range(5):
            bench.send(f"s{number}", f"s{number}b")
            bench.send(f"go{number}", instance="b")
            assert (
                bench.commit(bench.claim_one(), messages=[message(f"c{number}"), message(f"c{number}b")]) is Outcome.OK
            )
            task = bench.claim_one_work(max_items=1)
            assert task.id == f"t{number}"
            assert bench.complete(task, message(f"r{number}")) is Outcome.OK
            bench.send(f"z{number}")
            expected += [f"s{number}", f"s{number}b", f"c{number}", f"c{number}b", f"r{number}", f"z{number}"]
        item = bench.claim_one(held=[first.lease])
        assert ids_of(item.messages) == expected
        revs = [bench.get().rev]
        for number in range(20):
            status = b"%d" % number
            tasks = [activity(f"x{number}")]
            outcome = bench.commit(item, events=[status], custom_status=status, activities=tasks, keep_ms=LEASE_MS)
            assert outcome is Outcome.OK
            item = replace(item, next_seq=number + 1)
            info = bench.get()
            assert (info.custom_status, info.status_rev) == (status, info.rev)
            revs.append(info.rev)
        assert revs == sorted(set(revs))
        assert bench.history() == [b"%d" % number for number in range(20)]
        assert ids_of(bench.claim_work()) == ["b", *(f"x{number}" for number in range(20))]

    @case("CLOCK", "I2", variants=tuple(MOMENTS))
    def test_clk_07_any_time_will_do(self, bench: Bench) -> None:
        """A clock that stands at 0, at the limit of 32 bits, or in the year 9999 is a clock like any other."""
        now = MOMENTS[bench.variant]
        bench.clock.set(now)
        bench.create("a", "b")
        info = bench.get()
        assert (info.created_at, info.updated_at, info.completed_at) == (now, now, None)
        items = bench.claim_each("a", "b")
        assert {item.lease.expires_at for item in items.values()} == {now + LEASE_MS}
        assert [(one.due, one.enqueued_at) for one in items["a"].messages] == [(now, now)]
        check_next_due(bench.claim_batch(), now + LEASE_MS)
        timer = message("timer", due=now + 5)
        assert bench.commit(items["a"], messages=[timer], activities=[activity()]) is Outcome.OK
        assert bench.commit(items["b"], status=COMPLETED, output=b"") is Outcome.OK
        ended = bench.get("b")
        assert (ended.completed_at, ended.updated_at) == (now, now)
        assert bench.find(completed_from=now, completed_to=now + 1) == ["b"]
        task = bench.claim_one_work()
        assert bench.release(task.lease, delay_ms=5) is Outcome.OK
        bench.send("m")
        assert bench.hub.stats().turns.oldest_ready_age_ms == 0
        assert ids_of(bench.turn().messages) == ["m"]
        bench.wait(4)
        check_next_due(bench.claim_batch(), now + 5)
        check_next_due(bench.claim_work_batch(), now + 5)
        bench.wait(1)
        assert ids_of(bench.claim_one().messages) == ["timer"]
        assert bench.claim_one_work().attempt == 2
        bench.wait(LEASE_MS)
        assert bench.claim_one().attempt == 2

    @case("CLOCK")
    def test_clk_08_without_an_injected_clock_time_is_real(self, bench: Bench) -> None:
        """Without an injected clock the hub's time is the real one, in milliseconds since the epoch, for everything."""
        driver = bench.new_hub_in_real_time()
        before = driver.hub.now()
        # A server's clock may be wrong, but is no other kind of number.
        assert abs(before - time.time() * 1000) < DAY_MS
        driver.started("a", activities=[activity()])
        driver.send("timer", due=before + DAY_MS)
        driver.create("b")
        batch, work = driver.claim_batch(), driver.claim_work_batch()
        info = driver.get("a")
        assert len(batch.items) == len(work.items) == 1
        item, task = batch.items[0], work.items[0]
        assert ids_of(item.messages) == ["@start"]
        delivery = item.messages[0]
        after = driver.hub.now()
        for moment in (batch.now, work.now, info.created_at, info.updated_at, delivery.enqueued_at, delivery.due):
            assert before <= moment <= after
        for lease in (item.lease, task.lease):
            assert before + LEASE_MS <= lease.expires_at <= after + LEASE_MS
        time.sleep(0.005)
        assert driver.hub.now() > before
        assert driver.claim() == []
        assert driver.commit(item) is Outcome.OK


@contextmanager
def _wall_clock_moved(by: Millis) -> Iterator[None]:
    """Move what this process takes for the time of day. Its monotonic clock stays as it is."""
    real_ns = time.time_ns

    def moved_ns() -> int:
        return real_ns() + by * 1_000_000

    with (
        patch.object(time, "time_ns", moved_ns),
        patch.object(time, "time", lambda: moved_ns() / 1e9),
        patch.object(SystemClock, "now", lambda _: moved_ns() // 1_000_000),
    ):
        yield

"""CRA: what dies with its leases."""

from __future__ import annotations

from typing import Final

from perdure.spi import InstanceQuery, Outcome
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import LEASE_MS, activity, ids_of, message, turn_commit

_OK: Final = Outcome.OK


class CrashCases:
    """Cases CRA."""

    @case("I20", "I2", "I14")
    def test_cra_13_what_a_dead_worker_held_is_claimable_again(self, bench: Bench) -> None:
        """A worker dies holding 100 instances and 100 activities: when its leases expire others get them all."""
        names = [f"i{number}" for number in range(100)]
        work = [f"t{number}" for number in range(100)]
        bench.started("a", activities=[activity(name) for name in work])
        bench.create(*names)
        turns = bench.claim(max_items=100, worker="dead")
        activities = bench.claim_work(max_items=100, worker="dead")
        assert {item.instance for item in turns} == set(names)
        assert {item.id for item in activities} == set(work)
        bench.wait(LEASE_MS - 1)
        assert (bench.claim(), bench.claim_work()) == ([], [])
        assert (bench.claim_batch().next_due, bench.claim_work_batch().next_due) == (bench.clock.now() + 1,) * 2
        bench.wait(1)
        again, work_again = bench.claim(max_items=100), bench.claim_work(max_items=100)
        assert {(item.instance, item.attempt) for item in again} == {(name, 2) for name in names}
        assert {(item.id, item.attempt) for item in work_again} == {(name, 2) for name in work}
        assert all(ids_of(item.messages) == ["@start"] for item in again)
        # What comes late from the dead is LOST.
        lost = [Outcome.LOST] * 100
        assert bench.hub.commit_turns([turn_commit(item, events=[b"late"]) for item in turns]) == lost
        assert [bench.complete(item, message("late")) for item in activities] == lost
        assert bench.hub.commit_turns([turn_commit(item, events=[b"e"]) for item in again]) == [_OK] * 100
        assert [bench.complete(item) for item in work_again] == [_OK] * 100
        assert bench.history("i0") == [b"e"]
        assert (bench.claim(), bench.claim_work()) == ([], [])

    @case("I20", "I4", level=Level.L1, requires=("durable",))
    def test_cra_17_a_reopening_changes_nothing(self, bench: Bench) -> None:
        """After a clean close everything is as it was: leases, timers, attempts, cursors, remembered ids."""
        now = bench.clock.now()
        bench.create("b", tags={"k": "v"}, input=b"in", version="1", parent="p")
        bench.create("c")
        bench.started(
            "a",
            events=[b"e0", b"", b"e2"],
            custom_status=b"",
            memo=b"memo",
            messages=[message("timer", due=now + 2 * LEASE_MS)],
            activities=[activity("t"), activity("u", due=now + 2 * LEASE_MS), activity("v")],
        )
        bench.ended("d", output=b"out")
        bench.send("m")
        items = {item.instance: item for item in bench.claim(max_messages=1)}
        assert items.keys() == {"a", "b", "c"}
        repeated = turn_commit(items["c"], events=[b"c"], keep_ms=LEASE_MS)
        assert bench.hub.commit_turns([repeated]) == [_OK]
        assert bench.release(items["b"].lease, delay_ms=3 * LEASE_MS, penalize=False) is _OK
        work = {item.id: item for item in bench.claim_work()}
        assert bench.release(work["v"].lease, delay_ms=3 * LEASE_MS) is _OK
        bench.send("late")
        page = bench.hub.query_instances(InstanceQuery(page_size=2))
        rest = bench.find(cursor=page.cursor)
        before = bench.snapshot("a", "b", "c", "d")
        bench.reopen()
        assert bench.snapshot("a", "b", "c", "d") == before
        assert bench.find(cursor=page.cursor) == rest
        if bench.capabilities.tag_query:
            assert bench.find(tags={"k": "v"}) == ["b"]
        # Neither does a clock that jumped back meanwhile put the next message before others.
        bench.wait(-1000)
        assert bench.send("after") == [Outcome.OK]
        bench.wait(1000)
        assert (bench.claim(), bench.claim_work()) == ([], [])
        # Ids that are pending or repeated are known as before.
        assert bench.send("m", "late") == [Outcome.DUPLICATE] * 2
        assert bench.hub.commit_turns([repeated]) == [Outcome.ALREADY]
        assert bench.renew(work["t"].lease)[0] is _OK
        # What came after the claim stays, also if a commit that was made after the reopening consumes it.
        assert bench.commit(items["a"], events=[b"e3"], consumed=["m", "late"]) is _OK
        assert bench.history() == [b"e0", b"", b"e2", b"e3"]
        bench.reopen()
        assert bench.send("m") == [Outcome.DUPLICATE]
        item = bench.claim_one(max_messages=1)
        assert (item.instance, ids_of(item.messages), item.attempt) == ("a", ["late"], 1)
        assert item.lease.fence > items["a"].lease.fence
        assert (item.custom_status, item.memo) == (b"", b"memo")
        bench.reopen()
        bench.wait(LEASE_MS)
        assert [(item.instance, item.attempt) for item in bench.claim()] == [("a", 2)]
        (again,) = bench.claim_work()
        assert (again.id, again.attempt, again.lease.fence > work["t"].lease.fence) == ("t", 2, True)
        bench.reopen()
        bench.wait(LEASE_MS)
        item = bench.claim_one()
        assert (item.instance, ids_of(item.messages)) == ("a", ["late", "after", "timer"])
        # A timer was put into the inbox long before it was due.
        assert item.messages[-1].enqueued_at == now
        assert {item.id: item.attempt for item in bench.claim_work()} == {"t": 3, "u": 1}
        bench.wait(LEASE_MS)
        turns = {item.instance: (ids_of(item.messages), item.attempt) for item in bench.claim()}
        assert turns == {"a": (["late", "after", "timer"], 4), "b": (["@start"], 1)}
        assert {item.id: item.attempt for item in bench.claim_work()} == {"t": 4, "u": 2, "v": 2}

"""LSE: who may work on an item, and for how long."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast

import pytest

from perdure.spi import (
    Activity,
    ActivityBatch,
    ActivityDone,
    Hub,
    InvalidRequest,
    Lease,
    LeaseKind,
    NextExecution,
    Outcome,
    PurgeRequest,
    Release,
    TurnBatch,
    TurnItem,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import (
    COMPLETED,
    LEASE_MS,
    RUNNING,
    ByExchange,
    Driver,
    activity,
    check_next_due,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
    turn_commit,
)

DAY_MS: Final = 86_400_000

TURNS: Final = ("turn", "turn-exchange")
ITEMS: Final = ("turn", "activity", "turn-exchange", "activity-exchange")
"""Variants: a lease on either kind of item, each hot call made by its own method or by `exchange`."""


class Items:
    """Items of one kind, so that a case tries turns and activities alike. Each instance has one, ready to be claimed.

    Args:
        bench: that of the case; its variant is one of `ITEMS`.
        driver: of the hub, if it is another than the bench's.
    """

    def __init__(self, bench: Bench, driver: Driver | None = None) -> None:
        kind, _, way = bench.variant.partition("-")
        self.kind = LeaseKind(kind)
        self.is_turn = self.kind is LeaseKind.TURN
        self.driver = driver or bench
        if way:
            self.driver.hub = cast("Hub", ByExchange(self.driver.hub))

    def add(self, *instances: str) -> None:
        """Make instances that have a history, a status, an activity that is never claimed, and an item."""
        instances = instances or ("a",)
        for instance in instances:
            activities = [activity("aside", queue="aside")] + ([] if self.is_turn else [activity()])
            self.driver.started(instance, events=[b"0"], custom_status=b"status", activities=activities)
        if self.is_turn:
            self.driver.hub.send_messages([message(instance=instance) for instance in instances])

    def claim_batch(self, **fields: Any) -> TurnBatch | ActivityBatch:
        return self.driver.claim_batch(**fields) if self.is_turn else self.driver.claim_work_batch(**fields)

    def claim(self, **fields: Any) -> list[TurnItem | Activity]:
        return list(self.claim_batch(**fields).items)

    def claim_one(self, **fields: Any) -> TurnItem | Activity:
        items = self.claim(**fields)
        assert len(items) == 1
        return items[0]

    def claim_of(self, *instances: str) -> dict[str, TurnItem | Activity]:
        """Claim all there is, of these instances among others."""
        found = {item.instance: item for item in self.claim()}
        assert [instance for instance in instances if instance not in found] == []
        return found

    def finish(self, item: TurnItem | Activity, what: str = "done") -> Outcome:
        """Commit the turn, or complete the activity, with effects on `a` and `b` that would be seen."""
        if isinstance(item, TurnItem):
            return self.driver.commit(
                item,
                events=[what.encode()],
                custom_status=what.encode(),
                activities=[activity(what)],
                messages=[message(what, "a"), message(what, "b")],
                starts=[new_instance(f"child {what}")],
            )
        return self.driver.complete(item, message(what, item.instance))

    def check_good(self, item: TurnItem | Activity) -> None:
        """Check that the lease is the current one: by ending it, with all its effects."""
        before = self.driver.history(item.instance)
        assert self.finish(item) is Outcome.OK
        if self.is_turn:
            assert self.driver.history(item.instance) == [*before, b"done"]
            assert self.driver.get(item.instance).custom_status == b"done"
        else:
            delivered = ids_by_instance(self.driver.claim())
            assert delivered == {item.instance: ["done"]}

    def check_dead(self, item: TurnItem | Activity) -> None:
        """Check that nothing can be done with the lease. That nothing changes is the caller's to check."""
        assert self.finish(item, "stale") is Outcome.LOST
        outcome, lease = self.driver.renew(item.lease, 10 * LEASE_MS)
        assert (outcome, lease) == (Outcome.LOST, None)
        assert self.driver.release(item.lease) is Outcome.LOST
        assert self.driver.release(item.lease, delay_ms=10 * LEASE_MS, penalize=False) is Outcome.LOST


class LeaseCases:
    """Cases LSE."""

    @case("I2", "I1", "I9", variants=ITEMS)
    def test_lse_01_a_leased_item_is_nobody_elses(self, bench: Bench) -> None:
        """A claimed turn or activity is returned to nobody while its lease runs, whatever arrives meanwhile."""
        items = Items(bench)
        bench.started("b")
        items.add("a")
        batch = items.claim_batch()
        assert len(batch.items) == 1
        item = batch.items[0]
        assert batch.now == bench.clock.now()
        assert item.lease.kind is items.kind
        assert item.lease.expires_at == bench.clock.now() + LEASE_MS

        def check_taken() -> None:
            for worker in ("w", "other"):
                check_next_due(items.claim_batch(worker=worker), item.lease.expires_at)
            if items.is_turn:
                assert bench.claim(names=["flow"]) == []
                # Such a claim asks for control messages alone.
                assert bench.claim(names=[]) == []
            else:
                assert bench.claim_work(names=["work"], queues=["other", "default"]) == []

        check_taken()
        if items.is_turn:
            assert bench.send("plain", "other") == [Outcome.OK, Outcome.OK]
            assert bench.send("past", due=1) == [Outcome.OK]
            check_taken()
            assert bench.send("stop", control=True) == [Outcome.OK]
            check_taken()
            work = bench.claim_one_work(queues=["aside"])
            assert bench.complete(work, message("result")) is Outcome.OK
            bench.send("go", instance="b")
            child = new_instance("a", on_conflict=message("conflict"))
            assert bench.commit(bench.claim_one(), messages=[message("hello")], starts=[child]) is Outcome.OK
        else:
            # The same activity scheduled again is the same activity, and stays leased.
            bench.send()
            bench.turn(activities=[activity("t", payload=b"again")])
        check_taken()
        bench.hub.stats()
        bench.hub.pump()
        bench.get()
        check_taken()
        bench.wait(LEASE_MS - 1)
        check_taken()
        items.check_good(item)
        if items.is_turn:
            arrived = ids_by_instance(bench.claim(names=["flow"])).get("a")
            assert arrived == ["past", "plain", "other", "stop", "result", "conflict", "hello", "done"]

    @case("I2", variants=ITEMS)
    def test_lse_02_a_lease_ends_at_its_expiry_and_not_before(self, bench: Bench) -> None:
        """An item can't be claimed 1 ms before its lease expires, and can when it does, each item at its own time."""
        items = Items(bench)
        items.add("a", "b")
        first = items.claim_one(max_items=1)
        bench.wait(1)
        second = items.claim_one(max_items=1)
        assert {first.instance, second.instance} == {"a", "b"}
        if items.is_turn:
            bench.send("stop", instance=first.instance, control=True)
        bench.wait(LEASE_MS - 2)
        check_next_due(items.claim_batch(), first.lease.expires_at)
        if items.is_turn:
            check_next_due(bench.claim_batch(names=[]), first.lease.expires_at)
        bench.wait(1)
        # By its control message alone, where there is one.
        again = items.claim_one(names=[] if items.is_turn else None)
        assert (again.instance, again.attempt) == (first.instance, 2)
        assert items.claim() == []
        bench.wait(1)
        last = items.claim_one()
        assert (last.instance, last.attempt) == (second.instance, 2)
        if isinstance(last, TurnItem):
            assert ids_of(last.messages) == ["m"]

    @case("I1", variants=ITEMS)
    def test_lse_03_each_claim_has_a_fresh_token_and_a_larger_fence(self, bench: Bench) -> None:
        """Whoever claims an item after somebody else gets another token and a strictly larger fence."""
        items = Items(bench)
        items.add("a")
        seen = [items.claim_one()]
        for _ in range(2):
            bench.wait(LEASE_MS)
            seen.append(items.claim_one(worker="w"))
        assert bench.release(seen[-1].lease) is Outcome.OK
        seen.append(items.claim_one())
        assert bench.release(seen[-1].lease, delay_ms=5, penalize=False) is Outcome.OK
        bench.wait(5)
        seen.append(items.claim_one())
        if items.is_turn:
            item = cast("TurnItem", seen[-1])
            assert bench.commit(item, consumed=[]) is Outcome.OK
            seen.append(items.claim_one())
            item = cast("TurnItem", seen[-1])
            assert bench.commit(item, continued=NextExecution(events=[b"n"]), consumed=[]) is Outcome.OK
            seen.append(items.claim_one())
        tokens = [item.lease.token for item in seen]
        assert {type(token) for token in tokens} == {str}
        # 128 random bits are no shorter in any spelling.
        assert min(map(len, tokens)) >= 16
        assert len(set(tokens)) == len(tokens)
        fences = [item.lease.fence for item in seen]
        assert fences == sorted(set(fences))
        items.check_good(seen[-1])

    @case("I3", "I1", variants=ITEMS)
    def test_lse_04_the_robbed_are_lost_even_under_the_same_worker_name(self, bench: Bench) -> None:
        """A lease that somebody else has taken since is LOST for every use, also if both gave the same worker name."""
        items = Items(bench)
        items.add("a", "b")
        robbed = items.claim_of("a", "b")
        bench.wait(LEASE_MS)
        thieves = items.claim_of("a", "b")
        assert set(thieves) == {"a", "b"}
        with bench.unchanged("a", "b"):
            for instance in ("a", "b"):
                items.check_dead(robbed[instance])
            # Nothing but the token proves anything.
            public = replace(thieves["a"].lease, token=robbed["a"].lease.token)
            items.check_dead(replace(robbed["a"], lease=public))
        if items.is_turn:
            assert bench.claim(held=[item.lease for item in robbed.values()]) == []
        bench.wait(LEASE_MS - 1)
        assert items.claim() == []
        items.check_good(thieves["a"])
        items.check_dead(robbed["a"] if items.is_turn else robbed["b"])
        assert bench.renew(thieves["b"].lease)[0] is Outcome.OK

    @case("I3", variants=ITEMS)
    def test_lse_05_the_robbed_are_lost_after_the_thief_is_done(self, bench: Bench) -> None:
        """A lease that was taken stays LOST when the thief has committed, completed or given back what it took."""
        items = Items(bench)
        items.add("a", "b", "c")
        robbed = items.claim_of("a", "b", "c")
        bench.wait(LEASE_MS)
        thieves = items.claim_of("a", "b", "c")
        if items.is_turn:
            # Without an event, so that nothing but the token tells the two commits apart.
            assert bench.commit(cast("TurnItem", thieves["a"])) is Outcome.OK
            assert bench.commit(cast("TurnItem", thieves["b"]), keep_ms=LEASE_MS) is Outcome.OK
        else:
            assert bench.complete(cast("Activity", thieves["a"])) is Outcome.OK
            assert bench.release(thieves["b"].lease, penalize=False) is Outcome.OK
        assert bench.release(thieves["c"].lease) is Outcome.OK
        with bench.unchanged("a", "b", "c"):
            for instance in ("b", "c") if not items.is_turn else ("a", "b", "c"):
                items.check_dead(robbed[instance])
            if not items.is_turn:
                assert items.finish(robbed["a"], "stale") is Outcome.LOST
                assert bench.release(robbed["a"].lease) is Outcome.LOST
                assert bench.renew(robbed["a"].lease)[0] in (Outcome.LOST, Outcome.CANCELLED)
        if items.is_turn:
            assert bench.commit(cast("TurnItem", thieves["b"]), events=[b"b"]) is Outcome.OK
            bench.send("n")
            assert ids_by_instance(bench.claim()) == {"a": ["n"], "c": ["m"]}
        else:
            assert sorted(work.instance for work in bench.claim_work()) == ["b", "c"]

    @case("I3", "I6", variants=TURNS)
    def test_lse_06_a_stale_commit_does_not_touch_the_next_execution(self, bench: Bench) -> None:
        """A stale commit from before continue-as-new is LOST, and the new execution's history stays as it is."""
        items = Items(bench)
        items.add("a", "b")
        robbed = items.claim_of("a", "b")
        bench.wait(LEASE_MS)
        thieves = items.claim_of("a", "b")
        # The new histories are as long as the stale commits expect theirs to be, and then longer.
        for instance, events in (("a", [b"n0"]), ("b", [b"n0", b"n1"])):
            following = NextExecution(events=events, input=b"new", version="2")
            item = cast("TurnItem", thieves[instance])
            assert bench.commit(item, events=[b"1"], continued=following) is Outcome.OK
        bench.send("go")
        with bench.unchanged("a", "b"):
            for stale in (cast("TurnItem", item) for item in robbed.values()):
                for guess in ({}, {"execution": 2}, {"execution": 2, "expected_next_seq": 2}):
                    assert bench.commit(stale, events=[b"x"], output=b"x", **guess) is Outcome.LOST
                assert bench.commit(stale, events=[b"x"], status=COMPLETED) is Outcome.LOST
                assert bench.commit(stale, continued=NextExecution(events=[b"x"])) is Outcome.LOST
                assert bench.commit(stale, events=[b"x"], rewrite=True) is Outcome.LOST
        info = bench.get()
        assert (info.execution, info.next_seq, info.input, info.version) == (2, 1, b"new", "2")
        item = bench.turn(events=[b"n1"])
        assert (item.execution, item.next_seq) == (2, 1)
        assert bench.history("a") == [b"n0", b"n1"]
        assert bench.history("b") == [b"n0", b"n1"]

    @case("I3", variants=ITEMS)
    def test_lse_07_an_expired_lease_that_nobody_took_is_still_good(self, bench: Bench) -> None:
        """Expiry alone ends nothing: as long as nobody took the item, its lease commits, completes and releases."""
        items = Items(bench)
        items.add("a", "b")
        leased = items.claim_of("a", "b")
        bench.wait(10 * LEASE_MS)
        # None of these takes it.
        assert items.claim(names=["nobody"]) == []
        assert items.claim(max_items=0) == []
        assert bench.hub.stats().now == bench.clock.now()
        bench.hub.pump()
        bench.wait(DAY_MS)
        assert bench.release(leased["b"].lease) is Outcome.OK
        items.check_good(leased["a"])
        free = items.claim_of("b")
        assert free["b"].attempt == 2
        assert free["b"].lease.token != leased["b"].lease.token

    @case("I3", variants=ITEMS)
    def test_lse_08_a_released_lease_is_dead(self, bench: Bench) -> None:
        """A lease that was given back is LOST for every use, also while nobody else has the item."""
        items = Items(bench)
        items.add("a", "b")
        for fields in ({}, {"delay_ms": 500}, {"penalize": False}):
            leased = items.claim_of("a", "b")
            for item in leased.values():
                assert bench.release(item.lease, **fields) is Outcome.OK
            with bench.unchanged("a", "b"):
                for item in leased.values():
                    items.check_dead(item)
            if items.is_turn and fields:
                # The holder of nothing has no right to anything hidden.
                held = ids_by_instance(bench.claim(held=[item.lease for item in leased.values()]))
                assert held == ({} if "delay_ms" in fields else {"a": ["m"], "b": ["m"]})
                bench.wait(LEASE_MS)
            bench.wait(500)
        items.check_good(items.claim_of("a")["a"])

    @case("I3", "I5", variants=TURNS)
    def test_lse_09_a_committed_lease_is_dead(self, bench: Bench) -> None:
        """After a commit that keeps nothing, another commit under the same lease is LOST, whatever it expects."""
        items = Items(bench)
        items.add("a", "b")
        leased = {instance: cast("TurnItem", item) for instance, item in items.claim_of("a", "b").items()}
        assert bench.commit(leased["a"], events=[b"1"]) is Outcome.OK
        assert bench.commit(leased["b"], events=[b"1"], keep_ms=LEASE_MS) is Outcome.OK
        again = replace(leased["b"], next_seq=2)
        assert bench.commit(again, events=[b"2"]) is Outcome.OK
        bench.send("n")
        with bench.unchanged("a", "b"):
            for instance, next_seq in (("a", 1), ("a", 2), ("b", 2), ("b", 3)):
                items.check_dead(replace(leased[instance], next_seq=next_seq))
        assert bench.claim(held=[leased["b"].lease], names=["nobody"]) == []
        assert ids_by_instance(bench.claim()) == {"a": ["n"]}

    @case("I3", "I2", variants=ITEMS)
    def test_lse_10_renew_lengthens_from_now_and_never_shortens(self, bench: Bench) -> None:
        """A renewed lease ends at now + for_ms, or when it did before if that is later; token and fence stay."""
        items = Items(bench)
        items.add("a", "b")
        leased = items.claim_of("a", "b")
        bench.wait(LEASE_MS - 1)
        for item in leased.values():
            given = replace(item.lease)
            outcome, renewed = bench.renew(given, 2 * LEASE_MS)
            assert outcome is Outcome.OK
            assert renewed is not None
            # The answer is a record of its own: what was given stays as it was.
            assert given == item.lease
            assert (renewed.kind, renewed.token, renewed.fence) == (items.kind, item.lease.token, item.lease.fence)
            assert renewed.expires_at == bench.clock.now() + 2 * LEASE_MS
            outcome, shorter = bench.renew(renewed, 1)
            assert outcome is Outcome.OK
            assert shorter is not None
            assert (shorter.token, shorter.expires_at) == (renewed.token, renewed.expires_at)
        ends = bench.clock.now() + 2 * LEASE_MS
        for ms in (1, LEASE_MS, LEASE_MS - 2):
            bench.wait(ms)
            check_next_due(items.claim_batch(), ends)
        # The lease as it was claimed is the same lease: who holds it need not know that it was renewed.
        items.check_good(leased["a"])
        bench.wait(1)
        thief = items.claim_of("b")["b"]
        # Renewing is not claiming.
        assert thief.attempt == 2
        assert thief.lease.fence > leased["b"].lease.fence
        assert bench.renew(leased["b"].lease) == (Outcome.LOST, None)

    @case("I3", "I1", variants=ITEMS)
    def test_lse_11_renewing_a_stolen_lease_helps_nobody(self, bench: Bench) -> None:
        """Renewing a lease that was taken is LOST, takes nothing back, and doesn't lengthen the thief's lease."""
        items = Items(bench)
        items.add("a", "b")
        robbed = items.claim_of("a", "b")
        bench.wait(LEASE_MS)
        thieves = items.claim_of("a", "b")
        with bench.unchanged("a", "b"):
            answers = bench.hub.renew([robbed["a"].lease, robbed["b"].lease], 10 * LEASE_MS)
            assert list(answers) == [(Outcome.LOST, None)] * 2
        outcome, renewed = bench.renew(thieves["b"].lease, 1)
        assert outcome is Outcome.OK
        assert renewed is not None
        assert renewed.expires_at == thieves["b"].lease.expires_at
        bench.wait(LEASE_MS - 1)
        check_next_due(items.claim_batch(), thieves["a"].lease.expires_at)
        bench.wait(1)
        assert sorted(item.instance for item in items.claim()) == ["a", "b"]

    @case("I3", "I2", variants=ITEMS)
    def test_lse_12_renew_revives_an_expired_lease_that_nobody_took(self, bench: Bench) -> None:
        """An expired lease that nobody took can be renewed, and is exclusive again from then on."""
        items = Items(bench)
        items.add("a", "b")
        leased = items.claim_of("a", "b")
        for late in (0, 5, DAY_MS):
            bench.wait(LEASE_MS + late)
            for item in leased.values():
                outcome, renewed = bench.renew(item.lease)
                assert outcome is Outcome.OK
                assert renewed is not None
                assert (renewed.token, renewed.expires_at) == (item.lease.token, bench.clock.now() + LEASE_MS)
            check_next_due(items.claim_batch(), bench.clock.now() + LEASE_MS)
        bench.wait(LEASE_MS - 1)
        assert items.claim() == []
        items.check_good(leased["a"])
        bench.wait(1)
        assert items.claim_of("b")["b"].attempt == 2

    @case("I3", "I12")
    def test_lse_13_renew_tells_what_became_of_the_item(self, bench: Bench) -> None:
        """Renewing is LOST for a turn that is over or gone, and CANCELLED for an activity whose instance gave it up."""
        ends = ("cancelled", "cancelled-all", "ended", "purged", "replaced", "done", "settled", "alive")
        for instance in ends:
            bench.started(instance, activities=[activity()])
        work = bench.claim_each_work(*ends)
        bench.hub.send_messages([message(instance=instance) for instance in ends])
        turns = bench.claim_each(*ends)
        assert bench.commit(turns["cancelled"], cancel_activities=["t"]) is Outcome.OK
        assert bench.commit(turns["cancelled-all"], cancel_all=True, keep_ms=None) is Outcome.OK
        assert bench.commit(turns["ended"], status=COMPLETED, keep_ms=LEASE_MS) is Outcome.OK
        assert bench.purge("purged", force=True).deleted == 1
        assert bench.create("replaced", replace_if={RUNNING}) == [Outcome.REPLACED]
        assert bench.complete(work["done"]) is Outcome.OK
        assert bench.commit(turns["done"]) is Outcome.OK
        assert bench.commit(turns["settled"], settled=[work["settled"].lease]) is Outcome.OK
        with bench.unchanged(*(instance for instance in ends if instance != "purged")):
            lost = bench.hub.renew([turns[instance].lease for instance in ends[:-1]], LEASE_MS)
            assert list(lost) == [(Outcome.LOST, None)] * 7
            gone = list(bench.hub.renew([work[instance].lease for instance in ends[:-1]], LEASE_MS))
            leases = [of[instance].lease for of in (turns, work) for instance in ends[:-1]]
            assert list(bench.hub.release([Release(lease=lease) for lease in leases])) == [Outcome.LOST] * 14
        assert gone[:5] == [(Outcome.CANCELLED, None)] * 5
        # Whether it was completed or cancelled need not be known for ever.
        for outcome, lease in gone[5:]:
            assert outcome in (Outcome.LOST, Outcome.CANCELLED)
            assert lease is None
        kept = bench.hub.renew([turns["alive"].lease, work["alive"].lease], LEASE_MS)
        assert [outcome for outcome, _ in kept] == [Outcome.OK, Outcome.OK]

    @case("I3", "I7", variants=ITEMS)
    def test_lse_14_release_makes_claimable_at_once(self, bench: Bench) -> None:
        """What is released can be claimed at once by anybody, with the same content, and its old token is dead."""
        items = Items(bench)
        items.add("a", "b")
        bench.hub.send_messages([message("n", instance="a"), message("past", instance="a", due=1)])
        first = items.claim_one(max_items=1)
        second = items.claim_one(max_items=1)
        assert bench.release(first.lease) is Outcome.OK
        again = items.claim_one(worker="other")
        assert again.lease.token != first.lease.token
        assert again.lease.expires_at == bench.clock.now() + LEASE_MS
        assert again == replace(first, lease=again.lease, attempt=2)
        with bench.unchanged("a", "b"):
            items.check_dead(first)
        bench.wait(LEASE_MS - 1)
        assert items.claim() == []
        for item in (second, again):
            assert items.finish(item, f"done {item.instance}") is Outcome.OK

    @case("I3", variants=ITEMS)
    def test_lse_15_a_stale_release_frees_nothing(self, bench: Bench) -> None:
        """Releasing a lease that was taken is LOST: the thief still owns, unhidden, with its attempt counted."""
        items = Items(bench)
        items.add("a", "b")
        robbed = items.claim_of("a", "b")
        bench.wait(LEASE_MS)
        thieves = items.claim_of("a", "b")
        with bench.unchanged("a", "b"):
            for item in robbed.values():
                for delay_ms in (0, 10 * LEASE_MS):
                    for penalize in (True, False):
                        assert bench.release(item.lease, delay_ms=delay_ms, penalize=penalize) is Outcome.LOST
            assert items.claim() == []
        assert bench.release(thieves["a"].lease) is Outcome.OK
        assert items.claim_one().attempt == 3
        bench.wait(LEASE_MS)
        assert items.claim_of("b")["b"].attempt == 3

    @case("I7", "I10", variants=ITEMS)
    def test_lse_16_release_hides_the_whole_item_for_its_delay(self, bench: Bench) -> None:
        """A release delay hides an instance with all its messages, or an activity: no later message overtakes."""
        items = Items(bench)
        items.add("a", "b", "c")
        leased = items.claim_of("a", "b", "c")
        back = [
            Release(lease=leased["a"].lease, delay_ms=500),
            Release(lease=leased["b"].lease),
            Release(lease=leased["c"].lease, delay_ms=LEASE_MS * 2),
        ]
        assert list(bench.hub.release(back)) == [Outcome.OK] * 3
        assert items.claim_one().instance == "b"
        if items.is_turn:
            bench.send("later")
            bench.send("past", due=1)
        start = bench.clock.now()
        ends = start + 500
        check_next_due(items.claim_batch(), ends)
        bench.wait(499)
        check_next_due(items.claim_batch(), ends)
        bench.wait(1)
        item = items.claim_one()
        assert (item.instance, item.attempt) == ("a", 2)
        if isinstance(item, TurnItem):
            assert ids_of(item.messages) == ["past", "m", "later"]
        # The delay is over with the claim: the next one is what the next release says.
        assert bench.release(item.lease) is Outcome.OK
        item = items.claim_one()
        assert bench.release(item.lease, delay_ms=1) is Outcome.OK
        assert items.claim() == []
        bench.wait(1)
        assert items.claim_one().instance == "a"
        # Others have delays and leases of their own.
        bench.clock.set(start + LEASE_MS)
        assert items.claim_one(lease_ms=DAY_MS).instance == "b"
        bench.clock.set(start + 2 * LEASE_MS - 1)
        assert items.claim_one(lease_ms=DAY_MS).instance == "a"
        bench.wait(1)
        assert items.claim_one().instance == "c"

    @case("I14", variants=ITEMS)
    def test_lse_17_attempts_count_claims(self, bench: Bench) -> None:
        """`attempt` counts claims: those of a turn since the last commit, those of an activity since it was made."""
        items = Items(bench)
        items.add("a", "b")
        other = items.claim_of("b")["b"]
        bench.wait(LEASE_MS)
        for attempt in (2, 3, 4):
            item = items.claim_of("a")["a"]
            assert item.attempt == attempt
            # Neither of these is a claim.
            assert bench.renew(item.lease)[0] is Outcome.OK
            assert items.claim() == []
            assert bench.release(item.lease) is Outcome.OK
        # Nor does an activity that is done begin the count anew.
        for work in bench.claim_work(queues=["aside"]):
            assert bench.complete(work) is Outcome.OK
        item = items.claim_one()
        assert (item.instance, item.attempt) == ("a", 5)
        if isinstance(item, TurnItem):
            assert items.finish(cast("TurnItem", other)) is Outcome.LOST
            assert bench.commit(item, expected_next_seq=9) is Outcome.CONFLICT
            assert bench.release(item.lease) is Outcome.OK
            item = bench.claim_one()
            assert item.attempt == 6
            # A commit that leaves all messages where they are is one like any other.
            assert bench.commit(item, consumed=[]) is Outcome.OK
            assert bench.claim_one().attempt == 1
        else:
            assert bench.release(item.lease) is Outcome.OK
            bench.send()
            bench.turn(events=[b"1"])
            assert items.claim_one().attempt == 6
        bench.wait(LEASE_MS)
        assert items.claim_of("b")["b"].attempt == 3

    @case("I14", variants=ITEMS)
    def test_lse_18_an_unpenalised_release_gives_one_attempt_back(self, bench: Bench) -> None:
        """`penalize=False` takes back exactly the attempt that the claim counted, and never goes below none."""
        items = Items(bench)
        items.add("a", "b")
        other = items.claim_of("b")["b"]
        bench.wait(LEASE_MS - 1)
        assert bench.renew(other.lease, 1000 * LEASE_MS)[0] is Outcome.OK
        bench.wait(1)
        counted = 1
        choices = ["back", "back", "back", "count", "expire"] + [
            bench.rng.choice(["back", "count", "expire"]) for _ in range(25)
        ]
        for choice in choices:
            item = items.claim_one()
            counted += 1
            assert (item.instance, item.attempt) == ("a", counted)
            if choice == "expire":
                bench.wait(LEASE_MS)
            else:
                assert bench.release(item.lease, penalize=choice == "count") is Outcome.OK
                counted -= choice == "back"
        if items.is_turn:
            # The commit set it to 0: there is nothing to take back.
            item = cast("TurnItem", items.claim_one())
            assert bench.commit(item, keep_ms=1000) is Outcome.OK
            bench.send("n")
            assert bench.release(item.lease, penalize=False) is Outcome.OK
            for _ in range(2):
                again = items.claim_one()
                assert again.attempt == 1
                assert bench.release(again.lease, penalize=False) is Outcome.OK

    @case("I14", variants=ITEMS)
    def test_lse_19_an_attempt_is_counted_when_a_lease_expires(self, bench: Bench) -> None:
        """A worker that dies with its lease has used up an attempt: it is stored with the claim."""
        items = Items(bench)
        items.add("a", "b")
        for attempt in (1, 2, 3):
            leased = items.claim_of("a", "b")
            assert {instance: item.attempt for instance, item in leased.items()} == {"a": attempt, "b": attempt}
            bench.wait(LEASE_MS)
        leased = items.claim_of("a", "b")
        assert bench.release(leased["a"].lease) is Outcome.OK
        assert bench.release(leased["b"].lease, penalize=False) is Outcome.OK
        assert {instance: item.attempt for instance, item in items.claim_of("a", "b").items()} == {"a": 5, "b": 4}

    @case("I2", "I3", variants=TURNS)
    def test_lse_20_a_kept_lease_stays_for_keep_ms(self, bench: Bench) -> None:
        """After a commit with `keep_ms` the lease ends at now + keep_ms: others wait, and its holder commits again."""
        items = Items(bench)
        items.add("a", "b")
        leased = {instance: cast("TurnItem", item) for instance, item in items.claim_of("a", "b").items()}
        # Shorter and longer than what is left of the claim's lease.
        assert bench.commit(leased["a"], events=[b"1"], keep_ms=10) is Outcome.OK
        assert bench.commit(leased["b"], events=[b"1"], keep_ms=2 * LEASE_MS) is Outcome.OK
        start = bench.clock.now()
        bench.send("n")
        bench.send("n", instance="b")
        check_next_due(bench.claim_batch(), start + 10)
        with bench.unchanged("a", "b"):
            # The old place in history is a conflict now, not another try.
            assert bench.commit(leased["a"], events=[b"x"]) is Outcome.CONFLICT
        bench.wait(9)
        assert bench.claim() == []
        again = replace(leased["a"], next_seq=2, messages=())
        assert bench.commit(again, events=[b"2"], keep_ms=10) is Outcome.OK
        bench.wait(9)
        assert bench.claim() == []
        bench.wait(1)
        thief = bench.claim_one()
        assert (thief.instance, thief.attempt, ids_of(thief.messages)) == ("a", 1, ["n"])
        assert bench.history("a") == [b"0", b"1", b"2"]
        assert bench.commit(replace(again, next_seq=3), events=[b"x"]) is Outcome.LOST
        bench.clock.set(start + 2 * LEASE_MS - 1)
        assert "b" not in ids_by_instance(bench.claim())
        bench.wait(1)
        assert ids_by_instance(bench.claim()).get("b") == ["n"]

    @case("I3", variants=TURNS)
    def test_lse_27_a_lease_kept_for_nothing_is_kept(self, bench: Bench) -> None:
        """`keep_ms=0` keeps the token while anybody may take the item; a terminal status keeps nothing at all."""
        items = Items(bench)
        items.add("a", "b", "c")
        leased = {instance: cast("TurnItem", item) for instance, item in items.claim_of("a", "b", "c").items()}
        assert bench.commit(leased["a"], events=[b"1"], keep_ms=0) is Outcome.OK
        assert bench.commit(leased["b"], events=[b"1"], keep_ms=0) is Outcome.OK
        assert bench.commit(leased["c"], status=COMPLETED, keep_ms=LEASE_MS) is Outcome.OK
        assert bench.renew(leased["c"].lease) == (Outcome.LOST, None)
        assert bench.hub.stats().turns.leased == 0
        bench.send("n")
        bench.send("n", instance="b")
        again = replace(leased["a"], next_seq=2, messages=())
        assert bench.commit(again, events=[b"2"], keep_ms=0) is Outcome.OK
        assert ids_by_instance(bench.claim()) == {"a": ["n"], "b": ["n"]}
        assert bench.commit(replace(again, next_seq=3)) is Outcome.LOST

    @case("I2", "I9", "I1", variants=TURNS)
    def test_lse_21_a_kept_instance_comes_back_to_its_holder_alone(self, bench: Bench) -> None:
        """What arrives under a kept lease goes to the claim that names it in `held`, under the same lease, and to no
        other until it expires."""
        items = Items(bench)
        items.add("a", "b", "c")
        leased = {instance: cast("TurnItem", item) for instance, item in items.claim_of("a", "b", "c").items()}
        kept = {instance: leased[instance].lease for instance in ("a", "b")}
        for instance in kept:
            assert bench.commit(leased[instance], events=[b"1"], keep_ms=1000) is Outcome.OK
        assert bench.claim(held=list(kept.values())) == []
        bench.send("n")
        assert bench.claim() == []
        assert bench.claim(held=[kept["b"]]) == []
        # One of an instance with nothing to do, one that is nobody's, and the same one twice.
        forged = replace(kept["a"], token="forged")
        item = bench.claim_one(held=[kept["b"], forged, kept["a"], kept["a"], forged])
        assert (item.instance, item.next_seq, ids_of(item.messages)) == ("a", 2, ["n"])
        assert (item.lease.token, item.lease.fence) == (kept["a"].token, kept["a"].fence)
        assert item.attempt == 1
        # Lengthened to what this claim asks for.
        assert item.lease.expires_at == bench.clock.now() + LEASE_MS
        bench.wait(LEASE_MS - 1)
        assert "a" not in ids_by_instance(bench.claim())
        assert bench.commit(item, events=[b"2"], keep_ms=LEASE_MS) is Outcome.OK
        assert bench.history("a") == [b"0", b"1", b"2"]
        # Together with what anybody may have.
        bench.send("o")
        bench.create("d")
        assert ids_by_instance(bench.claim(held=[item.lease])) == {"a": ["o"], "d": ["@start"]}

    @case("I2", "I1", variants=TURNS)
    def test_lse_28_a_held_lease_is_lengthened_or_passed_over(self, bench: Bench) -> None:
        """A claim never shortens a lease in `held`, revives one that expired, and passes over one that was taken."""
        items = Items(bench)
        items.add("a", "b", "c")
        leased = {instance: cast("TurnItem", item) for instance, item in items.claim_of("a", "b", "c").items()}
        start = bench.clock.now()
        for instance, keep_ms in (("a", LEASE_MS), ("b", 1000), ("c", 1000)):
            assert bench.commit(leased[instance], keep_ms=keep_ms) is Outcome.OK
        bench.send("n")
        bench.send("n", instance="b")
        item = bench.claim_one(held=[leased["a"].lease], lease_ms=1)
        assert item.lease.expires_at == start + LEASE_MS
        bench.wait(1000)
        item = bench.claim_one(held=[leased["b"].lease], names=["flow"])
        assert (item.instance, item.lease.token) == ("b", leased["b"].lease.token)
        assert item.lease.expires_at == bench.clock.now() + LEASE_MS
        bench.send("n", instance="c")
        thief = bench.claim_one()
        assert thief.instance == "c"
        assert thief.lease.token != leased["c"].lease.token
        with bench.unchanged("a", "b", "c"):
            assert bench.claim(held=[leased["c"].lease, replace(leased["c"].lease, fence=thief.lease.fence)]) == []
        # Beside the current one it changes nothing.
        for held in ([thief.lease, leased["c"].lease], [leased["c"].lease, thief.lease]):
            assert bench.claim_one(held=held).lease == thief.lease
        bench.wait(LEASE_MS - 1)
        # By now that of a has expired and that of b has not.
        assert sorted(ids_by_instance(bench.claim())) == ["a"]
        bench.wait(1)
        assert sorted(ids_by_instance(bench.claim())) == ["b", "c"]

    @case("I14", variants=TURNS)
    def test_lse_29_a_held_lease_counts_as_one_attempt(self, bench: Bench) -> None:
        """A claim by `held` returns the stored attempt, or 1 where a commit has set it to 0, and counts nothing."""
        items = Items(bench)
        items.add("a")
        item = cast("TurnItem", items.claim_one())
        assert bench.commit(item, keep_ms=LEASE_MS) is Outcome.OK
        bench.send("n")
        assert [bench.claim_one(held=[item.lease]).attempt for _ in range(3)] == [1, 1, 1]
        bench.wait(LEASE_MS)
        item = bench.claim_one()
        assert item.attempt == 2
        assert [bench.claim_one(held=[item.lease]).attempt for _ in range(2)] == [2, 2]
        assert bench.release(item.lease, penalize=False) is Outcome.OK
        assert bench.claim_one().attempt == 2

    @case("I1")
    def test_lse_22_tokens_are_never_used_twice(self, bench: Bench) -> None:
        """Tokens are different in 10,000 claims, of one item and among items, and leases survive being written down."""
        count = min(100, bench.limits.max_batch)
        bench.create(*(f"i{number}" for number in range(count)))
        started = [turn_commit(item, activities=[activity()]) for item in bench.claim(max_items=count)]
        assert list(bench.hub.commit_turns(started)) == [Outcome.OK] * count
        bench.hub.send_messages([message(instance=f"i{number}") for number in range(count)])
        tokens: set[str] = set()
        fences: dict[tuple[LeaseKind, str], int] = {}
        rounds = max(2, bench.scaled(10_000) // (2 * count))
        claimed: list[TurnItem | Activity] = []
        for _ in range(rounds):
            for item in claimed:
                fences[item.lease.kind, item.instance] = item.lease.fence
            claimed = [*bench.claim(max_items=count), *bench.claim_work(max_items=count)]
            assert len(claimed) == 2 * count
            for item in claimed:
                assert item.lease.fence > fences.get((item.lease.kind, item.instance), -1)
            tokens.update(item.lease.token for item in claimed)
            for part in (claimed[:count], claimed[count:]):
                bench.hub.release([Release(lease=item.lease) for item in part])
        assert len(tokens) == rounds * 2 * count
        # Made by chance and not by counting: what can be guessed is no proof.
        assert sum(len(set(characters)) > 1 for characters in zip(*tokens, strict=False)) >= 16

        (turn, *_), (work, *_) = bench.claim(), bench.claim_work()
        for item in (turn, work):
            lease = item.lease
            written = json.dumps([lease.kind.value, lease.key, lease.token, lease.fence, lease.expires_at])
            kind, key, token, fence, expires_at = json.loads(written)
            read = Lease(kind=LeaseKind(kind), key=key, token=token, fence=fence, expires_at=expires_at)
            assert read == lease
            assert bench.renew(read)[0] is Outcome.OK

    @case("I3", "I15", variants=TURNS)
    def test_lse_23_a_forged_lease_is_lost(self, bench: Bench) -> None:
        """A lease whose token is not exactly the item's own is LOST for every use, without effect on any item."""
        Items(bench)
        elsewhere = bench.new_hub()
        for driver in (bench, elsewhere):
            for instance in ("a", "b", "free"):
                driver.started(instance, events=[b"0"], activities=[activity()])
            driver.hub.send_messages([message(instance=instance) for instance in ("a", "b", "free")])
        everywhere = ("a", "b", "free")
        turns, work = bench.claim_each(*everywhere), bench.claim_each_work(*everywhere)
        far_turns, far_work = elsewhere.claim_each(*everywhere), elsewhere.claim_each_work(*everywhere)
        for lease in (turns["free"].lease, work["free"].lease):
            assert bench.release(lease) is Outcome.OK
        turn, task = turns["a"].lease, work["a"].lease
        forged = _forged(turn, turns["b"].lease, turns["free"].lease, far_turns["a"].lease, task)
        forged_work = _forged(task, work["b"].lease, work["free"].lease, far_work["a"].lease, turn)
        with bench.unchanged("a", "b", "free"):
            # Of the wrong kind, whatever they say of it themselves.
            wrong_turns = [*forged, task, replace(task, kind=LeaseKind.TURN)]
            commits = [turn_commit(replace(turns["a"], lease=lease), events=[b"x"]) for lease in wrong_turns]
            assert list(bench.hub.commit_turns(commits)) == [Outcome.LOST] * len(commits)
            wrong_work = [*forged_work, turn, replace(turn, kind=LeaseKind.ACTIVITY)]
            done = [ActivityDone(lease=lease, message=message("x")) for lease in wrong_work]
            assert list(bench.hub.complete_activities(done)) == [Outcome.LOST] * len(done)
            for leases in (
                [*forged, replace(task, kind=LeaseKind.TURN)],
                [*forged_work, replace(turn, kind=task.kind)],
            ):
                answers = list(bench.hub.renew(leases, 10 * LEASE_MS))
                assert len(answers) == len(leases)
                # An activity that can't be found may be taken for one that was cancelled.
                possible = {Outcome.LOST} if leases[0].kind is LeaseKind.TURN else {Outcome.LOST, Outcome.CANCELLED}
                assert {outcome for outcome, _ in answers} <= possible
                assert [lease for _, lease in answers] == [None] * len(leases)
                back = [Release(lease=lease, delay_ms=10 * LEASE_MS, penalize=False) for lease in leases]
                assert list(bench.hub.release(back)) == [Outcome.LOST] * len(back)
        # What nobody owns comes to whoever asks, but under a lease of its own.
        assert ids_by_instance(bench.claim(held=forged)) == {"free": ["m"]}
        assert [item.instance for item in bench.claim_work()] == ["free"]
        # An activity that is settled by a forged lease is still there.
        assert bench.commit(turns["a"], settled=[*forged_work, *forged], keep_ms=LEASE_MS) is Outcome.OK
        assert bench.commit(turns["b"]) is bench.complete(work["b"]) is Outcome.OK
        assert bench.renew(task)[0] is Outcome.OK
        assert bench.commit(turns["a"], settled=[task]) is Outcome.OK
        assert bench.complete(work["a"]) is Outcome.LOST
        assert elsewhere.commit(far_turns["a"]) is Outcome.OK
        assert elsewhere.complete(far_work["a"]) is Outcome.OK

    @case("I2", variants=ITEMS)
    def test_lse_24_a_lease_blocks_nothing_but_its_item(self, bench: Bench) -> None:
        """A lease on one instance blocks no other; one on an activity blocks neither its instance nor its neighbours,
        nor the other way round."""
        items = Items(bench)
        items.add("a", "ab", "b")
        leased = items.claim_of("a", "ab", "b")
        for instance in ("ab", "b"):
            assert bench.release(leased[instance].lease) is Outcome.OK
        assert sorted(items.claim_of()) == ["ab", "b"]
        if items.is_turn:
            assert sorted(work.instance for work in bench.claim_work(queues=["aside"])) == ["a", "ab", "b"]
        else:
            bench.send()
            bench.turn(activities=[activity("t2")])
            assert ids_of(bench.claim_work()) == ["t2"]
            assert [work.id for work in bench.claim_work(queues=["aside"], max_items=1)] == ["aside"]
        # What becomes of a's lease is nothing to b's.
        assert bench.release(leased["a"].lease, delay_ms=10) is Outcome.OK
        bench.wait(LEASE_MS - 1)
        assert [item.instance for item in items.claim()] == ["a"]
        bench.wait(1)
        assert {"ab", "b"} <= items.claim_of().keys()

    @case("RESULTS", "I3")
    def test_lse_25_renew_answers_each_lease_in_order(self, bench: Bench) -> None:
        """Renewing a batch of 500 answers OK, LOST and CANCELLED item by item in the order asked, each by itself."""
        count = min(500, bench.limits.max_batch) // 2
        names = [f"i{number}" for number in range(count)]
        bench.create(*names)
        started = [turn_commit(item, activities=[activity()]) for item in bench.claim(max_items=count)]
        assert list(bench.hub.commit_turns(started)) == [Outcome.OK] * count
        bench.hub.send_messages([message(instance=name) for name in names])
        turns = {item.instance: item.lease for item in bench.claim(max_items=count)}
        work = {item.instance: item.lease for item in bench.claim_work(max_items=count)}
        assert len(turns) == len(work) == count
        purged, released = set(names[::5]), set(names[1::5])
        assert bench.hub.purge(PurgeRequest(ids=sorted(purged), force=True)).deleted == len(purged)
        back = [Release(lease=leases[name]) for leases in (turns, work) for name in sorted(released)]
        assert list(bench.hub.release(back)) == [Outcome.OK] * len(back)
        asked = [leases[name] for name in names for leases in (turns, work)]
        bench.rng.shuffle(asked)
        owner = {lease.token: name for leases in (turns, work) for name, lease in leases.items()}
        bench.wait(7)
        answers = list(bench.hub.renew(asked, LEASE_MS))
        assert len(answers) == len(asked)
        for lease, (outcome, renewed) in zip(asked, answers, strict=True):
            if owner[lease.token] in purged:
                assert outcome is (Outcome.LOST if lease.kind is LeaseKind.TURN else Outcome.CANCELLED)
                assert renewed is None
            elif owner[lease.token] in released:
                assert (outcome, renewed) == (Outcome.LOST, None)
            else:
                assert outcome is Outcome.OK
                assert renewed == replace(lease, expires_at=bench.clock.now() + LEASE_MS)
        # The same lease twice in a batch is good both times.
        alive = next(name for name in names if name not in purged | released)
        twice = bench.hub.renew([turns[alive], work[alive], turns[alive]], LEASE_MS)
        assert [outcome for outcome, _ in twice] == [Outcome.OK] * 3
        assert {item.instance for item in bench.claim(max_items=count)} == released
        assert {item.instance for item in bench.claim_work(max_items=count)} == released
        assert list(bench.hub.renew([], LEASE_MS)) == []

    @case("RESULTS", "I3")
    def test_lse_30_release_answers_each_lease_in_order(self, bench: Bench) -> None:
        """Releasing a batch answers OK or LOST item by item in the order asked, and each item gets its own delay."""
        for instance in ("a", "b", "c", "d"):
            bench.started(instance, activities=[activity()])
        bench.hub.send_messages([message(instance=instance) for instance in ("a", "b", "c", "d")])
        ids = ("a", "b", "c", "d")
        turns, work = bench.claim_each(*ids), bench.claim_each_work(*ids)
        bench.release(turns["b"].lease)
        assert bench.claim_one().instance == "b"
        assert bench.complete(work["c"]) is Outcome.OK
        back = [
            Release(lease=work["d"].lease, delay_ms=20),
            Release(lease=turns["b"].lease),
            Release(lease=turns["a"].lease, penalize=False),
            Release(lease=work["c"].lease),
            Release(lease=turns["d"].lease, delay_ms=10),
            Release(lease=turns["a"].lease, delay_ms=99),
            Release(lease=work["a"].lease),
        ]
        ok, lost = Outcome.OK, Outcome.LOST
        assert list(bench.hub.release(back)) == [ok, lost, ok, lost, ok, lost, ok]
        assert [(item.instance, item.attempt) for item in bench.claim()] == [("a", 1)]
        assert [(item.instance, item.attempt) for item in bench.claim_work()] == [("a", 2)]
        bench.wait(10)
        assert [(item.instance, item.attempt) for item in bench.claim()] == [("d", 2)]
        assert bench.claim_work() == []
        bench.wait(10)
        assert [(item.instance, item.attempt) for item in bench.claim_work()] == [("d", 2)]
        assert list(bench.hub.release([])) == []

    @case("I2", variants=ITEMS)
    def test_lse_26_short_and_long_leases_are_honoured(self, bench: Bench) -> None:
        """Leases of 1 ms and of 7 days end exactly when they should, claimed and renewed, side by side."""
        items = Items(bench)
        items.add("a", "b")
        # No round number of any larger unit.
        week = 7 * DAY_MS + 1
        short = items.claim_one(max_items=1, lease_ms=1)
        long = items.claim_one(max_items=1, lease_ms=week)
        start = bench.clock.now()
        assert (short.lease.expires_at, long.lease.expires_at) == (start + 1, start + week)
        assert items.claim() == []
        bench.wait(1)
        again = items.claim_one(lease_ms=1)
        assert again.instance == short.instance
        outcome, renewed = bench.renew(again.lease, 2 * week)
        assert outcome is Outcome.OK
        assert renewed is not None
        assert renewed.expires_at == start + 1 + 2 * week
        bench.clock.set(start + week - 1)
        check_next_due(items.claim_batch(), start + week)
        bench.wait(1)
        assert items.claim_one(lease_ms=2 * week).instance == long.instance
        bench.clock.set(start + 2 * week)
        assert items.claim() == []
        bench.wait(1)
        assert items.claim_one().instance == short.instance

    @case("I2", "I7")
    def test_lse_31_names_filter_held_leases_too(self, bench: Bench) -> None:
        """A kept instance is not returned to a claim that doesn't ask for its name, but for control messages alone."""
        first = bench.started(events=[b"0"], custom_status=b"status", memo=b"memo", keep_ms=LEASE_MS)
        bench.send("plain")
        assert bench.claim(names=["other"], held=[first.lease]) == []
        assert bench.claim(names=[], held=[first.lease]) == []
        bench.send("stop", control=True)
        item = bench.claim_one(names=["other"], held=[first.lease], inline_history=True)
        assert (item.lease.token, ids_of(item.messages)) == (first.lease.token, ["stop"])
        # Only the messages are fewer.
        assert (item.custom_status, item.memo, list(item.history or ())) == (b"status", b"memo", [b"0"])
        assert bench.commit(item, consumed=["plain", "stop"], keep_ms=LEASE_MS) is Outcome.OK
        item = bench.claim_one(names=["flow"], held=[first.lease])
        assert (item.lease.token, ids_of(item.messages)) == (first.lease.token, ["plain"])
        # One that is due while the lease still runs is in sight for its holder, by whatever names.
        assert bench.commit(item, keep_ms=LEASE_MS) is Outcome.OK
        due = bench.clock.now() + 10
        bench.send("later", control=True, due=due)
        check_next_due(bench.claim_batch(names=["other"], held=[first.lease]), due)
        bench.wait(10)
        item = bench.claim_one(names=["other"], held=[first.lease])
        assert ids_of(item.messages) == ["later"]
        assert bench.release(item.lease) is Outcome.OK
        item = bench.claim_one(names=["other"], inline_history=True)
        assert (item.custom_status, item.memo, list(item.history or ())) == (b"status", b"memo", [b"0"])

    @case("I7", variants=TURNS)
    def test_lse_32_only_what_the_last_claim_delivered_is_consumed(self, bench: Bench) -> None:
        """A commit consumes of its messages only what the lease's last claim delivered: whatever came before, between
        or after stays."""
        Items(bench)
        first = bench.started(keep_ms=LEASE_MS)
        bench.send("m1", "m2")
        item = bench.claim_one(held=[first.lease])
        assert ids_of(item.messages) == ["m1", "m2"]
        bench.send("past", due=bench.clock.now() - 1)
        item = bench.claim_one(held=[item.lease], max_messages=1)
        assert ids_of(item.messages) == ["past"]
        bench.send("older", due=1)
        assert bench.commit(item, consumed=["older", "past", "m1", "m2", "unknown"]) is Outcome.OK
        item = bench.claim_one()
        assert ids_of(item.messages) == ["older", "m1", "m2"]
        assert bench.commit(item) is Outcome.OK
        assert bench.claim() == []

    @case("I8", variants=TURNS)
    def test_lse_33_the_one_claimable_longest_comes_first(self, bench: Bench) -> None:
        """Among instances the one comes first that has been claimable longest: since a due time, the end of a release
        delay, an expiry or an arrival."""
        Items(bench)
        start = bench.clock.now() + 10
        # Made, and last changed, in the reverse of the order in which they will be claimable.
        for instance in ("sent", "due", "expired", "freed", "timer"):
            if instance == "due":
                bench.create("due", due=start + 40)
            else:
                bench.started(instance)
            bench.wait(2)
        bench.hub.send_messages([message(instance="freed"), message(instance="expired")])
        leased = bench.claim_each("freed", "expired", lease_ms=30)
        assert bench.release(leased["freed"].lease, delay_ms=20) is Outcome.OK
        bench.hub.send_messages([message("t", instance="timer", due=start + 10)])
        bench.wait(50)
        # A control message overrides much, but it goes before nobody.
        bench.send(instance="sent", control=True)
        bench.wait(10)
        batches = [bench.claim_batch(max_items=1) for _ in range(5)]
        came = [item.instance for batch in batches for item in batch.items]
        assert came == ["timer", "freed", "expired", "due", "sent"]
        assert [batch.more for batch in batches] == [True] * 4 + [False]

    @case("I10", variants=ITEMS)
    def test_lse_34_more_says_that_max_items_cut_the_result(self, bench: Bench) -> None:
        """A claim returns at most `max_items`, says in `more` whether that cut the result, and is then due at once."""
        items = Items(bench)
        items.add("a", "b", "c", "d")
        batch = items.claim_batch(max_items=2)
        assert (len(batch.items), batch.more) == (2, True)
        assert batch.next_due == bench.clock.now()
        assert items.claim(max_items=0) == []
        batch = items.claim_batch(max_items=2)
        assert (len(batch.items), batch.more) == (2, False)
        bench.wait(LEASE_MS)
        leased = items.claim(max_items=10**9)
        assert len(leased) == 4
        if items.is_turn:
            # What the claim holds counts like anything else.
            held = [item.lease for item in leased]
            assert bench.claim(held=held, max_items=0) == []
            first = bench.claim_batch(held=held, max_items=3)
            assert (len(first.items), first.more, first.next_due) == (3, True, bench.clock.now())
            assert len(bench.claim(held=held)) == 4
            # Expired, what is held is what anybody may have: it must not take the place of others twice.
            for place in range(4):
                bench.wait(LEASE_MS)
                others = [lease for other, lease in enumerate(held) if other != place]
                first = bench.claim_batch(held=others, max_items=3)
                assert (len(first.items), first.more, first.next_due) == (3, True, bench.clock.now())
                held = [item.lease for item in (*first.items, *bench.claim(max_items=1))]
                assert len({lease.key for lease in held}) == 4

    @case("LIMITS", variants=ITEMS)
    def test_lse_35_impossible_durations_are_refused(self, bench: Bench) -> None:
        """A claim or renewal for no time, a negative delay or a negative `max_items` is an InvalidRequest, and nothing
        of such a call is done."""
        items = Items(bench)
        items.add("a", "b")
        item = items.claim_one(max_items=1)
        bad: list[Callable[[], object]] = [
            lambda: items.claim(max_items=-1),
            lambda: items.claim(lease_ms=0),
            lambda: items.claim(lease_ms=-1),
            lambda: bench.renew(item.lease, 0),
            lambda: bench.renew(item.lease, -1),
            lambda: bench.hub.release([Release(lease=item.lease), Release(lease=item.lease, delay_ms=-1)]),
        ]
        if items.is_turn:
            bad.append(lambda: bench.claim(max_messages=0))
        with bench.unchanged("a", "b"):
            for call in bad:
                with pytest.raises(InvalidRequest):
                    call()
        assert items.claim_one().instance != item.instance
        assert items.finish(item) is Outcome.OK

    @case("I20", "I2", level=Level.L1, requires=("durable",), variants=("turn", "activity"))
    def test_lse_36_a_lease_outlives_the_handle(self, bench: Bench) -> None:
        """A lease taken on one handle holds on every other, also after a reopening: its token, its expiry, its
        attempt, and a release delay."""
        items = Items(bench)
        items.add("a", "b", "c")
        leased = items.claim_of("a", "b", "c")
        assert bench.release(leased["c"].lease, delay_ms=LEASE_MS) is Outcome.OK
        other = Items(bench, bench.on(bench.connect()))
        assert other.claim() == []
        outcome, renewed = other.driver.renew(leased["b"].lease, LEASE_MS + 1)
        assert outcome is Outcome.OK
        assert renewed is not None
        bench.reopen()
        bench.wait(LEASE_MS - 1)
        assert items.claim() == []
        bench.wait(1)
        free = items.claim_of("a", "c")
        assert {instance: item.attempt for instance, item in free.items()} == {"a": 2, "c": 2}
        assert free["a"].lease.fence > leased["a"].lease.fence
        assert other.finish(leased["a"]) is Outcome.LOST
        assert bench.release(leased["c"].lease) is Outcome.LOST
        assert items.finish(leased["b"]) is Outcome.OK


def _forged(lease: Lease, neighbour: Lease, free: Lease, elsewhere: Lease, other_kind: Lease) -> list[Lease]:
    """Return leases that look like a current one, and are not."""
    token = lease.token
    tokens = ["", " ", "forged", "0" * len(token), "%", "_" * len(token), "None", "null", "\0", "\ud800", "\N{SNOWMAN}"]
    # Compared by some databases as if they were the same.
    tokens += [token[:-1], token[1:], f"{token} ", f" {token}", f"{token}\0", token.upper(), token.swapcase()]
    tokens += [one.token for one in (neighbour, free, elsewhere, other_kind)]
    keys = [
        "",
        "nonsense",
        "0",
        "-1",
        "1.0",
        f" {lease.key}",
        str(2**63),
        "9" * 40,
        "\N{ARABIC-INDIC DIGIT THREE}",
        "\0",
    ]
    keys += [neighbour.key, free.key]
    forged = [replace(lease, token=other) for other in tokens if other != token]
    forged += [replace(lease, key=key) for key in keys if key != lease.key]
    forged += [replace(free, token=other) for other in ("", "None", "null", "0", free.token)]
    return [*forged, replace(elsewhere, key=lease.key), elsewhere]

"""TIM: durable timers, and everything else with a due time."""

from __future__ import annotations

import time
from typing import Any, Final, cast

import pytest

from perdure.spi import (
    ActivityBatch,
    ActivityDone,
    Hub,
    InvalidRequest,
    Millis,
    NextExecution,
    Outcome,
    TurnBatch,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import (
    ENDED,
    LEASE_MS,
    RUNNING,
    ByExchange,
    activity,
    check_next_due,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
    turn_commit,
)

YEAR_MS: Final = 365 * 86_400_000
DUES: Final = {
    "2**31 ms": 2**31,
    "2**32 ms": 2**32,
    "2**31 s": 2**31 * 1000,
    "2**32 s": 2**32 * 1000,
    "2038": 2_147_483_647_999,
    # The last digits of these are lost by a float of seconds, of which some are rounded down.
    "fraction": 1_700_000_000_001,
    "large fraction": 32_503_680_000_999,
}


class TimerCases:
    """Cases TIM."""

    @case("I7", "I10", variants=("commit", "send", "completion", "commit-exchange"))
    def test_tim_01_a_timer_is_delivered_at_its_due_and_not_before(self, bench: Bench) -> None:
        """A message with a due time is delivered when it is due and not 1 ms before, whatever else is delivered."""
        if bench.variant == "commit-exchange":
            bench.hub = cast("Hub", ByExchange(bench.hub))
        start = bench.clock.now()
        due = start + 1000
        timer = message("timer", due=due, payload=b"fire")
        bench.started("b", messages=[message("other", "b", due=due + 1)])
        bench.started("a", activities=[activity()])
        bench.send("first")
        item = bench.claim_one()
        if bench.variant.startswith("commit"):
            assert bench.commit(item, messages=[timer]) is Outcome.OK
        else:
            assert bench.commit(item) is Outcome.OK
            if bench.variant == "send":
                assert list(bench.hub.send_messages([timer])) == [Outcome.OK]
            else:
                assert bench.complete(bench.claim_one_work(), timer) is Outcome.OK
        check_next_due(bench.claim_batch(), due)
        # What is claimed for another message doesn't take the timer along.
        bench.send("event")
        assert ids_of(bench.turn().messages) == ["event"]
        bench.wait(999)
        bench.send("event2")
        assert ids_of(bench.turn().messages) == ["event2"]
        check_next_due(bench.claim_batch(), due)
        bench.wait(1)
        item = bench.claim_one()
        assert item.instance == "a"
        assert ids_of(item.messages) == ["timer"]
        delivery = item.messages[0]
        assert (delivery.payload, delivery.due) == (b"fire", due)
        assert (delivery.enqueued_at, delivery.control) == (start, False)
        assert bench.commit(item) is Outcome.OK
        check_next_due(bench.claim_batch(), due + 1)
        bench.wait(LEASE_MS)
        assert [item.instance for item in bench.claim()] == ["b"]

    @case("I7", "I9")
    def test_tim_15_a_future_message_waits_however_the_claim_is_made(self, bench: Bench) -> None:
        """A message that is not due comes by no claim: not for its holder, not for its being a control message, and
        not before a start that is due later still."""
        now = bench.clock.now()
        first = bench.started("held", keep_ms=LEASE_MS)
        bench.started("named")
        bench.hub.create_instances([new_instance("future", due=now + 200)])
        for instance in ("held", "named", "future"):
            timers = [message("stop", instance, due=now + 100, control=True), message("timer", instance, due=now + 100)]
            assert list(bench.hub.send_messages(timers)) == [Outcome.OK, Outcome.OK]
        claims: list[dict[str, Any]] = [{}, {"names": []}, {"held": [first.lease]}]
        for claim in [*claims, {"names": [], "held": [first.lease]}]:
            check_next_due(bench.claim_batch(**claim), now + 100)
        bench.send("stop2", instance="named", due=now + 150, control=True)
        # A turn for something else takes neither along, to whomever it is given.
        bench.send("go", instance="held")
        item = bench.claim_one(held=[first.lease])
        assert (item.instance, ids_of(item.messages)) == ("held", ["go"])
        bench.send("go", instance="named", control=True)
        other = bench.claim_one(names=[])
        assert (other.instance, ids_of(other.messages)) == ("named", ["go"])
        # What becomes due under a lease comes right after it.
        bench.wait(99)
        assert bench.commit(other) is Outcome.OK
        check_next_due(bench.claim_batch(names=[]), now + 100)
        bench.wait(1)
        for again in bench.claim_each("future", "named", names=[]).values():
            assert ids_of(again.messages) == ["stop"]
            assert bench.release(again.lease) is Outcome.OK
        assert bench.commit(item, keep_ms=LEASE_MS) is Outcome.OK
        items = ids_by_instance(bench.claim(held=[item.lease]))
        assert items == {"held": ["stop", "timer"], "named": ["stop", "timer"], "future": ["stop"]}

    @case("I10", variants=("turns", "activities"))
    def test_tim_02_next_due_is_never_later_than_the_next_thing(self, bench: Bench) -> None:
        """`next_due` is not later than the earliest due time, start, end of a release delay, or expiry of a lease under
        which work waits, and not None while there is one."""
        now = bench.clock.now()
        seen: list[tuple[int, str]] = []
        if bench.variant == "turns":
            _plan_turns(bench, now)
            while len(seen) < len(_TURNS_PLANNED):
                batch = bench.claim_batch()
                if not batch.items:
                    check_next_due(batch, now + 900)
                    bench.clock.set(batch.next_due or 0)
                for item in batch.items:
                    seen.append((bench.clock.now() - now, item.instance))
                    assert bench.commit(item) is Outcome.OK
            assert seen == _TURNS_PLANNED
        else:
            _plan_activities(bench, now)
            while len(seen) < len(_ACTIVITIES_PLANNED):
                work = bench.claim_work_batch(queues=["default", "q"])
                if not work.items:
                    check_next_due(work, now + 900)
                    bench.clock.set(work.next_due or 0)
                for task in work.items:
                    seen.append((bench.clock.now() - now, task.id))
                    assert bench.complete(task) is Outcome.OK
            assert seen == _ACTIVITIES_PLANNED

    @case("I10")
    def test_tim_16_next_due_speaks_of_every_queue_and_name_asked_for(self, bench: Bench) -> None:
        """Of the queues and names that a claim asks for, `next_due` is not later than the earliest due activity."""
        now = bench.clock.now()
        dues = {("x", "n"): 40, ("x", "o"): 30, ("y", "n"): 20, ("y", "o"): 10, ("z", "n"): 5}
        tasks = [
            activity(f"{queue}{name}", queue=queue, name=name, due=now + due) for (queue, name), due in dues.items()
        ]
        bench.started(activities=tasks)
        for queues in (["x"], ["y"], ["x", "y"], ["y", "x"], ["x", "nowhere"]):
            for names in (["n"], ["o"], ["n", "o"], ["o", "n"], ["nobody", "n"], None):
                asked = [
                    due for (queue, name), due in dues.items() if queue in queues and (names is None or name in names)
                ]
                check_next_due(bench.claim_work_batch(queues=queues, names=names), now + min(asked))
        bench.wait(30)
        assert sorted(ids_of(bench.claim_work(queues=["x", "y"], names=["o", "n"]))) == ["xo", "yn", "yo"]

    @case("I8", variants=("turn", "exchange"))
    def test_tim_03_timers_come_in_the_order_of_their_dues(self, bench: Bench) -> None:
        """Messages are delivered by (due, arrival), a message for now being due when it was sent, however many of them
        a claim takes."""
        if bench.variant == "exchange":
            bench.hub = cast("Hub", ByExchange(bench.hub))
        now = bench.clock.now()
        timers = [("3", 30), ("1a", 10), ("2", 20), ("1b", 10)]
        bench.started(messages=[message(name, due=now + delay) for name, delay in timers])
        bench.send("0")
        bench.send("1c", due=now + 10)
        bench.wait(20)
        bench.send("2b")
        bench.send("2c", due=now + 20)
        bench.wait(10)
        bench.send("3b", "3c")
        bench.send("past", due=now - 1)
        bench.send("late", due=now + 31)
        expected = ["past", "0", "1a", "1b", "1c", "2", "2b", "2c", "3", "3b", "3c"]
        item = bench.claim_one()
        assert ids_of(item.messages) == expected
        assert bench.release(item.lease) is Outcome.OK
        item = bench.claim_one(max_messages=4)
        assert ids_of(item.messages) == expected[:4]
        assert bench.commit(item) is Outcome.OK
        assert ids_of(bench.claim_one().messages) == expected[4:]

    @case("I7", "I8")
    def test_tim_04_a_timer_in_the_past_is_delivered_at_once(self, bench: Bench) -> None:
        """A message, a start or an activity with a due time that is past is there at once, the message with that time
        as its due."""
        past = bench.clock.now() - 1000
        bench.started(messages=[message("past", due=past)], activities=[activity(due=past)])
        bench.send("now")
        bench.send("exact", due=bench.clock.now())
        bench.send("older", due=5)
        bench.create("b", due=5)
        items = {item.instance: [(delivery.id, delivery.due) for delivery in item.messages] for item in bench.claim()}
        assert items == {
            "a": [("older", 5), ("past", past), ("now", bench.clock.now()), ("exact", bench.clock.now())],
            "b": [("@start", 5)],
        }
        assert ids_of(bench.claim_work()) == ["t"]

    @case("I13", "I7")
    def test_tim_05_a_cancelled_timer_never_fires(self, bench: Bench) -> None:
        """A pending message that a commit cancels is never delivered, also if that very commit sent it, and cancelling
        one that is gone or another instance's does nothing."""
        due = bench.clock.now() + 10
        bench.started("b", messages=[message("timer", "b", due=due)])
        bench.started("a", messages=[message(name, due=due) for name in ("timer", "second", "third")])
        bench.send()
        bench.turn(cancel_messages=["timer", "unknown"], messages=[message("new", due=due), message("stays", due=due)])
        bench.send("n")
        # After the messages of the same commit.
        late = [message("new2", due=due), message("now")]
        bench.turn(cancel_messages=["third", "new2", "now", "new", "new"], messages=late)
        check_next_due(bench.claim_batch(), due)
        bench.wait(10)
        items = bench.claim_each("a", "b")
        assert ids_of(items["b"].messages) == ["timer"]
        assert ids_of(items["a"].messages) == ["second", "stays"]
        # One that was delivered is pending until it is consumed.
        assert bench.commit(items["a"], consumed=["stays"], cancel_messages=["second", "stays"]) is Outcome.OK
        assert bench.claim() == []
        # Cancelled is not consumed: the id is free.
        assert bench.send("timer", due=due + 10) == [Outcome.OK]
        bench.wait(10)
        assert ids_of(bench.claim_one().messages) == ["timer"]

    @case("I7", "I9")
    def test_tim_06_a_timer_and_an_event_are_both_delivered_once(self, bench: Bench) -> None:
        """A timer and an event that come at the same time are both delivered, once, in whichever order they came."""
        due = bench.clock.now() + 10
        for instance in ("a", "b"):
            bench.started(instance, messages=[message("timer", instance, due=due)])
        bench.wait(9)
        bench.send("event", instance="b")
        early = bench.claim_one()
        assert ids_of(early.messages) == ["event"]
        bench.wait(1)
        bench.send("event")
        item = bench.claim_one()
        assert (item.instance, ids_of(item.messages)) == ("a", ["timer", "event"])
        assert bench.commit(item) is Outcome.OK
        # It fired under the lease for the event.
        assert bench.commit(early) is Outcome.OK
        item = bench.claim_one()
        assert (item.instance, ids_of(item.messages)) == ("b", ["timer"])
        assert bench.commit(item) is Outcome.OK
        bench.wait(LEASE_MS)
        assert bench.claim() == []

    @case("LIMITS", "I7", variants=("send", "create", "message", "activity", "start", "completion"))
    def test_tim_07_far_dues_are_exact_and_too_far_ones_are_refused(self, bench: Bench) -> None:
        """A due time of `max_due_ahead_ms` from now is taken exactly, one beyond it is an InvalidRequest for the whole
        call, and never a clamp."""
        ahead = bench.limits.max_due_ahead_ms
        now = bench.clock.now()
        bench.started("a", events=[b"0"], activities=[activity("work")])
        bench.send("go")
        item, work = bench.claim_one(), bench.claim_one_work()
        # Each lease that is not used is out of the way.
        if bench.variant not in ("message", "activity", "start"):
            assert bench.commit(item) is Outcome.OK
        if bench.variant != "completion":
            assert bench.complete(work) is Outcome.OK

        def call(due: Millis) -> list[Outcome]:
            match bench.variant:
                case "send":
                    return list(bench.hub.send_messages([message("ok"), message("far", due=due)]))
                case "create":
                    return list(bench.hub.create_instances([new_instance("ok"), new_instance("far", due=due)]))
                case "completion":
                    done = ActivityDone(lease=work.lease, message=message("far", due=due))
                    return list(bench.hub.complete_activities([done]))
            effects: dict[str, dict[str, Any]] = {
                "message": {"messages": [message("ok"), message("far", due=due)]},
                "activity": {"activities": [activity("ok"), activity("far", due=due)]},
                "start": {"starts": [new_instance("ok"), new_instance("far", due=due)]},
            }
            return list(bench.hub.commit_turns([turn_commit(item, events=[b"1"], **effects[bench.variant])]))

        index = 1 if bench.variant in ("send", "create") else 0
        with bench.unchanged("a"):
            for bad in (now + ahead + 1, 2**62, -1):
                with pytest.raises(InvalidRequest) as caught:
                    call(bad)
                assert caught.value.index == index
        due = now + ahead
        assert set(call(due)) == {Outcome.OK}
        while ready := bench.claim():
            for other in ready:
                assert bench.commit(other) is Outcome.OK
        for task in bench.claim_work():
            assert bench.complete(task) is Outcome.OK

        def claim() -> TurnBatch | ActivityBatch:
            return bench.claim_work_batch() if bench.variant == "activity" else bench.claim_batch()

        for moment in (now, now + min(10 * YEAR_MS, ahead) - 1, due - 1):
            bench.clock.set(moment)
            check_next_due(claim(), due)
        bench.wait(1)
        assert len(claim().items) == 1

    @case("I7", "REPLACE", variants=("replaced", "purged"))
    def test_tim_08_a_timer_never_fires_into_another_incarnation(self, bench: Bench) -> None:
        """What was to come to an instance that was replaced or purged never comes to the next one of its id: no timer,
        no delayed start, no delayed activity."""
        due = bench.clock.now() + 10
        bench.started("a", messages=[message("timer", due=due)], activities=[activity(due=due)])
        bench.send("stop", due=due, control=True)
        bench.create("pending", due=due)
        bench.send("timer", instance="pending", due=due)
        bench.started("b", messages=[message("timer", "b", due=due)])
        ids = ["a", "pending"]
        if bench.variant == "purged":
            assert bench.purge(*ids, force=True).deleted == 2
            assert bench.create(*ids, due=due + 5) == [Outcome.OK] * 2
        else:
            again = [new_instance(id_, due=due + 5, replace_if=ENDED | {RUNNING, bench.get(id_).status}) for id_ in ids]
            assert list(bench.hub.create_instances(again)) == [Outcome.REPLACED] * 2
        bench.send("own", due=due + 6)
        check_next_due(bench.claim_batch(), due)
        bench.wait(10)
        item = bench.turn()
        assert (item.instance, ids_of(item.messages)) == ("b", ["timer"])
        assert bench.claim_work() == []
        check_next_due(bench.claim_batch(), due + 5)
        bench.wait(5)
        items = {item.instance: item for item in bench.claim()}
        assert {instance: ids_of(item.messages) for instance, item in items.items()} == {
            "a": ["@start"],
            "pending": ["@start"],
        }
        for item in items.values():
            assert bench.commit(item) is Outcome.OK
        bench.wait(1)
        assert ids_of(bench.claim_one().messages) == ["own"]

    @case("I7", "I13")
    def test_tim_09_timers_outlive_continue_as_new_unless_cancelled(self, bench: Bench) -> None:
        """Timers that a continue-as-new doesn't cancel fire in the next execution, those of its own commit among them,
        and those that it cancels don't."""
        due = bench.clock.now() + 10
        first = [message("old", due=due), message("kept", due=due), message("control", due=due, control=True)]
        bench.started(messages=first, activities=[activity("t", due=due), activity("gone", due=due)])
        bench.send()
        bench.turn(
            continued=NextExecution(events=[b"e"]),
            cancel_messages=["old", "own"],
            messages=[message("own", due=due), message("new", due=due)],
            cancel_activities=["gone"],
        )
        check_next_due(bench.claim_batch(), due)
        bench.wait(10)
        item = bench.claim_one()
        assert (item.execution, item.next_seq) == (2, 1)
        assert ids_of(item.messages) == ["kept", "control", "new"]
        assert ids_of(bench.claim_work()) == ["t"]

    @case("I7", variants=tuple(DUES))
    def test_tim_10_dues_round_trip_to_the_millisecond(self, bench: Bench) -> None:
        """Due times, delays and expiries are kept to the millisecond, also where 32 bits or a float would not do."""
        due = DUES[bench.variant]
        bench.clock.set(due - 7)
        bench.started("a", messages=[message("timer", due=due)], activities=[activity(due=due)])
        bench.create("start", due=due)
        bench.create("hidden", "leased")
        items = bench.claim_each("hidden", "leased", lease_ms=7)
        assert items["leased"].lease.expires_at == due
        assert bench.release(items["hidden"].lease, delay_ms=7) is Outcome.OK
        bench.clock.set(due - 1)
        check_next_due(bench.claim_batch(), due)
        check_next_due(bench.claim_work_batch(), due)
        bench.clock.set(due)
        batch = bench.claim_batch()
        assert batch.now == due
        stored = {item.instance: [(one.due, one.enqueued_at) for one in item.messages] for item in batch.items}
        assert stored == {
            "a": [(due, due - 7)],
            "start": [(due, due - 7)],
            "hidden": [(due - 7, due - 7)],
            "leased": [(due - 7, due - 7)],
        }
        assert ids_of(bench.claim_work()) == ["t"]

    @case("I7", "I2", "I10")
    def test_tim_17_no_time_is_cut_to_a_larger_unit(self, bench: Bench) -> None:
        """Times that are no whole seconds count to the millisecond: dues, leases, kept and renewed ones, and release
        delays, of turns and of activities."""
        bench.wait(7)
        now = bench.clock.now()
        length, longer = 2503, 4009
        late = now + length
        bench.started("timer", messages=[message("t", "timer", due=late)])
        activities = [activity("due", due=late), *map(activity, ("leased", "renewed", "hidden"))]
        bench.started("work", activities=activities)
        bench.create("start", due=late)
        bench.create("leased", "renewed", "hidden", "kept")
        items = bench.claim_each("leased", "renewed", "hidden", "kept", lease_ms=length)
        work = {item.id: item for item in bench.claim_work(lease_ms=length)}
        assert sorted(work) == ["hidden", "leased", "renewed"]
        for lease in (items["renewed"].lease, work["renewed"].lease):
            assert bench.renew(lease, longer)[0] is Outcome.OK
        for lease in (items["hidden"].lease, work["hidden"].lease):
            assert bench.release(lease, delay_ms=length) is Outcome.OK
        assert bench.commit(items["kept"], consumed=[], keep_ms=length) is Outcome.OK
        bench.wait(length - 1)
        check_next_due(bench.claim_batch(), late)
        check_next_due(bench.claim_work_batch(), late)
        bench.wait(1)
        bench.claim_each("hidden", "kept", "leased", "start", "timer")
        assert sorted(ids_of(bench.claim_work())) == ["due", "hidden", "leased"]
        bench.wait(longer - length - 1)
        check_next_due(bench.claim_batch(), now + longer)
        check_next_due(bench.claim_work_batch(), now + longer)
        bench.wait(1)
        assert bench.claim_one().instance == "renewed"
        assert bench.claim_one_work().id == "renewed"

    @case("I7", "I8", slow=True)
    def test_tim_11_timers_fire_one_by_one_as_time_goes(self, bench: Bench) -> None:
        """A thousand timers a millisecond apart come each at its own time, in order, and none twice."""
        now = bench.clock.now()
        count = 1000
        order = list(range(1, count + 1))
        bench.rng.shuffle(order)
        bench.started(messages=[message(f"t{number}", due=now + number) for number in order])
        came = []
        for _ in order:
            bench.wait(1)
            item = bench.claim_one()
            came.append(ids_of(item.messages))
            assert bench.commit(item) is Outcome.OK
        assert came == [[f"t{number}"] for number in range(1, count + 1)]
        bench.wait(LEASE_MS)
        assert bench.claim() == []

    @case("I20", "I7", level=Level.L1, requires=("durable",))
    def test_tim_12_timers_survive_a_reopening(self, bench: Bench) -> None:
        """Timers, delayed starts, delayed activities and release delays are there when the store is opened again, due
        when they were."""
        now = bench.clock.now()
        bench.started("a", messages=[message("timer", due=now + 10)], activities=[activity(due=now + 15)])
        bench.create("start", due=now + 20)
        bench.create("hidden")
        assert bench.release(bench.claim_one().lease, delay_ms=30) is Outcome.OK
        bench.reopen()
        check_next_due(bench.claim_batch(), now + 10)
        check_next_due(bench.claim_work_batch(), now + 15)
        bench.wait(9)
        assert bench.claim() == []
        bench.wait(1)
        bench.reopen()
        assert ids_of(bench.turn().messages) == ["timer"]
        assert bench.claim_work() == []
        bench.wait(5)
        assert ids_of(bench.claim_work()) == ["t"]
        bench.reopen()
        for instance in ("start", "hidden"):
            bench.wait(4)
            assert bench.claim() == []
            bench.wait(1 if instance == "start" else 6)
            item = bench.turn()
            assert (item.instance, ids_of(item.messages)) == (instance, ["@start"])

    @case("I10")
    def test_tim_13_a_hub_with_one_timer_lets_its_workers_sleep(self, bench: Bench) -> None:
        """Where nothing is ready a claim returns nothing, `more` is False, and `next_due` is later than now."""
        due = bench.clock.now() + 3_600_000
        first = bench.started(keep_ms=LEASE_MS)
        for batch in (bench.claim_batch(), bench.claim_batch(held=[first.lease]), bench.claim_work_batch()):
            assert (list(batch.items), batch.more) == ([], False)
            assert batch.next_due is None or batch.next_due > batch.now
        bench.send("timer", due=due)
        check_next_due(bench.claim_batch(), due)
        check_next_due(bench.claim_batch(max_items=1), due)
        check_next_due(bench.claim_batch(names=["flow"], held=[first.lease]), due)
        bench.started("b", activities=[activity(due=due)])
        check_next_due(bench.claim_work_batch(), due)
        turns, work = bench.hub.stats().turns, bench.hub.stats().activities
        assert (turns.ready, turns.leased) == (0, 1)
        assert (work.ready, work.leased, work.future) == (0, 0, 1)
        bench.wait(LEASE_MS)
        turns = bench.hub.stats().turns
        assert (turns.ready, turns.leased, turns.future) == (0, 0, 1)
        bench.clock.set(due)
        assert ids_of(bench.claim_one().messages) == ["timer"]

    @case("I7", "CLOCK", level=Level.L1, slow=True)
    def test_tim_14_a_timer_fires_in_real_time(self, bench: Bench) -> None:
        """On the store's own clock a timer of 300 ms fires after 300 ms, and soon after."""
        driver = bench.new_hub_in_real_time()
        driver.started()
        started = time.monotonic()
        due = driver.hub.now() + 300
        assert driver.send("timer", due=due) == [Outcome.OK]
        # The bound is that of a machine with much else to do.
        while not (batch := driver.claim_batch()).items:
            assert time.monotonic() < started + 10
            assert batch.next_due is not None
            assert batch.next_due <= due
            time.sleep(0.01)
        assert batch.now >= due
        # The store's clock may be another than this machine's, and be adjusted.
        assert time.monotonic() - started >= 0.25
        deliveries = [(delivery.id, delivery.due) for item in batch.items for delivery in item.messages]
        assert deliveries == [("timer", due)]
        assert driver.commit(batch.items[0]) is Outcome.OK


_TURNS_PLANNED: Final = [
    (200, "start"),
    (300, "hidden"),
    (400, "kept"),
    (500, "kept"),
    (600, "leased"),
    (700, "start"),
    (800, "timers"),
    (900, "timers"),
]


def _plan_turns(bench: Bench, now: Millis) -> None:
    """Make what is planned, the last of it first, so that each is the next thing when it is made."""
    bench.started("timers", messages=[message("t2", "timers", due=now + 900), message("t1", "timers", due=now + 800)])
    check_next_due(bench.claim_batch(), now + 800)
    bench.create("start", due=now + 700)
    check_next_due(bench.claim_batch(), now + 700)
    bench.started("leased")
    bench.send(instance="leased")
    bench.claim_one(lease_ms=600)
    check_next_due(bench.claim_batch(), now + 600)
    first = bench.started("kept", keep_ms=400)
    bench.send("t2", instance="kept", due=now + 500)
    check_next_due(bench.claim_batch(), now + 500)
    bench.send("t1", instance="kept", due=now + 350)
    check_next_due(bench.claim_batch(), now + 400)
    # Its holder need not wait for the end of the lease.
    check_next_due(bench.claim_batch(held=[first.lease]), now + 350)
    bench.create("hidden")
    bench.release(bench.claim_one().lease, delay_ms=300)
    check_next_due(bench.claim_batch(), now + 300)
    bench.send("stop", instance="start", due=now + 200, control=True)
    check_next_due(bench.claim_batch(), now + 200)
    check_next_due(bench.claim_batch(names=[]), now + 200)


_ACTIVITIES_PLANNED: Final = [(200, "q"), (300, "hidden"), (400, "leased"), (500, "due")]


def _plan_activities(bench: Bench, now: Millis) -> None:
    bench.started(activities=[activity("due", due=now + 500)])
    queues = ["default", "q"]
    check_next_due(bench.claim_work_batch(queues=queues), now + 500)
    bench.started("b", activities=[activity("leased")])
    bench.claim_one_work(lease_ms=400)
    check_next_due(bench.claim_work_batch(queues=queues), now + 400)
    bench.started("c", activities=[activity("hidden")])
    assert bench.release(bench.claim_one_work().lease, delay_ms=300) is Outcome.OK
    check_next_due(bench.claim_work_batch(queues=queues), now + 300)
    bench.started("d", activities=[activity("q", queue="q", due=now + 200)])
    check_next_due(bench.claim_work_batch(queues=queues), now + 200)
    check_next_due(bench.claim_work_batch(queues=["default"]), now + 300)

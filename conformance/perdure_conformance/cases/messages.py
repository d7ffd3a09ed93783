"""MSG: messages, which arrive in order, are never lost, and are delivered once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from perdure.spi import (
    ActivityDone,
    BadId,
    Delivery,
    Exchange,
    Message,
    NextExecution,
    Outcome,
    Transient,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    FAILED,
    LEASE_MS,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    Driver,
    activity,
    fresh,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
    turn_commit,
)

PATHS = ("client", "commit", "completion", "conflict")
"""The ways on which a message gets into an inbox."""


def put(bench: Bench, path: str, *messages: Message) -> None:
    """Put messages into inboxes on one of the ways; what can't be taken is another matter."""
    if path == "client":
        bench.hub.send_messages(messages)
        return
    sender = fresh("sender")
    if path == "conflict":
        # No start replaces the instance that commits it.
        bench.started(sender, starts=[new_instance(sender, on_conflict=one) for one in messages])
        return
    if path == "commit":
        bench.started(sender, messages=messages)
        return
    bench.started(sender, activities=[activity(f"t{number}") for number in range(len(messages))])
    work = [item for item in bench.claim_work() if item.instance == sender]
    done = [ActivityDone(lease=item.lease, message=result) for item, result in zip(work, messages, strict=True)]
    assert list(bench.hub.complete_activities(done)) == [Outcome.OK] * len(messages)


def inbox(bench: Bench, instance: str = "a") -> list[Delivery]:
    """Return what a claim delivers to an instance, and give every lease back."""
    found: list[Delivery] = []
    for item in bench.claim(max_items=1000):
        if item.instance == instance:
            found = list(item.messages)
        bench.release(item.lease, penalize=False)
    return found


def drain(bench: Bench, instance: str = "a", *, max_messages: int = 1000) -> list[str]:
    """Consume all that an instance has to receive now, and return the ids in order."""
    got: list[str] = []
    # One that keeps what was consumed would never end.
    for _ in range(1000):
        items = {item.instance: item for item in bench.claim(max_messages=max_messages)}
        item = items.pop(instance, None)
        for other in items.values():
            bench.release(other.lease, penalize=False)
        if item is None:
            break
        got += ids_of(item.messages)
        assert bench.commit(item) is Outcome.OK
    return got


def pump(bench: Driver) -> None:
    """Have all housekeeping done."""
    for _ in range(1000):
        if not bench.hub.pump().more:
            return


def shuffled(bench: Bench, number: int, prefix: str = "m") -> list[str]:
    """Return ids whose order is neither that of their text nor that of their numbers."""
    names = [f"{prefix}{place}" for place in range(number)]
    bench.rng.shuffle(names)
    return names


class MessageCases:
    """Cases MSG."""

    @case("I7", "I8", variants=PATHS)
    def test_msg_01_a_message_is_delivered_with_payload_and_times(self, bench: Bench) -> None:
        """A message to a running instance is delivered with its id, payload, times and kind, at every claim alike."""
        bench.started()
        bench.wait(5)
        sent_at = bench.clock.now()
        put(bench, bench.variant, message("m", payload=b"p"))
        bench.wait(5)
        put(bench, bench.variant, message("past", payload=b"q", due=1))
        put(bench, bench.variant, message("timer", payload=b"r", due=bench.clock.now() + 10))
        put(bench, bench.variant, message("control", payload=b"s", control=True))
        late = bench.clock.now()
        bench.wait(15)
        expected = [
            Delivery(id="past", payload=b"q", due=1, enqueued_at=late),
            Delivery(id="m", payload=b"p", due=sent_at, enqueued_at=sent_at),
            Delivery(id="control", payload=b"s", due=late, enqueued_at=late, control=True),
            Delivery(id="timer", payload=b"r", due=late + 10, enqueued_at=late),
        ]
        assert inbox(bench) == expected
        bench.wait(5)
        assert inbox(bench) == expected
        if bench.variant == "client":
            assert bench.send("last") == [Outcome.OK]

    @case("I11", "I7", "RESULTS")
    def test_msg_02_refusals_are_told_in_the_order_asked(self, bench: Bench) -> None:
        """A message to nobody is NOT_FOUND, one to an ended instance TERMINAL, and neither hinders its neighbours."""
        finished = [status.value for status in ENDED]
        for status in ENDED:
            bench.ended(status.value, status=status)
        bench.started("a")
        bench.create("pending")
        generation = bench.get().generation
        ok, duplicate, unknown, ended = Outcome.OK, Outcome.DUPLICATE, Outcome.NOT_FOUND, Outcome.TERMINAL
        with bench.unchanged(*finished):
            assert bench.send("m", instance="nobody") == [unknown]
            for name in finished:
                assert bench.send("m", instance=name) == [ended]
                assert bench.send("m", instance=name, control=True) == [ended]
                assert bench.send("m", instance=name, due=bench.clock.now() + 5) == [ended]
        sent = [
            message("m", "nobody"),
            message("m", "a"),
            message("m", "COMPLETED"),
            message("m", "a"),
            message("n", "a", generation="other"),
            message("n", "a", generation=generation),
            message("m", "FAILED", generation="other"),
            message("m", "pending"),
            message("m", "TERMINATED"),
        ]
        came = list(bench.hub.send_messages(sent))
        assert came == [unknown, ok, ended, duplicate, unknown, ok, unknown, ok, ended]
        assert ids_by_instance(bench.claim()) == {
            "a": ["m", "n"],
            "pending": ["@start", "m"],
        }

    @case("I11", "I7")
    def test_msg_19_of_several_refusals_the_first_is_told(self, bench: Bench) -> None:
        """Of several refusals the first is told: NOT_FOUND, then TERMINAL, then DUPLICATE."""
        bench.started()
        bench.send("m")
        bench.turn(status=COMPLETED)
        assert bench.send("m", generation="other") == [Outcome.NOT_FOUND]
        assert bench.send("m", generation="other", reopen=ENDED) == [Outcome.NOT_FOUND]
        assert bench.send("m") == [Outcome.TERMINAL]
        assert bench.send("m", reopen=frozenset({FAILED})) == [Outcome.TERMINAL]
        assert bench.send("m", reopen=ENDED) == [Outcome.DUPLICATE]
        assert bench.get().status is COMPLETED
        assert bench.send("n", reopen=ENDED) == [Outcome.OK]
        assert bench.get().status is RUNNING

    @case("I8")
    def test_msg_03_a_batch_keeps_its_order(self, bench: Bench) -> None:
        """A thousand messages sent in one call are delivered in their order, instance by instance, start first."""
        bench.started("a")
        bench.create("b")
        names = shuffled(bench, min(1000, bench.limits.max_batch, bench.limits.max_pending))
        assert set(bench.hub.send_messages([message(id_, "ab"[place % 2]) for place, id_ in enumerate(names)])) == {
            Outcome.OK
        }
        came = ids_by_instance(bench.claim())
        assert came == {"a": names[0::2], "b": ["@start", *names[1::2]]}

    @case("I8")
    def test_msg_04_order_holds_across_calls_and_senders(self, bench: Bench) -> None:
        """Messages sent one after another are delivered in that order, whoever sent them and in calls of any size."""
        bench.started()
        expected: list[str] = []
        for number, size in enumerate([3, 1, 40, 1, 2, 7, 1, 15, 2]):
            names = shuffled(bench, size, f"{9 - number}.")
            put(bench, PATHS[number % len(PATHS)], *(message(name) for name in names))
            expected += names
            if number % 2:
                bench.wait(1)
        assert ids_of(inbox(bench)) == expected
        assert drain(bench, max_messages=10) == expected

    @case("I8")
    def test_msg_20_results_come_in_the_order_of_completion(self, bench: Bench) -> None:
        """Results of activities are delivered in the order of their completions, not of their scheduling."""
        bench.started(activities=[activity(f"t{number}") for number in range(60)])
        work = bench.claim_work()
        assert len(work) == 60
        bench.rng.shuffle(work)
        done = [ActivityDone(lease=item.lease, message=message(item.id)) for item in work]
        assert list(bench.hub.complete_activities(done)) == [Outcome.OK] * 60
        assert ids_of(inbox(bench)) == [item.id for item in work]

    @case("I8", "CLOCK")
    def test_msg_21_a_clock_that_jumps_back_reorders_nothing(self, bench: Bench) -> None:
        """A message sent for now is stored no earlier than the one before it, even if the clock jumped back."""
        bench.started()
        bench.started("b")
        bench.wait(10_000)
        bench.send("m1")
        first = bench.clock.now()
        bench.wait(-5000)
        for path, name in zip(PATHS, ("m2", "m3", "m4", "m5"), strict=True):
            put(bench, path, message(name))
        # It is so for each instance by itself.
        bench.send("early", instance="b")
        came = bench.claim_batch()
        assert [item.instance for item in came.items] == ["b"]
        assert came.next_due is not None
        assert came.next_due <= first
        bench.release(came.items[0].lease)
        bench.wait(5000)
        messages = inbox(bench)
        assert ids_of(messages) == ["m1", "m2", "m3", "m4", "m5"]
        assert [delivery.due for delivery in messages] == [first] * 5
        assert drain(bench, "b") == ["early"]
        # Those that were consumed count as well, whatever became of the instance since.
        steps: dict[str, dict[str, Any]] = {
            "after a turn": {},
            "after an execution": {"continued": NextExecution(events=[])},
            "after an end": {"status": FAILED},
        }
        for name, step in steps.items():
            bench.turn(**step)
            bench.wait(-1000)
            assert bench.send(name, reopen=ENDED) == [Outcome.OK]
            bench.wait(1000)
            assert [(delivery.id, delivery.due) for delivery in inbox(bench)] == [(name, first)]
        # One with a due of its own doesn't, though it be past.
        bench.wait(500)
        bench.send("own", due=first + 500)
        bench.turn(consumed=["after an end"])
        bench.wait(-250)
        bench.send("last")
        assert [(delivery.id, delivery.due) for delivery in inbox(bench)] == [("last", first + 250)]
        # Nor do those of an incarnation before.
        bench.turn(status=COMPLETED)
        bench.wait(-1000)
        assert bench.create(replace_if=ENDED) == [Outcome.REPLACED]
        assert [(delivery.id, delivery.due) for delivery in inbox(bench)] == [("@start", first - 750)]

    @case("I7", variants=PATHS)
    def test_msg_05_a_pending_id_is_a_duplicate(self, bench: Bench) -> None:
        """A message whose id is pending is a DUPLICATE, whoever sends it and however it differs: the first one wins."""
        bench.started()
        first = [message("now", payload=b"1"), message("later", payload=b"1", due=bench.clock.now() + 100)]
        put(bench, bench.variant, *first)
        again = [message("now", payload=b"2"), message("later", payload=b"2"), message("later", payload=b"3", due=1)]
        for path in PATHS:
            put(bench, path, *again)
        assert bench.send("now", "new", "new", control=True) == [Outcome.DUPLICATE, Outcome.OK, Outcome.DUPLICATE]
        came = [(delivery.id, delivery.payload) for delivery in inbox(bench)]
        assert came == [("now", b"1"), ("new", b"payload")]
        # Also while it is delivered.
        item = bench.claim_one()
        assert bench.send("now", "new", "later") == [Outcome.DUPLICATE] * 3
        assert bench.commit(item) is Outcome.OK
        assert bench.claim() == []
        bench.wait(100)
        assert [(delivery.id, delivery.payload) for delivery in inbox(bench)] == [("later", b"1")]

    @case("I7")
    def test_msg_06_an_id_is_one_message_in_each_instance(self, bench: Bench) -> None:
        """The same id is a message of its own in every instance, whatever became of it in another."""
        for name in ("a", "b", "c"):
            bench.started(name)
        sent = [message("m", name, payload=name.encode()) for name in ("a", "b", "c")]
        assert list(bench.hub.send_messages(sent)) == [Outcome.OK] * 3
        items = bench.claim_each("a", "b", "c")
        came = {name: [delivery.payload for delivery in item.messages] for name, item in items.items()}
        assert came == {"a": [b"a"], "b": [b"b"], "c": [b"c"]}
        assert bench.commit(items["b"], consumed=[], cancel_messages=["m"]) is Outcome.OK
        assert bench.commit(items["a"]) is Outcome.OK
        bench.release(items["c"].lease)
        assert [delivery.payload for delivery in inbox(bench, "c")] == [b"c"]
        bench.started("d")
        # Consumed in one, cancelled in another, pending in the third, unknown in the fourth.
        sent = [message("m", name) for name in ("a", "b", "c", "d")]
        duplicate, ok = Outcome.DUPLICATE, Outcome.OK
        assert list(bench.hub.send_messages(sent)) == [duplicate, ok, duplicate, ok]

    @case("I9", "I7", variants=PATHS)
    def test_msg_07_what_arrives_under_a_lease_waits_for_its_end(self, bench: Bench) -> None:
        """A message that arrives under a lease survives the commit, and makes the instance claimable right after it."""
        bench.started("other")
        bench.create()
        item = bench.claim_one()
        put(bench, bench.variant, message("m"), message("n"))
        came = bench.claim_batch()
        assert list(came.items) == []
        assert came.next_due is not None
        assert came.next_due <= item.lease.expires_at
        assert bench.commit(item, events=[b"e"]) is Outcome.OK
        item = bench.claim_one()
        assert ids_of(item.messages) == ["m", "n"]
        # One that belongs in front of what was delivered stays too, and so does a timer that comes due meanwhile.
        put(bench, bench.variant, message("past", due=1), message("timer", due=bench.clock.now() + 10))
        put(bench, bench.variant, message("o"))
        bench.wait(10)
        assert bench.commit(item) is Outcome.OK
        item = bench.claim_one()
        assert ids_of(item.messages) == ["past", "o", "timer"]
        # Given back, or left alone, it has them all.
        put(bench, bench.variant, message("p"))
        bench.release(item.lease)
        item = bench.claim_one()
        assert ids_of(item.messages) == ["past", "o", "timer", "p"]
        put(bench, bench.variant, message("q"))
        bench.wait(LEASE_MS)
        item = bench.claim_one()
        assert ids_of(item.messages) == ["past", "o", "timer", "p", "q"]
        assert bench.commit(item) is Outcome.OK
        assert bench.claim() == []

    @case("I7", "I14")
    def test_msg_08_what_was_not_consumed_comes_again(self, bench: Bench) -> None:
        """A commit that consumes some of what was delivered leaves the rest, which comes again in its order."""
        bench.started()
        bench.send("m1", "m2", "m3", "m4", "m5")
        item = bench.claim_one()
        assert ids_of(item.messages) == ["m1", "m2", "m3", "m4", "m5"]
        assert bench.commit(item, consumed=["m4", "m2"]) is Outcome.OK
        item = bench.claim_one()
        assert (ids_of(item.messages), item.attempt) == (["m1", "m3", "m5"], 1)
        assert bench.commit(item, consumed=["m1"]) is Outcome.OK
        item = bench.claim_one()
        assert ids_of(item.messages) == ["m3", "m5"]
        assert bench.commit(item, consumed=[]) is Outcome.OK
        item = bench.claim_one()
        assert (ids_of(item.messages), item.attempt) == (["m3", "m5"], 1)
        bench.release(item.lease)
        item = bench.claim_one()
        assert (ids_of(item.messages), item.attempt) == (["m3", "m5"], 2)
        assert bench.commit(item, consumed=["m5"]) is Outcome.OK
        item = bench.claim_one()
        assert ids_of(item.messages) == ["m3"]
        assert bench.commit(item, consumed=["m3", "m3"]) is Outcome.OK
        came = bench.claim_batch()
        assert (list(came.items), came.next_due) == ([], None)

    @case("I8", "I9")
    def test_msg_09_max_messages_cuts_a_prefix(self, bench: Bench) -> None:
        """With `max_messages` a claim delivers that many from the front, and the instance stays ready for the rest."""
        bench.create()
        bench.send("m1", "m2", "m3")
        bench.send("future", due=bench.clock.now() + 1000)
        bench.send("first", due=1)
        for expected in (["@start", "first"], ["m1", "m2"], ["m3"]):
            came = bench.claim_batch(max_messages=2)
            assert [ids_of(item.messages) for item in came.items] == [expected]
            assert came.more is False
            item = came.items[0]
            # What was cut off was not delivered, and can't be consumed.
            assert bench.commit(item, consumed=["@start", "first", "m1", "m2", "m3", "future"]) is Outcome.OK
        assert bench.claim() == []
        bench.wait(1000)
        for most in (4, 3, 1):
            item = bench.claim_one(max_messages=most)
            assert ids_of(item.messages) == ["future"]
            bench.release(item.lease)
        bench.send("n1", "n2")
        for most, expected in ((1, ["future"]), (2, ["future", "n1"]), (3, ["future", "n1", "n2"])):
            item = bench.claim_one(max_messages=most)
            assert ids_of(item.messages) == expected
            bench.release(item.lease)

    @case("I7")
    def test_msg_10_consuming_what_was_not_delivered_does_nothing(self, bench: Bench) -> None:
        """Consuming an id that the claim did not deliver is no error, and no message of that id goes for it."""
        bench.started("b")
        bench.send("m", instance="b")
        bench.started()
        bench.send("m1")
        bench.send("later", due=bench.clock.now() + 1000)
        items = bench.claim_each("a", "b")
        bench.release(items["b"].lease)
        item = items["a"]
        bench.send("new", "m2")
        bench.send("front", due=1)
        consumed = ["unknown", "new", "front", "m", "later", "m1"]
        assert bench.commit(item, consumed=consumed, keep_ms=LEASE_MS) is Outcome.OK
        # The holder goes on: what it consumes now is what it gets now.
        items = bench.claim_each("a", "b", held=[item.lease], max_messages=1)
        bench.release(items["b"].lease)
        item = items["a"]
        assert ids_of(item.messages) == ["front"]
        assert bench.commit(item, consumed=["front", "new", "later", "m1"]) is Outcome.OK
        assert ids_of(inbox(bench)) == ["new", "m2"]
        assert ids_of(inbox(bench, "b")) == ["m"]
        bench.wait(1000)
        assert ids_of(inbox(bench)) == ["new", "m2", "later"]

    @case("I7")
    def test_msg_22_a_later_message_of_a_delivered_id_stays(self, bench: Bench) -> None:
        """A message that comes under a lease in the place of a delivered one of its id is not consumed with that."""
        bench.started()
        bench.send("cancelled", "consumed", "other")
        item = bench.claim_one(lease_ms=2 * bench.limits.dedupe_ms)
        keep_ms = 2 * bench.limits.dedupe_ms
        assert bench.commit(item, consumed=["consumed"], cancel_messages=["cancelled"], keep_ms=keep_ms) is Outcome.OK
        bench.wait(bench.limits.dedupe_ms + 1)
        assert bench.send("cancelled", "consumed", payload=b"new") == [Outcome.OK] * 2
        # The same lease, and no claim since then.
        assert bench.commit(item, consumed=["cancelled", "consumed", "other"]) is Outcome.OK
        came = [(delivery.id, delivery.payload) for delivery in inbox(bench)]
        assert came == [("cancelled", b"new"), ("consumed", b"new")]

    @case("I7", "I13")
    def test_msg_11_cancelling_takes_pending_messages_only(self, bench: Bench) -> None:
        """`cancel_messages` takes pending messages of this instance, those of the same commit among them."""
        bench.started("b")
        bench.started()
        bench.send("due", instance="b")
        bench.send("due", "consumed", "kept")
        bench.send("timer", due=bench.clock.now() + 10)
        bench.send("control", control=True)
        items = bench.claim_each("a", "b")
        bench.release(items["b"].lease)
        bench.send("arrived")
        cancelled = ["due", "timer", "control", "arrived", "own", "own timer", "unknown", "consumed"]
        outcome = bench.commit(
            items["a"],
            consumed=["consumed"],
            messages=[message("own"), message("own timer", due=bench.clock.now() + 5), message("own", "b")],
            cancel_messages=cancelled,
        )
        assert outcome is Outcome.OK
        assert ids_of(inbox(bench)) == ["kept"]
        assert ids_of(inbox(bench, "b")) == ["due", "own"]
        bench.wait(10)
        assert drain(bench) == ["kept"]
        assert drain(bench, "b") == ["due", "own"]
        # What was cancelled was not consumed: it may come anew.
        assert bench.send("due", "timer", "arrived", "own", "consumed") == [Outcome.OK] * 4 + [Outcome.DUPLICATE]
        bench.turn(consumed=[], cancel_messages=["due", "timer", "arrived", "own"])
        came = bench.claim_batch()
        assert (list(came.items), came.next_due) == ([], None)

    @case("I7", "REPLACE", "PURGE", variants=PATHS)
    def test_msg_12_a_message_reaches_the_generation_it_is_meant_for(self, bench: Bench) -> None:
        """A message that names another generation finds nobody; one that names none reaches the current one."""
        due = bench.clock.now() + 10
        bench.create("a", generation="g1")
        bench.turn(status=COMPLETED)
        bench.create("a", generation="g2", replace_if=ENDED)
        bench.turn(consumed=["@start"])
        put(bench, bench.variant, message("m1", generation="g1"), message("m2", generation="g2"), message("m"))
        put(bench, bench.variant, message("m3", generation="g1", due=due), message("m4", generation="G2"))
        assert ids_of(inbox(bench)) == ["m2", "m"]
        assert bench.send("x", generation="g1") == [Outcome.NOT_FOUND]
        # What was pending for one incarnation is not for the next, though it named none.
        bench.send("timer", due=due)
        assert bench.purge("a", force=True).deleted == 1
        assert bench.send("m", generation="g2") == [Outcome.NOT_FOUND]
        bench.create("a", generation="g3")
        bench.turn()
        put(bench, bench.variant, message("m2", generation="g2"), message("m5", generation="g3"), message("m"))
        bench.wait(10)
        assert ids_of(inbox(bench)) == ["m5", "m"]

    @case("I4", "I8")
    def test_msg_13_a_message_to_itself_comes_with_the_next_claim(self, bench: Bench) -> None:
        """A commit's messages to its own instance come with the next claim, behind what was pending before."""
        bench.create()
        item = bench.claim_one()
        bench.send("arrived", "twice")
        due = bench.clock.now() + 10
        own = [message("self"), message("timer", due=due), message("twice"), message("last", payload=b"")]
        assert bench.commit(item, messages=own) is Outcome.OK
        item = bench.claim_one()
        assert ids_of(item.messages) == ["arrived", "twice", "self", "last"]
        # Also for the holder of a kept lease, and for nobody else.
        assert bench.commit(item, messages=[message("kept")], keep_ms=LEASE_MS) is Outcome.OK
        assert bench.claim() == []
        item = bench.claim_one(held=[item.lease])
        assert ids_of(item.messages) == ["kept"]
        assert bench.commit(item) is Outcome.OK
        bench.wait(9)
        assert bench.claim() == []
        bench.wait(1)
        assert drain(bench) == ["timer"]

    @case("I4", "I7", "I8")
    def test_msg_14_messages_of_a_commit_reach_others_once(self, bench: Bench) -> None:
        """A commit's messages to others are delivered exactly once, in order, to a new child after its start."""
        bench.started("b")
        bench.started("c")
        bench.send("before", instance="b")
        bench.create("a")
        items = bench.claim_each("a", "b")
        bench.release(items["b"].lease)
        messages = [
            message("m2", "b", payload=b"to b"),
            message("m1", "c", payload=b"to c"),
            message("hello", "child"),
            message("m1", "b"),
        ]
        commit = turn_commit(items["a"], messages=messages, starts=[new_instance("child")])
        assert list(bench.hub.commit_turns([commit])) == [Outcome.OK]
        expected = {"b": ["before", "m2", "m1"], "c": ["m1"], "child": ["@start", "hello"]}
        items = bench.claim_each("b", "c", "child")
        assert {name: ids_of(item.messages) for name, item in items.items()} == expected
        assert [delivery.payload for delivery in items["b"].messages] == [b"payload", b"to b", b"payload"]
        pump(bench)
        assert list(bench.hub.commit_turns([commit])) == [Outcome.ALREADY]
        assert list(bench.hub.commit_turns([turn_commit(item) for item in items.values()])) == [Outcome.OK] * 3
        pump(bench)
        assert list(bench.hub.commit_turns([commit])) == [Outcome.ALREADY]
        came = bench.claim_batch()
        assert (list(came.items), came.next_due) == ([], None)

    @case("I7", "I11", variants=("commit", "completion", "conflict"))
    def test_msg_23_an_undeliverable_message_is_dropped_and_the_rest_stands(self, bench: Bench) -> None:
        """A message of a commit or a completion that nobody can take is dropped; what it came with stands."""
        bench.ended("ended")
        bench.started("b")
        ended = bench.get("ended")
        bench.send("pending", instance="b", payload=b"1")
        messages = [
            message("m", "nobody"),
            message("m1", "b"),
            message("m", "ended"),
            message("m", "b", generation="other"),
            message("pending", "b", payload=b"2"),
            message("m2", "b", generation=bench.get("b").generation),
        ]
        put(bench, bench.variant, *messages)
        came = [(delivery.id, delivery.payload) for delivery in inbox(bench, "b")]
        assert came == [("pending", b"1"), ("m1", b"payload"), ("m2", b"payload")]
        assert bench.get("ended") == ended
        # Consumed, these ids are free: for clients alone, who repeat their calls, is an id remembered.
        for _ in range(2):
            drain(bench, "b")
            put(bench, bench.variant, message("m1", "b"))
            assert ids_of(inbox(bench, "b")) == ["m1"]
        assert list(bench.hub.get_instances(["nobody"])) == [None]
        # Nothing was kept for who comes later.
        bench.create("nobody")
        assert ids_of(inbox(bench, "nobody")) == ["@start"]
        assert bench.claim_work() == []

    @case("I7", "I5")
    def test_msg_15_a_consumed_id_is_remembered_for_a_while(self, bench: Bench) -> None:
        """The id of a consumed client message is refused for `dedupe_ms` from its consumption on, then taken anew."""
        assert bench.limits.dedupe_ms >= 600_000
        bench.started()
        # However many there are.
        many = [f"many{number}" for number in range(min(400, bench.limits.max_batch))]
        assert bench.send(*many) == [Outcome.OK] * len(many)
        assert drain(bench) == many
        assert bench.send(*many) == [Outcome.DUPLICATE] * len(many)
        for is_swept in (False, True):
            assert bench.send("m", "n") == [Outcome.OK] * 2
            assert bench.send("timer", due=bench.clock.now() + 1000) == [Outcome.OK]
            assert bench.send("control", control=True) == [Outcome.OK]
            bench.wait(1000)
            item = bench.claim_one()
            bench.wait(1000)
            assert bench.commit(item) is Outcome.OK
            assert bench.send("m", "n", "m", "timer", "control") == [Outcome.DUPLICATE] * 5
            put(bench, "commit", message("m"))
            put(bench, "completion", message("n"))
            bench.wait(bench.limits.dedupe_ms - 1)
            pump(bench)
            assert bench.send("m", "n", "timer", "control") == [Outcome.DUPLICATE] * 4
            assert inbox(bench) == []
            # Whether it still is at the very moment is left open.
            bench.wait(2)
            if is_swept:
                pump(bench)
        assert bench.send("m") == [Outcome.OK]
        assert drain(bench) == ["m"]

    @case("I7", "REPLACE", "PURGE")
    def test_msg_24_what_is_remembered_belongs_to_the_incarnation(self, bench: Bench) -> None:
        """Consumed ids are remembered across executions and a reopening, and forgotten with the incarnation."""
        bench.started()
        bench.send("m")
        bench.turn(continued=NextExecution(events=[b"e"]))
        bench.send("rewritten")
        bench.turn(events=[b"f"], rewrite=True, status=SUSPENDED)
        assert bench.send("m", "rewritten") == [Outcome.DUPLICATE] * 2
        bench.send("n")
        bench.turn(status=FAILED, failure=b"f")
        assert bench.send("m", "n", reopen=ENDED) == [Outcome.DUPLICATE] * 2
        assert bench.send("o", reopen=ENDED) == [Outcome.OK]
        assert bench.send("m", "n") == [Outcome.DUPLICATE] * 2
        bench.turn(status=COMPLETED)
        assert bench.create(replace_if=ENDED) == [Outcome.REPLACED]
        assert bench.send("m", "n", "o") == [Outcome.OK] * 3
        assert drain(bench) == ["@start", "m", "n", "o"]
        assert bench.purge("a", force=True).deleted == 1
        bench.create()
        assert bench.send("m", "n", "o") == [Outcome.OK] * 3
        assert drain(bench) == ["@start", "m", "n", "o"]

    @case("I5", "I7", variants=("alone", "exchange"))
    def test_msg_25_a_repeated_commit_or_completion_delivers_nothing(self, bench: Bench) -> None:
        """A commit or a completion that is repeated delivers nothing a second time, even after the consumption."""
        bench.started("b")
        bench.create("a")
        item = bench.claim_one()
        own = [message("to b", "b"), message("to itself", "a")]
        commit = turn_commit(item, messages=own, activities=[activity()], starts=[new_instance("child")])

        def apply(done: Sequence[ActivityDone]) -> tuple[list[Outcome], list[Outcome]]:
            if bench.variant == "exchange":
                answer = bench.hub.exchange(Exchange(commits=[commit], done=done))
                return list(answer.commits), list(answer.done)
            return list(bench.hub.commit_turns([commit])), list(bench.hub.complete_activities(done))

        assert apply([]) == ([Outcome.OK], [])
        result = ActivityDone(lease=bench.claim_one_work().lease, message=message("result", "b"))
        assert apply([result]) == ([Outcome.ALREADY], [Outcome.OK])
        items = bench.claim_each("a", "b", "child")
        came = {name: ids_of(item.messages) for name, item in items.items()}
        assert came == {"a": ["to itself"], "b": ["to b", "result"], "child": ["@start"]}
        assert apply([result, result]) == ([Outcome.ALREADY], [Outcome.LOST] * 2)
        others = [turn_commit(items["b"]), turn_commit(items["child"])]
        assert list(bench.hub.commit_turns(others)) == [Outcome.OK] * 2
        assert apply([result]) == ([Outcome.ALREADY], [Outcome.LOST])
        assert bench.commit(items["a"]) is Outcome.OK
        # Some may know it for longer than until the next commit.
        outcomes, lost = apply([result])
        assert outcomes[0] in (Outcome.LOST, Outcome.ALREADY)
        assert lost == [Outcome.LOST]
        pump(bench)
        assert bench.claim() == []
        assert bench.claim_work() == []
        assert bench.send("new", instance="b") == [Outcome.OK]
        assert ids_of(inbox(bench, "b")) == ["new"]

    @case("I7", "I8")
    def test_msg_16_many_senders_reach_one_inbox(self, bench: Bench) -> None:
        """Of messages that five hundred instances send to one, which has turns meanwhile, each arrives once."""
        bench.started("parent")
        names = [f"c{number}" for number in range(500)]
        size = min(100, bench.limits.max_batch)
        for start in range(0, len(names), size):
            bench.create(*names[start : start + size])
        got: list[str] = []
        for _ in range(1000):
            items = bench.claim(max_items=size)
            if not items:
                break
            commits = []
            for item in items:
                if item.instance == "parent":
                    got += ids_of(item.messages)
                    commits.append(turn_commit(item))
                else:
                    commits.append(turn_commit(item, messages=[message(f"done {item.instance}", "parent")]))
            assert list(bench.hub.commit_turns(commits)) == [Outcome.OK] * len(commits)
        assert len(got) == 500
        assert set(got) == {f"done {name}" for name in names}

    @case("I16")
    def test_msg_17_an_empty_payload_stays_empty(self, bench: Bench) -> None:
        """A payload of no bytes is delivered as `b""`, whatever it belongs to."""
        bench.create(start=b"")
        item = bench.claim_one()
        assert [delivery.payload for delivery in item.messages] == [b""]
        assert bench.commit(item, activities=[activity(payload=b"")]) is Outcome.OK
        assert [work.payload for work in bench.claim_work()] == [b""]
        for path in PATHS:
            put(bench, path, message(path, payload=b""), message(f"{path} control", payload=b"", control=True))
        assert [delivery.payload for delivery in inbox(bench)] == [b""] * 2 * len(PATHS)

    @case("I7", "I8")
    def test_msg_18_unconsumed_messages_cross_to_the_next_execution(self, bench: Bench) -> None:
        """What continue-as-new does not consume is delivered to the next execution, in the same order."""
        bench.started()
        due = bench.clock.now() + 10
        bench.send("m1", "m2", "m3")
        bench.send("timer", "gone", due=due)
        item = bench.claim_one()
        bench.send("arrived")
        outcome = bench.commit(
            item,
            consumed=["m2"],
            continued=NextExecution(events=[b"e"]),
            messages=[message("own", generation=item.generation)],
            cancel_messages=["gone"],
        )
        assert outcome is Outcome.OK
        item = bench.claim_one()
        assert (item.execution, ids_of(item.messages)) == (2, ["m1", "m3", "arrived", "own"])
        assert bench.commit(item) is Outcome.OK
        bench.wait(10)
        assert drain(bench) == ["timer"]

    @case("I17", "RESULTS", variants=("send", "commit", "completion", "on_conflict"))
    def test_msg_26_nobody_can_send_a_start(self, bench: Bench) -> None:
        """The id of an instance's start is a BadId for any other message, and nothing of the call is applied."""
        bench.started("a", activities=[activity("t1"), activity("t2")])
        bench.send("m")
        item = bench.claim_one()
        work = bench.claim_work()
        good, bad = message("good"), message("@start")
        conflict = new_instance("a", on_conflict=bad)
        calls: dict[str, Callable[[], object]] = {
            "send": lambda: bench.hub.send_messages([good, bad]),
            "commit": lambda: bench.hub.commit_turns(
                [turn_commit(item, messages=[good]), turn_commit(item, messages=[good, bad])]
            ),
            "on_conflict": lambda: bench.hub.commit_turns(
                [turn_commit(item, messages=[good]), turn_commit(item, starts=[conflict])]
            ),
            "completion": lambda: bench.hub.complete_activities(
                [ActivityDone(lease=t.lease, message=m) for t, m in zip(work, (good, bad), strict=True)]
            ),
        }
        with bench.unchanged("a"), pytest.raises(BadId) as caught:
            calls[bench.variant]()
        assert caught.value.index == 1
        assert bench.commit(item) is Outcome.OK
        assert bench.claim() == []
        assert bench.complete(work[0], good) is Outcome.OK
        assert ids_of(inbox(bench)) == ["good"]

    @case("I7", "LIMITS")
    def test_msg_27_an_inbox_takes_what_max_pending_says(self, bench: Bench) -> None:
        """An inbox takes thousands of messages up to `max_pending`; over it clients get Transient, and they alone."""
        bench.started(activities=[activity()])
        work = bench.claim_one_work()
        most = bench.limits.max_pending
        number = min(most, bench.scaled(10_000))
        names = shuffled(bench, number)
        step = bench.limits.max_batch
        for start in range(0, number, step):
            assert set(bench.send(*names[start : start + step])) == {Outcome.OK}
        if number == most:
            with bench.unchanged("a"), pytest.raises(Transient):
                bench.send("over")
            # One that is no news takes no room.
            assert bench.send(names[0]) == [Outcome.DUPLICATE]
            put(bench, "commit", message("commit"))
            assert bench.complete(work, message("completion")) is Outcome.OK
            names += ["commit", "completion"]
        assert drain(bench) == names
        if 1 < number == most:
            # All count: timers, control messages, what is under a lease; but not what waits for others.
            bench.started("b")
            assert bench.send(*(f"b{place}" for place in range(min(most, step))), instance="b")[0] is Outcome.OK
            kinds: list[dict[str, Any]] = [{}, {"control": True}, {"due": bench.clock.now() + 10}]
            for place in range(most - 1):
                assert bench.send(f"k{place}", **kinds[place % 3]) == [Outcome.OK]
            leased = {item.instance: item for item in bench.claim(max_messages=most)}
            with bench.unchanged("a"), pytest.raises(Transient):
                bench.send("last", "over")
            with bench.unchanged("a"), pytest.raises(Transient):
                bench.send("last", "over", control=True, due=bench.clock.now() + 10)
            # Once more or thrice, an id takes one place.
            assert bench.send("last", "k0", "last") == [Outcome.OK, Outcome.DUPLICATE, Outcome.DUPLICATE]
            assert bench.commit(leased["a"]) is Outcome.OK
            bench.wait(10)
            drain(bench)
        if 1 < number == most < step:
            with bench.unchanged("a"), pytest.raises(Transient):
                bench.send(*(f"n{place}" for place in range(most + 1)))
            assert set(bench.send(*(f"n{place}" for place in range(most)))) == {Outcome.OK}

    @case("I11", "I7")
    def test_msg_28_what_was_pending_at_the_end_is_gone(self, bench: Bench) -> None:
        """What waits for an instance when it ends, also from that commit, is discarded for good."""
        bench.started()
        due = bench.clock.now() + 10
        bench.send("m1", "m2")
        bench.send("timer", due=due)
        item = bench.claim_one()
        bench.send("arrived")
        own = [message("own"), message("own timer", due=due)]
        assert bench.commit(item, consumed=["m1"], messages=own, status=TERMINATED) is Outcome.OK
        bench.wait(10)
        assert bench.claim_batch().next_due is None
        assert bench.send("again", reopen=ENDED) == [Outcome.OK]
        assert drain(bench) == ["again"]
        # They were not consumed, so that nothing speaks against sending them anew.
        assert bench.send("m1", "m2", "timer", "arrived") == [Outcome.DUPLICATE] + [Outcome.OK] * 3

    @case("I15", "I7")
    def test_msg_29_housekeeping_is_for_its_own_hub(self, bench: Bench) -> None:
        """What one hub's `pump` forgets is its own: ids that another hub remembers stay, whatever the clock did."""
        other = bench.new_hub()
        for driver in (bench, other):
            driver.started()
            driver.send("m")
            driver.turn()
        bench.wait(bench.limits.dedupe_ms + 1)
        pump(other)
        assert other.send("m") == [Outcome.OK]
        # A process whose clock is ahead may have been the one that pumped.
        bench.wait(-2)
        assert bench.send("m") == [Outcome.DUPLICATE]
        bench.wait(2)
        assert bench.send("m") == [Outcome.OK]

    @case("I7", hooks=("count_rows",))
    def test_msg_30_forgotten_ids_leave_nothing_behind(self, bench: Bench) -> None:
        """Of consumed messages nothing is left once their ids may be sent anew and `pump` has swept."""
        bench.started("a")
        bench.started("b")
        before = dict(bench.adapter.count_rows(bench.hub.name))
        for name in ("a", "b"):
            for start in range(0, 300, 100):
                bench.send(*(f"m{number}" for number in range(start, start + 100)), instance=name)
        bench.hub.commit_turns([turn_commit(item) for item in bench.claim()])
        bench.wait(bench.limits.dedupe_ms + 1)
        pump(bench)
        assert dict(bench.adapter.count_rows(bench.hub.name)) == before
        assert bench.send("m0") == [Outcome.OK]

    @case("I20", "I7", level=Level.L1, requires=("durable",))
    def test_msg_31_messages_survive_a_reopening(self, bench: Bench) -> None:
        """Pending, delivered and remembered messages are the same after the store was closed and opened again."""
        bench.started()
        bench.send("consumed")
        bench.turn()
        due = bench.clock.now() + 10
        bench.send("m2", "m1", payload=bytes(range(256)))
        bench.send("control", control=True)
        bench.send("timer", due=due)
        before = inbox(bench)
        item = bench.claim_one(max_messages=2)
        bench.send("arrived")
        bench.reopen()
        assert bench.send("consumed", "m1", "timer") == [Outcome.DUPLICATE] * 3
        # The lease still knows what it delivered, and what not.
        assert bench.commit(item, consumed=["m2", "control", "arrived"]) is Outcome.OK
        after = inbox(bench)
        assert ids_of(after) == ["m1", "control", "arrived"]
        assert after[:2] == before[1:]
        assert bench.send("last") == [Outcome.OK]
        bench.wait(10)
        assert drain(bench) == ["m1", "control", "arrived", "last", "timer"]

    @case("I7", "I8", "I9")
    def test_msg_32_every_inbox_is_its_own_in_a_batch(self, bench: Bench) -> None:
        """In one call many instances consume different parts of alike inboxes, and each keeps exactly its rest."""
        names = [f"i{number}" for number in range(20)]
        bench.create(*names)
        bench.hub.commit_turns([turn_commit(item) for item in bench.claim()])
        sent = [message(f"m{number}", name) for number in range(5) for name in names]
        assert list(bench.hub.send_messages(sent)) == [Outcome.OK] * 100
        # One of them has a stale lease.
        items = bench.claim()
        commits, expected, rest = [], [], {}
        for place, item in enumerate(items):
            ids = ids_of(item.messages)
            assert ids == ["m0", "m1", "m2", "m3", "m4"]
            consumed = [id_ for number, id_ in enumerate(ids) if place >> number & 1]
            is_stale = place == 7
            lease = replace(item.lease, token="stale") if is_stale else item.lease
            commits.append(turn_commit(item, consumed=consumed, lease=lease))
            expected.append(Outcome.LOST if is_stale else Outcome.OK)
            rest[item.instance] = ids if is_stale else [id_ for id_ in ids if id_ not in consumed]
        assert sorted(rest) == sorted(names)
        assert list(bench.hub.commit_turns(commits)) == expected
        bench.wait(LEASE_MS)
        came = ids_by_instance(bench.claim())
        assert came == rest

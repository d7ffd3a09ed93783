"""LIF: instances from their creation to their end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perdure.spi import (
    ClaimTurns,
    Exchange,
    Fields,
    InstanceQuery,
    NextExecution,
    OrchestrationStatus,
    Outcome,
    TurnItem,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import case
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    FAILED,
    LEASE_MS,
    PENDING,
    RUNNING,
    SUSPENDED,
    activity,
    check_next_due,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
    turn_commit,
)

ANY = frozenset(OrchestrationStatus)
OPEN = tuple(status for status in OrchestrationStatus if status not in ENDED)
LONG = 10 * LEASE_MS


def furnish(bench: Bench, status: OrchestrationStatus) -> str:
    """Make an instance of a status that has some of everything such a one can have. Its id is the status."""
    instance = status.value
    if status is PENDING:
        bench.create(instance, start=b"first", input=b"in", version="1", tags={"k": "v"}, parent="p")
    else:
        left = [] if status in ENDED else [message("timer", instance, due=bench.clock.now() + 50)]
        bench.started(
            instance,
            status=status,
            events=[b"e0", b"e1"],
            activities=[activity("t")],
            messages=left,
            custom_status=b"status",
            memo=b"memo",
            output=b"out",
            failure=b"why",
        )
    if status not in ENDED:
        assert bench.send("waiting", instance=instance) == [Outcome.OK]
    return instance


def claim_of(bench: Bench, *instances: str) -> list[TurnItem]:
    """Claim turns, which must be those of these instances, and return them in this order."""
    items = {item.instance: item for item in bench.claim()}
    assert sorted(items) == sorted(instances)
    return [items[instance] for instance in instances]


class LifecycleCases:
    """Cases LIF."""

    @case("I4", "I6")
    def test_lif_01_create_claim_commit_read_back(self, bench: Bench) -> None:
        """An instance is created, claimed and committed, and reads as it was committed."""
        assert bench.create("a", input=b"in") == [Outcome.OK]
        item = bench.claim_one()
        assert (item.instance, item.execution, item.next_seq) == ("a", 1, 0)
        assert ids_of(item.messages) == ["@start"]
        assert bench.commit(item, events=[b"e0", b"e1"], status=COMPLETED, output=b"out") is Outcome.OK
        info = bench.get()
        assert (info.status, info.execution, info.next_seq) == (COMPLETED, 1, 2)
        assert (info.input, info.output) == (b"in", b"out")
        assert bench.history() == [b"e0", b"e1"]
        assert bench.claim() == []

    @case("I4", "I19")
    def test_lif_02_created_is_visible_before_any_claim(self, bench: Bench) -> None:
        """A created instance is PENDING and can be read and found with all it was created with, before any claim."""
        assert bench.create("plain") == [Outcome.OK]
        bench.wait(5)
        now = bench.clock.now()
        rich = {"name": "n", "version": "2", "parent": "p", "tags": {"k": "v", "l": ""}, "input": b""}
        assert bench.create("rich", generation="g1", start=b"\x00go", **rich) == [Outcome.OK]
        info = bench.get("rich")
        assert (info.id, info.generation, info.name, info.version, info.parent) == ("rich", "g1", "n", "2", "p")
        assert info.tags == {"k": "v", "l": ""}
        assert (info.status, info.execution, info.next_seq) == (PENDING, 1, 0)
        assert (info.input, info.output, info.custom_status, info.failure) == (b"", None, None, None)
        assert (info.created_at, info.updated_at, info.completed_at) == (now, now, None)
        assert info.rev > 0
        assert info.status_rev == 0
        other = bench.get("plain")
        assert (other.name, other.version, other.parent, other.tags, other.input) == ("flow", None, None, {}, None)
        assert other.created_at == now - 5
        assert bench.history("rich") == []
        assert bench.find(statuses=[PENDING]) == ["plain", "rich"]
        assert (bench.find(statuses=[RUNNING]), bench.find(parent="p")) == ([], ["rich"])
        # A claim shows the same, and changes nothing that a reader sees.
        item, plain = claim_of(bench, "rich", "plain")
        assert (item.name, item.version, item.generation, item.status) == ("n", "2", "g1", PENDING)
        assert (item.execution, item.next_seq, item.attempt, item.history) == (1, 0, 1, None)
        assert (item.custom_status, item.memo, item.error) == (None, None, None)
        found = [(start.id, start.payload, start.enqueued_at, start.control) for start in item.messages]
        assert found == [("@start", b"\x00go", now, False)]
        assert [delivery.payload for delivery in plain.messages] == [b"start"]
        assert plain.version is None
        assert [bench.get("plain"), bench.get("rich")] == [other, info]

    @case("I5", "RESULTS")
    def test_lif_03_duplicate_create_changes_nothing(self, bench: Bench) -> None:
        """Creating an id that is taken answers EXISTS and changes nothing about what is there, whatever its status."""
        ids = [furnish(bench, status) for status in OrchestrationStatus]
        items = bench.claim()
        bench.create("unclaimed", start=b"first")
        other = {"name": "other", "version": "9", "parent": "q", "tags": {"x": "y"}, "input": b"other", "start": b"2"}
        with bench.unchanged("unclaimed", *ids):
            for instance in ("unclaimed", *ids):
                assert bench.create(instance, **other) == [Outcome.EXISTS]
            assert bench.create(*ids, *ids, due=bench.clock.now() + 5, **other) == [Outcome.EXISTS] * 2 * len(ids)
        # Beside one that is new, each keeps its answer; the new one is whole.
        mixed = bench.create("RUNNING", "new", "COMPLETED", **other)
        assert mixed == [Outcome.EXISTS, Outcome.OK, Outcome.EXISTS]
        assert (bench.get("new").input, bench.get("new").tags) == (b"other", {"x": "y"})
        assert [bench.commit(item) for item in items] == [Outcome.OK] * len(OPEN)
        starts = {item.instance: [delivery.payload for delivery in item.messages] for item in bench.claim()}
        assert starts == {"unclaimed": [b"first"], "new": [b"2"]}

    @case("REPLACE", "I11", variants=sorted(ENDED))
    def test_lif_04_replace_an_ended_instance(self, bench: Bench) -> None:
        """Creating an id with `replace_if` replaces an ended instance of such a status; nothing of the old is left."""
        status = OrchestrationStatus(bench.variant)
        bench.started("b", activities=[activity("t")])
        old_life = {"name": "old", "version": "1", "parent": "p", "tags": {"old": "x"}, "input": b"old"}
        bench.create("a", **old_life)
        bench.send("known")
        bench.turn(
            events=[b"old0", b"old1"],
            custom_status=b"old",
            memo=b"old",
            continued=NextExecution(events=[b"o"], version="1", input=b"old"),
        )
        bench.send("last")
        bench.turn(commit_id="last", events=[b"old2"], status=status, output=b"old", failure=b"old")
        old = bench.get()
        assert (old.status, old.next_seq, old.version) == (status, 2, "1")
        bench.wait(5)
        now = bench.clock.now()
        wanted = frozenset({status})
        assert bench.create("a", name="new", generation="g2", start=b"new", replace_if=wanted) == [Outcome.REPLACED]
        info = bench.get()
        assert (info.generation, info.name, info.version, info.status) == ("g2", "new", None, PENDING)
        assert (info.execution, info.next_seq, info.parent, info.tags) == (1, 0, None, {})
        assert (info.input, info.output, info.custom_status, info.failure) == (None, None, None, None)
        assert (info.created_at, info.updated_at, info.completed_at) == (now, now, None)
        assert (info.rev > old.rev, old.status_rev > 0, info.status_rev) == (True, True, 0)
        assert bench.history() == []
        assert (bench.find(), bench.find(parent="p"), bench.find(names=["old"])) == (["b", "a"], [], [])
        assert bench.hub.stats().instances.get(status, 0) == 0
        if bench.capabilities.tag_query:
            assert bench.find(tags={"old": "x"}) == []
        item = bench.claim_one(inline_history=True)
        assert (item.generation, item.execution, item.next_seq, item.attempt) == ("g2", 1, 0, 1)
        assert (item.memo, item.custom_status, item.version, list(item.history or ())) == (None, None, None, [])
        assert [(delivery.id, delivery.payload) for delivery in item.messages] == [("@start", b"new")]
        # Neither the old one's last commit nor the messages it consumed are remembered against the new one.
        assert bench.send("known") == [Outcome.OK]
        assert bench.commit(item, commit_id="last", events=[b"new"]) is Outcome.OK
        assert bench.history() == [b"new"]
        assert ids_of(bench.claim_one().messages) == ["known"]
        assert [work.instance for work in bench.claim_work()] == ["b"]

    @case("REPLACE", "I5")
    def test_lif_05_replace_if_does_not_match(self, bench: Bench) -> None:
        """With a `replace_if` that lacks the status of what is there, a create answers EXISTS and changes nothing."""
        ids = [furnish(bench, status) for status in OrchestrationStatus]
        others = [new_instance(status.value, replace_if=ANY - {status}) for status in OrchestrationStatus]
        with bench.unchanged(*ids):
            for new in others:
                assert bench.hub.create_instances([new]) == [Outcome.EXISTS]
            assert bench.hub.create_instances(others) == [Outcome.EXISTS] * len(ids)
        same = [new_instance(status.value, replace_if=frozenset({status})) for status in OrchestrationStatus]
        assert bench.hub.create_instances(same) == [Outcome.REPLACED] * len(ids)
        infos = bench.hub.get_instances(ids)
        assert [info and (info.generation, info.status) for info in infos] == [
            (new.generation, PENDING) for new in same
        ]

    @case("RESULTS", "I5")
    def test_lif_06_the_first_of_an_id_wins_within_a_batch(self, bench: Bench) -> None:
        """Of the creates of one id in a batch the first counts: again is EXISTS, or ALREADY for the same generation."""
        bench.ended("old", events=[b"old"])
        one, two = new_instance("a", name="one", start=b"1"), new_instance("a", name="two", start=b"2")
        three = new_instance("a", replace_if=ANY)
        first = new_instance("old", name="first", replace_if=ENDED)
        second = new_instance("old", name="second", replace_if=ANY)
        answers = bench.hub.create_instances([one, first, two, new_instance("b"), three, second, one, first])
        ok, taken, again = Outcome.OK, Outcome.EXISTS, Outcome.ALREADY
        assert answers == [ok, Outcome.REPLACED, taken, ok, taken, taken, again, again]
        assert (bench.get("a").name, bench.get("a").generation) == ("one", one.generation)
        assert (bench.get("old").name, bench.get("old").generation) == ("first", first.generation)
        assert bench.history("old") == []
        starts = {item.instance: [delivery.payload for delivery in item.messages] for item in bench.claim()}
        assert starts == {"a": [b"1"], "b": [b"start"], "old": [b"start"]}
        # In a later batch it is one like any other; and what is a repetition depends on the id, too.
        same = new_instance("c", generation=three.generation)
        assert bench.hub.create_instances([three, same]) == [Outcome.REPLACED, Outcome.OK]
        assert bench.hub.create_instances([same, three]) == [Outcome.ALREADY, Outcome.ALREADY]

    @case("RESULTS")
    def test_lif_07_many_are_created_in_one_call(self, bench: Bench) -> None:
        """A batch of 500 creates is answered in order, and every instance is there and claimable once."""
        ids = [f"i{number:03}" for number in reversed(range(min(500, bench.limits.max_batch)))]
        taken = {ids[0], ids[7], ids[-1]}
        assert bench.create(*taken) == [Outcome.OK] * 3
        bench.wait(1)
        new = [new_instance(instance, start=instance.encode(), input=instance.encode()) for instance in ids]
        expected = [Outcome.EXISTS if instance in taken else Outcome.OK for instance in ids]
        assert bench.hub.create_instances(new) == expected
        items = bench.claim(max_items=len(ids))
        starts = {item.instance: [delivery.payload for delivery in item.messages] for item in items}
        assert starts == {instance: [b"start" if instance in taken else instance.encode()] for instance in ids}
        assert len(items) == len(ids)
        assert len({item.lease.token for item in items}) == len(ids)
        infos = bench.hub.get_instances(ids)
        assert [info and info.input for info in infos] == [
            None if instance in taken else instance.encode() for instance in ids
        ]

    @case("I7", "I10")
    def test_lif_08_create_with_a_due_time(self, bench: Bench) -> None:
        """An instance created to start later is visible at once, in sight by `next_due`, and claimable exactly then."""
        now = bench.clock.now()
        due = now + 1000
        assert bench.create("a", due=due) == [Outcome.OK]
        info = bench.get()
        assert (info.status, info.created_at, info.updated_at) == (PENDING, now, now)
        check_next_due(bench.claim_batch(), due)
        # Those whose time has come are not held up, nor one whose time is long past.
        bench.create("b", due=1)
        bench.started("c", starts=[new_instance("child", due=due)])
        assert [item.instance for item in bench.claim()] == ["b"]
        bench.wait(999)
        check_next_due(bench.claim_batch(), due)
        assert bench.get() == info
        bench.wait(1)
        item, child = claim_of(bench, "a", "child")
        assert [(start.id, start.due, start.enqueued_at) for start in item.messages] == [("@start", due, now)]
        assert (item.attempt, ids_of(child.messages)) == (1, ["@start"])

    @case("I8", "I7")
    def test_lif_09_messages_wait_for_the_start(self, bench: Bench) -> None:
        """What is sent to an instance that is not due yet is kept, and delivered together with its start, behind it."""
        due = bench.clock.now() + 1000
        bench.create("a", due=due, start=b"go")
        assert bench.send("early") == [Outcome.OK]
        bench.started("b", messages=[message("from b", "a")])
        assert bench.send("past", due=1) == [Outcome.OK]
        assert bench.send("timer", due=due - 500) == [Outcome.OK]
        assert bench.send("later", due=due + 1) == [Outcome.OK]
        for wait in (0, 500, 499):
            bench.wait(wait)
            check_next_due(bench.claim_batch(), due)
        bench.wait(1)
        item = bench.claim_one()
        assert ids_of(item.messages) == ["@start", "past", "early", "from b", "timer"]
        assert item.messages[0].payload == b"go"
        assert bench.commit(item) is Outcome.OK
        bench.wait(1)
        assert ids_of(bench.claim_one().messages) == ["later"]

    @case("I11", "I3", variants=sorted(ENDED))
    def test_lif_10_the_end_is_recorded_and_happens_once(self, bench: Bench) -> None:
        """A terminal commit sets completed_at, output and failure, and no other commit can follow it."""
        status = OrchestrationStatus(bench.variant)
        bench.create("a", "b")
        first, neighbour = claim_of(bench, "a", "b")
        assert bench.commit(first, events=[b"e0"], output=b"so far", keep_ms=LEASE_MS) is Outcome.OK
        assert (bench.get().completed_at, bench.get().output) == (None, b"so far")
        bench.wait(7)
        fields = {"execution": 1, "expected_next_seq": 1, "consumed": []}
        end = {"status": status, "events": [b"e1"], "output": b"", "failure": b"why", "keep_ms": LEASE_MS}
        assert bench.commit(first, commit_id="end", **fields, **end) is Outcome.OK
        info = bench.get()
        assert (info.status, info.output, info.next_seq) == (status, b"", 2)
        assert info.completed_at == info.updated_at == bench.clock.now()
        assert info.failure == (b"why" if status is FAILED else None)
        assert bench.history() == [b"e0", b"e1"]
        bench.wait(1)
        with bench.unchanged("a", "b"):
            again = fields | {"expected_next_seq": 2, "events": [b"e2"], "output": b"other"}
            for other in OrchestrationStatus:
                assert bench.commit(first, **again, status=other) is Outcome.LOST
            assert bench.commit(first, **fields, commit_id="end", **end) is Outcome.ALREADY
            assert bench.renew(first.lease) == (Outcome.LOST, None)
            assert bench.release(first.lease) is Outcome.LOST
        assert bench.commit(neighbour, status=status) is Outcome.OK
        assert bench.get("b").completed_at == bench.clock.now() == info.updated_at + 1
        assert bench.get("b").output is None

    @case("I11", "I7", variants=sorted(ENDED))
    def test_lif_11_an_ended_instance_is_never_claimed_again(self, bench: Bench) -> None:
        """Once ended an instance is never claimable again, whatever was pending; nothing of it comes back later."""
        status = OrchestrationStatus(bench.variant)
        soon = bench.clock.now() + 5
        bench.started("b", activities=[activity("to a")])
        bench.wait(1)
        bench.started("a", activities=[activity("flying"), activity("waiting"), activity("later", due=soon)])
        bench.send("left")
        bench.send("control", control=True)
        bench.send("timer", due=soon)
        taken = bench.claim_work(max_items=2)
        assert ids_of(taken) == ["to a", "flying"]
        result, flying = taken
        item = bench.claim_one()
        ends = turn_commit(
            item,
            status=status,
            consumed=[],
            activities=[activity("new")],
            messages=[message("self"), message("own timer", due=soon), message("own control", control=True)],
            keep_ms=1000,
        )
        bench.send("wake", instance="b")
        tells = turn_commit(bench.claim_one(), messages=[message("told", "a")])
        assert bench.hub.commit_turns([ends, tells]) == [Outcome.OK, Outcome.OK]
        for wait in (0, 5, LEASE_MS, LONG):
            bench.wait(wait)
            batch = bench.claim_batch(held=[item.lease])
            assert (list(batch.items), batch.more, batch.next_due) == ([], False, None)
        stats = bench.hub.stats()
        assert (stats.turns.ready, stats.turns.leased, stats.turns.future) == (0, 0, 0)
        assert (stats.activities.ready, stats.activities.leased, stats.activities.future) == (1, 0, 0)
        with bench.unchanged("a", "b"):
            assert bench.send("late") == [Outcome.TERMINAL]
            assert bench.send("late control", control=True) == [Outcome.TERMINAL]
            assert bench.send("late timer", due=bench.clock.now() + 5) == [Outcome.TERMINAL]
            assert bench.complete(flying, message("result")) is Outcome.LOST
            assert bench.renew(flying.lease) == (Outcome.CANCELLED, None)
        assert bench.complete(result, message("result")) is Outcome.OK
        assert bench.claim() == []
        # Set running again it finds nothing of what was pending when it ended.
        assert bench.send("again", reopen=frozenset({status})) == [Outcome.OK]
        assert ids_of(bench.claim_one().messages) == ["again"]
        bench.wait(LONG)
        assert ids_of(bench.claim_one().messages) == ["again"]
        assert bench.claim_work() == []

    @case("I4", "I9")
    def test_lif_12_suspended_is_a_status_like_running(self, bench: Bench) -> None:
        """SUSPENDED is stored and returned like RUNNING, and keeps neither turns nor activities from being claimed."""
        due = bench.clock.now() + 100
        bench.started(status=SUSPENDED, activities=[activity()], messages=[message("timer", due=due)])
        assert (bench.get().status, bench.get().completed_at) == (SUSPENDED, None)
        assert bench.find(statuses=[SUSPENDED]) == ["a"]
        assert (bench.find(statuses=[RUNNING]), bench.hub.stats().instances.get(SUSPENDED)) == ([], 1)
        assert bench.send() == [Outcome.OK]
        assert bench.complete(bench.claim_one_work(), message("result")) is Outcome.OK
        item = bench.claim_one()
        assert (item.status, ids_of(item.messages)) == (SUSPENDED, ["m", "result"])
        assert bench.commit(item, status=SUSPENDED, consumed=["m"]) is Outcome.OK
        bench.wait(100)
        item = bench.claim_one()
        assert (item.status, ids_of(item.messages)) == (SUSPENDED, ["result", "timer"])
        assert bench.commit(item, status=RUNNING) is Outcome.OK
        assert bench.get().status is RUNNING
        bench.send("resumed")
        assert bench.claim_one().status is RUNNING

    @case("I4", "I6")
    def test_lif_13_continue_as_new(self, bench: Bench) -> None:
        """A commit with `continued` closes an execution and opens the next with its first events, in one step.

        What is not the execution's stays: messages, timers, activities, custom status, memo, output.
        """
        bench.create(version="1", input=b"in1", parent="p", tags={"k": "v", "empty": ""})
        due = bench.clock.now() + 50
        bench.turn(
            events=[b"a", b"b"],
            custom_status=b"status",
            memo=b"memo",
            output=b"out",
            activities=[activity("t")],
            messages=[message("timer", due=due)],
        )
        work = bench.claim_one_work()
        bench.send("m1", "m2")
        item = bench.claim_one()
        before = bench.get()
        following = NextExecution(events=[b"x"], input=b"in2", version="2")
        closing = turn_commit(
            item, events=[b"c"], continued=following, consumed=["m1"], messages=[message("self")], commit_id="closing"
        )
        assert bench.hub.commit_turns([closing]) == [Outcome.OK]
        info = bench.get()
        assert (info.execution, info.next_seq, info.input, info.version) == (2, 1, b"in2", "2")
        assert (info.status, info.generation, info.created_at) == (RUNNING, before.generation, before.created_at)
        assert (info.custom_status, info.output, info.completed_at) == (b"status", b"out", None)
        assert (info.name, info.parent, info.tags) == ("flow", "p", {"k": "v", "empty": ""})
        assert (info.rev > before.rev, info.status_rev) == (True, before.status_rev)
        page = bench.hub.read_history("a")
        assert (list(page.events), page.first_seq, page.more) == ([b"x"], 0, False)
        assert (page.execution, page.generation) == (2, info.generation)
        with bench.unchanged("a"):
            assert bench.hub.commit_turns([closing]) == [Outcome.ALREADY]
        item = bench.claim_one(inline_history=True)
        assert (item.execution, item.next_seq, item.version, item.attempt) == (2, 1, "2", 1)
        assert (item.memo, item.custom_status, list(item.history or ())) == (b"memo", b"status", [b"x"])
        assert ids_of(item.messages) == ["m2", "self"]
        assert bench.commit(item, events=[b"y"]) is Outcome.OK
        assert bench.history() == [b"x", b"y"]
        assert bench.complete(work, message("result")) is Outcome.OK
        bench.wait(50)
        item = bench.claim_one()
        assert ids_of(item.messages) == ["result", "timer"]
        assert bench.get().input == b"in2"
        # The next one is given nothing: so it has nothing, and not what the last one had.
        assert bench.commit(item, continued=NextExecution(events=[])) is Outcome.OK
        info = bench.get()
        assert (info.execution, info.next_seq, info.input, info.version) == (3, 0, None, None)
        assert bench.history() == []
        # What follows in the same batch belongs to the new execution.
        bench.send("batch")
        item = bench.claim_one()
        batch = [
            turn_commit(item, events=[b"z"], continued=NextExecution(events=[b"p"]), keep_ms=LEASE_MS),
            turn_commit(item, execution=4, expected_next_seq=1, events=[b"q"], consumed=[]),
        ]
        assert bench.hub.commit_turns(batch) == [Outcome.OK, Outcome.OK]
        assert (bench.get().execution, bench.history()) == (4, [b"p", b"q"])

    @case("RESULTS", "I6")
    def test_lif_14_commit_for_another_execution(self, bench: Bench) -> None:
        """A commit whose `execution` is not the current one answers CONFLICT, changes nothing and keeps the lease."""
        bench.started("b", events=[b"b0"], activities=[activity("u")])
        bench.started("a", events=[b"a0"], continued=NextExecution(events=[b"x"], input=b"in2"))
        bench.send()
        item = bench.claim_one(inline_history=True)
        assert (item.execution, item.next_seq) == (2, 1)
        effects = {
            "events": [b"wrong"],
            "activities": [activity("t")],
            "messages": [message("self"), message("other", "b"), message("timer", due=bench.clock.now() + 5)],
            "starts": [new_instance("child", parent="a")],
            "custom_status": b"wrong",
            "output": b"wrong",
            "keep_ms": 1,
        }
        with bench.unchanged("a", "b", "child"):
            for execution in (0, 1, 3):
                for how in ({}, {"status": COMPLETED}, {"continued": NextExecution(events=[b"w"])}, {"rewrite": True}):
                    assert bench.commit(item, execution=execution, **effects, **how) is Outcome.CONFLICT
        bench.wait(LEASE_MS - 1)
        assert bench.claim() == []
        assert bench.commit(item, events=[b"y"]) is Outcome.OK
        assert bench.history() == [b"x", b"y"]

    @case("I4", "I8")
    def test_lif_15_a_child_starts_with_its_parents_commit(self, bench: Bench) -> None:
        """A commit's `starts` are created in the same step as its events, each with its parent, and are claimable."""
        now = bench.clock.now()
        bench.create("a")
        fields = {"parent": "a", "name": "sub", "version": "2", "input": b"in", "tags": {"k": "v"}, "start": b"go"}
        starts = [
            new_instance("c1", generation="g1", **fields),
            new_instance("c2", parent="a", due=now + 100),
            new_instance("c3"),
        ]
        bench.turn(events=[b"scheduled"], starts=starts, messages=[message("behind", "c1")])
        assert bench.history() == [b"scheduled"]
        info = bench.get("c1")
        assert (info.generation, info.parent, info.name, info.version, info.input) == ("g1", "a", "sub", "2", b"in")
        assert (info.tags, info.status, info.created_at, info.next_seq) == ({"k": "v"}, PENDING, now, 0)
        assert (bench.find(parent="a"), bench.get("c3").parent) == (["c1", "c2"], None)
        items = {item.instance: item for item in bench.claim()}
        assert {id_: ids_of(item.messages) for id_, item in items.items()} == {
            "c1": ["@start", "behind"],
            "c3": ["@start"],
        }
        assert (items["c1"].messages[0].payload, items["c1"].attempt) == (b"go", 1)
        bench.wait(99)
        assert bench.claim() == []
        bench.wait(1)
        assert bench.claim_one().instance == "c2"
        # Also by a commit that ends the parent, and known at once to what stands behind it in the batch.
        bench.create("p", "q")
        ending, telling = claim_of(bench, "p", "q")
        batch = [
            turn_commit(ending, status=COMPLETED, starts=[new_instance("orphan", parent="p")]),
            turn_commit(telling, messages=[message("hello", "orphan")], starts=[new_instance("second", parent="p")]),
        ]
        asked = ClaimTurns(worker="w", max_items=10, lease_ms=LEASE_MS)
        done = bench.hub.exchange(Exchange(commits=batch, claim_turns=asked))
        assert list(done.commits) == [Outcome.OK, Outcome.OK]
        assert done.turns is not None
        assert ids_by_instance(done.turns.items) == {
            "orphan": ["@start", "hello"],
            "second": ["@start"],
        }

    @case("I4", "RESULTS")
    def test_lif_16_a_child_whose_id_is_taken(self, bench: Bench) -> None:
        """A start whose id is taken becomes its `on_conflict` message, the commit stands, and what is there stays."""
        ids = [furnish(bench, status) for status in OrchestrationStatus]
        leased = bench.claim()
        before = bench.hub.get_instances(ids)
        bench.create("a", "other")
        parent = bench.claim_one(max_items=1)
        waiting = bench.claim_one()
        me, you = parent.instance, waiting.instance
        assert {me, you} == {"a", "other"}
        again = new_instance("twice")
        starts = [
            *(new_instance(id_, on_conflict=message(id_, me, payload=id_.encode())) for id_ in ids),
            again,
            new_instance("twice", on_conflict=message("not me", you)),
            new_instance(me, replace_if=ANY, on_conflict=message("myself", me)),
            # None of these is a conflict.
            replace(again, on_conflict=message("known", me)),
            new_instance("free", on_conflict=message("free", me)),
        ]
        commit = turn_commit(parent, events=[b"e"], starts=starts, messages=[message("last", me)])
        assert bench.hub.commit_turns([commit]) == [Outcome.OK]
        assert list(bench.hub.get_instances(ids)) == list(before)
        assert (bench.history(me), bench.get(me).generation) == ([b"e"], parent.generation)
        assert bench.history("RUNNING") == [b"e0", b"e1"]
        assert bench.get("twice").generation == again.generation
        items = {item.instance: item for item in bench.claim()}
        told = items.pop(me)
        assert ids_of(told.messages) == [*ids, "myself", "last"]
        assert [delivery.payload for delivery in told.messages][: len(ids)] == [id_.encode() for id_ in ids]
        assert {id_: ids_of(item.messages) for id_, item in items.items()} == {"twice": ["@start"], "free": ["@start"]}
        assert [bench.commit(item) for item in leased] == [Outcome.OK] * len(OPEN)
        assert sorted(work.instance for work in bench.claim_work()) == ["RUNNING", "SUSPENDED"]
        # Two parents of one batch want the same child; the loser ends, so that nothing can be told to it.
        assert bench.commit(waiting) is Outcome.OK
        first, second = told, bench.claim_one()
        assert ids_of(second.messages) == ["not me"]
        batch = [
            turn_commit(first, starts=[new_instance("one", parent=me, on_conflict=message("no", me))]),
            turn_commit(second, starts=[new_instance("one", on_conflict=message("yes", you))], status=COMPLETED),
        ]
        assert bench.hub.commit_turns(batch) == [Outcome.OK, Outcome.OK]
        assert (bench.get("one").parent, bench.get(you).status) == (me, COMPLETED)
        assert bench.claim_one().instance == "one"

    @case("I4", "I5")
    def test_lif_17_a_taken_id_and_nobody_to_be_told(self, bench: Bench) -> None:
        """A start whose id is taken, without `on_conflict`, leaves the commit whole and delivers nothing.

        A client is answered at its call: its `on_conflict` is not looked at.
        """
        bench.ended("child", events=[b"c"], output=b"out")
        bench.create("pending", start=b"first")
        before = bench.hub.get_instances(["child", "pending"])
        bench.started("a", events=[b"e"], starts=[new_instance("child"), new_instance("pending"), new_instance("x")])
        assert bench.history() == [b"e"]
        assert list(bench.hub.get_instances(["child", "pending"])) == list(before)
        assert bench.create("child", "x", on_conflict=message("taken", "a")) == [Outcome.EXISTS, Outcome.EXISTS]
        assert bench.create("y", on_conflict=message("free", "a")) == [Outcome.OK]
        starts = {item.instance: [delivery.payload for delivery in item.messages] for item in bench.claim()}
        assert starts == {"pending": [b"first"], "x": [b"start"], "y": [b"start"]}
        # Without `replace_if` no start replaces, with it one does, and is no conflict.
        bench.send()
        item = bench.claim_one()
        new = new_instance("child", generation="g2", replace_if=ENDED, on_conflict=message("taken", "a"))
        assert bench.commit(item, starts=[new]) is Outcome.OK
        info = bench.get("child")
        assert (info.generation, info.status, info.output, info.next_seq) == ("g2", PENDING, None, 0)
        assert bench.claim_one().instance == "child"

    @case("I16")
    def test_lif_18_versions_are_told_apart(self, bench: Bench) -> None:
        """The versions None, "" and "1.0" are different, and come back as they were given."""
        versions = {"none": None, "empty": "", "one": "1.0"}
        for instance, version in versions.items():
            bench.create(instance, version=version)
        assert {instance: bench.get(instance).version for instance in versions} == versions
        assert [bench.find(versions=[version]) for version in (None, "", "1.0")] == [["none"], ["empty"], ["one"]]
        assert sorted(bench.find(versions=[None, ""])) == ["empty", "none"]
        items = bench.claim()
        assert {item.instance: item.version for item in items} == versions
        # Each starts a child of its own version, and goes on as the next in order.
        following = {"none": "", "empty": "1.0", "one": None}
        commits = [
            turn_commit(
                item,
                starts=[new_instance(f"child of {item.instance}", version=item.version)],
                continued=NextExecution(events=[], version=following[item.instance]),
            )
            for item in items
        ]
        assert bench.hub.commit_turns(commits) == [Outcome.OK] * 3
        assert {instance: bench.get(instance).version for instance in following} == following
        expected = {f"child of {instance}": version for instance, version in versions.items()}
        assert {item.instance: item.version for item in bench.claim()} == expected

    @case("REPLACE", "I1", "I12", variants=OPEN)
    def test_lif_19_replace_an_open_instance(self, bench: Bench) -> None:
        """An instance that has not ended can be replaced too: its leases are dead, its work is gone."""
        status = OrchestrationStatus(bench.variant)
        due = bench.clock.now() + 5
        bench.started("b", events=[b"b"], activities=[activity("t", queue="b")])
        bench.create("child", parent="a")
        if status is PENDING:
            bench.create("a")
        else:
            left = [message("timer", due=due), message("mine")]
            waiting = [activity("t"), activity("later", due=due), activity("waiting")]
            bench.started("a", commit_id="last", status=status, events=[b"e"], activities=waiting, messages=left)
        bench.send("m")
        bench.send("control", control=True)
        flying = bench.claim_work(max_items=1)
        for lease in [item.lease for item in bench.claim()]:
            assert bench.release(lease) is Outcome.OK
        item, child = claim_of(bench, "a", "child")
        assert item.attempt == 2
        assert bench.create("a", start=b"new", replace_if=frozenset({status})) == [Outcome.REPLACED]
        with bench.unchanged("a", "b", "child"):
            assert bench.commit(item, events=[b"x"], status=COMPLETED, messages=[message("x", "b")]) is Outcome.LOST
            assert bench.commit(item, commit_id="last") is Outcome.LOST
            assert bench.commit(item, execution=1, expected_next_seq=0) is Outcome.LOST
            assert bench.renew(item.lease) == (Outcome.LOST, None)
            assert bench.release(item.lease) is Outcome.LOST
            for work in flying:
                assert bench.renew(work.lease) == (Outcome.CANCELLED, None)
                assert bench.complete(work, message("result")) is Outcome.LOST
                assert bench.release(work.lease) is Outcome.LOST
        assert bench.history() == []
        assert (bench.find(parent="a"), bench.commit(child)) == (["child"], Outcome.OK)
        new = bench.claim_one()
        assert (new.attempt, [delivery.payload for delivery in new.messages]) == (1, [b"new"])
        # What it schedules under an id that the old one used is its own.
        assert bench.commit(new, activities=[activity("t", payload=b"new")]) is Outcome.OK
        for work in flying:
            assert bench.complete(work, message("result")) is Outcome.LOST
        bench.wait(LONG)
        assert bench.claim() == []
        got = bench.claim_work(queues=["default", "b"])
        assert sorted((work.instance, work.payload) for work in got) == [("a", b"new"), ("b", b"payload")]
        # A release delay goes with the one that it hid.
        bench.send("hidden")
        assert bench.release(bench.claim_one().lease, delay_ms=LONG) is Outcome.OK
        assert bench.create("a", replace_if=frozenset({RUNNING})) == [Outcome.REPLACED]
        assert (new := bench.claim_one()).attempt == 1
        assert ids_of(new.messages) == ["@start"]

    @case("STATUS", "I4")
    def test_lif_20_output_is_three_valued(self, bench: Bench) -> None:
        """A commit without an output keeps it, one with None clears it, and bytes, also empty ones, set it."""
        bench.started("b", output=b"of another")
        bench.started("a")
        assert bench.get().output is None
        following = NextExecution(events=[b"n"])
        steps: list[tuple[dict[str, Any], bytes | None]] = [
            ({"output": b""}, b""),
            ({}, b""),
            ({"output": b"0"}, b"0"),
            ({"custom_status": b"s", "memo": b"m"}, b"0"),
            ({"custom_status": None, "memo": None}, b"0"),
            ({"continued": following}, b"0"),
            ({"output": None}, None),
            ({}, None),
            ({"output": b"null", "continued": following}, b"null"),
            ({"output": None, "custom_status": b"s"}, None),
            ({"output": b"so far", "keep_ms": 0}, b"so far"),
            ({"status": COMPLETED}, b"so far"),
        ]
        for number, (step, expected) in enumerate(steps):
            bench.send(f"m{number}")
            bench.turn(**step)
            found = {info.id: info.output for info in bench.hub.query_instances(InstanceQuery()).items}
            assert [bench.get().output, bench.get(fields=Fields.OUTPUT).output, found["a"]] == [expected] * 3
        assert bench.send("again", reopen=frozenset({COMPLETED})) == [Outcome.OK]
        bench.turn(status=FAILED, output=None)
        assert (bench.get().output, bench.get("b").output) == (None, b"of another")

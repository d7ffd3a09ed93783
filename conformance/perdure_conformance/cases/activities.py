"""SCH: activities from the commit that schedules them to their result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perdure.spi import (
    Activity,
    ActivityDone,
    ClaimActivities,
    Exchange,
    LeaseKind,
    NextExecution,
    OrchestrationStatus,
    Outcome,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    LEASE_MS,
    activity,
    check_next_due,
    fresh,
    ids_of,
    message,
    new_instance,
    turn_commit,
)

LONG = 10 * LEASE_MS


def waiting(bench: Bench) -> tuple[int, int, int]:
    """Return how many activities of the hub are ready, leased, and not due yet."""
    stats = bench.hub.stats().activities
    return stats.ready, stats.leased, stats.future


def take_turn(bench: Bench, instance: str = "a", **fields: Any) -> None:
    """Give an instance one more turn, in which it commits this."""
    assert bench.send(fresh("wake"), instance=instance) == [Outcome.OK]
    bench.turn(**fields)


def claim_ids(bench: Bench, *ids: str, **asked: Any) -> list[Activity]:
    """Claim activities, which must be these in this order."""
    items = bench.claim_work(**asked)
    assert ids_of(items) == list(ids)
    return items


class ActivityCases:
    """Cases SCH."""

    @case("I12", "I14", "I16")
    def test_sch_01_a_claim_returns_what_was_scheduled(self, bench: Bench) -> None:
        """An activity is claimed with the name, payload, queue and instance it was scheduled with, at attempt 1."""
        assert bench.claim_work() == []
        bench.started("a", activities=[activity("t", name="n", payload=b"\x00in", queue="q"), activity("u")])
        bench.started("b", activities=[activity("t", name="m", payload=b"")])
        work = bench.claim_one_work(queues=["q"])
        assert (work.id, work.name, work.payload, work.queue) == ("t", "n", b"\x00in", "q")
        assert (work.instance, work.generation, work.attempt) == ("a", bench.get("a").generation, 1)
        assert (work.lease.kind, work.lease.expires_at) == (LeaseKind.ACTIVITY, bench.clock.now() + LEASE_MS)
        others = bench.claim_each_work("a", "b", lease_ms=7)
        assert (others["a"].id, others["a"].name, others["a"].payload, others["a"].queue) == (
            *("u", "work", b"payload", "default"),
        )
        assert (others["b"].id, others["b"].name, others["b"].payload) == ("t", "m", b"")
        assert others["b"].generation == bench.get("b").generation != work.generation
        assert {work.lease.expires_at for work in others.values()} == {bench.clock.now() + 7}

    @case("I2", "I1", "I3")
    def test_sch_02_claimed_is_nobody_elses_until_the_lease_expires(self, bench: Bench) -> None:
        """A claimed activity is invisible until its lease expires, to its own worker too; then it is somebody else's.

        What the robbed do is LOST, and takes nothing from the thief.
        """
        bench.started(activities=[activity()])
        first = bench.claim_one_work(worker="one")
        bench.wait(LEASE_MS - 1)
        for worker in ("one", "two"):
            check_next_due(bench.claim_work_batch(worker=worker), first.lease.expires_at)
        bench.wait(1)
        batch = bench.claim_work_batch(worker="one")
        assert (ids_of(batch.items), batch.more) == (["t"], False)
        second = batch.items[0]
        assert (second.attempt, second.payload) == (2, b"payload")
        assert second.lease.token != first.lease.token
        assert second.lease.fence > first.lease.fence
        with bench.unchanged("a"):
            assert bench.complete(first, message("stale")) is Outcome.LOST
            assert bench.renew(first.lease, LONG) == (Outcome.LOST, None)
            assert bench.release(first.lease) is Outcome.LOST
            assert bench.claim_work() == []
            assert bench.claim() == []
        assert bench.complete(second, message("result")) is Outcome.OK
        assert ids_of(bench.claim_one().messages) == ["result"]

    @case("I12", "RESULTS")
    def test_sch_03_first_in_first_out(self, bench: Bench) -> None:
        """Activities are claimed in the order in which they were scheduled, whatever their ids, names and queues."""
        first = [
            activity("z", name="n", queue="y"),
            activity("m", name="o", queue="x"),
            activity("a", name="n", queue="x"),
            activity("q", name="n", queue="y", payload=b""),
            activity("b", name="m", queue="z"),
        ]
        bench.started("b", activities=first)
        bench.wait(1)
        bench.started("a", activities=[activity("z", name="a", queue="x"), activity("a0", name="n", queue="y")])
        bench.wait(1)
        # One whose time is past waits only since it was scheduled.
        last = [activity("a1", name="n", queue="x", due=1), activity("y", name="m", queue="z")]
        take_turn(bench, "b", activities=last)
        asked = {"queues": ["z", "x", "y"], "names": ["o", "n", "m", "a"]}
        got = [bench.claim_one_work(max_items=1, **asked) for _ in range(3)]
        got += bench.claim_work(max_items=2, **asked)
        got += bench.claim_work(queues=["x", "y", "z"])
        assert ids_of(got) == ["z", "m", "a", "q", "b", "z", "a0", "a1", "y"]
        assert [work.instance for work in got] == ["b"] * 5 + ["a"] * 2 + ["b"] * 2
        assert len({work.lease.token for work in got}) == len(got)

    @case("I10", "I12")
    def test_sch_05_queues_and_names_must_both_match(self, bench: Bench) -> None:
        """A claim returns activities of the asked queues, their union, and of the asked names; of none where empty.

        `more` and `next_due` speak of what was asked for only.
        """
        due = bench.clock.now() + 10
        bench.started(
            activities=[
                activity("1", queue="x", name="n"),
                activity("2", queue="y", name="n"),
                activity("3", queue="x", name="o"),
                activity("4", queue="z", name="o", due=due),
                activity("5", queue="X", name="n"),
                activity("6", queue="x ", name="N"),
            ]
        )
        with bench.unchanged("a"):
            nothing: tuple[dict[str, Any], ...] = (
                *({}, {"names": []}, {"queues": []}, {"queues": ["x"], "names": []}, {"queues": [], "names": ["n"]}),
                *({"queues": ["z"], "names": ["n"]}, {"queues": ["%", "_", "*"]}),
            )
            for asked in nothing:
                batch = bench.claim_work_batch(**asked)
                assert (list(batch.items), batch.more, batch.next_due) == ([], False, None)
            check_next_due(bench.claim_work_batch(queues=["z"], names=["o"]), due)
            assert bench.claim_work_batch(queues=["y"], max_items=0).more is True
        batch = bench.claim_work_batch(queues=["x", "y", "x"], names=["n", "absent", "n"], max_items=2)
        assert (ids_of(batch.items), batch.more) == (["1", "2"], False)
        batch = bench.claim_work_batch(queues=["x"], names=None, max_items=1)
        assert (ids_of(batch.items), batch.more) == (["3"], False)
        assert ids_of(bench.claim_work(queues=["X"])) == ["5"]
        assert ids_of(bench.claim_work(queues={"x "}, names={"N"})) == ["6"]
        bench.wait(10)
        assert ids_of(bench.claim_work(queues=["x", "z"])) == ["4"]

    @case("I10", "I12")
    def test_sch_06_a_future_activity_is_hidden_until_due(self, bench: Bench) -> None:
        """An activity with a future due time is in sight by `next_due`, and claimable from exactly then on."""
        now = bench.clock.now()
        due = now + 100
        bench.started(activities=[activity("t", due=due), activity("later", due=due + 50), activity("now", due=now)])
        batch = bench.claim_work_batch()
        assert (ids_of(batch.items), batch.more) == (["now"], False)
        assert batch.next_due is not None
        assert batch.next_due <= due
        check_next_due(bench.claim_work_batch(), due)
        assert waiting(bench) == (0, 1, 2)
        bench.wait(99)
        check_next_due(bench.claim_work_batch(), due)
        bench.wait(1)
        work = bench.claim_one_work()
        assert (work.id, work.attempt) == ("t", 1)
        check_next_due(bench.claim_work_batch(), due + 50)
        # One that is cancelled before its time never comes.
        take_turn(bench, cancel_activities=["later"])
        bench.wait(50)
        check_next_due(bench.claim_work_batch(), work.lease.expires_at)
        assert bench.complete(work) is Outcome.OK

    @case("I12", "I7", "I9")
    def test_sch_07_completing_deletes_and_delivers(self, bench: Bench) -> None:
        """Completing an activity deletes it and delivers its message, exactly once."""
        bench.started("b")
        bench.started(activities=[activity("t"), activity("u"), activity("v"), activity("w")])
        one, two, three, four = claim_ids(bench, "t", "u", "v", "w")
        bench.wait(3)
        now = bench.clock.now()
        assert bench.complete(one, message("result", payload=b"\x00r")) is Outcome.OK
        assert waiting(bench) == (0, 3, 0)
        assert bench.renew(one.lease)[0] in (Outcome.LOST, Outcome.CANCELLED)
        assert bench.release(one.lease) is Outcome.LOST
        item = bench.claim_one()
        assert item.instance == "a"
        found = [(delivery.id, delivery.payload, delivery.enqueued_at) for delivery in item.messages]
        assert found == [("result", b"\x00r", now)]
        # Under a lease on its instance the message waits for the next turn. It may have a time, and any target.
        assert bench.complete(two, message("second")) is Outcome.OK
        assert bench.claim() == []
        assert bench.commit(item) is Outcome.OK
        assert bench.complete(three, message("timed", due=now + 50)) is Outcome.OK
        assert bench.complete(four, message("elsewhere", "b", generation=bench.get("b").generation)) is Outcome.OK
        items = {item.instance: item for item in bench.claim()}
        assert {instance: ids_of(item.messages) for instance, item in items.items()} == {
            "a": ["second"],
            "b": ["elsewhere"],
        }
        assert [bench.commit(item) for item in items.values()] == [Outcome.OK, Outcome.OK]
        check_next_due(bench.claim_batch(), now + 50)
        bench.wait(50)
        assert ids_of(bench.turn().messages) == ["timed"]
        bench.wait(LONG)
        assert bench.claim_work_batch().next_due is None
        assert (bench.claim_work(), bench.claim(), waiting(bench)) == ([], [], (0, 0, 0))

    @case("I12")
    def test_sch_08_completing_without_a_message(self, bench: Bench) -> None:
        """An activity completed without a message is gone, and nothing is delivered."""
        bench.started(activities=[activity("t"), activity("u"), activity("v")])
        one, two, three = claim_ids(bench, "t", "u", "v")
        before = bench.get()
        assert bench.complete(one) is Outcome.OK
        assert (bench.claim(), bench.claim_batch().next_due, bench.get()) == ([], None, before)
        done = [ActivityDone(lease=two.lease, message=message("r")), ActivityDone(lease=three.lease, message=None)]
        assert bench.hub.complete_activities(done) == [Outcome.OK, Outcome.OK]
        assert ids_of(bench.claim_one().messages) == ["r"]
        bench.wait(LONG)
        assert (bench.claim_work(), waiting(bench)) == ([], (0, 0, 0))

    @case("I5", "I12")
    def test_sch_09_completing_twice(self, bench: Bench) -> None:
        """The same completion again is LOST and delivers nothing, in the same call or a later one."""
        bench.started(activities=[activity("t"), activity("u"), activity("v")])
        one, two, three = claim_ids(bench, "t", "u", "v")
        first = ActivityDone(lease=one.lease, message=message("r1"))
        second = ActivityDone(lease=one.lease, message=message("r2"))
        neighbour = ActivityDone(lease=two.lease, message=message("r3"))
        answers = bench.hub.complete_activities([first, second, neighbour, first])
        assert answers == [Outcome.OK, Outcome.LOST, Outcome.OK, Outcome.LOST]
        with bench.unchanged("a"):
            for again in (first, second, ActivityDone(lease=one.lease, message=None)):
                assert bench.hub.complete_activities([again]) == [Outcome.LOST]
                assert list(bench.hub.exchange(Exchange(done=[again])).done) == [Outcome.LOST]
        assert ids_of(bench.turn().messages) == ["r1", "r3"]
        # Nor once its result was consumed.
        bench.wait(bench.limits.dedupe_ms + 1)
        with bench.unchanged("a"):
            assert bench.hub.complete_activities([first, second]) == [Outcome.LOST, Outcome.LOST]
        assert bench.complete(three, message("r4")) is Outcome.OK
        assert ids_of(bench.claim_one().messages) == ["r4"]

    @case("I3", "I12")
    def test_sch_10_completing_with_a_token_that_is_not_the_current_one(self, bench: Bench) -> None:
        """With an unknown token, or that of something else, a completion is LOST; the activity stays as it is."""
        bench.started("b", activities=[activity("t")])
        bench.started("a", activities=[activity("t")])
        released = bench.claim_each_work("a", "b")["a"]
        assert bench.release(released.lease) is Outcome.OK
        stolen = bench.claim_one_work()
        bench.wait(LEASE_MS)
        items = bench.claim_each_work("a", "b")
        mine, other = items["a"].lease, items["b"].lease
        bench.send()
        turn = bench.claim_one().lease
        elsewhere = bench.new_hub()
        elsewhere.started("a", activities=[activity("t")])
        foreign = elsewhere.claim_one_work().lease
        forged = [
            *(replace(mine, token=token) for token in ("", "x", "0" * len(mine.token), mine.token + " ", "'", "%")),
            *(replace(mine, token=lease.token) for lease in (stolen.lease, released.lease, other, turn, foreign)),
            *(replace(mine, key=key, token="x") for key in ("", "nothing", "-1", "9" * 40, "a", turn.key)),
            stolen.lease,
            released.lease,
            turn,
            replace(turn, kind=LeaseKind.ACTIVITY),
            foreign,
        ]
        done = [ActivityDone(lease=lease, message=message(f"forged {place}")) for place, lease in enumerate(forged)]
        with bench.unchanged("a", "b"):
            for item in done:
                assert bench.hub.complete_activities([item]) == [Outcome.LOST]
            assert bench.hub.complete_activities(done) == [Outcome.LOST] * len(done)
        assert elsewhere.hub.renew([foreign], LEASE_MS)[0][0] is Outcome.OK
        bench.wait(LEASE_MS)
        again = bench.claim_each_work("a", "b")
        assert (again["a"].attempt, again["b"].attempt) == (4, 3)
        # A lease as it was before a renewal is still the current one.
        old = again["a"]
        assert bench.renew(old.lease, LONG)[0] is Outcome.OK
        assert bench.complete(old, message("result")) is Outcome.OK

    @case("I13")
    def test_sch_11_scheduled_and_cancelled_in_one_commit(self, bench: Bench) -> None:
        """What a commit schedules and cancels by its id does not exist afterwards; what it doesn't cancel does."""
        bench.create("a", "b")
        due = bench.clock.now() + 5
        new = [activity("t"), activity("u"), activity("v", due=due), activity("w", due=due), activity("x")]
        cancelled = {"a": ["x", "t", "v"], "b": ["u"]}
        batch = [turn_commit(i, activities=new, cancel_activities=cancelled[i.instance]) for i in bench.claim()]
        assert bench.hub.commit_turns(batch) == [Outcome.OK, Outcome.OK]
        assert waiting(bench) == (3, 0, 3)
        got = [(work.instance, work.id) for work in bench.claim_work()]
        assert sorted(got) == [("a", "u"), ("b", "t"), ("b", "x")]
        bench.wait(5)
        got = [(work.instance, work.id) for work in bench.claim_work()]
        assert sorted(got) == [("a", "w"), ("b", "v"), ("b", "w")]
        # Also where the activity was there before, and is scheduled once more: it is the same one.
        take_turn(bench, activities=[activity("u"), activity("w")], cancel_activities=["u"])
        bench.send()
        commit = turn_commit(bench.claim_one(), activities=[activity("y"), activity("z")], cancel_activities=["y"])
        assert list(bench.hub.exchange(Exchange(commits=[commit])).commits) == [Outcome.OK]
        bench.wait(LONG)
        got = [(work.instance, work.id) for work in bench.claim_work()]
        assert sorted(got) == [("a", "w"), ("a", "z"), ("b", "t"), ("b", "v"), ("b", "w"), ("b", "x")]

    @case("I13", "I12")
    def test_sch_12_cancel_all(self, bench: Bench) -> None:
        """`cancel_all` cancels every activity that was there before the commit, and none that it schedules."""
        due = bench.clock.now() + 5
        old = [
            activity("flying"),
            activity("hidden"),
            activity("settled"),
            activity("waiting"),
            activity("due", due=due),
        ]
        bench.started("b", activities=[activity("t"), activity("new")])
        bench.wait(1)
        bench.started("a", activities=old)
        _, _, flying, hidden, settled, left = claim_ids(bench, "t", "new", "flying", "hidden", "settled", "waiting")
        assert bench.release(hidden.lease, delay_ms=5) is Outcome.OK
        assert bench.release(left.lease) is Outcome.OK
        bench.send()
        item = bench.claim_one()
        new = [activity("new"), activity("waiting", payload=b"2"), activity("settled", payload=b"2")]
        new += [activity("new due", due=due), activity("cancelled")]
        commit = turn_commit(
            item,
            activities=new,
            cancel_all=True,
            cancel_activities=["cancelled"],
            settled=[settled.lease],
            continued=NextExecution(events=[b"x"]),
        )
        assert bench.hub.commit_turns([commit]) == [Outcome.OK]
        assert bench.renew(flying.lease) == (Outcome.CANCELLED, None)
        assert bench.complete(flying, message("late")) is Outcome.LOST
        bench.wait(LONG)
        got = bench.claim_work()
        # A known id is the activity from before; one that was settled is new.
        mine = {work.id: (work.payload, work.attempt) for work in got if work.instance == "a"}
        assert mine == {"new": (b"payload", 1), "settled": (b"2", 1), "new due": (b"payload", 1)}
        assert sorted(work.id for work in got if work.instance == "b") == ["new", "t"]
        # Without anything to schedule it leaves nothing.
        assert bench.claim() == []
        take_turn(bench, cancel_all=True)
        assert {bench.renew(work.lease)[0] for work in got if work.instance == "a"} == {Outcome.CANCELLED}
        assert {bench.renew(work.lease)[0] for work in got if work.instance == "b"} == {Outcome.OK}
        # What stands before it in its batch is from before, too.
        bench.send("batch")
        item = bench.claim_one()
        batch = [
            turn_commit(item, activities=[activity("p"), activity("q")], keep_ms=LEASE_MS),
            turn_commit(item, activities=[activity("q"), activity("r")], cancel_all=True, consumed=[]),
        ]
        assert bench.hub.commit_turns(batch) == [Outcome.OK, Outcome.OK]
        assert [(work.instance, work.id) for work in bench.claim_work()] == [("a", "r")]

    @case("I13", "I15")
    def test_sch_13_cancelling_what_is_not_there(self, bench: Bench) -> None:
        """Cancelling unknown, finished or other instances' ids is no error and does nothing, now or later."""
        bench.started("b", activities=[activity("of b", name="b")])
        bench.started("a", activities=[activity("done"), activity("stays")])
        done, stays = claim_ids(bench, "done", "stays", names=["work"])
        of_b = bench.claim_one_work()
        assert bench.complete(done, message("result")) is Outcome.OK
        unknown = ["nobody", "done", "of b", "a", "b", "work", "default", "%", "*", "sta", "STAYS", "stays ", "later"]
        assert bench.commit(bench.claim_one(), events=[b"e"], cancel_activities=unknown) is Outcome.OK
        assert bench.history() == [b"e"]
        assert bench.renew(stays.lease)[0] is Outcome.OK
        assert bench.renew(of_b.lease)[0] is Outcome.OK
        # That an id was cancelled once says nothing about an activity that comes later.
        take_turn(bench, activities=[activity("later"), activity("done"), activity("nobody")], cancel_all=False)
        assert ids_of(bench.claim_work()) == ["later", "done", "nobody"]

    @case("I12", "I3", variants=("by id", "all", "end", "purge"))
    def test_sch_14_cancelled_in_flight(self, bench: Bench) -> None:
        """Of an activity that is cancelled or goes with its instance, renew says CANCELLED and complete LOST.

        Nothing is delivered, and it is never claimable again; what is not cancelled goes on.
        """
        bench.started("b", activities=[activity("t"), activity("u")])
        bench.started("a", activities=[activity("t"), activity("u")])
        items = bench.claim_work()
        bench.wait(LEASE_MS - 1)
        bench.send()
        item = bench.claim_one()
        if bench.variant == "purge":
            assert bench.purge("a", force=True).deleted == 1
        else:
            how: dict[str, Any] = {"by id": {"cancel_activities": ["u", "t"]}, "all": {"cancel_all": True}}
            assert bench.commit(item, **how.get(bench.variant, {"status": COMPLETED})) is Outcome.OK
        with bench.unchanged("a", "b"):
            for work in items:
                if work.instance == "a":
                    assert bench.renew(work.lease) == (Outcome.CANCELLED, None)
                    assert bench.complete(work, message("r")) is Outcome.LOST
                    assert bench.complete(work, message("r", "b")) is Outcome.LOST
                    assert bench.release(work.lease) is Outcome.LOST
        # Each gets its own answer.
        answers = bench.hub.renew([work.lease for work in items], LEASE_MS)
        expected = [Outcome.CANCELLED if work.instance == "a" else Outcome.OK for work in items]
        assert [outcome for outcome, _ in answers] == expected
        done = [ActivityDone(lease=work.lease, message=message(work.id, "b")) for work in items]
        expected = [Outcome.LOST if work.instance == "a" else Outcome.OK for work in items]
        assert bench.hub.complete_activities(done) == expected
        assert {item.instance: sorted(ids_of(item.messages)) for item in bench.claim()} == {"b": ["t", "u"]}
        bench.wait(LONG)
        assert (bench.claim_work(), waiting(bench)) == ([], (0, 0, 0))

    @case("I12", "I15")
    def test_sch_15_cancelling_touches_one_instance_alone(self, bench: Bench) -> None:
        """Cancels, settlements and the end of an instance never touch another's activity of the same id."""
        other = bench.new_hub()
        for hub in (bench, other):
            for instance in ("a", "b", "A", "a/1", "ab"):
                hub.started(instance, activities=[activity("t"), activity("u")])
        items = {(work.instance, work.id): work for work in bench.claim_work()}
        assert len(items) == 10
        steps: list[dict[str, Any]] = [
            {"cancel_activities": ["t"]},
            {"settled": [items["a", "u"].lease], "activities": [activity("v")]},
            {"activities": [activity("t")], "cancel_all": True},
            {"status": COMPLETED},
        ]
        for step in steps:
            take_turn(bench, **step)
        answers = {place: bench.renew(work.lease)[0] for place, work in items.items() if place[0] != "a"}
        assert set(answers.values()) == {Outcome.OK}
        assert len(answers) == 8
        assert bench.renew(items["a", "t"].lease) == (Outcome.CANCELLED, None)
        assert len(other.claim_work()) == 10
        for place in answers:
            assert bench.complete(items[place]) is Outcome.OK
        assert waiting(bench) == (0, 0, 0)

    @case("I12", "I14")
    def test_sch_16_a_known_id_is_the_same_activity(self, bench: Bench) -> None:
        """An activity id scheduled again while it exists is the same activity; once it is done, it is a new one."""
        bench.started("b")
        bench.started(activities=[activity("t", payload=b"1"), activity("u"), activity("t", payload=b"2", name="o")])
        take_turn(bench, activities=[activity("t", payload=b"3", queue="q"), activity("v")])
        assert waiting(bench) == (3, 0, 0)
        items = bench.claim_work(queues=["default", "q"])
        assert [(work.id, work.payload, work.name, work.queue) for work in items] == [
            ("t", b"1", "work", "default"),
            ("u", b"payload", "work", "default"),
            ("v", b"payload", "work", "default"),
        ]
        # Neither does it end a lease, nor start the count anew, nor bring one back that was given back for later.
        bench.wait(LEASE_MS)
        works = {work.id: work for work in bench.claim_work()}
        assert sorted(works) == ["t", "u", "v"]
        assert bench.release(works["v"].lease, delay_ms=50) is Outcome.OK
        again = [activity("t", payload=b"4"), activity("u", due=bench.clock.now() + LONG), activity("v")]
        take_turn(bench, activities=again)
        assert waiting(bench) == (0, 2, 1)
        assert bench.renew(works["t"].lease)[0] is Outcome.OK
        bench.wait(50)
        assert [(work.id, work.attempt) for work in bench.claim_work()] == [("v", 3)]
        # Nor within a batch. Other instances know nothing of it.
        bench.send("batch")
        item = bench.claim_one()
        batch = [
            turn_commit(item, activities=[activity("w", payload=b"1")], keep_ms=LEASE_MS),
            turn_commit(item, activities=[activity("w", payload=b"2")], consumed=[]),
        ]
        assert bench.hub.commit_turns(batch) == [Outcome.OK, Outcome.OK]
        assert [(work.id, work.payload) for work in bench.claim_work()] == [("w", b"1")]
        take_turn(bench, "b", activities=[activity("t", payload=b"of b")])
        assert [(work.instance, work.payload, work.attempt) for work in bench.claim_work()] == [("b", b"of b", 1)]
        # Done, it may come again, and the old lease is not the new one's.
        assert bench.complete(works["t"], message("r1")) is Outcome.OK
        bench.turn(activities=[activity("t", payload=b"5")])
        assert bench.complete(works["t"], message("r2")) is Outcome.LOST
        assert bench.renew(works["t"].lease)[0] in (Outcome.LOST, Outcome.CANCELLED)
        new = bench.claim_one_work()
        assert (new.payload, new.attempt) == (b"5", 1)
        assert bench.complete(works["t"], message("r2")) is Outcome.LOST
        assert bench.complete(new, message("r3")) is Outcome.OK
        assert ids_of(bench.claim_one().messages) == ["r3"]

    @case("I14", "I10", "I3")
    def test_sch_17_release(self, bench: Bench) -> None:
        """A released activity is hidden for its delay and claimable then; `penalize=False` gives the attempt back."""
        bench.started(activities=[activity("t"), activity("u")])
        first, other = claim_ids(bench, "t", "u")
        now = bench.clock.now()
        assert bench.release(first.lease, delay_ms=100) is Outcome.OK
        assert waiting(bench) == (0, 1, 1)
        with bench.unchanged("a"):
            assert bench.release(first.lease) is Outcome.LOST
            assert bench.renew(first.lease) == (Outcome.LOST, None)
            assert bench.complete(first, message("r")) is Outcome.LOST
        check_next_due(bench.claim_work_batch(), now + 100)
        bench.wait(99)
        check_next_due(bench.claim_work_batch(), now + 100)
        bench.wait(1)
        second = bench.claim_one_work()
        assert (second.id, second.attempt) == ("t", 2)
        assert second.lease.fence > first.lease.fence
        assert second.lease.token != first.lease.token
        # Given back without a delay it is there at once; unpenalised as if it had not been claimed.
        for _ in range(3):
            assert bench.release(second.lease, penalize=False) is Outcome.OK
            second = bench.claim_one_work()
            assert second.attempt == 2
        assert bench.release(second.lease, penalize=False, delay_ms=10) is Outcome.OK
        assert bench.claim_work() == []
        bench.wait(10)
        second = bench.claim_one_work()
        assert second.attempt == 2
        assert bench.release(second.lease) is Outcome.OK
        third = bench.claim_one_work()
        assert third.attempt == 3
        for _ in range(5):
            assert bench.release(other.lease, penalize=False) is Outcome.OK
            other = bench.claim_one_work()
            assert (other.id, other.attempt) == ("u", 1)
        # Its lease has run out, but nobody took it.
        bench.wait(LEASE_MS)
        assert bench.release(third.lease, delay_ms=10) is Outcome.OK
        assert [(work.id, work.attempt) for work in bench.claim_work()] == [("u", 2)]

    @case("RESULTS", "I12")
    def test_sch_18_a_thousand_activities(self, bench: Bench) -> None:
        """A thousand activities of one commit are each claimed once, in order, however large the claims.

        `more` says whether `max_items` cut the answer. A claim of none takes none, and a huge one is no error.
        """
        names = [f"t{number}" for number in reversed(range(1000))]
        bench.started(activities=[activity(name, payload=name.encode()) for name in names])
        size = min(300, bench.limits.max_batch)
        batch = bench.claim_work_batch(max_items=0)
        assert (list(batch.items), batch.more) == ([], True)
        batches = [bench.claim_work_batch(max_items=size)]
        while batches[-1].more and len(batches) < len(names):
            batches.append(bench.claim_work_batch(max_items=size))
        got = [work for batch in batches for work in batch.items]
        assert [(work.id, work.payload) for work in got] == [(name, name.encode()) for name in names]
        assert [len(batch.items) for batch in batches[:-1]] == [size] * (len(batches) - 1)
        assert all(batch.next_due == batch.now for batch in batches[:-1])
        assert len({work.lease.token for work in got}) == len(names)
        assert bench.claim_work(max_items=10**9) == []
        # Cut exactly where there is nothing more, it is not cut.
        for work in got[:2]:
            assert bench.release(work.lease) is Outcome.OK
        assert bench.claim_work_batch(max_items=1).more is True
        batch = bench.claim_work_batch(max_items=1)
        assert (len(batch.items), batch.more) == (1, False)
        assert bench.complete(got[-1], message("last")) is Outcome.OK
        assert bench.release(got[-2].lease) is Outcome.OK
        assert ids_of(bench.claim_work(max_items=10**9)) == ["t1"]

    @case("I11", "I12", variants=sorted(ENDED))
    def test_sch_19_the_end_takes_an_instances_activities_alone(self, bench: Bench) -> None:
        """A commit that ends an instance removes its activities, claimed or not, its own among them, and no others."""
        status = OrchestrationStatus(bench.variant)
        due = bench.clock.now() + 5
        work = [activity("flying"), activity("given back"), activity("waiting"), activity("due", due=due)]
        bench.started("b", activities=work)
        bench.started("a", activities=work)
        items = {(item.instance, item.id): item for item in bench.claim_work()}
        assert len(items) == 6
        for instance in ("a", "b"):
            assert bench.release(items[instance, "given back"].lease, delay_ms=3) is Outcome.OK
            assert bench.release(items[instance, "waiting"].lease) is Outcome.OK
        bench.send()
        commit = turn_commit(bench.claim_one(), status=status, activities=[activity("new"), activity("n", due=due)])
        assert list(bench.hub.exchange(Exchange(commits=[commit])).commits) == [Outcome.OK]
        assert waiting(bench) == (1, 1, 2)
        assert bench.renew(items["a", "flying"].lease) == (Outcome.CANCELLED, None)
        assert bench.complete(items["a", "flying"], message("r", "b")) is Outcome.LOST
        assert bench.renew(items["b", "flying"].lease)[0] is Outcome.OK
        got = [(item.instance, item.id) for item in bench.claim_work()]
        bench.wait(LONG)
        got += [(item.instance, item.id) for item in bench.claim_work()]
        assert set(got) == {("b", item.id) for item in work}
        # An end in the very first turn leaves nothing either, nor one in the same batch.
        bench.create("c")
        item = bench.claim_one()
        batch = [
            turn_commit(item, activities=[activity("t")], keep_ms=LEASE_MS),
            turn_commit(item, activities=[activity("u")], status=status, consumed=[]),
        ]
        assert bench.hub.commit_turns(batch) == [Outcome.OK, Outcome.OK]
        assert bench.get("c").status is status
        assert [item.instance for item in bench.claim_work() if item.instance == "c"] == []

    @case("I14", "I20", level=Level.L1, requires=("durable",))
    def test_sch_23_attempts_survive_a_reopening(self, bench: Bench) -> None:
        """An activity's attempt grows with each claim after an expiry, and it, lease and work outlive a reopening."""
        due = bench.clock.now() + 10 * LEASE_MS
        bench.started(activities=[activity("t", payload=b"\x00in", queue="q"), activity("later", due=due)])
        asked = {"queues": ["q", "default"]}
        for attempt in range(1, 5):
            work = bench.claim_one_work(**asked)
            assert (work.id, work.attempt, work.payload, work.queue) == ("t", attempt, b"\x00in", "q")
            bench.reopen()
            bench.wait(LEASE_MS - 1)
            check_next_due(bench.claim_work_batch(**asked), work.lease.expires_at)
            bench.wait(1)
        bench.reopen()
        last = bench.claim_one_work(**asked)
        assert last.attempt == 5
        assert last.lease.fence > work.lease.fence
        assert bench.complete(work, message("stale")) is Outcome.LOST
        assert bench.release(last.lease, delay_ms=50, penalize=False) is Outcome.OK
        bench.reopen()
        check_next_due(bench.claim_work_batch(**asked), bench.clock.now() + 50)
        bench.wait(50)
        last = bench.claim_one_work(**asked)
        assert last.attempt == 5
        bench.reopen()
        assert bench.complete(last, message("result")) is Outcome.OK
        bench.reopen()
        assert ids_of(bench.claim_one().messages) == ["result"]
        bench.clock.set(due)
        assert ids_of(bench.claim_work(**asked)) == ["later"]

    @case("I3", "I2")
    def test_sch_24_renew(self, bench: Bench) -> None:
        """Renewing lengthens an activity's lease, an expired one that nobody took too, and never shortens one.

        Expiry alone takes nothing away: such a lease also completes.
        """
        bench.started(activities=[activity("t"), activity("u")])
        work, other = claim_ids(bench, "t", "u")
        bench.wait(LEASE_MS // 2)
        outcome, lease = bench.renew(work.lease)
        now = bench.clock.now()
        assert outcome is Outcome.OK
        assert lease is not None
        assert (lease.token, lease.key, lease.kind) == (work.lease.token, work.lease.key, LeaseKind.ACTIVITY)
        assert (lease.fence, lease.expires_at) == (work.lease.fence, now + LEASE_MS)
        outcome, lease = bench.renew(work.lease, 1)
        assert (outcome, lease and lease.expires_at) == (Outcome.OK, now + LEASE_MS)
        bench.wait(LEASE_MS - 1)
        taken = bench.claim_one_work()
        assert (taken.id, taken.attempt) == ("u", 2)
        bench.wait(LEASE_MS)
        answers = bench.hub.renew([other.lease, work.lease, taken.lease], 7)
        assert [outcome for outcome, _ in answers] == [Outcome.LOST, Outcome.OK, Outcome.OK]
        # Current again, it is exclusive again, for as long as was asked.
        bench.wait(6)
        check_next_due(bench.claim_work_batch(), bench.clock.now() + 1)
        bench.wait(LONG)
        assert bench.complete(work, message("late")) is Outcome.OK
        assert ids_of(bench.claim_one().messages) == ["late"]
        assert [(work.id, work.attempt) for work in bench.claim_work()] == [("u", 3)]

    @case("I12", "I11")
    def test_sch_25_a_result_that_nobody_can_take(self, bench: Bench) -> None:
        """A completion whose message can't be delivered is OK all the same: the activity is gone, the message too."""
        bench.ended("ended")
        bench.started("a", activities=[activity(f"t{number}") for number in range(5)])
        bench.send("pending", payload=b"first")
        before = bench.get("ended")
        results = [
            message("r", "nobody"),
            message("r", "ended"),
            message("r", "a", generation="another"),
            message("pending", "a", payload=b"second"),
            message("r", "a", generation=bench.get("a").generation),
        ]
        done = [ActivityDone(lease=work.lease, message=m) for work, m in zip(bench.claim_work(), results, strict=True)]
        assert bench.hub.complete_activities(done) == [Outcome.OK] * 5
        assert waiting(bench) == (0, 0, 0)
        assert bench.get("ended") == before
        item = bench.claim_one()
        expected = [("pending", b"first"), ("r", b"payload")]
        assert [(delivery.id, delivery.payload) for delivery in item.messages] == expected
        bench.create("nobody")
        assert ids_of(bench.claim_one().messages) == ["@start"]

    @case("RESULTS", "I12")
    def test_sch_26_completions_are_answered_in_the_order_asked(self, bench: Bench) -> None:
        """A batch of completions is answered and delivered in the order asked, and what is LOST delivers nothing."""
        bench.started("a", activities=[activity(str(number)) for number in range(5)])
        zero, one, two, three, four = claim_ids(bench, *"01234")
        bench.release(one.lease)
        done = [
            ActivityDone(lease=work.lease, message=message(f"r{work.id}")) for work in (four, one, zero, four, three)
        ]
        expected = [Outcome.OK, Outcome.LOST, Outcome.OK, Outcome.LOST, Outcome.OK]
        assert bench.hub.complete_activities(done) == expected
        assert waiting(bench) == (1, 1, 0)
        assert ids_of(bench.turn().messages) == ["r4", "r0", "r3"]
        again = bench.claim_one_work()
        assert (again.id, again.attempt) == ("1", 2)
        done = [ActivityDone(lease=work.lease, message=message(f"s{work.id}")) for work in (one, again, two, two)]
        answer = bench.hub.exchange(Exchange(done=done))
        assert list(answer.done) == [Outcome.LOST, Outcome.OK, Outcome.OK, Outcome.LOST]
        assert ids_of(bench.claim_one().messages) == ["s1", "s2"]

    @case("I12", "I4")
    def test_sch_27_only_a_commit_that_stands_schedules(self, bench: Bench) -> None:
        """An activity is claimable once the commit that schedules it stands, in the same exchange; else never."""
        bench.create("a")
        item = bench.claim_one()
        lost = replace(item, lease=replace(item.lease, token="x"))
        with bench.unchanged("a"):
            assert bench.commit(lost, activities=[activity()]) is Outcome.LOST
            assert bench.commit(item, expected_next_seq=1, activities=[activity()]) is Outcome.CONFLICT
            assert bench.claim_work() == []
        batch = bench.claim_work_batch(max_items=0)
        assert (batch.more, batch.next_due) == (False, None)
        commit = turn_commit(item, activities=[activity()], starts=[new_instance("b")], keep_ms=LEASE_MS)
        asked = ClaimActivities(worker="w", max_items=10, lease_ms=LEASE_MS)
        answer = bench.hub.exchange(Exchange(commits=[commit], claim_activities=asked))
        assert list(answer.commits) == [Outcome.OK]
        assert answer.activities is not None
        # That its instance is still under a lease doesn't matter.
        assert ids_of(answer.activities.items) == ["t"]
        work = answer.activities.items[0]
        assert bench.hub.commit_turns([commit]) == [Outcome.ALREADY]
        assert bench.complete(work, message("r")) is Outcome.OK
        assert bench.hub.commit_turns([commit]) == [Outcome.ALREADY]
        assert (bench.claim_work(), waiting(bench)) == ([], (0, 0, 0))
        assert [item.instance for item in bench.claim()] == ["b"]

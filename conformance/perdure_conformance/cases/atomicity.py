"""ATM: what is done whole or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import pytest

from perdure.spi import (
    Activity,
    ActivityDone,
    HistoryPage,
    InstanceInfo,
    InvalidRequest,
    NextExecution,
    NotFound,
    OrchestrationStatus,
    Outcome,
    Release,
    TooLarge,
    TurnCommit,
    TurnItem,
)
from perdure_conformance.bench import Bench, Fuse
from perdure_conformance.case import Level, case
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    FAILED,
    LEASE_MS,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    ByExchange,
    Driver,
    activity,
    fresh,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
    turn_commit,
)
from perdure_conformance.threads import at_once

KEEP_MS: Final = 2 * LEASE_MS
TIMER_MS: Final = 10 * LEASE_MS
KINDS: Final = ("appends", "rewrites", "continues", "fails")
"""What a commit does with the history and the instance; all other effects go with each."""

MAIN: Final = {"names": ["main"]}
"""Claims of the instance that commits, whose name is its alone."""

# What a commit with no effect could take away beyond what one with every effect takes.
_GREEDY: Final = {"consumed": ["m1", "m2"], "cancel_all": True, "cancel_messages": ["m1", "m2", "timer"]}


@dataclass(slots=True)
class Scene:
    """An instance `a` with something of every kind, about to commit, among others that its commit reaches."""

    item: TurnItem
    running: Activity
    """An activity of its own, leased."""


def set_scene(bench: Driver) -> Scene:
    bench.ended("ended", output=b"done", custom_status=b"end")
    bench.ended("old", events=[b"o"], output=b"done")
    bench.started("taken", events=[b"t"])
    bench.started("b", events=[b"b0"], activities=[activity("pending")])
    bench.send("waiting", instance="b")
    assert bench.create("a", name="main", input=b"in1", version="1") == [Outcome.OK]
    first = bench.commit(
        bench.claim_one(**MAIN),
        events=[b"0", b"1", b"2"],
        continued=NextExecution(events=[b"x0", b"x1"], input=b"in2", version="2"),
        activities=[activity("kept"), activity("dropped"), activity("running", name="runs")],
        output=b"out",
        custom_status=b"status",
        memo=b"memo",
    )
    assert first is Outcome.OK
    assert bench.send("m1", "m2") == [Outcome.OK, Outcome.OK]
    assert bench.send("timer", due=bench.clock.now() + TIMER_MS) == [Outcome.OK]
    return Scene(bench.claim_one(**MAIN), bench.claim_one_work(names=["runs"]))


def every_effect(bench: Driver, scene: Scene, kind: str) -> dict[str, Any]:
    """Return every kind of effect at once."""
    special: dict[str, dict[str, Any]] = {
        "appends": {},
        "rewrites": {"rewrite": True},
        "continues": {"continued": NextExecution(events=[b"n0"], input=b"in3", version="3")},
        "fails": {"status": FAILED, "failure": b"why"},
    }
    return {
        "events": [b"e0", b"e1"],
        "consumed": ["m1"],
        "settled": [scene.running.lease],
        "activities": [activity("new"), activity("brief")],
        "cancel_activities": ["dropped", "brief"],
        "starts": [
            new_instance("child", parent="a"),
            new_instance("taken", on_conflict=message("told")),
            new_instance("old", generation="again", replace_if=ENDED),
        ],
        "messages": [
            message("local"),
            message("remote", "b"),
            message("hello", "child"),
            message("later", due=bench.clock.now() + 50),
            message("unwanted"),
            message("again", "ended", reopen=ENDED),
        ],
        "cancel_messages": ["timer", "unwanted"],
        "status": SUSPENDED,
        "output": b"out2",
        "custom_status": b"status2",
        "memo": b"memo2",
        "keep_ms": KEEP_MS,
        **special[kind],
    }


def check_every_effect(bench: Driver, scene: Scene, item: TurnItem, kind: str) -> None:
    """Check that a commit of `every_effect` was applied whole, and once."""
    histories = {"rewrites": [b"e0", b"e1"], "continues": [b"n0"]}
    history = histories.get(kind, [b"x0", b"x1", b"e0", b"e1"])
    execution, input_, version = (3, b"in3", "3") if kind == "continues" else (2, b"in2", "2")
    fails = kind == "fails"
    info = bench.get("a")
    assert bench.history("a") == history
    assert (info.execution, info.next_seq, info.input, info.version) == (execution, len(history), input_, version)
    assert (info.output, info.custom_status) == (b"out2", b"status2")
    assert (info.status, info.failure) == ((FAILED, b"why") if fails else (SUSPENDED, None))
    assert info.completed_at == (bench.clock.now() if fails else None)

    assert bench.get("child").parent == "a"
    assert (bench.get("taken").next_seq, bench.history("taken")) == (1, [b"t"])
    old = bench.get("old")
    assert (old.generation, old.status, old.output, bench.history("old")) == ("again", "PENDING", None, [])
    ended = bench.get("ended")
    assert (ended.status, ended.output, ended.custom_status) == (RUNNING, None, b"end")
    assert bench.history("b") == [b"b0"]
    others = {found.instance: ids_of(found.messages) for found in bench.claim(names=["flow"])}
    assert others == {"b": ["waiting", "remote"], "child": ["@start", "hello"], "old": ["@start"], "ended": ["again"]}

    assert bench.complete(scene.running, message("late", "b")) is Outcome.LOST
    own = set() if fails else {("a", "kept"), ("a", "new")}
    assert {(work.instance, work.id) for work in bench.claim_work()} == own | {("b", "pending")}

    if fails:
        assert bench.send("more") == [Outcome.TERMINAL]
        bench.wait(TIMER_MS)
        assert bench.claim(**MAIN) == []
        return
    assert bench.claim(**MAIN) == []
    held = bench.claim_one(held=[item.lease], **MAIN)
    assert held.lease.token == item.lease.token
    assert (ids_of(held.messages), held.memo, held.attempt) == (["m2", "told", "local"], b"memo2", 1)
    bench.wait(TIMER_MS)
    assert ids_of(bench.claim_one(**MAIN).messages) == ["m2", "told", "local", "later"]


def commit_good_and_stale(
    bench: Driver, commit: Callable[[Sequence[TurnCommit]], Sequence[Outcome]], expected: Sequence[Outcome]
) -> None:
    """Make one call with a commit for each outcome expected, and check that only the good ones had effects."""
    names = [f"i{number}" for number in range(len(expected))]
    bench.started("target")
    assert bench.create(*names, name="main") == [Outcome.OK] * len(names)
    for item in bench.claim(**MAIN):
        own = [activity(f"{kind}-{item.instance}", name=kind) for kind in ("kept", "run")]
        assert bench.commit(item, events=[b"0"], activities=own) is Outcome.OK
        bench.send("m", "n", instance=item.instance)
    running = {work.instance: work for work in bench.claim_work(names=["run"])}
    items = {item.instance: item for item in bench.claim(**MAIN)}
    thieves: dict[str, TurnItem] = {}
    commits = []
    for number, (name, outcome) in enumerate(zip(names, expected, strict=True)):
        wrong: dict[str, Any] = {}
        if outcome is Outcome.CONFLICT:
            wrong = {"expected_next_seq": 2} if number % 2 else {"execution": 2}
        elif outcome is Outcome.LOST:
            bench.release(items[name].lease)
            if number % 2:
                thieves[name] = bench.claim_one(**MAIN)
        effects: dict[str, Any] = {
            "events": [b"1"],
            "consumed": ["m"],
            "settled": [running[name].lease],
            "activities": [activity(f"new-{name}")],
            "cancel_activities": [f"kept-{name}"],
            "messages": [message(f"from-{name}", "target")],
            "starts": [new_instance(f"child-{name}", name="child", parent=name)],
            "custom_status": name.encode(),
        }
        commits.append(turn_commit(items[name], **effects | wrong))

    assert list(commit(commits)) == list(expected)

    applied = [name for name, outcome in zip(names, expected, strict=True) if outcome is Outcome.OK]
    for name in names:
        good = name in applied
        assert bench.history(name) == ([b"0", b"1"] if good else [b"0"])
        assert bench.get(name).custom_status == (name.encode() if good else None)
        assert bench.complete(running[name]) is (Outcome.LOST if good else Outcome.OK)
    scheduled = {work.id for work in bench.claim_work()}
    assert scheduled == {f"{'new' if name in applied else 'kept'}-{name}" for name in names}
    assert {item.instance for item in bench.claim(names=["child"])} == {f"child-{name}" for name in applied}
    told = [ids_of(item.messages) for item in bench.claim(names=["flow"])]
    assert told == ([[f"from-{name}" for name in applied]] if applied else [])
    free = ids_by_instance(bench.claim(**MAIN))
    released = [name for name in names if expected[names.index(name)] is Outcome.LOST and name not in thieves]
    assert free == {name: ["n"] for name in applied} | {name: ["m", "n"] for name in released}
    for name, outcome in zip(names, expected, strict=True):
        if outcome is Outcome.CONFLICT:
            assert bench.commit(items[name], events=[b"1"]) is Outcome.OK
        elif name in thieves:
            assert bench.commit(thieves[name], events=[b"1"]) is Outcome.OK


MIXES: Final = (
    (Outcome.LOST, Outcome.OK, Outcome.CONFLICT, Outcome.OK),
    (Outcome.OK, Outcome.LOST, Outcome.CONFLICT),
    (Outcome.CONFLICT, Outcome.LOST, Outcome.OK),
    (Outcome.CONFLICT, Outcome.LOST),
)
"""Outcomes of a batch: good and stale items, each of them first, in the middle and last."""


REACHED: Final = ("a", "b", "ended", "old", "taken", "child")
"""Those that `every_effect` reaches."""

BREAKS: Final = 1000


class AtomicityCases:
    """Cases ATM."""

    @case("I4", "I3", variants=KINDS)
    def test_atm_01_conflicting_commit_has_no_effect_and_keeps_the_lease(self, bench: Bench) -> None:
        """A commit of another execution or next_seq than the stored one is CONFLICT: none of its effects, and the
        lease stays as it was."""
        scene = set_scene(bench)
        item, commit_id = scene.item, fresh("commit")
        conflicts = (
            *({"execution": execution} for execution in (0, 1, 3)),
            *({"expected_next_seq": seq} for seq in (0, 1, 3)),
            # What was right before the instance was continued.
            {"execution": 1, "expected_next_seq": 3},
            {"execution": 3, "expected_next_seq": 3},
        )
        with bench.unchanged("a", "b", "ended", "old", "taken"):
            for wrong in conflicts:
                effects = every_effect(bench, scene, bench.variant) | _GREEDY | wrong
                assert bench.commit(item, commit_id=commit_id, **effects) is Outcome.CONFLICT
        assert bench.claim_work(names=["runs"]) == []
        bench.wait(LEASE_MS - 1)
        assert bench.claim(**MAIN) == []
        bench.wait(1)
        again = bench.claim_one(**MAIN)
        assert (ids_of(again.messages), again.attempt, again.memo) == (["m1", "m2"], 2, b"memo")
        # The id of a commit that had no effect is as good as new.
        effects = every_effect(bench, scene, bench.variant)
        assert bench.commit(again, commit_id=commit_id, **effects) is Outcome.OK
        check_every_effect(bench, scene, again, bench.variant)

    @case("I3", "I4", variants=KINDS)
    def test_atm_02_lost_commit_has_no_effect(self, bench: Bench) -> None:
        """A commit under a token that is not the current one is LOST, with none of its effects, and leaves whoever
        has the lease now undisturbed."""
        scene = set_scene(bench)
        stale, commit_id = scene.item, fresh("commit")

        def lost(item: TurnItem, **fields: Any) -> None:
            with bench.unchanged("a", "b", "ended", "old", "taken", "child"):
                effects = every_effect(bench, scene, bench.variant) | _GREEDY | fields
                assert bench.commit(item, **{"commit_id": commit_id} | effects) is Outcome.LOST

        for token in ("", "0" * 32):
            lost(replace(stale, lease=replace(stale.lease, token=token)))
        assert bench.release(stale.lease) is Outcome.OK
        lost(stale)
        thief = bench.claim_one(**MAIN)
        lost(stale)
        # The id of a commit that had no effect is as good as new.
        effects = every_effect(bench, scene, bench.variant)
        assert bench.commit(thief, commit_id=commit_id, **effects) is Outcome.OK
        after = bench.get("a")
        lost(stale, commit_id=fresh("commit"))
        lost(stale, commit_id=fresh("commit"), execution=after.execution, expected_next_seq=after.next_seq)
        check_every_effect(bench, scene, thief, bench.variant)

    @case("I4", variants=KINDS)
    def test_atm_03_commit_shows_all_its_effects_at_once(self, bench: Bench) -> None:
        """A commit that answers OK shows every kind of effect: events, activities, messages, timers, children, cancels,
        settled activities, status, output, custom status, memo, lease."""
        by_exchange = bench.new_hub()
        by_exchange.hub = ByExchange(by_exchange.hub)  # type: ignore[assignment]
        for driver in (bench, by_exchange):
            scene = set_scene(driver)
            rev = driver.get("a").rev
            assert driver.commit(scene.item, **every_effect(driver, scene, bench.variant)) is Outcome.OK
            assert driver.get("a").rev > rev
            status = FAILED if bench.variant == "fails" else SUSPENDED
            assert driver.find(statuses=[status]) == ["a"]
            check_every_effect(driver, scene, scene.item, bench.variant)

    @case("RESULTS", "I3", "I4")
    def test_atm_04_stale_items_of_a_batch_leave_their_neighbours_alone(self, bench: Bench) -> None:
        """In a batch of commits each answers for itself, in the order asked: LOST and CONFLICT ones have no effect, OK
        ones all of theirs."""
        for expected in MIXES:
            driver = bench.new_hub()
            commit_good_and_stale(driver, driver.hub.commit_turns, expected)

    @case("I3", "I5")
    def test_atm_05_two_commits_of_one_lease_in_a_batch(self, bench: Bench) -> None:
        """Of two commits of one lease in a batch the second is LOST, unless the first kept the lease; then it is judged
        by what the first left."""
        bench.create("a", "b", "c", "d", "e")
        items = {item.instance: item for item in bench.claim()}
        repeated = turn_commit(items["d"], events=[b"1"])
        commits = [
            turn_commit(items["a"], events=[b"1"]),
            turn_commit(items["a"], events=[b"2"]),
            turn_commit(items["a"], events=[b"2"], expected_next_seq=1),
            turn_commit(items["b"], events=[b"1"], keep_ms=1000),
            turn_commit(items["b"], events=[b"2"], consumed=[], expected_next_seq=1),
            turn_commit(items["c"], events=[b"1"], keep_ms=1000),
            turn_commit(items["c"], events=[b"2"]),
            repeated,
            repeated,
            turn_commit(items["e"], events=[b"1"], status=COMPLETED, keep_ms=1000),
            turn_commit(items["e"], events=[b"2"], expected_next_seq=1, status=RUNNING),
        ]
        assert list(bench.hub.commit_turns(commits)) == [
            *(Outcome.OK, Outcome.LOST, Outcome.LOST),
            *(Outcome.OK, Outcome.OK),
            *(Outcome.OK, Outcome.CONFLICT),
            *(Outcome.OK, Outcome.ALREADY),
            *(Outcome.OK, Outcome.LOST),
        ]
        histories = {name: bench.history(name) for name in items}
        assert histories == {name: [b"1"] for name in "acde"} | {"b": [b"1", b"2"]}
        assert bench.get("e").status is COMPLETED
        bench.send("m", instance="a")
        bench.send("m", instance="c")
        # The second commit of b released it; that of c had no effect, so that it is kept.
        assert [item.instance for item in bench.claim()] == ["a"]
        assert bench.commit(items["c"], expected_next_seq=1, consumed=[]) is Outcome.OK

    @case("I9", "I7")
    def test_atm_06_commits_of_one_batch_see_those_before_them(self, bench: Bench) -> None:
        """Each commit of a batch finds what those before it did: instances that are committed together message each
        other, and no message is lost, doubled or consumed unseen."""
        bench.create("a", "b", "c", "d", "e")
        items = {item.instance: item for item in bench.claim()}
        commits = [
            turn_commit(items["a"], messages=[message("to-b", "b"), message("x", "a")]),
            turn_commit(
                items["b"],
                messages=[message("to-a", "a"), message("x", "b"), message("to-child", "child")],
                # Not delivered to this turn.
                consumed=["@start", "to-b"],
            ),
            turn_commit(items["c"], status=COMPLETED, messages=[message("from-c", "d")]),
            turn_commit(
                items["d"],
                starts=[new_instance("child", parent="d")],
                messages=[message("to-c", "c"), message("to-child", "child"), message("to-e", "e")],
            ),
            turn_commit(items["e"], messages=[message("to-child-too", "child")], status=COMPLETED),
        ]
        assert list(bench.hub.commit_turns(commits)) == [Outcome.OK] * 5
        assert ids_by_instance(bench.claim()) == {
            "a": ["x", "to-a"],
            "b": ["to-b", "x"],
            "d": ["from-c"],
            "child": ["@start", "to-child", "to-child-too"],
        }
        # Later commits change what earlier ones scheduled, told and started.
        bench.create("f", "g")
        items = {item.instance: item for item in bench.claim()}
        work = [activity("t", payload=b"1"), activity("u")]
        assert bench.commit(items["f"], activities=work, keep_ms=LEASE_MS) is Outcome.OK
        leases = [claimed.lease for claimed in bench.claim_work()]
        commits = [
            turn_commit(
                items["f"], activities=work, messages=[message("y", "g")], keep_ms=LEASE_MS, custom_status=b"1"
            ),
            turn_commit(items["g"], cancel_messages=["y"], starts=[new_instance("h")]),
            turn_commit(items["f"], consumed=[], settled=leases[:1], cancel_activities=["u"], custom_status=b"2"),
        ]
        assert list(bench.hub.commit_turns(commits)) == [Outcome.OK] * 3
        bench.wait(LEASE_MS)
        assert bench.claim_work() == []
        assert bench.get("f").custom_status == b"2"
        assert {item.instance for item in bench.claim()} == {"a", "b", "d", "child", "h"}

    @case("I4", "I5", requires=("durable",), hooks=("intercept",), variants=KINDS)
    def test_atm_23_call_that_breaks_off_has_all_of_its_effects_or_none(self, bench: Bench) -> None:
        """A commit that breaks off at any call to the driver was applied whole or not at all, and made again it is."""
        fuse = Fuse()
        with bench.intercepted(fuse.burn):
            scene = set_scene(bench)
            commit_id = fresh("commit")
            effects = every_effect(bench, scene, bench.variant) | {"commit_id": commit_id}
            before = bench.snapshot(*REACHED)
            outcome, broken, applied = None, 0, 0
            while outcome is None:
                fuse.left, fuse.has_blown = broken + applied, False
                try:
                    outcome = bench.commit(scene.item, **effects)
                except Exception:
                    if not fuse.has_blown:
                        raise
                    fuse.left = None
                    if bench.snapshot(*REACHED) == before:
                        broken += 1
                    else:
                        applied += 1
                fuse.left = None
                assert broken + applied < BREAKS, "a commit makes more calls to the driver than can be cut one by one"
            assert broken > 0, "no call to the driver was seen"
            assert outcome is (Outcome.ALREADY if applied else Outcome.OK)
            check_every_effect(bench, scene, scene.item, bench.variant)

    @case("I4", level=Level.L2, requires=("concurrent_threads",), variants=("one handle", "a handle each"))
    def test_atm_07_commits_that_message_each_other_do_not_deadlock(self, bench: Bench) -> None:
        """Commits of two instances that message each other, made at once by many threads, all succeed, and each
        message arrives once."""
        threads = 8
        drivers = drivers_of(bench, threads)
        bench.create("a", "b")
        items = {item.instance: item for item in bench.claim()}

        def run(number: int) -> list[Outcome]:
            own, other = ("a", "b") if number % 2 else ("b", "a")
            messages = [message(f"from-{own}", other), message(f"{number}", other)]
            commit = turn_commit(items[own], messages=messages, consumed=[], keep_ms=LEASE_MS)
            return list(drivers[number].hub.commit_turns([commit]))

        for _ in range(5):
            assert at_once(run, threads) == [[Outcome.OK]] * threads
        bench.wait(LEASE_MS)
        found = {item.instance: sorted(ids_of(item.messages)) for item in bench.claim()}
        assert found == {"a": ["0", "2", "4", "6", "@start", "from-b"], "b": ["1", "3", "5", "7", "@start", "from-a"]}

    @case("RESULTS", "I16", "I4")
    def test_atm_08_malformed_item_fails_the_whole_call(self, bench: Bench) -> None:
        """A malformed or too large item makes the whole call raise with its index, and nothing of the call is
        applied."""
        bench.create("a", "b", "c")
        items = bench.claim()
        huge = bytes(bench.limits.max_payload + 1)
        half = bytes(bench.limits.max_payload)
        whole_commit = [half] * (bench.limits.max_commit_bytes // len(half) + 1)
        too_large: list[dict[str, Any]] = [
            {"events": [b"e", huge]},
            {"activities": [activity(payload=huge)]},
            {"messages": [message(payload=huge)]},
            {"starts": [new_instance("child", start=huge)]},
            {"starts": [new_instance("child", input=huge)]},
            {"starts": [new_instance("child", on_conflict=message(payload=huge))]},
            {"output": huge},
            {"custom_status": huge},
            {"memo": huge},
            {"status": FAILED, "failure": huge},
            {"continued": NextExecution(events=[huge])},
            {"continued": NextExecution(events=[], input=huge)},
            {"events": whole_commit},
        ]
        far = bench.clock.now() + bench.limits.max_due_ahead_ms + 1
        malformed: list[dict[str, Any]] = [
            {"activities": [activity(due=far)]},
            {"messages": [message(due=far)]},
            {"starts": [new_instance("child", due=far)]},
            *({"continued": NextExecution(events=[]), **wrong} for wrong in ({"status": COMPLETED}, {"rewrite": True})),
            {"continued": NextExecution(events=[]), "status": FAILED},
            {"messages": [message("")]},
            {"activities": [activity("\0")]},
        ]
        good: dict[str, Any] = {
            "events": [b"e"],
            "messages": [message("to-a"), message("to-c", "c")],
            "activities": [activity()],
            "starts": [new_instance("child")],
        }
        wrongs = [(TooLarge, wrong) for wrong in too_large] + [(InvalidRequest, wrong) for wrong in malformed]
        with bench.unchanged("a", "b", "c"):
            for number, (error, wrong) in enumerate(wrongs):
                place = number % 3
                commits = [turn_commit(item, **good) for item in items]
                commits[place] = turn_commit(items[place], **wrong)
                with pytest.raises(error) as caught:
                    bench.hub.commit_turns(commits)
                assert (caught.value.index, sorted(wrong)) == (place, sorted(wrong))
        assert list(bench.hub.commit_turns([turn_commit(item, messages=[message("m")]) for item in items])) == (
            [Outcome.OK] * 3
        )

    @case("RESULTS", "I16")
    def test_atm_17_malformed_item_fails_every_kind_of_call(self, bench: Bench) -> None:
        """A malformed or too large item makes a create, send, complete, renew or release raise with its index, and
        nothing of the call is applied."""
        bench.started("a", events=[b"e"], activities=[activity("t"), activity("u")])
        bench.create("b")
        item, work = bench.claim_one(), bench.claim_work()
        huge = bytes(bench.limits.max_payload + 1)
        hub = bench.hub
        done = [ActivityDone(lease=found.lease, message=message(found.id)) for found in work]
        too_large: list[Callable[[], object]] = [
            lambda: hub.create_instances([new_instance("c"), new_instance("d", start=huge)]),
            lambda: hub.create_instances([new_instance("c"), new_instance("d", input=huge)]),
            lambda: hub.send_messages([message(), message("n", payload=huge), message("o")]),
            lambda: hub.complete_activities([done[0], replace(done[1], message=message(payload=huge))]),
        ]
        far = bench.clock.now() + bench.limits.max_due_ahead_ms + 1
        malformed: list[Callable[[], object]] = [
            lambda: hub.create_instances([new_instance("c"), new_instance("")]),
            lambda: hub.create_instances([new_instance("c"), new_instance("d", due=far)]),
            lambda: hub.send_messages([message(), message("n", due=-1)]),
            lambda: hub.send_messages([message(), message("n", ""), message("o")]),
            lambda: hub.complete_activities([done[0], replace(done[1], message=message("@start"))]),
            lambda: hub.release([Release(lease=work[0].lease), Release(lease=item.lease, delay_ms=-1)]),
        ]
        with bench.unchanged("a", "b", "c"):
            for error, calls in ((TooLarge, too_large), (InvalidRequest, malformed)):
                for call in calls:
                    with pytest.raises(error) as caught:
                        call()
                    assert caught.value.index == 1
            with pytest.raises(InvalidRequest):
                hub.renew([item.lease, work[0].lease], 0)
        assert bench.create("c") == [Outcome.OK]
        assert bench.send("m", "n", "o") == [Outcome.OK] * 3
        assert list(hub.complete_activities(done)) == [Outcome.OK] * 2
        assert bench.commit(item) is Outcome.OK

    @case("I12", "I7")
    def test_atm_09_completing_is_one_step(self, bench: Bench) -> None:
        """Completing an activity deletes it and delivers its message in one step; one that answers LOST does neither,
        and one whose message nobody can take is deleted all the same."""
        bench.ended("ended")
        bench.ended("reopened")
        bench.started("b")
        names = [f"t{number}" for number in range(9)]
        bench.started("a", activities=[activity(name) for name in names])
        bench.send("known")
        work = {found.id: found for found in bench.claim_work()}
        assert bench.release(work["t0"].lease) is Outcome.OK
        thief = bench.claim_one_work()
        done = [
            (work["t0"], message("r0"), Outcome.LOST),
            (work["t1"], message("r1"), Outcome.OK),
            (work["t1"], message("r1-again"), Outcome.LOST),
            (work["t2"], None, Outcome.OK),
            (work["t3"], message("r3", "nobody"), Outcome.OK),
            (work["t4"], message("r4", "ended"), Outcome.OK),
            (work["t5"], message("r5", generation="other"), Outcome.OK),
            (work["t6"], message("known", payload=b"second"), Outcome.OK),
            (work["t7"], message("r7", "reopened", reopen=ENDED), Outcome.OK),
            (work["t8"], message("r8", "b", generation=bench.get("b").generation), Outcome.OK),
        ]
        answers = bench.hub.complete_activities(
            [ActivityDone(lease=found.lease, message=result) for found, result, _ in done]
        )
        assert list(answers) == [outcome for _, _, outcome in done]
        found = {item.instance: [(d.id, d.payload) for d in item.messages] for item in bench.claim()}
        assert found == {
            "a": [("known", b"payload"), ("r1", b"payload")],
            "reopened": [("r7", b"payload")],
            "b": [("r8", b"payload")],
        }
        assert bench.get("ended").status is COMPLETED
        assert bench.get("reopened").status is RUNNING
        gone = [work[name].lease for name in names[1:]]
        assert {outcome for outcome, _ in bench.hub.renew(gone, LEASE_MS)} <= {Outcome.LOST, Outcome.CANCELLED}
        with bench.unchanged("a", "b", "ended"):
            again = [ActivityDone(lease=work[name].lease, message=message(f"late-{name}")) for name in names]
            assert list(bench.hub.complete_activities(again)) == [Outcome.LOST] * len(names)
        bench.wait(LEASE_MS - 1)
        assert bench.claim_work() == []
        assert bench.complete(thief, message("r0")) is Outcome.OK
        bench.wait(1)
        assert bench.claim_work() == []
        taken = ids_by_instance(bench.claim())
        assert taken.get("a") == ["known", "r1", "r0"]

    @case("I4", "I6", level=Level.L2, requires=("concurrent_threads",), variants=("one handle", "a handle each"))
    def test_atm_10_readers_see_whole_commits_only(self, bench: Bench) -> None:
        """Whoever reads while commits are made sees each of them whole or not at all: events with the state that goes
        with them, no other execution's events, and an end without anything left."""
        readers, turns = 3, 60
        # Where reads lag, a later one may see less than the one before it.
        in_order = bench.capabilities.read_lag_ms == 0
        drivers = drivers_of(bench, readers)
        bench.started("a", activities=[activity("t")])
        bench.send("go")
        item = bench.claim_one()
        bench.settle_reads()
        done = threading.Event()

        def write() -> int:
            try:
                for number in range(turns):
                    commit_whole(bench, item, number)
                assert bench.commit(item, consumed=[], status=COMPLETED, output=b"done") is Outcome.OK
            finally:
                done.set()
            return turns

        def read(driver: Driver) -> int:
            looks = 0
            while not done.is_set() or not looks:
                # What is read later may be later, and never earlier.
                before = driver.hub.stats()
                info = driver.get()
                page = driver.hub.read_history("a", limit=10_000)
                after = driver.hub.stats()
                check_whole(info)
                check_whole_page(page)
                looks += 1
                if not in_order or page.more:
                    continue
                assert (page.execution, len(page.events)) >= (info.execution, info.next_seq)
                if info.status.is_terminal:
                    assert (after.activities.ready, after.turns.leased) == (0, 0)
                if before.activities.ready == 0:
                    assert info.status.is_terminal
            return looks

        assert all(at_once(lambda number: read(drivers[number]) if number < readers else write(), readers + 1))
        assert (bench.get().status, bench.get().output) == (COMPLETED, b"done")

    @case("I4", "I7")
    def test_atm_11_create_makes_an_instance_with_its_start(self, bench: Bench) -> None:
        """Whatever way an instance comes to be, it has exactly one start, its own; where none was created there is no
        start either."""
        due = bench.clock.now() + 100
        bench.ended("old")
        bench.started("taken")
        generation = bench.get("old").generation
        batch = [
            new_instance("a", start=b"a", generation="g"),
            new_instance("taken", start=b"no"),
            new_instance("old", start=b"new", replace_if=ENDED),
            new_instance("a", start=b"no", replace_if=frozenset(OrchestrationStatus)),
            new_instance("a", start=b"no", generation="g"),
            new_instance("later", start=b"later", due=due),
            new_instance("empty", start=b""),
            new_instance("old", start=b"no", generation=generation),
        ]
        with bench.unchanged("a", "taken", "old"), pytest.raises(InvalidRequest) as caught:
            bench.hub.create_instances([*batch, new_instance("z", parent="")])
        assert caught.value.index == len(batch)
        outcomes = [Outcome.OK, Outcome.EXISTS, Outcome.REPLACED, Outcome.EXISTS, Outcome.ALREADY, Outcome.OK]
        assert list(bench.hub.create_instances(batch)) == [*outcomes, Outcome.OK, Outcome.EXISTS]

        def starts() -> dict[str, list[tuple[str, bytes]]]:
            items = bench.claim()
            assert all((item.status, item.next_seq, item.attempt) == ("PENDING", 0, 1) for item in items)
            return {item.instance: [(d.id, d.payload) for d in item.messages] for item in items}

        expected = {"a": b"a", "old": b"new", "empty": b""}
        assert starts() == {name: [("@start", payload)] for name, payload in expected.items()}
        bench.wait(100)
        assert starts() == {"later": [("@start", b"later")]}
        bench.wait(LEASE_MS)
        # Nobody consumed a start: each comes again, once.
        again = ids_by_instance(bench.claim())
        assert again == {name: ["@start"] for name in ("a", "old", "empty", "later")}
        assert bench.get("old").rev > 1

    @case("PURGE", "I4")
    def test_atm_12_purge_takes_an_instance_whole(self, bench: Bench) -> None:
        """A purge takes an instance with its history, inbox, timers, activities, leases and remembered ids in one step;
        an id that is used again finds nothing of it, and others keep what is theirs."""
        scene = set_scene(bench)
        generation = bench.get("a").generation
        # The id of m1 is remembered, the rest waits.
        own = [activity("new"), activity("future", due=bench.clock.now() + LEASE_MS)]
        fields: dict[str, Any] = {"consumed": ["m1"], "activities": own, "keep_ms": KEEP_MS}
        assert bench.commit(scene.item, messages=[message("own"), message("remote", "b")], **fields) is Outcome.OK
        assert bench.send("m1") == [Outcome.DUPLICATE]
        result = bench.purge("a", force=True)
        assert (result.deleted, result.complete, list(result.outcomes)) == (1, True, [Outcome.OK])
        assert list(bench.hub.get_instances(["a"])) == [None]
        with pytest.raises(NotFound):
            bench.history("a")
        assert sorted(bench.find()) == ["b", "ended", "old", "taken"]
        with bench.unchanged("a", "b", "ended", "old", "taken"):
            assert bench.send("m3") == [Outcome.NOT_FOUND]
            assert bench.commit(scene.item, events=[b"e"]) is Outcome.LOST
            assert bench.release(scene.item.lease) is Outcome.LOST
            assert bench.renew(scene.item.lease) == (Outcome.LOST, None)
            assert bench.renew(scene.running.lease) == (Outcome.CANCELLED, None)
            assert bench.complete(scene.running, message("r", "b")) is Outcome.LOST
        assert ids_of(bench.claim_work()) == ["pending"]
        assert bench.create("a", name="main") == [Outcome.OK]
        with bench.unchanged("a", "b"):
            assert bench.commit(scene.item, execution=1, expected_next_seq=0, events=[b"e"]) is Outcome.LOST
            assert bench.complete(scene.running, message("r")) is Outcome.LOST
            assert bench.send("m3", generation=generation) == [Outcome.NOT_FOUND]
        assert bench.send("m1", "m2", "own", "timer") == [Outcome.OK] * 4
        item = bench.claim_one(**MAIN)
        assert ids_of(item.messages) == ["@start", "m1", "m2", "own", "timer"]
        assert (item.execution, item.next_seq, item.attempt, item.version) == (1, 0, 1, None)
        assert (item.custom_status, item.memo, bench.history("a")) == (None, None, [])
        info = bench.get("a")
        assert (info.input, info.output, info.failure, info.status_rev) == (None, None, None, 0)
        assert bench.commit(item) is Outcome.OK
        bench.wait(TIMER_MS)
        assert bench.claim(**MAIN) == []
        assert ids_of(bench.claim_work()) == ["pending"]
        assert ids_of(bench.claim_one().messages) == ["waiting", "remote"]

    @case("I4", "I5")
    def test_atm_13_child_is_there_iff_its_parents_event_is(self, bench: Bench) -> None:
        """A commit creates its children in the same step as its events, whatever else it does; one that is CONFLICT,
        LOST or ALREADY creates none, and none replaces the instance that commits."""
        bench.started("stale")
        bench.send("m", instance="stale")
        item = bench.claim_one()
        start: dict[str, Any] = {"events": [b"starts"], "starts": [new_instance("child", parent="stale")]}
        with bench.unchanged("stale", "child"):
            assert bench.commit(item, expected_next_seq=9, **start) is Outcome.CONFLICT
        assert bench.release(item.lease) is Outcome.OK
        with bench.unchanged("stale", "child"):
            assert bench.commit(item, **start) is Outcome.LOST
        commit = turn_commit(bench.claim_one(), **start)
        assert list(bench.hub.commit_turns([commit])) == [Outcome.OK]
        assert (bench.history("stale"), bench.get("child").parent) == ([b"starts"], "stale")
        assert bench.purge("child", force=True).deleted == 1
        with bench.unchanged("stale", "child"):
            assert list(bench.hub.commit_turns([commit])) == [Outcome.ALREADY]

        ways: dict[str, dict[str, Any]] = {
            "ends": {"status": COMPLETED},
            "rewrites": {"rewrite": True},
            "continues": {"continued": NextExecution(events=[b"starts"])},
            "keeps": {"keep_ms": LEASE_MS},
        }
        for name, fields in ways.items():
            starts = [new_instance(f"{name}-{number}", parent=name) for number in (1, 2)]
            bench.started(name, events=[b"starts"], starts=starts, **fields)
            assert bench.history(name) == [b"starts"]
            assert sorted(bench.find(parent=name)) == [f"{name}-1", f"{name}-2"]
        waiting = ids_by_instance(bench.claim())
        assert waiting == {f"{name}-{number}": ["@start"] for name in ways for number in (1, 2)}

        everything = frozenset(OrchestrationStatus)
        itself = new_instance("self", replace_if=everything, on_conflict=message("told", "self"))
        twice = [new_instance("twin", start=b"1"), new_instance("twin", start=b"2", replace_if=everything)]
        bench.started("self", starts=[itself, *twice], events=[b"e"])
        assert bench.get("self").generation != itself.generation
        assert bench.get("twin").generation == twice[0].generation
        assert bench.history("self") == [b"e"]
        found = {item.instance: [(d.id, d.payload) for d in item.messages] for item in bench.claim()}
        assert found == {"self": [("told", b"payload")], "twin": [("@start", b"1")]}

    @case("I19", "I4")
    def test_atm_14_another_handle_sees_what_was_committed(self, bench: Bench) -> None:
        """What one handle committed it reads at once, and every other handle on the store within read_lag_ms."""
        other = bench.another_handle()
        handles = [bench.hub] if other is None else [bench.hub, bench.on(other).hub]
        bench.create("a", "b", name="main")
        for number, item in enumerate(bench.claim(**MAIN)):
            name = item.instance
            for hub in handles:
                # Whoever has read it before sees the change all the same.
                find = partial(Driver(hub, bench.clock).find, names=["main"], id_prefix=name)
                assert seen(bench, find, [name], lag=hub is not bench.hub) == [name]
                assert Driver(hub, bench.clock).get(name).completed_at is None
                assert Driver(hub, bench.clock).history(name) == []
            fields: dict[str, Any] = {
                "custom_status": b"status",
                "starts": [new_instance(f"child-{name}", parent=name)],
            }
            assert bench.commit(item, events=[b"e"], status=COMPLETED, output=b"out", **fields) is Outcome.OK
            for hub in handles:
                driver = Driver(hub, bench.clock)

                def look(driver: Driver = driver, name: str = name) -> object:
                    info = driver.get(name)
                    children = driver.find(parent=name)
                    return (info.status, info.output, info.custom_status, driver.history(name), children)

                expected = (COMPLETED, b"out", b"status", [b"e"], [f"child-{name}"])
                assert seen(bench, look, expected, lag=hub is not bench.hub) == expected

                def count(driver: Driver = driver) -> int:
                    return driver.hub.stats().instances.get(COMPLETED, 0)

                assert seen(bench, count, number + 1, lag=hub is not bench.hub) == number + 1
        # What one leases nobody else has.
        assert sorted(item.instance for item in Driver(handles[-1], bench.clock).claim()) == ["child-a", "child-b"]
        assert bench.claim() == []

    @case("I5", "I4")
    def test_atm_15_repeated_commit_is_already_there(self, bench: Bench) -> None:
        """A commit whose id is that of the instance's last commit is ALREADY, whatever it says and whoever has the
        lease now, until the next commit; the first content wins."""
        scene = set_scene(bench)
        commit = turn_commit(scene.item, **every_effect(bench, scene, "appends"))
        assert list(bench.hub.commit_turns([commit])) == [Outcome.OK]
        other = turn_commit(
            scene.item, commit_id=commit.commit_id, events=[b"other"], status=COMPLETED, activities=[activity("more")]
        )
        following = replace(commit, expected_next_seq=4)
        with bench.unchanged("a", "b", "child"):
            assert list(bench.hub.commit_turns([commit, other, following])) == [Outcome.ALREADY] * 3
        # What the first sent and scheduled may be done with meanwhile, and must not come back.
        assert bench.purge("child", force=True).deleted == 1
        for work in bench.claim_work():
            bench.complete(work)
        with bench.unchanged("a", "b", "child"):
            assert list(bench.hub.commit_turns([commit])) == [Outcome.ALREADY]
        assert bench.claim_work() == []
        # The lease that it kept is still its holder's.
        assert bench.claim(**MAIN) == []
        held = bench.claim_one(held=[scene.item.lease], **MAIN)
        assert ids_of(held.messages) == ["m2", "told", "local"]
        # The next turn has begun, under the same token: that makes the last one no new one.
        with bench.unchanged("a", "b", "child"):
            again = [commit, replace(commit, expected_next_seq=held.next_seq)]
            assert list(bench.hub.commit_turns(again)) == [Outcome.ALREADY] * 2
        assert bench.commit(held) is Outcome.OK
        bench.send("m")
        with bench.unchanged("a", "b", "child"):
            assert list(bench.hub.commit_turns([commit])) == [Outcome.LOST]
        assert ids_of(bench.claim_one(**MAIN).messages) == ["m"]

    @case("I5", "I3")
    def test_atm_18_commit_ids_belong_to_an_instance_and_its_last_commit(self, bench: Bench) -> None:
        """A commit id is known while it is the instance's last: while others claim, fail and release, after its end,
        to the letter; and not in another instance or incarnation."""
        bench.create()
        first = turn_commit(bench.claim_one(), commit_id="Commit", events=[b"1"])
        assert list(bench.hub.commit_turns([first])) == [Outcome.OK]
        bench.send()
        for _ in range(2):
            item = bench.claim_one()
            with bench.unchanged("a"):
                assert bench.commit(item, commit_id="x", expected_next_seq=9) is Outcome.CONFLICT
                assert bench.commit(replace(item, lease=first.lease), commit_id="y") is Outcome.LOST
                assert list(bench.hub.commit_turns([first])) == [Outcome.ALREADY]
            assert bench.renew(item.lease)[0] is Outcome.OK
            assert list(bench.hub.commit_turns([first])) == [Outcome.ALREADY]
            assert bench.release(item.lease) is Outcome.OK
        assert list(bench.hub.commit_turns([first])) == [Outcome.ALREADY]

        # Another instance knows nothing of it.
        bench.create("b")
        items = {item.instance: item for item in bench.claim()}
        assert bench.commit(items["b"], commit_id="Commit", events=[b"1"]) is Outcome.OK
        # Nor is any other text the same id.
        last = turn_commit(items["a"], commit_id="commit", status=COMPLETED, output=b"out")
        assert list(bench.hub.commit_turns([last, last])) == [Outcome.OK, Outcome.ALREADY]
        with bench.unchanged("a", "b"):
            assert list(bench.hub.commit_turns([first, last])) == [Outcome.LOST, Outcome.ALREADY]
            assert bench.commit(items["a"], commit_id="commit ") is Outcome.LOST

        # To reopen it is no commit.
        assert bench.send("again", reopen=ENDED) == [Outcome.OK]
        with bench.unchanged("a", "b"):
            assert list(bench.hub.commit_turns([last])) == [Outcome.ALREADY]
        # The incarnation that comes after it knows nothing of it either.
        assert bench.create("a", replace_if=frozenset({RUNNING})) == [Outcome.REPLACED]
        with bench.unchanged("a", "b"):
            assert list(bench.hub.commit_turns([last])) == [Outcome.LOST]
        item = bench.claim_one()
        assert bench.commit(item, commit_id="commit", events=[b"new"]) is Outcome.OK
        assert bench.history("a") == [b"new"]

    @case("I5", "I20", level=Level.L1, requires=("durable",), variants=KINDS)
    def test_atm_19_commit_is_whole_and_already_there_after_a_reopening(self, bench: Bench) -> None:
        """After a reopening a commit is there with all its effects, and the same again is ALREADY."""
        scene = set_scene(bench)
        effects = every_effect(bench, scene, bench.variant)
        commit = turn_commit(scene.item, **effects)
        assert list(bench.hub.commit_turns([commit])) == [Outcome.OK]
        bench.reopen()
        with bench.unchanged("a", "b", "child"):
            assert list(bench.hub.commit_turns([commit])) == [Outcome.ALREADY]
        check_every_effect(bench, scene, scene.item, bench.variant)

    @case("I18", "I4")
    def test_atm_16_empty_commit_is_a_visible_change(self, bench: Bench) -> None:
        """A commit that only consumes, or does nothing at all, is valid: it counts rev up and nothing else."""
        bench.started("a", events=[b"e"], output=b"out", custom_status=b"s", memo=b"memo", activities=[activity()])
        bench.send("m")
        before = bench.get()
        bench.wait(10)
        for consumed in ([], ["m"]):
            item = bench.claim_one()
            assert (ids_of(item.messages), item.attempt) == (["m"], 1)
            assert bench.commit(item, consumed=consumed) is Outcome.OK
            info = bench.get()
            assert info.rev > before.rev
            assert info.updated_at == bench.clock.now()
            assert info == replace(before, rev=info.rev, updated_at=info.updated_at)
            before = info
        assert bench.claim() == []
        assert bench.history() == [b"e"]
        assert ids_of(bench.claim_work()) == ["t"]
        bench.send("n")
        assert bench.claim_one().memo == b"memo"

    @case("I8", "I13")
    def test_atm_20_effects_of_a_commit_come_in_order(self, bench: Bench) -> None:
        """Within a commit its messages come behind what was pending, a new child's start first; starts are told of
        before messages, and cancels come last."""
        bench.ended("old")
        bench.started("taken")
        bench.create("a", name="main")
        item = bench.claim_one(**MAIN)
        bench.send("pending")
        starts = [
            new_instance("new", generation="g"),
            new_instance("old", generation="g", replace_if=ENDED),
            *(new_instance("taken", on_conflict=message(name)) for name in ("told", "gone")),
            new_instance("taken", generation=bench.get("taken").generation, on_conflict=message("not-told")),
            new_instance("new", on_conflict=message("told-too")),
            new_instance("taken"),
        ]
        messages = [
            message("own1"),
            message("m", "new", generation="g"),
            message("m", "old"),
            message("unwanted"),
            message("own2"),
            message("n", "old", control=True),
            message("own1", payload=b"second"),
        ]
        fields: dict[str, Any] = {"starts": starts, "messages": messages}
        assert bench.commit(item, cancel_messages=["gone", "unwanted", "unknown", "n"], **fields) is Outcome.OK
        found = {item.instance: item for item in bench.claim()}
        assert {name: ids_of(item.messages) for name, item in found.items()} == {
            "a": ["pending", "told", "told-too", "own1", "own2"],
            "new": ["@start", "m"],
            "old": ["@start", "m", "n"],
        }
        assert {delivery.payload for delivery in found["a"].messages} == {b"payload"}

    @case("I13", "I12")
    def test_atm_21_cancels_come_after_the_inserts(self, bench: Bench) -> None:
        """Cancels apply after what the same commit settles, schedules and sends; cancel_all means the activities from
        before it; and neither reaches another instance."""
        ids = ("t1", "t2", "t3", "old")
        bench.started("b", activities=[activity(name) for name in (*ids, "new")])
        bench.started("a", activities=[activity(name, payload=b"1") for name in ids])
        due = bench.clock.now() + 10
        for instance in ("a", "b"):
            bench.send("x", "y", instance=instance, due=due)
        bench.send("go")
        work = {found.id: found for found in bench.claim_work() if found.instance == "a"}
        bench.turn(
            settled=[work["t1"].lease, work["t2"].lease],
            activities=[activity(name, payload=b"2") for name in ("t1", "t2", "old", "new", "brief")],
            cancel_all=True,
            cancel_activities=["t2", "brief", "unknown"],
            messages=[message("m1"), message("m2")],
            cancel_messages=["m1", "x", "unknown"],
        )
        found = {(item.id, item.payload, item.attempt) for item in bench.claim_work()}
        assert found == {("t1", b"2", 1), ("new", b"2", 1)}
        assert bench.renew(work["old"].lease) == (Outcome.CANCELLED, None)
        assert bench.complete(work["t3"], message("late")) is Outcome.LOST
        assert bench.complete(work["t1"], message("late")) is Outcome.LOST
        bench.wait(10)
        delivered = ids_by_instance(bench.claim())
        assert delivered == {"a": ["m2", "y"], "b": ["x", "y"]}
        # What belongs to b was leased above, and is free again once that has run out.
        bench.wait(LEASE_MS - 10)
        assert {(item.instance, item.id) for item in bench.claim_work()} == {
            *(("b", name) for name in (*ids, "new")),
            *(("a", name) for name in ("t1", "new")),
        }

    @case("I18", "CLOCK")
    def test_atm_22_completed_at_is_updated_at(self, bench: Bench) -> None:
        """A commit that ends an instance sets completed_at to its updated_at, also where the clock went back."""
        for name, status in (("a", COMPLETED), ("b", FAILED), ("c", TERMINATED)):
            bench.create(name)
            item = bench.claim_one()
            created = bench.clock.now()
            bench.wait(-1000)
            assert bench.commit(item, status=status) is Outcome.OK
            assert (bench.get(name).completed_at, bench.get(name).updated_at) == (created, created)
            bench.wait(2000)


def drivers_of(bench: Bench, number: int) -> list[Driver]:
    """Return a driver for each thread: all of one handle, or each of its own, as the variant says."""
    return [bench] * number if bench.variant == "one handle" else bench.a_handle_each(number)


def commit_whole(bench: Driver, item: TurnItem, number: int) -> None:
    """Commit a turn from which each part tells all others: three events more, and each tenth time a new execution."""
    fields: dict[str, Any] = {"consumed": [], "keep_ms": LEASE_MS, "events": [b"%d" % item.execution] * 3}
    seq = item.next_seq + 3
    execution = item.execution
    if number % 10 == 9:
        execution, seq = execution + 1, 3
        fields["continued"] = NextExecution(events=[b"%d" % execution] * 3, input=b"%d" % execution)
    state = b"%d/%d" % (execution, seq)
    assert bench.commit(item, custom_status=state, output=state, **fields) is Outcome.OK
    item.execution, item.next_seq = execution, seq


def check_whole(info: InstanceInfo) -> None:
    """Check that all parts of an instance are of one commit of `commit_whole`."""
    if info.rev > 2 and info.custom_status is not None:
        state = b"%d/%d" % (info.execution, info.next_seq)
        ended = info.status.is_terminal
        assert (info.custom_status, info.output) == (state, b"done" if ended else state)
        assert (info.completed_at is not None) == ended
        assert info.input == (b"%d" % info.execution if info.execution > 1 else None)
    assert info.next_seq % 3 == 0


def check_whole_page(page: HistoryPage) -> None:
    """Check that a history is that of one commit of `commit_whole`, or of none."""
    assert list(page.events) == [b"%d" % page.execution] * len(page.events)
    assert page.more or len(page.events) % 3 == 0


def seen(bench: Bench, look: Callable[[], Any], expected: object, *, lag: bool) -> Any:
    """Return what `look` finds: at once, or with a lag as soon as it is what is expected, or the lag is over."""
    until = time.monotonic() + (bench.capabilities.read_lag_ms / 1000 if lag else 0)
    while (found := look()) != expected and time.monotonic() < until:
        time.sleep(0.001)
    return found

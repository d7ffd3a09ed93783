"""NMS: names, memo, settled activities, rewritten histories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from perdure.spi import (
    Delivery,
    InstanceQuery,
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
    FAILED,
    LEASE_MS,
    PENDING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    activity,
    check_next_due,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
    turn_commit,
)

LONG_MS: Final = 100_000


def failed(prefix: str) -> InstanceQuery:
    return InstanceQuery(statuses=[FAILED], id_prefix=prefix)


def flags(messages: Sequence[Delivery]) -> list[tuple[str, bool]]:
    return [(delivery.id, delivery.control) for delivery in messages]


class NameCases:
    """Cases NMS."""

    @case("I2", "I10")
    def test_nms_01_claim_returns_the_names_asked_for(self, bench: Bench) -> None:
        """A claim with `names` returns only those, turns and activities alike; None returns all, and the empty set
        nothing; `more` and `next_due` speak of the names asked for."""
        now = bench.clock.now()
        names = ("alpha", "beta", "gamma")
        # Names that begin alike, or are another's in other letters, are other names.
        others = ("Alpha", "alph", "alpha ", "alphabet", "%", "\u03b1")
        for name in (*names, *others):
            assert bench.create(f"1-{name}", f"2-{name}", name=name) == [Outcome.OK, Outcome.OK]
        work = [activity(f"{number}-{name}", name=name) for name in (*names, *others) for number in (1, 2)]
        bench.started("host", activities=work)

        for nothing in ([], ["delta"]):
            assert bench.claim(names=nothing) == []
            assert bench.claim_work(names=nothing) == []
        for asked in (["alpha"], ("beta", "gamma", "delta"), frozenset(others)):
            expected = sorted(f"{number}-{name}" for name in asked if name != "delta" for number in (1, 2))
            # What others wait for is no `more`.
            turns = bench.claim_batch(names=asked, max_items=len(expected))
            activities = bench.claim_work_batch(names=asked, max_items=len(expected))
            assert sorted(item.instance for item in turns.items) == expected
            assert sorted(ids_of(activities.items)) == expected
            assert (turns.more, activities.more) == (False, False)
            for item in turns.items:
                assert bench.release(item.lease) is Outcome.OK
            for found in activities.items:
                assert bench.release(found.lease) is Outcome.OK
        batch = bench.claim_batch(names=["alpha"], max_items=1)
        assert (len(batch.items), batch.more, batch.next_due) == (1, True, now)
        cut = bench.claim_work_batch(names=["alpha"], max_items=1)
        assert (len(cut.items), cut.more, cut.next_due) == (1, True, now)
        assert len(bench.claim(names=None)) == 2 * len((*names, *others)) - 1
        assert len(bench.claim_work(names=None)) == len(work) - 1

    @case("I10", "I2")
    def test_nms_13_next_due_speaks_of_the_names_asked_for(self, bench: Bench) -> None:
        """`next_due` is that of the names asked for: neither an earlier due time of other names nor their ready work
        shortens it, and it isn't None while something waits for these."""
        now = bench.clock.now()
        soon, late = now + 1000, now + LONG_MS
        bench.create("ready", name="ready")
        bench.create("soon", name="soon", due=soon)
        bench.create("late", name="late", due=late)
        work = [activity(name, name=name, due=due) for name, due in (("ready", 0), ("soon", soon), ("late", late))]
        work.append(activity("other", name="late", queue="other", due=soon))
        bench.create("host", name="host")
        assert bench.commit(bench.claim_one(names=["host"]), activities=work) is Outcome.OK
        assert bench.claim_batch(names=["nobody"]).next_due is None
        assert bench.claim_batch(names=[]).next_due is None
        assert bench.claim_work_batch(names=["nobody"]).next_due is None
        assert bench.claim_work_batch(names=[]).next_due is None
        assert bench.claim_work_batch(names=["late"], queues=["nowhere"]).next_due is None
        # A provider that is early is no earlier for what others wait for.
        alone = bench.new_hub()
        alone.create("late", name="late", due=late)
        alone.started("host", activities=work[2:3])
        least = []
        for driver in (alone, bench):
            for batch in (driver.claim_batch(names=["late"]), driver.claim_work_batch(names=["late"])):
                check_next_due(batch, late)
                assert batch.next_due is not None
                least.append(min(soon + 1, batch.next_due))
        assert least[2:] == least[:2]
        for names in (["soon"], ["late", "soon"]):
            check_next_due(bench.claim_batch(names=names), soon)
            check_next_due(bench.claim_work_batch(names=names), soon)
        # A lease of one name is nobody's else to wait for.
        assert len(bench.claim(names=["ready"], lease_ms=10)) == 1
        assert len(bench.claim_work(names=["ready"], lease_ms=10)) == 1
        dues = bench.claim_batch(names=["late"]).next_due, bench.claim_work_batch(names=["late"]).next_due
        for due, earliest in zip(dues, least[:2], strict=True):
            assert due is not None
            assert due >= earliest
        check_next_due(bench.claim_batch(names=["ready"]), now + 10)
        check_next_due(bench.claim_work_batch(names=["ready"]), now + 10)
        # One control message later it speaks of everybody.
        assert bench.send("stop", instance="late", control=True, due=now + 500) == [Outcome.OK]
        for names in (["late"], ["soon"], ["nobody"], []):
            check_next_due(bench.claim_batch(names=names), now + 500)
        assert ids_of(bench.claim_work(names=None)) == []
        bench.wait(LONG_MS)
        assert ids_by_instance(bench.claim(names=["late"])) == {"late": ["@start", "stop"]}
        assert ids_of(bench.claim_work(names=["late"])) == ["late"]

    @case("I2", "I7")
    def test_nms_02_workers_with_disjoint_names_share_a_hub(self, bench: Bench) -> None:
        """Workers that ask for disjoint names never see each other's work; what nobody asks for stays as it is, and
        gets what is sent to it."""
        bench.create("a1", "a2", name="a")
        bench.create("b1", "b2", name="b")
        bench.create("n", name="nobody", input=b"in")
        bench.send("kept", instance="n")
        nobody = bench.get("n")
        seen: dict[str, set[str]] = {"a": set(), "b": set()}
        for _ in range(3):
            for name, other in (("a", "b"), ("b", "a")):
                turns = bench.claim(names=[name], worker=name)
                for item in turns:
                    seen[name].add(item.instance)
                    commit = turn_commit(
                        item,
                        events=[b"e"],
                        activities=[activity(f"{item.next_seq}-for-{other}", name=other)],
                        messages=[message(f"from-{name}{item.next_seq}", f"{other}1")],
                    )
                    assert list(bench.hub.commit_turns([commit])) == [Outcome.OK]
                for work in bench.claim_work(names=[name], worker=name):
                    assert work.name == name
                    assert bench.complete(work, message(work.id, work.instance)) is Outcome.OK
        assert seen == {"a": {"a1", "a2"}, "b": {"b1", "b2"}}
        assert bench.get("n") == nobody
        bench.wait(LONG_MS)
        # Whoever asks for it at last finds everything.
        item = bench.claim_one(names=["nobody"])
        assert (item.instance, ids_of(item.messages), item.attempt) == ("n", ["@start", "kept"], 1)

    @case("STATUS", "I16")
    def test_nms_03_memo_is_three_valued(self, bench: Bench) -> None:
        """`memo` comes back byte for byte with each claim: unset keeps it, None clears it, bytes (also empty) set it;
        it outlives executions, and goes with its instance."""
        raw = bytes(range(256))
        bench.create("b")
        assert bench.claim_one().memo is None
        bench.started("a", memo=b"\0memo")
        steps: list[tuple[dict[str, Any], bytes | None]] = [
            ({}, b"\0memo"),
            ({"memo": b""}, b""),
            ({}, b""),
            ({"memo": None}, None),
            ({}, None),
            ({"memo": b"null"}, b"null"),
            ({"memo": raw}, raw),
            ({"custom_status": b"s", "output": b"o"}, raw),
            ({"continued": NextExecution(events=[b"n"])}, raw),
            ({"rewrite": True, "events": [b"r"], "status": SUSPENDED}, raw),
            ({"continued": NextExecution(events=[]), "memo": b"x"}, b"x"),
        ]
        for number, (fields, expected) in enumerate(steps):
            bench.send(f"m{number}")
            bench.turn(**fields)
            bench.send(f"look{number}")
            item = bench.claim_one()
            assert (item.instance, item.memo) == ("a", expected)
            assert bench.commit(item) is Outcome.OK
        # It is neither the custom status nor the output, and nobody else's.
        assert (bench.get().custom_status, bench.get().output) == (b"s", b"o")
        memos = {"c": b"c", "d": None, "e": b"", "f": raw}
        bench.create(*memos)
        assert {item.instance: item.memo for item in bench.claim(lease_ms=1)} == dict.fromkeys(memos)
        bench.wait(1)
        commits = [turn_commit(item, memo=memos[item.instance], consumed=[]) for item in bench.claim()]
        assert list(bench.hub.commit_turns(commits)) == [Outcome.OK] * len(memos)
        items = bench.claim()
        assert {item.instance: item.memo for item in items} == memos
        assert list(bench.hub.commit_turns([turn_commit(item) for item in items])) == [Outcome.OK] * len(memos)
        bench.send("m")
        item = bench.claim_one()
        assert bench.commit(item, memo=b"no", expected_next_seq=9) is Outcome.CONFLICT
        assert bench.release(item.lease) is Outcome.OK
        assert bench.commit(item, memo=b"no") is Outcome.LOST
        item = bench.claim_one()
        assert item.memo == b"x"
        # It stays beyond an end that is taken back, and goes with a replaced or purged instance.
        assert bench.commit(item, status=FAILED, failure=b"why") is Outcome.OK
        assert bench.send("again", reopen=ENDED) == [Outcome.OK]
        item = bench.claim_one()
        assert item.memo == b"x"
        assert bench.commit(item, status=COMPLETED) is Outcome.OK
        assert bench.create("a", replace_if=ENDED) == [Outcome.REPLACED]
        item = bench.claim_one()
        assert item.memo is None
        assert bench.commit(item, memo=b"y", status=COMPLETED) is Outcome.OK
        assert bench.purge("a").deleted == 1
        bench.create("a")
        assert bench.claim_one().memo is None

    @case("I12", "I4")
    def test_nms_04_settled_activities_go_with_the_commit(self, bench: Bench) -> None:
        """A commit deletes the activities that it has settled, in the same step, without a message; one whose lease is
        no longer current, or another instance's, is skipped, and the commit stands; one that doesn't stand settles
        nothing."""
        ids = [f"t{number}" for number in range(6)]
        bench.started("b", activities=[activity("t0")])
        bench.started("a", activities=[activity(name) for name in ids])
        works = bench.claim_work()
        foreign = next(work for work in works if work.instance == "b")
        work = {found.id: found for found in works if found.instance == "a"}
        assert bench.release(work["t1"].lease) is Outcome.OK
        thief = bench.claim_one_work()
        assert bench.release(work["t2"].lease) is Outcome.OK
        assert bench.complete(work["t3"], message("r3")) is Outcome.OK
        item = bench.claim_one()
        forged = [
            replace(work["t4"].lease, token="0" * 32),
            replace(work["t4"].lease, key=work["t5"].lease.key),
            replace(work["t4"].lease, kind=LeaseKind.TURN),
            replace(foreign.lease, token=work["t0"].lease.token),
            foreign.lease,
            item.lease,
        ]
        settled = [work[name].lease for name in ("t1", "t0", "t2", "t3", "t0")] + forged
        with bench.unchanged("a", "b"):
            assert bench.commit(item, settled=settled, expected_next_seq=9) is Outcome.CONFLICT
        assert bench.release(item.lease) is Outcome.OK
        with bench.unchanged("a", "b"):
            assert bench.commit(item, settled=settled) is Outcome.LOST
        bench.wait(LEASE_MS)
        # Leases that have run out are current until somebody takes them.
        item = bench.claim_one()
        assert bench.commit(item, events=[b"results"], settled=settled) is Outcome.OK
        assert bench.history() == [b"results"]
        with bench.unchanged("a", "b"):
            assert bench.complete(work["t0"], message("late")) is Outcome.LOST
            assert bench.renew(work["t0"].lease)[0] in (Outcome.LOST, Outcome.CANCELLED)
        assert bench.renew(thief.lease)[0] is Outcome.OK
        for number in (4, 5):
            assert bench.complete(work[f"t{number}"], message(f"r{number}")) is Outcome.OK
        assert {(found.instance, found.id) for found in bench.claim_work()} == {("a", "t2"), ("b", "t0")}
        assert bench.complete(foreign) is Outcome.LOST
        assert bench.complete(thief, message("r1")) is Outcome.OK
        assert ids_of(bench.claim_one().messages) == ["r4", "r5", "r1"]

    @case("I12", "I13")
    def test_nms_14_settled_and_scheduled_anew(self, bench: Bench) -> None:
        """An id that a commit settles may be scheduled by the same commit, and is a new activity; one that was not
        settled, since its lease was not current, is the same as before."""
        old = [activity(name, payload=b"1") for name in ("t", "u", "v")]
        bench.started(activities=old)
        work = {found.id: found for found in bench.claim_work()}
        assert bench.release(work["u"].lease) is Outcome.OK
        bench.send()
        anew = [activity(name, payload=b"2", name="again") for name in ("t", "u", "v")]
        bench.turn(settled=[work[name].lease for name in ("t", "u")], activities=anew)
        assert bench.complete(work["t"], message("late")) is Outcome.LOST
        found = {(item.id, item.payload, item.name, item.attempt) for item in bench.claim_work()}
        assert found == {("t", b"2", "again", 1), ("u", b"1", "work", 2)}
        assert bench.complete(work["v"], message("r")) is Outcome.OK
        # What a former commit of the batch scheduled, and was there, the next one settles.
        item = bench.claim_one()
        bench.wait(LEASE_MS)
        held = bench.claim_work()
        commits = [
            turn_commit(item, activities=anew[:2], keep_ms=LEASE_MS),
            turn_commit(item, consumed=[], settled=[found.lease for found in held]),
        ]
        assert list(bench.hub.commit_turns(commits)) == [Outcome.OK, Outcome.OK]
        bench.wait(LEASE_MS)
        assert bench.claim_work() == []

    @case("I6", "I4")
    def test_nms_06_rewrite_replaces_the_history_whole(self, bench: Bench) -> None:
        """A commit with `rewrite` replaces the execution's history in one step: next_seq follows, and former events are
        gone from every read; a stale one changes nothing."""
        bench.started("b", events=[b"b0", b"b1", b"b2"])
        bench.started("a", events=[b"0", b"1", b"2"])
        bench.send()
        bench.turn(events=[b"3", b"4"])
        bench.send("n")
        item = bench.claim_one(inline_history=True)
        assert item.history is not None
        assert list(item.history) == [b"0", b"1", b"2", b"3", b"4"]
        with bench.unchanged("a", "b"):
            for seq in (0, 1, 4, 6):
                assert bench.commit(item, rewrite=True, events=[b"x"], expected_next_seq=seq) is Outcome.CONFLICT
        assert bench.release(item.lease) is Outcome.OK
        with bench.unchanged("a", "b"):
            assert bench.commit(item, rewrite=True, events=[b"x"]) is Outcome.LOST
        # What is written next meets nothing of what was there before it.
        item = bench.claim_one()
        assert bench.commit(item, rewrite=True, events=[b"s0", b"s1"], keep_ms=LEASE_MS) is Outcome.OK
        longer = [b"s2", b"s3", b"s4", b"s5"]
        own = [message("next")]
        assert bench.commit(item, events=longer, expected_next_seq=2, consumed=[], messages=own) is Outcome.OK
        assert bench.history() == [b"s0", b"s1", *longer]
        # Shorter, nothing, longer, as long: each time only what was written is there.
        histories = [[b"n0", b"n1"], [], [b"%d" % number for number in range(7)], [b""] * 7, [b"last"]]
        for number, events in enumerate(histories):
            item = bench.claim_one()
            own = [message(f"next{number}")]
            assert bench.commit(item, rewrite=True, events=events, messages=own) is Outcome.OK
            info = bench.get()
            assert (bench.history(), info.next_seq, info.execution) == (events, len(events), 1)
            page = bench.hub.read_history("a", limit=1)
            assert (list(page.events), page.more) == (events[:1], len(events) > 1)
            assert bench.history("b") == [b"b0", b"b1", b"b2"]
        item = bench.claim_one(inline_history=True)
        assert item.history is not None
        assert (list(item.history), item.next_seq) == ([b"last"], 1)
        # The next commit goes on behind it.
        assert bench.commit(item, events=[b"more"], messages=[message("go")]) is Outcome.OK
        assert bench.history() == [b"last", b"more"]
        # Two of one batch: the second rewrites what the first wrote.
        item = bench.claim_one()
        commits = [
            turn_commit(item, rewrite=True, events=[b"1", b"2", b"3"], keep_ms=LEASE_MS),
            turn_commit(item, rewrite=True, events=[b"4"], expected_next_seq=3, consumed=[], keep_ms=LEASE_MS),
            turn_commit(item, events=[b"5"], expected_next_seq=1, consumed=[]),
        ]
        assert list(bench.hub.commit_turns(commits)) == [Outcome.OK] * 3
        assert bench.history() == [b"4", b"5"]
        # In a later execution as well, and together with an end.
        bench.send("o")
        bench.turn(events=[b"6"], continued=NextExecution(events=[b"7", b"8"]))
        bench.send("p")
        bench.turn(rewrite=True, events=[b"9"], status=FAILED, failure=b"why")
        info = bench.get()
        assert (bench.history(), info.next_seq, info.execution, info.status) == ([b"9"], 1, 2, FAILED)

    @case("I6", "STATUS")
    def test_nms_07_failure_is_kept_with_failed_only(self, bench: Bench) -> None:
        """`failure` comes back byte for byte with status FAILED, and is absent with every other status."""
        for payload in (b"why", b"", bytes(range(256)), b"null"):
            name = f"f-{payload[:1].hex()}-{len(payload)}"
            bench.started(name, failure=payload)
            assert bench.get(name).failure is None
            bench.send(instance=name)
            bench.turn(status=SUSPENDED, failure=payload)
            assert bench.get(name).failure is None
            bench.send("n", instance=name)
            bench.turn(status=FAILED, failure=payload, output=b"out")
            info = bench.get(name)
            assert (info.status, info.failure, info.output) == (FAILED, payload, b"out")
            assert bench.hub.query_instances(failed(name)).items[0].failure == payload
        for status in (COMPLETED, TERMINATED):
            bench.ended(f"e-{status}", status=status, failure=b"ignored")
            assert bench.get(f"e-{status}").failure is None
        bench.ended("none", status=FAILED)
        assert (bench.get("none").status, bench.get("none").failure) == (FAILED, None)
        # It goes when the end is taken back, and another end brings its own.
        for status, failure in ((FAILED, b"first"), (COMPLETED, None), (FAILED, None), (FAILED, b"last")):
            bench.create("r")
            bench.send(f"{status}-{failure!r}", instance="r", reopen=ENDED)
            assert bench.get("r").failure is None
            bench.turn(status=status, failure=failure)
            assert bench.get("r").failure == failure
        # Nor does it stay with what comes after it.
        assert bench.create("r", replace_if=ENDED) == [Outcome.REPLACED]
        assert bench.get("r").failure is None

    @case("STATUS", "I20", level=Level.L1, requires=("durable",))
    def test_nms_15_states_are_the_same_after_a_reopening(self, bench: Bench) -> None:
        """Failure, output, custom status, memo, rewritten history, names and control messages are the same after a
        reopening, absent ones and empty ones too."""
        values = {"none": None, "empty": b"", "raw": bytes(range(256))}
        for name, value in values.items():
            bench.started(name, events=[b"1", b"2"], output=value, custom_status=value, memo=value)
            bench.send(instance=name)
            bench.turn(rewrite=True, events=[b"n"])
            bench.ended(f"failed-{name}", status=FAILED, failure=value, output=value)
        bench.create("other", name="other", due=bench.clock.now() + LONG_MS)
        bench.send("stop", instance="other", control=True)
        ids = [*values, *(f"failed-{name}" for name in values), "other"]
        before = bench.snapshot(*ids)
        bench.reopen()
        assert bench.snapshot(*ids) == before
        item = bench.claim_one(names=["nobody"])
        assert (item.instance, ids_of(item.messages)) == ("other", ["stop"])
        for name, value in values.items():
            info, failed = bench.get(name), bench.get(f"failed-{name}")
            assert (info.output, info.custom_status, failed.failure, failed.output) == (value,) * 4
            assert (bench.history(name), info.next_seq) == ([b"n"], 1)
            bench.send("look", instance=name)
            item = bench.claim_one(names=["flow"])
            assert (item.instance, item.memo) == (name, value)
            assert bench.commit(item) is Outcome.OK

    @case("I7", "I8", "I10")
    def test_nms_08_control_messages_make_an_instance_claimable(self, bench: Bench) -> None:
        """A due `control` message makes an instance claimable whatever its start's due, the names asked for, or a
        release delay; it overrides no lease, no due time and no end."""
        now = bench.clock.now()
        bench.create("future", due=now + LONG_MS)
        bench.create("hidden", "leased", "plain", "ended", "later")
        items = {item.instance: item for item in bench.claim()}
        assert bench.release(items["hidden"].lease, delay_ms=LONG_MS) is Outcome.OK
        assert bench.release(items["later"].lease, delay_ms=LONG_MS) is Outcome.OK
        assert bench.commit(items["plain"]) is Outcome.OK
        assert bench.commit(items["ended"], status=COMPLETED) is Outcome.OK
        for instance in ("future", "hidden", "leased", "plain"):
            assert bench.send("event", instance=instance) == [Outcome.OK]
        assert ids_by_instance(bench.claim(names=["nobody"])) == {}
        for instance in ("future", "hidden", "leased"):
            assert bench.send("stop", instance=instance, control=True) == [Outcome.OK]
        assert bench.send("stop", instance="ended", control=True) == [Outcome.TERMINAL]
        assert bench.send("stop", instance="later", control=True, due=now + 10) == [Outcome.OK]

        # Whoever can't run it gets control messages, and the start, for that says what the instance is.
        found = {item.instance: item for item in bench.claim(names=["nobody"])}
        assert ids_by_instance(list(found.values())) == {"future": ["stop"], "hidden": ["@start", "stop"]}
        assert flags(found["hidden"].messages) == [("@start", False), ("stop", True)]
        # Hidden once more, and overridden once more: the delay holds nothing back.
        for item in found.values():
            assert bench.release(item.lease, delay_ms=LONG_MS) is Outcome.OK
        # Whoever can gets everything, but before the start is due control messages alone.
        found = {item.instance: item for item in bench.claim()}
        assert ids_by_instance(list(found.values())) == {
            "future": ["stop"],
            "hidden": ["@start", "event", "stop"],
            "plain": ["event"],
        }
        assert {name: item.status for name, item in found.items()} == {
            "future": PENDING,
            "hidden": PENDING,
            "plain": RUNNING,
        }
        # What was not delivered can't be consumed, start and event among it.
        for item in found.values():
            assert bench.commit(item, consumed=["@start", "event", "stop"]) is Outcome.OK
        batch = bench.claim_batch(names=["nobody"])
        check_next_due(batch, now + 10)
        bench.wait(9)
        assert bench.claim() == bench.claim(names=["nobody"]) == []
        bench.wait(1)
        assert ids_by_instance(bench.claim(names=["nobody"], lease_ms=1)) == {"later": ["@start", "stop"]}
        # With the claim the delay is over for good: whatever else waits does so for the lease alone.
        bench.wait(1)
        item = bench.claim_each("later", lease_ms=1)["later"]
        assert ids_of(item.messages) == ["@start", "stop"]
        assert bench.commit(item, consumed=["stop"], keep_ms=1) is Outcome.OK
        assert ids_by_instance(bench.claim(held=[item.lease], lease_ms=1)) == {"later": ["@start"]}
        bench.wait(1)
        assert ids_by_instance(bench.claim(lease_ms=1)) == {"later": ["@start"]}
        # The lease ends, then its control message counts.
        bench.wait(LEASE_MS - 10 - 1 - 2)
        assert "leased" not in ids_by_instance(bench.claim(names=["nobody"], lease_ms=1))
        bench.wait(1)
        assert ids_by_instance(bench.claim(names=["nobody"])).get("leased") == ["@start", "stop"]
        bench.wait(LONG_MS)
        assert ids_by_instance(bench.claim(names=["flow"])).get("future") == ["@start", "event"]

    @case("I8", "I7")
    def test_nms_16_control_messages_come_whatever_lies_before_them(self, bench: Bench) -> None:
        """To a worker without the name, control messages are delivered though others lie before them: a cut of
        `max_messages` counts them alone, and the start comes in front, uncounted."""
        bench.create()
        for number in range(3):
            bench.send(f"plain{number}")
            bench.send(f"stop{number}", control=True)
        bench.send("later", control=True, due=bench.clock.now() + 1000)
        for most, expected in ((1, ["stop0"]), (2, ["stop0", "stop1"]), (3, ["stop0", "stop1", "stop2"])):
            item = bench.claim_one(names=["other"], max_messages=most)
            assert ids_of(item.messages) == ["@start", *expected]
            assert bench.release(item.lease) is Outcome.OK
        # Whoever has the name gets a prefix of everything.
        item = bench.claim_one(max_messages=3)
        assert ids_of(item.messages) == ["@start", "plain0", "stop0"]
        assert bench.release(item.lease) is Outcome.OK
        item = bench.claim_one(names=[])
        assert bench.commit(item, consumed=["plain1", "stop1", "stop0"]) is Outcome.OK
        item = bench.claim_one(names=["other"])
        assert ids_of(item.messages) == ["@start", "stop2"]
        assert bench.commit(item) is Outcome.OK
        # Nothing is left for such a worker until the last one is due.
        check_next_due(bench.claim_batch(names=["other"]), bench.clock.now() + 1000)
        item = bench.claim_one()
        assert ids_of(item.messages) == ["plain0", "plain1", "plain2"]
        assert bench.commit(item, keep_ms=LONG_MS) is Outcome.OK
        # A kept lease comes back by the name asked for, or for a control message.
        bench.send("plain3")
        assert bench.claim(names=["other"], held=[item.lease]) == []
        bench.wait(1000)
        held = bench.claim_one(names=["other"], held=[item.lease])
        assert (ids_of(held.messages), held.lease.token) == (["later"], item.lease.token)
        assert bench.commit(held, consumed=["plain3", "later"]) is Outcome.OK
        assert ids_of(bench.claim_one().messages) == ["plain3"]

    @case("I11", "I4", variants=("client", "commit", "completion", "conflict"))
    def test_nms_09_reopening_turns_a_finished_instance_running(self, bench: Bench) -> None:
        """A message whose `reopen` names the status of a finished instance turns it RUNNING and is delivered, in one
        step: completed_at, output and failure are cleared, all else stays; any other is TERMINAL and does nothing."""
        bench.started("sender", activities=[activity(f"t{number}") for number in range(20)])
        # None of them waits for this case's own turns.
        work = bench.claim_work()

        def send(id_: str, instance: str, reopen: frozenset[OrchestrationStatus]) -> list[Outcome]:
            told = message(id_, instance, reopen=reopen)
            if bench.variant == "client":
                return list(bench.hub.send_messages([told]))
            if bench.variant == "completion":
                assert bench.complete(work.pop(), told) is Outcome.OK
            else:
                bench.send(f"for-{id_}-{instance}", instance="sender")
                item = next(item for item in bench.claim(names=["flow"]) if item.instance == "sender")
                conflict = new_instance("sender", on_conflict=told)
                ways: dict[str, Any] = {"commit": {"messages": [told]}, "conflict": {"starts": [conflict]}}
                assert bench.commit(item, **ways[bench.variant]) is Outcome.OK
            return []

        ends = ((COMPLETED, None), (FAILED, b"why"), (TERMINATED, None))
        for status, failure in ends:
            name = f"i-{status}"
            bench.create(name, name="main", tags={"k": "v"} if bench.capabilities.tag_query else {})
            first = bench.commit(
                bench.claim_one(names=["main"]),
                events=[b"e0", b"e1"],
                status=status,
                failure=failure,
                output=b"out",
                custom_status=b"kept",
                memo=b"memo",
            )
            assert first is Outcome.OK
            before = bench.get(name)
            assert before.completed_at is not None
            assert send("no", name, ENDED - {status} | {RUNNING, SUSPENDED}) in ([Outcome.TERMINAL], [])
            assert send("plain", name, frozenset()) in ([Outcome.TERMINAL], [])
            assert bench.get(name) == before
            assert bench.claim(names=["main"]) == []
            bench.wait(7)
            assert send("yes", name, frozenset({status, RUNNING})) in ([Outcome.OK], [])
            info = bench.get(name)
            assert info.rev > before.rev
            cleared: dict[str, Any] = {"completed_at": None, "output": None, "failure": None, "status": RUNNING}
            assert info == replace(before, **cleared, rev=info.rev, updated_at=info.updated_at)
            assert before.updated_at <= info.updated_at <= bench.clock.now()
            # It runs, and takes messages as any other: there is nothing to be reopened of it.
            assert send("more", name, ENDED) in ([Outcome.OK], [])
            assert send("most", name, frozenset(OrchestrationStatus)) in ([Outcome.OK], [])
            assert bench.get(name) == info
            item = bench.claim_one(names=["main"])
            assert (ids_of(item.messages), item.status, item.memo) == (["yes", "more", "most"], RUNNING, b"memo")
            assert (item.execution, item.next_seq, item.attempt) == (1, 2, 1)
            assert bench.commit(item, rewrite=True, events=[b"n"], status=COMPLETED, output=b"new") is Outcome.OK
            info = bench.get(name)
            assert (info.status, info.output, info.failure, bench.history(name)) == (COMPLETED, b"new", None, [b"n"])
            assert info.completed_at == bench.clock.now()
        assert sorted(bench.find(statuses=[COMPLETED])) == sorted(f"i-{status}" for status, _ in ends)
        # Nor of one that is suspended, or has not begun; whatever output it has.
        bench.create("new", name="main")
        bench.create("still", name="main", due=bench.clock.now() + LONG_MS)
        item = bench.claim_one(names=["main"])
        assert bench.commit(item, status=SUSPENDED, output=b"so far") is Outcome.OK
        untouched = bench.hub.get_instances(["new", "still"])
        for name in ("new", "still"):
            assert send("on", name, frozenset(OrchestrationStatus)) in ([Outcome.OK], [])
        assert list(bench.hub.get_instances(["new", "still"])) == list(untouched)

    @case("I5", "REPLACE")
    def test_nms_10_created_again_is_already_there(self, bench: Bench) -> None:
        """A create with the id and generation of an instance that exists is ALREADY and does nothing, whatever became
        of it and whatever `replace_if` says; also as a child, and within a batch."""
        everything = frozenset(OrchestrationStatus)
        same: dict[str, Any] = {"generation": "g", "replace_if": everything}
        assert bench.create("a", generation="g", input=b"1") == [Outcome.OK]
        again = new_instance("a", start=b"other", input=b"2", name="other", **same)

        def create_again() -> None:
            with bench.unchanged("a"):
                assert list(bench.hub.create_instances([again, again])) == [Outcome.ALREADY] * 2

        create_again()
        item = bench.claim_one()
        assert [(d.id, d.payload) for d in item.messages] == [("@start", b"start")]
        create_again()
        assert bench.commit(item, events=[b"e"], status=RUNNING) is Outcome.OK
        create_again()
        bench.send("m")
        assert ids_of(bench.claim_one(lease_ms=1).messages) == ["m"]
        bench.wait(1)
        bench.turn(status=COMPLETED, output=b"out")
        create_again()
        # As a child it is neither a conflict nor a replacement.
        other = replace(again, on_conflict=message("told", "b"))
        bench.started("b", starts=[other])
        assert bench.claim() == []
        assert (bench.get().output, bench.history()) == (b"out", [b"e"])
        # Whatever else is in the batch.
        assert bench.create("z", generation="g") == [Outcome.OK]
        batch = [again, new_instance("c", generation="g"), again, new_instance("c", **same), new_instance("a")]
        outcomes = [Outcome.ALREADY, Outcome.OK, Outcome.ALREADY, Outcome.ALREADY, Outcome.EXISTS]
        assert list(bench.hub.create_instances(batch)) == outcomes
        assert sorted(item.instance for item in bench.claim()) == ["c", "z"]
        # Another generation, in other letters alone, is another matter.
        assert bench.create("a", generation="G") == [Outcome.EXISTS]
        assert bench.create("a", generation="G", replace_if=ENDED) == [Outcome.REPLACED]
        assert bench.create("a", generation="g") == [Outcome.EXISTS]

    @case("I18")
    def test_nms_11_revs_count_visible_changes(self, bench: Bench) -> None:
        """`rev` grows with every visible change, `status_rev` is the rev of the last commit that set or cleared the
        custom status; what has no effect moves neither."""
        bench.create("a", name="main")
        bench.create("b")
        untouched = bench.get("b")
        assert bench.get().status_rev == 0
        steps: list[tuple[dict[str, Any], bool]] = [
            ({}, False),
            ({"custom_status": b"1"}, True),
            ({"output": b"o", "memo": b"m"}, False),
            ({"custom_status": b"1"}, True),
            ({"custom_status": b""}, True),
            ({"events": [b"e"], "activities": [activity()]}, False),
            ({"custom_status": None}, True),
            ({"custom_status": None}, True),
            ({"continued": NextExecution(events=[b"n"])}, False),
            ({"continued": NextExecution(events=[b"n"]), "custom_status": b"2"}, True),
            ({"rewrite": True, "status": SUSPENDED}, False),
            ({"status": COMPLETED}, False),
        ]
        for number, (fields, moves) in enumerate(steps):
            bench.send(f"m{number}")
            item = bench.claim_one(names=["main"])
            before = bench.get()
            bench.wait(1)
            commit = turn_commit(item, **fields)
            conflict = turn_commit(item, expected_next_seq=99, custom_status=b"no")
            lost = turn_commit(replace(item, lease=replace(item.lease, token="0" * 32)), custom_status=b"no")
            assert list(bench.hub.commit_turns([conflict, lost])) == [Outcome.CONFLICT, Outcome.LOST]
            assert bench.get() == before
            assert bench.commit(item, commit_id=commit.commit_id, **fields) is Outcome.OK
            info = bench.get()
            assert list(bench.hub.commit_turns([commit, commit])) == [Outcome.ALREADY] * 2
            assert bench.get() == info
            assert info.rev > before.rev
            assert info.status_rev == (info.rev if moves else before.status_rev)
        # An end that is taken back is a change; the custom status is what it was.
        before = bench.get()
        assert bench.send("again", reopen=ENDED) == [Outcome.OK]
        info = bench.get()
        assert info.rev > before.rev
        assert (info.status_rev, info.custom_status) == (before.status_rev, b"2")
        item = bench.claim_one(names=["main"])
        assert bench.commit(item, status=COMPLETED, custom_status=b"3") is Outcome.OK
        # Whoever waits for a change of an id compares revs: the next incarnation goes on counting.
        before = bench.get()
        assert bench.create("a", replace_if=ENDED) == [Outcome.REPLACED]
        info = bench.get()
        assert info.rev > before.rev
        assert (info.status_rev, info.custom_status) == (0, None)
        assert bench.get("b") == untouched

    @case("I10", "I2")
    def test_nms_12_next_due_counts_leases_under_which_work_waits(self, bench: Bench) -> None:
        """`next_due` counts the expiry of a lease under which work waits, not of one under which nothing does; what
        waits for a holder's own lease is the holder's."""
        kept = bench.started(keep_ms=1000)
        now = bench.clock.now()
        came = bench.claim_batch()
        # Early is allowed, though of no use.
        assert came.next_due is None or came.next_due > now
        timer = now + 200
        bench.send("timer", due=timer)
        check_next_due(bench.claim_batch(), now + 1000)
        check_next_due(bench.claim_batch(held=[kept.lease]), timer)
        forged = replace(kept.lease, token="0" * 32)
        check_next_due(bench.claim_batch(held=[forged]), now + 1000)
        bench.wait(200)
        assert bench.claim() == []
        check_next_due(bench.claim_batch(), now + 1000)
        # Renewed, it ends later; what is due only after it counts by its own due.
        assert bench.renew(kept.lease, 5000)[0] is Outcome.OK
        check_next_due(bench.claim_batch(), now + 5200)
        assert bench.commit(kept, consumed=[], cancel_messages=["timer"], keep_ms=100) is Outcome.OK
        late = bench.clock.now() + 500
        bench.send("late", due=late)
        check_next_due(bench.claim_batch(), late)
        bench.wait(499)
        assert bench.claim() == []
        bench.wait(1)
        item = bench.claim_one()
        assert ids_of(item.messages) == ["late"]
        # A claim's own lease counts too: its messages come again when it has run out.
        check_next_due(bench.claim_batch(), item.lease.expires_at)
        assert bench.release(item.lease, delay_ms=70) is Outcome.OK
        check_next_due(bench.claim_batch(), bench.clock.now() + 70)
        bench.wait(70)
        item = bench.claim_one()
        assert bench.commit(item, activities=[activity("t"), activity("u")]) is Outcome.OK
        # And so it is with activities.
        work = bench.claim_work(max_items=1, lease_ms=300)
        (other,) = bench.claim_work(lease_ms=100)
        check_next_due(bench.claim_work_batch(), bench.clock.now() + 100)
        assert bench.complete(other) is Outcome.OK
        check_next_due(bench.claim_work_batch(), bench.clock.now() + 300)
        assert bench.release(work[0].lease, delay_ms=40) is Outcome.OK
        check_next_due(bench.claim_work_batch(), bench.clock.now() + 40)
        bench.wait(40)
        assert bench.complete(bench.claim_one_work()) is Outcome.OK
        assert bench.claim_batch().next_due is None
        assert bench.claim_work_batch().next_due is None

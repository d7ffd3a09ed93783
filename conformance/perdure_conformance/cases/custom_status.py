"""CST: the custom status, in the provider and through the engine."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any, Final

from perdure.spi import (
    ClaimTurns,
    Exchange,
    Fields,
    InstanceInfo,
    InstanceQuery,
    Lease,
    NextExecution,
    Outcome,
    TurnItem,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.cases.engine import CACHES, stage_on
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
    turn_commit,
)
from perdure_conformance.stage import Ctx, Flow, failure_of, output_of

MOST: Final = 16_384
"""Bytes of UTF-16 that a custom status may take."""

FALSY = (b"0", b"false", b'""', b"[]", b"{}", b"null", b"0.0", b"-0", b'"0"', b" ", b"\0", b"")

ALTERED = (
    b'{"b":1,"a":2}',
    b'{"z":{"y":1,"x":[{"b":0,"a":0}]}}',
    b'{"a":1,"a":2}',
    b"1.0",
    b"1",
    b"1e2",
    b"1E+2",
    b"1e400",
    b"-1e400",
    b"-0.0",
    b"0.1000",
    b"0.30000000000000004",
    b"9007199254740993",
    b"1234567890123456789012345678901234567890",
    b'"\\u0041"',
    b'"\\u00e9"',
    '"é"'.encode(),
    '"e\u0301"'.encode(),
    b'"\\/"',
    b'"\\ud83d\\ude00"',
    b'"\\ud800"',
    b'"\\u0000"',
    b' { "a" : [ 1 , 2 ] } ',
    b"[1,2]\n",
    b"\xef\xbb\xbf1",
    b"NaN",
    b"{",
)
"""Texts that a JSON column would write in another way, and some that it would refuse."""


def canonical(value: Any) -> bytes:
    """Return the text as which a custom status is stored, and by which it is measured."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def size_of(value: Any) -> int:
    return len(canonical(value).decode().encode("utf-16-le"))


def seen(bench: Driver, instance: str = "a") -> list[bytes | None]:
    """Return the custom status in each place in which a client reads it."""
    found = [info.custom_status for info in bench.hub.query_instances(InstanceQuery()).items if info.id == instance]
    return [bench.get(instance).custom_status, bench.get(instance, Fields.CUSTOM_STATUS).custom_status, *found]


def poll(bench: Driver, since: int, instance: str = "a") -> InstanceInfo | None:
    """Look once, as one does who waits for a custom status: nothing, or what was set after `since`."""
    info = bench.get(instance, Fields.CUSTOM_STATUS)
    return info if info.status_rev > since else None


def woken(bench: Driver, instance: str = "a") -> TurnItem:
    """Make an instance claimable, and claim it."""
    assert bench.send(fresh("wake"), instance=instance) == [Outcome.OK]
    return bench.claim_one()


def further(bench: Driver, instance: str = "a", **fields: Any) -> TurnItem:
    """Let an instance take one more turn."""
    item = woken(bench, instance)
    assert bench.commit(item, **fields) is Outcome.OK
    return item


def check_fits(bench: Bench, *values: Any) -> None:
    """Check that the engine takes the values, and that they come back whole wherever they are read."""

    def flow(ctx: Ctx, number: int) -> Flow:
        ctx.set_custom_status("before")
        yield ctx.wait_for_external_event("set")
        ctx.set_custom_status(values[number])
        yield ctx.wait_for_external_event("end")
        return "went on"

    with stage_on(bench) as stage:
        stage.orchestrators(flow)
        instances = [stage.start(flow, number) for number in range(len(values))]
        stage.drain()
        for instance, value in zip(instances, values, strict=True):
            assert seen(bench, instance) == [b'"before"'] * 3
            stage.raise_event(instance, "set")
            stage.drain()
            assert size_of(value) <= MOST
            assert seen(bench, instance) == [canonical(value)] * 3
            stage.raise_event(instance, "end")
            assert bench.claim_one(lease_ms=1).custom_status == canonical(value)
            bench.wait(1)
            assert output_of(stage.run_to_end(instance)) == "went on"
            assert seen(bench, instance) == [canonical(value)] * 3


def check_does_not_fit(bench: Bench, *values: Any) -> None:
    """Check that the engine refuses the values at the call, that it says so, and that nothing of them is stored."""

    def flow(ctx: Ctx, number: int) -> Flow:
        ctx.set_custom_status("before")
        yield ctx.wait_for_external_event("set")
        ctx.set_custom_status(values[number])
        yield ctx.wait_for_external_event("end")

    with stage_on(bench) as stage:
        stage.orchestrators(flow)
        instances = [stage.start(flow, number) for number in range(len(values))]
        stage.drain()
        for instance, value in zip(instances, values, strict=True):
            stage.raise_event(instance, "set")
            stage.drain()
            assert size_of(value) > MOST
            assert stage.status(instance) is FAILED
            failure = failure_of(stage.state(instance))
            assert failure.error_type == "perdure.errors.CustomStatusTooLarge"
            assert f"{size_of(value):,} bytes" in failure.message
            assert seen(bench, instance) == [b'"before"'] * 3


class CustomStatusCases:
    """Cases CST."""

    # The provider: opaque bytes, three-valued.

    @case("STATUS", "I18")
    def test_cst_01_there_is_none_at_first(self, bench: Bench) -> None:
        """An instance has no custom status, and status_rev is 0, until a commit sets one."""
        bench.create("a", "b")
        assert seen(bench) == [None] * 3
        info = bench.get()
        assert info.status_rev == 0
        items = bench.claim_each("a", "b")
        assert items["a"].custom_status is None
        assert bench.commit(items["a"]) is Outcome.OK
        assert seen(bench) == [None] * 3
        later = bench.get()
        assert later.status_rev == 0
        assert later.rev > info.rev
        assert woken(bench).custom_status is None
        assert bench.commit(items["b"], custom_status=b"of another") is Outcome.OK
        assert seen(bench, "a") == [None] * 3
        assert seen(bench, "b") == [b"of another"] * 3
        assert (bench.get("a").status_rev, bench.get("b").status_rev) == (0, bench.get("b").rev)
        assert bench.get("b", Fields.ALL & ~Fields.CUSTOM_STATUS).custom_status is None

    @case("STATUS", "I19")
    def test_cst_02_the_last_one_wins(self, bench: Bench) -> None:
        """A custom status is readable as soon as its commit is, and the next one replaces it, within one ms too."""
        bench.started("b", custom_status=b"of another")
        bench.started("a", custom_status=b"1")
        revs = [bench.get().status_rev]
        assert seen(bench) == [b"1"] * 3
        for former, value in pairwise((b"1", b"3", b"2", b"2", b"10")):
            assert further(bench, custom_status=value).custom_status == former
            assert seen(bench) == [value] * 3
            revs.append(bench.get().status_rev)
        assert revs == sorted(set(revs))
        # Two turns under a lease that is kept, in one call.
        item = woken(bench)
        assert item.custom_status == b"10"
        first = turn_commit(item, events=[b"e"], custom_status=b"first", keep_ms=LEASE_MS)
        second = turn_commit(item, expected_next_seq=item.next_seq + 1, custom_status=b"second")
        assert list(bench.hub.commit_turns([first, second])) == [Outcome.OK, Outcome.OK]
        assert seen(bench) == [b"second"] * 3
        assert woken(bench).custom_status == b"second"
        assert seen(bench, "b") == [b"of another"] * 3

    @case("STATUS", variants=("plain", "kept", "rewritten", "continued", "exchanged"))
    def test_cst_03_unset_keeps_none_clears_bytes_set(self, bench: Bench) -> None:
        """A commit without a custom status keeps it, one with None clears it, and empty bytes are one."""
        bench.started("b", custom_status=b"of another")
        bench.started("a")
        ways: dict[str, dict[str, Any]] = {
            "plain": {},
            "kept": {"keep_ms": LEASE_MS},
            "rewritten": {"rewrite": True, "events": [b"e"]},
            "continued": {"continued": NextExecution(events=[b"n"])},
            "exchanged": {},
        }
        how = ways[bench.variant]
        item = None
        stored: bytes | None = None
        steps: list[dict[str, Any]] = [
            {},
            {"custom_status": b"x"},
            {},
            {"output": b"out", "memo": b"memo"},
            {"custom_status": b""},
            {},
            {"custom_status": None},
            {},
            {"output": None, "memo": None},
            {"custom_status": b"y", "output": b"out", "memo": b"memo"},
            {"custom_status": None},
            {"custom_status": b"z", "output": None, "memo": None},
            {"custom_status": None, "output": b"out"},
            {"custom_status": b""},
            {"custom_status": b"\0"},
        ]
        for step in steps:
            bench.send(fresh("wake"))
            held: list[Lease] = [item.lease] if item is not None and bench.variant == "kept" else []
            item = bench.claim_one(held=held)
            assert item.custom_status == stored
            if bench.variant == "exchanged":
                exchange = Exchange(commits=[turn_commit(item, **how, **step)])
                assert list(bench.hub.exchange(exchange).commits) == [Outcome.OK]
            else:
                assert bench.commit(item, **how, **step) is Outcome.OK
            stored = step.get("custom_status", stored)
            assert seen(bench) == [stored] * 3
        assert seen(bench, "b") == [b"of another"] * 3

    @case("STATUS", "I16")
    def test_cst_04_falsy_values_are_values(self, bench: Bench) -> None:
        """0, false, an empty string, array or object and null come back as the texts that they are."""
        for number, value in enumerate(FALSY):
            bench.started(f"i{number}", custom_status=value)
        bench.started("a", custom_status=b'{"some":"thing"}')
        for number, value in enumerate(FALSY):
            assert seen(bench, f"i{number}") == [value] * 3
            # And in the place of another.
            further(bench, custom_status=value)
            assert seen(bench) == [value] * 3
            assert bench.get().status_rev == bench.get().rev
            # Kept as it is, and delivered with the next turn.
            assert further(bench).custom_status == value
            assert seen(bench) == [value] * 3

    @case("I3", "I4", variants=("set", "clear"))
    def test_cst_05_a_refused_commit_shows_nothing_of_its_status(self, bench: Bench) -> None:
        """The custom status of a commit that is LOST, CONFLICT or ALREADY is never seen."""
        value = b"never seen" if bench.variant == "set" else None
        bench.started("b", custom_status=b"of another")
        bench.started("a", custom_status=b"old")
        item = woken(bench)
        for wrong in ({"execution": item.execution + 1}, {"expected_next_seq": item.next_seq + 1}):
            with bench.unchanged("a", "b"):
                assert bench.commit(item, custom_status=value, **wrong) is Outcome.CONFLICT
            assert seen(bench) == [b"old"] * 3
        bench.wait(LEASE_MS)
        thief = bench.claim_one()
        assert thief.custom_status == b"old"
        with bench.unchanged("a", "b"):
            assert bench.commit(item, custom_status=value) is Outcome.LOST
        assert seen(bench) == [b"old"] * 3
        # Beside one that is applied, and through an exchange.
        good = turn_commit(thief, commit_id="once", custom_status=b"new")
        outcomes = bench.hub.commit_turns([turn_commit(item, custom_status=value), good])
        assert list(outcomes) == [Outcome.LOST, Outcome.OK]
        assert seen(bench) == [b"new"] * 3
        with bench.unchanged("a", "b"):
            again = turn_commit(thief, commit_id="once", custom_status=value)
            late = turn_commit(item, custom_status=value)
            assert list(bench.hub.exchange(Exchange(commits=[again, late])).commits) == [Outcome.ALREADY, Outcome.LOST]
        assert seen(bench) == [b"new"] * 3
        last = woken(bench)
        assert last.custom_status == b"new"
        assert bench.commit(last, custom_status=b"newest") is Outcome.OK
        assert seen(bench) == [b"newest"] * 3

    @case("STATUS", "REPLACE")
    def test_cst_06_it_outlives_executions_and_the_end_but_not_its_instance(self, bench: Bench) -> None:
        """The custom status stays through continue-as-new, suspension, the end and a reopening; REPLACED has none."""
        bench.started("a", custom_status=b"kept")
        rev = bench.get().status_rev
        further(bench, continued=NextExecution(events=[b"n"], input=b"in"))
        further(bench, status=SUSPENDED)
        further(bench, status=RUNNING, events=[b"e"])
        further(bench, rewrite=True)
        for status in (COMPLETED, FAILED, TERMINATED):
            assert seen(bench) == [b"kept"] * 3
            further(bench, status=status, output=b"out", failure=b"why" if status is FAILED else None)
            info = bench.get()
            assert (info.status, info.custom_status, info.status_rev) == (status, b"kept", rev)
            assert bench.send(fresh("reopen"), reopen=ENDED) == [Outcome.OK]
            info = bench.get()
            assert (info.status, info.custom_status, info.status_rev) == (RUNNING, b"kept", rev)
            assert bench.claim_one(lease_ms=1).custom_status == b"kept"
            bench.wait(1)
        # Set or cleared by the very commit that ends it.
        further(bench, status=FAILED, custom_status=b"last words", failure=b"why")
        assert seen(bench) == [b"last words"] * 3
        assert bench.create("a", replace_if=ENDED) == [Outcome.REPLACED]
        assert seen(bench) == [None] * 3
        assert bench.get().status_rev == 0
        item = bench.claim_one()
        assert item.custom_status is None
        assert bench.commit(item) is Outcome.OK
        assert seen(bench) == [None] * 3
        further(bench, custom_status=b"of the second")
        assert bench.get().status_rev == bench.get().rev
        further(bench, status=COMPLETED, custom_status=None)
        assert seen(bench) == [None] * 3
        bench.ended("c", custom_status=b"")
        assert seen(bench, "c") == [b""] * 3
        # And an id that comes back after a purge.
        bench.ended("b", custom_status=b"purged")
        assert bench.purge("b").deleted == 1
        bench.started("b")
        assert seen(bench, "b") == [None] * 3
        assert bench.get("b").status_rev == 0

    # The engine: at most 16 KB of UTF-16, checked at the call.

    @case("16KB")
    def test_cst_07_as_much_as_fits_exactly(self, bench: Bench) -> None:
        """A custom status of exactly 16,384 bytes of UTF-16 is taken and stored whole."""
        check_fits(bench, "a" * 8190, {"k": "a" * 8184}, [1] * 4095)

    @case("16KB")
    def test_cst_08_one_character_more_is_too_large(self, bench: Bench) -> None:
        """A custom status of 16,386 bytes of UTF-16 is refused with its size, and the former one stays."""
        check_does_not_fit(bench, "a" * 8191, {"k": "a" * 8185}, [1] * 4096)

    @case("16KB")
    def test_cst_09_an_emoji_is_four_bytes(self, bench: Bench) -> None:
        """Characters beyond the first 65,536 count four bytes each: 4,095 of them fit, 4,096 don't."""
        check_fits(bench, "😀" * 4095)
        check_does_not_fit(bench, "😀" * 4096)

    @case("16KB", "I16")
    def test_cst_10_it_is_not_measured_in_utf_8(self, bench: Bench) -> None:
        """8,190 Chinese characters fit, though they are 24,572 bytes of UTF-8; one more doesn't."""
        assert len(canonical("中" * 8190)) == 24_572
        check_fits(bench, "中" * 8190, "é" * 8190)
        check_does_not_fit(bench, "中" * 8191)

    @case("16KB", "I16")
    def test_cst_11_escapes_count_as_they_are_written(self, bench: Bench) -> None:
        """A quote counts two characters and NUL six, as their escapes do."""
        check_fits(bench, '"' * 4095, "\0" * 1365, "\n" * 4095)
        check_does_not_fit(bench, '"' * 4096, "\0" * 1366, "\\" * 4096)

    @case("16KB", "I16")
    def test_cst_12_a_lone_surrogate_counts_as_its_escape(self, bench: Bench) -> None:
        """A lone surrogate is stored and counted as its escape of six characters: 1,365 fit, 1,366 don't."""
        check_fits(bench, "\ud800" * 1365, "\udfff")
        check_does_not_fit(bench, "\ud800" * 1366)

    @case("I16", "STATUS")
    def test_cst_13_it_comes_back_as_it_was_written(self, bench: Bench) -> None:
        """Order of keys, form of numbers, escapes and blanks come back byte for byte, JSON or not."""
        bench.started("a")
        for value in ALTERED:
            assert further(bench, custom_status=value)
            assert seen(bench) == [value] * 3
        assert further(bench).custom_status == ALTERED[-1]
        for number, value in enumerate(ALTERED):
            bench.started(f"i{number}", custom_status=value)
        found = {info.id: info.custom_status for info in bench.hub.query_instances(InstanceQuery()).items}
        assert [found.get(f"i{number}") for number in range(len(ALTERED))] == list(ALTERED)

    @case("16KB", "ENGINE", variants=CACHES)
    def test_cst_14_too_large_and_uncaught_fails_the_orchestration(self, bench: Bench) -> None:
        """An uncaught refusal ends the orchestration with a typed error, and never leaves it running."""

        def flow(ctx: Ctx, value: Any) -> Flow:
            ctx.set_custom_status("committed")
            yield ctx.call_activity("echo")
            ctx.set_custom_status("last words")
            ctx.set_custom_status({"small": 1, "large": "x" * 9000})
            yield ctx.wait_for_external_event("never")

        def parent(ctx: Ctx) -> Flow:
            try:
                yield ctx.call_sub_orchestrator("flow", instance_id="kid")
            except Exception as error:
                return type(error).__name__

        with stage_on(bench, cold=bench.variant == "replayed") as stage:
            stage.orchestrators(flow, parent)
            instance = stage.start(parent)
            stage.drain()
            state = stage.state("kid")
            assert state.status is FAILED
            assert state.completed_at == state.updated_at
            failure = failure_of(state)
            assert failure.error_type == "perdure.errors.CustomStatusTooLarge"
            for part in ("18,044 bytes", "16,384", "'large' (18,020)"):
                assert part in failure.message
            assert seen(bench, "kid") == [b'"last words"'] * 3
            # Its parent was told, and nothing of it is left to be done.
            assert output_of(stage.state(instance)) == "TaskFailedError"
            assert stage.hub.stats().turns.ready == 0
            assert not stage.advance_to_next()

    @case("16KB", "STATUS", variants=CACHES)
    def test_cst_15_a_refused_call_changes_nothing(self, bench: Bench) -> None:
        """A refusal that the orchestrator catches leaves the former custom status, of this turn or one before."""

        def refuses(ctx: Ctx) -> bool:
            try:
                ctx.set_custom_status("a" * 8191)
            except ValueError:
                return True
            return False

        def flow(ctx: Ctx) -> Flow:
            refused = [refuses(ctx)]
            ctx.set_custom_status("first")
            refused.append(refuses(ctx))
            yield ctx.wait_for_external_event("go")
            refused.append(refuses(ctx))
            yield ctx.wait_for_external_event("go")
            refused.append(refuses(ctx))
            ctx.set_custom_status("second")
            return refused

        with stage_on(bench, cold=bench.variant == "replayed") as stage:
            stage.orchestrators(flow)
            instance = stage.start(flow)
            stage.drain()
            before = stage.state(instance)
            assert before.custom_status == b'"first"'
            assert before.status_rev == before.rev
            stage.raise_event(instance, "go")
            stage.drain()
            after = stage.state(instance)
            assert (after.custom_status, after.status_rev) == (b'"first"', before.status_rev)
            assert after.rev > before.rev
            stage.raise_event(instance, "go")
            assert output_of(stage.run_to_end(instance)) == [True] * 4
            assert seen(bench, instance) == [b'"second"'] * 3

    # The provider again.

    @case("I16", "STATUS")
    def test_cst_16_a_provider_adds_no_limit_of_its_own(self, bench: Bench) -> None:
        """A custom status of 64 KB of any bytes is stored whole: the limit is the engine's."""
        size = 64 * 1024
        values = [bench.rng.randbytes(size), b"a" * size, "中".encode() * (size // 3), b"\0" * size, b"\xff" * size]
        values += [b"a" * (16_384 + 1), "😀".encode() * 4095, b'"' * 16_385]
        bench.started("a")
        for number, value in enumerate(values):
            further(bench, custom_status=value)
            assert seen(bench) == [value] * 3
            assert woken(bench).custom_status == value
            bench.wait(LEASE_MS)
            bench.started(f"i{number}", custom_status=value)
            assert seen(bench, f"i{number}") == [value] * 3
            assert type(bench.get().custom_status) is bytes

    @case("I18", "STATUS")
    def test_cst_17_who_waits_sees_each_change_and_nothing_else(self, bench: Bench) -> None:
        """status_rev moves with each custom status that is set or cleared, to that commit's rev, and never else."""
        bench.started("b")
        bench.started("a", custom_status=b"1", activities=[activity("t1"), activity("t2")])
        first = poll(bench, 0)
        assert first is not None
        assert (first.custom_status, first.status_rev) == (b"1", first.rev)
        since = first.status_rev
        # All that is no custom status.
        item = woken(bench)
        bench.renew(item.lease)
        assert poll(bench, since) is None
        bench.release(item.lease)
        work = bench.claim_work()
        assert len(work) == 2
        one, two = work
        bench.complete(one)
        bench.release(two.lease)
        fields: list[dict[str, Any]] = [
            {"events": [b"e"]},
            {"output": b"out", "memo": b"memo", "activities": [activity("t3")]},
            {"output": None, "memo": None, "status": SUSPENDED},
            {"continued": NextExecution(events=[])},
            {"keep_ms": 1},
        ]
        for given in fields:
            bench.wait(1)
            further(bench, **given)
            assert poll(bench, since) is None
            assert bench.get().status_rev == since
        bench.wait(1)
        # A change of another instance is none of this one.
        further(bench, "b", custom_status=b"of another")
        assert poll(bench, since) is None
        assert poll(bench, 0, "b") is not None
        for value in (b"2", b"2", None, None, b"", b"3"):
            before = bench.get().rev
            further(bench, custom_status=value)
            found = poll(bench, since)
            assert found is not None
            assert (found.custom_status, found.status_rev) == (value, found.rev)
            assert found.rev > before
            assert bench.get("a", Fields.NONE).status_rev == found.status_rev
            listed = bench.hub.query_instances(InstanceQuery(id_prefix="a", fields=Fields.NONE)).items
            assert [(info.status_rev, info.custom_status) for info in listed] == [(found.status_rev, None)]
            since = found.status_rev
            assert poll(bench, since) is None
        further(bench, status=COMPLETED)
        assert poll(bench, since) is None
        assert bench.get().rev > since

    @case("STATUS", "RESULTS", variants=("commit", "exchange"))
    def test_cst_18_in_a_batch_each_gets_its_own(self, bench: Bench) -> None:
        """Commits of one batch that set, keep, clear and empty custom statuses each change their own instance."""
        values: dict[str, dict[str, Any]] = {
            "a": {"custom_status": b"new a"},
            "b": {},
            "c": {"custom_status": None},
            "d": {"custom_status": b""},
            "e": {"output": b"out"},
            "f": {"custom_status": b"new f", "memo": None},
            "g": {"custom_status": None, "output": None},
            "h": {"memo": b"memo"},
        }
        for order in (sorted(values), sorted(values, reverse=True)):
            for instance in values:
                bench.create(f"{instance}{order[0]}")
            items = bench.claim_each(*(f"{instance}{order[0]}" for instance in values))
            first = [turn_commit(item, custom_status=b"old %r" % name.encode()) for name, item in items.items()]
            assert list(bench.hub.commit_turns(first)) == [Outcome.OK] * 8
            for instance in values:
                bench.send("m", instance=f"{instance}{order[0]}")
            items = bench.claim_each(*(f"{instance}{order[0]}" for instance in values))
            commits = [turn_commit(items[f"{name}{order[0]}"], **values[name]) for name in order]
            if bench.variant == "commit":
                assert list(bench.hub.commit_turns(commits)) == [Outcome.OK] * 8
            else:
                none = ClaimTurns(worker="w", max_items=0, lease_ms=1)
                exchange = Exchange(commits=commits, claim_turns=none)
                assert list(bench.hub.exchange(exchange).commits) == [Outcome.OK] * 8
            for name in order:
                instance = f"{name}{order[0]}"
                assert seen(bench, instance) == [values[name].get("custom_status", b"old %r" % instance.encode())] * 3

    @case("STATUS", "I20", level=Level.L1, requires=("durable",))
    def test_cst_19_it_is_the_same_after_a_reopening(self, bench: Bench) -> None:
        """A custom status, an empty one and none are what they were when the store is opened again."""
        values: list[bytes | None] = [b"text", b"", None, b"\0\xff", b"null", b"x" * 65_536]
        for number, value in enumerate(values):
            bench.started(f"i{number}", custom_status=b"old")
            further(bench, f"i{number}", custom_status=value)
        revs = [bench.get(f"i{number}").status_rev for number in range(len(values))]
        bench.reopen()
        for number, value in enumerate(values):
            assert seen(bench, f"i{number}") == [value] * 3
            assert bench.get(f"i{number}").status_rev == revs[number]
            assert further(bench, f"i{number}").custom_status == value

"""HIS: histories, which are contiguous, ordered, byte for byte what was written, and paged by event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from perdure.spi import Corrupt, HistoryPage, InvalidRequest, NextExecution, NotFound, Outcome, TurnCommit
from perdure_conformance.adapter import Corruption
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import COMPLETED, ENDED, FAILED, LEASE_MS, Driver, fresh, message, turn_commit


def pages(bench: Driver, limit: int, instance: str = "a", after: int = -1) -> Iterator[HistoryPage]:
    """Yield page after page, each checked for its place, until one says that there are no more."""
    while True:
        page = bench.hub.read_history(instance, after=after, limit=limit)
        assert page.first_seq == after + 1
        assert len(page.events) <= limit
        yield page
        if not page.more:
            return
        assert len(page.events) > 0, "an empty page says that there is more"
        after += len(page.events)


def read(bench: Driver, limit: int, instance: str = "a") -> list[bytes]:
    """Return a history page by page."""
    return [event for page in pages(bench, limit, instance) for event in page.events]


def append(bench: Driver, *turns: list[bytes], instance: str = "a") -> None:
    """Commit turns with these events, one after another."""
    for events in turns:
        assert bench.send(fresh("m"), instance=instance) == [Outcome.OK]
        assert bench.turn(events=events).instance == instance


class HistoryCases:
    """Cases HIS."""

    @case("I6", "I4")
    def test_his_01_events_append_over_many_commits(self, bench: Bench) -> None:
        """Events of many commits, large and small ones, form one history: contiguous, in order, byte for byte."""
        bench.create()
        item = bench.claim_one()
        expected: list[bytes] = []
        for number in range(30):
            events = [bench.rng.randbytes(bench.rng.choice((0, 1, 5, 300))) for _ in range(number % 5)]
            if number % 3 == 0:
                # A commit that releases the lease, and a claim, like most in life.
                bench.send(f"m{number}")
                assert bench.commit(replace(item, next_seq=len(expected)), events=events, consumed=[]) is Outcome.OK
                item = bench.claim_one()
                assert item.next_seq == len(expected) + len(events)
            else:
                item = replace(item, next_seq=len(expected))
                assert bench.commit(item, events=events, consumed=[], keep_ms=LEASE_MS) is Outcome.OK
            expected += events
            assert bench.get().next_seq == len(expected)
        assert bench.history() == expected
        assert read(bench, 7) == expected

    @case("I6", variants=("one commit", "a commit each"))
    def test_his_02_a_history_may_be_long(self, bench: Bench) -> None:
        """Tens of thousands of events are kept, whether one commit brings them all or each brings one."""
        bench.create()
        item = bench.claim_one()
        if bench.variant == "one commit":
            expected = [b"%d" % number for number in range(bench.scaled(70_000))]
            assert bench.commit(item, events=expected) is Outcome.OK
        else:
            expected = [b"%d" % number for number in range(bench.scaled(10_000))]
            step = min(100, bench.limits.max_batch)
            for start in range(0, len(expected), step):
                commits: list[TurnCommit] = []
                for seq in range(start, min(start + step, len(expected))):
                    fields = {"consumed": [], "keep_ms": LEASE_MS, "events": [expected[seq]]}
                    commits.append(turn_commit(replace(item, next_seq=seq), **fields))
                assert list(bench.hub.commit_turns(commits)) == [Outcome.OK] * len(commits)
        number = len(expected)
        assert bench.get().next_seq == number
        assert bench.history() == expected
        assert read(bench, 1000) == expected
        page = bench.hub.read_history("a", after=number - 3)
        assert (list(page.events), page.more) == (expected[-2:], False)
        # What comes on top is found behind it.
        bench.wait(LEASE_MS)
        bench.send()
        item = bench.claim_one(inline_history=True)
        assert item.history is not None
        assert list(item.history) == expected
        assert bench.commit(item, events=[b"last"]) is Outcome.OK
        assert list(bench.hub.read_history("a", after=number - 1).events) == [b"last"]

    @case("I6")
    def test_his_03_pages_cover_each_event_once(self, bench: Bench) -> None:
        """Pages of any size from any place on hold each event once, and `more` is exact at the end."""
        expected = [b"%d" % number for number in range(12)]
        bench.started(events=expected[:3])
        append(bench, expected[3:7], [], expected[7:8], expected[8:12])
        for limit in (1, 2, 3, 5, 6, 7, 11, 12, 13, 1000):
            assert read(bench, limit) == expected
            for after in range(-1, 12):
                page = bench.hub.read_history("a", after=after, limit=limit)
                # A page may be cut short, if it says that more follows.
                count = len(page.events)
                assert list(page.events) == expected[after + 1 : after + 1 + limit][:count]
                assert (page.first_seq, page.more) == (after + 1, after + 1 + count < 12)
                assert count > 0 or after == 11
        # Page by page without a limit of one's own.
        assert bench.history() == expected

    @case("I6")
    def test_his_04_behind_the_end_there_is_nothing(self, bench: Bench) -> None:
        """From the last event on, and from anywhere behind it, a page is empty and says that there is no more."""
        bench.started(events=[b"0", b"1", b"2"])
        page = bench.hub.read_history("a", after=1, limit=1)
        assert (list(page.events), page.more, page.first_seq) == ([b"2"], False, 2)
        for after in (2, 3, 4, 100, 2**40):
            for limit in (1, 1000):
                page = bench.hub.read_history("a", after=after, limit=limit)
                assert (list(page.events), page.more, page.first_seq) == ([], False, after + 1)

    @case("I6")
    def test_his_05_paging_goes_on_while_commits_append(self, bench: Bench) -> None:
        """Events that are appended while somebody pages come behind what was there: none twice, none left out."""
        bench.started(events=[b"0", b"1", b"2"])
        expected = [b"0", b"1", b"2"]
        got: list[bytes] = []
        for number in range(8):
            page = bench.hub.read_history("a", after=len(got) - 1, limit=2)
            assert page.first_seq == len(got)
            got += page.events
            assert got == expected[: len(got)]
            assert page.more is (len(got) < len(expected))
            events = [b"%d.%d" % (number, index) for index in range(number % 3)]
            append(bench, events)
            expected += events
        for page in pages(bench, 2, after=len(got) - 1):
            got += page.events
        assert got == expected

    @case("I6")
    def test_his_07_inline_history_agrees_with_reading(self, bench: Bench) -> None:
        """A claim with `inline_history` returns each item's whole history as reading does, and else None."""
        bench.started("a", events=[b"0", b"", b"\x002"])
        bench.started("b", events=[b"b0"])
        append(bench, [b"b1", b"b2"], instance="b")
        bench.started("c", events=[b"old", b"old"])
        bench.send("next", instance="c")
        bench.turn(continued=NextExecution(events=[b"c0"]))
        bench.create("new")
        bench.hub.send_messages([message("m", name) for name in ("a", "b", "c")])
        expected = {"a": [b"0", b"", b"\x002"], "b": [b"b0", b"b1", b"b2"], "c": [b"c0"], "new": []}
        items = bench.claim(inline_history=True)
        assert {item.instance: list(item.history or ()) for item in items} == expected
        assert all(item.history is not None for item in items), "an empty history is no missing one"
        assert {item.instance: item.next_seq for item in items} == {"a": 3, "b": 3, "c": 1, "new": 0}
        assert {name: bench.history(name) for name in expected} == expected
        # The holder of a kept lease is no exception.
        item = next(item for item in items if item.instance == "a")
        assert bench.commit(item, events=[b"3"], messages=[message("own")], keep_ms=LEASE_MS) is Outcome.OK
        item = bench.claim_one(held=[item.lease], inline_history=True)
        assert (list(item.history or ()), item.next_seq) == ([*expected["a"], b"3"], 4)
        bench.wait(LEASE_MS)
        assert [item.history for item in bench.claim()] == [None] * 4

    @case("I6", "I20", level=Level.L1, requires=("durable",), slow=True)
    def test_his_08_a_large_history_is_paged(self, bench: Bench) -> None:
        """A history of 50 MB is written, read in pages and claimed whole, also after the store was opened anew."""
        size = 1024 * 1024
        expected = [bytes([number]) * size for number in range(50)]
        bench.create()
        item = bench.claim_one()
        step = min(10, bench.limits.max_commit_bytes // size)
        for start in range(0, 50, step):
            item = replace(item, next_seq=start)
            events = expected[start : start + step]
            assert bench.commit(item, events=events, consumed=[], keep_ms=LEASE_MS) is Outcome.OK
        assert same_events(read(bench, 7), expected)
        bench.reopen()
        assert same_events(read(bench, 1), expected)
        bench.wait(LEASE_MS)
        item = bench.claim_one(inline_history=True)
        assert item.error is None
        assert same_events(list(item.history or ()), expected)

    @case("I6", "I14", level=Level.L1, requires=("durable",), hooks=("corrupt",), variants=("gap", "undecodable"))
    def test_his_09_what_went_bad_is_told_and_may_be_ended(self, bench: Bench) -> None:
        """A history with bad rows is Corrupt to readers and an `error` in a claim, which leases it like any other."""
        kind: Corruption = "gap" if bench.variant == "gap" else "undecodable"
        names = ["a", "bad", "c"]
        for name in names:
            bench.started(name, events=[b"0"])
            append(bench, [b"1", b"2"], [b"3"], [b"4"], instance=name)
        good = bench.history("a")
        bench.adapter.corrupt(bench.hub.name, "bad", kind)
        with pytest.raises(Corrupt):
            bench.history("bad")
        with pytest.raises(Corrupt):
            read(bench, 1, "bad")
        assert bench.get("bad").next_seq == 5
        bench.hub.send_messages([message("again", name) for name in names])
        for attempt in (1, 2):
            items = {item.instance: item for item in bench.claim(inline_history=True)}
            assert sorted(items) == names
            assert items["bad"].error is not None
            assert items["bad"].history is None
            assert [delivery.id for delivery in items["bad"].messages] == ["again"]
            assert [items[name].attempt for name in names] == [attempt] * 3
            # Neighbours have nothing to do with it.
            assert [items[name].error for name in ("a", "c")] == [None, None]
            assert [list(items[name].history or ()) for name in ("a", "c")] == [good, good]
            # It is under a lease like any other.
            assert bench.claim(inline_history=True) == []
            if attempt == 1:
                bench.wait(LEASE_MS)
        commits = [
            turn_commit(items["a"]),
            turn_commit(items["bad"], status=FAILED, failure=b"f"),
            turn_commit(items["c"]),
        ]
        assert list(bench.hub.commit_turns(commits)) == [Outcome.OK] * 3
        info = bench.get("bad")
        assert (info.status, info.failure, info.next_seq) == (FAILED, b"f", 5)
        assert bench.claim(inline_history=True) == []
        assert bench.history("a") == good
        assert bench.purge("bad").deleted == 1
        bench.started("bad", events=[b"new"])
        assert bench.history("bad") == [b"new"]

    @case("I6", "ERRORS")
    def test_his_10_the_history_of_nobody_is_an_error(self, bench: Bench) -> None:
        """Reading an unknown or purged instance's history raises NotFound, and a `limit` under 1 InvalidRequest."""
        bench.started(events=[b"e"])
        other = bench.new_hub()
        other.started("elsewhere", events=[b"e"])
        bench.ended("purged", events=[b"e"])
        bench.purge("purged")
        for name in ("nobody", "elsewhere", "purged", "A", "a "):
            for after in (-1, 0, 100):
                with pytest.raises(NotFound):
                    bench.hub.read_history(name, after=after)
        for limit in (0, -1):
            with pytest.raises(InvalidRequest):
                bench.hub.read_history("a", limit=limit)
        assert bench.history() == [b"e"]
        assert other.history("elsewhere") == [b"e"]

    @case("I6", "I16")
    def test_his_11_an_empty_event_is_an_event(self, bench: Bench) -> None:
        """An event of no bytes counts and is kept as `b""`, alone, first, last, and among others."""
        turns: list[list[bytes]] = [[b""], [b"", b"x"], [b"x", b""], [b"", b""], [], [b"y", b"", b"z"]]
        expected = [event for events in turns for event in events]
        bench.started(events=turns[0])
        assert bench.get().next_seq == 1
        assert bench.history() == [b""]
        append(bench, *turns[1:])
        assert bench.get().next_seq == len(expected)
        for limit in (1, 2, 3, 1000):
            assert read(bench, limit) == expected
        for after in (4, 5):
            assert list(bench.hub.read_history("a", after=after, limit=1).events) == [b""]

    @case("I6", "I17")
    def test_his_12_ids_that_begin_alike_never_mix(self, bench: Bench) -> None:
        """Instances whose ids begin with one another, or differ in case or spaces, have histories of their own."""
        names = ["a", "a/1", "a:1", "a\x01", "a1", "a%", "a_", "A", "a ", " a", "aa", "a|1", "a\U0010ffff"]
        bench.create(*names)
        for round_ in (b"1", b"2"):
            items = bench.claim(inline_history=True)
            before = [] if round_ == b"1" else {item.instance: [item.instance.encode(), b"1"] for item in items}
            came = {item.instance: list(item.history or ()) for item in items}
            assert came == (before or {name: [] for name in names})
            commits = [
                turn_commit(item, events=[item.instance.encode(), round_], messages=[message("next", item.instance)])
                for item in items
            ]
            assert list(bench.hub.commit_turns(commits)) == [Outcome.OK] * len(names)
        for name in names:
            expected = [name.encode(), b"1", name.encode(), b"2"]
            assert bench.history(name) == expected
            assert read(bench, 1, name) == expected

    @case("I6", "REPLACE")
    def test_his_13_a_page_says_whose_history_it_is(self, bench: Bench) -> None:
        """A page names the generation and the execution that it is of, also where there is no event yet."""

        def page(after: int = -1) -> tuple[list[bytes], int, bool, str, int]:
            found = bench.hub.read_history("a", after=after, limit=1)
            return list(found.events), found.first_seq, found.more, found.generation, found.execution

        bench.create("a", generation="g1")
        assert page() == ([], 0, False, "g1", 1)
        bench.turn(events=[b"0", b"1", b"2"])
        assert page() == ([b"0"], 0, True, "g1", 1)
        # Whoever pages on sees that it is another history by now.
        bench.send()
        bench.turn(events=[b"3"], continued=NextExecution(events=[b"n0"]))
        assert page(after=1) == ([], 2, False, "g1", 2)
        assert page() == ([b"n0"], 0, False, "g1", 2)
        bench.send("end")
        bench.turn(status=COMPLETED, events=[b"n1"])
        assert page() == ([b"n0"], 0, True, "g1", 2)
        assert page(after=0) == ([b"n1"], 1, False, "g1", 2)
        bench.create("a", generation="g2", replace_if=ENDED)
        assert page() == ([], 0, False, "g2", 1)

    @case("I6", "I20", level=Level.L1, requires=("durable",))
    def test_his_14_a_history_survives_a_reopening(self, bench: Bench) -> None:
        """After the store was closed and opened again a history is the same, and the next commit goes on from it."""
        payloads = [bytes(range(256)), b"", b"\0", bench.rng.randbytes(10_000)]
        bench.started("a", events=payloads)
        append(bench, [b"x"], payloads)
        bench.ended("b", events=[b"b"])
        before = bench.history()
        bench.reopen()
        assert bench.history() == before == [*payloads, b"x", *payloads]
        assert bench.history("b") == [b"b"]
        append(bench, [b"after"])
        assert bench.history() == [*before, b"after"]


def same_events(came: list[bytes], expected: list[bytes]) -> bool:
    """Compare without a report of megabytes where they differ."""
    return came == expected

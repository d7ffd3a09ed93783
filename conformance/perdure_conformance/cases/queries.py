"""QRY: finding instances."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any, Final

import pytest

from perdure.spi import (
    Fields,
    InstanceQuery,
    InvalidRequest,
    NewInstance,
    NextExecution,
    OrchestrationStatus,
    Outcome,
    QueueStats,
)
from perdure_conformance.bench import START, Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    FAILED,
    LEASE_MS,
    PENDING,
    RUNNING,
    activity,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
)

# Where LIKE, GLOB, regular expressions, collations and UTF-16 see something else than code points.
NAMES: Final = [
    *("a%b", "a_b", "a*b", "a[b", "a\\b", "aXb", "a.b", "A%b", "a%b ", "a", "ab", "a?b", "a^b", "a$b", "a(b", "a+b"),
    *("a'b", 'a"b', "a|b", "a{2}", "a\u0001", "\u00e9", "e\u0301", "e", "中", "😀", "\uffff", "\uffffb", "\U0010ffff"),
    *("a😀", "a\U0010ffffb", "a\ufffd"),
]
GARBAGE: Final = ["", "garbage", "AAAA", "W10", "bnVsbA", "é", "[]", "e30", "MQ", "W1sxXV0", "0", "\ud800", "a" * 5000]
PREFIXES: Final = [
    *("", "a", "a%", "a_", "a*", "a[", "a\\", "a.", "A", "a?", "a^", "a$", "a(", "a+", "a'", 'a"', "a|", "a{", "a%b "),
    *(".", "%", "_", "*", "^", "a%b", "a%b  ", "a\u0001", "\u00e9", "e", "中", "😀", "\uffff", "\U0010ffff", "b"),
]


def pages(bench: Bench, **fields: Any) -> list[str]:
    """Return the ids of all pages, in order."""
    page = bench.hub.query_instances(InstanceQuery(**fields))
    return ids_of(page.items) + pages_from(bench, page.cursor, **fields)


def pages_from(bench: Bench, cursor: str | None, **fields: Any) -> list[str]:
    """Return the ids of all pages from a cursor on."""
    found: list[str] = []
    seen: set[str] = set()
    while cursor is not None:
        assert cursor not in seen, "paging goes round in circles"
        seen.add(cursor)
        page = bench.hub.query_instances(InstanceQuery(**(fields | {"cursor": cursor})))
        found += ids_of(page.items)
        assert page.items or page.cursor is None, "a page before the last is empty"
        cursor = page.cursor
    return found


def first_cursor(bench: Bench, **fields: Any) -> str:
    """Return the cursor behind the first of several instances that a query finds."""
    cursor = bench.hub.query_instances(InstanceQuery(page_size=1, **fields)).cursor
    assert isinstance(cursor, str), f"more than one instance matches {fields}, but a page of one has no cursor"
    return cursor


def end(bench: Bench, **statuses: OrchestrationStatus) -> None:
    """Create instances and give each its status with a first commit."""
    bench.create(*statuses)
    items = {item.instance: item for item in bench.claim()}
    for name, status in statuses.items():
        assert bench.commit(items[name], status=status) is Outcome.OK


class QueryCases:
    """Cases QRY."""

    @case("QUERIES", variants=("ascending", "descending"))
    def test_qry_01_every_instance_once_on_pages_of_any_size(self, bench: Bench) -> None:
        """Without a filter, pages of any size together return all instances, each once."""
        expected = [f"i{number * 7 % 15:02}" for number in range(15)]
        for start in range(0, 15, 5):
            bench.create(*expected[start : start + 5])
            if start:
                bench.turn_all()
            bench.wait(start // 5)
        descending = bench.variant == "descending"
        for size in (1, 7, 14, 15, 16, 1000):
            found = pages(bench, page_size=size, descending=descending)
            assert sorted(found) == sorted(expected)
        assert pages(bench) == pages(bench, page_size=4)

    @case("QUERIES")
    def test_qry_02_statuses(self, bench: Bench) -> None:
        """A filter by statuses finds the instances that have one of them now."""
        names = {status: status.value.lower() for status in OrchestrationStatus}
        end(bench, **{name: status for status, name in names.items() if status is not PENDING})
        bench.wait(1)
        bench.create(names[PENDING])
        for status, name in names.items():
            assert bench.find(statuses=[status]) == [name]
        assert set(bench.find(statuses=ENDED)) == {names[status] for status in ENDED}
        assert set(bench.find(statuses=(PENDING, RUNNING, RUNNING))) == {"pending", "running"}
        assert set(bench.find(statuses={RUNNING, FAILED}, page_size=7)) == {"running", "failed"}
        assert set(bench.find(statuses=list(OrchestrationStatus))) == set(names.values())
        assert set(pages(bench, statuses=list(OrchestrationStatus), page_size=1)) == set(names.values())
        bench.turn(status=COMPLETED)
        assert bench.find(statuses=[PENDING]) == []
        assert set(bench.find(statuses=[COMPLETED])) == {"completed", "pending"}
        assert bench.send("again", instance="failed", reopen=frozenset({FAILED})) == [Outcome.OK]
        assert bench.find(statuses=[FAILED]) == []
        assert set(bench.find(statuses=[RUNNING])) == {"running", "failed"}

    @case("QUERIES", "I17")
    def test_qry_03_names(self, bench: Bench) -> None:
        """A filter by names finds the instances that have exactly one of them."""
        named = {"a": "flow", "b": "Flow", "c": "flow ", "d": "flo", "e": "fl%w", "f": "\u00e9", "g": "e\u0301"}
        named |= {"h": "fl,ow", "i": "ow"}
        for name, orchestration in named.items():
            bench.create(name, name=orchestration)
        for name, orchestration in named.items():
            assert bench.find(names=[orchestration]) == [name]
        assert bench.find(names=("flow", "fl%w", "flow")) == ["a", "e"]
        assert bench.find(names={"nobody", "\u00e9"}) == ["f"]
        assert bench.find(names=["nobody"]) == []
        assert pages(bench, names=list(named.values()), page_size=2) == list(named)
        assert bench.find(names=[*(f"x{number}" for number in range(5000)), "Flow"]) == ["b"]
        bench.turn_all(status=COMPLETED)
        assert bench.create("a", name="Flow", replace_if=ENDED) == [Outcome.REPLACED]
        assert (set(bench.find(names=["Flow"])), bench.find(names=["flow"])) == ({"a", "b"}, [])

    @case("QUERIES", "I17")
    def test_qry_04_prefix_is_literal(self, bench: Bench) -> None:
        """A prefix of ids is taken literally: no character in it is special, and case and accents count."""
        bench.create(*NAMES)
        for prefix in PREFIXES:
            expected = sorted((name for name in NAMES if name.startswith(prefix)), key=str.encode)
            assert (prefix, bench.find(id_prefix=prefix)) == (prefix, expected)
        assert pages(bench, id_prefix="a", page_size=3) == bench.find(id_prefix="a")
        assert pages(bench, id_prefix="a", page_size=3, descending=True) == bench.find(id_prefix="a")[::-1]

    @case("QUERIES")
    def test_qry_05_ranges(self, bench: Bench) -> None:
        """A range of created, updated or completed times includes its start and excludes its end."""
        tick = bench.limits.time_resolution_ms
        bench.create("a", "b", "c", "d")
        items = {item.instance: item for item in bench.claim(lease_ms=3_600_000)}
        bench.wait(1000)
        assert bench.commit(items["a"], status=COMPLETED) is Outcome.OK
        bench.wait(1000)
        assert bench.commit(items["b"]) is bench.commit(items["c"], status=FAILED) is Outcome.OK
        bench.wait(1000)
        bench.create("e")
        bench.wait(1000)
        bench.turn(status=COMPLETED)
        ranges: list[tuple[str, int | None, int | None, str]] = [
            ("created", 0, tick, "abcd"),
            ("created", 0, 3000, "abcd"),
            ("created", tick, 3000, ""),
            ("created", None, 3000, "abcd"),
            ("created", None, 3000 + tick, "abcde"),
            ("created", 3000, None, "e"),
            ("created", 3000, 3000, ""),
            ("updated", None, 1000, "d"),
            ("updated", 1000, 2000, "a"),
            ("updated", 1000 + tick, 2000, ""),
            ("updated", 1000, 2000 + tick, "abc"),
            ("updated", 2000, None, "bce"),
            ("updated", 2000, 1000, ""),
            ("completed", None, 1000, ""),
            ("completed", None, 2000, "a"),
            ("completed", None, 2000 + tick, "ac"),
            ("completed", 1000, 2000, "a"),
            ("completed", 1000 + tick, None, "ce"),
            ("completed", 4000, 4000 + tick, "e"),
            ("completed", 4000 + tick, None, ""),
            # Neither the time 0 nor one before it is no bound.
            ("created", -START, None, "abcde"),
            ("created", None, -START, ""),
            ("updated", -START - 1, None, "abcde"),
            ("updated", None, -START, ""),
            ("completed", -START, None, "ace"),
            ("completed", None, -START, ""),
            ("completed", None, START, "ace"),
        ]
        for what, low, high, expected in ranges:
            bounds = {f"{what}_from": None if low is None else START + low}
            bounds[f"{what}_to"] = None if high is None else START + high
            asked = (what, low, high)
            assert (asked, "".join(bench.find(**bounds))) == (asked, expected)
        assert bench.find(created_to=START + 3000, completed_from=START + 2000) == ["c"]
        assert bench.find(updated_from=START + 2000, completed_to=START + 4000) == ["c"]
        assert pages(bench, completed_from=START, page_size=1, descending=True) == ["e", "c", "a"]
        bench.wait(1000)
        assert bench.send("again", reopen=frozenset({COMPLETED})) == [Outcome.OK]
        assert bench.find(completed_from=0) == ["c", "e"]
        assert bench.find(updated_from=START + 5000) == ["a"]
        assert bench.create("c", replace_if=ENDED) == [Outcome.REPLACED]
        assert bench.find(completed_from=0) == ["e"]
        assert bench.find(created_from=START + 5000) == ["c"]

    @case("QUERIES")
    def test_qry_06_filters_must_all_hold(self, bench: Bench) -> None:
        """An instance is found only if every filter holds, and an empty set of values lets nothing through."""
        later = START + 10_000
        bench.create("x1", name="one", version="1", parent="p", tags={"k": "1", "x": "x"})
        bench.wait(10)
        bench.turn(status=COMPLETED)
        bench.clock.set(later)
        bench.create("y1", name="two", version="2", parent="q", tags={"k": "2", "x": "y"})
        bench.wait(10)
        bench.turn(status=FAILED)
        first: dict[str, dict[str, Any]] = {
            "statuses": {"statuses": [COMPLETED]},
            "names": {"names": ["one"]},
            "versions": {"versions": ["1"]},
            "id_prefix": {"id_prefix": "x"},
            "parent": {"parent": "p"},
            "created": {"created_from": START, "created_to": later},
            "updated": {"updated_from": START, "updated_to": later},
            "completed": {"completed_from": START, "completed_to": later},
        }
        second: dict[str, dict[str, Any]] = {
            "statuses": {"statuses": [FAILED]},
            "names": {"names": ["two"]},
            "versions": {"versions": ["2"]},
            "id_prefix": {"id_prefix": "y"},
            "parent": {"parent": "q"},
            "created": {"created_from": later, "created_to": later + 1000},
            "updated": {"updated_from": later, "updated_to": later + 1000},
            "completed": {"completed_from": later, "completed_to": later + 1000},
        }
        if bench.capabilities.tag_query:
            first["tags"], second["tags"] = {"tags": {"k": "1"}}, {"tags": {"k": "2"}}
        for filters, expected in ((first, "x1"), (second, "y1")):
            for kind, asked in filters.items():
                assert (kind, bench.find(**asked)) == (kind, [expected])
        for one, other in permutations(first, 2):
            assert (one, other, bench.find(**first[one], **second[other])) == (one, other, [])
        every = {name: value for asked in first.values() for name, value in asked.items()}
        assert bench.find(**every) == ["x1"]
        for kind in first:
            assert (kind, bench.find(**(every | second[kind]))) == (kind, [])
        for name in ("statuses", "names", "versions"):
            empties: tuple[Any, ...] = ([], (), frozenset())
            for empty in empties:
                assert (name, bench.find(**{name: empty})) == (name, [])
                assert (name, bench.find(**(every | {name: empty}))) == (name, [])
        assert bench.find() == ["x1", "y1"]

    @case("QUERIES", "I17")
    def test_qry_07_order(self, bench: Bench) -> None:
        """Instances come by the time of their creation, those of one time by the UTF-8 bytes of their ids."""
        bench.create("z", "y")
        bench.wait(1)
        bench.create(*reversed(NAMES))
        bench.wait(1)
        bench.create("0")
        bench.wait(-1)
        bench.create("-")
        tied = sorted([*NAMES, "-"], key=str.encode)
        expected = ["y", "z", *tied, "0"]
        assert bench.find() == expected
        assert bench.find(descending=True) == expected[::-1]
        assert bench.find(names=["flow"], statuses=[PENDING]) == expected
        # What happens to an instance later doesn't move it, but being replaced does.
        bench.wait(10)
        bench.turn_all(status=COMPLETED)
        assert bench.find() == expected
        assert bench.create("y", replace_if=ENDED) == [Outcome.REPLACED]
        assert bench.find() == [*expected[1:], "y"]
        assert bench.find(descending=True) == ["y", *expected[:0:-1]]

    @case("QUERIES")
    def test_qry_08_paging_through_ties(self, bench: Bench) -> None:
        """Instances that were created in one millisecond are neither lost nor repeated between pages."""
        bench.create("first")
        bench.wait(1)
        bench.create(*NAMES)
        bench.wait(1)
        bench.create("last")
        expected = ["first", *sorted(NAMES, key=str.encode), "last"]
        assert pages(bench, page_size=1) == expected
        assert pages(bench, page_size=2, descending=True) == expected[::-1]
        for size in (7, len(NAMES), len(NAMES) + 1):
            assert pages(bench, page_size=size) == expected
            assert pages(bench, page_size=size, descending=True) == expected[::-1]
            assert pages(bench, page_size=size, created_from=START + 1, created_to=START + 2) == expected[1:-1]

    @case("QUERIES", variants=("ascending", "descending"))
    def test_qry_09_inserts_while_paging(self, bench: Bench) -> None:
        """Instances that are created between two pages hide and repeat none that was there throughout."""
        descending = bench.variant == "descending"
        for name in "bdfhj":
            bench.create(name)
        before, behind = ("i", "e") if descending else ("a", "e")
        old = [*"jhfdb"] if descending else [*"bdfhj"]
        query: dict[str, Any] = {"page_size": 2, "descending": descending}
        first = bench.hub.query_instances(InstanceQuery(**query))
        assert ids_of(first.items) == old[:2]
        bench.create(before, behind)
        # Just before, just behind and far from the place where the next page starts.
        bench.wait(-1)
        bench.create("y0", "y1")
        bench.wait(2)
        bench.create("z0", "z1")
        second = bench.hub.query_instances(InstanceQuery(cursor=first.cursor, **query))
        bench.create("z2")
        rest = pages_from(bench, second.cursor, **query)
        found = ids_of(second.items) + rest
        assert [name for name in found if name in old] == old[2:]
        new = ["e", "y1", "y0"] if descending else ["e", "z0", "z1", "z2"]
        assert [name for name in found if name not in old] == new

    @case("QUERIES", "PURGE")
    def test_qry_10_purges_while_paging(self, bench: Bench) -> None:
        """Instances that are purged between two pages hide and repeat no other, the page's last one included."""
        end(bench, **dict.fromkeys("abcdefg", COMPLETED))
        first = bench.hub.query_instances(InstanceQuery(page_size=2))
        assert ids_of(first.items) == ["a", "b"]
        # The one behind which the next page starts, one before it, and one to come.
        assert bench.purge("a", "b", "d").deleted == 3
        second = bench.hub.query_instances(InstanceQuery(page_size=2, cursor=first.cursor))
        assert ids_of(second.items) == ["c", "e"]
        back = bench.hub.query_instances(InstanceQuery(page_size=1, descending=True))
        assert ids_of(back.items) == ["g"]
        bench.purge("g", "f", "e")
        bench.wait(1)
        bench.create("e")
        assert pages_from(bench, second.cursor, page_size=2) == ["e"]
        assert pages_from(bench, back.cursor, page_size=1, descending=True) == ["c"]
        assert bench.purge("c", "e", force=True).deleted == 2
        assert pages_from(bench, second.cursor, page_size=2) == []

    @case("QUERIES", "ERRORS")
    def test_qry_11_cursors(self, bench: Bench) -> None:
        """A cursor belongs to its filter and order, whatever its page's size and fields; any other is refused."""
        bench.create("ia", "ib", "ic", parent="p", version="1")
        bench.turn_all(status=COMPLETED)
        filters: list[dict[str, Any]] = [
            {},
            {"statuses": [COMPLETED]},
            {"statuses": [COMPLETED, FAILED]},
            {"names": ["flow"]},
            {"names": ["flow", "x"]},
            {"versions": ["1"]},
            {"versions": ["1", None]},
            {"versions": ["1", ""]},
            {"id_prefix": "i"},
            {"parent": "p"},
            *({f"{what}_from": START} for what in ("created", "updated", "completed")),
            *({f"{what}_to": START + 1} for what in ("created", "updated", "completed")),
            {"created_from": START - 1},
            {"descending": True},
            {"descending": True, "names": ["flow"]},
        ]
        if bench.capabilities.tag_query:
            bench.create("it", "iu", tags={"k": "v"})
            filters.append({"tags": {"k": "v"}})
        cursors = [first_cursor(bench, **each) for each in filters]
        for place, mine in enumerate(filters):
            everything = bench.find(**mine)
            again = mine | {"page_size": 50, "fields": Fields.NONE, "cursor": cursors[place]}
            assert (mine, bench.find(**again)) == (mine, everything[1:])
            for other, cursor in enumerate(cursors):
                if other != place:
                    with pytest.raises(InvalidRequest):
                        bench.find(**mine, cursor=cursor)
        for name in ("statuses", "names", "versions"):
            with pytest.raises(InvalidRequest):
                bench.find(**{name: []}, cursor=cursors[0])
        for cursor in GARBAGE:
            with pytest.raises(InvalidRequest):
                bench.find(cursor=cursor)
        # A set of values is the same in whatever order and kind of collection.
        named = first_cursor(bench, names=["flow", "x"])
        assert bench.find(names=("x", "flow", "x"), cursor=named) == bench.find(names={"flow", "x"})[1:]

    @case("QUERIES", "ERRORS")
    def test_qry_12_projection(self, bench: Bench) -> None:
        """Only the payloads asked for are returned, in queries and in reads by id; the others are None."""
        bench.create("a", input=b"in")
        bench.wait(1)
        bench.turn(status=FAILED, output=b"out", custom_status=b"status", failure=b"why")
        bench.wait(1)
        bench.create("b", input=b"")
        bench.turn(output=b"", custom_status=b"", events=[b"e"])
        bench.send("go", instance="b")
        bench.wait(1)
        bench.turn(continued=NextExecution(events=[b"e0", b"e1", b"e2"], input=b"", version="2"))
        bench.wait(1)
        bench.create("c", tags={"k": "v"}, parent="a", version="")
        wanted = {"input": Fields.INPUT, "output": Fields.OUTPUT}
        wanted |= {"custom_status": Fields.CUSTOM_STATUS, "failure": Fields.FAILURE}
        whole = [bench.get(name) for name in "abc"]
        assert [(info.execution, info.next_seq, info.version) for info in whole] == [
            (1, 0, None),
            (2, 3, "2"),
            (1, 0, ""),
        ]
        assert [(info.created_at, info.updated_at, info.completed_at) for info in whole] == [
            (START, START + 1, START + 1),
            (START + 2, START + 3, None),
            (START + 4, START + 4, None),
        ]
        assert [(info.input, info.output, info.custom_status, info.failure) for info in whole] == [
            (b"in", b"out", b"status", b"why"),
            (b"", b"", b"", None),
            (None, None, None, None),
        ]
        for asked in (Fields.NONE, Fields.ALL, Fields.INPUT | Fields.FAILURE, *wanted.values()):
            left_out: dict[str, Any] = {name: None for name, field in wanted.items() if field not in asked}
            expected = [replace(info, **left_out) for info in whole]
            assert list(bench.hub.query_instances(InstanceQuery(fields=asked)).items) == expected
            assert list(bench.hub.get_instances(["a", "b", "c"], fields=asked)) == expected

    @case("I17", "QUERIES")
    def test_qry_13_ids_are_compared_as_code_points(self, bench: Bench) -> None:
        """Ids that differ in case, accents' form or white space alone are different instances."""
        names = ["a", "A", "a ", " a", "a\n", "a\t", "\u00e9", "e\u0301", "ß", "ss", "ﬀ", "ff", "İ", "i"]
        for name in names:
            assert (name, bench.create(name, input=name.encode())) == (name, [Outcome.OK])
        for item in bench.claim():
            bench.commit(item, events=[item.instance.encode()])
        for name in names:
            assert (name, bench.get(name).input, bench.history(name)) == (name, name.encode(), [name.encode()])
            assert name in bench.find(id_prefix=name)
        assert bench.hub.get_instances(["E", "b", "á", "SS", "FF", "I", "a  "]) == [None] * 7
        assert bench.send("m", instance="A") == [Outcome.OK]
        assert bench.send("m", instance="a") == [Outcome.OK]
        assert bench.send("M", instance="a") == [Outcome.OK]
        assert ids_by_instance(bench.claim()) == {"A": ["m"], "a": ["m", "M"]}
        assert bench.purge("a", "\u00e9", force=True).deleted == 2
        assert sorted(bench.find()) == sorted(set(names) - {"a", "\u00e9"})
        bench.create("child", parent="a ")
        assert [bench.find(parent=parent) for parent in ("a", "A ", "a ")] == [[], [], ["child"]]

    @case("QUERIES", requires=("tag_query",))
    def test_qry_14_tags(self, bench: Bench) -> None:
        """A filter by tags finds instances that have each of them with exactly that value; no tags filter nothing."""
        bench.create("a", tags={"k": "v", "ü": "", "n": "1"})
        bench.create("b", tags={"k": "w", "ü": ""})
        bench.create("c", tags={"k": "v", "K": "V", "j": "w", "it's": '"%"'})
        bench.create("d")
        # Where tags are joined, or kept as one text, these look like others.
        bench.create("e", tags={"a=b": "c", '"k': "v", "x.y": "z", "k:v": ""})
        asked: list[tuple[dict[str, str], str]] = [
            ({}, "abcde"),
            ({"k": "v"}, "ac"),
            ({"k": "w"}, "b"),
            ({"ü": ""}, "ab"),
            ({"u": ""}, ""),
            ({"u\u0308": ""}, ""),
            ({"k": "v", "ü": ""}, "a"),
            ({"k": "w", "n": "1"}, ""),
            ({"n": "1", "ü": "", "k": "v"}, "a"),
            ({"n": "2", "ü": "", "k": "v"}, ""),
            ({"n": "1", "ü": "1", "k": "v"}, ""),
            ({"n": "1", "ü": "", "k": "w"}, ""),
            ({"a=b": "c"}, "e"),
            ({"a": "b=c"}, ""),
            ({'"k': "v"}, "e"),
            ({"x.y": "z"}, "e"),
            ({"x": "y.z"}, ""),
            ({"y": "z"}, ""),
            ({"k": "v:"}, ""),
            ({"k": ""}, ""),
            ({"k": "V"}, ""),
            ({"K": "v"}, ""),
            ({"K": "V"}, "c"),
            ({"k": "v "}, ""),
            ({"k": "%"}, ""),
            ({"it's": '"%"'}, "c"),
            ({"v": "k"}, ""),
            ({"missing": ""}, ""),
        ]
        for tags, expected in asked:
            assert (tags, "".join(bench.find(tags=tags))) == (tags, expected)
        assert pages(bench, tags={"k": "v"}, page_size=1, descending=True) == ["c", "a"]
        assert bench.find(tags={"k": "v"}, id_prefix="c") == ["c"]
        assert bench.find(tags={"k": "v"}, statuses=[RUNNING]) == []
        assert bench.find(tags={"k": "v"}, names=[]) == []
        other = bench.new_hub()
        other.create("a", "x", tags={"k": "v"})
        assert bench.find(tags={"k": "v"}) == ["a", "c"]
        # The tags of an instance go with it.
        bench.turn_all(status=COMPLETED)
        bench.wait(1)
        assert bench.create("a", tags={"k": "w"}, replace_if=ENDED) == [Outcome.REPLACED]
        assert bench.purge("c").deleted == 1
        assert bench.create("c") == [Outcome.OK]
        assert (bench.find(tags={"k": "v"}), bench.find(tags={"k": "w"})) == ([], ["b", "a"])
        assert (bench.get("a").tags, bench.get("c").tags) == ({"k": "w"}, {})
        assert other.find(tags={"k": "v"}) == ["a", "x"]
        assert bench.purge(query=InstanceQuery(tags={"ü": "", "k": "w"})).deleted == 1
        assert bench.purge(query=InstanceQuery(tags={"k": "w"}), force=True).deleted == 1
        assert bench.find() == ["d", "e", "c"]

    @case("QUERIES")
    def test_qry_15_direct_children(self, bench: Bench) -> None:
        """A filter by parent lists its direct children, however they came about."""
        bench.started("p", starts=[new_instance("c3", parent="p")], messages=[message("self", "p")])
        bench.create("c1", "c2", parent="p")
        bench.create("g", parent="c1")
        bench.create("like", parent="p1")
        bench.create("Like", parent="P")
        bench.create("orphan", parent="nobody")
        assert bench.find(parent="p") == ["c1", "c2", "c3"]
        assert bench.find(parent="c1") == ["g"]
        assert bench.find(parent="g") == []
        assert bench.find(parent="nobody") == ["orphan"]
        assert bench.find(parent="p", id_prefix="c2") == ["c2"]
        assert pages(bench, parent="p", page_size=1, descending=True) == ["c3", "c2", "c1"]
        bench.turn_all(status=COMPLETED)
        assert bench.find(parent="p") == ["c1", "c2", "c3"]
        assert bench.create("c1", replace_if=ENDED) == [Outcome.REPLACED]
        assert bench.create("c2", replace_if=ENDED, parent="g") == [Outcome.REPLACED]
        assert bench.purge("c3").deleted == 1
        assert (bench.find(parent="p"), bench.find(parent="g")) == ([], ["c2"])

    @case("RESULTS", "QUERIES")
    def test_qry_16_reads_by_id_keep_their_order(self, bench: Bench) -> None:
        """Reading by id answers in the order asked, None for an unknown id, twice where it was asked twice."""
        bench.create("a", "A", "a ", "b")
        asked = ["b", "a ", "x", "a", "A", "a", "y", "b"]
        found = [info and info.id for info in bench.hub.get_instances(asked)]
        assert found == ["b", "a ", None, "a", "A", "a", None, "b"]
        assert bench.hub.get_instances(("b", "a"))[0] == bench.get("b")
        assert list(bench.hub.get_instances([])) == []
        # More than one call may write: a read takes any number.
        many = [f"i{number:04}" for number in range(max(1000, min(bench.limits.max_batch, 2000) + 1))]
        bench.create(*many[3:400:5])
        order = bench.rng.sample(many, len(many))
        created = set(many[3:400:5])
        assert [info and info.id for info in bench.hub.get_instances(order, fields=Fields.NONE)] == [
            name if name in created else None for name in order
        ]

    @case("QUERIES", "CLOCK")
    def test_qry_17_stats(self, bench: Bench) -> None:
        """The counts tell instances by status, and work that is ready, leased or to come, each once."""
        nothing = QueueStats(ready=0, leased=0, future=0, oldest_ready_age_ms=None)
        empty = bench.hub.stats()
        assert sum(empty.instances.values()) == 0
        assert empty.turns == nothing
        assert empty.activities == nothing
        bench.started("idle")
        bench.ended("ended")
        bench.started("a", activities=[activity(f"t{number}") for number in range(3)])
        bench.send("go")
        bench.turn(activities=[activity("later", due=bench.clock.now() + 10_000)])
        bench.claim_work(max_items=1)
        bench.wait(100)
        bench.send("go on")
        bench.turn(activities=[activity("young", name="other", queue="other")])
        bench.create("ready")
        bench.create("future", due=bench.clock.now() + 10_000)
        bench.send("timer", instance="idle", due=bench.clock.now() + 10_000)
        bench.wait(50)
        bench.create("leased")
        items = {item.instance: item for item in bench.claim()}
        bench.release(items["ready"].lease)
        # Several messages of one instance are one piece of work.
        bench.send("m", "n", instance="ready")
        bench.send("timer", instance="ready", due=bench.clock.now() + 10_000)
        # Neither a message that waits for its turn nor one to come makes a leased instance another's.
        bench.send("m", instance="leased")
        bench.send("timer", instance="leased", due=bench.clock.now() + 10_000)
        # A message doesn't overtake a start that is not due.
        bench.send("m", instance="future")
        bench.wait(25)
        stats = bench.hub.stats()
        counts = {status: count for status, count in stats.instances.items() if count}
        assert counts == {PENDING: 3, RUNNING: 2, COMPLETED: 1}
        assert (stats.turns.ready, stats.turns.leased, stats.turns.future) == (1, 1, 2)
        assert stats.turns.oldest_ready_age_ms is not None
        assert 25 <= stats.turns.oldest_ready_age_ms <= 75
        assert stats.activities == QueueStats(ready=3, leased=1, future=1, oldest_ready_age_ms=175)
        assert stats.now == bench.clock.now()
        bench.send("stop", instance="future", control=True)
        turns = bench.hub.stats().turns
        assert (turns.ready, turns.future) == (2, 1)
        # That of the oldest, not of the latest.
        assert turns.oldest_ready_age_ms is not None
        assert turns.oldest_ready_age_ms >= 25
        # A forced purge leaves nothing of an instance in any count.
        assert bench.purge("a", "leased", "idle", force=True).deleted == 3
        stats = bench.hub.stats()
        assert {status: count for status, count in stats.instances.items() if count} == {PENDING: 2, COMPLETED: 1}
        assert stats.activities == nothing
        assert (stats.turns.ready, stats.turns.leased, stats.turns.future) == (2, 0, 0)
        # Whoever is reopened, replaced or created once more counts once, by the status of now.
        reopening: dict[str, Any] = {"instance": "ended", "reopen": ENDED}
        assert bench.send("again", **reopening) == [Outcome.OK]
        assert bench.create("ended", replace_if=ENDED) == [Outcome.EXISTS]
        now = bench.hub.stats().instances
        assert {status: count for status, count in now.items() if count} == {PENDING: 2, RUNNING: 1}
        assert bench.commit(bench.claim_each("ready", "future", "ended")["ended"], status=FAILED) is Outcome.OK
        assert bench.create("ended", replace_if=ENDED) == [Outcome.REPLACED]
        now = bench.hub.stats().instances
        assert {status: count for status, count in now.items() if count} == {PENDING: 3}

    @case("QUERIES", "I2")
    def test_qry_18_page_sizes(self, bench: Bench) -> None:
        """A page holds as many as asked for while there are so many, and only the last one has no cursor."""
        bench.create(*(f"i{number:02}" for number in range(12)), "j")
        for size, expected in ((1, (1, True)), (11, (11, True)), (12, (12, False)), (13, (12, False))):
            for descending in (False, True):
                asked = InstanceQuery(page_size=size, id_prefix="i", descending=descending)
                page = bench.hub.query_instances(asked)
                assert (len(page.items), page.cursor is not None) == expected
        for large in (100, 1000, 2**63 - 1):
            assert len(bench.find(page_size=large)) == 13
        page = bench.hub.query_instances(InstanceQuery(id_prefix="x"))
        assert (list(page.items), page.cursor) == ([], None)
        for size in (0, -1):
            with pytest.raises(InvalidRequest):
                bench.find(page_size=size)

    @case("QUERIES")
    def test_qry_19_versions(self, bench: Bench) -> None:
        """A filter by versions tells None, the empty text and others apart, and follows continue-as-new."""
        bench.create("a")
        bench.create("b", version="")
        bench.create("c", version="1")
        bench.create("d", version="1.0")
        bench.create("e", version="None")
        asked: list[tuple[list[str | None], str]] = [
            ([None], "a"),
            ([""], "b"),
            (["1"], "c"),
            (["1.0"], "d"),
            (["None", "null"], "e"),
            (["", None], "ab"),
            ([None, "1", "9"], "ac"),
            ([None, None], "a"),
            (["9"], ""),
            (["1.0", "", "1", None, "None"], "abcde"),
        ]
        for versions, expected in asked:
            assert (versions, "".join(bench.find(versions=versions))) == (versions, expected)
        assert pages(bench, versions=[None, "", "1"], page_size=1) == ["a", "b", "c"]
        for item in bench.claim():
            version = {"a": "2", "c": None}.get(item.instance, item.version)
            bench.commit(item, continued=NextExecution(events=[], version=version))
        assert [bench.find(versions=[version]) for version in (None, "1", "2")] == [["c"], [], ["a"]]

    @case("QUERIES", level=Level.L1, requires=("durable",))
    def test_qry_20_cursors_outlive_a_reopening(self, bench: Bench) -> None:
        """A cursor stays good when the store is closed and opened again."""
        bench.create("a", "b", "c")
        bench.wait(1)
        bench.create("d", "e")
        behind = first_cursor(bench, names=["flow"])
        back = first_cursor(bench, descending=True)
        bench.reopen()
        assert pages_from(bench, behind, names=["flow"], page_size=2) == ["b", "c", "d", "e"]
        assert pages_from(bench, back, descending=True, page_size=3) == ["d", "c", "b", "a"]

    @case("QUERIES", slow=True)
    def test_qry_21_many_instances_without_payloads(self, bench: Bench) -> None:
        """A page of ten thousand instances without their payloads is read at once, and a filter looks at all of them.

        More than the round number at which a scan, a page or a list of parameters is often cut.
        """
        names = [f"i{number:05}" for number in range(bench.scaled(10_000) + 100)]
        for start in range(0, len(names), size := min(500, bench.limits.max_batch)):
            new: list[NewInstance] = [new_instance(name, input=b"in") for name in names[start : start + size]]
            assert bench.hub.create_instances(new) == [Outcome.OK] * len(new)
        page = bench.hub.query_instances(InstanceQuery(fields=Fields.NONE, page_size=100_000))
        assert ids_of(page.items) == names
        assert {info.input for info in page.items} == {None}
        assert page.cursor is None
        assert pages(bench, fields=Fields.NONE, page_size=999, descending=True) == names[::-1]
        bench.create(names[0] + "x", name="rare", version="9", parent="p")
        bench.wait(1)
        bench.create("z", name="rare", version="9", parent="p")
        rare: list[dict[str, Any]] = [{"names": ["rare"]}, {"versions": ["9"]}, {"parent": "p"}]
        for fields in rare:
            for size in (1, 2, 1000):
                assert pages(bench, page_size=size, **fields) == [names[0] + "x", "z"]
                assert pages(bench, page_size=size, descending=True, **fields) == ["z", names[0] + "x"]

    @case("QUERIES", "CLOCK", "I2")
    def test_qry_22_stats_follow_the_clock(self, bench: Bench) -> None:
        """What waited for an expiry, a delay or a due time counts as ready from that very moment on."""
        bench.started("worker", activities=[activity("expired"), activity("delayed"), activity("due", due=START + 700)])
        bench.create("expired", "delayed")
        bench.create("due", due=START + 700)
        items = {item.instance: item for item in bench.claim(lease_ms=700)}
        assert bench.release(items["delayed"].lease, delay_ms=700) is Outcome.OK
        work = {item.id: item for item in bench.claim_work(lease_ms=700)}
        assert bench.release(work["delayed"].lease, delay_ms=700) is Outcome.OK
        for waited in (0, 699):
            bench.wait(waited)
            stats = bench.hub.stats()
            for queue in (stats.turns, stats.activities):
                assert queue == QueueStats(ready=0, leased=1, future=2, oldest_ready_age_ms=None)
        for waited in (1, 50):
            bench.wait(waited)
            stats = bench.hub.stats()
            for queue in (stats.turns, stats.activities):
                assert (queue.ready, queue.leased, queue.future) == (3, 0, 0)
                assert queue.oldest_ready_age_ms is not None
                assert bench.clock.now() - START - 700 <= queue.oldest_ready_age_ms <= bench.clock.now() - START
        # A lease that is kept over a commit counts, though nothing waits under it.
        assert bench.commit(items["expired"], keep_ms=LEASE_MS) is Outcome.OK
        # Nor does it count twice where something waits that will be due after it.
        bench.send("late", instance="expired", due=bench.clock.now() + 2 * LEASE_MS)
        turns = bench.hub.stats().turns
        assert (turns.ready, turns.leased, turns.future) == (2, 1, 0)

    @case("QUERIES", "I19", variants=("ascending", "descending"))
    def test_qry_23_a_page_shows_what_is_there_when_it_is_asked_for(self, bench: Bench) -> None:
        """A later page shows its instances as they are then, and not as they were at the first page."""
        bench.create("b", "c", "d", "e")
        order = "edcb" if bench.variant == "descending" else "bcde"
        query: dict[str, Any] = {"page_size": 1, "descending": bench.variant == "descending"}
        first = first_cursor(bench, descending=query["descending"])
        pending = first_cursor(bench, statuses=[PENDING], descending=query["descending"])
        items = bench.claim_each(*order)
        bench.wait(1)
        assert bench.commit(items[order[1]], status=FAILED, custom_status=b"status", events=[b"e"]) is Outcome.OK
        (shown,) = bench.hub.query_instances(InstanceQuery(cursor=first, **query)).items
        assert shown == bench.get(order[1])
        assert (shown.status, shown.custom_status, shown.next_seq) == (FAILED, b"status", 1)
        # It is found no more where it doesn't match any more.
        query["statuses"] = [PENDING]
        assert pages_from(bench, pending, **query) == [*order[2:]]
        assert bench.commit(items[order[2]], status=COMPLETED) is Outcome.OK
        assert pages_from(bench, pending, **query) == [order[3]]
        # A page is what its cursor says, asked for again and again.
        assert pages_from(bench, first, page_size=3, descending=query["descending"]) == [*order[1:]]
        assert pages_from(bench, first, page_size=2, descending=query["descending"]) == [*order[1:]]

    @case("QUERIES", "RESULTS", "I4")
    def test_qry_24_what_was_returned_stays_as_it_was(self, bench: Bench) -> None:
        """What a call has returned is not changed by a later one: no record is a view of what is stored."""
        bench.create("a", tags={"k": "v"}, input=b"in")
        bench.turn(events=[b"e0"], custom_status=b"s0", activities=[activity("t"), activity("u")])
        bench.send("m")
        item = bench.claim_one(inline_history=True)
        work = bench.claim_work(max_items=1)
        whole, part = bench.hub.read_history("a"), bench.hub.read_history("a", after=0)
        found = bench.hub.query_instances(InstanceQuery())
        read = [item, work, whole, part, found, bench.get(), bench.hub.stats()]
        before = copied(read)
        bench.wait(1)
        bench.send("n")
        bench.renew(work[0].lease, 2 * LEASE_MS)
        assert bench.commit(item, events=[b"e1"], custom_status=b"s1", keep_ms=LEASE_MS) is Outcome.OK
        bench.create("b")
        assert copied(read) == before
        kept = bench.claim(names=["flow"], held=[item.lease], inline_history=True)
        last = {each.instance: each for each in kept}["a"]
        later = [kept, bench.hub.read_history("a"), bench.get()]
        before_end = copied(later)
        assert bench.commit(last, status=COMPLETED, output=b"out", events=[b"e2"]) is Outcome.OK
        assert bench.create("a", tags={"k": "w"}, replace_if=ENDED) == [Outcome.REPLACED]
        assert bench.purge("a", force=True).deleted == 1
        assert (copied(read), copied(later)) == (before, before_end)


def copied(value: object) -> object:
    """Return a copy to compare with: records, lists and mappings of whatever type are copied to plain ones."""
    if dataclasses.is_dataclass(value):
        return {field.name: copied(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [copied(item) for item in value]
    return value

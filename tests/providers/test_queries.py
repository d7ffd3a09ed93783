"""Queries, pages, projections and counts."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.spi import Fields, InstanceQuery, InvalidRequest, OrchestrationStatus, QueueStats
from perdure_conformance.driver import COMPLETED, ENDED, FAILED, LEASE_MS, RUNNING, Driver, activity, ids_of, message

NAMES = ["a%b", "a_b", "a*b", "a[b", "a\\b", "aXb", "a.b", "A%b", "a%b ", "\u00e9", "e\u0301", "中", "😀", "\uffff"]


def pages(driver: Driver, **fields: Any) -> list[str]:
    """Return the ids of all pages, having checked that none is over its size."""
    found: list[str] = []
    query = InstanceQuery(**fields)
    cursor = None
    while True:
        page = driver.hub.query_instances(InstanceQuery(**(fields | {"cursor": cursor})))
        assert len(page.items) <= query.page_size
        found += ids_of(page.items)
        cursor = page.cursor
        if cursor is None:
            return found
        assert len(page.items) == query.page_size


@pytest.mark.parametrize("page_size", [1, 7, 14, 1000])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_of_any_size_cover_all_made_in_one_millisecond(driver: Driver, page_size: int, descending: bool) -> None:
    driver.create(*NAMES)
    expected = sorted(NAMES, key=str.encode, reverse=descending)
    assert pages(driver, page_size=page_size, descending=descending) == expected


def test_the_order_is_that_of_creation_then_of_ids(driver: Driver) -> None:
    for names in (["c", "b"], ["d"], ["a"]):
        driver.create(*names)
        driver.wait(1)
    assert pages(driver, page_size=1) == ["b", "c", "d", "a"]
    assert pages(driver, page_size=3, descending=True) == ["a", "d", "c", "b"]


@pytest.mark.parametrize(
    "prefix", ["", "a", "a%", "a_", "a*", "a[", "a\\", "a.", "A", "\u00e9", "e", "a%b ", "😀", "\uffff"]
)
def test_a_prefix_is_taken_literally(driver: Driver, prefix: str) -> None:
    driver.create(*NAMES)
    assert set(pages(driver, id_prefix=prefix)) == {name for name in NAMES if name.startswith(prefix)}


def populated(driver: Driver) -> int:
    """Make five instances, one a second, and return when the first was made."""
    start = driver.clock.now()
    driver.ended("done", output=b"x")
    driver.wait(1000)
    driver.ended("failed", status=FAILED)
    driver.wait(1000)
    driver.started("running")
    driver.wait(1000)
    driver.create("child", name="sub", parent="running", version="1", tags={"k": "v", "ü": ""})
    driver.wait(1000)
    driver.create("grandchild", name="sub", parent="child", version="", tags={"k": "w"})
    return start


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"statuses": [COMPLETED]}, ["done"]),
        ({"statuses": ENDED}, ["done", "failed"]),
        ({"statuses": []}, []),
        ({"names": ["sub"]}, ["child", "grandchild"]),
        ({"names": ["flow", "sub"], "statuses": [RUNNING, OrchestrationStatus.PENDING], "id_prefix": "r"}, ["running"]),
        ({"names": ()}, []),
        ({"versions": [None]}, ["done", "failed", "running"]),
        ({"versions": ["", None]}, ["done", "failed", "running", "grandchild"]),
        ({"versions": ["1"]}, ["child"]),
        ({"versions": []}, []),
        ({"parent": "running"}, ["child"]),
        ({"parent": "nobody"}, []),
        ({"tags": {}}, ["done", "failed", "running", "child", "grandchild"]),
        ({"tags": {"k": "v"}}, ["child"]),
        ({"tags": {"ü": "", "k": "v"}}, ["child"]),
        ({"tags": {"ü": "", "k": "w"}}, []),
        ({"tags": {"K": "v"}}, []),
        ({"names": ["sub"], "parent": "running", "tags": {"k": "w"}}, []),
    ],
)
def test_filters_must_all_hold(driver: Driver, filters: dict[str, Any], expected: list[str]) -> None:
    populated(driver)
    assert pages(driver, page_size=2, **filters) == expected


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 1000, ["done"]),
        (1, 1001, ["failed"]),
        (1000, None, ["failed", "running"]),
        (None, 1000, ["done"]),
        (5, 5, []),
    ],
)
def test_ranges_include_their_start_and_exclude_their_end(
    driver: Driver, first: int | None, last: int | None, expected: list[str]
) -> None:
    start = populated(driver)
    low, high = (None if moment is None else start + moment for moment in (first, last))
    flow = {"names": ["flow"]}
    assert driver.find(created_from=low, created_to=high, **flow) == expected
    assert driver.find(updated_from=low, updated_to=high, **flow) == expected
    done = [name for name in expected if name != "running"]
    assert driver.find(completed_from=low, completed_to=high, **flow) == done


def test_inserts_and_purges_between_pages_hide_and_repeat_nothing(driver: Driver) -> None:
    for name in "bdfhj":
        driver.ended(name)
    first = driver.hub.query_instances(InstanceQuery(page_size=2))
    assert ids_of(first.items) == ["b", "d"]
    driver.create("a", "e")
    driver.purge("d", "h")
    second = driver.hub.query_instances(InstanceQuery(page_size=10, cursor=first.cursor))
    assert ids_of(second.items) == ["e", "f", "j"]


def test_a_cursor_belongs_to_its_filter_and_order(driver: Driver) -> None:
    driver.create("a", "b", "c")
    page = driver.hub.query_instances(InstanceQuery(page_size=1, names=["flow", "x"]))
    assert page.cursor is not None
    again = InstanceQuery(page_size=2, names=("x", "flow"), fields=Fields.NONE, cursor=page.cursor)
    assert ids_of(driver.hub.query_instances(again).items) == ["b", "c"]
    for other in ({"names": ["flow"]}, {"names": ["flow", "x"], "descending": True}, {}):
        with pytest.raises(InvalidRequest):
            driver.find(cursor=page.cursor, **other)


@pytest.mark.parametrize("cursor", ["", "garbage", "AAAA", "W10", "bnVsbA", "é", "[]", "e30", "MQ", "W1sxXV0"])
def test_a_garbage_cursor_is_refused(driver: Driver, cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        driver.find(cursor=cursor)


@pytest.mark.parametrize("page_size", [0, -1])
def test_a_page_has_at_least_one_item(driver: Driver, page_size: int) -> None:
    with pytest.raises(InvalidRequest):
        driver.find(page_size=page_size)


def test_only_the_payloads_asked_for_are_read(driver: Driver) -> None:
    driver.create(input=b"in")
    driver.turn(status=FAILED, output=b"out", custom_status=b"cs", failure=b"why")
    wanted = {"input": Fields.INPUT, "output": Fields.OUTPUT}
    wanted |= {"custom_status": Fields.CUSTOM_STATUS, "failure": Fields.FAILURE}
    for fields in (Fields.NONE, Fields.ALL, *wanted.values()):
        (found,) = driver.hub.query_instances(InstanceQuery(fields=fields)).items
        assert found == driver.get(fields=fields)
        for name, field in wanted.items():
            assert (getattr(found, name) is not None) == (field in fields)
    assert driver.get(fields=Fields.NONE).next_seq == driver.get().next_seq


def test_get_keeps_the_order_asked(driver: Driver) -> None:
    driver.create("a", "A", "a ")
    asked = ["a ", "x", "a", "A", "a", "y"]
    found = [info and info.id for info in driver.hub.get_instances(asked)]
    assert found == ["a ", None, "a", "A", "a", None]
    assert driver.hub.get_instances([]) == []


def test_get_takes_any_number_of_ids(driver: Driver) -> None:
    driver.create("i7", "i39999")
    found = driver.hub.get_instances([f"i{number}" for number in range(40_000)])
    assert [index for index, info in enumerate(found) if info] == [7, 39_999]


def test_stats_count_what_is_there_and_what_waits(driver: Driver) -> None:
    empty = driver.hub.stats()
    assert sum(empty.instances.values()) == 0
    assert empty.turns == empty.activities == QueueStats(ready=0, leased=0, future=0, oldest_ready_age_ms=None)
    driver.started("idle")
    driver.ended("ended")
    driver.started("a", activities=[activity(f"t{number}") for number in range(3)])
    driver.send("go")
    driver.turn(activities=[activity("later", due=driver.clock.now() + 10_000)])
    driver.claim_work(max_items=1)
    driver.wait(100)
    driver.create("ready")
    driver.create("future", due=driver.clock.now() + 10_000)
    driver.send("timer", instance="idle", due=driver.clock.now() + 10_000)
    driver.wait(50)
    driver.create("leased")
    items = {item.instance: item for item in driver.claim()}
    driver.release(items["ready"].lease)
    driver.wait(25)
    stats = driver.hub.stats()
    counts = {status: count for status, count in stats.instances.items() if count}
    assert counts == {OrchestrationStatus.PENDING: 3, RUNNING: 2, COMPLETED: 1}
    assert (stats.turns.ready, stats.turns.leased, stats.turns.future) == (1, 1, 2)
    assert stats.turns.oldest_ready_age_ms is not None
    assert 25 <= stats.turns.oldest_ready_age_ms <= 75
    assert stats.activities == QueueStats(ready=2, leased=1, future=1, oldest_ready_age_ms=175)
    assert stats.now == driver.clock.now()


def test_stats_tell_expired_leases_and_ended_delays_as_ready(driver: Driver) -> None:
    driver.create("expired", "delayed")
    items = {item.instance: item for item in driver.claim()}
    driver.release(items["delayed"].lease, delay_ms=LEASE_MS)
    turns = driver.hub.stats().turns
    assert (turns.ready, turns.leased, turns.future) == (0, 1, 1)
    driver.wait(LEASE_MS)
    turns = driver.hub.stats().turns
    assert (turns.ready, turns.leased, turns.future, turns.oldest_ready_age_ms) == (2, 0, 0, 0)


def test_children_are_listed_directly_under_their_parent(driver: Driver) -> None:
    driver.started("p", messages=[message("self", "p")])
    driver.create("c1", "c2", parent="p")
    driver.create("g", parent="c1")
    assert driver.find(parent="p") == ["c1", "c2"]

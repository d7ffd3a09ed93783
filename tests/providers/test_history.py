"""Histories: contiguous, ordered, paged by event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.spi import InvalidRequest, Outcome
from perdure_conformance.driver import LEASE_MS, Driver


def test_events_append_over_many_commits(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    expected: list[bytes] = []
    for number in range(50):
        events = [b"%d.%d" % (number, index) for index in range(number % 4)]
        item = replace(item, next_seq=len(expected))
        assert driver.commit(item, events=events, consumed=[], keep_ms=LEASE_MS) is Outcome.OK
        expected += events
    assert driver.history() == expected
    assert driver.get().next_seq == len(expected)


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
def test_pages_cover_each_event_once(driver: Driver, limit: int) -> None:
    driver.started(events=[b"0", b"1", b"2"])
    driver.send()
    driver.turn(events=[b"3", b"4", b"5", b"6"])
    got: list[bytes] = []
    while True:
        page = driver.hub.read_history("a", after=len(got) - 1, limit=limit)
        assert page.first_seq == len(got)
        assert 0 < len(page.events) <= limit
        got += page.events
        assert page.more is (len(got) < 7)
        if not page.more:
            break
    assert got == [b"%d" % number for number in range(7)]


@pytest.mark.parametrize("after", [2, 3, 100])
def test_behind_the_end_there_is_nothing(driver: Driver, after: int) -> None:
    driver.started(events=[b"0", b"1", b"2"])
    page = driver.hub.read_history("a", after=after, limit=1)
    assert (list(page.events), page.more, page.first_seq) == ([], False, after + 1)


def test_a_page_says_whose_history_it_is(driver: Driver) -> None:
    driver.create("a", generation="g1")
    page = driver.hub.read_history("a")
    assert (list(page.events), page.generation, page.execution, page.more) == ([], "g1", 1, False)


def test_limits_under_one_are_refused(driver: Driver) -> None:
    driver.started()
    with pytest.raises(InvalidRequest):
        driver.hub.read_history("a", limit=0)


def test_inline_history_agrees_with_reading(driver: Driver) -> None:
    driver.started(events=[b"0", b"", b"\x002"])
    driver.send()
    item = driver.claim_one(inline_history=True)
    assert item.history is not None
    assert list(item.history) == driver.history() == [b"0", b"", b"\x002"]
    assert item.next_seq == 3
    driver.release(item.lease)
    assert driver.claim_one().history is None


def test_ids_that_begin_alike_never_mix(driver: Driver) -> None:
    names = ["a", "a/1", "a:1", "a\x01", "A", "a ", " a"]
    for name in names:
        driver.started(name, events=[name.encode()])
    assert [driver.history(name) for name in names] == [[name.encode()] for name in names]


def test_seventy_thousand_events_fit_into_a_commit(driver: Driver) -> None:
    events = [b"%d" % number for number in range(70_000)]
    driver.started(events=events)
    assert driver.history() == events
    assert list(driver.hub.read_history("a", after=69_997).events) == events[69_998:]

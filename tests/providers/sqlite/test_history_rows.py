"""How events lie in the table, and what is said when they don't."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.spi import Corrupt, OrchestrationStatus, Outcome
from perdure_conformance.driver import LEASE_MS, Driver
from perdure_sql import CorruptRow, pack_events, unpack_events
from perdure_sqlite import SQLiteProvider


def change(provider: SQLiteProvider, statement: str, *values: object) -> int:
    return provider.store().writer.run(lambda db: db.execute(statement, values).rowcount)


def rows(provider: SQLiteProvider) -> list[tuple[int, int]]:
    def read(db: sqlite3.Connection) -> list[tuple[int, int]]:
        return db.execute("SELECT first_seq, count FROM perdure_history ORDER BY first_seq").fetchall()

    return provider.store().read(read)


@given(st.lists(st.binary(max_size=50)), st.integers(0, 2**40))
def test_events_come_back_as_they_were(events: list[bytes], first_seq: int) -> None:
    packed = list(pack_events(events, first_seq))
    assert [event for _, count, value in packed for event in unpack_events(count, value)] == events


@given(st.lists(st.binary(max_size=50), min_size=1), st.data())
def test_a_changed_row_is_never_taken_for_events(events: list[bytes], data: st.DataObject) -> None:
    ((_, count, value),) = pack_events(events, 0)
    place = data.draw(st.integers(0, len(value) - 1))
    broken = value[:place] + bytes([value[place] ^ data.draw(st.integers(1, 255))]) + value[place + 1 :]
    for wrong in ((count, broken), (count, value[:place]), (count + 1, value), (count, value + b"x")):
        with pytest.raises(CorruptRow):
            unpack_events(*wrong)


def test_a_turn_is_one_row_and_a_large_one_several(driver: Driver, provider: SQLiteProvider) -> None:
    driver.started(events=[b"1", b"", b"3"])
    assert rows(provider) == [(0, 3)]
    driver.send()
    driver.turn(events=[bytes(200_000)] * 3)
    assert rows(provider) == [(0, 3), (3, 1), (4, 1), (5, 1)]
    assert driver.history()[3:] == [bytes(200_000)] * 3


def test_a_page_may_begin_and_end_within_a_row(driver: Driver) -> None:
    events = [b"%d" % number for number in range(20)]
    driver.started(events=events[:7])
    for start, end in ((7, 8), (8, 20)):
        driver.send(f"m{start}")
        driver.turn(events=events[start:end])
    for after in range(-1, 22):
        for limit in (1, 2, 5, 100):
            page = driver.hub.read_history("a", after=after, limit=limit)
            assert page.events == events[after + 1 : after + 1 + limit]
            assert page.more == (after + 1 + limit < 20)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE perdure_history SET events = substr(events, 1, 12) WHERE first_seq = 2",
        "UPDATE perdure_history SET events = zeroblob(50) WHERE first_seq = 2",
        "UPDATE perdure_history SET events = 'text' WHERE first_seq = 2",
        "UPDATE perdure_history SET count = count + 1 WHERE first_seq = 2",
        "DELETE FROM perdure_history WHERE first_seq = 2",
        "DELETE FROM perdure_history WHERE first_seq = 4",
        "DELETE FROM perdure_history WHERE first_seq = 0",
    ],
)
def test_what_can_not_be_decoded_is_told_and_the_instance_may_end(
    driver: Driver, provider: SQLiteProvider, statement: str
) -> None:
    driver.started(events=[b"0", b"1"])
    for number in (2, 4):
        driver.send(f"m{number}")
        driver.turn(events=[b"x", b"y"])
    assert change(provider, statement) == 1
    with pytest.raises(Corrupt, match="'a'"):
        driver.history()
    driver.send("again")
    item = driver.claim_one(inline_history=True)
    assert item.error is not None
    assert (item.history, item.attempt) == (None, 1)
    driver.wait(LEASE_MS)
    item = driver.claim_one(inline_history=True)
    assert (item.error is not None, item.attempt) == (True, 2)
    assert driver.commit(item, status=OrchestrationStatus.FAILED, failure=b"corrupt") is Outcome.OK
    assert driver.get().failure == b"corrupt"

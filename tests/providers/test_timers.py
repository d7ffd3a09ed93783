"""Durable timers: messages with a due time."""

from __future__ import annotations

import pytest

from perdure.spi import InvalidRequest, ManualClock, Outcome, Provider
from perdure_conformance.driver import ENDED, Driver, activity, ids_of, message

YEAR_MS = 365 * 86_400_000


def test_a_timer_is_delivered_at_its_due_and_not_before(driver: Driver) -> None:
    due = driver.clock.now() + 1000
    driver.started(messages=[message("timer", due=due)])
    batch = driver.claim_batch()
    assert (list(batch.items), batch.more, batch.next_due, batch.now) == ([], False, due, driver.clock.now())
    driver.wait(999)
    assert driver.claim() == []
    driver.wait(1)
    (delivery,) = driver.claim_one().messages
    assert (delivery.id, delivery.due, delivery.enqueued_at) == ("timer", due, due - 1000)


def test_next_due_is_the_earliest_of_all(driver: Driver) -> None:
    now = driver.clock.now()
    driver.started("a", messages=[message("t1", due=now + 300), message("t2", due=now + 200)])
    assert driver.claim_batch().next_due == now + 200
    driver.create("b", due=now + 100)
    assert driver.claim_batch().next_due == now + 100
    driver.create("c")
    driver.release(driver.claim_one().lease, delay_ms=50)
    assert driver.claim_batch().next_due == now + 50


def test_timers_come_in_the_order_of_their_dues_then_of_arrival(driver: Driver) -> None:
    now = driver.clock.now()
    timers = [message("3", due=now + 30), message("1a", due=now + 10), message("2", due=now + 20)]
    driver.started(messages=[*timers, message("1b", due=now + 10)])
    driver.wait(30)
    assert ids_of(driver.claim_one().messages) == ["1a", "1b", "2", "3"]


def test_a_timer_in_the_past_is_delivered_at_once(driver: Driver) -> None:
    driver.started(messages=[message("past", due=driver.clock.now() - 1000)])
    driver.send("now")
    driver.send("older", due=5)
    assert [(delivery.id, delivery.due) for delivery in driver.claim_one().messages] == [
        ("older", 5),
        ("past", driver.clock.now() - 1000),
        ("now", driver.clock.now()),
    ]
    with pytest.raises(InvalidRequest):
        driver.send("negative", due=-1)


def test_a_cancelled_timer_never_fires(driver: Driver) -> None:
    driver.started(messages=[message("timer", due=driver.clock.now() + 10)])
    driver.send()
    driver.turn(cancel_messages=["timer"])
    assert driver.claim_batch().next_due is None
    driver.wait(10)
    assert driver.claim() == []
    driver.send("n")
    driver.turn(cancel_messages=["timer"])


def test_a_timer_and_an_event_are_both_delivered(driver: Driver) -> None:
    driver.started(messages=[message("timer", due=driver.clock.now() + 10)])
    driver.wait(10)
    driver.send("event")
    item = driver.claim_one()
    assert ids_of(item.messages) == ["timer", "event"]
    driver.commit(item)
    assert driver.claim() == []


def test_far_dues_are_exact_and_too_far_ones_are_refused(provider: Provider, driver: Driver) -> None:
    due = driver.clock.now() + 10 * YEAR_MS + 1
    driver.started(messages=[message("far", due=due)])
    assert driver.claim_batch().next_due == due
    limit = driver.clock.now() + provider.limits.max_due_ahead_ms
    assert driver.send("limit", due=limit) == [Outcome.OK]
    for bad in (limit + 1, -1):
        with pytest.raises(InvalidRequest) as caught:
            driver.hub.send_messages([message("ok"), message("bad", due=bad)])
        assert caught.value.index == 1
    driver.wait(10 * YEAR_MS + 1)
    assert ids_of(driver.claim_one().messages) == ["far"]


@pytest.mark.parametrize("due", [2**31 - 1, 2**31, 2**31 * 1000 - 1, 2**31 * 1000 + 1, 2**32 * 1000 + 1])
def test_dues_round_trip_to_the_millisecond(driver: Driver, clock: ManualClock, due: int) -> None:
    clock.set(due - 7)
    driver.started(messages=[message("timer", due=due)])
    clock.set(due - 1)
    assert driver.claim() == []
    clock.set(due)
    assert [delivery.due for delivery in driver.claim_one().messages] == [due]


def test_a_timer_of_a_replaced_instance_does_not_fire_into_the_next(driver: Driver) -> None:
    driver.started(messages=[message("timer", due=driver.clock.now() + 10)])
    driver.create("a", replace_if=ENDED | {driver.get().status})
    driver.turn()
    driver.wait(10)
    assert driver.claim() == []


def test_timers_fire_one_by_one_as_time_goes(driver: Driver) -> None:
    now = driver.clock.now()
    numbers = range(1, 201)
    driver.started(messages=[message(f"t{number}", due=now + number) for number in reversed(numbers)])
    got = []
    for _ in numbers:
        driver.wait(1)
        item = driver.claim_one()
        got += ids_of(item.messages)
        driver.commit(item)
    assert got == [f"t{number}" for number in numbers]


def test_an_idle_hub_with_nothing_in_sight(driver: Driver) -> None:
    driver.started()
    assert driver.claim_batch().next_due is None
    assert driver.claim_work_batch().next_due is None


def test_activities_have_a_next_due_of_their_own(driver: Driver) -> None:
    due = driver.clock.now() + 10
    driver.started(activities=[activity(due=due)])
    assert driver.claim_batch().next_due is None
    assert driver.claim_work_batch().next_due == due

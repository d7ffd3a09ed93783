"""When our own providers say that something is due: to the millisecond. The interface allows earlier, at a price."""

from __future__ import annotations

from perdure_conformance.driver import LEASE_MS, Driver, activity, message


def test_nothing_in_sight_is_none(driver: Driver) -> None:
    item = driver.started(keep_ms=1000)
    assert driver.claim_batch().next_due is None
    assert driver.claim_batch(held=[item.lease]).next_due is None
    assert driver.claim_batch(names=["other"]).next_due is None
    assert driver.claim_work_batch().next_due is None
    driver.send("timer", due=driver.clock.now() + 10)
    assert driver.claim_batch(names=["other"]).next_due is None
    driver.wait(1000)
    driver.turn(cancel_messages=["timer"])
    assert driver.claim_batch().next_due is None


def test_it_is_the_earliest_of_all(driver: Driver) -> None:
    now = driver.clock.now()
    driver.started("a", messages=[message("t1", due=now + 300), message("t2", due=now + 200)])
    assert driver.claim_batch().next_due == now + 200
    driver.create("b", due=now + 100)
    assert driver.claim_batch().next_due == now + 100
    driver.create("c")
    driver.release(driver.claim_one().lease, delay_ms=50)
    assert driver.claim_batch().next_due == now + 50
    driver.started("d", keep_ms=20)
    driver.send(instance="d")
    assert driver.claim_batch().next_due == now + 20
    driver.wait(400)
    assert len(driver.claim()) == 4
    assert driver.claim_batch().next_due == now + 400 + LEASE_MS


def test_activities_have_their_own(driver: Driver) -> None:
    now = driver.clock.now()
    driver.started(activities=[activity("late", due=now + 20), activity("other", queue="other", due=now + 5)])
    assert driver.claim_batch().next_due is None
    assert driver.claim_work_batch().next_due == now + 20
    assert driver.claim_work_batch(queues=["default", "other"]).next_due == now + 5
    assert driver.claim_work_batch(queues=["default"], names=["nobody"]).next_due is None
    driver.wait(20)
    work = driver.claim_one_work()
    assert driver.claim_work_batch().next_due == now + 20 + LEASE_MS
    driver.release(work.lease, delay_ms=100)
    assert driver.claim_work_batch().next_due == now + 120


def test_it_is_that_of_the_names_asked(driver: Driver) -> None:
    now = driver.clock.now()
    driver.create("a", name="alpha", due=now + 100)
    driver.send("stop", control=True, due=now + 300)
    driver.create("b", name="beta", due=now + 200)
    expected = [(["alpha"], 100), (["beta"], 200), (["gamma"], 300), ([], 300), (None, 100)]
    assert [(names, driver.claim_batch(names=names).next_due) for names, _ in expected] == [
        (names, now + delay) for names, delay in expected
    ]


def test_leases_count_only_where_work_waits(driver: Driver) -> None:
    now = driver.clock.now()
    item = driver.started(keep_ms=1000)
    assert driver.claim_batch().next_due is None
    driver.hub.send_messages([message("timer", due=now + 200)])
    assert driver.claim_batch().next_due == now + 1000
    assert driver.claim_batch(held=[item.lease]).next_due == now + 200


def test_where_there_is_more_it_is_now(driver: Driver) -> None:
    driver.create("a", "b", "c")
    batch = driver.claim_batch(max_items=2)
    assert (batch.more, batch.next_due) == (True, driver.clock.now())
    batch = driver.claim_batch(max_items=1)
    assert (batch.more, batch.next_due) == (False, driver.clock.now() + LEASE_MS)

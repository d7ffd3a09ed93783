"""Activities: claimed first in first out, completed once, cancelled for good."""

from __future__ import annotations

import pytest

from perdure.spi import ActivityDone, InvalidRequest, LeaseKind, Outcome
from perdure_conformance.driver import COMPLETED, LEASE_MS, Driver, activity, ids_of, message


def test_an_activity_is_claimed_with_what_it_was_scheduled_with(driver: Driver) -> None:
    driver.started(activities=[activity("t", name="n", payload=b"in", queue="q")])
    work = driver.claim_one_work(queues=["q"])
    assert (work.id, work.name, work.payload, work.queue) == ("t", "n", b"in", "q")
    assert (work.instance, work.generation, work.attempt) == ("a", driver.get().generation, 1)
    assert (work.lease.kind, work.lease.expires_at) == (LeaseKind.ACTIVITY, driver.clock.now() + LEASE_MS)


def test_a_leased_activity_is_nobody_elses_until_the_lease_expires(driver: Driver) -> None:
    driver.started(activities=[activity()])
    first = driver.claim_one_work()
    driver.wait(LEASE_MS - 1)
    batch = driver.claim_work_batch()
    assert (list(batch.items), batch.more, batch.next_due) == ([], False, first.lease.expires_at)
    driver.wait(1)
    second = driver.claim_one_work()
    assert second.attempt == 2
    assert second.lease.token != first.lease.token
    assert second.lease.fence > first.lease.fence
    assert driver.complete(first, message("stale")) is Outcome.LOST
    assert driver.renew(first.lease) == (Outcome.LOST, None)
    assert driver.release(first.lease) is Outcome.LOST
    assert driver.claim() == []
    assert driver.complete(second) is Outcome.OK


def test_first_in_first_out(driver: Driver) -> None:
    driver.started("a", activities=[activity(f"a{number}") for number in range(5)])
    driver.wait(1)
    driver.started("b", activities=[activity(f"b{number}") for number in range(5)])
    expected = [f"a{number}" for number in range(5)] + [f"b{number}" for number in range(5)]
    got = [driver.claim_one_work(max_items=1).id for _ in range(3)]
    assert got + ids_of(driver.claim_work()) == expected


def test_queues_and_names_must_both_match(driver: Driver) -> None:
    due = driver.clock.now() + 10
    driver.started(
        activities=[
            activity("1", queue="x", name="n"),
            activity("2", queue="y", name="n"),
            activity("3", queue="x", name="o"),
            activity("4", queue="z", name="o", due=due),
        ]
    )
    assert driver.claim_work(queues=[]) == driver.claim_work(names=[]) == driver.claim_work() == []
    batch = driver.claim_work_batch(queues=["z"])
    assert (list(batch.items), batch.next_due) == ([], due)
    assert driver.claim_work_batch(queues=["z"], names=["n"]).next_due is None
    assert ids_of(driver.claim_work(queues=["x", "y"], names=["n"])) == ["1", "2"]
    assert ids_of(driver.claim_work(queues=["x"], names=None)) == ["3"]


def test_a_future_activity_is_hidden_until_due(driver: Driver) -> None:
    due = driver.clock.now() + 100
    driver.started(activities=[activity(due=due)])
    assert driver.claim_work_batch().next_due == due
    driver.wait(99)
    assert driver.claim_work() == []
    driver.wait(1)
    assert ids_of(driver.claim_work()) == ["t"]


def test_completing_deletes_the_activity_and_delivers_its_message_once(driver: Driver) -> None:
    driver.started(activities=[activity()])
    work = driver.claim_one_work()
    assert driver.complete(work, message("result")) is Outcome.OK
    assert driver.complete(work, message("result2")) is Outcome.LOST
    assert driver.renew(work.lease)[0] in (Outcome.LOST, Outcome.CANCELLED)
    assert ids_of(driver.claim_one().messages) == ["result"]
    driver.wait(LEASE_MS)
    assert driver.claim_work() == []


def test_completing_without_a_message_delivers_nothing(driver: Driver) -> None:
    driver.started(activities=[activity()])
    assert driver.complete(driver.claim_one_work()) is Outcome.OK
    assert driver.claim() == []


def test_a_result_that_nobody_can_take_is_dropped(driver: Driver) -> None:
    driver.started(activities=[activity()])
    assert driver.complete(driver.claim_one_work(), message("r", "nobody")) is Outcome.OK


def test_an_expired_lease_that_nobody_took_still_completes(driver: Driver) -> None:
    driver.started(activities=[activity()])
    work = driver.claim_one_work()
    driver.wait(10 * LEASE_MS)
    assert driver.complete(work) is Outcome.OK


def test_a_cancelled_activity_in_flight_is_told_so(driver: Driver) -> None:
    driver.started("b", activities=[activity("t")])
    driver.started("a", activities=[activity("t")])
    work = {item.instance: item for item in driver.claim_work()}
    driver.send()
    driver.turn(cancel_activities=["t"])
    assert driver.renew(work["a"].lease) == (Outcome.CANCELLED, None)
    assert driver.complete(work["a"], message("r")) is Outcome.LOST
    assert driver.release(work["a"].lease) is Outcome.LOST
    assert driver.claim() == []
    assert driver.complete(work["b"]) is Outcome.OK


def test_a_known_id_is_the_same_activity(driver: Driver) -> None:
    driver.started(activities=[activity("t", payload=b"1"), activity("t", payload=b"2")])
    driver.send()
    driver.turn(activities=[activity("t", payload=b"3")])
    assert driver.claim_one_work().payload == b"1"


def test_an_id_may_be_scheduled_anew_once_it_is_done(driver: Driver) -> None:
    driver.started(activities=[activity("t")])
    old = driver.claim_one_work()
    driver.complete(old, message("r1"))
    driver.turn(activities=[activity("t")])
    assert driver.complete(old) is Outcome.LOST
    assert driver.claim_one_work().attempt == 1


def test_release_hides_an_activity_and_counts_or_not(driver: Driver) -> None:
    driver.started(activities=[activity()])
    assert driver.release(driver.claim_one_work().lease, delay_ms=100) is Outcome.OK
    assert driver.claim_work_batch().next_due == driver.clock.now() + 100
    driver.wait(100)
    work = driver.claim_one_work()
    assert work.attempt == 2
    driver.release(work.lease, penalize=False)
    work = driver.claim_one_work()
    assert work.attempt == 2
    driver.release(work.lease, penalize=False)
    driver.release(driver.claim_one_work().lease, penalize=False)
    assert driver.claim_one_work().attempt == 2


def test_renew_lengthens_an_activity_lease(driver: Driver) -> None:
    driver.started(activities=[activity()])
    work = driver.claim_one_work()
    driver.wait(LEASE_MS)
    outcome, lease = driver.renew(work.lease)
    assert outcome is Outcome.OK
    assert lease is not None
    assert lease.expires_at == driver.clock.now() + LEASE_MS
    driver.wait(LEASE_MS - 1)
    assert driver.claim_work() == []
    assert driver.complete(work) is Outcome.OK


def test_the_end_of_an_instance_takes_its_activities_alone(driver: Driver) -> None:
    driver.started("b", activities=[activity()])
    driver.started("a", activities=[activity()])
    driver.send()
    driver.turn(status=COMPLETED)
    assert [work.instance for work in driver.claim_work()] == ["b"]


def test_many_activities_are_each_claimed_once(driver: Driver) -> None:
    driver.started(activities=[activity(f"t{number}") for number in range(1000)])
    batches = [driver.claim_work_batch(max_items=300) for _ in range(4)]
    assert [len(batch.items) for batch in batches] == [300, 300, 300, 100]
    assert [batch.more for batch in batches] == [True, True, True, False]
    claimed = [id for batch in batches for id in ids_of(batch.items)]  # noqa: A001
    assert claimed == [f"t{number}" for number in range(1000)]


def test_outcomes_stand_in_the_order_asked(driver: Driver) -> None:
    driver.started(activities=[activity("1"), activity("2"), activity("3")])
    one, two, three = driver.claim_work()
    driver.release(two.lease)
    done = [ActivityDone(lease=work.lease, message=message(work.id)) for work in (three, two, one, three)]
    assert driver.hub.complete_activities(done) == [Outcome.OK, Outcome.LOST, Outcome.OK, Outcome.LOST]
    assert ids_of(driver.claim_one().messages) == ["3", "1"]


def test_max_items_may_be_nothing_or_huge_but_not_negative(driver: Driver) -> None:
    driver.started(activities=[activity()])
    assert driver.claim_work(max_items=0) == []
    for request in ({"max_items": -1}, {"lease_ms": 0}):
        with pytest.raises(InvalidRequest):
            driver.claim_work(**request)
    assert len(driver.claim_work(max_items=10**9)) == 1

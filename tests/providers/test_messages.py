"""Messages: ordered, never lost, delivered once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.providers.conftest import provider_class

from perdure.spi import (
    ActivityDone,
    BadId,
    ManualClock,
    NextExecution,
    OrchestrationStatus,
    Outcome,
    Provider,
    Transient,
)
from perdure_conformance.driver import ENDED, LEASE_MS, Driver, activity, ids_of, message


def test_a_message_is_delivered_with_its_times(driver: Driver) -> None:
    driver.started()
    driver.wait(5)
    sent_at = driver.clock.now()
    assert driver.send("m", payload=b"p") == [Outcome.OK]
    driver.wait(5)
    (delivery,) = driver.claim_one().messages
    assert (delivery.id, delivery.payload, delivery.control) == ("m", b"p", False)
    assert delivery.due == delivery.enqueued_at == sent_at


def test_outcomes_stand_in_the_order_asked(driver: Driver) -> None:
    driver.ended("ended")
    driver.started("a")
    generation = driver.get().generation
    sent = [
        message("m", "nobody"),
        message("m", "a"),
        message("m", "ended"),
        message("m", "a"),
        message("n", "a", generation="other"),
        message("n", "a", generation=generation),
        message("m", "ended", generation="other"),
    ]
    ok, duplicate, unknown, ended = Outcome.OK, Outcome.DUPLICATE, Outcome.NOT_FOUND, Outcome.TERMINAL
    assert driver.hub.send_messages(sent) == [unknown, ok, ended, duplicate, unknown, ok, unknown]
    assert ids_of(driver.claim_one().messages) == ["m", "n"]


def test_of_several_refusals_the_first_is_told(driver: Driver) -> None:
    driver.started()
    driver.send("m")
    driver.turn(status=OrchestrationStatus.COMPLETED)
    assert driver.send("m", generation="other") == [Outcome.NOT_FOUND]
    assert driver.send("m") == [Outcome.TERMINAL]
    assert driver.send("m", reopen=ENDED) == [Outcome.DUPLICATE]


def test_a_full_inbox_refuses_clients_alone(scheme: str, url: str, clock: ManualClock) -> None:
    given = provider_class(scheme)(url, clock=clock).limits
    small = type("Small", (provider_class(scheme),), {"limits": replace(given, max_pending=2)})  # type: ignore[arg-type]
    with small(url, clock=clock) as provider:
        provider.create_hub("h")
        driver = Driver(provider.hub("h"), clock)
        driver.started(activities=[activity()], messages=[message("1"), message("2"), message("3")])
        driver.complete(driver.claim_one_work(), message("4"))
        with pytest.raises(Transient):
            driver.send("5")
        assert ids_of(driver.turn().messages) == ["1", "2", "3", "4"]
        with pytest.raises(Transient):
            driver.send("5", "6", "7")
        assert driver.send("5", "6") == [Outcome.OK, Outcome.OK]


def test_messages_keep_the_order_of_arrival(driver: Driver) -> None:
    driver.started()
    names = [f"m{number % 7}-{number}" for number in range(1000)]
    driver.send(*names[:500])
    for name in names[500:520]:
        driver.send(name)
    driver.wait(1)
    driver.send(*names[520:])
    assert ids_of(driver.claim_one().messages) == names


def test_a_clock_that_jumps_back_reorders_nothing(driver: Driver) -> None:
    driver.started()
    driver.send("m1")
    first = driver.clock.now()
    driver.wait(-5000)
    driver.send("m2")
    assert driver.claim() == []
    driver.wait(5000)
    messages = driver.claim_one().messages
    assert ids_of(messages) == ["m1", "m2"]
    assert [delivery.due for delivery in messages] == [first, first]


def test_a_pending_id_is_a_duplicate_and_the_first_wins(driver: Driver) -> None:
    driver.started()
    assert driver.send("m", payload=b"1") == [Outcome.OK]
    assert driver.send("m", payload=b"2") == [Outcome.DUPLICATE]
    assert [delivery.payload for delivery in driver.claim_one().messages] == [b"1"]


def test_a_consumed_client_id_is_remembered_for_a_while(provider: Provider, driver: Driver) -> None:
    driver.started()
    driver.send("m")
    driver.turn()
    driver.wait(provider.limits.dedupe_ms - 1)
    driver.hub.pump()
    assert driver.send("m") == [Outcome.DUPLICATE]
    assert driver.claim() == []
    driver.wait(1)
    assert driver.send("m") == [Outcome.OK]
    assert ids_of(driver.claim_one().messages) == ["m"]


def test_an_id_is_one_message_in_each_instance(driver: Driver) -> None:
    driver.started("a")
    driver.started("b")
    assert driver.hub.send_messages([message("m", "a"), message("m", "b")]) == [Outcome.OK, Outcome.OK]
    assert len(driver.claim()) == 2


def test_what_arrives_under_a_lease_waits_for_its_end(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    driver.send("m")
    assert driver.claim() == []
    driver.commit(item)
    item = driver.claim_one()
    assert ids_of(item.messages) == ["m"]
    driver.send("n")
    driver.release(item.lease)
    assert ids_of(driver.claim_one().messages) == ["m", "n"]


def test_max_messages_cuts_a_prefix(driver: Driver) -> None:
    driver.started()
    driver.send("m1", "m2", "m3")
    item = driver.claim_one(max_messages=2)
    assert ids_of(item.messages) == ["m1", "m2"]
    driver.commit(item)
    assert ids_of(driver.claim_one(max_messages=2).messages) == ["m3"]


def test_a_message_of_another_generation_finds_nobody(driver: Driver) -> None:
    driver.create("a", generation="g1")
    driver.turn()
    assert driver.send("m", generation="g2") == [Outcome.NOT_FOUND]
    assert driver.send("m", generation="g1") == [Outcome.OK]


def test_a_message_to_itself_comes_with_the_next_claim(driver: Driver) -> None:
    driver.started(messages=[message("self")])
    assert ids_of(driver.claim_one().messages) == ["self"]


def test_messages_of_commits_and_completions_with_a_pending_id_are_dropped(driver: Driver) -> None:
    driver.started("b", activities=[activity()], messages=[message("m", "b", payload=b"1")])
    driver.started("a", messages=[message("m", "b", payload=b"2")])
    driver.complete(driver.claim_one_work(), message("m", "b", payload=b"3"))
    assert [delivery.payload for delivery in driver.claim_one().messages] == [b"1"]


def test_unconsumed_messages_cross_to_the_next_execution(driver: Driver) -> None:
    driver.started()
    due = driver.clock.now() + 10
    driver.send("m1", "m2")
    driver.send("timer", due=due)
    driver.turn(consumed=["m1"], continued=NextExecution(events=[]))
    driver.wait(10)
    assert ids_of(driver.claim_one().messages) == ["m2", "timer"]


def test_many_children_reach_one_parent(driver: Driver) -> None:
    driver.started("parent")
    names = [f"c{number}" for number in range(500)]
    driver.create(*names)
    items = driver.claim(max_items=1000)
    for item in items:
        driver.commit(item, messages=[message(f"done-{item.instance}", "parent")])
    assert set(ids_of(driver.claim_one().messages)) == {f"done-{name}" for name in names}


def test_an_empty_payload_stays_empty(driver: Driver) -> None:
    driver.started()
    driver.send("m", payload=b"")
    assert driver.claim_one().messages[0].payload == b""


def test_many_results_come_in_the_order_of_completion(driver: Driver) -> None:
    driver.started(activities=[activity(f"t{number}") for number in range(100)])
    work = driver.claim_work()
    done = [ActivityDone(lease=item.lease, message=message(item.id)) for item in reversed(work)]
    assert set(driver.hub.complete_activities(done)) == {Outcome.OK}
    assert ids_of(driver.claim_one().messages) == [item.id for item in reversed(work)]


def test_nobody_can_send_a_start(driver: Driver) -> None:
    driver.started()
    with pytest.raises(BadId):
        driver.send("@start")


@pytest.mark.parametrize("fields", [{"control": True}, {"due": 1}])
def test_kinds_of_messages_round_trip(driver: Driver, fields: dict[str, Any]) -> None:
    driver.started()
    driver.send("m", **fields)
    (delivery,) = driver.claim_one().messages
    assert {name: getattr(delivery, name) for name in fields} == fields


def test_ten_thousand_pending_messages_are_consumed_in_seconds(driver: Driver) -> None:
    driver.started()
    for start in range(0, 10_000, 1000):
        driver.send(*(f"m{number}" for number in range(start, start + 1000)))
    got: list[str] = []
    while len(got) < 10_000:
        item = driver.claim_one(max_messages=1000, lease_ms=LEASE_MS)
        got += ids_of(item.messages)
        driver.commit(item)
    assert got == [f"m{number}" for number in range(10_000)]

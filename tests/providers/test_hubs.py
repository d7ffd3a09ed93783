"""Hubs: created, listed, deleted, and isolated in every respect."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.providers.conftest import provider_class

from perdure.spi import (
    BadId,
    Closed,
    Hub,
    InstanceQuery,
    InvalidRequest,
    ManualClock,
    NotFound,
    Outcome,
    Provider,
)
from perdure_conformance.driver import Driver, activity, ids_of, message, new_instance

STRANGE = ["h", "h1", "h_1", "H", "h%", "select", "a.b", "it's", 'q"q', "ü", " h", "x" * 64, "😀" * 64]


def test_hubs_are_created_once_listed_and_deleted(provider: Provider) -> None:
    assert provider.list_hubs() == []
    for name in STRANGE:
        assert provider.create_hub(name) is Outcome.OK
        assert provider.create_hub(name) is Outcome.EXISTS
    assert provider.list_hubs() == sorted(STRANGE, key=str.encode)
    assert provider.delete_hub("h") is Outcome.OK
    assert provider.delete_hub("h") is Outcome.NOT_FOUND
    assert provider.list_hubs() == sorted(set(STRANGE) - {"h"}, key=str.encode)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\0b", "\ud800"])
def test_malformed_names_are_refused(provider: Provider, name: str) -> None:
    with pytest.raises(BadId):
        provider.create_hub(name)


def pair(provider: Provider, clock: ManualClock) -> tuple[Driver, Driver]:
    """Return two hubs whose names begin alike."""
    for name in ("h", "h1"):
        provider.create_hub(name)
    return Driver(provider.hub("h"), clock), Driver(provider.hub("h1"), clock)


def test_the_same_ids_in_two_hubs_are_independent(provider: Provider, clock: ManualClock) -> None:
    one, two = pair(provider, clock)
    for driver, payload in ((one, b"1"), (two, b"2")):
        driver.started("a", events=[payload], activities=[activity("t", payload=payload)])
        driver.send("m", payload=payload)
    for driver, payload in ((one, b"1"), (two, b"2")):
        assert driver.history() == [payload]
        assert [work.payload for work in driver.claim_work()] == [payload]
        assert [delivery.payload for delivery in driver.claim_one().messages] == [payload]


def test_nothing_of_one_hub_shows_in_another(provider: Provider, clock: ManualClock) -> None:
    one, two = pair(provider, clock)
    one.started("a", activities=[activity()])
    one.ended("b")
    one.create("c", due=clock.now() + 10)
    one.send("m")
    assert (two.claim(), two.claim_work(), two.find()) == ([], [], [])
    assert two.claim_batch().next_due is two.claim_work_batch().next_due is None
    stats = two.hub.stats()
    assert (sum(stats.instances.values()), stats.turns.ready, stats.activities.ready) == (0, 0, 0)
    assert two.send("m") == [Outcome.NOT_FOUND]
    assert two.purge("b").outcomes == [Outcome.NOT_FOUND]
    assert two.purge(query=InstanceQuery(), force=True).deleted == 0
    assert len(one.find()) == 3


def test_a_lease_is_lost_in_another_hub(provider: Provider, clock: ManualClock) -> None:
    one, two = pair(provider, clock)
    for driver in (one, two):
        driver.started("a", activities=[activity()])
        driver.send()
    item, work = one.claim_one(), one.claim_one_work()
    two.claim(), two.claim_work()
    assert two.commit(item, events=[b"x"]) is Outcome.LOST
    assert two.renew(item.lease) == (Outcome.LOST, None)
    assert two.release(item.lease) is two.release(work.lease) is two.complete(work) is Outcome.LOST
    assert two.renew(work.lease)[0] in (Outcome.LOST, Outcome.CANCELLED)
    assert one.commit(item) is one.complete(work) is Outcome.OK


def test_deleting_a_hub_takes_everything_of_it_and_nothing_of_others(provider: Provider, clock: ManualClock) -> None:
    one, two = pair(provider, clock)
    for driver in (one, two):
        driver.started("a", activities=[activity()])
        driver.send()
    item = one.claim_one()
    assert provider.delete_hub("h") is Outcome.OK
    with pytest.raises(NotFound):
        one.find()
    assert provider.create_hub("h") is Outcome.OK
    assert (one.find(), one.claim_work()) == ([], [])
    assert one.commit(item) is Outcome.LOST
    one.create("a")
    assert one.commit(item) is Outcome.LOST
    assert (two.find(), len(two.claim()), len(two.claim_work())) == (["a"], 1, 1)


CALLS: list[Callable[[Driver], object]] = [
    lambda driver: driver.hub.now(),
    lambda driver: driver.claim(),
    lambda driver: driver.claim_work(),
    lambda driver: driver.hub.create_instances([new_instance()]),
    lambda driver: driver.hub.send_messages([message()]),
    lambda driver: driver.hub.get_instances(["a"]),
    lambda driver: driver.find(),
    lambda driver: driver.hub.read_history("a"),
    lambda driver: driver.hub.stats(),
    lambda driver: driver.purge("a"),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_hub_that_does_not_exist_is_not_found(
    provider: Provider, clock: ManualClock, call: Callable[[Driver], object]
) -> None:
    driver = Driver(provider.hub("nowhere"), clock)
    with pytest.raises(NotFound):
        call(driver)


@pytest.mark.parametrize("call", CALLS)
def test_use_after_close_is_refused(provider: Provider, driver: Driver, call: Callable[[Driver], object]) -> None:
    provider.close()
    provider.close()
    with pytest.raises(Closed):
        call(driver)


def test_use_before_open_is_refused(scheme: str, url: str) -> None:
    provider = provider_class(scheme)(url)
    for call in (provider.list_hubs, lambda: provider.create_hub("x"), lambda: provider.hub("x").now()):
        with pytest.raises(Closed):
            call()
    provider.close()
    with pytest.raises(Closed):
        provider.open()


def test_a_closed_provider_stays_closed(provider: Provider) -> None:
    provider.open()
    provider.close()
    for call in (provider.open, provider.list_hubs, lambda: provider.create_hub("x"), lambda: provider.delete_hub("x")):
        with pytest.raises(Closed):
            call()


def test_closing_one_handle_leaves_the_other_and_the_store(connect: Callable[[], Provider], clock: ManualClock) -> None:
    first, second = connect(), connect()
    first.create_hub("h")
    one, two = Driver(first.hub("h"), clock), Driver(second.hub("h"), clock)
    one.create("a")
    item = one.claim_one()
    assert two.claim() == []
    first.close()
    assert two.commit(item, events=[b"e"], messages=[message("self")]) is Outcome.OK
    second.close()
    third = Driver(connect().hub("h"), clock)
    assert third.history() == [b"e"]
    assert ids_of(third.claim_one().messages) == ["self"]


def test_leases_timers_attempts_and_cursors_outlive_a_reopening(
    connect: Callable[[], Provider], clock: ManualClock
) -> None:
    provider = connect()
    provider.create_hub("h")
    driver = Driver(provider.hub("h"), clock)
    driver.started("a", messages=[message("timer", due=clock.now() + 50_000)], activities=[activity()])
    driver.create("b")
    driver.claim_one()
    work = driver.claim_one_work()
    page = driver.hub.query_instances(InstanceQuery(page_size=1))
    provider.close()
    driver = Driver(connect().hub("h"), clock)
    assert ids_of(driver.hub.query_instances(InstanceQuery(cursor=page.cursor)).items) == ["b"]
    assert (driver.claim(), driver.claim_work()) == ([], [])
    assert driver.renew(work.lease)[0] is Outcome.OK
    driver.wait(50_000)
    assert {item.instance: item.attempt for item in driver.claim()} == {"a": 1, "b": 2}
    assert driver.claim_one_work().attempt == 2


def test_what_a_provider_is_does_not_change(connect: Callable[[], Provider], scheme: str) -> None:
    one, two = connect(), connect()
    assert one.SPI == (0, 1)
    assert one.name == two.name == scheme
    assert one.version == two.version
    assert one.capabilities == two.capabilities
    assert one.limits == two.limits
    assert one.limits.dedupe_ms >= 600_000
    assert one.schema_status().state == "ok"
    assert one.migrate(dry_run=True) == []


def test_an_unknown_parameter_of_ours_is_refused(scheme: str, url: str) -> None:
    with pytest.raises(InvalidRequest, match="op_nonsense"):
        provider_class(scheme)(f"{url}?op_nonsense=1")


def test_a_handle_costs_nothing_until_it_is_used(provider: Provider) -> None:
    hub: Hub = provider.hub("later")
    assert hub.name == "later"
    provider.create_hub("later")
    assert hub.get_instances(["a"]) == [None]

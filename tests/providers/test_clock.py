"""Time: one clock, which may jump; safety never rests on it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from perdure.spi import ManualClock, Outcome, Provider
from perdure_conformance.driver import LEASE_MS, Driver, activity, ids_of, message

HOUR_MS = 3_600_000


def test_the_injected_clock_is_the_only_one(driver: Driver) -> None:
    driver.create()
    item = driver.claim_one(lease_ms=1)
    time.sleep(0.005)
    assert driver.claim() == []
    assert driver.hub.now() == driver.clock.now() == driver.get().updated_at
    driver.wait(1)
    assert driver.claim_one().lease.token != item.lease.token


def test_without_an_injected_clock_time_is_real(connect: Callable[[None], Provider]) -> None:
    provider = connect(None)
    provider.create_hub("h")
    assert abs(provider.hub("h").now() - time.time() * 1000) < 60_000


def test_a_jump_forward_expires_leases_and_fires_timers(driver: Driver) -> None:
    driver.started(activities=[activity()], messages=[message("timer", due=driver.clock.now() + HOUR_MS)])
    driver.claim_one_work()
    driver.wait(24 * HOUR_MS)
    assert driver.claim_one_work().attempt == 2
    assert ids_of(driver.claim_one().messages) == ["timer"]


def test_a_jump_back_breaks_nothing(driver: Driver) -> None:
    driver.create()
    driver.turn(messages=[message("timer", due=driver.clock.now() + 10)])
    driver.wait(10)
    item = driver.claim_one()
    before = driver.get()
    driver.wait(-HOUR_MS)
    assert driver.claim() == []
    assert driver.commit(item) is Outcome.OK
    after = driver.get()
    assert after.rev > before.rev
    assert after.updated_at >= before.updated_at
    driver.wait(2 * HOUR_MS)
    assert driver.claim() == []


@pytest.mark.parametrize("lease_ms", [1, 7 * 24 * HOUR_MS])
def test_short_and_long_leases_are_honoured(driver: Driver, lease_ms: int) -> None:
    driver.create()
    driver.claim_one(lease_ms=lease_ms)
    driver.wait(lease_ms - 1)
    assert driver.claim() == []
    driver.wait(1)
    assert len(driver.claim()) == 1


@pytest.mark.parametrize("now", [1, 2**31 - 1, 2**31, 2**31 + 1, 253_402_300_799_000])
def test_any_time_of_day_will_do(driver: Driver, clock: ManualClock, now: int) -> None:
    clock.set(now)
    driver.create()
    info = driver.get()
    assert info.created_at == now
    item = driver.claim_one()
    assert item.lease.expires_at == now + LEASE_MS
    driver.wait(LEASE_MS)
    assert driver.claim_one().attempt == 2


def test_handles_with_skewed_clocks_exclude_each_other(
    connect: Callable[[ManualClock], Provider], clock: ManualClock
) -> None:
    ahead = ManualClock(clock.now() + 300_000)
    first, second = connect(clock), connect(ahead)
    first.create_hub("h")
    slow, fast = Driver(first.hub("h"), clock), Driver(second.hub("h"), ahead)
    slow.create()
    robbed = slow.claim_one()
    thief = fast.claim_one()
    assert slow.commit(robbed, events=[b"robbed"]) is Outcome.LOST
    assert fast.commit(thief, events=[b"thief"]) is Outcome.OK
    assert slow.history() == [b"thief"]

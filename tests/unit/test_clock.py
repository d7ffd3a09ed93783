"""The clocks that come with the provider interface."""

from __future__ import annotations

import threading
import time

from perdure.spi import Clock, ManualClock, SystemClock


def test_the_system_clock_reads_milliseconds_since_the_epoch() -> None:
    before = int(time.time() * 1000)
    now = SystemClock().now()
    after = int(time.time() * 1000)
    assert type(now) is int
    assert before - 1 <= now <= after + 1


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(5)
    assert isinstance(clock, Clock)
    assert (clock.now(), clock.now()) == (5, 5)
    assert clock.advance(10) == 15
    assert clock.now() == 15
    assert clock.advance(-20) == -5
    clock.set(1_000)
    assert clock.now() == 1_000


def test_a_manual_clock_starts_at_a_date_that_people_know() -> None:
    assert ManualClock().now() == 1_700_000_000_000


def test_a_manual_clock_loses_no_step_among_threads() -> None:
    clock = ManualClock(0)

    def step() -> None:
        for _ in range(2_000):
            clock.advance(1)

    threads = [threading.Thread(target=step) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == 8_000

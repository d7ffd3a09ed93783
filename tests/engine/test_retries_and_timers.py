"""Retries and timers: months of them, in the orchestration's own time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure.activities import ActivityContext
from perdure.replay.tasks import when_any
from perdure.retry import RetryPolicy
from perdure_conformance.stage import LEASE_SECONDS, Ctx, Flow, Stage, check_history, failure_of, output_of

START = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Flaky:
    """An activity that fails a number of times."""

    def __init__(self, stage: Stage, failures: int, error: type[Exception] = ValueError) -> None:
        self.at: list[timedelta] = []
        self.start = stage.clock.now()

        def flaky(ctx: ActivityContext) -> int:
            self.at.append(timedelta(milliseconds=stage.clock.now() - self.start))
            if len(self.at) <= failures:
                raise error(f"attempt {len(self.at)}")
            return len(self.at)

        stage.activities(flaky)


def calls_flaky(policy: RetryPolicy) -> Any:
    def flow(ctx: Ctx) -> Flow:
        return (yield ctx.call_activity("flaky", retry_policy=policy))

    return flow


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        pytest.param({}, [0, 10, 20, 30], id="constant"),
        pytest.param({"backoff_coefficient": 2.0}, [0, 10, 30, 70], id="backoff"),
        pytest.param(
            {"backoff_coefficient": 2.0, "max_retry_interval": 15 * SECOND}, [0, 10, 25, 40], id="longest interval"
        ),
        pytest.param({"retry_timeout": 25 * SECOND}, [0, 10, 20], id="timeout"),
        pytest.param({"retry_timeout": 20 * SECOND}, [0, 10, 20], id="timeout at the last moment"),
        pytest.param({"max_number_of_attempts": 2}, [0, 10], id="attempts"),
        pytest.param({"max_number_of_attempts": 1}, [0], id="one attempt"),
        pytest.param({"retry_predicate": lambda failure: failure.message != "attempt 2"}, [0, 10], id="predicate"),
        pytest.param({"non_retryable_error_types": [ValueError]}, [0], id="type"),
        pytest.param({"non_retryable_error_types": [Exception]}, [0], id="base type"),
        pytest.param({"non_retryable_error_types": ["ValueError"]}, [0], id="type by name"),
        pytest.param({"non_retryable_error_types": [KeyError, "Other"]}, [0, 10, 20, 30], id="other types"),
        pytest.param({"first_retry_interval": timedelta(0)}, [0, 0, 0, 0], id="at once"),
        pytest.param({"max_retry_interval": timedelta(0)}, [0, 0, 0, 0], id="no longer than nothing"),
    ],
)
def test_every_field_of_a_retry_policy(any_stage: Stage, options: dict[str, Any], seconds: list[int]) -> None:
    flaky = Flaky(any_stage, failures=100)
    fields: dict[str, Any] = {"first_retry_interval": 10 * SECOND, "max_number_of_attempts": 4} | options
    state = any_stage.run(calls_flaky(RetryPolicy(**fields)))
    assert f"attempt {len(seconds)}" in failure_of(state).message
    assert flaky.at == [second * SECOND for second in seconds]
    check_history(any_stage, state.id)


def test_thirty_days_of_retries(any_stage: Stage) -> None:
    flaky = Flaky(any_stage, failures=30)
    policy = RetryPolicy(first_retry_interval=timedelta(days=1), max_number_of_attempts=40)
    state = any_stage.run(calls_flaky(policy))
    assert output_of(state) == 31
    assert flaky.at == [timedelta(days=day) for day in range(31)]
    assert any_stage.kinds(state.id).count("TimerFired") == 30


def test_a_retry_goes_on_after_a_crash_between_two_attempts(stage: Stage) -> None:
    flaky = Flaky(stage, failures=2)
    flow = calls_flaky(RetryPolicy(first_retry_interval=timedelta(days=1), max_number_of_attempts=3))
    stage.orchestrators(flow)
    instance = stage.start(flow)
    for _ in range(3):
        stage.drain()
        stage.crash()
        stage.advance_to_next()
    assert output_of(stage.state(instance)) == 3
    assert flaky.at == [timedelta(days=day) for day in range(3)]


def test_a_timer_of_a_month_is_neither_early_nor_recorded_twice(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.create_timer(timedelta(days=30))
        return str(ctx.current_utc_datetime)

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    any_stage.advance(timedelta(days=30) - timedelta(milliseconds=1))
    assert any_stage.kinds(instance)[-1] == "TimerCreated"
    any_stage.advance(timedelta(milliseconds=1))
    assert output_of(any_stage.state(instance)) == str(START + timedelta(days=30))
    assert any_stage.kinds(instance).count("TimerFired") == 1


@pytest.mark.parametrize(
    ("fire_at", "fires"),
    [
        (timedelta(microseconds=1), START + timedelta(milliseconds=1)),
        (START + SECOND, START + SECOND),
        ((START + SECOND).replace(tzinfo=None), START + SECOND),
        ((START + SECOND).astimezone(), START + SECOND),
        (timedelta(0), START),
        (-SECOND, START),
        (datetime(1960, 1, 1, tzinfo=UTC), START),
    ],
)
def test_when_a_timer_fires(stage: Stage, fire_at: Any, fires: datetime) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.create_timer(fire_at)
        return str(ctx.current_utc_datetime)

    assert stage.result(flow) == str(fires)


def test_timers_fire_in_the_order_of_their_times(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        order: list[int] = []
        timers = {ctx.create_timer(day * timedelta(days=1)): day for day in (3, 1, 2)}
        while timers:
            order.append(timers.pop((yield when_any(timers))))
        return order

    # Long after all of them were due, as when all workers were down.
    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    any_stage.advance(timedelta(days=10))
    assert output_of(any_stage.state(instance)) == [1, 2, 3]


def test_the_orchestrations_time_never_goes_back(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        times = [ctx.current_utc_datetime]
        for _ in range(3):
            yield ctx.wait_for_external_event("tick")
            times.append(ctx.current_utc_datetime)
        return [str(time) for time in times]

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    for jump in (5_000, -3_600_000, 3_590_000):
        any_stage.drain()
        any_stage.clock.advance(jump)
        any_stage.raise_event(instance, "tick")
    any_stage.clock.advance(3_600_000)
    any_stage.drain()
    times = output_of(any_stage.state(instance))
    assert times == sorted(times)
    check_history(any_stage, instance)


def test_a_clock_that_jumps_back_between_two_turns(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        before = ctx.current_utc_datetime
        yield ctx.create_timer(timedelta(hours=-2))
        return ctx.current_utc_datetime >= before

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.round()
    any_stage.clock.advance(-3_600_000)
    any_stage.drain()
    assert output_of(any_stage.state(instance)) is True
    check_history(any_stage, instance)


def test_a_start_at_a_time_to_come(stage: Stage) -> None:
    instance = stage.start("child", 1, start_at=timedelta(days=7))
    stage.drain()
    stage.advance(timedelta(days=7) - timedelta(milliseconds=1))
    assert stage.kinds(instance) == []
    stage.advance(timedelta(milliseconds=1))
    assert output_of(stage.state(instance)) == 1


def test_a_lease_that_ran_out_in_virtual_time(stage: Stage) -> None:
    instance = stage.start("child", 1)
    stage.round()
    stage.crash()
    stage.drain()
    assert stage.kinds(instance) == []
    stage.advance(timedelta(seconds=LEASE_SECONDS))
    assert output_of(stage.state(instance)) == 1

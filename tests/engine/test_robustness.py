"""What user code, floods of messages and slow turns must not do to a worker."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from perdure import RetryPolicy, Transient, when_any
from perdure.replay.tasks import Task
from perdure.spi import OrchestrationStatus
from perdure_conformance.stage import LEASE_SECONDS, Ctx, FaultyHub, Flow, Stage, failure_of, output_of, waiter

MEGABYTE = 1024 * 1024


def test_more_than_a_commit_holds_may_arrive_at_once(stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        sizes = []
        for _ in range(20):
            sizes.append(len((yield ctx.wait_for_external_event("e"))))
        return sizes

    stage.orchestrators(flow)
    instance = stage.start(flow)
    for _ in range(20):
        stage.raise_event(instance, "e", "x" * (4 * MEGABYTE - 2))
    assert output_of(stage.run_to_end(instance)) == [4 * MEGABYTE - 2] * 20


def test_turns_that_eat_up_their_lease_go_back_unstarted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = 0.0
    real = time.monotonic
    monkeypatch.setattr("perdure.engine.time.monotonic", lambda: real() + ahead)
    ran = []

    def slow(ctx: Ctx) -> str:
        nonlocal ahead
        ran.append(ctx.instance_id)
        ahead += LEASE_SECONDS / 2
        return "done"

    stage.orchestrators(slow)
    ids = [stage.start(slow) for _ in range(3)]
    stage.round()
    assert len(ran) == 1
    stage.round()
    _, *others = ids
    assert [stage.status(instance) for instance in ids] == ["COMPLETED", "PENDING", "PENDING"]
    stage.drain()
    assert ran == ids
    assert {stage.status(instance) for instance in others} == {OrchestrationStatus.COMPLETED}


# Python complains itself, when the generator is collected, that it ignored its GeneratorExit.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("wait", ["event", "call"])
def test_a_bare_except_does_not_outlive_its_eviction(stage: Stage, wait: str) -> None:
    laps = 0

    def stubborn(ctx: Ctx) -> Flow:
        nonlocal laps
        task = ctx.wait_for_external_event("go")
        while True:
            laps += 1
            try:
                return (yield ctx.wait_for_external_event("go") if wait == "call" else task)
            except:  # noqa: E722 - what this is about
                continue

    stage.orchestrators(stubborn)
    stage.start(stubborn)
    stage.drain()
    stage.engine.close()
    assert laps < 1000


def test_an_eviction_does_not_wait_for_ever(stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr("perdure.live._CLOSE_SECONDS", 0.01)
    leave: list[bool] = []

    def endless(ctx: Ctx) -> Flow:
        try:
            yield ctx.wait_for_external_event("go")
        finally:
            while not leave:
                time.sleep(0.001)

    stage.orchestrators(endless)
    stage.start(endless)
    stage.drain()
    stage.engine.close()
    leave.append(True)
    assert "orchestrator 'endless' doesn't end" in caplog.text


def test_a_composite_nested_too_deep_fails_its_orchestration(stage: Stage) -> None:
    def deep(ctx: Ctx) -> Flow:
        task: Task[Any] = ctx.wait_for_external_event("go")
        for _ in range(3000):
            task = when_any([task])
        yield task

    assert failure_of(stage.run(deep)).error_type == "RecursionError"


def test_a_predicate_that_exits_fails_its_orchestration(stage: Stage) -> None:
    def leave(failure: Any) -> bool:
        raise SystemExit(3)

    def breaks(ctx: Any) -> None:
        raise ValueError

    def flow(ctx: Ctx) -> Flow:
        policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3, retry_predicate=leave)
        yield ctx.call_activity(breaks, retry_policy=policy)

    stage.activities(breaks)
    assert failure_of(stage.run(flow)).error_type == "SystemExit"


def test_a_version_that_can_not_be_stored_is_refused_at_the_call(stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.call_sub_orchestrator("waiter", version="\ud800")

    assert failure_of(stage.run(flow)).error_type == "perdure.errors.InvalidName"


def test_giving_back_ends_at_its_deadline(stage: Stage) -> None:
    hub = FaultyHub(stage.hub)
    engine = stage.add_engine(hub=hub)
    stage.start(waiter)
    stage.round()
    hub.fail = lambda name, number: ("before", Transient("busy")) if name == "exchange" else None
    before = hub.calls.count("exchange")
    engine.give_back(time.monotonic())
    assert hub.calls.count("exchange") == before + 1
    hub.fail = lambda name, number: None

"""Suspending and resuming, and terminating."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure.spi import OrchestrationStatus
from perdure_conformance.stage import Ctx, Flow, Stage, child, output_of, waiter

PENDING = OrchestrationStatus.PENDING
RUNNING = OrchestrationStatus.RUNNING
SUSPENDED = OrchestrationStatus.SUSPENDED
TERMINATED = OrchestrationStatus.TERMINATED


def collector(ctx: Ctx, count: int) -> Flow:
    """Gather events and the result of an activity in the order in which they come."""
    seen: list[Any] = []
    activity = ctx.call_activity("echo", input="result")
    seen.append((yield ctx.wait_for_external_event("e")))
    seen.append((yield activity))
    while len(seen) < count:
        seen.append((yield ctx.wait_for_external_event("e")))
    return seen


def test_what_arrives_meanwhile_is_applied_in_order_at_resume(any_stage: Stage) -> None:
    any_stage.orchestrators(collector)
    instance = any_stage.start(collector, 4)
    any_stage.runner.holds = True
    any_stage.drain()
    any_stage.suspend(instance)
    any_stage.drain()
    assert any_stage.status(instance) is SUSPENDED
    for i in range(3):
        any_stage.raise_event(instance, "e", i)
        any_stage.drain()
    any_stage.runner.release()
    any_stage.drain()
    assert any_stage.status(instance) is SUSPENDED
    assert any_stage.kinds(instance)[-2:] == ["OrchestratorStarted", "TaskCompleted"]
    any_stage.resume(instance)
    assert output_of(any_stage.run_to_end(instance)) == [0, "result", 1, 2]


def test_both_cache_paths_give_the_same_history(make_stage: Callable[..., Stage]) -> None:
    kinds = []
    for cold in (False, True):
        stage = make_stage(cold=cold)
        stage.orchestrators(collector)
        instance = stage.start(collector, 3)
        stage.drain()
        stage.suspend(instance)
        for name, value in (("E", 1), ("e", 2)):
            stage.drain()
            stage.raise_event(instance, name, value)
        stage.drain()
        stage.resume(instance)
        stage.run_to_end(instance)
        kinds.append(stage.kinds(instance))
    assert kinds[0] == kinds[1]


def test_a_timer_that_fires_meanwhile_waits_for_the_resumption(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.create_timer(timedelta(days=1))
        return ctx.current_utc_datetime.isoformat()

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    any_stage.suspend(instance)
    any_stage.advance(timedelta(days=2))
    assert any_stage.kinds(instance)[-1] == "TimerFired"
    any_stage.resume(instance)
    any_stage.advance(timedelta(days=1))
    assert output_of(any_stage.state(instance)) == "2023-11-17T22:13:20+00:00"


def test_suspended_before_its_start(any_stage: Stage) -> None:
    instance = any_stage.start(child, "hello", start_at=timedelta(hours=1))
    any_stage.suspend(instance)
    any_stage.drain()
    assert any_stage.status(instance) is SUSPENDED
    any_stage.advance(timedelta(hours=2))
    assert any_stage.status(instance) is SUSPENDED
    assert any_stage.runner.started == []
    any_stage.resume(instance)
    assert output_of(any_stage.run_to_end(instance)) == "hello"


def test_suspended_and_resumed_before_its_start(any_stage: Stage) -> None:
    instance = any_stage.start(child, "hello", start_at=timedelta(hours=1))
    any_stage.suspend(instance)
    any_stage.drain()
    any_stage.resume(instance)
    any_stage.drain()
    assert any_stage.status(instance) is PENDING
    assert output_of(any_stage.run_to_end(instance)) == "hello"


def test_suspended_with_the_start_in_one_turn(any_stage: Stage) -> None:
    instance = any_stage.start(child, "hello")
    any_stage.suspend(instance)
    any_stage.drain()
    # The start came first, so the first step was taken.
    assert (any_stage.status(instance), any_stage.runner.started) == (SUSPENDED, ["echo"])
    any_stage.resume(instance)
    assert output_of(any_stage.run_to_end(instance)) == "hello"


def test_suspended_across_a_crash(stage: Stage) -> None:
    instance = stage.start(waiter)
    stage.drain()
    stage.suspend(instance)
    stage.drain()
    stage.crash()
    stage.raise_event(instance, "go", 1)
    stage.drain()
    stage.crash()
    stage.resume(instance)
    assert output_of(stage.run_to_end(instance)) == 1


def test_a_child_goes_on_while_its_parent_is_suspended(any_stage: Stage) -> None:
    def parent(ctx: Ctx) -> Flow:
        return (yield ctx.call_sub_orchestrator("child", input=1, instance_id="kid"))

    any_stage.orchestrators(parent)
    instance = any_stage.start(parent)
    any_stage.round()
    any_stage.suspend(instance)
    any_stage.drain()
    assert any_stage.status("kid") is OrchestrationStatus.COMPLETED
    assert any_stage.status(instance) is SUSPENDED
    any_stage.resume(instance)
    assert output_of(any_stage.run_to_end(instance)) == 1


# Termination.


def test_terminated_while_it_runs(any_stage: Stage) -> None:
    instance = any_stage.start(waiter)
    any_stage.drain()
    any_stage.terminate(instance, {"because": "enough"})
    state = any_stage.run_to_end(instance)
    assert (state.status, state.output) == (TERMINATED, b'{"because":"enough"}')
    assert any_stage.kinds(instance)[-2:] == ["ExecutionTerminated", "ExecutionCompleted"]


def test_terminated_while_suspended(any_stage: Stage) -> None:
    instance = any_stage.start(waiter)
    any_stage.drain()
    any_stage.suspend(instance)
    any_stage.raise_event(instance, "go", 1)
    any_stage.drain()
    any_stage.terminate(instance)
    assert any_stage.run_to_end(instance).status is TERMINATED


@pytest.mark.parametrize("start_at", [None, timedelta(days=1)])
def test_terminated_before_it_ran(stage: Stage, start_at: timedelta | None) -> None:
    instance = stage.start(child, 1, start_at=start_at)
    stage.terminate(instance)
    stage.drain()
    assert stage.status(instance) is TERMINATED
    assert stage.runner.started == []
    assert not stage.advance_to_next()


def test_what_was_running_is_dropped(stage: Stage) -> None:
    instance = stage.start(child, 1)
    stage.runner.holds = True
    stage.drain()
    stage.terminate(instance)
    stage.drain()
    stage.runner.release()
    stage.drain()
    assert stage.kinds(instance)[-1] == "ExecutionCompleted"
    assert stage.hub.stats().activities.leased == 0


def family(ctx: Ctx, depth: int) -> Flow:
    if depth:
        yield ctx.call_sub_orchestrator("family", input=depth - 1, instance_id=f"{ctx.instance_id}.{depth - 1}")
    yield ctx.wait_for_external_event("never")


@pytest.mark.parametrize("recursive", [True, False])
def test_children_go_with_their_parent_or_stay(any_stage: Stage, recursive: bool) -> None:
    any_stage.orchestrators(family)
    instance = any_stage.start(family, 2, instance="f")
    any_stage.drain()
    any_stage.terminate(instance, recursive=recursive)
    any_stage.drain()
    statuses = [any_stage.status(name) for name in ("f", "f.1", "f.1.0")]
    assert statuses == [TERMINATED, *[TERMINATED if recursive else RUNNING] * 2]


def test_a_terminated_child_fails_its_parents_task(any_stage: Stage) -> None:
    def parent(ctx: Ctx) -> Flow:
        try:
            yield ctx.call_sub_orchestrator("waiter", instance_id="kid")
        except Exception as error:
            return str(error)

    any_stage.orchestrators(parent)
    instance = any_stage.start(parent)
    any_stage.drain()
    any_stage.terminate("kid")
    assert "instance 'kid' was terminated" in output_of(any_stage.run_to_end(instance))


def test_a_termination_ends_what_comes_before_it_in_the_same_turn(any_stage: Stage) -> None:
    """No code runs in that turn, so that nothing new is started only to be thrown away."""
    instance = any_stage.start(child, 1)
    any_stage.terminate(instance)
    any_stage.drain()
    assert any_stage.kinds(instance) == [
        "OrchestratorStarted",
        "ExecutionStarted",
        "ExecutionTerminated",
        "ExecutionCompleted",
    ]

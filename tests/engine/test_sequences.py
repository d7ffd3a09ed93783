"""Activities one after another and side by side."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.activities import ActivityContext
from perdure.replay.tasks import when_all, when_any
from perdure_conformance.stage import Ctx, Flow, Stage, output_of


def sequence(ctx: Ctx, steps: int) -> Flow:
    value = 0
    for _ in range(steps):
        value = yield ctx.call_activity("add_one", input=value)
    return value


async def async_sequence(ctx: Ctx, steps: int) -> int:
    value = 0
    for _ in range(steps):
        value = await ctx.call_activity("add_one", input=value)
    return value


def fan_out(ctx: Ctx, width: int) -> Flow:
    return (yield when_all([ctx.call_activity("echo", input=i) for i in range(width)]))


@pytest.mark.parametrize("orchestrator", [sequence, async_sequence])
def test_each_step_gets_the_result_of_the_last(any_stage: Stage, orchestrator: Any) -> None:
    state = any_stage.run(orchestrator, 5)
    assert output_of(state) == 5
    assert any_stage.kinds(state.id) == [
        "OrchestratorStarted",
        "ExecutionStarted",
        "TaskScheduled",
        *["OrchestratorStarted", "TaskCompleted", "TaskScheduled"] * 4,
        "OrchestratorStarted",
        "TaskCompleted",
        "ExecutionCompleted",
    ]


def test_a_fan_out_gathers_results_in_the_order_asked(any_stage: Stage) -> None:
    assert any_stage.result(fan_out, 50) == list(range(50))


def test_a_fan_out_of_a_thousand(stage: Stage) -> None:
    state = stage.run(fan_out, 1000)
    assert output_of(state) == list(range(1000))
    assert stage.runner.started == ["echo"] * 1000


def test_when_any_gives_the_first_that_is_complete(any_stage: Stage) -> None:
    def race(ctx: Ctx) -> Flow:
        slow = ctx.wait_for_external_event("never")
        fast = ctx.call_activity("echo", input="fast")
        winner = yield when_any([slow, fast])
        return [winner is fast, winner.get_result()]

    assert any_stage.result(race) == [True, "fast"]


def test_activities_are_called_by_function_too(stage: Stage) -> None:
    def double(ctx: ActivityContext, value: int) -> int:
        return value * 2

    def flow(ctx: Ctx, value: int) -> Flow:
        return (yield ctx.call_activity(double, input=value))

    stage.activities(double)
    assert stage.result(flow, 21) == 42


def test_an_async_activity(stage: Stage) -> None:
    async def double(ctx: ActivityContext, value: int) -> int:
        return value * 2

    def flow(ctx: Ctx, value: int) -> Flow:
        return (yield ctx.call_activity("double", input=value))

    stage.activities(double)
    assert stage.result(flow, 21) == 42


def test_an_activity_knows_its_call(stage: Stage) -> None:
    def who(ctx: ActivityContext) -> list[Any]:
        return [ctx.orchestration_id, ctx.task_id, ctx.name, ctx.attempt, ctx.is_cancelled]

    def flow(ctx: Ctx) -> Flow:
        first = yield ctx.call_activity("who")
        return [first, (yield ctx.call_activity("who"))]

    stage.activities(who)
    assert stage.result(flow, instance="x") == [["x", 0, "who", 1, False], ["x", 1, "who", 1, False]]

"""Continue-as-new: what crosses over to the next execution, and what does not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure.spi import OrchestrationStatus
from perdure_conformance.stage import Ctx, Flow, Stage, check_history, failure_of, output_of


def counter(ctx: Ctx, left: int) -> Flow:
    yield ctx.call_activity("echo")
    if left:
        ctx.continue_as_new(left - 1)
        return None
    return ctx.instance_id


def test_a_thousand_times_with_constant_storage(stage: Stage) -> None:
    stage.orchestrators(counter)
    instance = stage.start(counter, 1000)
    sizes: set[int] = set()
    execution_ids: dict[int, str] = {}
    while not (state := stage.state(instance)).status.is_terminal:
        if state.next_seq:
            execution_ids.setdefault(state.execution, stage.execution_id(instance))
        sizes.add(state.next_seq)
        stage.round()
    assert state.execution == len(set(execution_ids.values())) == 1001
    assert max(sizes) <= 6
    assert stage.hub.stats().turns.ready == 0
    check_history(stage, instance)


def test_without_a_wait_in_between(stage: Stage) -> None:
    def flow(ctx: Ctx, left: int) -> Any:
        if left:
            ctx.continue_as_new(left - 1)
        return left

    state = stage.run(flow, 100)
    assert (output_of(state), state.execution) == (0, 101)


@pytest.mark.parametrize("save_events", [True, False])
def test_events_that_nobody_took_cross_over_in_order_or_are_dropped(any_stage: Stage, save_events: bool) -> None:
    def flow(ctx: Ctx, lap: int) -> Flow:
        if lap == 1:
            yield ctx.wait_for_external_event("next")
            ctx.continue_as_new(2, save_events=save_events)
            return None
        got = []
        for _ in range(3):
            got.append((yield ctx.wait_for_external_event("e", timeout=60)))
        return got

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow, 1)
    any_stage.drain()
    for value in (1, 2):
        any_stage.raise_event(instance, "e", value)
    any_stage.drain()
    any_stage.raise_event(instance, "next")
    any_stage.raise_event(instance, "e", 3)
    state = any_stage.run_to_end(instance)
    if save_events:
        assert output_of(state) == [1, 2, 3]
    else:
        assert failure_of(state).error_type == "TimeoutError"


def test_events_cross_executions_that_do_not_look_at_them(any_stage: Stage) -> None:
    def flow(ctx: Ctx, lap: int) -> Flow:
        if lap == 1:
            yield ctx.wait_for_external_event("next")
        if lap < 5:
            ctx.continue_as_new(lap + 1)
            return None
        return [(yield ctx.wait_for_external_event("e")), (yield ctx.wait_for_external_event("e"))]

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow, 1)
    for name, value in (("e", 1), ("e", 2), ("next", None)):
        any_stage.raise_event(instance, name, value)
    any_stage.drain()
    assert output_of(any_stage.state(instance)) == [1, 2]


def test_events_held_back_by_a_suspension_are_not_lost(any_stage: Stage) -> None:
    def flow(ctx: Ctx, got: list[int]) -> Flow:
        got = [*got, (yield ctx.wait_for_external_event("e"))]
        if len(got) < 4:
            ctx.continue_as_new(got)
        return got

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow, [])
    any_stage.drain()
    any_stage.suspend(instance)
    for value in range(4):
        any_stage.raise_event(instance, "e", value)
        any_stage.drain()
    any_stage.resume(instance)
    any_stage.drain()
    assert output_of(any_stage.state(instance)) == [0, 1, 2, 3]


def test_a_stream_of_events_loses_and_reorders_nothing(any_stage: Stage) -> None:
    def flow(ctx: Ctx, got: list[int]) -> Flow:
        got = [*got, (yield ctx.wait_for_external_event("e"))]
        if len(got) == 40:
            return got
        ctx.continue_as_new(got)

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow, [])
    for value in range(40):
        any_stage.raise_event(instance, "e", value)
        if value % 3 == 0:
            any_stage.round()
        if value % 7 == 0:
            any_stage.crash()
    assert output_of(any_stage.run_to_end(instance)) == list(range(40))


def test_timers_activities_and_children_stay_behind(any_stage: Stage) -> None:
    def flow(ctx: Ctx, lap: int) -> Flow:
        if lap == 1:
            ctx.create_timer(timedelta(hours=1))
            ctx.call_activity("echo", input="of the first lap")
            ctx.call_sub_orchestrator("waiter", instance_id="kid")
            yield ctx.wait_for_external_event("next")
            ctx.continue_as_new(2)
            return None
        # The same numbers as in the first lap.
        timer = ctx.create_timer(timedelta(days=1))
        activity = yield ctx.call_activity("echo", input="of the second lap")
        own = ctx.call_sub_orchestrator("child", input="own")
        yield timer
        return [activity, (yield own)]

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow, 1)
    any_stage.runner.holds = True
    any_stage.drain()
    any_stage.raise_event(instance, "next")
    any_stage.drain()
    assert any_stage.hub.stats().activities.leased == 1, "that of the first lap is still there"
    any_stage.runner.holds = False
    any_stage.runner.release()
    any_stage.raise_event("kid", "go", "of the first lap")
    state = any_stage.run_to_end(instance)
    assert output_of(state) == ["of the second lap", "own"]
    assert state.completed_at == state.created_at + 86_400_000
    check_history(any_stage, instance)


def test_what_is_decided_in_the_last_turn_does_not_run(any_stage: Stage) -> None:
    def flow(ctx: Ctx, lap: int) -> Flow:
        if lap == 2:
            return (yield ctx.wait_for_external_event("end", timeout=3600))
        ctx.call_activity("add_one", input=1)
        ctx.create_timer(timedelta(minutes=1))
        ctx.continue_as_new(2)

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow, 1)
    any_stage.drain()
    due = any_stage.next_due()
    assert due == any_stage.clock.now() + 3_600_000
    any_stage.raise_event(instance, "end", 1)
    assert output_of(any_stage.run_to_end(instance)) == 1
    assert any_stage.runner.started == []


def test_a_child_that_continues_answers_its_parent_at_its_end(any_stage: Stage) -> None:
    def parent(ctx: Ctx) -> Flow:
        return (yield ctx.call_sub_orchestrator("counter", input=5, instance_id="kid"))

    any_stage.orchestrators(counter)
    assert any_stage.result(parent) == "kid"
    assert any_stage.state("kid").execution == 6


def test_tags_version_parent_and_id_stay(any_stage: Stage) -> None:
    def flow(ctx: Ctx, lap: int) -> Flow:
        yield ctx.call_activity("echo")
        if lap == 1:
            ctx.continue_as_new(2)
        return [ctx.instance_id, ctx.version, dict(ctx.tags), ctx.name]

    state = any_stage.run(flow, 1, instance="x", version="7", tags={"k": "v"})
    assert output_of(state) == ["x", "7", {"k": "v"}, "flow"]
    assert (state.input, state.version, dict(state.tags)) == (b"2", "7", {"k": "v"})


@pytest.mark.parametrize("crash", [False, True])
def test_a_suspension_that_arrives_in_between(any_stage: Stage, crash: bool) -> None:
    def flow(ctx: Ctx, lap: int) -> Flow:
        yield ctx.wait_for_external_event("next")
        if lap < 2:
            ctx.continue_as_new(lap + 1)
        return lap

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow, 1)
    any_stage.drain()
    any_stage.raise_event(instance, "next")
    any_stage.suspend(instance)
    if crash:
        any_stage.round()
        any_stage.crash()
        any_stage.advance(timedelta(seconds=30))
    any_stage.drain()
    state = any_stage.state(instance)
    assert (state.status, state.execution) == (OrchestrationStatus.SUSPENDED, 2)
    any_stage.raise_event(instance, "next")
    any_stage.drain()
    assert any_stage.status(instance) is OrchestrationStatus.SUSPENDED
    any_stage.resume(instance)
    assert output_of(any_stage.run_to_end(instance)) == 2


def test_terminated_right_behind_it(any_stage: Stage) -> None:
    def flow(ctx: Ctx, lap: int) -> Flow:
        yield ctx.wait_for_external_event("next")
        ctx.continue_as_new(lap + 1)

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow, 1)
    any_stage.drain()
    any_stage.raise_event(instance, "next")
    any_stage.round()
    any_stage.terminate(instance)
    assert any_stage.run_to_end(instance).status is OrchestrationStatus.TERMINATED


def test_a_finally_that_raises_there_fails_the_instance_and_not_the_worker(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        try:
            ctx.continue_as_new(None)
            yield ctx.call_activity("echo")
        finally:
            raise ValueError("in finally")

    assert failure_of(any_stage.run(flow)).message == "in finally"

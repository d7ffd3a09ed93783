"""Sub-orchestrations."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from perdure.replay.tasks import when_all
from perdure.retry import RetryPolicy
from perdure.spi import OrchestrationStatus
from perdure_conformance.stage import Ctx, Flow, Stage, check_history, failure_of, output_of

TWICE = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=2)


def parent_of(**options: Any) -> Any:
    def parent(ctx: Ctx, name: str) -> Flow:
        try:
            return (yield ctx.call_sub_orchestrator(name, **options))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    return parent


def children(stage: Stage, instance: str) -> list[str]:
    return [event.instance_id for event in stage.history(instance) if type(event).__name__ == "SubOrchestrationCreated"]  # type: ignore[attr-defined]


def test_a_child_gets_an_id_of_32_hex_digits_of_its_own(any_stage: Stage) -> None:
    def parent(ctx: Ctx) -> Flow:
        return (yield when_all([ctx.call_sub_orchestrator("child", input=i) for i in range(3)]))

    state = any_stage.run(parent)
    assert output_of(state) == [0, 1, 2]
    ids = children(any_stage, state.id)
    assert len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", instance) for instance in ids)
    assert [any_stage.state(instance).parent for instance in ids] == [state.id] * 3
    again = any_stage.run(parent)
    assert not set(ids) & set(children(any_stage, again.id))


def test_a_child_gets_what_it_is_given(any_stage: Stage) -> None:
    def kid(ctx: Ctx, value: Any) -> Flow:
        yield ctx.call_activity("echo")
        return [value, ctx.instance_id, ctx.version, dict(ctx.tags), ctx.parent_instance_id]

    any_stage.orchestrators(kid)
    options = {"input": {"a": 1}, "instance_id": "kid/1".replace("/", "-"), "version": "2", "tags": {"k": "v"}}
    state = any_stage.run(parent_of(**options), "kid", instance="p")
    assert output_of(state) == [{"a": 1}, "kid-1", "2", {"k": "v"}, "p"]
    info = any_stage.state("kid-1")
    assert (info.version, dict(info.tags), info.parent) == ("2", {"k": "v"}, "p")


def test_a_failed_child_raises(any_stage: Stage) -> None:
    output = any_stage.result(parent_of(input="no"), "failing_child")
    assert output == "TaskFailedError: sub-orchestration 'failing_child' failed: ValueError: no"


@pytest.mark.parametrize("holder", ["waiter", "child", "failing_child"])
def test_an_id_that_is_taken_fails_the_task(any_stage: Stage, holder: str) -> None:
    any_stage.start(holder, "x", instance="kid")
    any_stage.drain()
    any_stage.advance(timedelta(seconds=1))
    before = any_stage.state("kid").generation
    output = any_stage.result(parent_of(instance_id="kid"), "child")
    assert "perdure.errors.InstanceAlreadyExists" in output
    assert "'kid' exists already" in output
    assert any_stage.state("kid").generation == before


def test_the_own_id_is_taken(stage: Stage) -> None:
    assert "exists already" in stage.result(parent_of(instance_id="me"), "child", instance="me")


def fails_once(ctx: Ctx, value: Any) -> Flow:
    tries = yield ctx.call_activity("count_up")
    if tries == 1:
        raise ValueError("the first")
    return tries


@pytest.mark.parametrize("instance_id", [None, "kid"])
def test_a_retry_replaces_the_failed_child(any_stage: Stage, instance_id: str | None) -> None:
    tries = [0]

    def count_up(ctx: Any) -> int:
        tries[0] += 1
        return tries[0]

    any_stage.activities(count_up)
    any_stage.orchestrators(fails_once)
    state = any_stage.run(parent_of(instance_id=instance_id, retry_policy=TWICE), "fails_once")
    assert output_of(state) == 2
    ids = children(any_stage, state.id)
    assert len(set(ids)) == (2 if instance_id is None else 1)
    assert any_stage.status(ids[-1]) is OrchestrationStatus.COMPLETED
    check_history(any_stage, state.id)


def test_a_retry_replaces_no_instance_that_runs_or_completed(stage: Stage) -> None:
    stage.result("child", "mine", instance="kid")
    assert "exists already" in stage.result(parent_of(instance_id="kid", retry_policy=TWICE), "child")
    assert output_of(stage.state("kid")) == "mine"


def deep(ctx: Ctx, depth: int) -> Flow:
    if depth == 0:
        return 0
    return 1 + (yield ctx.call_sub_orchestrator("deep", input=depth - 1))


def test_a_hundred_deep(stage: Stage) -> None:
    assert stage.result(deep, 100) == 100


def test_a_failure_a_hundred_deep_is_bounded(stage: Stage) -> None:
    def deep_failure(ctx: Ctx, depth: int) -> Flow:
        if depth == 0:
            raise ValueError("at the bottom")
        yield ctx.call_sub_orchestrator("deep_failure", input=depth - 1)

    state = stage.run(deep_failure, 100)
    assert failure_of(state).error_type == "perdure.errors.TaskFailedError"
    assert state.failure is not None
    assert len(state.failure) < 256 * 1024


def test_a_child_outlives_a_parent_that_does_not_wait(any_stage: Stage) -> None:
    def parent(ctx: Ctx) -> str:
        ctx.call_sub_orchestrator("child", input=1, instance_id="kid")
        return "gone"

    assert any_stage.result(parent) == "gone"
    assert output_of(any_stage.run_to_end("kid")) == 1


def test_a_child_of_a_replaced_parent_does_not_tell_the_new_one(any_stage: Stage) -> None:
    def parent(ctx: Ctx, lap: int) -> Flow:
        if lap == 1:
            return (yield ctx.call_sub_orchestrator("waiter", instance_id="kid"))
        return (yield ctx.wait_for_external_event("own"))

    any_stage.orchestrators(parent)
    any_stage.start(parent, 1, instance="p")
    any_stage.drain()
    any_stage.terminate("p", recursive=False)
    any_stage.drain()
    any_stage.start(parent, 2, instance="p", replace=True)
    any_stage.drain()
    any_stage.raise_event("kid", "go", "for the former")
    any_stage.drain()
    assert "SubOrchestrationCompleted" not in any_stage.kinds("p")
    any_stage.raise_event("p", "own", "mine")
    assert output_of(any_stage.run_to_end("p")) == "mine"


def test_a_start_of_a_name_that_nobody_has_stays_pending(stage: Stage) -> None:
    instance = stage.start("misspelt")
    stage.drain()
    assert stage.status(instance) is OrchestrationStatus.PENDING

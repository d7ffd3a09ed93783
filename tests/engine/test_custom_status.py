"""The custom status, through the engine: its size, when it goes out, and what becomes of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.engine.conftest import MakeStage

from perdure.activities import ActivityContext
from perdure.errors import CustomStatusTooLarge, PayloadError
from perdure.spi import OrchestrationStatus
from perdure_conformance.stage import Ctx, Flow, Stage, custom_status_of, failure_of, output_of

FITS = ["a" * 8190, "😀" * 4095, "中" * 8190, '"' * 4095, {"k": "a" * 8184}, "\ud800" * 1365]
IS_TOO_LARGE = ["a" * 8191, "😀" * 4096, "中" * 8191, '"' * 4096, {"k": "a" * 8185}, "\ud800" * 1366]


def sets(ctx: Ctx, number: int) -> Flow:
    ctx.set_custom_status("before")
    yield ctx.create_timer(timedelta(seconds=1))
    ctx.set_custom_status((FITS + IS_TOO_LARGE)[number])
    yield ctx.wait_for_external_event("never")


@pytest.mark.parametrize("number", range(len(FITS)))
def test_the_largest_that_fits_is_stored_whole(stage: Stage, number: int) -> None:
    stage.orchestrators(sets)
    instance = stage.start(sets, number)
    stage.drain()
    stage.advance_to_next()
    stored = stage.state(instance).custom_status
    assert stored is not None
    assert 16_380 <= len(stored.decode().encode("utf-16-le")) <= 16_384
    assert custom_status_of(stage.state(instance)) == FITS[number]


@pytest.mark.parametrize("number", range(len(IS_TOO_LARGE)))
def test_one_character_more_fails_the_orchestration_and_keeps_the_last(stage: Stage, number: int) -> None:
    state = stage.run(sets, len(FITS) + number)
    assert failure_of(state).error_type == "perdure.errors.CustomStatusTooLarge"
    assert custom_status_of(state) == "before"


def test_the_error_names_size_limit_and_largest_keys(stage: Stage) -> None:
    def flow(ctx: Ctx) -> None:
        ctx.set_custom_status({"small": 1, "large": "x" * 9000})

    message = failure_of(stage.run(flow)).message
    assert all(part in message for part in ("18,044 bytes", "16,384", "'large' (18,020)"))
    assert "keep large data elsewhere" in message


def test_a_rejected_call_can_be_caught_and_changes_nothing(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.set_custom_status("kept")
        for bad in ("a" * 8191, float("nan"), 2**64, object()):
            try:
                ctx.set_custom_status(bad)
            except (CustomStatusTooLarge, PayloadError):
                continue
            raise AssertionError(bad)
        yield ctx.call_activity("echo")
        return "went on"

    state = any_stage.run(flow)
    assert (output_of(state), custom_status_of(state)) == ("went on", "kept")


def test_nesting_beyond_reason_fails_the_orchestration_and_keeps_the_last(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.set_custom_status("kept")
        yield ctx.call_activity("echo")
        deep: list[Any] = []
        for _ in range(30_000):
            deep = [deep]
        ctx.set_custom_status(deep)

    state = any_stage.run(flow)
    failure = failure_of(state)
    assert failure.error_type == "perdure.errors.PayloadError"
    assert "nested over 200 levels" in failure.message
    assert custom_status_of(state) == "kept"


def test_it_goes_out_with_the_turn_and_the_last_call_wins(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.set_custom_status("one")
        ctx.set_custom_status("two")
        yield ctx.wait_for_external_event("go")
        ctx.set_custom_status("three")
        return "done"

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.round()
    assert any_stage.custom_status(instance) is None
    any_stage.round()
    assert any_stage.custom_status(instance) == "two"
    any_stage.raise_event(instance, "go")
    assert custom_status_of(any_stage.run_to_end(instance)) == "three"


def test_it_is_readable_before_the_activity_runs(any_stage: Stage) -> None:
    seen: list[Any] = []

    def look(ctx: ActivityContext, step: int) -> None:
        seen.append((step, any_stage.custom_status(ctx.orchestration_id)))

    def flow(ctx: Ctx) -> Flow:
        for step in range(3):
            ctx.set_custom_status({"step": step})
            yield ctx.call_activity("look", input=step)

    any_stage.activities(look)
    any_stage.run(flow)
    assert seen == [(step, {"step": step}) for step in range(3)]


def test_completed_tasks_do_not_make_it_go_out_in_between(stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        task = ctx.call_activity("echo")
        yield task
        ctx.set_custom_status("never seen")
        yield task
        ctx.set_custom_status("seen")
        yield ctx.wait_for_external_event("never")

    stage.orchestrators(flow)
    instance = stage.start(flow)
    stage.drain()
    assert (stage.custom_status(instance), stage.state(instance).status_rev) == ("seen", stage.state(instance).rev)


@pytest.mark.parametrize("value", [0, False, "", [], {}, 0.0])
def test_falsy_values_are_values(stage: Stage, value: Any) -> None:
    def flow(ctx: Ctx) -> None:
        ctx.set_custom_status(value)

    stored = stage.run(flow).custom_status
    assert stored == str(value).lower().replace("'", "").encode() or stored == b'""'
    assert stored is not None


def test_none_clears_it(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.set_custom_status("something")
        yield ctx.call_activity("echo")
        ctx.set_custom_status(None)
        yield ctx.wait_for_external_event("never")

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    state = any_stage.state(instance)
    assert state.custom_status is None
    assert state.status_rev == state.rev


def test_a_turn_that_does_not_set_it_keeps_it_and_its_rev(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.set_custom_status("kept")
        yield ctx.wait_for_external_event("one")
        yield ctx.wait_for_external_event("two")

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    before = any_stage.state(instance)
    any_stage.raise_event(instance, "one")
    any_stage.drain()
    after = any_stage.state(instance)
    assert after.custom_status == b'"kept"'
    assert after.status_rev == before.status_rev
    assert after.rev > before.rev


# Row by row, the table of moments.


def test_continue_as_new_carries_it_until_the_next_set(any_stage: Stage) -> None:
    def flow(ctx: Ctx, lap: int) -> Flow:
        if lap == 1:
            ctx.set_custom_status("of the first lap")
        yield ctx.wait_for_external_event("go")
        if lap == 2:
            ctx.set_custom_status("of the second lap")
        if lap == 3:
            ctx.set_custom_status(None)
            return
        ctx.continue_as_new(lap + 1)

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow, 1)
    seen = []
    for _ in range(3):
        any_stage.drain()
        seen.append((any_stage.state(instance).execution, any_stage.custom_status(instance)))
        any_stage.raise_event(instance, "go")
    assert seen == [(1, "of the first lap"), (2, "of the first lap"), (3, "of the second lap")]
    assert any_stage.run_to_end(instance).custom_status is None


def test_a_status_set_in_the_turn_that_continues_is_carried(any_stage: Stage) -> None:
    def flow(ctx: Ctx, lap: int) -> Flow:
        if lap == 2:
            return
        ctx.set_custom_status("crossing")
        ctx.continue_as_new(2)
        yield ctx.create_timer(timedelta(1))

    assert custom_status_of(any_stage.run(flow, 1)) == "crossing"


@pytest.mark.parametrize("sets_one", [True, False])
@pytest.mark.parametrize("ending", ["complete", "fail"])
def test_an_end_keeps_the_last_accepted(any_stage: Stage, ending: str, sets_one: bool) -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.set_custom_status("committed")
        yield ctx.call_activity("echo")
        if sets_one:
            ctx.set_custom_status("of the last turn")
        if ending == "fail":
            raise ValueError("no")

    state = any_stage.run(flow)
    assert state.status is (OrchestrationStatus.FAILED if ending == "fail" else OrchestrationStatus.COMPLETED)
    assert custom_status_of(state) == ("of the last turn" if sets_one else "committed")


def test_termination_keeps_it(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.set_custom_status("committed")
        yield ctx.wait_for_external_event("go")
        ctx.set_custom_status("too late")
        yield ctx.wait_for_external_event("never")

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    any_stage.raise_event(instance, "go")
    any_stage.terminate(instance)
    state = any_stage.run_to_end(instance)
    assert (state.status, custom_status_of(state)) == (OrchestrationStatus.TERMINATED, "committed")


def test_suspend_and_resume_leave_it_alone(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.set_custom_status("waiting")
        yield ctx.wait_for_external_event("go")
        ctx.set_custom_status("went on")
        yield ctx.wait_for_external_event("never")

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    status_rev = any_stage.state(instance).status_rev
    any_stage.suspend(instance)
    any_stage.raise_event(instance, "go")
    any_stage.drain()
    state = any_stage.state(instance)
    assert (state.status, custom_status_of(state), state.status_rev) == (
        OrchestrationStatus.SUSPENDED,
        "waiting",
        status_rev,
    )
    any_stage.resume(instance)
    any_stage.drain()
    assert any_stage.custom_status(instance) == "went on"


def test_a_new_incarnation_of_an_id_has_none(any_stage: Stage) -> None:
    def flow(ctx: Ctx, value: Any) -> Flow:
        if value is not None:
            ctx.set_custom_status(value)
        yield ctx.call_activity("echo")

    assert custom_status_of(any_stage.run(flow, "of the first", instance="x")) == "of the first"
    any_stage.start(flow, None, instance="x", replace=True)
    assert any_stage.state("x").custom_status is None
    assert any_stage.run_to_end("x").custom_status is None


# Replay.


def test_replay_recomputes_it_and_writes_nothing(make_stage: MakeStage) -> None:
    """A cache miss between two turns must not set the status of the former turn again."""
    stage = make_stage(cold=True)

    def flow(ctx: Ctx) -> Flow:
        ctx.set_custom_status("first")
        yield ctx.wait_for_external_event("one")
        yield ctx.wait_for_external_event("two")

    stage.orchestrators(flow)
    instance = stage.start(flow)
    stage.drain()
    before = stage.state(instance).status_rev
    stage.crash()
    stage.raise_event(instance, "one")
    stage.drain()
    assert (stage.custom_status(instance), stage.state(instance).status_rev) == ("first", before)


def test_an_uncaught_rejection_is_the_same_on_replay(make_stage: MakeStage) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.call_activity("echo")
        ctx.set_custom_status("last words")
        ctx.set_custom_status("a" * 8191)

    states = [make_stage(cold=cold).run(flow) for cold in (False, True)]
    assert {failure_of(state).message for state in states} == {failure_of(states[0]).message}
    assert [custom_status_of(state) for state in states] == ["last words"] * 2

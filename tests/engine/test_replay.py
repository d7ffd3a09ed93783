"""Determinism: what replay may rest on, and what it refuses."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from perdure import history as h
from perdure.activities import ActivityContext
from perdure.errors import Evicted
from perdure.replay.tasks import when_all
from perdure.spi import NewInstance
from perdure_conformance.stage import Ctx, Flow, Stage, failure_of, output_of

MakeStage = Callable[..., Stage]


def register(stage: Stage, function: Callable[..., Any]) -> None:
    """Register a function as `flow`, in place of the former one: a deploy."""
    stage.registry.orchestrators.pop("flow", None)
    stage.registry.add_orchestrator(function, name="flow")


def deploy(stage: Stage, before: Callable[..., Any], after: Callable[..., Any]) -> str:
    """Start with one version of the code and go on, after the first activity, with another."""
    register(stage, before)
    instance = stage.start("flow")
    stage.drain()
    register(stage, after)
    stage.crash()
    stage.raise_event(instance, "go")
    stage.drain()
    return instance


def v1(ctx: Ctx) -> Flow:
    yield ctx.call_activity("echo", input=1)
    yield ctx.wait_for_external_event("go")
    return "done"


def renamed(ctx: Ctx) -> Flow:
    yield ctx.call_activity("add_one", input=1)


def removed(ctx: Ctx) -> Flow:
    yield ctx.wait_for_external_event("go")


def extra_timer(ctx: Ctx) -> Flow:
    yield ctx.create_timer(timedelta(1))
    yield ctx.call_activity("echo", input=1)


def late_extra_timer(ctx: Ctx) -> Flow:
    yield ctx.call_activity("echo", input=1)
    yield ctx.create_timer(timedelta(1))


def returns_early(ctx: Ctx) -> Flow:
    yield ctx.call_activity("echo", input=1)
    return "early"


@pytest.mark.parametrize(
    ("after", "number", "expected", "found"),
    [
        (renamed, 2, "activity 'echo'", "activity 'add_one'"),
        (removed, 2, "activity 'echo'", "nothing: it waits"),
        (extra_timer, 2, "activity 'echo'", "a timer"),
        (late_extra_timer, 5, "no decision", "a timer"),
        (returns_early, 5, "no decision", "the end with status COMPLETED"),
    ],
)
def test_changed_code_fails_the_instance_and_says_why(
    stage: Stage, after: Callable[..., Any], number: int, expected: str, found: str
) -> None:
    instance = deploy(stage, v1, after)
    failure = failure_of(stage.state(instance))
    assert failure.error_type == "perdure.errors.NonDeterminismError"
    assert f"event {number} of the history is {expected}, but the code asks for {found}" in failure.message
    assert "keep the old path for instances that run" in failure.message
    # The other instances go on.
    assert stage.result("child", 1) == 1


def test_changed_code_that_asks_for_the_same_goes_on(stage: Stage) -> None:
    def v2(ctx: Ctx) -> Flow:
        yield ctx.call_activity("echo", input="another input")
        yield ctx.wait_for_external_event("go")
        yield ctx.call_activity("echo")
        return "done by the new code"

    assert output_of(stage.state(deploy(stage, v1, v2))) == "done by the new code"


def test_reordered_activities(stage: Stage) -> None:
    def calls(*names: str) -> Callable[[Ctx], Flow]:
        def flow(ctx: Ctx) -> Flow:
            yield when_all([ctx.call_activity(name, input=1) for name in names])
            yield ctx.wait_for_external_event("go")

        return flow

    instance = deploy(stage, calls("echo", "add_one"), calls("add_one", "echo"))
    assert "event 2 of the history is activity 'echo', but the code asks for activity 'add_one'" in (
        failure_of(stage.state(instance)).message
    )


@pytest.mark.parametrize("kind", ["yield", "await", "foreign"])
def test_waiting_for_something_else_fails_at_that_line(any_stage: Stage, kind: str) -> None:
    lent: list[Any] = []

    def yields(ctx: Ctx) -> Flow:
        yield ctx.call_activity("echo")
        yield 5

    async def awaits(ctx: Ctx) -> None:
        await ctx.call_activity("echo")
        await asyncio.sleep(0)

    def borrows(ctx: Ctx) -> Flow:
        lent.append(ctx.create_timer(timedelta(1)))
        yield ctx.call_activity("echo")
        if ctx.instance_id == "b":
            yield lent[0]

    flow: Any = {"yield": yields, "await": awaits, "foreign": borrows}[kind]
    any_stage.run(flow, instance="a")
    failure = failure_of(any_stage.run(flow, instance="b"))
    assert failure.error_type == "perdure.errors.InvalidYield"
    assert "in yields" in str(failure.stack_trace) or "in awaits" in str(failure.stack_trace) or kind == "foreign"


def test_an_orchestrator_that_runs_into_asyncio_fails_and_the_worker_goes_on(stage: Stage) -> None:
    async def flow(ctx: Ctx) -> None:
        await asyncio.sleep(1)

    assert failure_of(stage.run(flow)).error_type == "RuntimeError"
    assert stage.result("child", 1) == 1


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_orchestrator_that_raises(any_stage: Stage, error: type[BaseException]) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.call_activity("echo")
        raise error("no")

    failure = failure_of(any_stage.run(flow))
    assert (failure.error_type, failure.message) == (error.__name__, "no")
    assert "in flow" in str(failure.stack_trace)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**64, object, "x" * 4 * 1024 * 1024, "deep"])
def test_an_orchestrator_that_returns_what_cannot_be_stored(stage: Stage, value: Any) -> None:
    def flow(ctx: Ctx) -> Any:
        return nested(30_000) if value == "deep" else value

    assert failure_of(stage.run(flow)).error_type in {"perdure.errors.PayloadError", "perdure.errors.PayloadTooLarge"}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_an_input_of_the_wrong_type(stage: Stage) -> None:
    def flow(ctx: Ctx, value: int) -> int:
        return value

    failure = failure_of(stage.run(flow, "seven"))
    assert failure.error_type == "perdure.errors.PayloadError"
    assert "expected int, found 'seven' (str)" in failure.message


# Activities.


@pytest.mark.parametrize("value", [float("nan"), 2**64, "x" * 4 * 1024 * 1024, object(), {1: 2}, "deep"])
@pytest.mark.parametrize("is_async", [False, True])
def test_an_activity_that_returns_what_cannot_be_stored(stage: Stage, value: Any, is_async: bool) -> None:
    def plain(ctx: ActivityContext) -> Any:
        return nested(30_000) if value == "deep" else value

    async def coroutine(ctx: ActivityContext) -> Any:
        return nested(30_000) if value == "deep" else value

    def flow(ctx: Ctx) -> Flow:
        yield ctx.call_activity("make")

    stage.registry.add_activity(coroutine if is_async else plain, name="make")
    assert "activity 'make' failed: perdure.errors.Payload" in failure_of(stage.run(flow)).message


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("is_async", [False, True])
def test_an_activity_that_raises(stage: Stage, error: type[BaseException], is_async: bool) -> None:
    def plain(ctx: ActivityContext) -> None:
        raise error("no")

    async def coroutine(ctx: ActivityContext) -> None:
        raise error("no")

    def flow(ctx: Ctx) -> Flow:
        try:
            yield ctx.call_activity("make")
        except Exception as failed:
            return str(failed)

    stage.registry.add_activity(coroutine if is_async else plain, name="make")
    assert stage.result(flow) == f"activity 'make' failed: {error.__name__}: no"


def test_an_activity_with_an_input_of_the_wrong_type(stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.call_activity("add_one", input="seven")

    assert "expected int, found 'seven'" in failure_of(stage.run(flow)).message


def test_results_are_rebuilt_as_annotated(stage: Stage) -> None:
    def make(ctx: ActivityContext) -> uuid.UUID:
        return uuid.UUID(int=7)

    def flow(ctx: Ctx) -> Flow:
        by_function = yield ctx.call_activity(make)
        by_name = yield ctx.call_activity("make")
        asked = yield ctx.call_activity("make", return_type=uuid.UUID)
        return [type(value).__name__ for value in (by_function, by_name, asked)]

    stage.activities(make)
    assert stage.result(flow) == ["UUID", "str", "UUID"]


# The same with a kept orchestrator as with a replayed one.


def everything(ctx: Ctx, laps: int) -> Flow:
    ctx.set_custom_status({"laps": laps})
    tasks = [ctx.call_activity("echo", input=i) for i in range(3)]
    timer = ctx.create_timer(timedelta(minutes=1))
    first = yield tasks[2]
    yield when_all(tasks)
    timer.cancel()
    ctx.send_event(ctx.instance_id, "Go", data=[ctx.new_uuid(), ctx.random.random(), ctx.current_utc_datetime])
    event = yield ctx.wait_for_external_event("go", timeout=10)
    kid = yield ctx.call_sub_orchestrator("child", input=event[1:2])
    if laps:
        ctx.continue_as_new(laps - 1)
        return None
    return [first, event, kid]


def numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the ids that a run makes up the same in each run."""
    numbers = count()
    fake = SimpleNamespace(uuid4=lambda: uuid.UUID(int=next(numbers)))
    monkeypatch.setattr("perdure.draft.uuid", fake)
    monkeypatch.setattr("perdure.requests.uuid", fake)


@pytest.mark.parametrize("laps", [0, 2])
def test_both_cache_paths_give_byte_equal_histories(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch, laps: int
) -> None:
    seen = []
    for cold in (False, True):
        numbered(monkeypatch)
        stage = make_stage(cold=cold)
        stage.orchestrators(everything)
        instance = stage.start(everything, laps, instance="x")
        stage.run_to_end(instance)
        seen.append((stage.stored_history(instance), stage.state(instance).output, stage.state(instance).custom_status))
    assert seen[0] == seen[1]


def test_a_kept_orchestrator_costs_no_reading_of_history(stage: Stage) -> None:
    reads: list[str] = []
    read_history = stage.hub.read_history

    def counting(instance: str, **options: Any) -> Any:
        reads.append(instance)
        return read_history(instance, **options)

    stage.hub.read_history = counting  # type: ignore[method-assign]
    stage.engine  # noqa: B018 - made here
    stage.run("child", 1)
    assert reads == []
    stage.cold = True
    stage.run("child", 1)
    assert len(reads) == 1


def test_a_kept_orchestrator_is_not_used_for_another_incarnation(stage: Stage) -> None:
    """Even if another worker brought that one to the very same place in its history."""
    first, second = stage.add_engine(), stage.add_engine()
    stage.engines = [first]
    stage.start("waiter", "one", instance="x")
    stage.drain()
    stage.engines = [second]
    stage.terminate("x")
    stage.drain()
    stage.start("waiter", "two", instance="x", replace=True)
    stage.drain()
    stage.engines = [first]
    stage.raise_event("x", "two", "of the second")
    assert output_of(stage.run_to_end("x")) == "of the second"


def test_a_finished_orchestrator_is_not_kept(stage: Stage) -> None:
    stage.start("waiter", instance="x")
    stage.drain()
    assert list(stage.engine._cache) == ["x"]
    stage.terminate("x")
    stage.drain()
    assert not stage.engine._cache


def test_a_kept_orchestrator_is_not_used_where_another_worker_went_on(stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        got = []
        for _ in range(3):
            got.append((yield ctx.wait_for_external_event("e")))
        return got

    stage.orchestrators(flow)
    first, second = stage.add_engine(), stage.add_engine()
    instance = stage.start(flow)
    for number, engine in enumerate([first, second, first]):
        stage.engines = [engine]
        stage.drain()
        stage.raise_event(instance, "e", number)
    assert output_of(stage.run_to_end(instance)) == [0, 1, 2]


def test_the_cache_is_bounded_and_eviction_decides_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.engine._CACHED_INSTANCES", 2)
    evicted: list[str] = []

    def flow(ctx: Ctx, name: str) -> Flow:
        try:
            yield ctx.wait_for_external_event("go")
        finally:
            try:
                ctx.set_custom_status("in finally")
                ctx.call_activity("echo")
            except Evicted:
                evicted.append(name)
                raise
        return name

    stage.orchestrators(flow)
    ids = [stage.start(flow, name) for name in "abc"]
    stage.drain()
    assert evicted == ["a"]
    assert len(stage.engine._cache) == 2
    for instance in ids:
        stage.raise_event(instance, "go")
    assert [output_of(stage.run_to_end(instance)) for instance in ids] == ["a", "b", "c"]
    assert stage.custom_status(ids[0]) == "in finally"


def test_ids_and_random_numbers_differ_between_instances_and_executions(any_stage: Stage) -> None:
    def flow(ctx: Ctx, seen: list[Any]) -> Flow:
        seen = [*seen, str(ctx.new_uuid()), str(ctx.new_uuid()), str(ctx.random.random())]
        yield ctx.call_activity("echo")
        if len(seen) < 6:
            ctx.continue_as_new(seen)
        return seen

    made = [value for _ in range(2) for value in any_stage.result(flow, [])]
    assert len(set(made)) == 12


def test_replay_safe_logging_and_is_replaying(make_stage: MakeStage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flow")
    replayed: list[bool] = []

    def flow(ctx: Ctx) -> Flow:
        logger = ctx.create_replay_safe_logger(logging.getLogger("flow"))
        for step in range(3):
            replayed.append(ctx.is_replaying)
            logger.info("step %d", step)
            yield ctx.call_activity("echo")

    make_stage(cold=True).run(flow)
    assert [record.message for record in caplog.records] == ["step 0", "step 1", "step 2"]
    assert replayed == [False, True, False, True, True, False, True, True, True]


# Looking for hidden non-determinism.


def verified(stage: Stage, function: Callable[..., Any]) -> Any:
    stage.add_engine(verify_replay=True)
    return stage.run(function)


def test_verify_replay_finds_a_random_input(stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.call_activity("echo", input=random.random())

    failure = failure_of(verified(stage, flow))
    assert failure.error_type == "perdure.errors.NonDeterminismError"
    assert re.search(
        r"event 2 of the history is activity 'echo' with input b'0\..*', but the code asks for activity 'echo' with",
        failure.message,
    )


def test_verify_replay_finds_what_changes_from_run_to_run(stage: Stage) -> None:
    runs = count()

    def flow(ctx: Ctx, what: str) -> Flow:
        yield ctx.call_activity("echo")
        number = next(runs) % 2
        if what == "status":
            ctx.set_custom_status(number)
        elif what == "order":
            names = ["echo", "add_one"]
            yield when_all([ctx.call_activity(name, input=1) for name in (names if number else names[::-1])])
        elif what == "end" and number:
            return "early"
        elif what == "result":
            return number
        elif what == "timer":
            yield ctx.create_timer(timedelta(number))
        yield ctx.call_activity("echo")

    stage.orchestrators(flow)
    stage.add_engine(verify_replay=True)
    for what in ("status", "order", "end", "result", "timer"):
        state = stage.run_to_end(stage.start(flow, what))
        assert failure_of(state).error_type == "perdure.errors.NonDeterminismError", what


def test_verify_replay_finds_nothing_in_honest_code(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def flow(ctx: Ctx) -> Flow:
        logger = ctx.create_replay_safe_logger(logging.getLogger("flow"))
        if not ctx.is_replaying:
            ctx.set_custom_status("by the book of Durable Functions")
        logger.warning("once")
        kid = yield ctx.call_sub_orchestrator("everything", input=1)
        return [kid, ctx.new_uuid(), ctx.random.random()]

    stage.orchestrators(everything)
    output_of(verified(stage, flow))
    assert caplog.messages == ["once"]


def test_an_input_that_is_no_json_fails_the_instance_alone(stage: Stage) -> None:
    """A client of another make may store anything."""
    event = h.ExecutionStarted(timestamp=0, name="child", instance_id="x", execution_id="e" * 32, input=b"[1, NaN]")
    stage.hub.create_instances([NewInstance(id="x", name="child", start=h.encode_event(event), generation="g")])
    assert "not valid JSON" in failure_of(stage.run_to_end("x")).message


def test_a_history_of_several_pages_is_replayed_whole(stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        results = yield when_all([ctx.call_activity("echo", input=i) for i in range(600)])
        yield ctx.wait_for_external_event("go")
        return results

    stage.orchestrators(flow)
    instance = stage.start(flow)
    stage.drain()
    assert stage.state(instance).next_seq > 1200
    stage.crash()
    stage.raise_event(instance, "go")
    assert output_of(stage.run_to_end(instance)) == list(range(600))

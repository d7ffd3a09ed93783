"""External events: buffered, in order, to who waits for them; and events from one orchestration to another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure import requests
from perdure.replay.tasks import when_all, when_any
from perdure.spi import Outcome
from perdure_conformance.stage import Ctx, Flow, Stage, check_history, failure_of, output_of

DAY = timedelta(days=1)


def test_events_are_kept_in_order_until_they_are_waited_for(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        got = []
        for name in ("b", "a", "A", "b"):
            yield ctx.call_activity("echo")
            got.append((yield ctx.wait_for_external_event(name)))
        return got

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    for number, name in enumerate(["a", "B", "a", "b"]):
        assert any_stage.raise_event(instance, name, number) is Outcome.OK
    assert output_of(any_stage.run_to_end(instance)) == [1, 0, 2, 3]


def test_more_events_than_one_turn_takes(stage: Stage) -> None:
    def flow(ctx: Ctx, count: int) -> Flow:
        yield ctx.call_activity("echo")
        return (yield when_all([ctx.wait_for_external_event("e") for _ in range(count)]))

    stage.orchestrators(flow)
    instance = stage.start(flow, 1500)
    for first in (0, 750):
        events = [requests.raise_event(instance, "e", first + i, stage.converter) for i in range(750)]
        stage.hub.send_messages([make(stage.hub.now()) for make in events])
    assert output_of(stage.run_to_end(instance)) == list(range(1500))


def test_the_oldest_wait_wins(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        old, young = (ctx.wait_for_external_event("Straße"), ctx.wait_for_external_event("STRASSE"))
        return (yield when_all([young, old]))

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    for value in ("first", "second"):
        any_stage.raise_event(instance, "strasse", value)
        any_stage.drain()
    assert output_of(any_stage.state(instance)) == ["second", "first"]


def test_a_wait_that_lost_a_race_swallows_nothing(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        loser = ctx.wait_for_external_event("e")
        yield when_any([loser, ctx.create_timer(DAY)])
        first = yield ctx.wait_for_external_event("e")
        return [first, (yield loser)]

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    any_stage.advance(DAY)
    for value in (1, 2):
        any_stage.raise_event(instance, "e", value)
        any_stage.drain()
    assert output_of(any_stage.state(instance)) == [1, 2]


def test_an_event_in_time_takes_its_timer_back(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        got = yield ctx.wait_for_external_event("e", timeout=DAY)
        yield ctx.wait_for_external_event("end")
        return got

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    assert any_stage.next_due() is not None
    any_stage.raise_event(instance, "e", "in time")
    any_stage.drain()
    assert any_stage.next_due() is None
    any_stage.raise_event(instance, "end")
    assert output_of(any_stage.run_to_end(instance)) == "in time"


@pytest.mark.parametrize("timeout", [DAY, 86_400, 86_400.0])
def test_a_timeout_raises(any_stage: Stage, timeout: Any) -> None:
    def flow(ctx: Ctx) -> Flow:
        try:
            yield ctx.wait_for_external_event("e", timeout=timeout)
        except TimeoutError:
            late = ctx.current_utc_datetime
            return [str(late), (yield ctx.wait_for_external_event("e"))]

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    any_stage.advance_to_next()
    any_stage.raise_event(instance, "e", "late")
    assert output_of(any_stage.run_to_end(instance)) == ["2023-11-15 22:13:20+00:00", "late"]


def test_an_uncaught_timeout_fails_the_instance(stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.wait_for_external_event("e", timeout=1)

    failure = failure_of(stage.run(flow))
    assert (failure.error_type, failure.message) == ("TimeoutError", "no event 'e' came in time")


@pytest.mark.parametrize("what", ["activity", "timer", "event", "child", "composite"])
def test_a_cancelled_task_leaves_nothing_behind(any_stage: Stage, what: str) -> None:
    def flow(ctx: Ctx) -> Flow:
        makers: dict[str, Any] = {
            "activity": lambda: ctx.call_activity("never"),
            "timer": lambda: ctx.create_timer(DAY),
            "event": lambda: ctx.wait_for_external_event("e", timeout=DAY),
            "child": lambda: ctx.call_sub_orchestrator("waiter", instance_id="kid"),
        }
        makers["composite"] = lambda: when_any([when_all([make()]) for make in list(makers.values())[:4]])
        task = makers[what]()
        yield ctx.call_activity("echo")
        cancelled = task.cancel()
        try:
            yield task
        except Exception as error:
            yield ctx.wait_for_external_event("end")
            return [cancelled, type(error).__name__]

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    assert any_stage.next_due() is None
    if what in ("child", "composite"):
        assert any_stage.status("kid") == "TERMINATED"
    stats = any_stage.hub.stats()
    assert (stats.activities.ready, stats.activities.future, stats.turns.future) == (0, 0, 0)
    any_stage.raise_event(instance, "end")
    assert output_of(any_stage.run_to_end(instance)) == [True, "TaskCancelledError"]
    check_history(any_stage, instance)


@pytest.mark.parametrize("what", ["activity", "timer", "child"])
def test_what_is_cancelled_in_the_turn_that_starts_it_never_runs(any_stage: Stage, what: str) -> None:
    def flow(ctx: Ctx) -> Flow:
        makers: dict[str, Any] = {
            "activity": lambda: ctx.call_activity("add_one", input=1),
            "timer": lambda: ctx.create_timer(DAY),
            "child": lambda: ctx.call_sub_orchestrator("child", input=1, instance_id="kid"),
        }
        makers[what]().cancel()
        yield ctx.call_activity("echo")
        yield ctx.wait_for_external_event("end")

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    assert any_stage.next_due() is None
    assert any_stage.runner.started == ["echo"]
    assert any_stage.hub.get_instances(["kid"]) == [None]
    any_stage.raise_event(instance, "end")
    output_of(any_stage.run_to_end(instance))


# From orchestration to orchestration.


def test_an_event_reaches_a_running_instance(any_stage: Stage) -> None:
    def sender(ctx: Ctx, target: str) -> Flow:
        ctx.send_event(target, "go", data={"from": ctx.instance_id})
        ctx.send_event("nobody", "go")
        ctx.send_event("finished", "go")
        yield ctx.call_activity("echo")
        return "sent"

    target = any_stage.start("waiter")
    any_stage.result("child", 1, instance="finished")
    any_stage.drain()
    assert any_stage.result(sender, target, instance="s") == "sent"
    assert output_of(any_stage.run_to_end(target)) == {"from": "s"}
    assert any_stage.kinds("s").count("EventSent") == 3


def test_an_event_reaches_a_pending_instance(stage: Stage) -> None:
    def sender(ctx: Ctx) -> None:
        ctx.send_event("later", "go", data=1)

    stage.start("waiter", instance="later", start_at=DAY)
    stage.run(sender)
    assert output_of(stage.run_to_end("later")) == 1


def test_events_to_a_finished_or_unknown_instance_are_refused(stage: Stage) -> None:
    stage.result("child", 1, instance="x")
    assert stage.raise_event("x", "go") is Outcome.TERMINAL
    assert stage.raise_event("unknown", "go") is Outcome.NOT_FOUND

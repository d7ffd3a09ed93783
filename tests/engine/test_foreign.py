"""Workers that don't have an instance's code: control messages come to them all the same."""

from __future__ import annotations

from perdure.registry import Registry
from perdure.spi import OrchestrationStatus
from perdure_conformance.stage import Ctx, Flow, Stage, child, echo, output_of, waiter

SUSPENDED = OrchestrationStatus.SUSPENDED
TERMINATED = OrchestrationStatus.TERMINATED


def foreign(stage: Stage) -> None:
    """Let a worker that registers something else run until it finds nothing more to do."""
    registry = Registry()
    registry.add_orchestrator(waiter, name="something_else")
    registry.add_activity(echo, name="another_thing")
    ours = stage.engines[:]
    stage.engines.clear()
    stage.add_engine(registry)
    stage.drain()
    stage.engines[:] = ours


def test_it_terminates(stage: Stage) -> None:
    instance = stage.start(waiter)
    stage.drain()
    stage.terminate(instance, "bye")
    foreign(stage)
    state = stage.state(instance)
    assert (state.status, state.output) == (TERMINATED, b'"bye"')


def test_it_hands_suspensions_and_resumptions_on_in_their_order(stage: Stage) -> None:
    instance = stage.start(waiter)
    stage.drain()
    before = stage.kinds(instance)
    stage.suspend(instance)
    stage.resume(instance)
    foreign(stage)
    stage.suspend(instance)
    foreign(stage)
    assert stage.kinds(instance) == before
    stage.raise_event(instance, "go", 1)
    stage.drain()
    assert stage.status(instance) is SUSPENDED
    stage.resume(instance)
    foreign(stage)
    assert output_of(stage.run_to_end(instance)) == 1


def test_it_leaves_the_start_to_who_can(stage: Stage) -> None:
    instance = stage.start(child, "hello")
    stage.suspend(instance)
    foreign(stage)
    assert stage.kinds(instance) == []
    stage.drain()
    assert stage.status(instance) is SUSPENDED
    stage.resume(instance)
    foreign(stage)
    assert output_of(stage.run_to_end(instance)) == "hello"


def test_it_leaves_a_continued_execution_to_who_can_begin_it(stage: Stage) -> None:
    def flow(ctx: Ctx, lap: int) -> Flow:
        if lap == 2:
            yield ctx.call_activity("echo")
            return (yield ctx.wait_for_external_event("go"))
        yield ctx.wait_for_external_event("next")
        ctx.continue_as_new(2)

    stage.orchestrators(flow)
    instance = stage.start(flow, 1)
    stage.drain()
    stage.raise_event(instance, "next")
    while stage.state(instance).execution == 1:
        # The commit that continues it must not be followed by a claim of ours.
        stage.engine._max_turns = 100 if not stage.engine._pending else 0
        stage.round()
    stage.engine._max_turns = 100
    stage.suspend(instance)
    foreign(stage)
    stage.drain()
    assert stage.status(instance) is SUSPENDED
    stage.resume(instance)
    foreign(stage)
    stage.raise_event(instance, "go", "end")
    assert output_of(stage.run_to_end(instance)) == "end"


def test_it_leaves_all_else_where_it_is_in_its_order(stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        got = []
        for _ in range(3):
            got.append((yield ctx.wait_for_external_event("e")))
        return got

    stage.orchestrators(flow)
    instance = stage.start(flow)
    stage.drain()
    stage.raise_event(instance, "e", 1)
    stage.suspend(instance)
    stage.raise_event(instance, "e", 2)
    before = stage.kinds(instance)
    foreign(stage)
    assert stage.kinds(instance) == before
    stage.raise_event(instance, "e", 3)
    stage.resume(instance)
    foreign(stage)
    assert output_of(stage.run_to_end(instance)) == [1, 2, 3]


def test_it_terminates_what_has_not_started_and_tells_the_parent(stage: Stage) -> None:
    def parent(ctx: Ctx) -> Flow:
        try:
            yield ctx.call_sub_orchestrator("of_somebody_else", instance_id="kid")
        except Exception as error:
            return str(error)

    stage.orchestrators(parent)
    instance = stage.start(parent)
    stage.drain()
    stage.terminate("kid")
    foreign(stage)
    assert stage.status("kid") is TERMINATED
    assert "instance 'kid' was terminated" in output_of(stage.run_to_end(instance))


def test_two_workers_with_disjoint_names_share_the_work(stage: Stage) -> None:
    """Each takes only what it has: the one runs orchestrations, the other activities."""
    registry = Registry()
    registry.add_activity(lambda ctx, value: f"elsewhere {value}", name="far")

    def flow(ctx: Ctx) -> Flow:
        return [(yield ctx.call_activity("echo", input=1)), (yield ctx.call_activity("far", input=2))]

    here, there = stage.add_engine(), stage.add_engine(registry)
    assert stage.result(flow) == [1, "elsewhere 2"]
    assert stage.runner_of(here).started == ["echo"]
    assert stage.runner_of(there).started == ["far"]

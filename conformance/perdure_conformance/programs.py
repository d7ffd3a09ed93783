"""Random small orchestrations, and what may befall them while they run: the outcome is always the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from perdure.history import ExecutionCompleted
from perdure.replay.machine import Machine
from perdure.replay.tasks import when_all, when_any
from perdure.spi import Hub, InstanceInfo, ManualClock
from perdure_conformance.bench import Bench
from perdure_conformance.stage import Ctx, Flow, Stage, add_one, check_history, echo, fail

__all__ = ["LAPS", "MISFORTUNES", "PROGRAMS", "Program", "generation", "interpret", "perform"]

Program: TypeAlias = list[Any]

_EVENTS = 6
"""So many of each name are raised up front: nobody waits in vain."""

_MAX_STEPS = 1000

_OPERATIONS = ["call", "fail", "timer 1", "timer 3600", "event a", "event B", "late", "status", "send", "cancel"]
_LEAVES = st.sampled_from([operation.split() for operation in [*_OPERATIONS, "ids", "child"]])


def _composed(parts: st.SearchStrategy[Program]) -> st.SearchStrategy[Program]:
    several = st.lists(parts, min_size=1, max_size=3)
    return st.one_of(
        several.map(lambda programs: ["sequence", *programs]),
        st.lists(_LEAVES, min_size=1, max_size=3).map(lambda programs: ["all", *programs]),
        st.lists(_LEAVES, min_size=1, max_size=3).map(lambda programs: ["any", *programs]),
        parts.map(lambda program: ["sub", program]),
    )


PROGRAMS = st.recursive(_LEAVES, _composed, max_leaves=6)
LAPS = st.integers(0, 2)
MISFORTUNES = st.lists(st.sampled_from(["round", "crash", "forget", "suspend", "resume"]), max_size=12)


def interpret(ctx: Ctx, job: list[Any]) -> Flow:
    """Run a program: a list of an operation and its arguments. Then start over, as often as asked, and end."""
    program, laps, seen = job
    seen = [*seen, (yield from _run(ctx, program))]
    if laps:
        ctx.continue_as_new([program, laps - 1, seen])
        return None
    return seen


def _run(ctx: Ctx, program: Program) -> Flow:
    match program:
        case ["sequence", *programs]:
            results = []
            for part in programs:
                results.append((yield from _run(ctx, part)))
            return results
        case ["sub", part]:
            # Events go to the parent alone.
            return (yield ctx.call_sub_orchestrator("interpret", input=[_without_events(part), 0, []]))
        case ["all", *programs]:
            try:
                yield when_all([_task_of(ctx, part) for part in programs])
            except Exception as error:
                return type(error).__name__
            return len(programs)
        case ["any", *programs]:
            winner = yield when_any([_task_of(ctx, part) for part in programs])
            # Which one wins depends on when workers come by.
            return winner.is_complete
        case ["status"]:
            ctx.set_custom_status({"at": "status"})
            return None
        case ["send"]:
            ctx.send_event(ctx.instance_id, "self", data=1)
            return (yield ctx.wait_for_external_event("SELF"))
        case ["cancel"]:
            task = ctx.create_timer(timedelta(days=999))
            return task.cancel()
        case ["ids"]:
            return len({ctx.new_uuid(), ctx.new_uuid(), ctx.random.random()})
        case _:
            try:
                return (yield _task_of(ctx, program))
            except Exception as error:
                return type(error).__name__


def _task_of(ctx: Ctx, program: Program) -> Any:
    match program:
        case ["fail"]:
            return ctx.call_activity("fail", input="no")
        case ["timer", seconds]:
            return ctx.create_timer(timedelta(seconds=int(seconds)))
        case ["event", name]:
            return ctx.wait_for_external_event(name)
        case ["late"]:
            return ctx.wait_for_external_event("nobody raises it", timeout=60)
        case ["child"]:
            return ctx.call_sub_orchestrator("interpret", input=[["call"], 0, []])
        case _:
            return ctx.call_activity("add_one", input=1)


def _without_events(program: Program) -> Program:
    if program[0] == "event":
        return ["call"]
    return [_without_events(part) if isinstance(part, list) else part for part in program]


def perform(
    hub: Hub, clock: ManualClock, program: Program, laps: int, misfortunes: Sequence[str] = (), instance: str = "root"
) -> InstanceInfo:
    """Run a program under misfortunes on a hub of its own, check its history, and return how it ended."""
    stage = Stage(hub, clock)
    # With none, each turn is looked at twice instead: honest programs raise no false alarm.
    stage.add_engine(verify_replay=not misfortunes)
    stage.orchestrators(interpret)
    stage.activities(echo, add_one, fail)
    stage.start(interpret, [program, laps, []], instance=instance)
    for _ in range(_EVENTS * (laps + 1)):
        stage.raise_event(instance, "A")
        stage.raise_event(instance, "b")
    for misfortune in misfortunes:
        if misfortune == "crash":
            stage.crash()
        elif misfortune == "forget":
            stage.engine.close()
        elif misfortune == "suspend":
            stage.suspend(instance)
        elif misfortune == "resume":
            stage.resume(instance)
        stage.round()
    stage.resume(instance)
    state = stage.run_to_end(instance)
    # Children that nobody waited for end as well, so that what is left is the same for every run.
    for _ in range(_MAX_STEPS):
        if not stage.advance_to_next():
            break
    check_history(stage, instance)
    _replay(stage, instance)
    stage.engine.close()
    return state


def _replay(stage: Stage, instance: str) -> None:
    """Go through the final history with a fresh machine, which must decide all that again."""
    machine = Machine(stage.registry.orchestrator("interpret"), stage.converter)
    machine.replay(stage.history(instance))
    machine.close()
    assert isinstance(stage.history(instance)[-1], ExecutionCompleted), "the history goes on after its end"


def generation(bench: Bench, *, few: int, many: int) -> settings:
    """Return how Hypothesis is to run in a case. `hypothesis.seed(bench.seed)` beside it makes runs repeatable.

    Args:
        bench: that of the case.
        few: how many examples a run takes.
        many: how many one in full. It also looks for the smallest example that fails, which takes a while.
    """
    is_full = bench.session.full
    return settings(
        max_examples=many if is_full or bench.session.hunting else few,
        stateful_step_count=50,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if is_full else (Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )

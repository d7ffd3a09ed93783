"""Random small orchestrations under random misfortune: always the same outcome, and a sound history."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.conftest import make_provider

from perdure import history as h
from perdure.replay.machine import Machine
from perdure.replay.tasks import when_all, when_any
from perdure.spi import ManualClock
from perdure_conformance.stage import Ctx, Flow, Stage, add_one, check_history, echo, fail, output_of

Program: TypeAlias = list[Any]

EVENTS = 6
"""So many of each name are raised up front: nobody waits in vain."""

OPERATIONS = ["call", "fail", "timer 1", "timer 3600", "event a", "event B", "late", "status", "send", "cancel"]
LEAVES = st.sampled_from([operation.split() for operation in [*OPERATIONS, "ids", "child"]])


def composed(parts: st.SearchStrategy[Program]) -> st.SearchStrategy[Program]:
    several = st.lists(parts, min_size=1, max_size=3)
    return st.one_of(
        several.map(lambda programs: ["sequence", *programs]),
        st.lists(LEAVES, min_size=1, max_size=3).map(lambda programs: ["all", *programs]),
        st.lists(LEAVES, min_size=1, max_size=3).map(lambda programs: ["any", *programs]),
        parts.map(lambda program: ["sub", program]),
    )


PROGRAMS = st.recursive(LEAVES, composed, max_leaves=6)
MISFORTUNES = st.lists(st.sampled_from(["round", "crash", "forget", "suspend", "resume"]), max_size=12)


def interpret(ctx: Ctx, job: list[Any]) -> Flow:
    """Run a program: a list of an operation and its arguments. Then start over, as often as asked, and end."""
    program, laps, seen = job
    seen = [*seen, (yield from run(ctx, program))]
    if laps:
        ctx.continue_as_new([program, laps - 1, seen])
        return None
    return seen


def run(ctx: Ctx, program: Program) -> Flow:
    match program:
        case ["sequence", *programs]:
            results = []
            for part in programs:
                results.append((yield from run(ctx, part)))
            return results
        case ["sub", part]:
            # Events go to the parent alone.
            return (yield ctx.call_sub_orchestrator("interpret", input=[without_events(part), 0, []]))
        case ["all", *programs]:
            try:
                yield when_all([task_of(ctx, part) for part in programs])
            except Exception as error:
                return type(error).__name__
            return len(programs)
        case ["any", *programs]:
            winner = yield when_any([task_of(ctx, part) for part in programs])
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
                return (yield task_of(ctx, program))
            except Exception as error:
                return type(error).__name__


def task_of(ctx: Ctx, program: Program) -> Any:
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


def without_events(program: Program) -> Program:
    if program[0] == "event":
        return ["call"]
    return [without_events(part) if isinstance(part, list) else part for part in program]


def perform(scheme: str, folder: Path, program: Program, laps: int, misfortunes: list[str]) -> Any:
    """Run a program under misfortunes, check its history, and return its output."""
    clock = ManualClock()
    with make_provider(scheme, folder, clock) as provider:
        provider.create_hub("h")
        stage = Stage(provider.hub("h"), clock)
        # With none, each turn is looked at twice instead: honest programs raise no false alarm.
        stage.add_engine(verify_replay=not misfortunes)
        stage.orchestrators(interpret)
        stage.activities(echo, add_one, fail)
        instance = stage.start(interpret, [program, laps, []])
        for _ in range(EVENTS * (laps + 1)):
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
        check_history(stage, instance)
        replay(stage, instance)
        stage.engine.close()
        return output_of(state)


def replay(stage: Stage, instance: str) -> None:
    """Go through the final history with a fresh machine, which must decide all that again."""
    machine = Machine(stage.registry.orchestrator("interpret"), stage.converter)
    machine.replay(stage.history(instance))
    machine.close()
    assert isinstance(stage.history(instance)[-1], h.ExecutionCompleted)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=PROGRAMS, laps=st.integers(0, 2), misfortunes=MISFORTUNES)
def test_misfortune_changes_nothing(program: Program, laps: int, misfortunes: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = perform("memory", Path(folder), program, laps, [])
        assert perform("memory", Path(folder), program, laps, misfortunes) == undisturbed
        assert perform("sqlite", Path(folder), program, laps, misfortunes) == undisturbed

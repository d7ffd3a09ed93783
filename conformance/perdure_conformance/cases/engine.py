"""ENG: the engine on the provider."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from hypothesis import given, seed

from perdure.activities import ActivityContext
from perdure.codec import dumps
from perdure.errors import CustomStatusTooLarge
from perdure.history import SubOrchestrationCreated, TaskCompleted, encode_event
from perdure.replay.tasks import when_all
from perdure.spi import (
    Exchange,
    InstanceQuery,
    ManualClock,
    NewActivity,
    Outcome,
    OutcomeUnknown,
)
from perdure_conformance.bench import START, Bench
from perdure_conformance.case import case
from perdure_conformance.driver import COMPLETED, ENDED, FAILED, RUNNING, SUSPENDED, TERMINATED, fresh, message
from perdure_conformance.programs import LAPS, MISFORTUNES, PROGRAMS, Program, generation, perform
from perdure_conformance.reference import reference_hub
from perdure_conformance.stage import (
    LEASE_SECONDS,
    Ctx,
    FaultyHub,
    Flow,
    Stage,
    add_one,
    check_history,
    child,
    echo,
    fail,
    failing_child,
    output_of,
    waiter,
)

LEASE = timedelta(seconds=LEASE_SECONDS)
QUARANTINE_MS = 5000

CACHES: Final = ("cached", "replayed")
"""Variants: turns continue the orchestrator that was kept, or each of them is a replay of the stored history."""


@contextmanager
def stage_on(bench: Bench, *, cold: bool | None = None) -> Iterator[Stage]:
    """Build a stage on the case's hub, with what most flows call."""
    stage = Stage(bench.hub, bench.clock, cold=bench.variant == "replayed" if cold is None else cold)
    stage.activities(echo, add_one, fail)
    stage.orchestrators(child, failing_child, waiter)
    try:
        yield stage
    finally:
        for engine in stage.engines:
            engine.close()


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep what the engine logs to itself, where errors are what it is about."""
    logger = logging.getLogger("perdure")
    logger.disabled, was = True, logger.disabled
    try:
        yield
    finally:
        logger.disabled = was


def children(stage: Stage, instance: str) -> list[str]:
    return [event.instance_id for event in stage.history(instance) if isinstance(event, SubOrchestrationCreated)]


def check_idle(bench: Bench, stage: Stage) -> None:
    """Check that nothing is left to be done: no message, no activity, no lease, now or later."""
    assert not stage.advance_to_next()
    stats = bench.hub.stats()
    for queue in (stats.turns, stats.activities):
        assert (queue.ready, queue.leased, queue.future) == (0, 0, 0)


def fits() -> list[Any]:
    """Return values that take as many bytes as a custom status may, or nearly so."""
    return ["a" * 8190, "😀" * 4095, "中" * 8190, '"' * 4095, "\ud800" * 1365, {"k": "a" * 8184}]


def is_too_large() -> list[Any]:
    """Return the same with one character more."""
    return ["a" * 8191, "😀" * 4096, "中" * 8191, '"' * 4096, "\ud800" * 1366, {"k": "a" * 8185}]


def busy(ctx: Ctx, value: int) -> Flow:
    """An orchestrator that does a little of everything."""
    ctx.set_custom_status({"step": 1})
    first = yield ctx.call_activity("add_one", input=value)
    both = yield when_all([ctx.call_activity("add_one", input=first), ctx.create_timer(timedelta(seconds=5))])
    ctx.set_custom_status({"step": 2})
    ctx.send_event(ctx.instance_id, "self", data=both[0])
    echoed = yield ctx.wait_for_external_event("self", timeout=60)
    kid = yield ctx.call_sub_orchestrator("child", input=echoed + 1, instance_id=f"kid-{ctx.instance_id}-{value}")
    if value < 3:
        ctx.continue_as_new(kid)
    return kid


class Killed(BaseException):
    """The end of a worker."""


def run_busy(bench: Bench, *, accident: int, when: str, error: BaseException) -> tuple[list[str], int]:
    """Run `busy` with an accident at one exchange, and check what came of it.

    Args:
        bench: that of the case.
        accident: the number of the exchange; 0: none.
        when: whether it happens "before" or "after" the exchange is done.
        error: how the worker gets to know it.

    Returns:
        The kinds of the events, sorted, and how many exchanges there were until the accident, or in all.
    """
    began = bench.clock.now()
    calls = 0
    with stage_on(bench, cold=False) as stage:
        hub = FaultyHub(stage.hub)

        def fail_once(name: str, number: int) -> Any:
            nonlocal calls
            calls += name == "exchange"
            return (when, error) if name == "exchange" and calls == accident else None

        hub.fail = fail_once
        stage.orchestrators(busy)
        stage.add_engine(hub=hub)
        instance = stage.start(busy, 1)
        try:
            state = stage.run_to_end(instance)
        except Killed:
            stage.crash()
            state = stage.run_to_end(instance)
        assert (output_of(state), state.execution, state.custom_status) == (7, 2, b'{"step":2}')
        check_history(stage, instance)
        check_idle(bench, stage)
        # Two timers, and at most one lease that had to run out.
        assert bench.clock.now() - began <= 2 * 5000 + LEASE_SECONDS * 1000
        return sorted(kind for kind in stage.kinds(instance) if kind != "OrchestratorStarted"), calls


class EngineCases:
    """Cases ENG."""

    @case("ENGINE", "I3", "I13", variants=CACHES)
    def test_eng_01_a_late_result_is_dropped(self, bench: Bench) -> None:
        """A result that comes too late, of a former execution, attempt or lease, changes nothing and blocks nothing."""

        def flow(ctx: Ctx, lap: int) -> Flow:
            task = ctx.call_activity("note", input=f"of lap {lap}")
            if lap == 1:
                yield ctx.wait_for_external_event("next")
                ctx.continue_as_new(2)
                return None
            return (yield task)

        def note(ctx: ActivityContext, value: str) -> str:
            return f"{value}, attempt {ctx.attempt}"

        with stage_on(bench) as stage:
            stage.activities(note)
            stage.orchestrators(flow)
            instance = stage.start(flow, 1)
            slow, runner = stage.engine, stage.runner
            runner.holds = True
            stage.drain()
            former = stage.execution_id(instance)
            assert len(runner.held) == 1
            stage.raise_event(instance, "next")
            stage.drain()
            assert stage.state(instance).execution == 2
            assert len(runner.held) == 2
            of_former, of_current = runner.held
            assert stage.execution_id(instance) != former
            # The result of the former execution, by its worker and as a message that went astray.
            runner.held = [of_former]
            runner.release()
            stage.drain()
            wrong = TaskCompleted(timestamp=0, task_scheduled_id=0, result=b'"wrong"')
            for origin in (f"{former}:2", "f" * 32 + ":2"):
                bench.send(origin, instance=instance, payload=encode_event(wrong))
            stage.drain()
            assert stage.kinds(instance)[-1] == "TaskScheduled"
            assert bench.hub.stats().turns.ready == 0
            # Another worker takes the activity over, and the first one is done only then.
            stage.engines.clear()
            other = stage.add_engine()
            stage.runner_of(other).holds = True
            stage.advance(LEASE)
            assert [item.attempt for item in stage.runner_of(other).held] == [2]
            runner.held = [of_current]
            runner.release()
            for _ in range(10):
                slow.round()
            stage.drain()
            assert stage.status(instance) is RUNNING
            stage.runner_of(other).release()
            assert output_of(stage.run_to_end(instance)) == "of lap 2, attempt 2"
            assert stage.kinds(instance).count("TaskCompleted") == 1
            check_history(stage, instance)
            check_idle(bench, stage)

    @case("ENGINE", "I4", slow=True)
    def test_eng_02_default_ids_of_children_never_collide(self, bench: Bench) -> None:
        """Children without a chosen id get one of their own, a hundred deep, side by side, and in each execution."""

        def deep(ctx: Ctx, depth: int) -> Flow:
            if depth == 0:
                return 0
            return 1 + (yield ctx.call_sub_orchestrator("deep", input=depth - 1))

        def lapping(ctx: Ctx, lap: int) -> Flow:
            pair = [ctx.call_sub_orchestrator("child", input=[ctx.instance_id, lap, side]) for side in (0, 1)]
            # Somebody who waits for ever: no result of it may reach a later execution.
            ctx.call_sub_orchestrator("waiter")
            results = yield when_all(pair)
            if lap < 3:
                ctx.continue_as_new(lap + 1)
            return results

        with stage_on(bench) as stage:
            stage.orchestrators(deep, lapping)
            twins = [stage.start(lapping, 1, instance=name) for name in ("p", "q")]
            for twin in twins:
                assert output_of(stage.run_to_end(twin)) == [[twin, 3, 0], [twin, 3, 1]]
                assert len(bench.find(parent=twin, page_size=100)) == 9
            instance = stage.start(deep, 100)
            assert output_of(stage.run_to_end(instance)) == 100
            family = [instance]
            while kids := children(stage, family[-1]):
                assert bench.find(parent=family[-1]) == kids
                family += kids
            assert len(set(family)) == 101
            assert bench.hub.stats().instances[COMPLETED] == 101 + 2 + 2 * 6

    @case("ENGINE", "I7", "I8")
    def test_eng_03_a_suspension_holds_back_what_arrives(self, bench: Bench) -> None:
        """What comes for a suspended instance waits, and is applied in its order at the resumption."""

        def collector(ctx: Ctx) -> Flow:
            activity = ctx.call_activity("echo", input="result")
            timer = ctx.create_timer(timedelta(seconds=1))
            seen = [(yield ctx.wait_for_external_event("e")), (yield ctx.wait_for_external_event("e"))]
            seen.append((yield activity))
            yield timer
            while len(seen) < 15:
                seen.append((yield ctx.wait_for_external_event("e")))
            return seen

        histories = []
        with stage_on(bench, cold=False) as stage:
            stage.orchestrators(collector)
            for cold in (False, True):
                stage.cold = cold
                stage.runner.holds = True
                instance = stage.start(collector)
                stage.drain()
                stage.raise_event(instance, "e", -1)
                stage.suspend(instance)
                stage.drain()
                assert stage.status(instance) is SUSPENDED
                for number in range(3):
                    stage.raise_event(instance, "e", number)
                    stage.drain()
                stage.runner.holds = False
                stage.runner.release()
                stage.drain()
                stage.advance(timedelta(seconds=2))
                # Many at once, with ids in no order.
                for number in range(3, 13):
                    stage.raise_event(instance, "e", number)
                stage.drain()
                assert stage.status(instance) is SUSPENDED
                assert "TimerFired" in stage.kinds(instance)
                stage.resume(instance)
                expected = [-1, 0, "result", *range(1, 13)]
                assert output_of(stage.run_to_end(instance)) == expected
                check_history(stage, instance)
                histories.append(stage.kinds(instance))
            assert histories[1] == histories[0]
            # Before its start is due: the suspension comes at once, and the start when it is due.
            early = stage.start("child", "hello", start_at=timedelta(hours=1))
            stage.suspend(early)
            stage.drain()
            assert stage.status(early) is SUSPENDED
            stage.advance(timedelta(hours=2))
            assert stage.status(early) is SUSPENDED
            stage.resume(early)
            assert output_of(stage.run_to_end(early)) == "hello"
            check_idle(bench, stage)

    @case("I6", "I11", "STATUS")
    def test_eng_04_a_failed_family_goes_on_from_before_its_failure(self, bench: Bench) -> None:
        """A failed child and its failed parent are reopened with rewritten histories, and run to a good end."""
        fails = [True]

        def flaky(ctx: ActivityContext) -> str:
            if fails[0]:
                raise ValueError("not yet")
            return "at last"

        def kid(ctx: Ctx) -> Flow:
            ctx.set_custom_status("trying")
            return (yield ctx.call_activity("flaky"))

        def parent(ctx: Ctx) -> Flow:
            ctx.set_custom_status("waiting")
            return (yield ctx.call_sub_orchestrator("kid", instance_id="kid"))

        with stage_on(bench) as stage:
            stage.activities(flaky)
            stage.orchestrators(kid, parent)
            stage.start(parent, instance="parent")
            bystander = stage.start("failing_child", "stays", instance="bystander")
            stage.run_to_end(bystander)
            for name in ("parent", "kid", bystander):
                assert stage.status(name) is FAILED
            fails[0] = False
            # Up from the child: each history is cut before the turn that took in the failure.
            with bench.unchanged("parent", "kid", bystander):
                assert bench.send("no", instance="kid") == [Outcome.TERMINAL]
                assert bench.send("no", instance="kid", reopen=ENDED - {FAILED}) == [Outcome.TERMINAL]
            assert bench.send("rewind", instance="kid", payload=b"", reopen={FAILED}) == [Outcome.OK]
            upwards = message("rewind", "parent", payload=b"", reopen=frozenset({FAILED}))
            for name, following in (("kid", [upwards]), ("parent", [])):
                info, before = stage.state(name), stage.stored_history(name)
                assert (info.status, info.completed_at, info.output, info.failure) == (RUNNING, None, None, None)
                assert info.custom_status == (b'"trying"' if name == "kid" else b'"waiting"')
                item = bench.claim_one()
                assert (item.instance, item.status, item.next_seq) == (name, RUNNING, len(before))
                kept = before[: stage.kinds(name)[::-1].index("OrchestratorStarted") * -1 - 1]
                again = NewActivity(id=f"{stage.execution_id(name)}:2", name="flaky", payload=kept[2])
                commit: dict[str, Any] = {"rewrite": True, "events": kept, "messages": following}
                assert bench.commit(item, **commit, activities=[again] if name == "kid" else []) is Outcome.OK
                assert stage.stored_history(name) == kept
                assert (stage.state(name).next_seq, stage.state(name).status_rev) == (len(kept), info.status_rev)
            # A worker that knows nothing of all that goes on from there.
            stage.crash()
            assert output_of(stage.run_to_end("parent")) == "at last"
            assert output_of(stage.state("kid")) == "at last"
            for name in ("parent", "kid"):
                assert not [kind for kind in stage.kinds(name) if kind.endswith("Failed")]
                check_history(stage, name)
            assert stage.status(bystander) is FAILED
            check_idle(bench, stage)

    @case("STATUS", "ENGINE", variants=CACHES)
    def test_eng_05_what_becomes_of_a_custom_status(self, bench: Bench) -> None:
        """A custom status is kept by every later turn, execution and end, and only a new incarnation has none."""

        def laps(ctx: Ctx, lap: int) -> Flow:
            if lap == 1:
                ctx.set_custom_status("of lap 1")
            yield ctx.wait_for_external_event("go")
            if lap == 2:
                ctx.set_custom_status("of lap 2")
            if lap == 3:
                ctx.set_custom_status(None)
                return
            ctx.continue_as_new(lap + 1)

        def ends(ctx: Ctx, job: list[str | None]) -> Flow:
            how, last = job
            ctx.set_custom_status("committed")
            yield ctx.wait_for_external_event("go")
            if last is not None:
                ctx.set_custom_status(last)
            if how == "fail":
                raise ValueError("no")

        def quiet(ctx: Ctx) -> Flow:
            yield ctx.wait_for_external_event("go")

        with stage_on(bench) as stage:
            stage.orchestrators(laps, ends, quiet)
            # Continue-as-new carries it over until the next set or clear.
            instance = stage.start(laps, 1)
            found: list[Any] = []
            for _ in range(3):
                stage.drain()
                found.append((stage.state(instance).execution, stage.state(instance).custom_status))
                stage.raise_event(instance, "go")
            assert found == [(1, b'"of lap 1"'), (2, b'"of lap 1"'), (3, b'"of lap 2"')]
            assert stage.run_to_end(instance).custom_status is None

            # An end keeps the last that was accepted; so do a suspension and a termination.
            for how, status in (("complete", COMPLETED), ("fail", FAILED)):
                for last in ("of the last turn", None):
                    instance = stage.start(ends, [how, last])
                    stage.drain()
                    stage.raise_event(instance, "go")
                    state = stage.run_to_end(instance)
                    assert state.status is status
                    assert state.custom_status == (b'"of the last turn"' if last else b'"committed"')
            instance = stage.start(ends, ["complete", "of the last turn"])
            stage.drain()
            rev = stage.state(instance).status_rev
            stage.suspend(instance)
            stage.drain()
            stage.raise_event(instance, "go")
            stage.drain()
            state = stage.state(instance)
            assert (state.status, state.custom_status, state.status_rev) == (SUSPENDED, b'"committed"', rev)
            stage.resume(instance)
            assert stage.run_to_end(instance).custom_status == b'"of the last turn"'
            instance = stage.start(ends, ["complete", "too late"])
            stage.drain()
            stage.raise_event(instance, "go")
            stage.terminate(instance)
            state = stage.run_to_end(instance)
            assert (state.status, state.custom_status) == (TERMINATED, b'"committed"')

            # The next incarnation of the id has none.
            stage.start(quiet, instance=instance, replace=True)
            assert stage.state(instance).custom_status is None
            stage.drain()
            stage.raise_event(instance, "go")
            state = stage.run_to_end(instance)
            assert (state.status, state.custom_status, state.status_rev) == (COMPLETED, None, 0)

    @case("16KB", "I16", variants=CACHES)
    def test_eng_06_the_largest_custom_status_at_every_moment(self, bench: Bench) -> None:
        """Custom statuses at the limit are whole beside other effects, in the next execution and after the end."""
        allowed, refused = fits(), is_too_large()

        def flow(ctx: Ctx, place: int) -> Flow:
            try:
                ctx.set_custom_status(refused[place])
            except CustomStatusTooLarge:
                ctx.set_custom_status(allowed[place])
            yield ctx.call_activity("echo", input=allowed[place])
            yield ctx.wait_for_external_event("go")
            try:
                ctx.set_custom_status(refused[place])
            except CustomStatusTooLarge:
                if place + 1 < len(allowed):
                    ctx.continue_as_new(place + 1)
            return allowed[place]

        with stage_on(bench) as stage:
            stage.orchestrators(flow)
            instance = stage.start(flow, 0)
            stage.drain()
            for place, value in enumerate(allowed):
                state = stage.state(instance)
                assert (state.execution, state.status) == (place + 1, RUNNING)
                assert state.custom_status is not None
                assert 16_380 <= len(state.custom_status.decode().encode("utf-16-le")) <= 16_384
                assert state.custom_status == dumps(value)
                stage.raise_event(instance, "go")
                stage.drain()
            state = stage.state(instance)
            assert output_of(state) == allowed[-1]
            assert state.custom_status == dumps(allowed[-1])

    @case("ENGINE", "I4", "I19", variants=CACHES)
    def test_eng_07_it_is_readable_while_the_activity_runs(self, bench: Bench) -> None:
        """A custom status set before an activity or a child was called is readable from inside that."""
        seen: list[Any] = []

        def look(ctx: ActivityContext, of: list[Any]) -> None:
            instance, step = of
            listed = [
                info.custom_status for info in bench.hub.query_instances(InstanceQuery()).items if info.id == instance
            ]
            seen.append((step, stage.state(instance).custom_status, *listed))

        def looking(ctx: Ctx, of: list[Any]) -> Flow:
            yield ctx.call_activity("look", input=of)

        def flow(ctx: Ctx) -> Flow:
            for step in range(6):
                ctx.set_custom_status({"step": "overwritten"})
                ctx.set_custom_status({"step": step})
                if step % 2:
                    yield ctx.call_sub_orchestrator("looking", input=[ctx.instance_id, step])
                else:
                    yield ctx.call_activity("look", input=[ctx.instance_id, step])

        with stage_on(bench) as stage:
            stage.activities(look)
            stage.orchestrators(flow, looking)
            stage.run_to_end(stage.start(flow))
            assert seen == [(step, *[b'{"step":%d}' % step] * 2) for step in range(6)]

    @case("ENGINE", "I14", "RESULTS")
    def test_eng_08_what_can_not_run_harms_no_neighbour(self, bench: Bench) -> None:
        """An instance whose turns can't run is tried again after a while, counted, and its neighbours go on."""
        attempts: dict[str, list[int]] = {}

        class Counting(FaultyHub):
            def exchange(self, exchange: Exchange) -> Any:
                result = self._hub.exchange(exchange)
                for item in result.turns.items if result.turns is not None else ():
                    attempts.setdefault(item.instance, []).append(item.attempt)
                return result

        with stage_on(bench, cold=False) as stage:
            stage.add_engine(hub=Counting(stage.hub))
            instances = [stage.start("waiter", instance=f"i{number}") for number in range(5)]
            stage.drain()
            attempts.clear()
            with unlogged():
                self._check_poisoned(bench, stage, instances, attempts)

        # An activity whose worker dies, and one that waits its turn beside it.
        def noting(ctx: ActivityContext, value: int) -> list[int]:
            return [value, ctx.attempt]

        def flow(ctx: Ctx) -> Flow:
            return (yield when_all([ctx.call_activity("noting", input=number) for number in range(3)]))

        with stage_on(bench, cold=False) as stage:
            stage.activities(noting)
            stage.orchestrators(flow)
            engine = stage.add_engine(max_activities=1)
            instance = stage.start(flow)
            for _ in range(2):
                stage.runner_of(engine).holds = True
                stage.drain()
                engine = stage.crash(engine, max_activities=1)
                stage.drain()
                stage.clock.advance(LEASE // timedelta(milliseconds=1))
            stage.run_to_end(instance)
            results = output_of(stage.state(instance))
            assert sum(attempt for _, attempt in results) == 5
            assert [value for value, _ in results] == [0, 1, 2]
            check_history(stage, instance)

    @staticmethod
    def _check_poisoned(bench: Bench, stage: Stage, instances: list[str], attempts: dict[str, list[int]]) -> None:
        """Have one of the instances get a message that can't be read."""
        bench.send(fresh("garbage"), instance="i2", payload=b"garbage")
        for number, instance in enumerate(instances):
            stage.raise_event(instance, "go", number)
        stage.drain()
        for number in (0, 1, 3, 4):
            assert output_of(stage.state(f"i{number}")) == number
        before = stage.state("i2")
        assert (before.status, before.next_seq) == (RUNNING, len(stage.history("i2")))
        # Not before the delay, and then once more each time.
        stage.advance(timedelta(milliseconds=QUARANTINE_MS - 1))
        assert attempts == {instance: [1] for instance in instances}
        for ms in (1, QUARANTINE_MS, QUARANTINE_MS):
            stage.advance(timedelta(milliseconds=ms))
        assert attempts["i2"] == [1, 2, 3, 4]
        assert stage.state("i2").next_seq == before.next_seq
        # It can be terminated all the same, without waiting for the delay to end.
        stage.terminate("i2", "enough")
        stage.drain()
        state = stage.state("i2")
        assert (state.status, state.output) == (TERMINATED, b'"enough"')
        assert attempts["i2"] == [1, 2, 3, 4, 5]
        check_idle(bench, stage)

    @case("ENGINE", slow=True)
    def test_eng_09_random_programs_come_to_the_same_end(self, bench: Bench) -> None:
        """Whatever befalls random orchestrations on the way, they end as on the reference where nothing does."""

        @seed(bench.seed)
        @generation(bench, few=2, many=60)
        @given(program=PROGRAMS, laps=LAPS, misfortunes=MISFORTUNES)
        def check(program: Program, laps: int, misfortunes: list[str]) -> None:
            clock = ManualClock(START)
            with reference_hub(bench, clock) as model:
                undisturbed = perform(model, clock, program, laps)
            bench.clock.set(START)
            state = perform(bench.new_hub().hub, bench.clock, program, laps, misfortunes)
            assert output_of(state) == output_of(undisturbed)

        check()

    @case("ENGINE", "I5", "I3", variants=("lost reply", "killed before", "killed after"), slow=True)
    def test_eng_10_an_accident_at_any_exchange_changes_nothing(self, bench: Bench) -> None:
        """A reply that is lost and a worker that dies, at whichever exchange, leave the same history as none."""
        when = "before" if bench.variant == "killed before" else "after"
        error = OutcomeUnknown("gone") if bench.variant == "lost reply" else Killed()
        undisturbed, _ = run_busy(bench, accident=0, when=when, error=error)
        # Every third is a run's share: which ones is the seed's choice.
        step = 1 if bench.session.scale == 1.0 else 3
        for accident in range(1 + bench.rng.randrange(step), 100, step):
            kinds, calls = run_busy(bench, accident=accident, when=when, error=error)
            assert kinds == undisturbed
            if calls < accident:
                break
        assert 10 < accident < 96

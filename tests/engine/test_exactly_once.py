"""Crashes, lost replies and stolen leases: history and results exactly once, whatever happens."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from perdure import history as h
from perdure.activities import ActivityContext
from perdure.engine import Engine
from perdure.errors import InvalidRequest, OutcomeUnknown, ProviderUnavailable, TooLarge, Transient
from perdure.replay.tasks import when_all
from perdure.spi import (
    ActivityDone,
    ClaimActivities,
    Exchange,
    Message,
    OrchestrationStatus,
    Outcome,
    TurnCommit,
)
from perdure_conformance.stage import LEASE_SECONDS, Ctx, FaultyHub, Flow, Stage, check_history, failure_of, output_of

LEASE = timedelta(seconds=LEASE_SECONDS)


def busy(ctx: Ctx, value: int) -> Flow:
    """An orchestrator that does a little of everything."""
    ctx.set_custom_status({"step": 1})
    first = yield ctx.call_activity("add_one", input=value)
    both = yield when_all([ctx.call_activity("add_one", input=first), ctx.create_timer(timedelta(seconds=5))])
    ctx.set_custom_status({"step": 2})
    ctx.send_event(ctx.instance_id, "self", data=both[0])
    echoed = yield ctx.wait_for_external_event("self", timeout=60)
    return (yield ctx.call_sub_orchestrator("child", input=echoed + 1))


BUSY_KINDS = Counter(
    {
        "ExecutionStarted": 1,
        "TaskScheduled": 2,
        "TaskCompleted": 2,
        "TimerCreated": 2,
        "TimerFired": 1,
        "EventSent": 1,
        "EventRaised": 1,
        "Generic": 1,
        "SubOrchestrationCreated": 1,
        "SubOrchestrationCompleted": 1,
        "ExecutionCompleted": 1,
    }
)


def check_busy(stage: Stage, instance: str) -> None:
    state = stage.state(instance)
    assert output_of(state) == 4
    assert state.custom_status == b'{"step":2}'
    check_history(stage, instance)
    counts = Counter(stage.kinds(instance))
    del counts["OrchestratorStarted"]
    assert counts == BUSY_KINDS


def exchanges_of(stage: Stage) -> int:
    """Run the orchestrator undisturbed and count the exchanges that it takes."""
    hub = FaultyHub(stage.hub)
    stage.orchestrators(busy)
    stage.add_engine(hub=hub)
    stage.run_to_end(stage.start(busy, 1))
    return hub.calls.count("exchange")


@pytest.mark.parametrize(
    ("when", "error"),
    [
        ("before", Transient("busy")),
        ("before", OutcomeUnknown("gone")),
        ("after", OutcomeUnknown("gone")),
        ("before", RuntimeError("a fault of the provider")),
        ("after", RuntimeError("a fault of the provider")),
    ],
)
def test_an_error_at_any_exchange(make_stage: Callable[..., Stage], when: str, error: Exception) -> None:
    total = exchanges_of(make_stage())
    assert total > 10
    for k in range(total):
        stage = make_stage()
        hub = FaultyHub(stage.hub)
        left = [k]

        def fail(name: str, number: int, left: list[int] = left) -> tuple[str, Exception] | None:
            if name != "exchange":
                return None
            left[0] -= 1
            return (when, error) if left[0] == -1 else None

        hub.fail = fail
        stage.orchestrators(busy)
        stage.add_engine(hub=hub)
        instance = stage.start(busy, 1)
        stage.run_to_end(instance)
        check_busy(stage, instance)


@pytest.mark.parametrize("applied", [True, False])
def test_a_crash_at_any_exchange(make_stage: Callable[..., Stage], applied: bool) -> None:
    """The worker dies before or after the exchange; a fresh one goes on, when the leases have run out."""

    class Killed(BaseException):
        pass

    for k in range(exchanges_of(make_stage())):
        stage = make_stage()
        hub = FaultyHub(stage.hub)
        at = [k]

        def fail(name: str, number: int, at: list[int] = at) -> Any:
            if name == "exchange":
                at[0] -= 1
                if at[0] == -1:
                    return ("after" if applied else "before", Killed())
            return None

        hub.fail = fail
        stage.orchestrators(busy)
        stage.add_engine(hub=hub)
        instance = stage.start(busy, 1)
        with pytest.raises(Killed):
            stage.run_to_end(instance)
        stage.crash()
        stage.run_to_end(instance)
        check_busy(stage, instance)


def test_a_crash_between_any_two_rounds(make_stage: Callable[..., Stage]) -> None:
    for k in range(1, 12):
        stage = make_stage()
        stage.orchestrators(busy)
        instance = stage.start(busy, 1)
        for _ in range(k):
            stage.round()
        stage.crash()
        stage.run_to_end(instance)
        check_busy(stage, instance)


def test_an_activity_whose_worker_died_runs_again_and_is_recorded_once(stage: Stage) -> None:
    attempts: list[int] = []

    def note(ctx: ActivityContext) -> int:
        attempts.append(ctx.attempt)
        return ctx.attempt

    def flow(ctx: Ctx) -> Flow:
        return (yield ctx.call_activity("note"))

    stage.activities(note)
    stage.orchestrators(flow)
    instance = stage.start(flow)
    stage.runner.holds = True
    stage.drain()
    assert stage.runner.started == ["note"]
    stage.crash()
    stage.drain()
    assert attempts == []
    stage.advance(LEASE)
    assert attempts == [2]
    assert output_of(stage.state(instance)) == 2


# A worker that was silent for too long.


def take_over(stage: Stage) -> tuple[Engine, Engine]:
    """Return a worker that lost its leases, and the one that has them now."""
    slow = stage.engine
    stage.engines.clear()
    return slow, stage.add_engine()


def test_a_turn_whose_lease_was_stolen_is_lost(stage: Stage) -> None:
    instance = stage.start("child", 1)
    stage.round()
    slow, other = take_over(stage)
    stage.advance(LEASE)
    # The first worker still wants to commit the turn that the second has done.
    while slow.is_busy or slow.round() == 0:
        slow.round()
    assert stage.kinds(instance).count("TaskScheduled") == 1
    stage.run_to_end(instance)
    check_history(stage, instance)
    assert stage.runner_of(slow).started + stage.runner_of(other).started == ["echo"]


def test_the_result_of_an_activity_whose_lease_was_stolen_is_lost(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "perdure")
    stage.registry.add_activity(lambda ctx: f"attempt {ctx.attempt}", name="note")

    def flow(ctx: Ctx) -> Flow:
        first = yield ctx.call_activity("note")
        yield ctx.create_timer(timedelta(days=1))
        return first

    stage.orchestrators(flow)
    instance = stage.start(flow)
    stage.runner.holds = True
    stage.drain()
    slow, _ = take_over(stage)
    stage.advance(LEASE)
    stage.runner_of(slow).release()
    slow.round()
    assert "a result came too late" in caplog.text
    assert output_of(stage.run_to_end(instance)) == "attempt 2"
    check_history(stage, instance)


def test_a_late_result_that_nobody_else_has_is_recorded(stage: Stage) -> None:
    """An expired lease is good until somebody takes it."""
    instance = stage.start("child", 1)
    stage.runner.holds = True
    stage.drain()
    stage.clock.advance(10 * LEASE // timedelta(milliseconds=1))
    finished = stage.runner.held[:]
    stage.runner.release()
    done = stage.runner.finished.get()
    message = done.message
    assert stage.hub.complete_activities([ActivityDone(lease=finished[0].lease, message=message)]) == [Outcome.OK]
    stage.drain()
    assert output_of(stage.state(instance)) == 1
    assert stage.runner.started == ["echo"]


def test_a_silent_store_makes_a_worker_give_its_activities_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FaultyHub(stage.hub)
    engine = stage.add_engine(hub=hub)
    runner = stage.runner_of(engine)
    instance = stage.start("child", 1)
    runner.holds = True
    stage.drain()
    hub.fail = lambda name, number: ("before", Transient("down"))
    engine.round()
    assert runner.cancelled == []
    now = engine._running[next(iter(engine._running))].renewed_at
    monkeypatch.setattr("perdure.engine.time.monotonic", lambda: now + LEASE_SECONDS * 2 / 3 + 1)
    engine.round()
    assert runner.cancelled == ["echo"]
    # What it returns now is no result: whoever is told to stop may return anything.
    runner.holds = False
    runner.release()
    hub.fail = lambda name, number: None
    stage.run_to_end(instance)
    assert runner.started == ["echo", "echo"]
    check_history(stage, instance)


def test_leases_of_running_activities_are_renewed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = stage.start("child", 1)
    engine = stage.engine
    stage.runner.holds = True
    stage.drain()
    (running,) = engine._running.values()
    before = running.activity.lease.expires_at
    for _ in range(5):
        now = running.renewed_at + LEASE_SECONDS / 3
        monkeypatch.setattr("perdure.engine.time.monotonic", lambda now=now: now)
        stage.clock.advance(int(LEASE_SECONDS * 1000 / 3))
        stage.round()
    assert running.activity.lease.expires_at > before + LEASE_SECONDS * 1000
    stage.runner.release()
    assert output_of(stage.run_to_end(instance)) == 1
    assert stage.runner.started == ["echo"]


def test_a_running_activity_that_is_cancelled_is_told_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = stage.start("child", 1)
    engine = stage.engine
    stage.runner.holds = True
    stage.drain()
    stage.terminate(instance)
    stage.drain()
    now = next(iter(engine._running.values())).renewed_at + LEASE_SECONDS / 3
    monkeypatch.setattr("perdure.engine.time.monotonic", lambda: now)
    stage.round()
    assert stage.runner.cancelled == ["echo"]
    assert not engine.is_busy


# Results that nobody waits for any more.


def deliver(stage: Stage, instance: str, origin: str, event: h.Event) -> None:
    message = Message(id=origin, instance=instance, payload=h.encode_event(event))
    assert stage.hub.send_messages([message]) == [Outcome.OK]


def test_results_of_another_execution_or_a_former_attempt_are_dropped(any_stage: Stage) -> None:
    instance = any_stage.start("child", "right")
    any_stage.runner.holds = True
    any_stage.drain()
    execution_id = any_stage.execution_id(instance)
    wrong = h.TaskCompleted(timestamp=0, task_scheduled_id=0, result=b'"wrong"')
    for origin in ("f" * 32 + ":2", f"{execution_id}:1", f"{execution_id}:20"):
        deliver(any_stage, instance, origin, wrong)
    other = h.TaskCompleted(timestamp=0, task_scheduled_id=1, result=b'"wrong"')
    deliver(any_stage, instance, f"{execution_id}:3", other)
    deliver(any_stage, instance, f"{execution_id}:4", h.TimerFired(timestamp=0, timer_id=0, fire_at=0))
    any_stage.drain()
    assert any_stage.kinds(instance) == ["OrchestratorStarted", "ExecutionStarted", "TaskScheduled"]
    any_stage.runner.release()
    assert output_of(any_stage.run_to_end(instance)) == "right"


def test_a_second_result_is_dropped(any_stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        first = yield ctx.call_activity("echo", input="first")
        yield ctx.wait_for_external_event("go")
        return first

    any_stage.orchestrators(flow)
    instance = any_stage.start(flow)
    any_stage.drain()
    again = h.TaskCompleted(timestamp=0, task_scheduled_id=0, result=b'"second"')
    deliver(any_stage, instance, f"{any_stage.execution_id(instance)}:2", again)
    any_stage.raise_event(instance, "go")
    assert output_of(any_stage.run_to_end(instance)) == "first"
    check_history(any_stage, instance)


# What the provider refuses.


def refuse_larger_than(stage: Stage, size: int) -> FaultyHub:
    """Return a hub that refuses every commit and every result with a payload over `size` bytes."""

    class Refusing(FaultyHub):
        def check(self, commits: Sequence[TurnCommit] = (), done: Sequence[ActivityDone] = ()) -> None:
            payloads = [event for commit in commits for event in commit.events]
            payloads += [item.message.payload for item in done if item.message is not None]
            if any(len(payload) > size for payload in payloads):
                raise TooLarge(f"over {size} bytes")

        def exchange(self, exchange: Exchange) -> Any:
            self.check(exchange.commits, exchange.done)
            return self._hub.exchange(exchange)

        def commit_turns(self, commits: Sequence[TurnCommit]) -> Any:
            self.check(commits)
            return self.__getattr__("commit_turns")(commits)

        def complete_activities(self, done: Sequence[ActivityDone]) -> Any:
            self.check((), done)
            return self.__getattr__("complete_activities")(done)

    return Refusing(stage.hub)


def big_input(ctx: Ctx, size: int) -> Flow:
    yield ctx.call_activity("echo", input="x" * size)
    return "fine"


def test_a_refused_commit_fails_that_instance_alone(stage: Stage) -> None:
    stage.orchestrators(big_input)
    stage.add_engine(hub=refuse_larger_than(stage, 5000))
    ids = [stage.start(big_input, size) for size in (10, 6000, 20)]
    stage.drain()
    failure = failure_of(stage.state(ids[1]))
    assert (failure.error_type, failure.message) == ("perdure.spi.errors.TooLarge", "over 5000 bytes")
    assert [output_of(stage.state(ids[i])) for i in (0, 2)] == ["fine", "fine"]
    check_history(stage, ids[1])


def test_a_refused_child_tells_its_parent(stage: Stage) -> None:
    def parent(ctx: Ctx) -> Flow:
        try:
            yield ctx.call_sub_orchestrator("big_input", input=6000)
        except Exception as error:
            return str(error)

    stage.orchestrators(big_input)
    stage.add_engine(hub=refuse_larger_than(stage, 5000))
    assert "over 5000 bytes" in stage.result(parent)


def test_a_refused_result_fails_that_activity_alone(stage: Stage) -> None:
    stage.registry.add_activity(lambda ctx, size: "x" * size, name="make")

    def flow(ctx: Ctx, size: int) -> Flow:
        try:
            return len((yield ctx.call_activity("make", input=size)))
        except Exception as error:
            return str(error)

    stage.orchestrators(flow)
    stage.add_engine(hub=refuse_larger_than(stage, 5000))
    ids = [stage.start(flow, size) for size in (10, 6000, 20)]
    stage.drain()
    outputs = [output_of(stage.state(instance)) for instance in ids]
    assert (outputs[0], outputs[2]) == (10, 20)
    assert "over 5000 bytes" in outputs[1]


def test_nothing_is_forgotten_if_the_store_goes_away_while_refused_items_are_sorted_out(stage: Stage) -> None:
    hub = refuse_larger_than(stage, 5000)
    stage.orchestrators(big_input)
    engine = stage.add_engine(hub=hub)
    ids = [stage.start(big_input, size) for size in (6000, 10, 20)]
    # The first commit that gets through is the second turn's; its reply is lost.
    hub.fail = lambda name, number: ("after", OutcomeUnknown("gone")) if name == "commit_turns" else None
    while stage.round() == 0 or engine.is_busy:
        pass
    assert hub.calls.count("commit_turns") == 1
    assert stage.status(ids[0]) is OrchestrationStatus.FAILED
    assert [output_of(stage.state(instance)) for instance in ids[1:]] == ["fine", "fine"]


def test_an_instance_of_which_not_even_the_failure_is_taken_is_set_back(stage: Stage) -> None:
    victims: set[str] = set()

    class RefusesOne(FaultyHub):
        def check(self, commits: Sequence[TurnCommit]) -> None:
            if any(commit.lease.token in victims for commit in commits):
                raise TooLarge("not this one")

        def exchange(self, exchange: Exchange) -> Any:
            self.calls.append("exchange")
            self.check(exchange.commits)
            result = self._hub.exchange(exchange)
            victims.update(item.lease.token for item in (result.turns.items if result.turns else ()) if item.messages)
            return result

        def commit_turns(self, commits: Sequence[TurnCommit]) -> Any:
            self.check(commits)
            return self._hub.commit_turns(commits)

    hub = RefusesOne(stage.hub)
    stage.add_engine(hub=hub)
    victim = stage.start("child", 1)
    stage.drain()
    assert len(hub.calls) < 10
    assert stage.next_due() == stage.clock.now() + 5000
    stage.engines.clear()
    assert output_of(stage.run_to_end(victim)) == 1


def test_a_turn_that_no_longer_fits_is_claimed_afresh(stage: Stage) -> None:
    """As when somebody else wrote the history, under a lease that is still ours."""

    outcomes: list[Outcome] = []

    class Shifting(FaultyHub):
        def exchange(self, exchange: Exchange) -> Any:
            for commit in exchange.commits:
                commit.expected_next_seq += 0 if outcomes else 1
            result = self._hub.exchange(exchange)
            outcomes.extend(result.commits)
            return result

    stage.add_engine(hub=Shifting(stage.hub))
    instance = stage.start("child", 1)
    stage.drain()
    assert output_of(stage.state(instance)) == 1
    assert outcomes == [Outcome.CONFLICT, Outcome.OK, Outcome.OK]


def test_an_instance_that_the_provider_calls_unreadable_is_set_back(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    class Complaining(FaultyHub):
        complains = True

        def exchange(self, exchange: Exchange) -> Any:
            result = self._hub.exchange(exchange)
            for item in result.turns.items if result.turns and self.complains else ():
                item.error = "row 7 can't be decoded"
            return result

    hub = Complaining(stage.hub)
    stage.add_engine(hub=hub)
    instance = stage.start("child", 1)
    stage.drain()
    assert stage.status(instance) is OrchestrationStatus.PENDING
    assert "row 7 can't be decoded" in caplog.text
    hub.complains = False
    assert output_of(stage.run_to_end(instance)) == 1


def test_no_list_of_an_exchange_is_longer_than_the_provider_takes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = 0

    class Measuring(FaultyHub):
        def exchange(self, exchange: Exchange) -> Any:
            nonlocal longest
            lists = (exchange.commits, exchange.done, exchange.renew, exchange.releases)
            longest = max(longest, *(len(items) for items in lists))
            return self._hub.exchange(exchange)

    engine = stage.add_engine(hub=Measuring(stage.hub), max_batch=3)
    ids = [stage.start("child", number) for number in range(10)]
    runner = stage.runner_of(engine)
    runner.holds = True
    stage.drain()
    assert len(runner.held) == 10
    later = next(iter(engine._running.values())).renewed_at + LEASE_SECONDS / 2
    monkeypatch.setattr("perdure.engine.time.monotonic", lambda: later)
    stage.drain()
    assert {running.renewed_at for running in engine._running.values()} == {later}
    runner.release()
    stage.drain()
    assert [output_of(stage.state(instance)) for instance in ids] == list(range(10))
    assert longest == 3
    engine.give_back(later)


def test_a_timer_beyond_all_time_fails_the_instance_and_not_the_worker(stage: Stage) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.create_timer(timedelta(days=366 * 11_000))

    failure = failure_of(stage.run(flow))
    assert (failure.error_type, "due" in failure.message) == ("perdure.spi.errors.InvalidRequest", True)
    assert stage.result("child", 1) == 1


def test_what_is_no_error_of_one_item_ends_the_round(stage: Stage) -> None:
    hub = FaultyHub(stage.hub)
    engine = stage.add_engine(hub=hub)
    errors: list[Exception] = [ProviderUnavailable("gone for good"), InvalidRequest("a claim that can't be")]
    hub.fail = lambda name, number: ("before", errors[0]) if name == "exchange" else None
    while errors:
        with pytest.raises(type(errors[0])):
            engine.round()
        del errors[0]


# What can't be read.


class Corrupting(FaultyHub):
    """A hub that returns garbage for the history of one instance."""

    victim = ""

    def read_history(self, instance: str, **options: Any) -> Any:
        page = self._hub.read_history(instance, **options)
        if instance == self.victim:
            page.events = [b"garbage", *page.events[1:]]
        return page


def corrupt(stage: Stage) -> tuple[Engine, Corrupting, str, str]:
    """Return a worker on a store in which one instance's history is garbage, that instance, and another."""
    hub = Corrupting(stage.hub)
    stage.cold = True
    engine = stage.add_engine(hub=hub)
    ids = [stage.start("waiter"), stage.start("waiter")]
    stage.drain()
    hub.victim = ids[0]
    for instance in ids:
        stage.raise_event(instance, "go", 1)
    return engine, hub, ids[0], ids[1]


def test_a_corrupt_history_sets_that_instance_back_and_no_other(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    _, hub, victim, other = corrupt(stage)
    stage.drain()
    assert output_of(stage.state(other)) == 1
    assert stage.status(victim) is OrchestrationStatus.RUNNING
    assert f"a turn of instance {victim!r} could not run" in caplog.text
    assert hub.calls.count("exchange") < 20
    # It is tried again after a while, and goes on once it can be read.
    before = stage.clock.now()
    hub.victim = ""
    assert output_of(stage.run_to_end(victim)) == 1
    assert stage.clock.now() - before == 5000


def test_a_corrupt_instance_can_be_terminated(stage: Stage) -> None:
    _, hub, victim, _ = corrupt(stage)
    stage.drain()
    stage.terminate(victim, "enough")
    stage.drain()
    state = stage.state(victim)
    assert (state.status, state.output) == (OrchestrationStatus.TERMINATED, b'"enough"')
    assert hub.calls.count("exchange") < 20


def test_a_termination_beside_a_corrupt_message_reaches_the_children(stage: Stage) -> None:
    def parent(ctx: Ctx) -> Flow:
        yield ctx.call_sub_orchestrator("waiter", instance_id="kid")

    stage.orchestrators(parent)
    victim = stage.start(parent)
    stage.drain()
    stage.hub.send_messages([Message(id="m", instance=victim, payload=b"garbage")])
    stage.terminate(victim)
    stage.drain()
    assert [stage.status(name) for name in (victim, "kid")] == [OrchestrationStatus.TERMINATED] * 2


def test_a_history_that_can_not_be_read_just_now_is_no_corrupt_one(stage: Stage) -> None:
    def parent(ctx: Ctx) -> Flow:
        yield ctx.call_sub_orchestrator("waiter", instance_id="kid")

    hub = FaultyHub(stage.hub)
    stage.orchestrators(parent)
    stage.cold = True
    stage.add_engine(hub=hub)
    victim = stage.start(parent)
    stage.drain()
    hub.fail = lambda name, number: ("before", Transient("busy")) if name == "read_history" else None
    stage.terminate(victim)
    stage.drain()
    assert stage.status(victim) is OrchestrationStatus.RUNNING
    hub.fail = lambda name, number: None
    stage.run_to_end(victim)
    stage.drain()
    assert stage.status("kid") is OrchestrationStatus.TERMINATED


def test_a_control_message_to_a_corrupt_instance_does_not_make_the_worker_spin(stage: Stage) -> None:
    _, hub, victim, _ = corrupt(stage)
    stage.suspend(victim)
    stage.drain()
    assert hub.calls.count("exchange") < 20
    hub.victim = ""
    stage.advance(LEASE)
    # Both had been sent before: the event was first.
    assert output_of(stage.state(victim)) == 1


@pytest.mark.parametrize("garbage", [b"garbage", b"{}", b'{"kind":"Unheard","timestamp":1}', b'{"kind":"EventRaised"}'])
def test_a_corrupt_message_sets_that_instance_back_and_no_other(stage: Stage, garbage: bytes) -> None:
    victim, other = stage.start("waiter"), stage.start("waiter")
    stage.drain()
    stage.hub.send_messages([Message(id="m", instance=victim, payload=garbage)])
    stage.raise_event(other, "go", 1)
    stage.drain()
    assert output_of(stage.state(other)) == 1
    assert stage.next_due() == stage.clock.now() + 5000


def test_a_corrupt_activity_does_not_end_the_worker(stage: Stage) -> None:
    instance = stage.start("child", 1)
    engine = stage.engine
    runner = stage.runner_of(engine)
    start = runner.start

    def broken(activity: Any) -> None:
        activity.payload = b"garbage"
        start(activity)

    runner.start = broken  # type: ignore[method-assign]
    stage.drain()
    assert not engine._running
    runner.start = start  # type: ignore[method-assign]
    assert output_of(stage.run_to_end(instance)) == 1


# Warnings.


def test_an_activity_that_nobody_here_has_is_warned_about(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.call_activity("misspelt")

    stage.orchestrators(flow)
    instance = stage.start(flow)
    stage.drain()
    assert f"instance {instance!r} calls activity 'misspelt', which this worker doesn't register" in caplog.text
    claim = ClaimActivities(worker="another", max_items=1, lease_ms=1, names={"misspelt"})
    assert len(stage.hub.claim_activities(claim).items) == 1


def test_an_instance_that_nobody_takes_is_warned_about_once(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = stage.engine
    ids = [stage.start("misspelt"), stage.start("misspelt")]
    stage.clock.advance(6000)
    stage.drain()
    assert "misspelt" not in caplog.text
    for _ in range(3):
        monkeypatch.setattr(engine, "_next_unclaimed_check", 0.0)
        stage.drain()
    (record,) = [record for record in caplog.records if "misspelt" in record.message]
    assert ids[0] in record.message
    assert "start a worker that does, or check the name" in record.message
    assert "child" in record.message

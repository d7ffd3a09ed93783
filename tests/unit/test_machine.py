"""The replay machine by itself: events in, decisions out, and the same again on replay."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.machine_play import (
    BOOM,
    EXECUTION_ID,
    START,
    Play,
    child_completed,
    completed,
    failed,
    fired,
    machine_for,
    raised,
    resumed,
    scheduled,
    started,
    suspended,
    turn_at,
)

from perdure import decisions as d
from perdure import history as h
from perdure.codec import dumps, loads
from perdure.errors import (
    CustomStatusTooLarge,
    Evicted,
    InvalidYield,
    NonDeterminismError,
    PayloadError,
    TaskCancelledError,
    TaskFailedError,
)
from perdure.replay.context import OrchestrationContext
from perdure.replay.tasks import Task, when_all, when_any
from perdure.retry import RetryPolicy
from perdure.spi import UNSET, OrchestrationStatus

Ctx = OrchestrationContext
Flow = Generator[Any, Any, Any]


def ended(decisions: list[d.Decision]) -> Any:
    """Return the output of an orchestration whose last decision was to complete."""
    last = decisions[-1]
    assert isinstance(last, d.CompleteOrchestration)
    assert last.status is OrchestrationStatus.COMPLETED, last.failure
    return None if last.result is None else loads(last.result)


def failure(decisions: list[d.Decision]) -> tuple[str, str]:
    last = decisions[-1]
    assert isinstance(last, d.CompleteOrchestration)
    assert last.status is OrchestrationStatus.FAILED
    assert last.failure is not None
    return last.failure.error_type, last.failure.message


def continued(decisions: list[d.Decision]) -> d.ContinueOrchestration:
    last = decisions[-1]
    assert isinstance(last, d.ContinueOrchestration)
    return last


def kinds(decisions: list[d.Decision]) -> list[str]:
    return [type(decision).__name__ for decision in decisions]


# Both kinds of orchestrators.


def generator(ctx: Ctx, value: int) -> Flow:
    first = yield ctx.call_activity("a", input=value)
    second = yield ctx.call_activity("b", input=first)
    return [first, second]


async def coroutine(ctx: Ctx, value: int) -> Any:
    first = await ctx.call_activity("a", input=value)
    second = await ctx.call_activity("b", input=first)
    return [first, second]


@pytest.mark.parametrize("function", [generator, coroutine])
def test_a_generator_and_a_coroutine_drive_the_same_machine(function: Callable[..., Any]) -> None:
    play = Play(function)
    assert play.decide(started(1)) == [d.ScheduleActivity(id=0, name="a", input=b"1")]
    assert play.decide(completed(0, 2)) == [d.ScheduleActivity(id=1, name="b", input=b"2")]
    assert ended(play.decide(completed(1, 3))) == [2, 3]
    play.replayed()


def test_a_plain_function_ends_at_once() -> None:
    def flow(ctx: Ctx, value: int) -> int:
        return value + 1

    assert ended(Play(flow).decide(started(1))) == 2


def test_an_orchestrator_without_an_input_is_called_without() -> None:
    def flow(ctx: Ctx) -> str:
        return ctx.instance_id

    assert ended(Play(flow).decide(started(1))) == "i"


def test_a_replayed_machine_goes_on_where_the_live_one_stood() -> None:
    play = Play(generator)
    play.start(1)
    play.turn(completed(0, 2))
    assert play.replayed().advance([turn_at(), completed(1, 3)]) == play.machine.advance([turn_at(), completed(1, 3)])


def test_any_number_of_complete_tasks_is_awaited_without_recursion() -> None:
    async def flow(ctx: Ctx) -> int:
        task = ctx.call_activity("a")
        await task
        return sum([await task for _ in range(5000)])

    play = Play(flow)
    play.start()
    assert ended(play.decide(completed(0, 1))) == 5000


# Errors of the orchestrator.


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no"), KeyboardInterrupt("no"), BaseException("no")])
def test_whatever_an_orchestrator_raises_fails_it(error: BaseException) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.call_activity("a")
        raise error

    play = Play(flow)
    play.start()
    assert failure(play.decide(completed(0))) == (type(error).__name__, "no")
    play.replayed()


def test_an_error_before_the_first_wait_fails_it() -> None:
    def flow(ctx: Ctx) -> None:
        raise ValueError("no")

    assert failure(Play(flow).decide(started())) == ("ValueError", "no")


def test_an_input_of_the_wrong_type_fails_it() -> None:
    def flow(ctx: Ctx, value: int) -> int:
        return value

    kind, message = failure(Play(flow).decide(started("seven")))
    assert kind == "perdure.errors.PayloadError"
    assert "expected int" in message


@pytest.mark.parametrize("value", [float("nan"), 2**64, object(), {1: 2}, "x" * (4 * 1024 * 1024)])
def test_a_result_that_cannot_be_stored_fails_it(value: Any) -> None:
    kind, _ = failure(Play(lambda ctx: value).decide(started()))
    assert kind in {"perdure.errors.PayloadError", "perdure.errors.PayloadTooLarge"}


def test_an_activity_input_that_cannot_be_stored_is_refused_at_the_call_and_decides_nothing() -> None:
    def flow(ctx: Ctx) -> Flow:
        with pytest.raises(PayloadError):
            ctx.call_activity("a", input=float("nan"))
        yield ctx.call_activity("b")

    assert Play(flow).decide(started()) == [d.ScheduleActivity(id=0, name="b", input=None)]


def test_a_failed_activity_raises_where_it_is_awaited() -> None:
    def flow(ctx: Ctx) -> Flow:
        try:
            yield ctx.call_activity("a")
        except TaskFailedError as error:
            return [error.details.error_type, error.details.message, str(error)]

    play = Play(flow)
    play.start()
    assert ended(play.decide(failed(0))) == ["ValueError", "boom", "activity 'a' failed: ValueError: boom"]


# Waiting for something else.


class Elsewhere:
    def __await__(self) -> Generator[Any, Any, None]:
        yield "a future of another library"


async def awaits_another_library(ctx: Ctx) -> None:
    await Elsewhere()


async def awaits_asyncio(ctx: Ctx) -> None:
    await asyncio.sleep(0)


def yields_five(ctx: Ctx) -> Flow:
    yield 5


def yields_nothing(ctx: Ctx) -> Flow:
    yield


def yields_a_list_of_tasks(ctx: Ctx) -> Flow:
    yield [ctx.call_activity("a")]


@pytest.mark.parametrize(
    ("flow", "named"),
    [
        (awaits_another_library, "str"),
        (awaits_asyncio, "NoneType"),
        (yields_five, "int"),
        (yields_nothing, "NoneType"),
        (yields_a_list_of_tasks, "list"),
    ],
)
def test_waiting_for_what_is_no_task_of_ours_fails_at_that_line(flow: Callable[..., Any], named: str) -> None:
    kind, message = failure(Play(flow).decide(started()))
    assert kind == "perdure.errors.InvalidYield"
    assert f"can't wait for {named}" in message


def test_an_invalid_yield_can_be_caught() -> None:
    def flow(ctx: Ctx) -> Flow:
        try:
            yield 5
        except InvalidYield:
            return (yield ctx.call_activity("a"))

    play = Play(flow)
    assert play.decide(started()) == [d.ScheduleActivity(id=0, name="a", input=None)]
    assert ended(play.decide(completed(0, "fine"))) == "fine"


@pytest.mark.parametrize("wrap", [lambda task: task, lambda task: when_all([task]), lambda task: when_any([task])])
@pytest.mark.parametrize("kind", ["activity", "timer", "event"])
def test_a_task_of_another_orchestration_is_not_waited_for(kind: str, wrap: Callable[[Any], Any]) -> None:
    lent: list[Task[Any]] = []

    def lender(ctx: Ctx) -> Flow:
        makers: dict[str, Callable[[], Task[Any]]] = {
            "activity": lambda: ctx.call_activity("a"),
            "timer": lambda: ctx.create_timer(timedelta(1)),
            "event": lambda: ctx.wait_for_external_event("e"),
        }
        lent.append(makers[kind]())
        yield lent[0]

    def borrower(ctx: Ctx) -> Flow:
        yield wrap(lent[0])

    Play(lender).start()
    assert failure(Play(borrower).decide(started()))[0] == "perdure.errors.InvalidYield"


# Replay: what was decided must be decided again.


def calls(*names: str) -> Callable[..., Any]:
    def flow(ctx: Ctx) -> Flow:
        for name in names:
            if name == "timer":
                yield ctx.create_timer(timedelta(seconds=1))
            else:
                yield ctx.call_activity(name)
        return "done"

    return flow


def at_once(*names: str) -> Callable[..., Any]:
    def flow(ctx: Ctx) -> Flow:
        yield when_all([ctx.call_activity(name) for name in names])

    return flow


def child_flow(name: str, instance_id: str | None = None) -> Callable[..., Any]:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.call_sub_orchestrator(name, instance_id=instance_id)

    return flow


def also_a_timer(ctx: Ctx) -> Flow:
    first = ctx.call_activity("a")
    ctx.create_timer(timedelta(seconds=1))
    yield first
    yield ctx.call_activity("b")


def sends(instance_id: str, name: str) -> Callable[..., Any]:
    def flow(ctx: Ctx) -> Flow:
        ctx.send_event(instance_id, name)
        yield ctx.wait_for_external_event("e")

    return flow


def raises(ctx: Ctx) -> Flow:
    raise ValueError("new bug")
    yield


def continues(ctx: Ctx) -> None:
    ctx.continue_as_new(None)


def cancels_first(ctx: Ctx) -> Flow:
    first = ctx.call_activity("a")
    second = ctx.call_activity("b")
    first.cancel()
    yield second


def cancels_second(ctx: Ctx) -> Flow:
    first = ctx.call_activity("a")
    second = ctx.call_activity("b")
    second.cancel()
    yield first


@pytest.mark.parametrize(
    ("before", "after", "number", "expected", "found"),
    [
        pytest.param(calls("a", "b"), calls("x", "b"), 2, "activity 'a'", "activity 'x'", id="renamed"),
        pytest.param(at_once("a", "b"), at_once("b", "a"), 2, "activity 'a'", "activity 'b'", id="reordered"),
        pytest.param(at_once("a", "b"), at_once("a"), 3, "activity 'b'", "nothing: it waits", id="removed"),
        pytest.param(at_once("a"), at_once("a", "b"), 3, "no decision", "activity 'b'", id="added"),
        pytest.param(calls("a", "b"), also_a_timer, 3, "no decision", "a timer", id="added in a former turn"),
        pytest.param(calls("a", "b"), calls("a", "timer"), 5, "activity 'b'", "a timer", id="extra timer"),
        pytest.param(calls("a", "b"), calls("a"), 5, "activity 'b'", "the end with status COMPLETED", id="early"),
        pytest.param(calls("a"), calls(), 2, "activity 'a'", "the end with status COMPLETED", id="returns at once"),
        pytest.param(
            calls("a"), raises, 2, "activity 'a'", "the end with status FAILED (ValueError: new bug)", id="raises"
        ),
        pytest.param(calls("a"), continues, 2, "activity 'a'", "continue-as-new", id="continues"),
        pytest.param(
            child_flow("c"), child_flow("x"), 2, "sub-orchestration 'c' with id 'child'", "sub-orchestration 'x'",
            id="other child",
        ),
        pytest.param(
            child_flow("c", "one"), child_flow("c", "two"), 2,
            "sub-orchestration 'c' with id 'one'", "sub-orchestration 'c' with id 'two'", id="other child id",
        ),
        pytest.param(
            sends("x", "e"), sends("y", "e"), 2, "event 'e' to instance 'x'", "event 'e' to instance 'y'",
            id="other target",
        ),
        pytest.param(
            cancels_first, cancels_second, 4, "the cancelling of task 0", "the cancelling of task 1", id="other cancel"
        ),
    ],
)  # fmt: skip
def test_code_that_asks_for_something_else_is_told_what_and_where(
    before: Callable[..., Any], after: Callable[..., Any], number: int, expected: str, found: str
) -> None:
    play = Play(before)
    play.start()
    if found == "a timer" or (number > 3 and before is not cancels_first):
        play.turn(completed(0))
    with pytest.raises(NonDeterminismError) as caught:
        play.replayed(after)
    error = caught.value
    assert (error.event_number, error.expected, error.found) == (number, expected, found)
    assert f"event {number} of the history is {expected}, but the code asks for {found}" in str(error)
    assert "register the new one under another name" in str(error)


def test_a_changed_input_is_no_mismatch() -> None:
    def flow(value: int) -> Callable[..., Any]:
        def flow(ctx: Ctx) -> Flow:
            yield ctx.call_activity("a", input=value)

        return flow

    play = Play(flow(1))
    play.start()
    play.replayed(flow(2))


def test_a_history_written_by_hand_is_replayed() -> None:
    machine = machine_for(generator)
    machine.replay(
        [
            turn_at(START),
            started(1),
            scheduled(0, "a"),
            turn_at(START + 5),
            completed(0, 2),
            scheduled(1, "b"),
        ]
    )
    result = machine.advance([turn_at(START + 9), completed(1, 3)])
    assert ended(result.decisions) == [2, 3]
    assert result.used == 2


def test_an_outcome_of_something_never_asked_for_is_passed_over() -> None:
    play = Play(generator)
    play.start(1)
    assert play.decide(completed(7), failed(8), fired(9), child_completed(10)) == []
    assert kinds(play.decide(completed(0))) == ["ScheduleActivity"]
    play.replayed()


def test_events_behind_the_end_are_not_used() -> None:
    def flow(ctx: Ctx) -> Flow:
        return (yield ctx.wait_for_external_event("e"))

    result = Play(flow).turn(started(), raised("e", 1), raised("e", 2))
    assert (ended(result.decisions), result.used) == (1, 3)


# The context.


def test_time_is_that_of_the_turn() -> None:
    def flow(ctx: Ctx) -> Flow:
        times = [ctx.current_utc_datetime]
        yield ctx.call_activity("a")
        return [*times, ctx.current_utc_datetime]

    play = Play(flow)
    play.start()
    first = datetime.fromtimestamp(START / 1000, UTC)
    assert ended(play.decide(completed(0))) == [first.isoformat(), (first + timedelta(seconds=1)).isoformat()]
    play.replayed()


def test_ids_and_random_numbers_are_the_same_on_replay_and_other_in_another_execution() -> None:
    made: list[Any] = []

    def flow(ctx: Ctx) -> Flow:
        made.append([ctx.new_uuid(), ctx.new_uuid(), ctx.random.random(), ctx.random.randint(0, 2**64)])
        yield ctx.call_activity("a")

    play = Play(flow)
    play.start()
    play.replayed()
    Play(flow).start(execution_id="f" * 32)
    assert made[0] == made[1]
    assert all(one != other for one, other in zip(made[0], made[2], strict=True))
    assert made[0][0] != made[0][1]


def test_the_context_says_what_the_start_said() -> None:
    def flow(ctx: Ctx) -> list[Any]:
        return [ctx.instance_id, ctx.execution_id, ctx.name, ctx.version, dict(ctx.tags), ctx.parent_instance_id]

    parent = h.ParentInstance(instance_id="p", generation="g", execution_id="e", name="pn", task_id=0, seq=2)
    decisions = Play(flow).decide(started(version="2", tags={"k": "v"}, parent=parent))
    assert ended(decisions) == ["i", EXECUTION_ID, "flow", "2", {"k": "v"}, "p"]


def test_is_replaying_and_the_replay_safe_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    replaying: list[bool] = []

    def flow(ctx: Ctx) -> Flow:
        logger = ctx.create_replay_safe_logger(logging.getLogger("flow"))
        for i in range(2):
            replaying.append(ctx.is_replaying)
            logger.info("step %d", i)
            yield ctx.call_activity("a")

    play = Play(flow)
    play.start()
    machine = play.replayed()
    machine.advance([turn_at(), completed(0)])
    assert replaying == [False, True, False]
    assert caplog.messages == ["step 0", "step 1"]


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
def test_timers_are_rounded_up_and_a_naive_time_is_utc() -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.create_timer(timedelta(microseconds=1))
        ctx.create_timer(datetime(2030, 1, 1))
        ctx.create_timer(datetime(2030, 1, 1, 1, tzinfo=UTC) + timedelta(microseconds=1))
        yield ctx.create_timer(timedelta(days=-1))

    fire_at = [decision.fire_at for decision in Play(flow).decide(started()) if isinstance(decision, d.CreateTimer)]
    at_2030 = int(datetime(2030, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert fire_at == [START + 1, at_2030, at_2030 + 3_600_001, START - 86_400_000]


# The custom status.


def test_the_custom_status_of_a_turn_is_its_last() -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.set_custom_status(1)
        ctx.set_custom_status(2)
        yield ctx.call_activity("a")
        yield ctx.call_activity("b")
        ctx.set_custom_status(None)
        yield ctx.call_activity("c")

    play = Play(flow)
    assert play.start().custom_status == b"2"
    assert play.turn(completed(0)).custom_status is UNSET
    assert play.turn(completed(1)).custom_status is None
    assert play.replayed().advance([turn_at()]).custom_status is UNSET


@pytest.mark.parametrize("value", [0, False, "", [], {}, 0.0])
def test_falsy_custom_statuses_are_values(value: Any) -> None:
    assert Play(lambda ctx: ctx.set_custom_status(value)).start().custom_status == dumps(value)


def test_a_rejected_custom_status_changes_nothing() -> None:
    def flow(ctx: Ctx) -> None:
        ctx.set_custom_status("kept")
        for bad in ("a" * 8191, float("nan"), {1: 2}):
            with pytest.raises(PayloadError):
                ctx.set_custom_status(bad)

    assert Play(flow).start().custom_status == b'"kept"'


def test_the_custom_status_of_the_failing_turn_goes_out() -> None:
    def flow(ctx: Ctx) -> None:
        ctx.set_custom_status("last words")
        ctx.set_custom_status("a" * 8191)

    result = Play(flow).start()
    assert result.custom_status == b'"last words"'
    assert failure(result.decisions)[0] == f"{CustomStatusTooLarge.__module__}.CustomStatusTooLarge"


def test_a_status_is_as_it_was_at_the_call() -> None:
    def flow(ctx: Ctx) -> None:
        status = {"n": 1}
        ctx.set_custom_status(status)
        status["n"] = 2

    assert Play(flow).start().custom_status == b'{"n":1}'


# External events.


def waits(*names: str) -> Callable[..., Any]:
    def flow(ctx: Ctx) -> Flow:
        got = []
        for name in names:
            got.append((yield ctx.wait_for_external_event(name)))
        return got

    return flow


def test_events_wait_in_order_until_somebody_waits_for_them() -> None:
    play = Play(waits("a", "b", "a"))
    assert play.decide(started(), raised("b", 1), raised("a", 2)) == []
    assert ended(play.decide(raised("a", 3))) == [2, 1, 3]
    play.replayed()


@pytest.mark.parametrize(("waited", "sent"), [("Go", "gO"), ("STRASSE", "straße"), ("ﬁ", "FI")])
def test_names_of_events_are_compared_without_case(waited: str, sent: str) -> None:
    assert ended(Play(waits(waited)).decide(started(), raised(sent, 1))) == [1]


def test_the_oldest_awaited_wait_of_a_name_wins() -> None:
    def flow(ctx: Ctx) -> Flow:
        old, young = ctx.wait_for_external_event("e"), ctx.wait_for_external_event("e")
        return (yield when_all([young, old]))

    assert ended(Play(flow).decide(started(), raised("e", "first"), raised("e", "second"))) == ["second", "first"]


def test_a_wait_that_is_not_awaited_takes_nothing() -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.wait_for_external_event("e")
        yield ctx.call_activity("a")
        return (yield ctx.wait_for_external_event("e"))

    play = Play(flow)
    play.start()
    play.turn(raised("e", 1))
    assert ended(play.decide(completed(0))) == 1


def test_the_loser_of_a_when_any_swallows_nothing_and_may_be_awaited_again() -> None:
    def flow(ctx: Ctx) -> Flow:
        loser = ctx.wait_for_external_event("e")
        yield when_any([loser, ctx.call_activity("a")])
        young = yield ctx.wait_for_external_event("e")
        return [young, (yield loser)]

    play = Play(flow)
    play.start()
    play.turn(completed(0))
    assert ended(play.decide(raised("e", 1), raised("e", 2))) == [1, 2]
    play.replayed()


def test_the_loser_of_an_inner_when_any_swallows_nothing() -> None:
    def flow(ctx: Ctx) -> Flow:
        a, b, c = (ctx.wait_for_external_event(name) for name in "abc")
        yield when_all([when_any([a, b]), c])
        return [b.is_complete, (yield ctx.wait_for_external_event("b"))]

    # All of them wait already when they are awaited, so that they are handed out in one go.
    decisions = Play(flow).decide(started(), raised("x"))
    assert decisions == []
    play = Play(_after_an_activity(flow))
    play.start()
    play.turn(raised("a"), raised("b", "kept"), raised("c"))
    assert ended(play.decide(completed(0))) == [False, "kept"]


def _after_an_activity(flow: Callable[..., Any]) -> Callable[..., Any]:
    def later(ctx: Ctx) -> Flow:
        yield ctx.call_activity("first")
        return (yield from flow(ctx))

    return later


def test_buffered_events_are_handed_out_in_the_order_of_arrival_across_names() -> None:
    def flow(ctx: Ctx) -> Flow:
        a, b = ctx.wait_for_external_event("a"), ctx.wait_for_external_event("b")
        winner = yield when_any([a, b])
        return winner is b

    play = Play(_after_an_activity(flow))
    play.start()
    play.turn(raised("b"), raised("a"))
    assert ended(play.decide(completed(0))) is True


def test_a_wait_in_two_composites_takes_one_event() -> None:
    def flow(ctx: Ctx) -> Flow:
        wait = ctx.wait_for_external_event("e")
        both = yield when_all([wait, when_any([wait]), wait])
        return [both[0], both[2], (yield ctx.wait_for_external_event("e"))]

    assert ended(Play(flow).decide(started(), raised("e", 1), raised("e", 2))) == [1, 1, 2]


def test_an_event_of_the_wrong_type_raises_where_it_is_awaited() -> None:
    def flow(ctx: Ctx) -> Flow:
        with pytest.raises(PayloadError):
            yield ctx.wait_for_external_event("e", data_type=int)
        return (yield ctx.wait_for_external_event("e", data_type=int))

    assert ended(Play(flow).decide(started(), raised("e", "x"), raised("e", 1))) == 1


def test_a_timeout_raises_and_an_event_cancels_its_timer() -> None:
    def flow(ctx: Ctx) -> Flow:
        got = yield ctx.wait_for_external_event("e", timeout=5)
        try:
            yield ctx.wait_for_external_event("e", timeout=timedelta(seconds=5))
        except TimeoutError as error:
            return [got, str(error)]

    play = Play(flow)
    assert play.decide(started()) == [d.CreateTimer(id=0, fire_at=START + 5000)]
    assert play.decide(raised("e", 1)) == [d.CancelTask(id=0), d.CreateTimer(id=1, fire_at=START + 6000)]
    assert ended(play.decide(fired(1))) == [1, "no event 'e' came in time"]
    play.replayed()


def test_an_event_that_waits_already_beats_a_timeout_of_nothing() -> None:
    def flow(ctx: Ctx) -> Flow:
        return (yield ctx.wait_for_external_event("e", timeout=0))

    play = Play(_after_an_activity(flow))
    play.start()
    play.turn(raised("e", 1))
    assert ended(play.decide(completed(0))) == 1


# Taking back.


def test_cancelling_takes_back_what_stands_behind_a_task() -> None:
    def flow(ctx: Ctx) -> Flow:
        tasks: list[Task[Any]] = [
            ctx.call_activity("a"),
            ctx.create_timer(timedelta(1)),
            ctx.call_sub_orchestrator("c"),
            ctx.wait_for_external_event("e", timeout=1),
        ]
        everything = when_all(tasks)
        assert everything.cancel()
        assert not everything.cancel()
        for task in (*tasks, everything):
            with pytest.raises(TaskCancelledError):
                yield task

    play = Play(flow)
    decisions = play.decide(started())
    assert kinds(decisions[:4]) == ["ScheduleActivity", "CreateTimer", "StartSubOrchestration", "CreateTimer"]
    assert decisions[4:8] == [d.CancelTask(id=i) for i in range(4)]
    play.replayed()


def test_an_outcome_that_comes_with_the_cancelling_is_passed_over() -> None:
    def flow(ctx: Ctx) -> Flow:
        task = ctx.call_activity("a")
        yield ctx.wait_for_external_event("e")
        task.cancel()
        with pytest.raises(TaskCancelledError):
            yield task
        yield ctx.wait_for_external_event("e")

    play = Play(flow)
    play.start()
    assert play.decide(raised("e"), completed(0)) == [d.CancelTask(id=0)]
    play.replayed()


def test_cancelling_a_call_between_two_attempts_takes_its_timer_back() -> None:
    def flow(ctx: Ctx) -> Flow:
        policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=2)
        task = ctx.call_activity("a", retry_policy=policy)
        yield ctx.wait_for_external_event("e")
        task.cancel()
        yield ctx.wait_for_external_event("e")

    play = Play(flow)
    play.start()
    assert play.decide(failed(0)) == [d.CreateTimer(id=1, fire_at=START + 2000)]
    assert play.decide(raised("e")) == [d.CancelTask(id=1)]


# Suspension.


def test_what_arrives_while_suspended_is_applied_in_order_at_resume() -> None:
    play = Play(waits("a", "a"))
    play.start()
    assert play.turn(suspended(), raised("a", 1)).decisions == []
    assert play.decide(raised("a", 2)) == []
    cold = play.replayed()
    live = play.machine.advance([turn_at(), resumed()])
    assert ended(live.decisions) == [1, 2]
    assert cold.advance([turn_at(), resumed()]) == live


def test_events_before_a_suspension_in_the_same_turn_are_applied() -> None:
    play = Play(generator)
    assert kinds(play.decide(started(1), suspended(), completed(0, 2))) == ["ScheduleActivity"]
    assert kinds(play.decide(resumed())) == ["ScheduleActivity"]
    play.replayed()


def test_suspended_before_its_start() -> None:
    play = Play(generator)
    assert play.decide(suspended()) == []
    assert play.decide(started(1)) == []
    assert kinds(play.replayed().advance([turn_at(), resumed()]).decisions) == ["ScheduleActivity"]
    assert kinds(play.decide(resumed())) == ["ScheduleActivity"]


def test_suspending_twice_and_resuming_twice_is_the_same_as_once() -> None:
    play = Play(waits("a"))
    play.start()
    assert play.decide(suspended(), raised("a", 1), suspended()) == []
    assert ended(play.decide(resumed())) == [1]


def test_resuming_what_runs_changes_nothing() -> None:
    play = Play(waits("a"))
    assert play.decide(started(), resumed()) == []
    assert ended(play.decide(raised("a", 1))) == [1]


def test_suspended_again_before_anything_of_the_resumption_is_asked_for() -> None:
    play = Play(waits("a", "b"))
    play.start()
    play.turn(suspended())
    assert play.decide(raised("a", 1), resumed(), suspended(), raised("b", 2)) == []
    assert ended(play.replayed().advance([turn_at(), resumed()]).decisions) == [1, 2]


# Continue-as-new.


def test_it_ends_the_execution_where_it_next_waits() -> None:
    def flow(ctx: Ctx, value: int) -> Flow:
        ctx.continue_as_new(value + 1)
        yield ctx.call_activity("a")
        raise AssertionError("never reached")

    decisions = Play(flow).decide(started(1))
    assert kinds(decisions) == ["ScheduleActivity", "ContinueOrchestration"]
    assert continued(decisions).input == b"2"


def test_it_ends_the_execution_where_it_returns_and_an_error_wins() -> None:
    def returns(ctx: Ctx) -> str:
        ctx.continue_as_new("next")
        return "dropped"

    def raises(ctx: Ctx) -> str:
        ctx.continue_as_new("next")
        raise ValueError("no")

    assert continued(Play(returns).decide(started())).input == b'"next"'
    assert failure(Play(raises).decide(started())) == ("ValueError", "no")


@pytest.mark.parametrize(("save_events", "carried"), [(True, ["b", "c", "B"]), (False, [])])
def test_events_that_nobody_took_cross_over_in_order(save_events: bool, carried: list[str]) -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.wait_for_external_event("a")
        ctx.continue_as_new(None, save_events=save_events)

    decision = continued(Play(flow).decide(started(), raised("b"), raised("c"), raised("B"), raised("a")))
    assert [event_name(stored) for stored in decision.carried] == carried


def event_name(stored: bytes) -> str:
    event = h.decode_event(stored)
    assert isinstance(event, h.EventRaised)
    return event.name


def test_events_held_back_by_a_suspension_cross_over_too() -> None:
    def flow(ctx: Ctx) -> Flow:
        yield ctx.wait_for_external_event("a")
        ctx.continue_as_new(None)

    play = Play(flow)
    play.start()
    play.turn(suspended(), raised("a"), raised("b"), raised("c"))
    decisions = play.decide(resumed())
    assert [event_name(stored) for stored in continued(decisions).carried] == ["b", "c"]


def test_carried_events_that_the_next_execution_does_not_take_cross_over_again() -> None:
    def flow(ctx: Ctx) -> None:
        ctx.continue_as_new(None)

    machine = machine_for(flow)
    machine.replay([turn_at(), started(continued_from="e" * 32), raised("a"), raised("b")])
    decisions = machine.advance([turn_at()]).decisions
    assert [event_name(stored) for stored in continued(decisions).carried] == ["a", "b"]


def test_a_continued_execution_runs_in_the_turn_after_the_one_that_wrote_it() -> None:
    ran: list[str] = []

    def flow(ctx: Ctx) -> Flow:
        ran.append("ran")
        return (yield ctx.wait_for_external_event("a"))

    machine = machine_for(flow)
    machine.replay([turn_at(), started(continued_from="e" * 32), raised("a", 1)])
    assert ran == []
    assert ended(machine.advance([turn_at()]).decisions) == 1


def test_nothing_is_decided_behind_the_end() -> None:
    def flow(ctx: Ctx) -> Flow:
        ctx.call_activity("a", retry_policy=RetryPolicy(first_retry_interval=timedelta(1), max_number_of_attempts=3))
        yield ctx.wait_for_external_event("e")

    play = Play(flow)
    play.start()
    play.turn(suspended(), raised("e"), failed(0))
    assert kinds(play.decide(resumed())) == ["CompleteOrchestration"]


@pytest.mark.parametrize("misbehave", ["raises", "yields", "exits"])
def test_a_finally_that_misbehaves_at_continue_as_new_does_not_get_out(misbehave: str) -> None:
    def flow(ctx: Ctx) -> Flow:
        try:
            ctx.continue_as_new(1)
            yield ctx.call_activity("a")
        finally:
            if misbehave == "raises":
                raise ValueError("in finally")
            if misbehave == "exits":
                raise SystemExit("in finally")
            yield ctx.call_activity("b")

    decisions = Play(flow).decide(started())
    assert failure(decisions)[0] == {"raises": "ValueError", "yields": "RuntimeError", "exits": "SystemExit"}[misbehave]


# Eviction.


def test_an_evicted_orchestrator_decides_nothing_in_its_finally() -> None:
    seen: list[BaseException] = []

    def flow(ctx: Ctx) -> Flow:
        logger = ctx.create_replay_safe_logger(logging.getLogger("flow"))
        asks: list[Callable[[], Any]] = [
            lambda: ctx.call_activity("b"),
            lambda: ctx.call_sub_orchestrator("b"),
            lambda: ctx.create_timer(timedelta(1)),
            lambda: ctx.wait_for_external_event("e"),
            lambda: ctx.send_event("x", "e"),
            lambda: ctx.continue_as_new(1),
            lambda: ctx.set_custom_status(1),
            ctx.new_uuid,
            lambda: ctx.random,
            lambda: ctx.current_utc_datetime,
            lambda: ctx.is_replaying,
            lambda: ctx.instance_id,
            lambda: ctx.execution_id,
            lambda: ctx.name,
            lambda: ctx.version,
            lambda: ctx.tags,
            lambda: ctx.parent_instance_id,
            lambda: logger.info("x"),
        ]
        _ = ctx.random
        try:
            yield ctx.call_activity("a")
        finally:
            for ask in asks:
                try:
                    ask()
                except BaseException as error:
                    seen.append(error)
                else:
                    seen.append(AssertionError(str(asks.index(ask))))

    play = Play(flow)
    play.start()
    play.machine.close()
    assert [type(error) for error in seen] == [Evicted] * 18


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_what_an_evicted_orchestrator_raises_is_dropped(error: type[BaseException]) -> None:
    def flow(ctx: Ctx) -> Flow:
        try:
            yield ctx.call_activity("a")
        finally:
            raise error

    play = Play(flow)
    play.start()
    play.machine.close()
    play.machine.close()


# Retries.


def test_a_retry_waits_in_the_orchestrations_own_time() -> None:
    def flow(ctx: Ctx) -> Flow:
        policy = RetryPolicy(
            first_retry_interval=timedelta(seconds=10), max_number_of_attempts=3, backoff_coefficient=2
        )
        return (yield ctx.call_activity("a", input=1, retry_policy=policy))

    play = Play(flow)
    assert play.decide(started()) == [d.ScheduleActivity(id=0, name="a", input=b"1")]
    assert play.decide(failed(0)) == [d.CreateTimer(id=1, fire_at=START + 1000 + 10_000)]
    assert play.decide(fired(1)) == [d.ScheduleActivity(id=2, name="a", input=b"1")]
    assert play.decide(failed(2)) == [d.CreateTimer(id=3, fire_at=START + 3000 + 20_000)]
    assert play.decide(fired(3)) == [d.ScheduleActivity(id=4, name="a", input=b"1")]
    assert failure(play.decide(failed(4)))[0] == "perdure.errors.TaskFailedError"
    play.replayed()


def test_a_retry_without_a_delay_is_at_once() -> None:
    def flow(ctx: Ctx) -> Flow:
        policy = RetryPolicy(first_retry_interval=timedelta(0), max_number_of_attempts=2)
        return (yield ctx.call_activity("a", retry_policy=policy))

    play = Play(flow)
    play.start()
    assert play.decide(failed(0)) == [d.ScheduleActivity(id=1, name="a", input=None)]
    assert ended(play.decide(completed(1, "second"))) == "second"


def test_a_child_is_retried_with_leave_to_replace_the_failed_one() -> None:
    def flow(ctx: Ctx) -> Flow:
        policy = RetryPolicy(first_retry_interval=timedelta(0), max_number_of_attempts=2)
        return (yield ctx.call_sub_orchestrator("c", instance_id="x", retry_policy=policy))

    play = Play(flow)
    (first,) = play.decide(started())
    (second,) = play.decide(h.SubOrchestrationFailed(timestamp=0, task_scheduled_id=0, failure=BOOM))
    assert isinstance(first, d.StartSubOrchestration)
    assert isinstance(second, d.StartSubOrchestration)
    assert (first.retry, second.retry, second.instance_id) == (False, True, "x")


def test_a_predicate_that_raises_raises_where_the_call_is_awaited() -> None:
    def refuse(details: Any) -> bool:
        raise LookupError("in the predicate")

    def flow(ctx: Ctx) -> Flow:
        policy = RetryPolicy(first_retry_interval=timedelta(0), max_number_of_attempts=2, retry_predicate=refuse)
        return (yield ctx.call_activity("a", retry_policy=policy))

    play = Play(flow)
    play.start()
    assert failure(play.decide(failed(0))) == ("LookupError", "in the predicate")

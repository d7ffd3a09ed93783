"""The worker, with real threads. Nothing here waits for time to pass: tests wait for what must happen."""

from __future__ import annotations

import asyncio
import functools
import logging.handlers
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from perdure import ActivityContext, Client, Worker, when_all
from perdure.engine import Engine
from perdure.spi import ManualClock, OrchestrationStatus
from perdure_conformance.stage import Ctx, Flow, numbers
from perdure_memory import MemoryProvider

PATIENCE = 20.0
"""Seconds after which something that must happen is given up."""

MakeWorker = Callable[..., Worker]


@pytest.fixture
def provider() -> Iterator[MemoryProvider]:
    with MemoryProvider(f"memory://worker-{next(numbers)}") as provider:
        yield provider


@pytest.fixture
def client(provider: MemoryProvider) -> Client:
    return Client(provider)


@pytest.fixture
def make_worker(provider: MemoryProvider) -> Iterator[MakeWorker]:
    """Build workers that are stopped at the end, whatever happens."""
    workers: list[Worker] = []

    def make(*functions: Callable[..., Any], **options: Any) -> Worker:
        worker = Worker(provider, **options)
        workers.append(worker)
        worker.add_orchestrator(flow)
        for function in functions:
            worker.add_activity(function, name="work")
        return worker

    yield make
    for worker in workers:
        worker.stop(timeout=0)


def flow(ctx: Ctx, width: int) -> Flow:
    return (yield when_all([ctx.call_activity("work", input=i) for i in range(width)]))


def finish(client: Client, instance: str) -> Any:
    state = client.wait_for_orchestration_completion(instance, timeout=PATIENCE)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.COMPLETED, state.failure_details
    return state.get_output()


class Gate:
    """An activity that says when it runs and waits until it may end."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.attempts: list[int] = []
        self.was_cancelled = False

    def __call__(self, ctx: ActivityContext, number: int) -> str:
        self.attempts.append(ctx.attempt)
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        self.was_cancelled = ctx.is_cancelled
        return "gate"


def test_activities_run_at_the_same_time(client: Client, make_worker: MakeWorker) -> None:
    together = threading.Barrier(8)

    def meet(ctx: ActivityContext, number: int) -> int:
        together.wait(PATIENCE)
        return number

    make_worker(meet).start()
    assert finish(client, client.schedule_new_orchestration("flow", input=8)) == list(range(8))


def test_no_more_activities_run_at_the_same_time_than_allowed(client: Client, make_worker: MakeWorker) -> None:
    pair = threading.Barrier(2)
    lock = threading.Lock()
    running, most = 0, 0

    def meet(ctx: ActivityContext, number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pair.wait(PATIENCE)
        with lock:
            running -= 1
        return number

    make_worker(meet, max_concurrent_activities=2).start()
    finish(client, client.schedule_new_orchestration("flow", input=8))
    assert most == 2


def test_async_activities_overlap_on_one_loop(client: Client, make_worker: MakeWorker) -> None:
    threads: set[int] = set()
    everybody = asyncio.Event()

    async def meet(ctx: ActivityContext, number: int) -> int:
        threads.add(threading.get_ident())
        arrived.append(number)
        if len(arrived) == 8:
            everybody.set()
        await asyncio.wait_for(everybody.wait(), PATIENCE)
        return number

    arrived: list[int] = []
    make_worker(meet).start()
    assert finish(client, client.schedule_new_orchestration("flow", input=8)) == list(range(8))
    assert len(threads) == 1


def test_a_callable_that_hides_its_coroutine(client: Client, make_worker: MakeWorker) -> None:
    async def hidden(ctx: ActivityContext, number: int) -> int:
        await asyncio.sleep(0)
        return number

    make_worker(functools.partial(lambda work, *arguments: work(*arguments), hidden)).start()
    assert finish(client, client.schedule_new_orchestration("flow", input=2)) == [0, 1]


def test_what_exits_in_an_activity_leaves_the_worker_alone(client: Client, make_worker: MakeWorker) -> None:
    def leave(ctx: ActivityContext, number: int) -> None:
        raise SystemExit(number)

    worker = make_worker(leave)
    worker.start()
    state = client.wait_for_orchestration_completion(
        client.schedule_new_orchestration("flow", input=1), timeout=PATIENCE
    )
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert worker.is_running


def test_leases_are_renewed_while_an_activity_runs(
    client: Client, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    renewals = 0
    settle = Engine._settle_renewal

    def counting(engine: Engine, *arguments: Any) -> None:
        nonlocal renewals
        settle(engine, *arguments)
        renewals += 1
        if renewals == 6:
            # Twice the lease: without renewals the other worker would have taken it.
            gate.opened.set()

    monkeypatch.setattr(Engine, "_settle_renewal", counting)
    for _ in range(2):
        make_worker(gate, lease_seconds=0.3).start()
    assert finish(client, client.schedule_new_orchestration("flow", input=1)) == ["gate"]
    assert gate.attempts == [1]


# Stopping.


def test_a_stop_lets_running_activities_finish(
    client: Client, make_worker: MakeWorker, provider: MemoryProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    winds_up = threading.Event()
    exchange_once = Engine.round

    def watched(engine: Engine, *, claim: bool = True) -> float:
        delay = exchange_once(engine, claim=claim)
        if not claim:
            winds_up.set()
        return delay

    monkeypatch.setattr(Engine, "round", watched)
    gate = Gate()
    worker = make_worker(gate)
    worker.start()
    instance = client.schedule_new_orchestration("flow", input=1)
    assert gate.entered.wait(PATIENCE)
    stopping = threading.Thread(target=worker.stop, args=(PATIENCE,))
    stopping.start()
    assert winds_up.wait(PATIENCE)
    gate.opened.set()
    stopping.join(PATIENCE)
    assert not worker.is_running
    assert not gate.was_cancelled
    activities = provider.hub("default").stats().activities
    assert (activities.ready, activities.leased) == (0, 0)
    # The result is there: nobody runs it again.
    make_worker(gate).start()
    assert finish(client, instance) == ["gate"]
    assert gate.attempts == [1]


def test_a_stop_gives_the_rest_back_and_another_worker_takes_it_at_once(
    client: Client, make_worker: MakeWorker
) -> None:
    gate = Gate()
    worker = make_worker(gate, lease_seconds=3600)
    worker.start()
    instance = client.schedule_new_orchestration("flow", input=1)
    assert gate.entered.wait(PATIENCE)
    worker.stop(timeout=0)
    assert not worker.is_running
    make_worker(lambda ctx, number: f"attempt {ctx.attempt}").start()
    # Not counted as an attempt: nothing is wrong with the activity.
    assert finish(client, instance) == ["attempt 1"]
    gate.opened.set()


def test_an_async_activity_that_is_given_back_is_cancelled(
    client: Client, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    entered, cancelled = threading.Event(), threading.Event()

    async def endless(ctx: ActivityContext, number: int) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    worker = make_worker(endless)
    worker.start()
    client.schedule_new_orchestration("flow", input=1)
    assert entered.wait(PATIENCE)
    worker.stop(timeout=0)
    assert cancelled.wait(PATIENCE)
    assert "destroyed" not in caplog.text


def test_stopping_twice_and_starting_again(client: Client, make_worker: MakeWorker) -> None:
    worker = make_worker(lambda ctx, number: number)
    worker.stop()
    worker.start()
    with pytest.raises(RuntimeError, match="runs already"):
        worker.start()
    worker.stop()
    worker.stop()
    assert not worker.is_running
    with worker:
        assert worker.is_running
        assert finish(client, client.schedule_new_orchestration("flow", input=1)) == [0]
    assert not worker.is_running


def test_a_provider_closed_under_it_ends_the_worker_with_a_line(
    provider: MemoryProvider, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker()
    worker.start()
    provider.close()
    thread = worker._thread
    assert thread is not None
    thread.join(PATIENCE)
    assert not worker.is_running
    assert "the provider was closed under a running worker" in caplog.text
    worker.stop()


def test_a_hub_deleted_under_it_ends_the_worker_with_a_line(
    provider: MemoryProvider, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker()
    worker.start()
    provider.delete_hub("default")
    thread = worker._thread
    assert thread is not None
    thread.join(PATIENCE)
    assert "its provider can't be used any more" in caplog.text


def test_two_workers_with_disjoint_names(client: Client, provider: MemoryProvider, make_worker: MakeWorker) -> None:
    make_worker().start()
    with Worker(provider) as other:
        other.add_activity(lambda ctx, number: number * 10, name="work")
        instance = client.schedule_new_orchestration("flow", input=3)
        assert finish(client, instance) == [0, 10, 20]


def test_names_added_while_it_runs_are_served(client: Client, make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.start()
    instance = client.schedule_new_orchestration("flow", input=1)
    worker.add_activity(lambda ctx, number: "late", name="work")
    assert finish(client, instance) == ["late"]


def test_an_instance_of_an_unknown_name_is_warned_about(
    client: Client, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.engine._UNCLAIMED_CHECK_SECONDS", 0.0)
    monkeypatch.setattr("perdure.engine._UNCLAIMED_MS", -1000)
    warnings: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(warnings)
    logging.getLogger("perdure").addHandler(handler)
    try:
        make_worker().start()
        instance = client.schedule_new_orchestration("misspelt")
        message = warnings.get(timeout=PATIENCE).getMessage()
    finally:
        logging.getLogger("perdure").removeHandler(handler)
    assert f"instance {instance!r} waits for an orchestrator 'misspelt'" in message
    assert "start a worker that does, or check the name" in message


def test_an_activity_is_told_that_it_was_cancelled(client: Client, make_worker: MakeWorker) -> None:
    gate = Gate()
    told = threading.Event()

    def watch(ctx: ActivityContext, number: int) -> str:
        gate.entered.set()
        while not ctx.is_cancelled:
            if gate.opened.wait(0.01):
                return "never told"
        told.set()
        return "told"

    make_worker(watch, lease_seconds=0.3).start()
    instance = client.schedule_new_orchestration("flow", input=1)
    assert gate.entered.wait(PATIENCE)
    client.terminate_orchestration(instance)
    assert told.wait(PATIENCE)


def test_an_async_activity_that_nobody_waits_for_is_cancelled(client: Client, make_worker: MakeWorker) -> None:
    entered, cancelled = threading.Event(), threading.Event()

    async def endless(ctx: ActivityContext, number: int) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    worker = make_worker(endless, lease_seconds=0.3)
    worker.start()
    instance = client.schedule_new_orchestration("flow", input=1)
    assert entered.wait(PATIENCE)
    client.terminate_orchestration(instance)
    assert cancelled.wait(PATIENCE)
    assert worker.is_running


@pytest.mark.parametrize(
    "options", [{"max_concurrent_activities": 0}, {"max_concurrent_turns": 0}, {"lease_seconds": 0}]
)
def test_senseless_settings_are_refused(provider: MemoryProvider, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Worker(provider, **options)


def test_many_instances_on_two_workers(client: Client, make_worker: MakeWorker) -> None:
    for _ in range(2):
        make_worker(lambda ctx, number: number).start()
    ids = [client.schedule_new_orchestration("flow", input=3) for _ in range(50)]
    assert [finish(client, instance) for instance in ids] == [[0, 1, 2]] * 50


def test_a_provider_with_a_clock_of_its_own(make_worker: MakeWorker) -> None:
    """A worker never looks at the wall clock for what belongs to the store."""
    clock = ManualClock(0)
    with MemoryProvider(f"memory://clock-{next(numbers)}", clock=clock) as provider:
        provider.create_hub("default")

        def sleeper(ctx: Ctx) -> Flow:
            yield ctx.create_timer(timedelta(days=1))
            return str(ctx.current_utc_datetime)

        with Worker(provider) as worker:
            worker.add_orchestrator(sleeper)
            client = Client(provider)
            instance = client.schedule_new_orchestration(sleeper)
            client.wait_for_orchestration_start(instance, timeout=PATIENCE)
            clock.set(86_400_000)
            assert finish(client, instance) == "1970-01-02 00:00:00+00:00"


def test_a_hub_of_its_own_is_created(provider: MemoryProvider, make_worker: MakeWorker) -> None:
    with make_worker(lambda ctx, number: number, hub="tenant"), Client(provider, hub="tenant") as client:
        instance = client.schedule_new_orchestration("flow", input=2)
        assert client.wait_for_orchestration_completion(instance, timeout=PATIENCE).get_output() == [0, 1]
    assert provider.list_hubs() == ["default", "tenant"]

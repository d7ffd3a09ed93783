"""What is the async client's own: it never blocks the loop, and waits without threads."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.client.hand import COMPLETED, Hand

from perdure.async_client import AsyncClient, _LoopSignal
from perdure.errors import Closed, InstanceNotFound
from perdure.spi import Provider, Wake


def test_many_waits_need_few_threads(provider: Provider) -> None:
    number = 200

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=2))
        async with AsyncClient(provider) as client:
            ids = [f"i-{i:03}" for i in range(number)]
            await asyncio.gather(*(client.schedule_new_orchestration("flow", instance_id=id) for id in ids))  # noqa: A001
            before = threading.active_count()
            waits = [asyncio.ensure_future(client.wait_for_orchestration_completion(id)) for id in ids]  # noqa: A001
            while len(client._connection.changes._waiting) < number:
                await asyncio.sleep(0.005)
            # The provider's one thread for hints.
            assert threading.active_count() <= before + 1
            # Were threads occupied by waits, this would never be answered.
            assert await client.get_orchestration_state("i-000") is not None
            hand = Hand(provider.hub("default"))
            for instance in ids:
                await asyncio.to_thread(hand.turn, instance, COMPLETED)
            states = await asyncio.gather(*waits)
            assert [state.instance_id for state in states] == ids
            assert client._connection.changes._waiting == {}

    asyncio.run(asyncio.wait_for(run(), 60))


def test_the_loop_goes_on_while_the_store_is_slow(memory: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = memory.hub("default")
    real = hub.get_instances

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.2)
        return real(*args, **kwargs)

    monkeypatch.setattr(hub, "get_instances", slow)
    monkeypatch.setattr(memory, "hub", lambda name: hub)

    async def run() -> int:
        ticks = 0
        async with AsyncClient(memory) as client:
            read = asyncio.ensure_future(client.get_orchestration_state("a"))
            while not read.done():
                await asyncio.sleep(0.005)
                ticks += 1
        return ticks

    assert asyncio.run(run()) >= 5


def test_a_cancelled_wait_leaves_nothing(provider: Provider) -> None:
    async def run() -> None:
        async with AsyncClient(provider) as client:
            await client.schedule_new_orchestration("flow", instance_id="a")
            for delay in (0, 0.001, 0.01, 0.05):
                wait = asyncio.ensure_future(client.wait_for_orchestration_completion("a"))
                await asyncio.sleep(delay)
                wait.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await wait
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.wait_for_custom_status("a", timeout=None)
            assert client._connection.changes._waiting == {}
            assert await client.get_orchestration_state("a") is not None

    asyncio.run(run())


def test_closing_ends_the_waits_of_other_tasks(provider: Provider) -> None:
    async def run() -> None:
        client = AsyncClient(provider)
        await client.schedule_new_orchestration("flow", instance_id="a")
        waits = [asyncio.ensure_future(client.wait_for_orchestration_start("a")) for _ in range(3)]
        await asyncio.sleep(0.02)
        began = time.monotonic()
        await client.close()
        for wait in waits:
            with pytest.raises(Closed):
                await wait
        assert time.monotonic() - began < 0.9

    asyncio.run(run())


def test_a_hint_for_a_loop_that_is_gone_does_no_harm(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    client = AsyncClient(provider)
    asyncio.run(client.schedule_new_orchestration("flow", instance_id="a"))
    monkeypatch.setattr(client._connection.changes, "unwatch", lambda instance, on_change: None)
    with pytest.raises(TimeoutError):
        asyncio.run(client.wait_for_orchestration_start("a", timeout=0))
    client._connection.changes._on_wake(Wake(kind="changed"))
    asyncio.run(client.close())


def test_a_burst_of_hints_is_one_call_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> int:
        signal, calls = _LoopSignal(), []
        real = signal._loop.call_soon_threadsafe

        def call_soon(*call: Any) -> Any:
            calls.append(call)
            return real(*call)

        with monkeypatch.context() as patch:
            patch.setattr(signal._loop, "call_soon_threadsafe", call_soon)
            for _ in range(1000):
                signal.set()
            await signal.wait(5)
        return len(calls)

    assert asyncio.run(run()) == 1


def test_errors_are_those_of_the_sync_client(provider: Provider) -> None:
    async def run() -> None:
        async with AsyncClient(provider) as client:
            with pytest.raises(InstanceNotFound):
                await client.raise_orchestration_event("a", "go")
            with pytest.raises(InstanceNotFound):
                async for _ in client.read_history("a"):
                    pass

    asyncio.run(run())

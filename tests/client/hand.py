"""A worker that does by hand what a test tells it to, and a sync face for the async client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, cast

from perdure.async_client import AsyncClient
from perdure.client import Client
from perdure.history import Event, decode_event
from perdure.spi import (
    ClaimTurns,
    Hub,
    InstanceInfo,
    Lease,
    NewInstance,
    NextExecution,
    OrchestrationStatus,
    Outcome,
    TurnCommit,
    TurnItem,
)

RUNNING = OrchestrationStatus.RUNNING
COMPLETED = OrchestrationStatus.COMPLETED
FAILED = OrchestrationStatus.FAILED
TERMINATED = OrchestrationStatus.TERMINATED

LEASE_MS = 3_600_000


class Hand:
    """Takes turns of instances. A lease is kept until the instance ends, so that turns need no messages."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._held: dict[str, TurnItem] = {}
        self._commits = 0

    def claim(self, instance: str) -> TurnItem:
        held: list[Lease] = [item.lease for item in self._held.values()]
        request = ClaimTurns(worker="hand", max_items=1000, lease_ms=LEASE_MS, held=held)
        for item in self.hub.claim_turns(request).items:
            self._held[item.instance] = item
        return self._held[instance]

    def inbox(self, instance: str) -> list[Event]:
        """Return what the instance has been sent and not consumed."""
        return [decode_event(message.payload) for message in self.claim(instance).messages]

    def turn(self, instance: str, status: OrchestrationStatus = RUNNING, **fields: Any) -> None:
        """Commit a turn that consumes all messages known here."""
        item = self._held.get(instance) or self.claim(instance)
        self._commits += 1
        commit = TurnCommit(
            lease=item.lease,
            commit_id=f"commit-{self._commits}",
            execution=item.execution,
            expected_next_seq=item.next_seq,
            status=status,
            consumed=[message.id for message in item.messages],
            keep_ms=None if status.is_terminal else LEASE_MS,
            **fields,
        )
        assert self.hub.commit_turns([commit]) == [Outcome.OK]
        item.messages = ()
        item.next_seq += len(commit.events)
        if commit.continued is not None:
            item.execution, item.next_seq = item.execution + 1, len(commit.continued.events)
        if status.is_terminal:
            del self._held[instance]

    def continue_as_new(self, instance: str, *, input: bytes, events: tuple[bytes, ...] = ()) -> None:
        self.turn(instance, continued=NextExecution(events=events, input=input))

    def create_child(self, instance: str, *, of: str) -> None:
        new = NewInstance(id=instance, name="child", start=b"{}", generation=f"g-{instance}", parent=of)
        assert self.hub.create_instances([new]) == [Outcome.OK]

    def get(self, instance: str) -> InstanceInfo:
        (info,) = self.hub.get_instances([instance])
        assert info is not None
        return info


class _BlockingClient:
    """Runs each method of an `AsyncClient` in a loop of another thread, and waits for it."""

    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            made = method(*args, **kwargs)
            if isinstance(made, Coroutine):
                return self._run(made)
            return iter(self._run(_collect(made)))

        return call

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def outcome() -> tuple[Any, Exception | None]:
            # Not as the future's own exception, of which asyncio makes another one if it is a TimeoutError.
            try:
                return await work, None
            except Exception as error:
                return None, error

        result, error = asyncio.run_coroutine_threadsafe(outcome(), self._loop).result()
        if error is not None:
            raise error
        return result


async def _collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


@contextmanager
def blocking(*args: Any, **kwargs: Any) -> Iterator[Client]:
    """Make an `AsyncClient` that looks like a `Client`, so that every test of the one is a test of the other."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    client = _BlockingClient(AsyncClient(*args, **kwargs), loop)
    try:
        yield cast("Client", client)
    finally:
        client.close()
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def nested(depth: int) -> list[Any]:
    """Make a list of lists that no store takes when `depth` is large."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class Background:
    """A call in a thread of its own."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def result(self, timeout: float = 10) -> Any:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # it is raised where the result is asked for
            self._error = error

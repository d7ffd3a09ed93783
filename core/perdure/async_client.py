"""The client for asyncio: what `perdure.client` does, without blocking the event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from perdure import operations, requests, waits
from perdure.bridge import bridged
from perdure.connection import Connection
from perdure.conversion import DataConverter, JsonDataConverter
from perdure.history import Event
from perdure.operations import AwaitChange, Call, HistoryReader, Operation, Step
from perdure.requests import OrchestrationQuery, PurgeInstancesResult, ReuseIdPolicy
from perdure.spi import OrchestrationStatus, Page, Provider
from perdure.state import OrchestrationState
from perdure.waits import StatusPredicate, Watch

if TYPE_CHECKING:
    from perdure.replay.context import OrchestrationContext

__all__ = ["AsyncClient"]

# asyncio is imported in the functions, which run when it is there: `perdure --help` waits for every import.

I = TypeVar("I")  # noqa: E741 - an input
T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same methods with the same arguments, results and errors, as coroutines.

    Each call to the store runs in the event loop's default executor. A wait occupies a thread only while it reads,
    so that thousands may wait at once. A call that is cancelled may still reach the store.

    Args:
        provider: a URL, and the client opens the provider when it is first used (or entered) and closes it in the
            end; or an opened provider, which stays the caller's.
        hub: as with `Client`.
        data_converter: as with `Client`.
    """

    def __init__(
        self, provider: Provider | str, *, hub: str | None = None, data_converter: DataConverter | None = None
    ) -> None:
        self._converter = data_converter or JsonDataConverter()
        self._connection = Connection(provider, hub)

    async def __aenter__(self) -> Self:
        try:
            await self._run(operations.connect())
        except BaseException:
            # Nobody leaves what was never entered; and a cancelled connect may still succeed in its thread.
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the store. Whatever still waits in other tasks raises `Closed`. Idempotent."""
        import asyncio  # noqa: PLC0415

        await asyncio.to_thread(self._connection.close)

    async def schedule_new_orchestration(
        self,
        orchestrator: Callable[[OrchestrationContext, I], Any] | Callable[[OrchestrationContext], Any] | str,
        *,
        input: I | None = None,
        instance_id: str | None = None,
        start_at: datetime | timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        version: str | None = None,
        reuse_id_policy: ReuseIdPolicy | None = None,
        connection: object = None,
    ) -> str:
        """Start an orchestration instance and return its id: see `Client.schedule_new_orchestration`.

        `connection` may also be one whose methods are awaited: a driver's, or SQLAlchemy's `AsyncConnection` or
        `AsyncSession`.
        """
        new = requests.new_instance(
            orchestrator,
            converter=self._converter,
            input=input,
            instance_id=instance_id,
            start_at=start_at,
            tags=tags,
            version=version,
            reuse_id_policy=reuse_id_policy,
        )
        return await self._run(operations.create(new, reuse_id_policy, _bridged(connection)))

    async def get_orchestration_state(
        self, instance_id: str, *, fetch_payloads: bool = True
    ) -> OrchestrationState | None:
        """Return the state of an instance, None if there is none: see `Client.get_orchestration_state`."""
        return await self._run(operations.read(instance_id, self._converter, fetch_payloads=fetch_payloads))

    async def wait_for_orchestration_start(
        self,
        instance_id: str,
        *,
        fetch_payloads: bool = False,
        timeout: float | None = 60,
    ) -> OrchestrationState:
        """Wait until a worker has taken the instance: see `Client.wait_for_orchestration_start`."""
        return await self._wait(
            instance_id, timeout, lambda watch: waits.for_start(watch, self._converter, fetch_payloads=fetch_payloads)
        )

    async def wait_for_orchestration_completion(
        self, instance_id: str, *, fetch_payloads: bool = True, timeout: float | None = 60
    ) -> OrchestrationState:
        """Wait until the instance has ended: see `Client.wait_for_orchestration_completion`."""
        return await self._wait(
            instance_id,
            timeout,
            lambda watch: waits.for_completion(watch, self._converter, fetch_payloads=fetch_payloads),
        )

    async def wait_for_custom_status(
        self,
        instance_id: str,
        predicate: StatusPredicate | None = None,
        *,
        since: int | None = None,
        timeout: float | None = 60,
    ) -> OrchestrationState:
        """Wait for a custom status: see `Client.wait_for_custom_status`. `predicate` runs in the event loop."""
        return await self._wait(
            instance_id, timeout, lambda watch: waits.for_custom_status(watch, self._converter, predicate, since)
        )

    async def raise_orchestration_event(
        self, instance_id: str, event_name: str, *, data: Any = None, connection: object = None
    ) -> None:
        """Send an external event to an instance: see `Client.raise_orchestration_event`.

        `connection` is as in `schedule_new_orchestration`.
        """
        message = requests.raise_event(instance_id, event_name, data, self._converter)
        await self._run(operations.send(message, connection=_bridged(connection)))

    async def terminate_orchestration(self, instance_id: str, *, output: Any = None, recursive: bool = True) -> None:
        """End an instance from outside: see `Client.terminate_orchestration`."""
        message = requests.terminate(instance_id, output, self._converter, recursive=recursive)
        await self._run(operations.send(message, ends_instance=True))

    async def suspend_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Stop an instance where it is: see `Client.suspend_orchestration`."""
        await self._run(operations.send(requests.suspend(instance_id, reason)))

    async def resume_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Let a suspended instance go on: see `Client.resume_orchestration`."""
        await self._run(operations.send(requests.resume(instance_id, reason)))

    async def get_all_orchestration_states(self, query: OrchestrationQuery | None = None) -> list[OrchestrationState]:
        """Return all instances that match: see `Client.get_all_orchestration_states`."""
        return await self._run(operations.list_all(query or OrchestrationQuery(), self._converter))

    async def query_orchestrations(
        self, query: OrchestrationQuery | None = None, *, page_size: int | None = None, cursor: str | None = None
    ) -> Page[OrchestrationState]:
        """Return one page of the instances that match: see `Client.query_orchestrations`."""
        return await self._run(
            operations.list_page(query or OrchestrationQuery(), self._converter, page_size=page_size, cursor=cursor)
        )

    def read_history(self, instance_id: str) -> AsyncIterator[Event]:
        """Return the events of the current execution, for `async for`: see `Client.read_history`."""
        return self._events(HistoryReader(instance_id))

    async def purge_orchestration(
        self, instance_id: str, *, recursive: bool = False, force: bool = False
    ) -> PurgeInstancesResult:
        """Delete an instance that has ended: see `Client.purge_orchestration`."""
        return await self._run(operations.purge(instance_id, recursive=recursive, force=force))

    async def purge_orchestrations_by(
        self,
        *,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        completed_time_from: datetime | None = None,
        completed_time_to: datetime | None = None,
        runtime_status: Collection[OrchestrationStatus] | None = None,
        names: Collection[str] | None = None,
        instance_id_prefix: str | None = None,
        tags: Mapping[str, str] | None = None,
        recursive: bool = False,
        timeout: float | timedelta | None = None,
    ) -> PurgeInstancesResult:
        """Delete all instances that have ended and match: see `Client.purge_orchestrations_by`."""
        query = OrchestrationQuery(
            created_time_from=created_time_from,
            created_time_to=created_time_to,
            completed_time_from=completed_time_from,
            completed_time_to=completed_time_to,
            runtime_status=runtime_status,
            names=names,
            instance_id_prefix=instance_id_prefix,
            tags=tags,
        )
        return await self._run(operations.purge_by(query, recursive=recursive, timeout=timeout))

    async def _events(self, reader: HistoryReader) -> AsyncIterator[Event]:
        while reader.has_more:
            for event in await self._run(reader.next_page()):
                yield event

    async def _wait(self, instance_id: str, timeout: float | None, wait: Callable[[Watch], Operation[T]]) -> T:
        changed = _LoopSignal()
        watch = Watch(self._connection.changes, changed.set, instance_id, timeout)
        return await self._run(wait(watch), changed)

    async def _run(self, operation: Operation[T], changed: _LoopSignal | None = None) -> T:
        try:
            step = next(operation)
            while True:
                try:
                    answer = await self._take(step, changed)
                except Exception as error:  # which of them it can take is for the operation to decide
                    step = operation.throw(error)
                else:
                    step = operation.send(answer)
        except StopIteration as finished:
            result: T = finished.value
            return result
        finally:
            operation.close()

    async def _take(self, step: Step, changed: _LoopSignal | None) -> Any:
        import asyncio  # noqa: PLC0415

        if isinstance(step, Call):
            return await asyncio.to_thread(self._connection.call, step.function)
        if isinstance(step, AwaitChange) and changed is not None:
            await changed.wait(step.seconds)
        else:
            await asyncio.sleep(step.seconds)
        return None


class _LoopSignal:
    """A `threading.Event` that is set from any thread and awaited in the loop in which it was made."""

    def __init__(self) -> None:
        import asyncio  # noqa: PLC0415

        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._is_on_its_way = False

    def set(self) -> None:
        # A busy instance gives many hints, of which the loop needs one.
        if not self._is_on_its_way:
            self._is_on_its_way = True
            # The loop may have been closed over a wait that nobody ended.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._arrive)

    async def wait(self, seconds: float) -> None:
        """Return when it is set, and at the latest after `seconds`; it is not set any more then."""
        import asyncio  # noqa: PLC0415

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        # Before the look that comes now, so that a change during that look isn't missed.
        self._event.clear()

    def _arrive(self) -> None:
        # In this order: what is set from here on comes again.
        self._is_on_its_way = False
        self._event.set()


def _bridged(connection: object) -> object:
    import asyncio  # noqa: PLC0415

    return None if connection is None else bridged(connection, asyncio.get_running_loop())

"""Running activities: in threads, or on one event loop where they are `async def`."""

from __future__ import annotations

import inspect
import logging
import queue
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from perdure import history as h
from perdure.conversion import DataConverter
from perdure.failures import FailureDetails
from perdure.payloads import dump, load
from perdure.registry import Registration, Registry
from perdure.spi import Activity, Message, Millis

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

__all__ = ["ActivityContext", "ActivityRunner", "Finished", "ThreadRunner", "refused_result", "run_activity"]

logger = logging.getLogger("perdure")


class ActivityContext:
    """What an activity may know of where it stands."""

    def __init__(self, *, orchestration_id: str, task_id: int, name: str, attempt: int) -> None:
        self._orchestration_id = orchestration_id
        self._task_id = task_id
        self._name = name
        self._attempt = attempt
        self._cancelled = threading.Event()

    @property
    def orchestration_id(self) -> str:
        """The id of the instance that called it."""
        return self._orchestration_id

    @property
    def task_id(self) -> int:
        """The number of the call within its orchestration. With `orchestration_id` it makes a good idempotency key."""
        return self._task_id

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self._name

    @property
    def attempt(self) -> int:
        """1 for the first run of this call; more after a crash. A retry policy's next attempt is another call."""
        return self._attempt

    @property
    def is_cancelled(self) -> bool:
        """Whether the result will be dropped: it was cancelled, or the lease was lost. Stop when you can."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Make `is_cancelled` true (for the engine)."""
        self._cancelled.set()


@dataclass(slots=True)
class Finished:
    """An activity that ran, and what its instance is told."""

    activity: Activity
    message: Message


class ActivityRunner(Protocol):
    """Where the engine sends activities."""

    finished: queue.SimpleQueue[Finished]

    def start(self, activity: Activity) -> None:
        """Run it, and put the outcome into `finished`."""

    def cancel(self, token: str) -> None:
        """Tell the activity under that lease that nobody waits for it any more, and end it if that can be done."""


class ThreadRunner:
    """Runs plain functions in threads, started as needed, and coroutines on one loop in a thread of its own.

    Args:
        registry: the activities.
        converter: turns payloads into values and back.
        now: the hub's time, for the events.
        on_finished: called after each, from its thread.
    """

    def __init__(
        self, registry: Registry, converter: DataConverter, now: Callable[[], Millis], on_finished: Callable[[], None]
    ) -> None:
        self.finished: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        self._registry = registry
        self._converter = converter
        self._now = now
        self._on_finished = on_finished
        self._work: queue.SimpleQueue[tuple[Activity, ActivityContext] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._contexts: dict[str, ActivityContext] = {}
        self._futures: dict[str, concurrent.futures.Future[None]] = {}

    def start(self, activity: Activity) -> None:
        """Run it, and put the outcome into `finished`."""
        context = ActivityContext(
            orchestration_id=activity.instance,
            task_id=h.decode_event(activity.payload).event_id,
            name=activity.name,
            attempt=activity.attempt,
        )
        token = activity.lease.token
        self._contexts[token] = context
        if inspect.iscoroutinefunction(self._registry.activity(activity.name).function):
            import asyncio  # noqa: PLC0415 - 40 ms that only those pay who have async activities

            future = asyncio.run_coroutine_threadsafe(self._run_async(activity, context), self._event_loop())
            self._futures[token] = future
            # It may have finished already, or be cancelled before its first step, in which it would tidy up itself.
            future.add_done_callback(lambda _: self._forget(token))
            return
        with self._lock:
            self._busy += 1
            if self._busy > len(self._threads):
                thread = threading.Thread(
                    target=self._serve, name=f"perdure-activity-{len(self._threads)}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        self._work.put((activity, context))

    def cancel(self, token: str) -> None:
        """Tell the activity under that lease that nobody waits for it any more, and end it if that can be done."""
        context = self._contexts.get(token)
        if context is not None:
            context.cancel()
        future = self._futures.get(token)
        if future is not None:
            future.cancel()

    def close(self) -> None:
        """Take no more; don't wait for what runs."""
        for _ in self._threads:
            self._work.put(None)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            activity, context = work
            message = run_activity(self._registry, self._converter, activity, context, self._now)
            with self._lock:
                self._busy -= 1
            self._finish(activity, message)

    async def _run_async(self, activity: Activity, context: ActivityContext) -> None:
        message = await run_async_activity(self._registry, self._converter, activity, context, self._now)
        self._finish(activity, message)

    def _finish(self, activity: Activity, message: Message) -> None:
        self._forget(activity.lease.token)
        self.finished.put(Finished(activity, message))
        self._on_finished()

    def _forget(self, token: str) -> None:
        self._contexts.pop(token, None)
        self._futures.pop(token, None)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            import asyncio  # noqa: PLC0415 - as in start

            loop = self._loop = asyncio.new_event_loop()

            def serve() -> None:
                try:
                    loop.run_forever()
                    tasks = asyncio.all_tasks(loop)
                    for task in tasks:
                        task.cancel()
                    if tasks:
                        loop.run_until_complete(asyncio.wait(tasks))
                    loop.run_until_complete(loop.shutdown_asyncgens())
                finally:
                    loop.close()

            threading.Thread(target=serve, name="perdure-activity-loop", daemon=True).start()
        return self._loop


def run_activity(
    registry: Registry,
    converter: DataConverter,
    activity: Activity,
    context: ActivityContext,
    now: Callable[[], Millis],
) -> Message:
    """Run a plain activity and return the message for its instance. Never raises."""
    try:
        registration, arguments = _prepare(registry, converter, activity)
        result = registration.function(context, *arguments)
        if inspect.iscoroutine(result):
            # A callable that hides its coroutine (a decorator, a partial): drive it here.
            import asyncio  # noqa: PLC0415 - as in ThreadRunner.start

            result = asyncio.run(_awaited(result))
        return _completed(activity, context, dump(converter, result), now())
    except BaseException as error:  # SystemExit in an activity fails the activity, not the worker.
        return _failed(activity, context, error, now())


async def run_async_activity(
    registry: Registry,
    converter: DataConverter,
    activity: Activity,
    context: ActivityContext,
    now: Callable[[], Millis],
) -> Message:
    """Run an `async def` activity and return the message for its instance. Never raises."""
    try:
        registration, arguments = _prepare(registry, converter, activity)
        result = await registration.function(context, *arguments)
        return _completed(activity, context, dump(converter, result), now())
    except BaseException as error:  # As in run_activity; CancelledError is one of them.
        return _failed(activity, context, error, now())


def refused_result(message: Message | None, error: Exception, at: Millis) -> Message | None:
    """Return the failure that is told instead of a result that the provider refuses."""
    if message is None:
        return None
    event = h.decode_event(message.payload)
    assert isinstance(event, (h.TaskCompleted, h.TaskFailed))
    failure = FailureDetails.from_exception(error)
    failed = h.TaskFailed(timestamp=at, task_scheduled_id=event.task_scheduled_id, failure=failure)
    return replace(message, payload=h.encode_event(failed))


async def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


def _prepare(registry: Registry, converter: DataConverter, activity: Activity) -> tuple[Registration, list[Any]]:
    event = h.decode_event(activity.payload)
    if not isinstance(event, h.TaskScheduled):
        raise TypeError(f"an activity's payload is a TaskScheduled event, not {type(event).__name__}")
    registration = registry.activity(activity.name)
    arguments = [load(converter, event.input, registration.input_type)] if registration.takes_input else []
    return registration, arguments


def _completed(activity: Activity, context: ActivityContext, result: bytes | None, at: Millis) -> Message:
    return _answer(activity, h.TaskCompleted(timestamp=at, task_scheduled_id=context.task_id, result=result))


def _failed(activity: Activity, context: ActivityContext, error: BaseException, at: Millis) -> Message:
    logger.info("activity %r of instance %r failed", activity.name, activity.instance, exc_info=error)
    failure = FailureDetails.from_exception(error)
    return _answer(activity, h.TaskFailed(timestamp=at, task_scheduled_id=context.task_id, failure=failure))


def _answer(activity: Activity, event: h.Event) -> Message:
    return Message(
        id=activity.id, instance=activity.instance, generation=activity.generation, payload=h.encode_event(event)
    )

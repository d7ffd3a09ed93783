"""The worker: a thread that runs the engine."""

from __future__ import annotations

import logging
import threading
import time
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Final, Self

from perdure.activities import ThreadRunner
from perdure.conversion import DataConverter, JsonDataConverter
from perdure.engine import Engine
from perdure.errors import Closed, PerdureError
from perdure.plugins import connect
from perdure.registry import Registry
from perdure.spi import Hub, Provider, Subscription, Wake

if TYPE_CHECKING:
    from perdure.registry import ActivityFunction, OrchestratorFunction

__all__ = ["Worker"]

logger = logging.getLogger("perdure")

# How long a worker sleeps at most. Hints may be lost, so there is always a next look.
_IDLE_SECONDS: Final = 1.0
_IDLE_SECONDS_WITHOUT_HINTS: Final = 0.1


class Worker:
    """Runs orchestrators and activities.

    Register, then `start`, or use it as a context manager. Any number of workers, in any number of processes, may
    serve one hub; each claims only what it has registered.

    Args:
        provider: a provider URL, or an opened provider, which the worker then doesn't close.
        hub: the task hub; by default the URL's `op_hub`. It is created if it doesn't exist.
        max_concurrent_activities: activities at once; plain functions take a thread each.
        max_concurrent_turns: instances taken on per round.
        lease_seconds: how long the worker may be silent before others take its work over.
        data_converter: turns values into text and back; by default canonical JSON.
        verify_replay: replay every turn beside the live one, and fail an instance whose code differs. For development
            and tests: it costs the reading of the whole history a turn.
    """

    def __init__(
        self,
        provider: str | Provider,
        *,
        hub: str | None = None,
        max_concurrent_activities: int = 32,
        max_concurrent_turns: int = 100,
        lease_seconds: float = 30.0,
        data_converter: DataConverter | None = None,
        verify_replay: bool = False,
    ) -> None:
        if max_concurrent_activities < 1 or max_concurrent_turns < 1:
            raise ValueError("max_concurrent_activities and max_concurrent_turns must be at least 1")
        if lease_seconds <= 0:
            raise ValueError("lease_seconds must be more than 0")
        self.registry = Registry()
        self._given = provider
        self._hub_name = hub
        self._max_activities = max_concurrent_activities
        self._max_turns = max_concurrent_turns
        self._lease_seconds = lease_seconds
        self._converter = data_converter or JsonDataConverter()
        self._verify_replay = verify_replay
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._stop_seconds = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add_orchestrator(self, function: OrchestratorFunction, *, name: str | None = None) -> str:
        """Register an orchestrator: `function(context)` or `function(context, input)`, a generator or `async def`.

        Returns:
            The name that history knows it by: `name`, or that of the decorator, or its `__name__`.

        Raises:
            InvalidName: the name is malformed, or another function has it.
            TypeError: it can't be called like that.
        """
        return self.registry.add_orchestrator(function, name=name)

    def add_activity(self, function: ActivityFunction, *, name: str | None = None) -> str:
        """Register an activity: `function(context)` or `function(context, input)`, plain or `async def`.

        Returns and raises what `add_orchestrator` does.
        """
        return self.registry.add_activity(function, name=name)

    def add_module(self, module: ModuleType) -> None:
        """Register all functions of `module` that are marked with `@orchestrator` or `@activity`."""
        self.registry.add_module(module)

    def start(self) -> None:
        """Connect and start to work, in a thread of its own.

        Raises:
            ProviderUnavailable: the store can't be reached.
            RuntimeError: it runs already.
        """
        if self._thread is not None:
            raise RuntimeError("this worker runs already")
        provider = connect(self._given)
        try:
            name = self._hub_name or provider.url.hub
            provider.create_hub(name)
            hub = provider.hub(name)
            self._stopping.clear()
            self._wake.clear()
            # The engine is made with the runner, so its method can't be named yet.
            runner = ThreadRunner(
                self.registry,
                self._converter,
                lambda: engine.estimate_now(),  # noqa: PLW0108
                self._wake.set,
            )
            engine = Engine(
                hub,
                self.registry,
                self._converter,
                runner,
                max_turns=self._max_turns,
                max_activities=self._max_activities,
                lease_seconds=self._lease_seconds,
                verify_replay=self._verify_replay,
                max_batch=provider.limits.max_batch,
            )
            subscription = hub.subscribe(self._on_wake)
        except BaseException:
            self._let_go(provider)
            raise
        self._thread = threading.Thread(
            target=self._run,
            args=(provider, hub, engine, runner, subscription),
            name="perdure-worker",
            daemon=True,
        )
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop claiming, let running activities finish for up to `timeout` seconds, and give the rest back.

        What was given back is another worker's at once. The bound doesn't cover the calls to the provider themselves,
        two at the most behind it: SQLite waits up to 10 s for a lock that another process holds. Idempotent.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop_seconds = timeout
        self._stopping.set()
        self._wake.set()
        thread.join()

    @property
    def is_running(self) -> bool:
        """Whether it works: started, neither stopped nor given up."""
        return self._thread is not None and self._thread.is_alive()

    def _on_wake(self, wake: Wake) -> None:
        if wake.kind == "work":
            self._wake.set()

    def _run(
        self, provider: Provider, hub: Hub, engine: Engine, runner: ThreadRunner, subscription: Subscription | None
    ) -> None:
        idle = _IDLE_SECONDS_WITHOUT_HINTS if subscription is None else _IDLE_SECONDS
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                delay = engine.round()
                if delay > 0:
                    self._wake.wait(min(delay, idle))
            deadline = time.monotonic() + self._stop_seconds
            while engine.is_busy and time.monotonic() < deadline:
                self._wake.clear()
                delay = engine.round(claim=False)
                if delay > 0 and engine.is_busy:
                    self._wake.wait(max(0.0, min(delay, idle, deadline - time.monotonic())))
            engine.give_back(deadline)
        except Closed:
            logger.warning("the provider was closed under a running worker of hub %r; it has stopped", hub.name)
        except PerdureError:
            logger.exception("the worker of hub %r has stopped: its provider can't be used any more", hub.name)
        finally:
            if subscription is not None:
                subscription.close()
            runner.close()
            engine.close()
            self._let_go(provider)

    def _let_go(self, provider: Provider) -> None:
        if provider is not self._given:
            provider.close()

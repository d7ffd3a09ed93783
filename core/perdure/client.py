"""The client: starts orchestrations, talks to them, watches them, and clears them away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from perdure import operations, requests, waits
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

__all__ = ["Client"]

I = TypeVar("I")  # noqa: E741 - an input
T = TypeVar("T")


class Client:
    """Starts orchestrations, talks to them and watches them, from any process that reaches the store.

    May be used from many threads at once. What returned without an error has been stored. Calls that the store
    can't serve for a moment are tried again for about three seconds, with ids that make a second arrival harmless.

    Every method may raise the `ProviderError`s of its provider (`Transient` and `OutcomeUnknown` only after those
    tries), `Closed` after `close`, and `InvalidArgument` for an argument that breaks a rule.

    Args:
        provider: a URL, and the client opens the provider now and closes it in the end; or an opened provider,
            which stays the caller's.
        hub: name of the task hub; by default that of the provider's URL. It is created if it doesn't exist.
        data_converter: turns inputs, outputs and event data into text and back; the same as the workers'.

    Raises:
        ProviderUnavailable: no provider has the URL's scheme, or its store can't be reached.
    """

    def __init__(
        self, provider: Provider | str, *, hub: str | None = None, data_converter: DataConverter | None = None
    ) -> None:
        self._converter = data_converter or JsonDataConverter()
        self._connection = Connection(provider, hub)
        self._run(operations.connect())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store. Whatever still waits in other threads raises `Closed`. Idempotent."""
        self._connection.close()

    def schedule_new_orchestration(
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
        """Start an orchestration instance and return its id.

        Args:
            orchestrator: the function, or the name under which workers registered it.
            input: handed to the orchestrator; at most 4 MiB as JSON.
            instance_id: by default a fresh random one.
            start_at: not before then, or so much later than now; without a time zone it is taken as UTC.
            tags: for finding the instance; at most 32.
            version: what the orchestrator sees as its version.
            reuse_id_policy: what to do if the id is taken. "error", the default: raise. "replace_finished": take
                the place of an instance that has ended, of which everything is deleted; one that runs is an
                error. "ignore": leave the instance there as it is, and return the id.
            connection: one of yours to the same database, inside a transaction: the instance is started when that is
                committed, and not at all when it is rolled back. A driver's connection, or a `Connection` or
                `Session` of SQLAlchemy; see the provider's page for what it takes. An id that is taken between this
                call and the commit is no error any more: the instance there stays, and a warning is logged.

        Raises:
            InstanceAlreadyExists: the id is taken.
            InvalidInstanceId, InvalidName: the id or the orchestrator's name breaks a rule.
            PayloadError: the input is not JSON that perdure stores, or too large.
            Unsupported: `connection`, and the provider can't.
            InvalidRequest: the connection is none that the provider can use.
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
        return self._run(operations.create(new, reuse_id_policy, connection))

    def get_orchestration_state(self, instance_id: str, *, fetch_payloads: bool = True) -> OrchestrationState | None:
        """Return the state of an instance, None if there is none of that id.

        Args:
            instance_id: the instance.
            fetch_payloads: input and output too; custom status and failure are there either way.

        Raises:
            InvalidInstanceId: the id breaks a rule.
        """
        return self._run(operations.read(instance_id, self._converter, fetch_payloads=fetch_payloads))

    def wait_for_orchestration_start(
        self, instance_id: str, *, fetch_payloads: bool = False, timeout: float | None = 60
    ) -> OrchestrationState:
        """Wait until a worker has taken the instance, and return its state.

        Args:
            instance_id: the instance.
            fetch_payloads: input and output too.
            timeout: seconds; None: for ever.

        Raises:
            InstanceNotFound: there is none of that id, or it was purged or replaced meanwhile.
            OrchestrationNotStarted: no worker took it in time (a `TimeoutError`).
        """
        return self._wait(
            instance_id, timeout, lambda watch: waits.for_start(watch, self._converter, fetch_payloads=fetch_payloads)
        )

    def wait_for_orchestration_completion(
        self, instance_id: str, *, fetch_payloads: bool = True, timeout: float | None = 60
    ) -> OrchestrationState:
        """Wait until the instance has completed, failed or been terminated, and return its state.

        Args:
            instance_id: the instance.
            fetch_payloads: input and output too.
            timeout: seconds; None: for ever.

        Raises:
            InstanceNotFound: there is none of that id, or it was purged or replaced meanwhile: its result is gone,
                and that of another instance is not what was asked for.
            TimeoutError: it has not ended in time.
        """
        return self._wait(
            instance_id,
            timeout,
            lambda watch: waits.for_completion(watch, self._converter, fetch_payloads=fetch_payloads),
        )

    def wait_for_custom_status(
        self,
        instance_id: str,
        predicate: StatusPredicate | None = None,
        *,
        since: int | None = None,
        timeout: float | None = 60,
    ) -> OrchestrationState:
        """Wait for a custom status, and return the state that showed it.

        Also returns when the instance has ended, since what is waited for may then never come: look at
        `runtime_status`. A status that was soon followed by another may be skipped. The input is not fetched.

        Args:
            instance_id: the instance.
            predicate: called with the current custom status, a JSON value or None; the wait is over when it
                returns true. Without one, any status that is set or cleared ends the wait.
            since: count only what was set or cleared after this `status_rev`. By default, without a predicate:
                after this call.
            timeout: seconds; None: for ever.

        Raises:
            InstanceNotFound: there is none of that id, or it was purged or replaced meanwhile.
            TimeoutError: no such status came in time.
        """
        return self._wait(
            instance_id, timeout, lambda watch: waits.for_custom_status(watch, self._converter, predicate, since)
        )

    def raise_orchestration_event(
        self, instance_id: str, event_name: str, *, data: Any = None, connection: object = None
    ) -> None:
        """Send an external event to an instance.

        Args:
            instance_id: the instance.
            event_name: what the orchestrator waits for; upper and lower case are the same.
            data: what its wait returns; at most 4 MiB as JSON.
            connection: one of yours, as in `schedule_new_orchestration`: the event is sent when its transaction is
                committed. The instance may be one that is started in the same transaction. If there is none by then,
                or if it has ended, the event is dropped and a warning is logged.

        Raises:
            InstanceNotFound: there is none of that id.
            InstanceFinished: it has ended.
            InvalidInstanceId, InvalidName: the id or the event's name breaks a rule.
            PayloadError: the data are not JSON that perdure stores, or too large.
            Unsupported: `connection`, and the provider can't.
            InvalidRequest: the connection is none that the provider can use.
        """
        message = requests.raise_event(instance_id, event_name, data, self._converter)
        self._run(operations.send(message, connection=connection))

    def terminate_orchestration(self, instance_id: str, *, output: Any = None, recursive: bool = True) -> None:
        """End an instance from outside. None of its code runs any more; activities that run are told.

        Args:
            instance_id: the instance.
            output: shown as its output.
            recursive: its sub-orchestrations too.

        Raises:
            InstanceNotFound: there is none of that id.
            InstanceFinished: it has ended already.
            PayloadError: the output is not JSON that perdure stores, or too large.
        """
        message = requests.terminate(instance_id, output, self._converter, recursive=recursive)
        self._run(operations.send(message, ends_instance=True))

    def suspend_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Stop an instance where it is: what arrives is kept, and nothing of its code runs until it is resumed.

        Args:
            instance_id: the instance.
            reason: for those who read the history.

        Raises:
            InstanceNotFound: there is none of that id.
            InstanceFinished: it has ended.
        """
        self._run(operations.send(requests.suspend(instance_id, reason)))

    def resume_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Let a suspended instance go on; arguments and errors as with `suspend_orchestration`."""
        self._run(operations.send(requests.resume(instance_id, reason)))

    def get_all_orchestration_states(self, query: OrchestrationQuery | None = None) -> list[OrchestrationState]:
        """Return all instances that match, ordered by the time of their creation.

        Args:
            query: filters, order and the greatest number; None: all there are, without inputs and outputs.

        Raises:
            Unsupported: a filter that the provider doesn't have.
        """
        return self._run(operations.list_all(query or OrchestrationQuery(), self._converter))

    def query_orchestrations(
        self, query: OrchestrationQuery | None = None, *, page_size: int | None = None, cursor: str | None = None
    ) -> Page[OrchestrationState]:
        """Return one page of the instances that match.

        Args:
            query: filters and order; its `max_instance_count` is not looked at.
            page_size: how many at most.
            cursor: that of the page before, from the same query; None: the first page.

        Raises:
            Unsupported: a filter that the provider doesn't have.
            InvalidRequest: a cursor of another query, or a page size under 1.
        """
        return self._run(
            operations.list_page(query or OrchestrationQuery(), self._converter, page_size=page_size, cursor=cursor)
        )

    def read_history(self, instance_id: str) -> Iterator[Event]:
        """Return the events of the instance's current execution, in order, read as they are asked for.

        Raises:
            InstanceNotFound: there is none of that id.
            Transient: another execution began in the midst of it; read again.
            Corrupt: something there is no event of a kind that this version knows.
        """
        return self._events(HistoryReader(instance_id))

    def purge_orchestration(
        self, instance_id: str, *, recursive: bool = False, force: bool = False
    ) -> PurgeInstancesResult:
        """Delete an instance that has ended, with its history and all else.

        One that is unknown or has not ended is no error: the result tells.

        Args:
            instance_id: the instance.
            recursive: its sub-orchestrations too, and theirs.
            force: even if it has not ended; what a worker is doing for it then comes to nothing.

        Raises:
            Unsupported: `recursive`, and the provider can't.
        """
        return self._run(operations.purge(instance_id, recursive=recursive, force=force))

    def purge_orchestrations_by(
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
        """Delete all instances that have ended and match; what has not ended stays.

        Filters are those of `OrchestrationQuery`.

        Args:
            created_time_from: created then or later.
            created_time_to: created before.
            completed_time_from: ended then or later.
            completed_time_to: ended before.
            runtime_status: of one of these statuses.
            names: of one of these orchestrators.
            instance_id_prefix: with an id that starts so.
            tags: with all of these tags.
            recursive: their sub-orchestrations too.
            timeout: seconds, or a timedelta, after which to stop; the result says whether all was done.

        Raises:
            Unsupported: `recursive` or a filter, and the provider can't.
        """
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
        return self._run(operations.purge_by(query, recursive=recursive, timeout=timeout))

    def _events(self, reader: HistoryReader) -> Iterator[Event]:
        while reader.has_more:
            yield from self._run(reader.next_page())

    def _wait(self, instance_id: str, timeout: float | None, wait: Callable[[Watch], Operation[T]]) -> T:
        changed = threading.Event()
        watch = Watch(self._connection.changes, changed.set, instance_id, timeout)
        return self._run(wait(watch), changed)

    def _run(self, operation: Operation[T], changed: threading.Event | None = None) -> T:
        try:
            step = next(operation)
            while True:
                try:
                    answer = self._take(step, changed)
                except Exception as error:  # which of them it can take is for the operation to decide
                    step = operation.throw(error)
                else:
                    step = operation.send(answer)
        except StopIteration as finished:
            result: T = finished.value
            return result
        finally:
            operation.close()

    def _take(self, step: Step, changed: threading.Event | None) -> Any:
        if isinstance(step, Call):
            return self._connection.call(step.function)
        if isinstance(step, AwaitChange) and changed is not None:
            changed.wait(step.seconds)
            # Before the look that comes now, so that a change during that look isn't missed.
            changed.clear()
        else:
            time.sleep(step.seconds)
        return None

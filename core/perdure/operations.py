"""What clients do, written once for both kinds.

An operation is a generator. It yields steps (a call to the hub, a pause), is sent the outcome of each, and returns
the result; a `Client` drives it by blocking, an `AsyncClient` by awaiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, TypeAlias, TypeVar

from perdure.conversion import DataConverter
from perdure.errors import (
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    Transient,
)
from perdure.history import Event, decode_event
from perdure.identifiers import check_instance_id
from perdure.requests import (
    FINISHED,
    MessageAt,
    NewInstanceAt,
    OrchestrationQuery,
    PurgeInstancesResult,
    ReuseIdPolicy,
    as_timeout,
    fields_for,
    instance_query,
)
from perdure.spi import (
    Fields,
    HistoryPage,
    Hub,
    InstanceInfo,
    Outcome,
    Page,
    PurgeRequest,
)
from perdure.state import OrchestrationState

__all__ = [
    "AwaitChange",
    "Call",
    "HistoryReader",
    "Operation",
    "Sleep",
    "Step",
    "connect",
    "create",
    "list_all",
    "list_page",
    "purge",
    "purge_by",
    "read",
    "read_info",
    "retried",
    "send",
]

T = TypeVar("T")

# Five tries over some three seconds: longer than a failover of a pooled connection, shorter than anybody's patience.
_RETRY_DELAYS: Final = (0.05, 0.2, 0.8, 2.0, None)
_MAX_RETRY_AFTER: Final = 10.0

_HISTORY_PAGE: Final = 500
_PURGE_LIMIT: Final = 500
_PURGE_BUDGET_MS: Final = 1000


@dataclass(slots=True, frozen=True)
class Call(Generic[T]):
    """Call this with the hub. It blocks."""

    function: Callable[[Hub], T]


@dataclass(slots=True, frozen=True)
class Sleep:
    """Let so much time pass."""

    seconds: float


@dataclass(slots=True, frozen=True)
class AwaitChange:
    """Wait for a hint that the instance in question changed, but no longer than this."""

    seconds: float


Step: TypeAlias = Call[Any] | Sleep | AwaitChange
Operation: TypeAlias = Generator[Step, Any, T]


def retried(function: Callable[[Hub], T], *, deadline: float = float("inf")) -> Operation[T]:
    """Call `function` until it succeeds, fails for good, or has failed too often.

    Args:
        function: safe to be called again after `Transient` and `OutcomeUnknown`.
        deadline: on the monotonic clock; nothing is tried after it.
    """
    for delay in _RETRY_DELAYS:
        try:
            result: T = yield Call(function)
        except ProviderError as error:
            left = deadline - time.monotonic()
            if not error.retryable or delay is None or left <= 0:
                raise
            advised = (error.retry_after or 0) if isinstance(error, Transient) else 0
            pause = min(max(delay, min(advised, _MAX_RETRY_AFTER)), left)
        else:
            return result
        yield Sleep(pause)
    raise AssertionError("the last try returns or raises")


def _once(function: Callable[[Hub], T]) -> Operation[T]:
    # A transaction in which something failed is as a rule of no more use; its owner knows how to begin it anew.
    result: T = yield Call(function)
    return result


def connect() -> Operation[None]:
    """Open the hub."""
    yield from retried(lambda _: None)


def create(new: NewInstanceAt, policy: ReuseIdPolicy | None, connection: object = None) -> Operation[str]:
    """Create an instance and return its id.

    Args:
        new: what makes it.
        policy: what to do if the id is taken.
        connection: of the caller's, in whose transaction that happens; None: in one of its own.
    """

    def attempt(hub: Hub) -> tuple[str, Outcome]:
        instance = new(hub.now())
        if connection is None:
            return instance.id, hub.create_instances([instance])[0]
        return instance.id, hub.enlist(connection, starts=[instance])[0]

    instance_id, outcome = yield from retried(attempt) if connection is None else _once(attempt)
    if outcome is Outcome.EXISTS and policy != "ignore":
        info = yield from read_info(instance_id, Fields.NONE)
        # It may have ended or gone since: to name such a status as the reason would puzzle more than help.
        stale = info is None or (policy == "replace_finished" and info.status in FINISHED)
        raise InstanceAlreadyExists(instance_id, None if info is None or stale else info.status)
    return instance_id


def send(message: MessageAt, *, ends_instance: bool = False, connection: object = None) -> Operation[None]:
    """Send a message.

    Args:
        message: what makes it.
        ends_instance: that the instance has ended is what the message was for.
        connection: as in `create`.
    """
    unknown: OutcomeUnknown | None = None

    def attempt(hub: Hub) -> tuple[str, Outcome]:
        nonlocal unknown
        made = message(hub.now())
        if connection is not None:
            return made.instance, hub.enlist(connection, messages=[made])[0]
        try:
            return made.instance, hub.send_messages([made])[0]
        except OutcomeUnknown as error:
            unknown = error
            raise

    instance_id, outcome = yield from retried(attempt) if connection is None else _once(attempt)
    if outcome is Outcome.NOT_FOUND:
        raise InstanceNotFound(instance_id)
    if outcome is Outcome.TERMINAL:
        # An earlier try may have arrived, and the instance may have ended by it.
        if unknown is not None:
            if ends_instance:
                return
            raise unknown
        info = yield from read_info(instance_id, Fields.NONE)
        raise InstanceFinished(instance_id, None if info is None else info.status)


def read_info(instance_id: str, fields: Fields, *, deadline: float = float("inf")) -> Operation[InstanceInfo | None]:
    """Read one instance, None if there is none."""
    return (yield from retried(lambda hub: hub.get_instances([instance_id], fields=fields)[0], deadline=deadline))


def read(instance_id: str, converter: DataConverter, *, fetch_payloads: bool) -> Operation[OrchestrationState | None]:
    """Read the state of an instance, None if there is none."""
    info = yield from read_info(check_instance_id(instance_id), fields_for(fetch_payloads=fetch_payloads))
    return None if info is None else OrchestrationState.from_info(info, converter)


def list_page(
    query: OrchestrationQuery, converter: DataConverter, *, page_size: int | None = None, cursor: str | None = None
) -> Operation[Page[OrchestrationState]]:
    """Read one page of the instances that match."""
    request = instance_query(query, page_size=page_size, cursor=cursor)
    page = yield from retried(lambda hub: hub.query_instances(request))
    return Page(items=[OrchestrationState.from_info(info, converter) for info in page.items], cursor=page.cursor)


def list_all(query: OrchestrationQuery, converter: DataConverter) -> Operation[list[OrchestrationState]]:
    """Read all instances that match, up to `max_instance_count`."""
    limit = query.max_instance_count
    if limit is not None and limit < 0:
        raise InvalidArgument(f"max_instance_count is {limit}; it must be at least 0, or None for no limit")
    found: list[OrchestrationState] = []
    cursor: str | None = None
    while limit is None or len(found) < limit:
        page = yield from list_page(query, converter, cursor=cursor)
        found.extend(page.items)
        cursor = page.cursor
        if cursor is None:
            break
    return found[:limit]


def purge(instance_id: str, *, recursive: bool, force: bool) -> Operation[PurgeInstancesResult]:
    """Delete one instance."""
    request = PurgeRequest(ids=[check_instance_id(instance_id)], cascade=recursive, force=force)
    result = yield from retried(lambda hub: hub.purge(request))
    unfinished = (instance_id,) if Outcome.CONFLICT in result.outcomes else ()
    return PurgeInstancesResult(
        deleted_instance_count=result.deleted,
        is_complete=result.complete and not unfinished,
        unfinished=unfinished,
    )


def purge_by(
    query: OrchestrationQuery, *, recursive: bool, timeout: float | timedelta | None
) -> Operation[PurgeInstancesResult]:
    """Delete all finished instances that match, by portions, so that nobody waits long for a lock."""
    deadline = time.monotonic() + as_timeout(timeout)
    request = PurgeRequest(
        query=instance_query(query), cascade=recursive, limit=_PURGE_LIMIT, budget_ms=_PURGE_BUDGET_MS
    )
    deleted = 0
    while True:
        result = yield from retried(lambda hub: hub.purge(request))
        deleted += result.deleted
        if result.complete or time.monotonic() >= deadline:
            return PurgeInstancesResult(deleted_instance_count=deleted, is_complete=result.complete)


class HistoryReader:
    """Reads the history of an instance's current execution page by page.

    Args:
        instance_id: the instance.
    """

    def __init__(self, instance_id: str) -> None:
        self.has_more = True
        self._instance_id = check_instance_id(instance_id)
        self._after = -1
        self._execution: tuple[str, int] | None = None

    def next_page(self) -> Operation[list[Event]]:
        """Return the next events.

        Raises:
            InstanceNotFound: there is no such instance.
            Transient: another execution began since the first page; read from the start again.
        """
        try:
            page = yield from retried(self._read)
        except NotFound:
            # Either the instance or the whole hub is missing; of the hub this says so itself.
            if (yield from read_info(self._instance_id, Fields.NONE)) is None:
                raise InstanceNotFound(self._instance_id) from None
            raise
        execution = (page.generation, page.execution)
        if self._execution not in {None, execution}:
            raise Transient(
                f"instance {self._instance_id!r} began another execution while its history was read; read it again"
            )
        self._execution = execution
        self._after += len(page.events)
        self.has_more = page.more
        return [decode_event(stored) for stored in page.events]

    def _read(self, hub: Hub) -> HistoryPage:
        return hub.read_history(self._instance_id, after=self._after, limit=_HISTORY_PAGE)

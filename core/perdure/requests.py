"""What clients ask of a hub: arguments checked and turned into the hub's records. No I/O."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from perdure.codec import dump_payload
from perdure.conversion import DataConverter
from perdure.errors import InvalidArgument
from perdure.history import (
    Event,
    EventRaised,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    encode_event,
)
from perdure.identifiers import check_instance_id, check_name, check_tags, new_instance_id
from perdure.payloads import dump
from perdure.registry import name_of
from perdure.spi import Fields, InstanceQuery, Message, Millis, NewInstance, OrchestrationStatus
from perdure.times import as_millis, span_millis

__all__ = [
    "FINISHED",
    "MessageAt",
    "NewInstanceAt",
    "OrchestrationQuery",
    "PurgeInstancesResult",
    "ReuseIdPolicy",
    "as_timeout",
    "fields_for",
    "instance_query",
    "new_instance",
    "raise_event",
    "resume",
    "suspend",
    "terminate",
]

ReuseIdPolicy: TypeAlias = Literal["error", "replace_finished", "ignore"]
"""What to do about an instance that has the id already."""

NewInstanceAt: TypeAlias = Callable[[Millis], NewInstance]
"""Makes the same start for any time of the hub's."""

MessageAt: TypeAlias = Callable[[Millis], Message]
"""Makes the same message for any time of the hub's."""

FINISHED: Final = frozenset(status for status in OrchestrationStatus if status.is_terminal)
"""The statuses of instances that have ended."""

_PAGE_SIZE: Final = 100
# Inputs and outputs may be 4 MiB each.
_PAGE_SIZE_WITH_PAYLOADS: Final = 20


@dataclass(slots=True, kw_only=True, frozen=True)
class OrchestrationQuery:
    """Which instances to list. Filters that are not None must all hold; an empty collection matches nothing.

    Ranges of time include their start and exclude their end; times without a time zone are taken as UTC.
    """

    runtime_status: Collection[OrchestrationStatus] | None = None
    names: Collection[str] | None = None
    """Of orchestrators."""
    versions: Collection[str | None] | None = None
    instance_id_prefix: str | None = None
    """Taken literally."""
    parent_instance_id: str | None = None
    """Its direct children."""
    tags: Mapping[str, str] | None = None
    """Each must be there with that value. Not every provider can."""
    created_time_from: datetime | None = None
    created_time_to: datetime | None = None
    updated_time_from: datetime | None = None
    updated_time_to: datetime | None = None
    completed_time_from: datetime | None = None
    completed_time_to: datetime | None = None
    descending: bool = False
    """Newest first; else oldest first."""
    max_instance_count: int | None = None
    fetch_inputs_and_outputs: bool = False
    """Custom statuses and failures are there either way."""


@dataclass(slots=True, kw_only=True, frozen=True)
class PurgeInstancesResult:
    """What a purge did."""

    deleted_instance_count: int
    """Instances, with those under them. May be too low if the connection broke meanwhile."""
    is_complete: bool
    """Whether nothing is left to be done: False where the time was over, or where something that was asked for
    by its id was kept."""
    unfinished: tuple[str, ...] = ()
    """Ids asked for that were kept, since they, or with `recursive` an instance under them, have not ended."""


def new_instance(
    function_or_name: Callable[..., Any] | str,
    *,
    converter: DataConverter,
    input: Any,
    instance_id: str | None,
    start_at: datetime | timedelta | None,
    tags: Mapping[str, str] | None,
    version: str | None,
    reuse_id_policy: ReuseIdPolicy | None,
) -> NewInstanceAt:
    """Check a start, and return what makes it."""
    if reuse_id_policy not in {None, "error", "replace_finished", "ignore"}:
        raise InvalidArgument(
            f"reuse_id_policy is {reuse_id_policy!r}; it must be 'error', 'replace_finished' or 'ignore'"
        )
    if not isinstance(start_at, datetime | timedelta | None):
        raise InvalidArgument(f"start_at must be a datetime or a timedelta, not {type(start_at).__name__}")
    name = name_of(function_or_name)
    chosen_id = new_instance_id() if instance_id is None else check_instance_id(instance_id)
    chosen_tags = {} if tags is None else check_tags(tags)
    chosen_version = None if version is None else check_name(version, "version")
    payload = dump(converter, input)
    # Fresh, but the same whenever this start is tried again.
    generation, execution_id = uuid.uuid4().hex, uuid.uuid4().hex

    def make(now: Millis) -> NewInstance:
        started = ExecutionStarted(
            timestamp=now,
            name=name,
            instance_id=chosen_id,
            execution_id=execution_id,
            version=chosen_version,
            input=payload,
            tags=chosen_tags or None,
        )
        return NewInstance(
            id=chosen_id,
            name=name,
            start=encode_event(started),
            generation=generation,
            input=payload,
            version=chosen_version,
            due=_due(start_at, now),
            tags=chosen_tags,
            replace_if=FINISHED if reuse_id_policy == "replace_finished" else frozenset(),
        )

    return make


def raise_event(instance_id: str, event_name: str, data: Any, converter: DataConverter) -> MessageAt:
    """Check an external event, and return what makes its message."""
    check_name(event_name, "event")
    payload = dump(converter, data)
    return _message(instance_id, lambda now: EventRaised(timestamp=now, name=event_name, input=payload))


def terminate(instance_id: str, output: Any, converter: DataConverter, *, recursive: bool) -> MessageAt:
    """Check a termination, and return what makes its message."""
    payload = dump(converter, output)
    return _message(
        instance_id, lambda now: ExecutionTerminated(timestamp=now, output=payload, recurse=recursive), control=True
    )


def suspend(instance_id: str, reason: str | None) -> MessageAt:
    """Check a suspension, and return what makes its message."""
    payload = _reason(reason)
    return _message(instance_id, lambda now: ExecutionSuspended(timestamp=now, reason=payload), control=True)


def resume(instance_id: str, reason: str | None) -> MessageAt:
    """Check a resumption, and return what makes its message."""
    payload = _reason(reason)
    return _message(instance_id, lambda now: ExecutionResumed(timestamp=now, reason=payload), control=True)


def instance_query(
    query: OrchestrationQuery, *, page_size: int | None = None, cursor: str | None = None
) -> InstanceQuery:
    """Return the hub's form of `query`, for one page of it."""
    with_payloads = query.fetch_inputs_and_outputs
    return InstanceQuery(
        statuses=_statuses(query.runtime_status),
        names=_texts(query.names),
        versions=query.versions,
        id_prefix=query.instance_id_prefix,
        parent=query.parent_instance_id,
        tags=query.tags,
        created_from=_millis(query.created_time_from),
        created_to=_millis(query.created_time_to),
        updated_from=_millis(query.updated_time_from),
        updated_to=_millis(query.updated_time_to),
        completed_from=_millis(query.completed_time_from),
        completed_to=_millis(query.completed_time_to),
        descending=query.descending,
        page_size=page_size or (_PAGE_SIZE_WITH_PAYLOADS if with_payloads else _PAGE_SIZE),
        cursor=cursor,
        fields=fields_for(fetch_payloads=with_payloads),
    )


def fields_for(*, fetch_payloads: bool) -> Fields:
    """Return which payloads to read: custom status and failure are small, and what people look for."""
    return Fields.ALL if fetch_payloads else Fields.CUSTOM_STATUS | Fields.FAILURE


def as_timeout(timeout: float | timedelta | None) -> float:
    """Return a time-out in seconds; none is infinity.

    Raises:
        InvalidArgument: it is negative, or no number.
    """
    if timeout is None:
        return float("inf")
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    # Written so that NaN fails too, with which every wait would be endless.
    if not isinstance(seconds, int | float) or not seconds >= 0:
        raise InvalidArgument(f"timeout is {timeout!r}; it must be a number of seconds from 0 on, or None for no limit")
    return seconds


def _message(instance_id: str, event: Callable[[Millis], Event], *, control: bool = False) -> MessageAt:
    check_instance_id(instance_id)
    message_id = uuid.uuid4().hex
    return lambda now: Message(id=message_id, instance=instance_id, payload=encode_event(event(now)), control=control)


def _reason(reason: str | None) -> bytes | None:
    if not isinstance(reason, str | None):
        raise InvalidArgument(f"reason must be a str, not {type(reason).__name__}")
    # For people who read the history, hence never through a data converter.
    return None if reason is None else dump_payload(reason)


def _due(start_at: datetime | timedelta | None, now: Millis) -> Millis:
    if start_at is None:
        return 0
    due = now + span_millis(start_at) if isinstance(start_at, timedelta) else _millis(start_at)
    # 0 stands for now, and so does all that is past.
    return due if due > now else 0


def _millis(at: Any) -> Any:
    if at is None:
        return None
    if not isinstance(at, datetime):
        raise InvalidArgument(f"times are datetimes, not {type(at).__name__}")
    return as_millis(at)


def _statuses(statuses: Collection[OrchestrationStatus] | None) -> frozenset[OrchestrationStatus] | None:
    found = _texts(statuses)
    try:
        return None if found is None else frozenset(OrchestrationStatus(status) for status in found)
    except ValueError as error:
        raise InvalidArgument(f"{error}; one of {', '.join(OrchestrationStatus)}") from None


def _texts(texts: Collection[str] | None) -> Collection[str] | None:
    # A text is a collection of texts too, but never one that somebody meant.
    return (texts,) if isinstance(texts, str) else texts

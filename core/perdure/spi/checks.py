"""Checks that every provider makes alike, before it touches its store.

A provider calls the `check_*` function of an operation first, with its own limits: what passes is well
formed, and nothing of a call that raises was applied. Every error about an item of a batch names its index.
`encode_cursor` and `decode_cursor` make page cursors that work on any store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from perdure.spi.capabilities import Capabilities, Limits
from perdure.spi.clock import Millis
from perdure.spi.errors import BadId, InvalidRequest, TooLarge, Unsupported
from perdure.spi.records import (
    START_MESSAGE_ID,
    UNSET,
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    InstanceQuery,
    Lease,
    Message,
    NewActivity,
    NewInstance,
    OrchestrationStatus,
    PurgeRequest,
    Release,
    TurnCommit,
)

__all__ = [
    "MAX_HUB_NAME",
    "check_activity_claim",
    "check_batch",
    "check_commits",
    "check_done",
    "check_due",
    "check_duration",
    "check_exchange",
    "check_history_request",
    "check_hub_name",
    "check_id",
    "check_ids",
    "check_leases",
    "check_messages",
    "check_new_instances",
    "check_payload",
    "check_purge",
    "check_query",
    "check_releases",
    "check_renewal",
    "check_text",
    "check_turn_claim",
    "decode_cursor",
    "encode_cursor",
]

MAX_HUB_NAME: Final = 64
"""Characters of a hub's name: what fits into a schema or collection name of every database we know."""

# What a signed 64-bit column holds: a larger number must become our error, not a driver's.
_MAX_INT: Final = 2**63 - 1

T = TypeVar("T")


def check_text(value: str, limits: Limits, what: str = "text") -> None:
    """Check a text that may be empty (a version, a tag's value).

    Raises:
        BadId: it is no `str`, is over `max_id_bytes`, or holds NUL or a lone surrogate.
    """
    if type(value) is not str:
        raise BadId(f"{what} must be a str, not {type(value).__name__}")
    if "\0" in value:
        raise BadId(f"{what} {value[:80]!r} holds NUL")
    if value.isascii():
        size = len(value)
    else:
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise BadId(f"{what} {value[:80]!r} holds a lone surrogate") from None
    if size > limits.max_id_bytes:
        raise BadId(f"{what} {value[:80]!r}... has {size} bytes; at most {limits.max_id_bytes} are allowed")


def check_id(value: str, limits: Limits, what: str = "id") -> None:
    """Check an id or a name.

    Raises:
        BadId: as `check_text`, or it is empty.
    """
    check_text(value, limits, what)
    if not value:
        raise BadId(f"{what} is empty")


def check_hub_name(name: str) -> None:
    """Check a task hub's name.

    Raises:
        BadId: it has not 1 to 64 characters, or holds NUL or a lone surrogate.
    """
    check_id(name, Limits(), "hub name")
    if len(name) > MAX_HUB_NAME:
        raise BadId(f"hub name has {len(name)} characters; at most {MAX_HUB_NAME} are allowed")


def check_payload(value: bytes, limits: Limits, what: str = "payload") -> int:
    """Check a payload and return its size.

    Raises:
        InvalidRequest: its type is not exactly `bytes`.
        TooLarge: it is over `max_payload`.
    """
    if type(value) is not bytes:
        raise InvalidRequest(f"{what} must be bytes, not {type(value).__name__}")
    size = len(value)
    if size > limits.max_payload:
        raise TooLarge(f"{what} has {size} bytes; at most {limits.max_payload} are allowed")
    return size


def check_due(due: Millis, limits: Limits, now: Millis, what: str = "due") -> None:
    """Check a due time; 0 stands for now.

    Raises:
        InvalidRequest: it is no `int`, is negative, or lies more than `max_due_ahead_ms` ahead.
    """
    _check_int(due, what)
    if due > now + limits.max_due_ahead_ms:
        raise InvalidRequest(f"{what} {due} is more than {limits.max_due_ahead_ms} ms ahead of {now}")


def check_duration(duration_ms: int, limits: Limits, what: str, *, least: int = 0) -> None:
    """Check a length of time in ms, counted from now.

    Raises:
        InvalidRequest: it is no `int`, is under `least`, or over `max_due_ahead_ms`.
    """
    _check_int(duration_ms, what, least=least, most=limits.max_due_ahead_ms)


def check_batch(items: Sequence[object], limits: Limits, what: str = "batch") -> None:
    """Check the length of a call's list.

    Raises:
        InvalidRequest: it has more than `max_batch` items.
    """
    if len(items) > limits.max_batch:
        raise InvalidRequest(f"{what} has {len(items)} items; at most {limits.max_batch} are allowed")


def check_ids(ids: Sequence[str], limits: Limits, what: str = "ids") -> None:
    """Check any number of ids, as `get_instances` takes them.

    Raises:
        BadId: one is malformed.
    """
    _check_each(ids, what, lambda item: check_id(item, limits))


def check_leases(leases: Sequence[Lease], limits: Limits, what: str = "leases") -> None:
    """Check a list of leases. What their texts say is not looked at: a forged one is `LOST`, not an error.

    Raises:
        InvalidRequest: too many, or one is no `Lease` with a text as key and token.
    """
    check_batch(leases, limits, what)
    _check_each(leases, what, _check_lease)


def check_messages(messages: Sequence[Message], limits: Limits, now: Millis, what: str = "messages") -> None:
    """Check what `send_messages` was given.

    Raises:
        BadId: an id is malformed, or is `START_MESSAGE_ID`.
        TooLarge: a payload is over `max_payload`.
        InvalidRequest: too many, or a due time too far ahead.
    """
    check_batch(messages, limits, what)
    _check_each(messages, what, lambda message: _check_message(message, limits, now))


def check_new_instances(new: Sequence[NewInstance], limits: Limits, now: Millis, what: str = "new") -> None:
    """Check what `create_instances` was given.

    Raises:
        BadId: an id, a name, a version or a tag is malformed.
        TooLarge: a payload is over `max_payload`.
        InvalidRequest: too many, too many tags, or a due time too far ahead.
    """
    check_batch(new, limits, what)
    _check_each(new, what, lambda item: _check_new_instance(item, limits, now))


def check_commits(commits: Sequence[TurnCommit], limits: Limits, now: Millis, what: str = "commits") -> None:
    """Check what `commit_turns` was given. Lists inside a commit are bounded by `max_commit_bytes` alone.

    Raises:
        BadId: an id, a name, a version or a tag is malformed.
        TooLarge: a payload is over `max_payload`, or a commit over `max_commit_bytes`.
        InvalidRequest: too many commits, a due time too far ahead, or `continued` with a terminal status
            or `rewrite`.
    """
    check_batch(commits, limits, what)
    _check_each(commits, what, lambda commit: _check_commit(commit, limits, now))


def check_done(done: Sequence[ActivityDone], limits: Limits, now: Millis, what: str = "done") -> None:
    """Check what `complete_activities` was given.

    Raises:
        BadId, TooLarge, InvalidRequest: as `check_messages`.
    """

    def check(item: ActivityDone) -> None:
        _check_lease(item.lease)
        if item.message is not None:
            _check_message(item.message, limits, now)

    check_batch(done, limits, what)
    _check_each(done, what, check)


def check_renewal(leases: Sequence[Lease], for_ms: int, limits: Limits, what: str = "leases") -> None:
    """Check what `renew` was given; with no leases, `for_ms` doesn't matter.

    Raises:
        InvalidRequest: too many leases, or `for_ms` under 1.
    """
    check_leases(leases, limits, what)
    if leases:
        check_duration(for_ms, limits, "for_ms", least=1)


def check_releases(items: Sequence[Release], limits: Limits, what: str = "items") -> None:
    """Check what `release` was given.

    Raises:
        InvalidRequest: too many, or a negative delay.
    """

    def check(item: Release) -> None:
        _check_lease(item.lease)
        check_duration(item.delay_ms, limits, "delay_ms")

    check_batch(items, limits, what)
    _check_each(items, what, check)


def check_turn_claim(request: ClaimTurns, limits: Limits) -> int:
    """Check a claim and return its `max_items`, capped by `max_batch`.

    Raises:
        InvalidRequest: a negative `max_items`, a `lease_ms` or `max_messages` under 1, or too many `held`.
    """
    _check_int(request.max_messages, "max_messages", least=1)
    _check_names(request.names, limits, "names")
    check_leases(request.held, limits, "held")
    return _check_claim(request.max_items, request.lease_ms, limits)


def check_activity_claim(request: ClaimActivities, limits: Limits) -> int:
    """Check a claim and return its `max_items`, capped by `max_batch`.

    Raises:
        InvalidRequest: a negative `max_items`, or a `lease_ms` under 1.
    """
    _check_names(request.names, limits, "names")
    _check_names(request.queues, limits, "queues")
    return _check_claim(request.max_items, request.lease_ms, limits)


def check_exchange(exchange: Exchange, limits: Limits, now: Millis) -> None:
    """Check every part of an exchange, so that none is applied if one is malformed.

    Raises:
        BadId, TooLarge, InvalidRequest: as the check of the part.
    """
    check_commits(exchange.commits, limits, now)
    check_done(exchange.done, limits, now)
    check_renewal(exchange.renew, exchange.renew_ms, limits, "renew")
    check_releases(exchange.releases, limits, "releases")
    if exchange.claim_turns is not None:
        check_turn_claim(exchange.claim_turns, limits)
    if exchange.claim_activities is not None:
        check_activity_claim(exchange.claim_activities, limits)


def check_history_request(instance: str, after: int, limit: int, limits: Limits) -> None:
    """Check what `read_history` was given.

    Raises:
        BadId: the instance's id is malformed.
        InvalidRequest: a `limit` under 1, or `after` under -1.
    """
    check_id(instance, limits, "instance")
    _check_int(after, "after", least=-1)
    _check_int(limit, "limit", least=1)


def check_query(query: InstanceQuery, limits: Limits, capabilities: Capabilities) -> None:
    """Check a query, its cursor apart (see `decode_cursor`).

    Raises:
        BadId: a text in it could never be stored.
        InvalidRequest: a `page_size` under 1, or a time that is no 64-bit integer.
        Unsupported: it filters by tags, and `tag_query` is not declared.
    """
    _check_int(query.page_size, "page_size", least=1)
    if query.tags is not None and not capabilities.tag_query:
        raise Unsupported("tag_query")
    _check_names(query.names, limits, "names")
    _check_names(query.statuses, limits, "statuses")
    if isinstance(query.versions, str):
        raise InvalidRequest("versions must be a collection of texts, not one text")
    for version in query.versions or ():
        if version is not None:
            check_text(version, limits, "version")
    if query.id_prefix is not None:
        check_text(query.id_prefix, limits, "id_prefix")
    if query.parent is not None:
        check_id(query.parent, limits, "parent")
    _check_tags(query.tags or {}, limits)
    for what in _TIME_FILTERS:
        time = getattr(query, what)
        if time is not None:
            _check_int(time, what, least=-_MAX_INT)


def check_purge(request: PurgeRequest, limits: Limits, capabilities: Capabilities) -> None:
    """Check a purge.

    Raises:
        BadId: an id is malformed.
        InvalidRequest: not exactly one of `ids` and `query`, too many ids, a negative limit or budget.
        Unsupported: `cascade`, or a filter by tags, where it is not declared.
    """
    if (request.ids is None) == (request.query is None):
        raise InvalidRequest("a purge needs either ids or a query, and not both")
    if request.cascade and not capabilities.purge_cascade:
        raise Unsupported("purge_cascade")
    if request.ids is not None:
        check_batch(request.ids, limits, "ids")
        check_ids(request.ids, limits)
    if request.query is not None:
        check_query(request.query, limits, capabilities)
    if request.limit is not None:
        _check_int(request.limit, "limit")
    if request.budget_ms is not None:
        _check_int(request.budget_ms, "budget_ms")


def encode_cursor(query: InstanceQuery, created_at: Millis, instance: str) -> str:
    """Return the cursor of the page that starts behind the instance with this `created_at` and id."""
    text = json.dumps([_fingerprint(query), created_at, instance], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(query: InstanceQuery) -> tuple[Millis, str] | None:
    """Return the (created_at, id) behind which the page asked for starts; None: at the beginning.

    Raises:
        InvalidRequest: the cursor is garbage, or was made for another filter or order.
    """
    if query.cursor is None:
        return None
    garbage = InvalidRequest("the cursor is not one that a query returned")
    try:
        padded = query.cursor + "=" * (-len(query.cursor) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (AttributeError, TypeError, ValueError, RecursionError, binascii.Error):
        raise garbage from None
    match parts:
        case [str(fingerprint), int(created_at), str(instance)] if abs(created_at) <= _MAX_INT:
            if fingerprint != _fingerprint(query):
                raise InvalidRequest("the cursor belongs to another filter or order")
            return created_at, instance
    raise garbage


_TIME_FILTERS: Final = (
    "created_from",
    "created_to",
    "updated_from",
    "updated_to",
    "completed_from",
    "completed_to",
)


def _fingerprint(query: InstanceQuery) -> str:
    """Return a digest of what decides which instances a query finds, and in which order."""

    def sorted_or_none(values: Collection[str | None] | None) -> list[str | None] | None:
        return None if values is None else sorted(set(values), key=lambda value: (value is not None, value or ""))

    parts = [
        sorted_or_none(query.statuses),
        sorted_or_none(query.names),
        sorted_or_none(query.versions),
        query.id_prefix,
        query.parent,
        None if query.tags is None else sorted(query.tags.items()),
        [getattr(query, what) for what in _TIME_FILTERS],
        query.descending,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _check_each(items: Iterable[T], what: str, check: Callable[[T], object]) -> None:
    """Run `check` on each item, and let its error name the item."""
    for index, item in enumerate(items):
        try:
            check(item)
        except InvalidRequest as error:
            raise type(error)(f"{what}[{index}]: {error}", index=index) from None


def _check_int(value: int, what: str, *, least: int = 0, most: int = _MAX_INT) -> None:
    if type(value) is not int:
        raise InvalidRequest(f"{what} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise InvalidRequest(f"{what} is {value}; it must be from {least} to {most}")


def _check_names(names: Collection[str] | None, limits: Limits, what: str) -> None:
    # One text is a collection of texts too, of its characters: never what the caller means.
    if isinstance(names, str):
        raise InvalidRequest(f"{what} must be a collection of names, not one text")
    for name in names or ():
        check_id(str(name) if isinstance(name, OrchestrationStatus) else name, limits, what)


def _check_claim(max_items: int, lease_ms: int, limits: Limits) -> int:
    _check_int(max_items, "max_items")
    check_duration(lease_ms, limits, "lease_ms", least=1)
    return min(max_items, limits.max_batch)


def _check_lease(lease: Lease) -> None:
    if not isinstance(lease, Lease):
        raise InvalidRequest(f"lease must be a Lease, not {type(lease).__name__}")
    if type(lease.key) is not str or type(lease.token) is not str:
        raise InvalidRequest("key and token of a lease must be str")


def _check_tags(tags: Mapping[str, str], limits: Limits) -> None:
    if len(tags) > limits.max_tags:
        raise InvalidRequest(f"there are {len(tags)} tags; at most {limits.max_tags} are allowed")
    for key, value in tags.items():
        check_id(key, limits, "tag")
        check_text(value, limits, "value of a tag")


def _check_message(message: Message, limits: Limits, now: Millis) -> int:
    if not isinstance(message, Message):
        raise InvalidRequest(f"must be a Message, not {type(message).__name__}")
    check_id(message.id, limits)
    if message.id == START_MESSAGE_ID:
        raise BadId(f"id {START_MESSAGE_ID!r} is reserved for an instance's start")
    check_id(message.instance, limits, "instance")
    if message.generation is not None:
        check_id(message.generation, limits, "generation")
    check_due(message.due, limits, now)
    return check_payload(message.payload, limits)


def _check_new_instance(new: NewInstance, limits: Limits, now: Millis) -> int:
    if not isinstance(new, NewInstance):
        raise InvalidRequest(f"must be a NewInstance, not {type(new).__name__}")
    check_id(new.id, limits)
    check_id(new.name, limits, "name")
    check_id(new.generation, limits, "generation")
    if new.version is not None:
        check_text(new.version, limits, "version")
    if new.parent is not None:
        check_id(new.parent, limits, "parent")
    _check_tags(new.tags, limits)
    check_due(new.due, limits, now)
    size = check_payload(new.start, limits, "start")
    if new.input is not None:
        size += check_payload(new.input, limits, "input")
    if new.on_conflict is not None:
        size += _check_message(new.on_conflict, limits, now)
    return size


def _check_new_activity(activity: NewActivity, limits: Limits, now: Millis) -> int:
    check_id(activity.id, limits, "activity")
    check_id(activity.name, limits, "activity name")
    check_id(activity.queue, limits, "queue")
    check_due(activity.due, limits, now)
    return check_payload(activity.payload, limits)


def _check_commit(commit: TurnCommit, limits: Limits, now: Millis) -> None:
    if not isinstance(commit, TurnCommit):
        raise InvalidRequest(f"must be a TurnCommit, not {type(commit).__name__}")
    _check_lease(commit.lease)
    check_id(commit.commit_id, limits, "commit_id")
    _check_int(commit.execution, "execution")
    _check_int(commit.expected_next_seq, "expected_next_seq")
    if not isinstance(commit.status, OrchestrationStatus):
        raise InvalidRequest(f"status must be an OrchestrationStatus, not {type(commit.status).__name__}")
    if commit.keep_ms is not None:
        check_duration(commit.keep_ms, limits, "keep_ms")
    for lease in commit.settled:
        _check_lease(lease)
    for ids in (commit.consumed, commit.cancel_activities, commit.cancel_messages):
        for item in ids:
            check_id(item, limits)
    size = _size_of_effects(commit, limits, now) + _size_of_state(commit, limits)
    if size > limits.max_commit_bytes:
        raise TooLarge(f"the commit has {size} bytes; at most {limits.max_commit_bytes} are allowed")


def _size_of_effects(commit: TurnCommit, limits: Limits, now: Millis) -> int:
    """Check what a commit writes beside its instance's row, and return its size."""
    size = sum(check_payload(event, limits, "event") for event in commit.events)
    size += sum(_check_new_activity(activity, limits, now) for activity in commit.activities)
    size += sum(_check_message(message, limits, now) for message in commit.messages)
    return size + sum(_check_new_instance(new, limits, now) for new in commit.starts)


def _size_of_state(commit: TurnCommit, limits: Limits) -> int:
    """Check what a commit sets on its instance, and return its size."""
    size = 0
    for what in ("output", "custom_status", "memo", "failure"):
        value = getattr(commit, what)
        if value is not None and value is not UNSET:
            size += check_payload(value, limits, what)
    following = commit.continued
    if following is None:
        return size
    if commit.status.is_terminal or commit.rewrite:
        raise InvalidRequest("continued goes neither with a terminal status nor with rewrite")
    size += sum(check_payload(event, limits, "continued event") for event in following.events)
    if following.input is not None:
        size += check_payload(following.input, limits, "continued input")
    if following.version is not None:
        check_text(following.version, limits, "continued version")
    return size

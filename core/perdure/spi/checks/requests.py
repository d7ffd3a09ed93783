"""What writes: messages, instances, commits, claims, leases."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.spi.capabilities import Limits
from perdure.spi.checks.values import (
    check_batch,
    check_due,
    check_duration,
    check_each,
    check_id,
    check_int,
    check_names,
    check_payload,
    check_tags,
    check_text,
)
from perdure.spi.clock import Millis
from perdure.spi.errors import BadId, InvalidRequest, TooLarge
from perdure.spi.records import (
    START_MESSAGE_ID,
    UNSET,
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    Lease,
    Message,
    NewActivity,
    NewInstance,
    OrchestrationStatus,
    Release,
    TurnCommit,
)

__all__ = [
    "check_activity_claim",
    "check_commits",
    "check_done",
    "check_exchange",
    "check_leases",
    "check_messages",
    "check_new_instances",
    "check_releases",
    "check_renewal",
    "check_turn_claim",
]


def check_leases(leases: Sequence[Lease], limits: Limits, what: str = "leases") -> None:
    """Check a list of leases. What their texts say is not looked at: a forged one is `LOST`, not an error.

    Raises:
        InvalidRequest: too many, or one is no `Lease` with a text as key and token.
    """
    check_batch(leases, limits, what)
    check_each(leases, what, _check_lease)


def check_messages(messages: Sequence[Message], limits: Limits, now: Millis, what: str = "messages") -> None:
    """Check what `send_messages` was given.

    Raises:
        BadId: an id is malformed, or is `START_MESSAGE_ID`.
        TooLarge: a payload is over `max_payload`.
        InvalidRequest: too many, or a due time too far ahead.
    """
    check_batch(messages, limits, what)
    check_each(messages, what, lambda message: _check_message(message, limits, now))


def check_new_instances(new: Sequence[NewInstance], limits: Limits, now: Millis, what: str = "new") -> None:
    """Check what `create_instances` was given.

    Raises:
        BadId: an id, a name, a version or a tag is malformed.
        TooLarge: a payload is over `max_payload`.
        InvalidRequest: too many, too many tags, or a due time too far ahead.
    """
    check_batch(new, limits, what)
    check_each(new, what, lambda item: _check_new_instance(item, limits, now))


def check_commits(commits: Sequence[TurnCommit], limits: Limits, now: Millis, what: str = "commits") -> None:
    """Check what `commit_turns` was given. Lists inside a commit are bounded by `max_commit_bytes` alone.

    Raises:
        BadId: an id, a name, a version or a tag is malformed.
        TooLarge: a payload is over `max_payload`, or a commit over `max_commit_bytes`.
        InvalidRequest: too many commits, a due time too far ahead, or `continued` with a terminal status
            or `rewrite`.
    """
    check_batch(commits, limits, what)
    check_each(commits, what, lambda commit: _check_commit(commit, limits, now))


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
    check_each(done, what, check)


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
    check_each(items, what, check)


def check_turn_claim(request: ClaimTurns, limits: Limits) -> int:
    """Check a claim and return its `max_items`, capped by `max_batch`.

    Raises:
        InvalidRequest: a negative `max_items`, a `lease_ms` or `max_messages` under 1, or too many `held`.
    """
    check_int(request.max_messages, "max_messages", least=1)
    check_names(request.names, limits, "names")
    check_leases(request.held, limits, "held")
    return _check_claim(request.max_items, request.lease_ms, limits)


def check_activity_claim(request: ClaimActivities, limits: Limits) -> int:
    """Check a claim and return its `max_items`, capped by `max_batch`.

    Raises:
        InvalidRequest: a negative `max_items`, or a `lease_ms` under 1.
    """
    check_names(request.names, limits, "names")
    check_names(request.queues, limits, "queues")
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


def _check_claim(max_items: int, lease_ms: int, limits: Limits) -> int:
    check_int(max_items, "max_items")
    check_duration(lease_ms, limits, "lease_ms", least=1)
    return min(max_items, limits.max_batch)


def _check_lease(lease: Lease) -> None:
    if not isinstance(lease, Lease):
        raise InvalidRequest(f"lease must be a Lease, not {type(lease).__name__}")
    if type(lease.key) is not str or type(lease.token) is not str:
        raise InvalidRequest("key and token of a lease must be str")


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
    check_tags(new.tags, limits)
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
    check_int(commit.execution, "execution")
    check_int(commit.expected_next_seq, "expected_next_seq")
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

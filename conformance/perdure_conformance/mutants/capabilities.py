"""Mistakes that the cases of capabilities find out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from perdure.spi import (
    UNSET,
    BadId,
    Capabilities,
    Clock,
    InstanceQuery,
    InvalidRequest,
    Limits,
    Message,
    Millis,
    ProviderURL,
    PurgeRequest,
    PurgeResult,
    TooLarge,
    Transient,
    TurnCommit,
    checks,
)
from perdure.spi.checks import queries, requests, values
from perdure_conformance.mutant import mutant
from perdure_memory import hub, messages, retention
from perdure_memory import queries as memory_queries
from perdure_memory.inbox import Inbox
from perdure_memory.provider import MemoryProvider
from perdure_memory.state import HubState, Instance


@mutant("90a", "CAP-01", source="a filter that an old store doesn't know")
def undeclared_tags_are_passed_over(patch: pytest.MonkeyPatch) -> None:
    """Queries by tags are not declared, and one finds everything, as if it had asked for no tags."""
    check, matches = checks.check_query, memory_queries.matches
    patch.setattr(MemoryProvider, "capabilities", replace(MemoryProvider.capabilities, tag_query=False))

    def pass_over(query: InstanceQuery, limits: Limits, capabilities: Capabilities) -> None:
        check(replace(query, tags=None), limits, capabilities)

    patch.setattr(checks, "check_query", pass_over)

    def match(instance: Instance, query: InstanceQuery) -> bool:
        return matches(instance, replace(query, tags=None))

    patch.setattr(memory_queries, "matches", match)


@mutant("90b", "CAP-01", "CAP-03", source="LangGraph, which finds out by what is overridden")
def undeclared_hints_are_given(patch: pytest.MonkeyPatch) -> None:
    """Push is not declared, and `subscribe` gives hints all the same."""
    patch.setattr(MemoryProvider, "capabilities", replace(MemoryProvider.capabilities, push="none"))


@mutant("394", "CAP-01", source="an option that is passed over")
def an_undeclared_cascade_takes_the_parent_alone(patch: pytest.MonkeyPatch) -> None:
    """Cascades are not declared, and a purge with one leaves the children behind in silence."""
    check, purge = checks.check_purge, retention.purge_instances
    patch.setattr(MemoryProvider, "capabilities", replace(MemoryProvider.capabilities, purge_cascade=False))
    patch.setattr(
        checks,
        "check_purge",
        lambda request, limits, declared: check(replace(request, cascade=False), limits, declared),
    )

    def purge_alone(state: HubState, request: PurgeRequest) -> PurgeResult:
        return purge(state, replace(request, cascade=False))

    patch.setattr(hub, "purge_instances", purge_alone)


@mutant("395", "CAP-01", source="a declaration before the work")
def declared_tags_find_nothing(patch: pytest.MonkeyPatch) -> None:
    """Queries by tags are declared, and compare keys alone."""

    def has_keys(instance: Instance, tags: Mapping[str, str]) -> bool:
        return tags.keys() <= instance.tags.keys()

    patch.setattr(memory_queries, "_has_tags", has_keys)


@mutant("396", "CAP-02", source="limits that are asked of whichever server answers")
def each_handle_has_limits_of_its_own(patch: pytest.MonkeyPatch) -> None:
    """What a provider declares depends on the handle."""
    make = MemoryProvider.__init__
    made: list[MemoryProvider] = []

    def init(self: MemoryProvider, url: str | ProviderURL, *, clock: Clock | None = None) -> None:
        make(self, url, clock=clock)
        made.append(self)
        self.limits = replace(self.limits, max_batch=self.limits.max_batch + len(made))

    patch.setattr(MemoryProvider, "__init__", init)


@mutant("397", "CAP-04", source="a default copied from another store")
def ids_are_forgotten_too_soon(patch: pytest.MonkeyPatch) -> None:
    """Consumed ids are remembered, and it is declared so, for five minutes, where ten are the least."""
    patch.setattr(MemoryProvider, "limits", replace(MemoryProvider.limits, dedupe_ms=300_000))


@mutant("398", "CAP-03", source="a declaration for what is to come")
def what_nothing_can_prove_is_declared(patch: pytest.MonkeyPatch) -> None:
    """A capability is declared that no operation uses."""
    patch.setattr(MemoryProvider, "capabilities", replace(MemoryProvider.capabilities, caller_transaction=True))


@mutant("84", "CAP-04", source="duroxide-pg, 0A000")
def a_full_inbox_is_an_error_for_good(patch: pytest.MonkeyPatch) -> None:
    """What would pass with time, an inbox that is full, is told as an error that is not to be tried again."""
    patch.setattr(MemoryProvider, "limits", replace(MemoryProvider.limits, max_pending=20))
    check = messages._check_room

    def refuse(state: HubState, sent: Sequence[Message], now: Millis, limits: Limits) -> None:
        try:
            check(state, sent, now, limits)
        except Transient as error:
            raise InvalidRequest(str(error)) from None

    patch.setattr(messages, "_check_room", refuse)


@mutant("399", "CAP-04", source="`>=`")
def the_largest_payload_is_refused(patch: pytest.MonkeyPatch) -> None:
    """A payload of exactly `max_payload` is too large."""
    check = values.check_payload

    def refuse(value: bytes, limits: Limits, what: str = "payload") -> int:
        size = check(value, limits, what)
        if size >= limits.max_payload:
            raise TooLarge(f"{what} is too large")
        return size

    patch.setattr(requests, "check_payload", refuse)


@mutant("400", "CAP-04", source="an expiry of the store's own, which is set to half")
def remembered_ids_go_half_way(patch: pytest.MonkeyPatch) -> None:
    """Consumed ids are remembered for half as long as declared."""
    consume = Inbox.consume

    def consume_briefly(self: Inbox, message_id: str, token: str, remember_until: Millis) -> bool:
        return consume(self, message_id, token, remember_until - MemoryProvider.limits.dedupe_ms // 2)

    patch.setattr(Inbox, "consume", consume_briefly)


@mutant("401", "CAP-04", source="VARCHAR(1024)")
def ids_are_measured_in_characters(patch: pytest.MonkeyPatch) -> None:
    """An id may have as many characters as it may have bytes."""

    def check(value: str, limits: Limits, what: str = "id") -> None:
        if not value or len(value) > limits.max_id_bytes or "\0" in value:
            raise BadId(f"{what} is malformed")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadId(f"{what} is malformed") from None

    for module in (requests, values, queries):
        patch.setattr(module, "check_id", check)


@mutant("402", "CAP-04", source="one sum that was forgotten")
def only_events_count_towards_a_commit(patch: pytest.MonkeyPatch) -> None:
    """`max_commit_bytes` bounds the events of a commit, and nothing else of it."""

    def size_of_state(commit: TurnCommit, limits: Limits) -> int:
        for what in ("output", "custom_status", "memo", "failure"):
            value = getattr(commit, what)
            if value is not None and value is not UNSET:
                checks.check_payload(value, limits, what)
        return 0

    patch.setattr(requests, "_size_of_state", size_of_state)


@mutant("403", "CAP-04", source="a column of a fixed number of values")
def one_tag_too_many_is_taken(patch: pytest.MonkeyPatch) -> None:
    """An instance may have one tag more than `max_tags`."""
    check = values.check_tags

    def allow(tags: Mapping[str, str], limits: Limits) -> None:
        check(tags, replace(limits, max_tags=limits.max_tags + 1))

    patch.setattr(requests, "check_tags", allow)


@mutant("404", "CAP-04", source="a timestamp without fractions of a second")
def times_are_cut_to_seconds(patch: pytest.MonkeyPatch) -> None:
    """Due times are stored in whole seconds, and milliseconds are declared."""

    def stored_due(self: Inbox, due: Millis, now: Millis) -> Millis:
        return due // 1000 * 1000 if due else stored(self, due, now)

    stored = Inbox.stored_due
    patch.setattr(Inbox, "stored_due", stored_due)


@mutant("405", "CAP-04", source="min(due, latest)")
def a_due_time_too_far_ahead_is_moved(patch: pytest.MonkeyPatch) -> None:
    """A due time beyond `max_due_ahead_ms` is taken for the latest possible one."""
    patch.setattr(requests, "check_due", lambda due, limits, now, what="due": None)

    def stored_due(self: Inbox, due: Millis, now: Millis) -> Millis:
        return stored(self, min(due, now + MemoryProvider.limits.max_due_ahead_ms), now)

    stored = Inbox.stored_due
    patch.setattr(Inbox, "stored_due", stored_due)


@mutant("406", "CAP-05", source="a provider of tomorrow")
def a_later_interface_is_claimed(patch: pytest.MonkeyPatch) -> None:
    """The provider was written for a later interface than this one."""
    patch.setattr(MemoryProvider, "SPI", (MemoryProvider.SPI[0], MemoryProvider.SPI[1] + 1))


@mutant("639", "CAP-01", source="a filter that an old store doesn't know")
def undeclared_tags_are_passed_over_by_a_purge(patch: pytest.MonkeyPatch) -> None:
    """Queries by tags are not declared, and refused; a purge by tags deletes as if it had asked for none."""
    patch.setattr(MemoryProvider, "capabilities", replace(MemoryProvider.capabilities, tag_query=False))
    purge = retention.purge_instances

    def check(request: PurgeRequest, limits: Limits, capabilities: Capabilities) -> None:
        del limits, capabilities

    def purged(state: HubState, request: PurgeRequest) -> PurgeResult:
        query = request.query
        return purge(state, request if query is None else replace(request, query=replace(query, tags=None)))

    patch.setattr(checks, "check_purge", check)
    patch.setattr(hub, "purge_instances", purged)


@mutant("640", "CAP-01", source="a check in one of two branches")
def an_undeclared_cascade_is_passed_over_by_a_query(patch: pytest.MonkeyPatch) -> None:
    """Cascades are not declared, and refused by id; a purge by query leaves the descendants without a word."""
    patch.setattr(MemoryProvider, "capabilities", replace(MemoryProvider.capabilities, purge_cascade=False))
    check, purge = checks.check_purge, retention.purge_instances

    def check_ids(request: PurgeRequest, limits: Limits, capabilities: Capabilities) -> None:
        check(request if request.query is None else replace(request, cascade=False), limits, capabilities)

    patch.setattr(checks, "check_purge", check_ids)
    patch.setattr(hub, "purge_instances", lambda state, request: purge(state, replace(request, cascade=False)))

"""Mistakes that the cases of limits find out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from perdure.spi import (
    ActivityBatch,
    ClaimActivities,
    ClaimTurns,
    Clock,
    Exchange,
    ExchangeResult,
    Fields,
    Hub,
    InstanceInfo,
    InstanceQuery,
    InvalidRequest,
    Lease,
    Limits,
    Message,
    Millis,
    NewInstance,
    Outcome,
    Page,
    ProviderURL,
    PurgeRequest,
    PurgeResult,
    Transient,
    TurnBatch,
    TurnCommit,
    checks,
)
from perdure.spi.checks import requests, values
from perdure_conformance.mutant import mutant
from perdure_memory import activities, hub, leases, retention, turns
from perdure_memory.hub import MemoryHub
from perdure_memory.provider import MemoryProvider
from perdure_memory.state import HubState, Instance, StoredActivity
from perdure_sql import Reader, info_select, to_info
from perdure_sql import hub as sql_hub
from perdure_sqlite.reader import SQLiteReader
from perdure_sqlite.statements import TABLES


@mutant("62", "LIM-01", source="a LIMIT that is missing")
def max_items_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """A claim of instances returns everything that is ready."""
    claim = turns.claim_turns

    def claim_all(state: HubState, request: ClaimTurns, max_items: int, now: Millis) -> TurnBatch:
        return claim(state, request, 1_000_000 if max_items else 0, now)

    patch.setattr(hub, "claim_turns", claim_all)


@mutant("372", "LIM-01", source="`max_items or default`")
def no_items_means_the_default(patch: pytest.MonkeyPatch) -> None:
    """A claim of no activities returns as many as one that says nothing of their number."""
    claim = activities.claim_activities

    def claim_some(state: HubState, request: ClaimActivities, max_items: int, now: Millis) -> ActivityBatch:
        return claim(state, request, max_items or 100, now)

    patch.setattr(hub, "claim_activities", claim_some)


@mutant("373", "LIM-01", source="a huge number given to the driver")
def a_claim_of_too_many_is_refused(patch: pytest.MonkeyPatch) -> None:
    """A claim of more than `max_batch` is an error, where it should be capped."""
    check = checks.check_activity_claim

    def refuse(request: ClaimActivities, limits: Limits) -> int:
        most = check(request, limits)
        if request.max_items > limits.max_batch:
            raise InvalidRequest("too many items")
        return most

    patch.setattr(checks, "check_activity_claim", refuse)


@mutant("374", "LIM-02", source="a check that one operation forgot")
def a_list_of_leases_is_not_bounded(patch: pytest.MonkeyPatch) -> None:
    """Renewals take a list of any length."""

    def check(leases: Sequence[Lease], for_ms: int, limits: Limits, what: str = "leases") -> None:
        for lease in leases:
            requests._check_lease(lease)
        if leases:
            checks.check_duration(for_ms, limits, "for_ms", least=1)

    patch.setattr(checks, "check_renewal", check)


@mutant("375", "LIM-02", "CAP-04", source="a driver's bound on the size of a batch")
def long_lists_are_split(patch: pytest.MonkeyPatch) -> None:
    """A list that is too long is worked off in parts, each a transaction of its own."""
    create = MemoryHub.create_instances

    def create_in_parts(self: MemoryHub, new: Sequence[NewInstance]) -> list[Outcome]:
        most = self._limits.max_batch
        parts = [create(self, new[start : start + most]) for start in range(0, len(new), most)]
        return [outcome for part in parts for outcome in part]

    patch.setattr(MemoryHub, "create_instances", create_in_parts)


@mutant("376", "LIM-03", source="`if request.ids:`")
def purging_no_ids_purges_everything(patch: pytest.MonkeyPatch) -> None:
    """A purge of an empty list of ids is one of all instances."""
    purge = retention.purge_instances

    def purge_all(state: HubState, request: PurgeRequest) -> PurgeResult:
        if not request.ids and request.query is None:
            request = replace(request, ids=None, query=InstanceQuery())
        return purge(state, request)

    patch.setattr(hub, "purge_instances", purge_all)


@mutant("377", "LIM-03", source="a parameter that is checked without need")
def renewing_nothing_is_refused(patch: pytest.MonkeyPatch) -> None:
    """A renewal of no leases for no time is an error, though there is nothing to renew."""
    check = checks.check_renewal

    def refuse(leases: Sequence[Lease], for_ms: int, limits: Limits, what: str = "leases") -> None:
        check(leases, for_ms, limits, what)
        checks.check_duration(for_ms, limits, "for_ms", least=1)

    patch.setattr(checks, "check_renewal", refuse)


@mutant("378", "LIM-04", source="an error of the driver whose code nobody knows")
def what_is_too_large_may_be_tried_again(patch: pytest.MonkeyPatch) -> None:
    """A payload that is too large raises Transient, so that an engine tries it again for ever."""
    check = checks.check_payload

    def translate(value: bytes, limits: Limits, what: str = "payload") -> int:
        if len(value) > limits.max_payload:
            raise Transient("packet too large")
        return check(value, limits, what)

    patch.setattr(requests, "check_payload", translate)


@mutant("379", "LIM-05", source="a handle that looks at nothing")
def a_closed_handle_works_on(patch: pytest.MonkeyPatch) -> None:
    """Calls on a closed provider are answered."""
    patch.setattr(MemoryProvider, "_check_open", lambda self: None)


@mutant("380", "LIM-05", source="a pool that complains")
def closing_twice_is_an_error(patch: pytest.MonkeyPatch) -> None:
    """Closing a closed provider raises."""
    close = MemoryProvider.close

    def complain(self: MemoryProvider) -> None:
        if self._is_closed:
            raise RuntimeError("pool is closed")
        close(self)

    patch.setattr(MemoryProvider, "close", complain)


@mutant("381", "LIM-05", source="`open` as the only initialisation")
def a_closed_provider_opens_again(patch: pytest.MonkeyPatch) -> None:
    """A provider that was closed may be opened again."""

    def open_again(self: MemoryProvider) -> None:
        self._is_open, self._is_closed = True, False

    patch.setattr(MemoryProvider, "open", open_again)


@mutant("91", "LIM-06", source="the driver's URL in a message")
def an_error_shows_the_password(patch: pytest.MonkeyPatch) -> None:
    """The error about a wrong URL quotes it with its password."""
    _on_building(patch, _quote)


def _quote(url: ProviderURL, build: Callable[[ProviderURL], None]) -> None:
    try:
        build(url)
    except InvalidRequest as error:
        raise InvalidRequest(f"{error}: {url.driver_url()}") from None


@mutant("382", "LIM-06", source="`options.get`, and nothing else")
def unknown_parameters_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """A parameter that the provider doesn't know, a misspelt one perhaps, changes nothing and is no error."""
    _on_building(patch, lambda url, build: build(replace(url, options={})))


@mutant("383", "LIM-06", source="an error that nobody translates")
def a_wrong_url_raises_what_the_driver_raises(patch: pytest.MonkeyPatch) -> None:
    """A parameter for the driver that it doesn't know raises the driver's own error."""
    _on_building(patch, _leave_untranslated)


def _leave_untranslated(url: ProviderURL, build: Callable[[ProviderURL], None]) -> None:
    if url.parameters and not url.options:
        raise TypeError(f"connect() got an unexpected keyword argument {min(url.parameters)!r}")
    build(url)


def _on_building(
    patch: pytest.MonkeyPatch, change: Callable[[ProviderURL, Callable[[ProviderURL], None]], None]
) -> None:
    make = MemoryProvider.__init__

    def init(self: MemoryProvider, url: str | ProviderURL, *, clock: Clock | None = None) -> None:
        parsed = url if isinstance(url, ProviderURL) else ProviderURL.parse(url)
        change(parsed, lambda url: make(self, url, clock=clock))

    patch.setattr(MemoryProvider, "__init__", init)


@mutant("384", "LIM-07", source="`setdefault`")
def a_hub_is_made_by_its_first_call(patch: pytest.MonkeyPatch) -> None:
    """A call on a hub that doesn't exist creates it."""
    transaction = MemoryHub._transaction

    def create_first(self: MemoryHub) -> Any:
        store = self._context.store
        with store.lock:
            self._context.check_open()
            store.hubs.setdefault(self.name, HubState())
        return transaction(self)

    patch.setattr(MemoryHub, "_transaction", create_first)


@mutant("385", "LIM-07", source="a SELECT that finds no rows")
def a_hub_that_is_not_there_looks_empty(patch: pytest.MonkeyPatch) -> None:
    """A query on a hub that doesn't exist finds nothing, where it should say so."""
    query = MemoryHub.query_instances

    def find_nothing(self: MemoryHub, asked: InstanceQuery) -> Page[InstanceInfo]:
        self._context.check_open()
        if self.name not in self._context.store.hubs:
            return Page(items=[], cursor=None)
        return query(self, asked)

    patch.setattr(MemoryHub, "query_instances", find_nothing)


@mutant("87b", "LIM-08", source="rows as the storage returns them")
def results_come_in_the_order_of_storage(patch: pytest.MonkeyPatch) -> None:
    """Instances are returned in the order of their ids, where the order asked is due."""
    get = MemoryHub.get_instances

    def sort(self: MemoryHub, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        return get(self, sorted(ids), fields=fields)

    patch.setattr(MemoryHub, "get_instances", sort)


@mutant("386", "LIM-08", source="a batch that is grouped by instance")
def results_are_grouped(patch: pytest.MonkeyPatch) -> None:
    """Outcomes of a batch of messages come instance by instance, and not in the order asked."""
    send = MemoryHub.send_messages

    def group(self: MemoryHub, messages: Sequence[Message]) -> list[Outcome]:
        return send(self, sorted(messages, key=lambda message: message.instance))

    patch.setattr(MemoryHub, "send_messages", group)


@mutant("88", "LIM-09", source="SQLite's 32,766 parameters", base="sqlite")
def a_statement_has_a_parameter_for_each_id(patch: pytest.MonkeyPatch) -> None:
    """Many instances are read with a statement that has as many parameters."""

    def get(db: Reader, hub: int, ids: Sequence[str], fields: Fields) -> list[InstanceInfo | None]:
        assert isinstance(db, SQLiteReader)
        # Some builds of SQLite allow more; this is the number of its own.
        db._db.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
        columns = TABLES.instances.c
        found = info_select(TABLES, fields).where(columns.hub == hub, columns.id.in_(ids))
        rows = {row[0]: to_info(row) for row in db.select(found)}
        return [rows.get(name) for name in ids]

    patch.setattr(sql_hub, "get_instances", get)


@mutant("387", "LIM-10", "LIM-11", source="an error that is raised where the item is not known")
def errors_do_not_name_the_item(patch: pytest.MonkeyPatch) -> None:
    """The error about a malformed item doesn't say which it is."""

    def check(items: Sequence[Any], what: str, check_one: Callable[[Any], object]) -> None:
        for item in items:
            check_one(item)

    patch.setattr(requests, "check_each", check)
    patch.setattr(values, "check_each", check)


@mutant("388", "LIM-10", source="a loop that checks and applies")
def items_before_a_malformed_one_are_applied(patch: pytest.MonkeyPatch) -> None:
    """Commits are checked one by one while they are applied, so that those before a malformed one have happened."""
    commit = MemoryHub.commit_turns

    def one_by_one(self: MemoryHub, commits: Sequence[TurnCommit]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for index, item in enumerate(commits):
            try:
                outcomes += commit(self, [item])
            except InvalidRequest as error:
                raise type(error)(str(error), index=index) from None
        return outcomes

    patch.setattr(MemoryHub, "commit_turns", one_by_one)


@mutant("389", "LIM-11", "CAP-03", source="the default exchange under a promise that it doesn't keep")
def an_exchange_is_done_part_by_part(patch: pytest.MonkeyPatch) -> None:
    """An exchange is six calls, and single_txn_exchange is declared all the same."""
    # As if it had never been overridden.
    patch.setattr(MemoryHub, "exchange", Hub.exchange)


@mutant("390", "LIM-11", source="iterating over a text")
def one_text_is_taken_for_a_list_of_names(patch: pytest.MonkeyPatch) -> None:
    """A claim whose names are one text asks for its characters, and gets nothing for ever."""
    patch.setattr(requests, "check_names", lambda names, limits, what: None)


@mutant("391", "LIM-12", source="WHERE token = ?")
def a_lease_is_found_by_its_token_alone(patch: pytest.MonkeyPatch) -> None:
    """A lease is looked up by its token among instances and activities alike, whatever it is the right to."""

    def find(state: HubState, lease: Lease) -> Instance | StoredActivity | None:
        items: list[Instance | StoredActivity] = [*state.instances.values(), *state.activities.values()]
        found = [item for item in items if item.ownership.token == lease.token]
        if found:
            lease.kind = found[0].ownership.kind
        return found[0] if found else None

    patch.setattr(leases, "_find", find)


@mutant("392", "LIM-12", source="a completion that counts no rows")
def completing_what_is_not_there_is_fine(patch: pytest.MonkeyPatch) -> None:
    """A completion under a lease that is none of an activity's is OK, and its message is delivered."""
    complete = activities.complete_activities

    def deliver_anyway(state: HubState, done: Sequence[Any], now: Millis) -> list[Outcome]:
        outcomes = complete(state, done, now)
        return [
            Outcome.OK if item.lease.key in state.instances else outcome
            for item, outcome in zip(done, outcomes, strict=True)
        ]

    patch.setattr(hub, "complete_activities", deliver_anyway)


@mutant("393", "LIM-13", source="one check for all lists")
def lists_inside_a_commit_are_bounded_too(patch: pytest.MonkeyPatch) -> None:
    """A commit that schedules more activities than `max_batch` is refused."""
    check = checks.check_commits

    def refuse(commits: Sequence[TurnCommit], limits: Limits, now: Millis, what: str = "commits") -> None:
        check(commits, limits, now, what)
        for commit in commits:
            checks.check_batch(commit.activities, limits, "activities")

    patch.setattr(checks, "check_commits", refuse)


@mutant("550", "LIM-01", source="the cap in one of two ways to claim")
def an_exchange_claims_more_than_a_batch(patch: pytest.MonkeyPatch) -> None:
    """The claims of an exchange are not capped by `max_batch`."""
    exchange, claim_turns = MemoryHub.exchange, turns.claim_turns
    inside: list[bool] = []

    def uncapped(state: HubState, request: ClaimTurns, max_items: int, now: Millis) -> TurnBatch:
        return claim_turns(state, request, request.max_items if inside else max_items, now)

    def noted(self: MemoryHub, asked: Exchange) -> ExchangeResult:
        inside.append(True)
        try:
            return exchange(self, asked)
        finally:
            inside.pop()

    patch.setattr(hub, "claim_turns", uncapped)
    patch.setattr(MemoryHub, "exchange", noted)


@mutant("551", "LIM-05", source="a handle is only made")
def a_closed_provider_still_gives_handles(patch: pytest.MonkeyPatch) -> None:
    """A provider that was closed, or never opened, hands out hubs; only their calls raise `Closed`."""
    patch.setattr(MemoryProvider, "hub", lambda self, name: MemoryHub(name, self._context))

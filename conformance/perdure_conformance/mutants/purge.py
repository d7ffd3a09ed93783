"""Mistakes that the cases of purge find out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest

from perdure.spi import (
    ActivityBatch,
    BadId,
    ClaimActivities,
    ClaimTurns,
    InstanceQuery,
    LeaseKind,
    Limits,
    Millis,
    Outcome,
    PurgeRequest,
    PurgeResult,
    TurnBatch,
    TurnCommit,
    checks,
)
from perdure.spi.checks import PurgeBounds
from perdure_conformance.mutant import mutant
from perdure_conformance.mutants.schemas import change_statement, only_within
from perdure_conformance.threads import is_racing
from perdure_memory import hub as memory_hub
from perdure_memory import queries, retention, turns
from perdure_memory.hub import MemoryHub
from perdure_memory.state import HubState, Instance
from perdure_sql import matching_ids
from perdure_sql import purge as sql_purge
from perdure_sql.effects import Effect
from perdure_sql.rows import TERMINAL
from perdure_sql.work import Work
from perdure_sqlite import transaction
from perdure_sqlite.transaction import SQLiteTransaction


def _patch_removal(
    patch: pytest.MonkeyPatch,
    *,
    removed: Callable[[HubState, Instance], None],
    added: Callable[[HubState, Instance], None] = lambda state, instance: None,
) -> None:
    """Have `removed` called before an instance goes, and `added` before one comes."""
    remove_instance, add_instance = HubState.remove_instance, HubState.add_instance

    def remove(state: HubState, instance: Instance) -> None:
        removed(state, instance)
        remove_instance(state, instance)

    def add(state: HubState, instance: Instance) -> None:
        added(state, instance)
        add_instance(state, instance)

    patch.setattr(HubState, "remove_instance", remove)
    patch.setattr(HubState, "add_instance", add)


def _patch_purge(patch: pytest.MonkeyPatch, altered: Callable[[HubState, PurgeRequest], PurgeResult]) -> None:
    patch.setattr(memory_hub, "purge_instances", altered)


def _forget_table(patch: pytest.MonkeyPatch, table: str) -> None:
    """Have purges leave the rows of one table."""
    write = SQLiteTransaction.write

    def forgetful(self: SQLiteTransaction, effect: Effect, values: Collection[tuple[object, ...]]) -> None:
        if effect.table != table:
            write(self, effect, values)

    only_within(patch, sql_purge, "_purge_portion", lambda inner: inner.setattr(SQLiteTransaction, "write", forgetful))


# What is left over.


@mutant("52", "PRG-03", source="duroxide's force-delete test")
def purge_does_not_fence_the_turn(patch: pytest.MonkeyPatch) -> None:
    """The commit of a turn that was in flight when its instance was purged brings the instance back."""
    gone: dict[str, Instance] = {}
    commit_turn = turns._commit_turn

    def commit(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        ghost = gone.get(commit.lease.key)
        if ghost is not None and ghost.id not in state.instances and ghost.ownership.grants(commit.lease):
            state.add_instance(ghost)
        return commit_turn(state, commit, now, limits)

    _patch_removal(patch, removed=lambda state, instance: gone.update({instance.id: instance}))
    patch.setattr(turns, "_commit_turn", commit)


@mutant("53", "PRG-04", "PRG-09", source="a forgotten table", base="sqlite")
def purge_leaves_activities(patch: pytest.MonkeyPatch) -> None:
    """The activities of a purged instance stay, and their leases are as good as before."""
    _forget_table(patch, "activities")


@mutant("332", "PRG-09", source="a forgotten table", base="sqlite")
def purge_leaves_remembered_ids(patch: pytest.MonkeyPatch) -> None:
    """The ids of messages that a purged instance consumed stay in the store."""
    _forget_table(patch, "remembered")


@mutant("333a", "PRG-01", source="history by id alone")
def new_instance_inherits_history(patch: pytest.MonkeyPatch) -> None:
    """History belongs to the id, and a purge leaves it."""
    left: dict[str, list[bytes]] = {}

    def inherit(state: HubState, instance: Instance) -> None:
        instance.history = left.pop(instance.id, instance.history)

    _patch_removal(patch, removed=lambda state, old: left.update({old.id: old.history}), added=inherit)


@mutant("333b", "PRG-01", source="remembered ids by instance id alone")
def new_instance_inherits_remembered_ids(patch: pytest.MonkeyPatch) -> None:
    """A message whose id the purged instance consumed is a duplicate to the new one."""
    left: dict[str, dict[str, Millis]] = {}

    def inherit(state: HubState, instance: Instance) -> None:
        instance.inbox._remembered = left.pop(instance.id, {})

    _patch_removal(patch, removed=lambda state, old: left.update({old.id: old.inbox._remembered}), added=inherit)


@mutant("333c", "PRG-01", source="commit ids by instance id alone")
def last_commit_of_a_purged_instance_is_known(patch: pytest.MonkeyPatch) -> None:
    """The last commit of an instance that was purged is ALREADY done."""
    left: dict[str, str | None] = {}
    commit_turn = turns._commit_turn

    def commit(state: HubState, commit: TurnCommit, now: Millis, limits: Limits) -> Outcome:
        if commit.lease.kind is LeaseKind.TURN and left.get(commit.lease.key) == commit.commit_id:
            return Outcome.ALREADY
        return commit_turn(state, commit, now, limits)

    _patch_removal(patch, removed=lambda state, old: left.update({old.id: old.last_commit_id}))
    patch.setattr(turns, "_commit_turn", commit)


# What goes and what stays.


@mutant("55", "PRG-02", source="a missing guard")
def running_instances_are_purged(patch: pytest.MonkeyPatch) -> None:
    """An instance that runs is purged without force."""
    purge = retention.purge_instances
    _patch_purge(patch, lambda state, request: purge(state, replace(request, force=True)))


@mutant("334", "PRG-02", source="`status != 'RUNNING'`", base="sqlite")
def only_running_is_not_ended(patch: pytest.MonkeyPatch) -> None:
    """What is pending or suspended counts as ended."""
    patch.setattr(sql_purge, "TERMINAL", TERMINAL | {"PENDING", "SUSPENDED"})


@mutant("335a", "PRG-05", source="the query's page")
def query_purges_one_page(patch: pytest.MonkeyPatch) -> None:
    """A purge by query deletes a page of what matches, and says that this was all."""
    purge = retention.purge_instances

    def one_page(state: HubState, request: PurgeRequest) -> PurgeResult:
        if request.query is None:
            return purge(state, request)
        page = replace(request, limit=min(request.query.page_size, request.limit or request.query.page_size))
        result = purge(state, page)
        return result if request.limit is not None else replace(result, complete=True)

    _patch_purge(patch, one_page)


@mutant("335b", "PRG-05", source="a filter left out of the copy", base="sqlite")
def purge_knows_not_every_filter(patch: pytest.MonkeyPatch) -> None:
    """A purge by query pays no heed to the time of the last change, and takes more than it should."""

    def fewer_filters(tables: Any, hub: int, query: InstanceQuery, *rest: Any, **options: Any) -> Any:
        return matching_ids(tables, hub, replace(query, updated_from=None), *rest, **options)

    patch.setattr(sql_purge, "matching_ids", fewer_filters)


@mutant("336", "PRG-06", source="a stub")
def limit_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """A purge takes more instances than its limit allows."""
    purge = retention.purge_instances
    _patch_purge(patch, lambda state, request: purge(state, replace(request, limit=None)))


@mutant("337", "PRG-06", source="a constant", base="sqlite")
def every_purge_says_it_is_complete(patch: pytest.MonkeyPatch) -> None:
    """A purge that its budget ended early says that it is complete."""
    found = sql_purge._purge_found

    def complete(*args: Any) -> bool:
        found(*args)
        return True

    patch.setattr(sql_purge, "_purge_found", complete)


@mutant("338", "PRG-07", source="a query that is not recursive")
def cascade_takes_children_alone(patch: pytest.MonkeyPatch) -> None:
    """A cascade ends at the children."""

    def family(state: HubState, root: Instance) -> list[Instance]:
        children = sorted(state.children.get(root.id, set()) - {root.id})
        return [root, *(state.instances[child] for child in children)]

    patch.setattr(retention, "_family", family)


@mutant("339", "PRG-08", "PRG-14", source="the guard on the root alone")
def running_descendants_are_purged(patch: pytest.MonkeyPatch) -> None:
    """Only the instance that was asked for is looked at before a family is purged."""
    purge_family = retention._purge_family

    def guarded(state: HubState, instance_id: str, request: PurgeRequest, bounds: Any) -> Outcome | None:
        instance = state.instances.get(instance_id)
        ended = instance is not None and instance.status.is_terminal
        return purge_family(state, instance_id, replace(request, force=request.force or ended), bounds)

    patch.setattr(retention, "_purge_family", guarded)


@mutant("340", "PRG-10", source="DELETE of no row")
def unknown_id_is_ok(patch: pytest.MonkeyPatch) -> None:
    """An id that nobody knows counts as purged."""
    purge = retention.purge_instances

    def always_ok(state: HubState, request: PurgeRequest) -> PurgeResult:
        result = purge(state, request)
        outcomes = [Outcome.OK if outcome is Outcome.NOT_FOUND else outcome for outcome in result.outcomes]
        return replace(result, outcomes=outcomes)

    _patch_purge(patch, always_ok)


@mutant("341a", "PRG-12", source="two transactions")
def purge_takes_history_first(patch: pytest.MonkeyPatch) -> None:
    """A purge deletes history in a step of its own, before the instance: a claim between sees half of it."""
    purge, claim = MemoryHub.purge, MemoryHub.claim_turns
    halfway, seen = threading.Event(), threading.Event()

    def in_two_steps(hub: MemoryHub, request: PurgeRequest) -> PurgeResult:
        if is_racing():
            with hub._transaction() as state:
                for id_ in request.ids or ():
                    if id_ in state.instances:
                        state.instances[id_].history = []
            halfway.set()
            seen.wait(2)
        return purge(hub, request)

    def claim_between(hub: MemoryHub, request: ClaimTurns) -> TurnBatch:
        if not is_racing():
            return claim(hub, request)
        halfway.wait(2)
        try:
            return claim(hub, request)
        finally:
            seen.set()

    patch.setattr(MemoryHub, "purge", in_two_steps)
    patch.setattr(MemoryHub, "claim_turns", claim_between)


@mutant("341b", "PRG-12", source="check, then act, without a lock")
def claim_meets_a_purge(patch: pytest.MonkeyPatch) -> None:
    """Activities are found, and leased in a second step: what is purged between can't be found any more."""
    claim, purge = MemoryHub.claim_activities, MemoryHub.purge
    found, purged = threading.Event(), threading.Event()

    def in_two_steps(hub: MemoryHub, request: ClaimActivities) -> ActivityBatch:
        if not is_racing():
            return claim(hub, request)
        with hub._transaction() as state:
            ids = [activity.instance for _, activity in state.queue]
        found.set()
        purged.wait(2)
        with hub._transaction() as state:
            for id_ in ids:
                state.touch(state.instances[id_], state.instances[id_].updated_at)
        return claim(hub, request)

    def purge_between(hub: MemoryHub, request: PurgeRequest) -> PurgeResult:
        if not is_racing():
            return purge(hub, request)
        found.wait(2)
        try:
            return purge(hub, request)
        finally:
            purged.set()

    patch.setattr(MemoryHub, "claim_activities", in_two_steps)
    patch.setattr(MemoryHub, "purge", purge_between)


@mutant("342", "PRG-13", source="OFFSET over rows that are being deleted", base="sqlite")
def every_second_portion_is_left_out(patch: pytest.MonkeyPatch) -> None:
    """A purge by query goes through what matches by offset, while what matches goes away."""
    offsets: dict[int, int] = {}

    def by_offset(tables: Any, hub: int, query: InstanceQuery, behind: Any, limit: int, *, ended: bool) -> Any:
        offsets[hub] = 0 if behind is None else offsets.get(hub, 0) + limit
        return matching_ids(tables, hub, query, None, limit, ended=ended).offset(offsets[hub])

    patch.setattr(sql_purge, "matching_ids", by_offset)


@mutant("343a", "PRG-15", source="a limit without an exception")
def large_families_never_go(patch: pytest.MonkeyPatch) -> None:
    """A family of more than the limit is not purged, however often one calls."""
    allow = PurgeBounds.allow

    def strict(bounds: Any, size: int) -> bool:
        return (bounds._limit is None or bounds.deleted + size <= bounds._limit) and allow(bounds, size)

    patch.setattr(PurgeBounds, "allow", strict)


@mutant("343b", "PRG-15", source="a limit that is looked at before the family", base="sqlite")
def last_family_goes_whole(patch: pytest.MonkeyPatch) -> None:
    """Any family goes whole, as long as the limit was not reached before it."""
    allow = PurgeBounds.allow
    patch.setattr(PurgeBounds, "allow", lambda bounds, size: allow(bounds, 1))


@mutant("344", "PRG-14", source="a conflict that ends the loop", base="sqlite")
def family_in_the_way_ends_the_purge(patch: pytest.MonkeyPatch) -> None:
    """A purge by query stops at the first family that has a member that runs."""
    purge_family = sql_purge._purge_family

    def stop(work: Work, id_: str, family: Sequence[str], request: PurgeRequest, bounds: Any) -> Outcome | None:
        outcome = purge_family(work, id_, family, request, bounds)
        return None if request.query is not None and outcome is Outcome.CONFLICT else outcome

    patch.setattr(sql_purge, "_purge_family", stop)


@mutant("345", "PRG-16", source="each id checked when its turn comes")
def ids_before_a_malformed_one_are_purged(patch: pytest.MonkeyPatch) -> None:
    """A malformed id raises when it is reached: those before it are gone by then."""
    purge = MemoryHub.purge

    def one_by_one(hub: MemoryHub, request: PurgeRequest) -> PurgeResult:
        if request.ids is None or request.query is not None:
            return purge(hub, request)
        outcomes: list[Outcome] = []
        for index, id_ in enumerate(request.ids):
            try:
                checks.check_id(id_, hub._limits)
            except BadId as error:
                raise BadId(str(error), index=index) from None
            outcomes += purge(hub, replace(request, ids=[id_])).outcomes
        return PurgeResult(deleted=outcomes.count(Outcome.OK), complete=True, outcomes=outcomes)

    patch.setattr(MemoryHub, "purge", one_by_one)


@mutant("580", "PRG-05", source="the query's own page, reused")
def a_purge_begins_at_the_cursor(patch: pytest.MonkeyPatch) -> None:
    """A purge by query spares what lies before the query's cursor."""
    matches = queries.matches

    def behind(instance: Instance, query: InstanceQuery) -> bool:
        place = checks.decode_cursor(query)
        return matches(instance, query) and (place is None or (instance.created_at, instance.id) > place)

    patch.setattr(retention, "matches", behind)


@mutant("581", "PRG-07", source="a recursion with a limit")
def a_family_has_at_most_fifty_members(patch: pytest.MonkeyPatch) -> None:
    """A cascade stops at fifty members of a family."""
    family = retention._family
    patch.setattr(retention, "_family", lambda state, root: family(state, root)[:50])


# A purge has filters of its own, and what is wrong with them no query shows.


def _patch_purge_filter(patch: pytest.MonkeyPatch, altered: Callable[[InstanceQuery], InstanceQuery]) -> None:
    """Have a purge go by another query than the one asked for."""
    matches = queries.matches
    patch.setattr(retention, "matches", lambda instance, query: matches(instance, altered(query)))


@mutant("613a", "PRG-17", source="a filter written twice")
def a_purge_knows_no_beginning(patch: pytest.MonkeyPatch) -> None:
    """A purge deletes also what was created before the time from which it was asked."""
    _patch_purge_filter(patch, lambda query: replace(query, created_from=None))


@mutant("613b", "PRG-17", source="a filter written twice")
def a_purge_knows_no_last_update(patch: pytest.MonkeyPatch) -> None:
    """A purge deletes also what was updated later than asked."""
    _patch_purge_filter(patch, lambda query: replace(query, updated_to=None))


@mutant("613c", "PRG-17", source="a filter written twice")
def a_purge_takes_its_last_millisecond_along(patch: pytest.MonkeyPatch) -> None:
    """The end of a range of updates belongs to it in a purge."""
    _patch_purge_filter(
        patch, lambda query: query if query.updated_to is None else replace(query, updated_to=query.updated_to + 1)
    )


@mutant("614", "PRG-17", source="truthiness in place of `is None`")
def a_purge_takes_the_time_0_for_no_bound(patch: pytest.MonkeyPatch) -> None:
    """A purge of what ended before the time 0 deletes everything."""
    _patch_purge_filter(
        patch,
        lambda query: replace(query, completed_to=query.completed_to or None, created_to=query.created_to or None),
    )


@mutant("616", "PRG-13", source="a page of instances taken for all")
def a_purge_looks_at_a_thousand(patch: pytest.MonkeyPatch) -> None:
    """A purge by query looks at the first thousand instances, and says that it is complete."""
    purge = retention.purge_instances

    def purge_some(state: HubState, request: PurgeRequest) -> PurgeResult:
        timeline, state.timeline = state.timeline, state.timeline[:1000]
        before = set(state.instances)
        result = purge(state, request)
        gone = before - set(state.instances)
        state.timeline = [place for place in timeline if place[1] not in gone]
        return result

    patch.setattr(memory_hub, "purge_instances", purge_some)


@mutant("617", "PRG-07", source="a hub forgotten in a recursion", base="sqlite")
def descent_crosses_hubs(patch: pytest.MonkeyPatch) -> None:
    """What another hub calls a child is taken for one by its id."""
    change_statement(patch, transaction, "FAMILY", "i.hub = ? AND i.parent", "? IS NOT NULL AND i.parent")


@mutant("618", "PRG-07", source="LIKE 'parent%'")
def children_of_longer_names_are_taken_along(patch: pytest.MonkeyPatch) -> None:
    """With an instance go the children of all whose ids begin with its own."""

    def family(state: HubState, root: Instance) -> list[Instance]:
        found = {root.id: root}
        pending = [root.id]
        while pending:
            top = pending.pop()
            for parent, children in state.children.items():
                for child in children if parent.startswith(top) else ():
                    if child not in found:
                        found[child] = state.instances[child]
                        pending.append(child)
        return list(found.values())

    patch.setattr(retention, "_family", family)


@mutant("619", "PRG-17", source="a query's checks used for a purge")
def a_purge_begins_at_its_cursor(patch: pytest.MonkeyPatch) -> None:
    """A purge passes over what stands before its query's cursor."""
    purge = retention.purge_instances

    def purge_rest(state: HubState, request: PurgeRequest) -> PurgeResult:
        query = request.query
        if query is None or query.cursor is None:
            return purge(state, request)
        checks.decode_cursor(query)
        return purge(state, request)

    patch.setattr(memory_hub, "purge_instances", purge_rest)

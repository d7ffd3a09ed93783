"""Purging instances."""

from __future__ import annotations

from perdure.spi import InstanceQuery, Outcome, PurgeRequest, PurgeResult
from perdure.spi.checks import PurgeBounds
from perdure_memory.queries import matches
from perdure_memory.state import HubState, Instance


def purge_instances(state: HubState, request: PurgeRequest) -> PurgeResult:
    """Delete by ids or by query."""
    bounds = PurgeBounds(request)
    if request.query is not None:
        return _purge_found(state, request, request.query, bounds)
    outcomes: list[Outcome] = []
    for instance_id in request.ids or ():
        outcome = _purge_family(state, instance_id, request, bounds)
        if outcome is None:
            return PurgeResult(deleted=bounds.deleted, complete=False, outcomes=outcomes)
        outcomes.append(outcome)
    return PurgeResult(deleted=bounds.deleted, complete=True, outcomes=outcomes)


def _purge_found(state: HubState, request: PurgeRequest, query: InstanceQuery, bounds: PurgeBounds) -> PurgeResult:
    for _, instance_id in list(state.timeline):
        # One found earlier may have taken this one along.
        instance = state.instances.get(instance_id)
        if instance is None or not matches(instance, query):
            continue
        # One that runs is passed over as a conflict.
        if _purge_family(state, instance_id, request, bounds) is None:
            return PurgeResult(deleted=bounds.deleted, complete=False)
    return PurgeResult(deleted=bounds.deleted, complete=True)


def _purge_family(state: HubState, instance_id: str, request: PurgeRequest, bounds: PurgeBounds) -> Outcome | None:
    """Delete an instance, with its descendants if asked for; None where the bounds forbid it."""
    instance = state.instances.get(instance_id)
    if instance is None:
        return Outcome.NOT_FOUND
    family = _family(state, instance) if request.cascade else [instance]
    if not request.force and not all(member.status.is_terminal for member in family):
        return Outcome.CONFLICT
    if not bounds.allow(len(family)):
        return None
    for member in family:
        state.remove_instance(member)
    bounds.deleted += len(family)
    return Outcome.OK


def _family(state: HubState, root: Instance) -> list[Instance]:
    """Return an instance and its descendants. Parents are mere ids, so that they may form a circle."""
    family = {root.id: root}
    pending = [root.id]
    while pending:
        for child in state.children.get(pending.pop(), ()):
            if child not in family:
                family[child] = state.instances[child]
                pending.append(child)
    return list(family.values())

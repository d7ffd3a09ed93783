"""Deleting: purged instances, remembered ids, whole hubs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from perdure.spi import InstanceQuery, Outcome, PumpResult, PurgeRequest, PurgeResult
from perdure.spi.checks import PurgeBounds
from perdure_sql import matching_ids
from perdure_sqlite.effects import WIPE_INSTANCE
from perdure_sqlite.reads import execute
from perdure_sqlite.rows import TERMINAL
from perdure_sqlite.statements import TABLES
from perdure_sqlite.work import Work

__all__ = ["WIPE_HUB", "purge_instances", "sweep"]

_Transact: TypeAlias = Callable[[Callable[[Work], bool]], bool]

# Instances looked at in one transaction: others get to write in between.
_PORTION: Final = 100

_FAMILY: Final = """
WITH RECURSIVE family (id) AS (
    SELECT ?
    UNION
    SELECT i.id FROM family JOIN perdure_instances AS i ON i.hub = ? AND i.parent = family.id
)
SELECT i.key, i.id, i.status FROM family JOIN perdure_instances AS i ON i.hub = ? AND i.id = family.id
"""
_ALONE: Final = "SELECT key, id, status FROM perdure_instances WHERE hub = ? AND id = ?"

_FORGETTABLE: Final = "SELECT instance, id FROM perdure_remembered WHERE hub = ? AND until <= ? ORDER BY until LIMIT ?"
_FORGET: Final = "DELETE FROM perdure_remembered WHERE instance = ? AND id = ?"


def purge_instances(request: PurgeRequest, transact: _Transact) -> PurgeResult:
    """Delete by ids or by query, in portions.

    Args:
        request: what to delete.
        transact: runs a step in a transaction of its own and returns its answer.
    """
    bounds = PurgeBounds(request)
    outcomes: list[Outcome] = []
    if request.query is not None:
        complete = _purge_found(request, request.query, bounds, transact)
    else:
        complete = _purge_listed(request, bounds, outcomes, transact)
    return PurgeResult(deleted=bounds.deleted, complete=complete, outcomes=outcomes)


def _purge_listed(request: PurgeRequest, bounds: PurgeBounds, outcomes: list[Outcome], transact: _Transact) -> bool:
    # At least once, so that a call about nothing still finds out whether the hub exists.
    ids = request.ids or ()
    for start in range(0, max(1, len(ids)), _PORTION):
        if not transact(partial(_purge_portion, ids[start : start + _PORTION], request, bounds, outcomes)):
            return False
    return True


def _purge_portion(
    ids: Sequence[str], request: PurgeRequest, bounds: PurgeBounds, outcomes: list[Outcome], work: Work
) -> bool:
    for id_ in ids:
        outcome = _purge_family(work, id_, request, bounds)
        if outcome is None:
            return False
        outcomes.append(outcome)
    return True


def _purge_found(request: PurgeRequest, query: InstanceQuery, bounds: PurgeBounds, transact: _Transact) -> bool:
    behind: tuple[int, str] | None = None
    exhausted = False

    def step(work: Work) -> bool:
        nonlocal behind, exhausted
        statement = matching_ids(TABLES, work.hub, query, behind, _PORTION, ended=not request.force)
        found = execute(work.db, statement).fetchall()
        exhausted = len(found) < _PORTION
        for place in found:
            behind = place
            # One found earlier may have taken this one along, which is no failure.
            if _purge_family(work, place[1], request, bounds) is None:
                return False
        return True

    while not exhausted:
        if not transact(step):
            return False
    return True


def _purge_family(work: Work, id_: str, request: PurgeRequest, bounds: PurgeBounds) -> Outcome | None:
    """Delete an instance, with its descendants if asked for; None where the bounds forbid it."""
    if request.cascade:
        family = work.db.execute(_FAMILY, (id_, work.hub, work.hub)).fetchall()
    else:
        family = work.db.execute(_ALONE, (work.hub, id_)).fetchall()
    if all(member != id_ for _, member, _ in family):
        return Outcome.NOT_FOUND
    if not request.force and any(status not in TERMINAL for _, _, status in family):
        return Outcome.CONFLICT
    if not bounds.allow(len(family)):
        return None
    keys = [(key,) for key, _, _ in family]
    for statement in WIPE_INSTANCE:
        work.db.executemany(statement, keys)
    work.changed.update(member for _, member, _ in family)
    bounds.deleted += len(family)
    return Outcome.OK


def sweep(transact: Callable[[Callable[[Work], int]], int], budget_ms: int) -> PumpResult:
    """Forget ids of one hub that may be sent anew, for about so long."""
    deadline = time.monotonic() + budget_ms / 1000
    done = 0
    while True:
        swept = transact(_sweep_portion)
        done += swept
        if swept < _PORTION:
            return PumpResult(done=done)
        if time.monotonic() >= deadline:
            return PumpResult(done=done, more=True)


def _sweep_portion(work: Work) -> int:
    found = work.db.execute(_FORGETTABLE, (work.hub, work.now, _PORTION)).fetchall()
    work.db.executemany(_FORGET, found)
    return len(found)


WIPE_HUB: Final = (
    *(
        f"DELETE FROM perdure_{name} WHERE instance IN (SELECT key FROM perdure_instances WHERE hub = ?)"  # noqa: S608
        for name in ("inbox", "history", "remembered", "inputs", "states", "tags")
    ),
    "DELETE FROM perdure_activities WHERE hub = ?",
    "DELETE FROM perdure_instances WHERE hub = ?",
    "DELETE FROM perdure_hubs WHERE key = ?",
)
"""Each takes a hub's key; together they leave nothing of it."""

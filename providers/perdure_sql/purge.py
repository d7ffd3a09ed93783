"""Deleting: purged instances, and ids that need not be remembered any longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from perdure.spi import InstanceQuery, Outcome, PumpResult, PurgeRequest, PurgeResult
from perdure.spi.checks import PurgeBounds
from perdure_sql import effects
from perdure_sql.queries import matching_ids
from perdure_sql.rows import TERMINAL
from perdure_sql.tables import Tables
from perdure_sql.work import Work

__all__ = ["purge_instances", "sweep"]

T = TypeVar("T")

# Instances looked at in one transaction: others get to write in between.
_PORTION: Final = 100


class _Transact(Protocol):
    """Runs a step in a transaction of its own and returns its answer; it may have to run it more than once."""

    def __call__(self, step: Callable[[Work], T], /) -> T: ...


def purge_instances(request: PurgeRequest, tables: Tables, transact: _Transact) -> PurgeResult:
    """Delete by ids or by query, in portions."""
    bounds = PurgeBounds(request)
    if request.query is not None:
        complete = _purge_found(request, request.query, bounds, tables, transact)
        return PurgeResult(deleted=bounds.deleted, complete=complete)
    ids = request.ids or ()
    outcomes: list[Outcome] = []
    # At least once, so that a call about nothing still finds out whether the hub exists.
    for start in range(0, max(1, len(ids)), _PORTION):
        portion = ids[start : start + _PORTION]
        found = transact(partial(_purge_portion, portion, request, bounds, bounds.deleted))
        outcomes += found
        if len(found) < len(portion):
            break
    return PurgeResult(deleted=bounds.deleted, complete=len(outcomes) == len(ids), outcomes=outcomes)


def _purge_found(
    request: PurgeRequest, query: InstanceQuery, bounds: PurgeBounds, tables: Tables, transact: _Transact
) -> bool:
    behind: tuple[int, str] | None = None

    def step(work: Work) -> tuple[Sequence[Sequence[object]], int]:
        statement = matching_ids(tables, work.hub, query, behind, _PORTION, ended=not request.force)
        places = work.db.select(statement)
        ids = [str(id_) for _, id_ in places]
        return places, len(_purge_portion(ids, request, bounds, deleted, work))

    while True:
        deleted = bounds.deleted
        places, purged = transact(step)
        if purged < len(places):
            return False
        if len(places) < _PORTION:
            return True
        created_at, id_ = places[-1]
        assert isinstance(created_at, int)
        behind = created_at, str(id_)


def _purge_portion(
    ids: Sequence[str], request: PurgeRequest, bounds: PurgeBounds, deleted: int, work: Work
) -> list[Outcome]:
    """Delete instances, and return the outcomes of those before the first that the bounds forbid.

    Args:
        ids: the instances.
        request: the purge.
        bounds: what it may do; counted on from `deleted`, for this may be run again.
        deleted: how many are gone.
        work: the operation.
    """
    bounds.deleted = deleted
    families = _families(work, ids, cascade=request.cascade)
    outcomes = []
    for id_ in ids:
        # One found earlier may have taken this one along, which is no failure of a query.
        outcome = _purge_family(work, id_, families[id_], request, bounds)
        if outcome is None:
            break
        outcomes.append(outcome)
    work.flush()
    return outcomes


def _families(work: Work, ids: Sequence[str], *, cascade: bool) -> dict[str, Sequence[str]]:
    """Return by id those that go with it, itself among them; all are loaded."""
    families: dict[str, Sequence[str]] = {id_: [id_] for id_ in ids}
    while True:
        members = {member for family in families.values() for member in family}
        if members <= work.ids.keys():
            return families
        work.load((), members)
        if not cascade:
            return families
        # Once what was found is locked nobody adds to it, but somebody may have just before.
        families = {id_: list(work.db.family(work.hub, id_)) for id_ in ids}


def _purge_family(
    work: Work, id_: str, family: Sequence[str], request: PurgeRequest, bounds: PurgeBounds
) -> Outcome | None:
    """Delete an instance with its family; None where the bounds forbid it."""
    if work.ids[id_] is None:
        return Outcome.NOT_FOUND
    rows = [row for member in family if (row := work.ids[member]) is not None]
    if not request.force and any(row.status not in TERMINAL for row in rows):
        return Outcome.CONFLICT
    if not bounds.allow(len(rows)):
        return None
    for row in rows:
        work.discard(row)
    bounds.deleted += len(rows)
    return Outcome.OK


def sweep(transact: _Transact, budget_ms: int) -> PumpResult:
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
    found = work.db.forgettable(work.hub, work.now, _PORTION)
    if found:
        work.db.write(effects.FORGET, found)
    return len(found)

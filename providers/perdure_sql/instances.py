"""Creating instances."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.spi import NewInstance, OrchestrationStatus, Outcome
from perdure_sql.rows import InstanceRow
from perdure_sql.work import Work

__all__ = ["create_instance", "create_instances"]


def create_instances(work: Work, new: Sequence[NewInstance]) -> list[Outcome]:
    """Create instances; the first of an id wins."""
    work.load((), {item.id for item in new})
    work.reserve(len(new))
    settled: set[str] = set()
    outcomes = [create_instance(work, item, settled) for item in new]
    work.flush()
    return outcomes


def create_instance(work: Work, new: NewInstance, settled: set[str]) -> Outcome:
    """Create one instance with its start; its id must be loaded.

    Args:
        work: the operation.
        new: what to create.
        settled: ids that can't be replaced in this step any more; a created one is added.
    """
    existing = work.ids[new.id]
    rev = fence = 0
    outcome = Outcome.OK
    if existing is not None:
        if existing.generation == new.generation:
            return Outcome.ALREADY
        if new.id in settled or existing.status not in new.replace_if:
            return Outcome.EXISTS
        # Who waits for a change of this id compares revs: the new incarnation goes on counting.
        rev, fence = existing.rev, existing.fence
        work.discard(existing)
        outcome = Outcome.REPLACED
    settled.add(new.id)
    row = InstanceRow(
        key=-1,
        id=new.id,
        generation=new.generation,
        name=new.name,
        version=new.version,
        status=OrchestrationStatus.PENDING.value,
        execution=1,
        next_seq=0,
        rev=rev + 1,
        status_rev=0,
        updated_at=work.now,
        completed_at=None,
        commit_id=None,
        token=None,
        fence=fence,
        lease_until=0,
        hidden_until=0,
        attempt=0,
        start_due=new.due or work.now,
        inbox_due=None,
        control_due=None,
        order_due=0 if new.due else work.now,
        arrivals=0,
        pending=0,
        seen_due=0,
        seen_seq=0,
        seen_arrivals=0,
        seen_kinds=0,
    )
    work.create(row, start=new.start, input_=new.input, parent=new.parent, tags=new.tags)
    return outcome

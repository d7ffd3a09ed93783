"""Creating instances."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.spi import START_MESSAGE_ID, LeaseKind, Millis, NewInstance, Outcome
from perdure_memory.inbox import PendingMessage
from perdure_memory.ownership import Ownership
from perdure_memory.state import HubState, Instance


def create_instances(state: HubState, new: Sequence[NewInstance], now: Millis) -> list[Outcome]:
    """Create instances, the first of an id wins."""
    settled: set[str] = set()
    return [create_instance(state, item, now, settled) for item in new]


def create_instance(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
    """Create one instance with its start message.

    Args:
        state: the hub.
        new: what to create.
        now: the time.
        settled: ids that can't be replaced in this step any more; a created one is added.
    """
    existing = state.instances.get(new.id)
    if existing is None:
        outcome, rev = Outcome.OK, 1
    elif existing.generation == new.generation:
        return Outcome.ALREADY
    elif new.id in settled or existing.status not in new.replace_if:
        return Outcome.EXISTS
    else:
        # Who waits for a change of this id compares revs: the new incarnation goes on counting.
        outcome, rev = Outcome.REPLACED, existing.rev + 1
        state.remove_instance(existing)
    settled.add(new.id)
    instance = Instance(
        number=next(state.numbers),
        id=new.id,
        generation=new.generation,
        name=new.name,
        version=new.version,
        created_at=now,
        updated_at=now,
        rev=rev,
        input=new.input,
        parent=new.parent,
        tags=dict(new.tags),
        ownership=Ownership(kind=LeaseKind.TURN, key=new.id),
    )
    instance.inbox.add(
        PendingMessage(
            id=START_MESSAGE_ID,
            payload=new.start,
            due=instance.inbox.stored_due(new.due, now),
            enqueued_at=now,
            number=next(state.numbers),
        )
    )
    state.add_instance(instance)
    return outcome

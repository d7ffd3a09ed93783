"""A hub with short names for what tests do to it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from perdure.spi import (
    Activity,
    ActivityBatch,
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Delivery,
    Fields,
    Hub,
    InstanceInfo,
    InstanceQuery,
    Lease,
    ManualClock,
    Message,
    NewActivity,
    NewInstance,
    OrchestrationStatus,
    Outcome,
    PurgeRequest,
    PurgeResult,
    Release,
    TurnBatch,
    TurnCommit,
    TurnItem,
)

LEASE_MS = 30_000
RUNNING = OrchestrationStatus.RUNNING
COMPLETED = OrchestrationStatus.COMPLETED
FAILED = OrchestrationStatus.FAILED
ENDED = frozenset(status for status in OrchestrationStatus if status.is_terminal)

_numbers = count(1)


def fresh(prefix: str) -> str:
    """Return an id that no other test and no other call has."""
    return f"{prefix}-{next(_numbers)}"


def new_instance(id: str = "a", **fields: Any) -> NewInstance:  # noqa: A002 - as in the record
    fields = {"name": "flow", "start": b"start", "generation": fresh("g")} | fields
    return NewInstance(id=id, **fields)


def message(id: str = "m", instance: str = "a", **fields: Any) -> Message:  # noqa: A002 - as in the record
    return Message(id=id, instance=instance, **({"payload": b"payload"} | fields))


def activity(id: str = "t", **fields: Any) -> NewActivity:  # noqa: A002 - as in the record
    return NewActivity(id=id, **({"name": "work", "payload": b"payload"} | fields))


def turn_commit(item: TurnItem, **fields: Any) -> TurnCommit:
    """Return a commit of a claimed turn: by default it consumes what was delivered and goes on running."""
    defaults: dict[str, Any] = {
        "lease": item.lease,
        "commit_id": fresh("commit"),
        "execution": item.execution,
        "expected_next_seq": item.next_seq,
        "status": RUNNING,
        "consumed": ids_of(item.messages),
    }
    return TurnCommit(**(defaults | fields))


def ids_of(items: Sequence[Delivery] | Sequence[Activity] | Sequence[InstanceInfo]) -> list[str]:
    return [item.id for item in items]


class Driver:
    """Drives one hub; every default is the plainest request that does something."""

    def __init__(self, hub: Hub, clock: ManualClock) -> None:
        self.hub = hub
        self.clock = clock

    # Clients.

    def create(self, *ids: str, **fields: Any) -> list[Outcome]:
        return self.hub.create_instances([new_instance(id, **fields) for id in ids or ("a",)])  # noqa: A001

    def send(self, *ids: str, instance: str = "a", **fields: Any) -> list[Outcome]:
        return self.hub.send_messages([message(id, instance, **fields) for id in ids or ("m",)])  # noqa: A001

    # Turns.

    def claim_batch(self, **fields: Any) -> TurnBatch:
        defaults: dict[str, Any] = {"worker": "w", "max_items": 100, "lease_ms": LEASE_MS}
        return self.hub.claim_turns(ClaimTurns(**(defaults | fields)))

    def claim(self, **fields: Any) -> list[TurnItem]:
        return list(self.claim_batch(**fields).items)

    def claim_one(self, **fields: Any) -> TurnItem:
        (item,) = self.claim(**fields)
        return item

    def commit(self, item: TurnItem, **fields: Any) -> Outcome:
        (outcome,) = self.hub.commit_turns([turn_commit(item, **fields)])
        return outcome

    def turn(self, **fields: Any) -> TurnItem:
        """Claim the one ready instance and commit."""
        item = self.claim_one()
        assert self.commit(item, **fields) is Outcome.OK
        return item

    def started(self, instance: str = "a", **fields: Any) -> TurnItem:
        """Create an instance and commit its first turn."""
        assert self.create(instance) == [Outcome.OK]
        items = {item.instance: item for item in self.claim()}
        item = items.pop(instance)
        for other in items.values():
            self.release(other.lease, penalize=False)
        assert self.commit(item, **fields) is Outcome.OK
        return item

    def ended(self, instance: str = "a", status: OrchestrationStatus = COMPLETED, **fields: Any) -> TurnItem:
        return self.started(instance, status=status, **fields)

    # Activities.

    def claim_work_batch(self, **fields: Any) -> ActivityBatch:
        defaults: dict[str, Any] = {"worker": "w", "max_items": 100, "lease_ms": LEASE_MS}
        return self.hub.claim_activities(ClaimActivities(**(defaults | fields)))

    def claim_work(self, **fields: Any) -> list[Activity]:
        return list(self.claim_work_batch(**fields).items)

    def claim_one_work(self, **fields: Any) -> Activity:
        (item,) = self.claim_work(**fields)
        return item

    def complete(self, item: Activity, result: Message | None = None) -> Outcome:
        (outcome,) = self.hub.complete_activities([ActivityDone(lease=item.lease, message=result)])
        return outcome

    # Leases.

    def renew(self, lease: Lease, for_ms: int = LEASE_MS) -> tuple[Outcome, Lease | None]:
        (answer,) = self.hub.renew([lease], for_ms)
        return answer

    def release(self, lease: Lease, **fields: Any) -> Outcome:
        (outcome,) = self.hub.release([Release(lease=lease, **fields)])
        return outcome

    # Reads and retention.

    def get(self, instance: str = "a", fields: Fields = Fields.ALL) -> InstanceInfo:
        (info,) = self.hub.get_instances([instance], fields=fields)
        assert info is not None
        return info

    def find(self, **fields: Any) -> list[str]:
        """Return the ids of one page."""
        return ids_of(self.hub.query_instances(InstanceQuery(**fields)).items)

    def history(self, instance: str = "a") -> list[bytes]:
        return list(self.hub.read_history(instance, limit=1_000_000).events)

    def purge(self, *ids: str, **fields: Any) -> PurgeResult:
        if ids:
            fields["ids"] = ids
        return self.hub.purge(PurgeRequest(**fields))

    def wait(self, ms: int) -> None:
        self.clock.advance(ms)

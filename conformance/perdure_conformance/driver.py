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
    Exchange,
    Fields,
    Hub,
    InstanceInfo,
    InstanceQuery,
    Lease,
    ManualClock,
    Message,
    Millis,
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
PENDING = OrchestrationStatus.PENDING
SUSPENDED = OrchestrationStatus.SUSPENDED
TERMINATED = OrchestrationStatus.TERMINATED
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


def ids_by_instance(items: Sequence[TurnItem]) -> dict[str, list[str]]:
    """Return the ids of the messages that came, by instance."""
    return {item.instance: ids_of(item.messages) for item in items}


def whole_history(hub: Hub, instance: str) -> list[bytes]:
    """Return all events of an instance: in one page or in several, as the provider likes."""
    events: list[bytes] = []
    while True:
        page = hub.read_history(instance, after=len(events) - 1, limit=1_000_000)
        assert page.first_seq == len(events)
        events += page.events
        if not page.more:
            return events
        assert len(page.events) > 0, "an empty page says that there is more"


def check_next_due(batch: TurnBatch | ActivityBatch, due: Millis) -> None:
    """Check that a claim that got nothing says when to come again: later than now, and not later than `due`."""
    assert list(batch.items) == []
    assert batch.more is False
    assert batch.next_due is not None
    assert batch.next_due <= due
    # Asked again at once it would get nothing, and its worker would turn in circles.
    assert batch.next_due > batch.now


class ByExchange:
    """Stands before a hub and takes its hot path through `exchange`, a call each."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hub, name)

    def claim_turns(self, request: ClaimTurns) -> TurnBatch | None:
        return self._hub.exchange(Exchange(claim_turns=request)).turns

    def commit_turns(self, commits: Sequence[TurnCommit]) -> Sequence[Outcome]:
        return self._hub.exchange(Exchange(commits=commits)).commits

    def claim_activities(self, request: ClaimActivities) -> ActivityBatch | None:
        return self._hub.exchange(Exchange(claim_activities=request)).activities

    def complete_activities(self, done: Sequence[ActivityDone]) -> Sequence[Outcome]:
        return self._hub.exchange(Exchange(done=done)).done

    def renew(self, leases: Sequence[Lease], for_ms: int) -> Sequence[tuple[Outcome, Lease | None]]:
        return self._hub.exchange(Exchange(renew=leases, renew_ms=for_ms)).renewed

    def release(self, items: Sequence[Release]) -> Sequence[Outcome]:
        return self._hub.exchange(Exchange(releases=items)).released


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
        items = self.claim(**fields)
        assert len(items) == 1
        return items[0]

    def claim_each(self, *instances: str, **fields: Any) -> dict[str, TurnItem]:
        """Claim what is ready, which must be these instances, and return it by instance."""
        items = {item.instance: item for item in self.claim(**fields)}
        assert sorted(items) == sorted(instances)
        return items

    def commit(self, item: TurnItem, **fields: Any) -> Outcome:
        (outcome,) = self.hub.commit_turns([turn_commit(item, **fields)])
        return outcome

    def turn(self, **fields: Any) -> TurnItem:
        """Claim the one ready instance and commit."""
        item = self.claim_one()
        assert self.commit(item, **fields) is Outcome.OK
        return item

    def turn_all(self, **fields: Any) -> list[TurnItem]:
        """Claim every ready instance and commit all alike."""
        items = self.claim()
        outcomes = self.hub.commit_turns([turn_commit(item, **fields) for item in items])
        assert list(outcomes) == [Outcome.OK] * len(items)
        return items

    def started(self, instance: str = "a", **fields: Any) -> TurnItem:
        """Create an instance and commit its first turn."""
        assert self.create(instance) == [Outcome.OK]
        items = {item.instance: item for item in self.claim()}
        assert instance in items
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
        items = self.claim_work(**fields)
        assert len(items) == 1
        return items[0]

    def claim_each_work(self, *instances: str, **fields: Any) -> dict[str, Activity]:
        """Claim what is ready, which must be one activity of each of these instances, and return it by instance."""
        items = self.claim_work(**fields)
        assert sorted(item.instance for item in items) == sorted(instances)
        return {item.instance: item for item in items}

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
        return whole_history(self.hub, instance)

    def purge(self, *ids: str, **fields: Any) -> PurgeResult:
        if ids:
            fields["ids"] = ids
        return self.hub.purge(PurgeRequest(**fields))

    def wait(self, ms: int) -> None:
        self.clock.advance(ms)

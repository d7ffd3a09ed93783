"""What one task hub holds, and the indexes over it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from perdure.spi import LeaseKind, Millis, NewActivity, OrchestrationStatus
from perdure_memory.agenda import Agenda
from perdure_memory.inbox import Inbox
from perdure_memory.ownership import Ownership


@dataclass(slots=True, kw_only=True)
class StoredActivity:
    """An activity that is not finished. Its lease's key is its number, so that a key is never used twice."""

    number: int
    id: str
    name: str
    payload: bytes
    queue: str
    due: Millis
    instance: str
    generation: str
    ownership: Ownership

    def ready_at(self) -> Millis:
        """Return when it is claimable: due, not hidden, and under no lease."""
        return max(self.due, self.ownership.hidden_until, self.ownership.leased_until())


@dataclass(slots=True, kw_only=True, eq=False)
class Instance:
    """An orchestration instance, with all that is its own."""

    number: int
    id: str
    generation: str
    name: str
    version: str | None
    created_at: Millis
    updated_at: Millis
    rev: int
    input: bytes | None
    parent: str | None
    tags: Mapping[str, str]
    ownership: Ownership
    status: OrchestrationStatus = OrchestrationStatus.PENDING
    execution: int = 1
    completed_at: Millis | None = None
    status_rev: int = 0
    output: bytes | None = None
    custom_status: bytes | None = None
    failure: bytes | None = None
    memo: bytes | None = None
    last_commit_id: str | None = None
    history: list[bytes] = field(default_factory=list)
    """Of the current execution; those before it are dropped."""
    inbox: Inbox = field(default_factory=Inbox)
    activities: dict[str, StoredActivity] = field(default_factory=dict)

    def ready_at(self, names: Collection[str] | None = None, *, as_holder: bool = False) -> Millis | None:
        """Return when a claim for these names could have it; None: not with the messages it has.

        Args:
            names: those that the claim asks for; None for all.
            as_holder: the claim names the current lease, which is then not in its way.
        """
        free_at = 0 if as_holder else self.ownership.leased_until()
        moments = []
        control_due = self.inbox.first_control_due()
        if control_due is not None:
            moments.append(max(control_due, free_at))
        first_due = self.inbox.first_due()
        if first_due is not None and (names is None or self.name in names):
            moments.append(max(first_due, free_at, self.ownership.hidden_until))
        return min(moments, default=None)

    def touch(self, now: Millis) -> None:
        """Note a visible change."""
        self.rev += 1
        self.updated_at = max(self.updated_at, now)


class HubState:
    """The tables of one hub. Whoever calls holds the store's lock.

    After a change to an item's messages or ownership, `reschedule` it, so that the agendas stay true.
    """

    def __init__(self) -> None:
        self.numbers = count(1)
        """Of instances, activities, messages and fences: they only grow, and are never used twice."""
        self.instances: dict[str, Instance] = {}
        self.timeline: list[tuple[Millis, str]] = []
        """(created_at, id) of all instances, sorted. Code points sort as their UTF-8 bytes do."""
        self.children: dict[str, set[str]] = {}
        """Ids by the parent they name."""
        self.turns: Agenda[Instance] = Agenda()
        """Instances with messages, by when any claim could have them."""
        self.activities: dict[str, StoredActivity] = {}
        """By lease key."""
        self.queue: Agenda[StoredActivity] = Agenda()
        self.work_hints: set[str] = set()
        """Ids of instances for which something became claimable, to be told to subscribers."""
        self.change_hints: set[str] = set()
        """Ids of instances that changed visibly."""
        self._forgetting: list[tuple[Millis, str, str]] = []

    def add_instance(self, instance: Instance) -> None:
        """Enter a new instance under an id that is free."""
        self.instances[instance.id] = instance
        insort(self.timeline, (instance.created_at, instance.id))
        if instance.parent is not None:
            self.children.setdefault(instance.parent, set()).add(instance.id)
        self.change_hints.add(instance.id)
        self.reschedule(instance)
        self.announce(instance)

    def remove_instance(self, instance: Instance) -> None:
        """Delete an instance with all that is its own: every lease on it is dead."""
        self.remove_activities(instance)
        del self.instances[instance.id]
        del self.timeline[bisect_left(self.timeline, (instance.created_at, instance.id))]
        if instance.parent is not None:
            siblings = self.children[instance.parent]
            siblings.discard(instance.id)
            if not siblings:
                del self.children[instance.parent]
        self.turns.discard(instance.number)
        self.change_hints.add(instance.id)

    def touch(self, instance: Instance, now: Millis) -> None:
        """Note a visible change of an instance, for its readers and its subscribers."""
        instance.touch(now)
        self.change_hints.add(instance.id)

    def reschedule(self, instance: Instance) -> None:
        """Enter the instance into the agenda anew, by its messages and its ownership."""
        self.turns.put(instance.number, instance, instance.ready_at())

    def add_activity(self, instance: Instance, new: NewActivity, now: Millis) -> None:
        """Enter an activity, unless the instance has one of that id."""
        if new.id in instance.activities:
            return
        number = next(self.numbers)
        activity = StoredActivity(
            number=number,
            id=new.id,
            name=new.name,
            payload=new.payload,
            queue=new.queue,
            # One that is overdue has been claimable only since it exists.
            due=max(new.due, now),
            instance=instance.id,
            generation=instance.generation,
            ownership=Ownership(kind=LeaseKind.ACTIVITY, key=str(number)),
        )
        instance.activities[new.id] = activity
        self.activities[activity.ownership.key] = activity
        self.reschedule_activity(activity)
        self.announce(activity)

    def remove_activity(self, activity: StoredActivity) -> None:
        """Delete an activity: a lease on it is dead."""
        del self.activities[activity.ownership.key]
        del self.instances[activity.instance].activities[activity.id]
        self.queue.discard(activity.number)

    def remove_activities(self, instance: Instance) -> None:
        """Delete all activities of an instance."""
        for activity in list(instance.activities.values()):
            self.remove_activity(activity)

    def reschedule_activity(self, activity: StoredActivity) -> None:
        """Enter the activity into the agenda anew, by its ownership."""
        self.queue.put(activity.number, activity, activity.ready_at())

    def announce(self, item: Instance | StoredActivity) -> None:
        """Let subscribers know that an item may have become claimable."""
        self.work_hints.add(item.id if isinstance(item, Instance) else item.instance)

    def forget_later(self, instance: Instance, message_id: str, at: Millis) -> None:
        """Have a remembered id swept once its time is over."""
        heappush(self._forgetting, (at, instance.id, message_id))

    def sweep(self, now: Millis) -> bool:
        """Forget one id whose time is over; False if there is none."""
        if not self._forgetting or self._forgetting[0][0] > now:
            return False
        _, instance_id, message_id = heappop(self._forgetting)
        instance = self.instances.get(instance_id)
        if instance is not None:
            instance.inbox.forget(message_id, now)
        return True

"""What an operation reaches: known before it begins, so that all of it can be read, and locked, in one go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from perdure.spi import Exchange, LeaseKind, Message, NewInstance, TurnCommit
from perdure_sql.rows import key_of

__all__ = ["Reach", "told_by"]


@dataclass(slots=True)
class Reach:
    """Instances by key and by id, and activities by key."""

    keys: set[int] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    activities: set[int] = field(default_factory=set)
    creates: int = 0
    """How many instances it may create."""

    @classmethod
    def of_messages(cls, messages: Iterable[Message]) -> Reach:
        """Return what sending reaches."""
        return cls(ids={message.instance for message in messages})

    @classmethod
    def of_instances(cls, new: Iterable[NewInstance]) -> Reach:
        """Return what creating reaches."""
        ids = [item.id for item in new]
        return cls(ids=set(ids), creates=len(ids))

    @classmethod
    def of_enlisted(cls, starts: Iterable[NewInstance], messages: Iterable[Message]) -> Reach:
        """Return what creating, and sending after that, reaches."""
        reach = cls.of_instances(starts)
        reach.ids.update(message.instance for message in messages)
        return reach

    @classmethod
    def of(cls, exchange: Exchange) -> Reach:
        """Return what a round of an engine reaches, each part of which may be empty."""
        reach = cls()
        for commit in exchange.commits:
            reach.keys.add(key_of(commit.lease, LeaseKind.TURN))
            reach.ids.update(message.instance for message in told_by(commit))
            reach.ids.update(new.id for new in commit.starts)
            reach.creates += len(commit.starts)
        for done in exchange.done:
            reach.activities.add(key_of(done.lease, LeaseKind.ACTIVITY))
            if done.message is not None:
                reach.ids.add(done.message.instance)
        held = () if exchange.claim_turns is None else exchange.claim_turns.held
        for lease in (*exchange.renew, *(item.lease for item in exchange.releases), *held):
            (reach.keys if lease.kind is LeaseKind.TURN else reach.activities).add(key_of(lease, lease.kind))
        return reach


def told_by(commit: TurnCommit) -> Iterator[Message]:
    """Yield every message that a commit may send."""
    yield from commit.messages
    for new in commit.starts:
        if new.on_conflict is not None:
            yield new.on_conflict

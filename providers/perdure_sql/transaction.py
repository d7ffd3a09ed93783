"""What the shared operations ask of a database: a few reads and one way to write, for many rows at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Select

from perdure.spi import Fields, Millis
from perdure_sql.effects import Effect

__all__ = ["Found", "Reader", "Row", "Transaction"]


class Row(Protocol):
    """A row of a result, as every driver has it."""

    def __getitem__(self, index: Any, /) -> Any: ...
    def __iter__(self) -> Any: ...
    def __len__(self) -> int: ...


@dataclass(slots=True)
class Found:
    """What a claim found."""

    rows: Sequence[Sequence[Any]]
    """In the order in which they became available."""
    more: bool
    """Whether there was more than was asked for."""


class Reader(ABC):
    """A connection that reads. Rows come as tuples, in the order in which their columns are named."""

    @abstractmethod
    def now(self) -> Millis:
        """Return the hub's time."""

    @abstractmethod
    def select(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        """Run a statement that is made for one call."""

    @abstractmethod
    def infos(self, hub: int, ids: Sequence[str], fields: Fields) -> Iterable[Sequence[Any]]:
        """Return rows of `queries.info_select` for the instances of these ids that exist."""

    @abstractmethod
    def history_head(self, hub: int, instance: str) -> Sequence[Any] | None:
        """Return key, generation, execution and next_seq of an instance."""

    @abstractmethod
    def history_rows(self, key: int, first: int, end: int) -> Iterable[tuple[int, int, bytes]]:
        """Return first_seq, count and events of the rows that hold events from `first` up to `end`, in order."""

    @abstractmethod
    def status_counts(self, hub: int) -> Iterable[tuple[str, int]]:
        """Return how many instances of each status there are."""

    @abstractmethod
    def turn_queue(self, hub: int, now: Millis) -> Sequence[Any]:
        """Return how many instances are leased, ready and waiting, and since when the first is ready."""

    @abstractmethod
    def activity_queue(self, hub: int, now: Millis) -> Sequence[Any]:
        """Return of activities what `turn_queue` returns of instances."""


class Transaction(ABC):
    """One transaction that writes.

    Where several write at once, a row that was read here stays as it is until the end: the implementation locks
    it. Rows of instances are locked before those of activities, each in the order of their keys, so that nobody waits
    in a circle.
    """

    @abstractmethod
    def now(self) -> Millis:
        """Return the hub's time."""

    @abstractmethod
    def rows(self, hub: int, keys: Collection[int], ids: Collection[str]) -> Iterable[Sequence[Any]]:
        """Return the hot rows (`rows.HOT`) of instances, by key and by id."""

    @abstractmethod
    def headers(self, pairs: Sequence[tuple[int, str]]) -> Iterable[tuple[int, str, Millis, int, int, int]]:
        """Return instance, id, due, seq, control, client of pending messages, by (instance, id)."""

    @abstractmethod
    def remembered(self, pairs: Sequence[tuple[int, str]], now: Millis) -> Iterable[tuple[int, str]]:
        """Return those of the (instance, message id) that were consumed and can't be sent anew yet."""

    @abstractmethod
    def new_keys(self, count: int) -> Sequence[int]:
        """Return keys that no instance has had, ascending."""

    @abstractmethod
    def earliest(self, keys: Collection[int]) -> Iterable[tuple[int, Millis | None, Millis | None]]:
        """Return by instance when its earliest message is due, and its earliest control message."""

    @abstractmethod
    def activity_ids(self, instance: int) -> Iterable[str]:
        """Return the ids of an instance's activities."""

    @abstractmethod
    def activity_rows(self, hub: int, keys: Collection[int]) -> Iterable[Sequence[Any]]:
        """Return key, token, fence, lease_until, hidden_until, attempt of activities."""

    @abstractmethod
    def write(self, effect: Effect, values: Collection[tuple[object, ...]]) -> None:
        """Apply one kind of change to many rows."""

    # Claiming.

    @abstractmethod
    def turn_names(self, hub: int) -> Collection[str]:
        """Return the names of all instances for which something waits."""

    @abstractmethod
    def ready_turns(
        self, hub: int, names: Collection[str], now: Millis, most: int, held: Mapping[int, object]
    ) -> Found:
        """Return instances that anybody may claim, as hot rows, and lock them.

        Args:
            hub: the hub's key.
            names: of those of which any message counts; of others control messages do.
            now: the hub's time.
            most: how many at most.
            held: keys of instances that are left out.
        """

    @abstractmethod
    def next_turn(self, hub: int, names: Collection[str], now: Millis) -> Millis | None:
        """Return when the first instance will be available that this transaction has not leased.

        Asked for once all leases are written, and only where nothing was left. What is available all the same is locked
        by somebody, or came a moment ago: it counts as soon to come.
        """

    @abstractmethod
    def messages(self, keys: Sequence[int], now: Millis) -> Iterable[Sequence[Any]]:
        """Return instance, seq, id, payload, due, enqueued_at, control of all due messages, in their order."""

    @abstractmethod
    def first_messages(self, key: int, now: Millis, most: int, *, control: bool) -> Iterable[Sequence[Any]]:
        """Return the first due messages of one instance, columns as `messages`; with `control` of those alone."""

    @abstractmethod
    def starts(self, keys: Sequence[int]) -> Iterable[tuple[int, bytes, Millis]]:
        """Return instance, payload and created_at of starts."""

    @abstractmethod
    def states(self, keys: Sequence[int]) -> Iterable[tuple[int, bytes | None, bytes | None]]:
        """Return instance, custom_status and memo."""

    @abstractmethod
    def histories(self, keys: Sequence[int]) -> Iterable[tuple[int, int, int, bytes]]:
        """Return instance, first_seq, count, events, in order."""

    @abstractmethod
    def activity_names(self, hub: int, queues: Collection[str]) -> Collection[str]:
        """Return the names of all activities in these queues."""

    @abstractmethod
    def ready_activities(
        self, hub: int, queues: Collection[str], names: Collection[str], now: Millis, most: int
    ) -> Found:
        """Return activities that anybody may claim, and lock them.

        Columns are key, id, name, payload, queue, fence, attempt, and id and generation of the instance.
        """

    @abstractmethod
    def next_activity(self, hub: int, queues: Collection[str], names: Collection[str], now: Millis) -> Millis | None:
        """Return of activities what `next_turn` returns of instances."""

    # Retention.

    @abstractmethod
    def select(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        """Run a statement that is made for one call."""

    @abstractmethod
    def family(self, hub: int, instance: str) -> Iterable[str]:
        """Return an id with those of all descendants, whether or not it exists itself."""

    @abstractmethod
    def forgettable(self, hub: int, now: Millis, most: int) -> Sequence[tuple[int, str]]:
        """Return (instance, id) of remembered messages that may be sent anew, the oldest first."""

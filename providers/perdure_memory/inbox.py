"""The messages of one instance: those that wait, and the ids of those that were consumed."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from itertools import islice, takewhile

from perdure.spi import START_MESSAGE_ID, Delivery, Millis


@dataclass(slots=True, kw_only=True)
class PendingMessage:
    """A message that waits, whether or not a lease is on its instance."""

    id: str
    payload: bytes
    due: Millis
    enqueued_at: Millis
    number: int
    """Order of arrival."""
    control: bool = False
    from_client: bool = False
    """Clients repeat a call whose answer was lost: their ids are remembered for a while after consumption."""

    def place(self) -> tuple[bool, Millis, int]:
        """Return its key in the order of delivery: the start first, then by due time, then by arrival."""
        return (self.id != START_MESSAGE_ID, self.due, self.number)

    def delivery(self) -> Delivery:
        """Return it as a claim does."""
        return Delivery(
            id=self.id,
            payload=self.payload,
            due=self.due,
            enqueued_at=self.enqueued_at,
            control=self.control,
        )


class Inbox:
    """Pending messages in the order of delivery, and the memory of consumed ones."""

    def __init__(self) -> None:
        self._order: list[tuple[bool, Millis, int]] = []
        self._by_place: dict[tuple[bool, Millis, int], PendingMessage] = {}
        self._by_id: dict[str, PendingMessage] = {}
        self._controls: dict[str, PendingMessage] = {}
        self._remembered: dict[str, Millis] = {}
        self._latest_due: Millis = 0
        self._delivered: set[str] = set()
        """Ids that the last claim delivered: only these may be consumed."""
        self._delivered_under: str | None = None

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def remembered(self) -> int:
        """How many consumed ids it remembers."""
        return len(self._remembered)

    def stored_due(self, due: Millis, now: Millis) -> Millis:
        """Return the due time to store for one asked for; 0 is now, or later where the clock went back."""
        if due:
            return due
        self._latest_due = max(now, self._latest_due)
        return self._latest_due

    def knows(self, message_id: str, now: Millis) -> bool:
        """Tell whether a message of this id is pending, or was consumed not long ago."""
        return message_id in self._by_id or now < self._remembered.get(message_id, 0)

    def add(self, message: PendingMessage) -> None:
        """Put a message in its place."""
        place = message.place()
        insort(self._order, place)
        self._by_place[place] = message
        self._by_id[message.id] = message
        if message.control:
            self._controls[message.id] = message

    def remove(self, message_id: str) -> None:
        """Drop a message, if it is pending."""
        message = self._by_id.pop(message_id, None)
        if message is None:
            return
        place = message.place()
        del self._order[bisect_left(self._order, place)]
        del self._by_place[place]
        self._controls.pop(message_id, None)
        # Another message of this id may come: it was not delivered.
        self._delivered.discard(message_id)

    def consume(self, message_id: str, token: str, remember_until: Millis) -> bool:
        """Drop a message that this lease delivered; what arrived meanwhile stays. Tell if it is remembered."""
        if message_id not in self._delivered or token != self._delivered_under:
            return False
        message = self._by_id[message_id]
        self.remove(message_id)
        if message.from_client:
            self._remembered[message_id] = remember_until
        return message.from_client

    def forget(self, message_id: str, now: Millis) -> None:
        """Drop a remembered id whose time is over."""
        if self._remembered.get(message_id, now) <= now:
            self._remembered.pop(message_id, None)

    def clear(self) -> None:
        """Drop all pending messages; what was consumed stays remembered."""
        for held in (self._order, self._by_place, self._by_id, self._controls, self._delivered):
            held.clear()

    def first_due(self) -> Millis | None:
        """Return when the message that comes first is due: nothing but control messages goes before a start."""
        return self._by_place[self._order[0]].due if self._order else None

    def first_control_due(self) -> Millis | None:
        """Return when the earliest control message is due."""
        return min((message.due for message in self._controls.values()), default=None)

    def deliver(self, now: Millis, at_most: int, token: str, *, only_control: bool) -> list[PendingMessage]:
        """Return the messages that are due, in order: all of them, or as many from the front.

        Args:
            now: the time.
            at_most: how many.
            token: that of the lease under which they are delivered, and may be consumed.
            only_control: leave out all others but a due start, which then isn't counted; all others are left out,
                too, while the start is not due.
        """
        order = self._order
        start = self._by_id.get(START_MESSAGE_ID)
        if only_control or (start is not None and start.due > now):
            order = sorted(message.place() for message in self._controls.values())
        due = takewhile(lambda message: message.due <= now, (self._by_place[place] for place in order))
        messages = list(islice(due, at_most))
        if only_control and start is not None and start.due <= now:
            messages.insert(0, start)
        self._delivered = {message.id for message in messages}
        self._delivered_under = token
        return messages

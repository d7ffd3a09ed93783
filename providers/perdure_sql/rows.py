"""The hot rows, as an operation holds them in memory."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from perdure.spi import Lease, LeaseKind, Millis, OrchestrationStatus

__all__ = [
    "HOT",
    "SEEN_ALL",
    "SEEN_CONTROL",
    "SEEN_START",
    "STATUSES",
    "TERMINAL",
    "ActivityRow",
    "Header",
    "InstanceRow",
    "key_of",
]

STATUSES: Final = {status.value: status for status in OrchestrationStatus}
TERMINAL: Final = frozenset(status.value for status in OrchestrationStatus if status.is_terminal)

# How much of an instance the last claim delivered, and its commit may consume.
SEEN_CONTROL: Final = 0
SEEN_ALL: Final = 1
SEEN_START: Final = 2
"""Control messages and the start."""

# A key that is longer is none of ours, and may be too large a number for the database.
_KEY_DIGITS: Final = 18


def key_of(lease: Lease, kind: LeaseKind) -> int:
    """Return the key of the item that a lease names, or one that no item has."""
    key = lease.key
    if lease.kind is kind and len(key) <= _KEY_DIGITS and key.isascii() and key.isdigit():
        return int(key)
    return -1


@dataclass(slots=True)
class InstanceRow:
    """The hot row of an instance; the fields are columns of the table, in this order."""

    key: int
    id: str
    generation: str
    name: str
    version: str | None
    status: str
    execution: int
    next_seq: int
    rev: int
    status_rev: int
    updated_at: Millis
    completed_at: Millis | None
    commit_id: str | None
    token: str | None
    fence: int
    lease_until: Millis
    hidden_until: Millis
    attempt: int
    start_due: Millis | None
    inbox_due: Millis | None
    control_due: Millis | None
    order_due: Millis
    arrivals: int
    pending: int
    seen_due: int
    seen_seq: int
    seen_arrivals: int
    seen_kinds: int

    def owned_by(self, lease: Lease) -> bool:
        """Tell whether the lease is the current one. That it has expired doesn't matter here."""
        return self.token is not None and self.token == lease.token

    def due_to_holder(self, *, named: bool) -> Millis | None:
        """Return when the holder of the current lease could have it again; None: not with the messages it has.

        Args:
            named: whether the claim asks for its name; control messages are delivered even so.
        """
        due = None
        if named:
            due = self.inbox_due if self.start_due is None else self.start_due
        if due is not None:
            due = max(due, self.hidden_until)
        if self.control_due is not None and (due is None or self.control_due < due):
            return self.control_due
        return due

    def release(self, hidden_until: Millis) -> None:
        """End the lease."""
        self.token = None
        self.lease_until = 0
        self.hidden_until = hidden_until

    def touch(self, now: Millis) -> None:
        """Count a visible change."""
        self.rev += 1
        self.updated_at = max(self.updated_at, now)


@dataclass(slots=True)
class ActivityRow:
    """Who owns an activity; the methods are those of `InstanceRow`."""

    key: int
    token: str | None
    fence: int
    lease_until: Millis
    hidden_until: Millis
    attempt: int

    def owned_by(self, lease: Lease) -> bool:
        """Tell whether the lease is the current one. That it has expired doesn't matter here."""
        return self.token is not None and self.token == lease.token

    def release(self, hidden_until: Millis) -> None:
        """End the lease."""
        self.token = None
        self.lease_until = 0
        self.hidden_until = hidden_until


@dataclass(slots=True)
class Header:
    """A pending message without its payload."""

    due: Millis
    seq: int
    control: int
    client: int


HOT: Final = tuple(field.name for field in fields(InstanceRow))
"""Names of the columns, in the order of the fields."""

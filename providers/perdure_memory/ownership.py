"""Who may work on an item: the state behind its leases."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from perdure.spi import Lease, LeaseKind, Millis


@dataclass(slots=True, kw_only=True)
class Ownership:
    """Of one instance or one activity.

    The token alone decides who owns the item. Time only decides when others may take it.
    """

    kind: LeaseKind
    key: str
    token: str | None = None
    """None while nobody owns the item."""
    fence: int = 0
    expires_at: Millis = 0
    hidden_until: Millis = 0
    """The end of a release delay."""
    attempt: int = 0

    def grants(self, lease: Lease) -> bool:
        """Tell whether the lease is the current one. That it has expired doesn't matter here."""
        return self.token is not None and lease.kind is self.kind and lease.token == self.token

    def leased_until(self) -> Millis:
        """Return when others may take the item: 0 (long ago) while nobody owns it."""
        return 0 if self.token is None else self.expires_at

    def claim(self, fence: int, expires_at: Millis) -> Lease:
        """Take the item, from whoever had it, and count the attempt."""
        self.token = token = secrets.token_hex(16)
        self.fence = fence
        self.expires_at = expires_at
        self.hidden_until = 0
        self.attempt += 1
        return Lease(kind=self.kind, key=self.key, token=token, fence=fence, expires_at=expires_at)

    def extend(self, lease: Lease, expires_at: Millis) -> Lease:
        """Keep the item for the owner of the current lease until then, and never for less long than before."""
        self.expires_at = max(self.expires_at, expires_at)
        return replace(lease, fence=self.fence, expires_at=self.expires_at)

    def release(self, hidden_until: Millis, *, penalize: bool) -> None:
        """Give the item back; unless it penalizes, the attempt that the claim counted too."""
        self.token = None
        self.hidden_until = hidden_until
        if not penalize:
            self.attempt = max(0, self.attempt - 1)

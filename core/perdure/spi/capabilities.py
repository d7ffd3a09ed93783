"""What a provider can do, and how much of it: declared once, final after `Provider.open()`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["MIN_ID_BYTES", "MIN_PAYLOAD_BYTES", "Capabilities", "Limits"]

# The core lets a user's payload be 4 MiB on every provider alike; an event wraps one payload in an
# envelope (kind, names, ids, a bounded failure tree), for which a quarter of a MiB is left.
MIN_PAYLOAD_BYTES = 4 * 1024 * 1024 + 256 * 1024

# An instance id is at most 256 characters, each at most 4 bytes of UTF-8.
MIN_ID_BYTES = 1024


@dataclass(slots=True, kw_only=True, frozen=True)
class Capabilities:
    """Optional abilities. The conformance suite checks each both ways.

    Undeclared: the operation raises `Unsupported`. Declared: its cases must pass.
    """

    durable: bool
    """What a call returned OK for survives the death of the process."""
    concurrent_threads: bool
    """Handles may be used from many threads at once."""
    multi_process: bool
    """Many processes of one machine may share the store."""
    multi_host: bool
    """Many machines may share the store."""
    read_lag_ms: int = 0
    """How long another handle may go on reading the state from before a write."""
    single_txn_exchange: bool = False
    """`Hub.exchange` is one transaction."""
    push: Literal["none", "process", "network"] = "none"
    """How far the hints of `Hub.subscribe` reach: not at all, this machine's processes, every host."""
    server_clock: bool = False
    """Without an injected clock, time is read from the server and not from the client's machine."""
    tag_query: bool = False
    """`InstanceQuery.tags` works."""
    status_query: bool = False
    """Reserved for queries by the content of the custom status; no operation uses it in SPI 0.x."""
    purge_cascade: bool = False
    """`PurgeRequest.cascade` works."""
    caller_transaction: bool = False
    """`Hub.enlist` works."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Limits:
    """Bounds a provider keeps. At the limit works, one more raises a typed error."""

    max_payload: int = MIN_PAYLOAD_BYTES
    """Bytes of one payload (event, message, input, output, failure, custom status, memo): at least
    `MIN_PAYLOAD_BYTES`."""
    max_batch: int = 1000
    """Items of one list in a call, not of those inside a commit: at least 100. A claim for more is capped; any other
    longer list is an `InvalidRequest`."""
    max_commit_bytes: int = 64 * 1024 * 1024
    """Bytes of all payloads in one `TurnCommit`."""
    max_pending: int = 1_000_000
    """Pending messages of one instance; `send_messages` over it raises `Transient`. It binds nothing else."""
    max_id_bytes: int = MIN_ID_BYTES
    """UTF-8 bytes of any id or name: at least `MIN_ID_BYTES`."""
    dedupe_ms: int = 600_000
    """How long a client message's id is remembered after it was consumed: at least 10 minutes."""
    max_due_ahead_ms: int = 10_000 * 366 * 86_400_000
    """How far in the future `due` may lie (the default: as far as a `datetime`); beyond it is an
    `InvalidRequest`, never a clamp."""
    time_resolution_ms: int = 1
    """The step in which times are stored."""
    max_tags: int = 32
    """Tags of one instance."""

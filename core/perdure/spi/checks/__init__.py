"""Checks that every provider makes alike, before it touches its store.

A provider calls the `check_*` function of an operation first, with its own limits: what passes is well
formed, and nothing of a call that raises was applied. Every error about an item of a batch names its index.
`encode_cursor` and `decode_cursor` make page cursors that work on any store; `PurgeBounds` keeps a purge within its
limits.
"""

from perdure.spi.checks.bounds import PurgeBounds
from perdure.spi.checks.cursors import decode_cursor, encode_cursor
from perdure.spi.checks.queries import check_history_request, check_purge, check_query
from perdure.spi.checks.requests import (
    check_activity_claim,
    check_commits,
    check_done,
    check_exchange,
    check_leases,
    check_messages,
    check_new_instances,
    check_releases,
    check_renewal,
    check_turn_claim,
)
from perdure.spi.checks.values import (
    MAX_HUB_NAME,
    check_batch,
    check_due,
    check_duration,
    check_hub_name,
    check_id,
    check_ids,
    check_payload,
    check_text,
)

__all__ = [
    "MAX_HUB_NAME",
    "PurgeBounds",
    "check_activity_claim",
    "check_batch",
    "check_commits",
    "check_done",
    "check_due",
    "check_duration",
    "check_exchange",
    "check_history_request",
    "check_hub_name",
    "check_id",
    "check_ids",
    "check_leases",
    "check_messages",
    "check_new_instances",
    "check_payload",
    "check_purge",
    "check_query",
    "check_releases",
    "check_renewal",
    "check_text",
    "check_turn_claim",
    "decode_cursor",
    "encode_cursor",
]

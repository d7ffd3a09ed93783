"""Renewing leases and giving them back."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.spi import Lease, LeaseKind, Millis, Outcome, Release
from perdure_memory.state import HubState, Instance, StoredActivity


def renew_leases(
    state: HubState, leases: Sequence[Lease], for_ms: int, now: Millis
) -> list[tuple[Outcome, Lease | None]]:
    """Lengthen leases whose tokens are current, expired ones too."""
    return [_renew(state, lease, now + for_ms) for lease in leases]


def _renew(state: HubState, lease: Lease, expires_at: Millis) -> tuple[Outcome, Lease | None]:
    item = _find(state, lease)
    if item is None:
        return (Outcome.CANCELLED if lease.kind is LeaseKind.ACTIVITY else Outcome.LOST), None
    if not item.ownership.grants(lease):
        return Outcome.LOST, None
    renewed = item.ownership.extend(lease, expires_at)
    _reschedule(state, item)
    return Outcome.OK, renewed


def release_leases(state: HubState, items: Sequence[Release], now: Millis) -> list[Outcome]:
    """Give leases back whose tokens are current."""
    return [_release(state, item, now) for item in items]


def _release(state: HubState, release: Release, now: Millis) -> Outcome:
    item = _find(state, release.lease)
    if item is None or not item.ownership.grants(release.lease):
        return Outcome.LOST
    item.ownership.release(now + release.delay_ms, penalize=release.penalize)
    _reschedule(state, item)
    state.announce(item)
    return Outcome.OK


def _find(state: HubState, lease: Lease) -> Instance | StoredActivity | None:
    if lease.kind is LeaseKind.TURN:
        return state.instances.get(lease.key)
    return state.activities.get(lease.key)


def _reschedule(state: HubState, item: Instance | StoredActivity) -> None:
    if isinstance(item, Instance):
        state.reschedule(item)
    else:
        state.reschedule_activity(item)

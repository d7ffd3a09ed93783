"""Renewing leases and giving them back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from perdure.spi import Lease, LeaseKind, Outcome, Release
from perdure_sql import effects
from perdure_sql.rows import ActivityRow, InstanceRow, key_of
from perdure_sql.work import Work

__all__ = ["release_leases", "renew_leases"]


class _Items:
    """The items that leases name, and those of them that change."""

    def __init__(self, work: Work, leases: Iterable[Lease]) -> None:
        self._work = work
        turns: list[int] = []
        activities: list[int] = []
        for lease in leases:
            (turns if lease.kind is LeaseKind.TURN else activities).append(key_of(lease, lease.kind))
        work.load(turns)
        work.load_activities(activities)
        self._changed: dict[int, ActivityRow] = {}

    def find(self, lease: Lease) -> InstanceRow | ActivityRow | None:
        key = key_of(lease, lease.kind)
        return self._work.rows.get(key) if lease.kind is LeaseKind.TURN else self._work.activities.get(key)

    def alter(self, item: InstanceRow | ActivityRow) -> None:
        if isinstance(item, InstanceRow):
            self._work.alter(item)
        else:
            self._changed[item.key] = item

    def flush(self) -> None:
        self._work.flush()
        if self._changed:
            rows = self._changed.values()
            self._work.db.write(
                effects.UPDATE_ACTIVITY,
                [(row.token, row.lease_until, row.hidden_until, row.attempt, row.key) for row in rows],
            )


def renew_leases(work: Work, leases: Sequence[Lease], for_ms: int) -> list[tuple[Outcome, Lease | None]]:
    """Lengthen leases whose tokens are current, expired ones too."""
    if not leases:
        return []
    items = _Items(work, leases)
    answers: list[tuple[Outcome, Lease | None]] = []
    for lease in leases:
        item = items.find(lease)
        if item is None:
            answers.append((Outcome.CANCELLED if lease.kind is LeaseKind.ACTIVITY else Outcome.LOST, None))
        elif not item.owned_by(lease):
            answers.append((Outcome.LOST, None))
        else:
            item.lease_until = max(item.lease_until, work.now + for_ms)
            items.alter(item)
            answers.append((Outcome.OK, replace(lease, fence=item.fence, expires_at=item.lease_until)))
    items.flush()
    return answers


def release_leases(work: Work, releases: Sequence[Release]) -> list[Outcome]:
    """Give leases back whose tokens are current."""
    if not releases:
        return []
    items = _Items(work, (item.lease for item in releases))
    outcomes = []
    for release in releases:
        item = items.find(release.lease)
        if item is None or not item.owned_by(release.lease):
            outcomes.append(Outcome.LOST)
            continue
        item.release(work.now + release.delay_ms)
        if not release.penalize:
            item.attempt = max(0, item.attempt - 1)
        items.alter(item)
        work.work = True
        outcomes.append(Outcome.OK)
    items.flush()
    return outcomes

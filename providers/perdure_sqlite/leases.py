"""Renewing leases and giving them back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import select, update

from perdure.spi import Lease, LeaseKind, Millis, Outcome, Release
from perdure_sqlite.rows import InstanceRow, key_of
from perdure_sqlite.statements import TABLES, each, number, plain, sql, words
from perdure_sqlite.work import Work

__all__ = ["release_leases", "renew_leases"]

_activities = TABLES.activities

_ROWS = sql(
    select(
        *(_activities.c[name] for name in ("key", "token", "fence", "lease_until", "hidden_until", "attempt"))
    ).where(_activities.c.key.in_(select(each("list_").c.value)), plain(_activities.c.hub) == number("hub")),
    *("list_", "hub"),
)
_CHANGED: Final = ("token", "lease_until", "hidden_until", "attempt")
_UPDATE = sql(
    update(_activities)
    .where(_activities.c.key == number("where_key"))
    .values({name: words("set_token") if name == "token" else number(f"set_{name}") for name in _CHANGED}),
    *(f"set_{name}" for name in _CHANGED),
    "where_key",
)


@dataclass(slots=True)
class _ActivityRow:
    """Who owns an activity; the methods are those of `InstanceRow`."""

    key: int
    token: str | None
    fence: int
    lease_until: Millis
    hidden_until: Millis
    attempt: int

    def owned_by(self, lease: Lease) -> bool:
        return self.token is not None and self.token == lease.token

    def release(self, hidden_until: Millis) -> None:
        self.token = None
        self.lease_until = 0
        self.hidden_until = hidden_until


class _Items:
    """The items that leases name, and those of them that change."""

    def __init__(self, work: Work, leases: Iterable[Lease]) -> None:
        self._work = work
        turns: list[int] = []
        activities: list[int] = []
        for lease in leases:
            (turns if lease.kind is LeaseKind.TURN else activities).append(key_of(lease, lease.kind))
        work.load(turns)
        self._activities: dict[int, _ActivityRow] = {}
        if activities:
            for values in work.db.execute(_ROWS, (json.dumps(activities), work.hub)):
                self._activities[values[0]] = _ActivityRow(*values)
        self._changed: dict[int, _ActivityRow] = {}

    def find(self, lease: Lease) -> InstanceRow | _ActivityRow | None:
        key = key_of(lease, lease.kind)
        return self._work.rows.get(key) if lease.kind is LeaseKind.TURN else self._activities.get(key)

    def alter(self, item: InstanceRow | _ActivityRow) -> None:
        if isinstance(item, InstanceRow):
            self._work.alter(item)
        else:
            self._changed[item.key] = item

    def flush(self) -> None:
        self._work.flush()
        if self._changed:
            rows = self._changed.values()
            self._work.db.executemany(
                _UPDATE, [(row.token, row.lease_until, row.hidden_until, row.attempt, row.key) for row in rows]
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

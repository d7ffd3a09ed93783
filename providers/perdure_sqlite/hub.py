"""The hub: each call is checked first, then done in a transaction of its own or on a reader."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from perdure.spi import (
    ActivityBatch,
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    ExchangeResult,
    Fields,
    HistoryPage,
    Hub,
    HubStats,
    InstanceInfo,
    InstanceQuery,
    Lease,
    Message,
    Millis,
    NewInstance,
    NotFound,
    OnWake,
    Outcome,
    Page,
    PumpResult,
    PurgeRequest,
    PurgeResult,
    Release,
    Subscription,
    TurnBatch,
    TurnCommit,
    checks,
)
from perdure_sqlite.activities import claim_activities, complete_activities
from perdure_sqlite.commits import commit_turns
from perdure_sqlite.history import read_history
from perdure_sqlite.instances import create_instances
from perdure_sqlite.leases import release_leases, renew_leases
from perdure_sqlite.messages import send_messages
from perdure_sqlite.purge import purge_instances, sweep
from perdure_sqlite.reads import count_work, get_instances, query_instances
from perdure_sqlite.turns import claim_turns
from perdure_sqlite.work import Work

if TYPE_CHECKING:
    from perdure_sqlite.provider import SQLiteProvider

__all__ = ["FIND_HUB", "SQLiteHub"]

T = TypeVar("T")

FIND_HUB = "SELECT key FROM perdure_hubs WHERE name = ?"


class SQLiteHub(Hub):
    """A handle on one hub of a file."""

    def __init__(self, name: str, provider: SQLiteProvider) -> None:
        self.name = name
        self._provider = provider
        self._limits = provider.limits
        self._clock = provider.now

    def _write(self, operation: Callable[[Work], T]) -> T:
        """Run `operation` in a transaction, and let subscribers know afterwards."""
        store = self._provider.store()
        done: list[Work] = []

        def run(db: sqlite3.Connection) -> T:
            # The time is read inside: whoever writes later has the later time.
            work = Work(db, self._key(db), self._clock(), self._limits)
            done.append(work)
            return operation(work)

        result = store.write(run)
        store.watch.announce(self.name, work=done[0].work, changed=done[0].changed)
        return result

    def _read(self, operation: Callable[[sqlite3.Connection, int], T], *, snapshot: bool = False) -> T:
        return self._provider.store().read(lambda db: operation(db, self._key(db)), snapshot=snapshot)

    def _key(self, db: sqlite3.Connection) -> int:
        found = db.execute(FIND_HUB, (self.name,)).fetchone()
        if found is None:
            raise NotFound(f"there is no hub {self.name!r}")
        key: int = found[0]
        return key

    def now(self) -> Millis:
        return self._read(lambda _db, _hub: self._clock())

    def claim_turns(self, request: ClaimTurns) -> TurnBatch:
        max_items = checks.check_turn_claim(request, self._limits)
        return self._write(lambda work: claim_turns(work, request, max_items))

    def commit_turns(self, commits: Sequence[TurnCommit]) -> list[Outcome]:
        checks.check_commits(commits, self._limits, self._clock())
        return self._write(lambda work: commit_turns(work, commits))

    def claim_activities(self, request: ClaimActivities) -> ActivityBatch:
        max_items = checks.check_activity_claim(request, self._limits)
        return self._write(lambda work: claim_activities(work, request, max_items))

    def complete_activities(self, done: Sequence[ActivityDone]) -> list[Outcome]:
        checks.check_done(done, self._limits, self._clock())
        return self._write(lambda work: complete_activities(work, done))

    def renew(self, leases: Sequence[Lease], for_ms: int) -> list[tuple[Outcome, Lease | None]]:
        checks.check_renewal(leases, for_ms, self._limits)
        return self._write(lambda work: renew_leases(work, leases, for_ms))

    def release(self, items: Sequence[Release]) -> list[Outcome]:
        checks.check_releases(items, self._limits)
        return self._write(lambda work: release_leases(work, items))

    def create_instances(self, new: Sequence[NewInstance]) -> list[Outcome]:
        checks.check_new_instances(new, self._limits, self._clock())
        return self._write(lambda work: create_instances(work, new))

    def send_messages(self, messages: Sequence[Message]) -> list[Outcome]:
        checks.check_messages(messages, self._limits, self._clock())
        return self._write(lambda work: send_messages(work, messages))

    def get_instances(self, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        checks.check_ids(ids, self._limits)
        return self._read(lambda db, hub: get_instances(db, hub, list(ids), fields))

    def query_instances(self, query: InstanceQuery) -> Page[InstanceInfo]:
        checks.check_query(query, self._limits, self._provider.capabilities)
        return self._read(lambda db, hub: query_instances(db, hub, query))

    def read_history(self, instance: str, *, after: int = -1, limit: int = 1000) -> HistoryPage:
        checks.check_history_request(instance, after, limit, self._limits)
        return self._read(lambda db, hub: read_history(db, hub, instance, after, limit), snapshot=True)

    def stats(self) -> HubStats:
        return self._read(lambda db, hub: count_work(db, hub, self._clock()), snapshot=True)

    def purge(self, request: PurgeRequest) -> PurgeResult:
        checks.check_purge(request, self._limits, self._provider.capabilities)
        return purge_instances(request, self._write)

    def exchange(self, exchange: Exchange) -> ExchangeResult:
        # All of it before any of it: one malformed part, and nothing is applied.
        checks.check_exchange(exchange, self._limits, self._clock())
        turns, activities = exchange.claim_turns, exchange.claim_activities
        max_turns = 0 if turns is None else checks.check_turn_claim(turns, self._limits)
        max_activities = 0 if activities is None else checks.check_activity_claim(activities, self._limits)

        def run(work: Work) -> ExchangeResult:
            return ExchangeResult(
                commits=commit_turns(work, exchange.commits),
                done=complete_activities(work, exchange.done),
                renewed=renew_leases(work, exchange.renew, exchange.renew_ms),
                released=release_leases(work, exchange.releases),
                turns=None if turns is None else claim_turns(work, turns, max_turns),
                activities=None if activities is None else claim_activities(work, activities, max_activities),
                now=work.now,
            )

        return self._write(run)

    def pump(self, budget_ms: int = 50) -> PumpResult:
        swept = sweep(self._write, budget_ms)
        self._provider.store().shorten_log()
        return swept

    def subscribe(self, on_wake: OnWake) -> Subscription:
        self._read(lambda _db, _hub: None)
        return self._provider.subscribe(self.name, on_wake)

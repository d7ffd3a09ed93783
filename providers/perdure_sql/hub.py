"""A hub: each call is checked first, then done in a transaction of its own or on a reader."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from perdure.spi import (
    ActivityBatch,
    ActivityDone,
    Capabilities,
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
    Limits,
    Message,
    Millis,
    NewInstance,
    NotFound,
    Outcome,
    Page,
    PumpResult,
    PurgeRequest,
    PurgeResult,
    Release,
    TurnBatch,
    TurnCommit,
    Unsupported,
    checks,
)
from perdure_sql.activities import claim_activities, complete_activities
from perdure_sql.commits import commit_turns
from perdure_sql.history import read_history
from perdure_sql.instances import create_instances
from perdure_sql.leases import release_leases, renew_leases
from perdure_sql.messages import send_messages
from perdure_sql.purge import purge_instances, sweep
from perdure_sql.reach import Reach
from perdure_sql.reads import count_work, get_instances, query_instances
from perdure_sql.tables import Tables
from perdure_sql.transaction import Reader
from perdure_sql.turns import claim_turns
from perdure_sql.work import Work

__all__ = ["SqlHub"]

T = TypeVar("T")


class SqlHub(Hub):
    """A handle on one hub of a SQL store.

    Args:
        name: the hub's name.
        tables: the store's tables.
        limits: the provider's limits.
        capabilities: what the provider declares.
    """

    def __init__(self, name: str, tables: Tables, limits: Limits, capabilities: Capabilities) -> None:
        self.name = name
        self._tables = tables
        self._limits = limits
        self._capabilities = capabilities

    @abstractmethod
    def _write(self, operation: Callable[[Work], T], reach: Reach) -> T:
        """Run `operation` in a transaction, and let subscribers know afterwards. It may be run more than once."""

    @abstractmethod
    def _read(self, operation: Callable[[Reader, int], T], *, snapshot: bool = False) -> T:
        """Run `operation` with a connection that reads and the hub's key.

        Args:
            operation: what to do.
            snapshot: whether all its statements must see one state.
        """

    @abstractmethod
    def _clock(self) -> Millis:
        """Return about the hub's time, without asking anybody: good enough to tell what lies too far ahead."""

    def _found(self, key: int | None) -> int:
        if key is None:
            raise NotFound(f"there is no hub {self.name!r}")
        return key

    def now(self) -> Millis:
        return self._read(lambda db, _: db.now())

    def claim_turns(self, request: ClaimTurns) -> TurnBatch:
        max_items = checks.check_turn_claim(request, self._limits)
        return self._write(lambda work: claim_turns(work, request, max_items), Reach.of(Exchange(claim_turns=request)))

    def commit_turns(self, commits: Sequence[TurnCommit]) -> list[Outcome]:
        checks.check_commits(commits, self._limits, self._clock())
        return self._write(lambda work: commit_turns(work, commits), Reach.of(Exchange(commits=commits)))

    def claim_activities(self, request: ClaimActivities) -> ActivityBatch:
        max_items = checks.check_activity_claim(request, self._limits)
        return self._write(lambda work: claim_activities(work, request, max_items), Reach())

    def complete_activities(self, done: Sequence[ActivityDone]) -> list[Outcome]:
        checks.check_done(done, self._limits, self._clock())
        return self._write(lambda work: complete_activities(work, done), Reach.of(Exchange(done=done)))

    def renew(self, leases: Sequence[Lease], for_ms: int) -> list[tuple[Outcome, Lease | None]]:
        checks.check_renewal(leases, for_ms, self._limits)
        return self._write(lambda work: renew_leases(work, leases, for_ms), Reach.of(Exchange(renew=leases)))

    def release(self, items: Sequence[Release]) -> list[Outcome]:
        checks.check_releases(items, self._limits)
        return self._write(lambda work: release_leases(work, items), Reach.of(Exchange(releases=items)))

    def create_instances(self, new: Sequence[NewInstance]) -> list[Outcome]:
        checks.check_new_instances(new, self._limits, self._clock())
        return self._write(lambda work: create_instances(work, new), Reach.of_instances(new))

    def send_messages(self, messages: Sequence[Message]) -> list[Outcome]:
        checks.check_messages(messages, self._limits, self._clock())
        return self._write(lambda work: send_messages(work, messages), Reach.of_messages(messages))

    def get_instances(self, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        checks.check_ids(ids, self._limits)
        return self._read(lambda db, hub: get_instances(db, hub, list(ids), fields))

    def query_instances(self, query: InstanceQuery) -> Page[InstanceInfo]:
        checks.check_query(query, self._limits, self._capabilities)
        return self._read(lambda db, hub: query_instances(db, self._tables, hub, query))

    def read_history(self, instance: str, *, after: int = -1, limit: int = 1000) -> HistoryPage:
        checks.check_history_request(instance, after, limit, self._limits)
        return self._read(lambda db, hub: read_history(db, hub, instance, after, limit), snapshot=True)

    def stats(self) -> HubStats:
        return self._read(lambda db, hub: count_work(db, hub, db.now()), snapshot=True)

    def purge(self, request: PurgeRequest) -> PurgeResult:
        checks.check_purge(request, self._limits, self._capabilities)
        return purge_instances(request, self._tables, self._alone)

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

        return self._write(run, Reach.of(exchange))

    def pump(self, budget_ms: int = 50) -> PumpResult:
        return sweep(self._alone, budget_ms)

    def _check_enlisted(self, starts: Sequence[NewInstance], messages: Sequence[Message]) -> None:
        if not self._capabilities.caller_transaction:
            raise Unsupported("caller_transaction")
        checks.check_new_instances(starts, self._limits, self._clock())
        checks.check_messages(messages, self._limits, self._clock())

    def _alone(self, operation: Callable[[Work], T]) -> T:
        return self._write(operation, Reach())

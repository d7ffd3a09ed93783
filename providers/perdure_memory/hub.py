"""The hub: each call is checked first, then done whole under the store's lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from perdure.spi import (
    ActivityBatch,
    ActivityDone,
    Capabilities,
    ClaimActivities,
    ClaimTurns,
    Clock,
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
from perdure_memory.activities import claim_activities, complete_activities
from perdure_memory.instances import create_instances
from perdure_memory.leases import release_leases, renew_leases
from perdure_memory.messages import send_messages
from perdure_memory.queries import count_work, instance_info, query_instances, read_history
from perdure_memory.retention import purge_instances
from perdure_memory.state import HubState
from perdure_memory.store import Store
from perdure_memory.turns import claim_turns, commit_turns
from perdure_memory.wakeup import MemorySubscription


@dataclass(slots=True, kw_only=True, frozen=True)
class Context:
    """What a provider handle lends to its hubs."""

    store: Store
    clock: Clock
    capabilities: Capabilities
    limits: Limits
    check_open: Callable[[], None]
    """Raises `Closed` once the handle was closed."""
    subscriptions: set[MemorySubscription]
    """Those made through the handle, which end with it."""


class MemoryHub(Hub):
    """A handle on one hub of a store."""

    def __init__(self, name: str, context: Context) -> None:
        self.name = name
        self._context = context
        self._clock = context.clock
        self._limits = context.limits

    @contextmanager
    def _transaction(self) -> Iterator[HubState]:
        """Hold the lock, and let subscribers know afterwards."""
        store = self._context.store
        with store.lock:
            self._context.check_open()
            state = store.hubs.get(self.name)
            if state is None:
                raise NotFound(f"there is no hub {self.name!r}")
            yield state
            store.publish(self.name)

    def now(self) -> Millis:
        with self._transaction():
            return self._clock.now()

    def claim_turns(self, request: ClaimTurns) -> TurnBatch:
        with self._transaction() as state:
            max_items = checks.check_turn_claim(request, self._limits)
            return claim_turns(state, request, max_items, self._clock.now())

    def commit_turns(self, commits: Sequence[TurnCommit]) -> list[Outcome]:
        with self._transaction() as state:
            now = self._clock.now()
            checks.check_commits(commits, self._limits, now)
            return commit_turns(state, commits, now, self._limits)

    def claim_activities(self, request: ClaimActivities) -> ActivityBatch:
        with self._transaction() as state:
            max_items = checks.check_activity_claim(request, self._limits)
            return claim_activities(state, request, max_items, self._clock.now())

    def complete_activities(self, done: Sequence[ActivityDone]) -> list[Outcome]:
        with self._transaction() as state:
            now = self._clock.now()
            checks.check_done(done, self._limits, now)
            return complete_activities(state, done, now)

    def renew(self, leases: Sequence[Lease], for_ms: int) -> list[tuple[Outcome, Lease | None]]:
        with self._transaction() as state:
            checks.check_renewal(leases, for_ms, self._limits)
            return renew_leases(state, leases, for_ms, self._clock.now())

    def release(self, items: Sequence[Release]) -> list[Outcome]:
        with self._transaction() as state:
            checks.check_releases(items, self._limits)
            return release_leases(state, items, self._clock.now())

    def create_instances(self, new: Sequence[NewInstance]) -> list[Outcome]:
        with self._transaction() as state:
            now = self._clock.now()
            checks.check_new_instances(new, self._limits, now)
            return create_instances(state, new, now)

    def send_messages(self, messages: Sequence[Message]) -> list[Outcome]:
        with self._transaction() as state:
            now = self._clock.now()
            checks.check_messages(messages, self._limits, now)
            return send_messages(state, messages, now, self._limits)

    def get_instances(self, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        with self._transaction() as state:
            checks.check_ids(ids, self._limits)
            found = (state.instances.get(instance_id) for instance_id in ids)
            return [None if instance is None else instance_info(instance, fields) for instance in found]

    def query_instances(self, query: InstanceQuery) -> Page[InstanceInfo]:
        with self._transaction() as state:
            checks.check_query(query, self._limits, self._context.capabilities)
            return query_instances(state, query)

    def read_history(self, instance: str, *, after: int = -1, limit: int = 1000) -> HistoryPage:
        with self._transaction() as state:
            checks.check_history_request(instance, after, limit, self._limits)
            return read_history(state, instance, after, limit)

    def stats(self) -> HubStats:
        with self._transaction() as state:
            return count_work(state, self._clock.now())

    def purge(self, request: PurgeRequest) -> PurgeResult:
        with self._transaction() as state:
            checks.check_purge(request, self._limits, self._context.capabilities)
            return purge_instances(state, request)

    def exchange(self, exchange: Exchange) -> ExchangeResult:
        turns, work = exchange.claim_turns, exchange.claim_activities
        with self._transaction() as state:
            now = self._clock.now()
            # All of it before any of it: once checked no part can fail, so that the whole is one transaction.
            checks.check_exchange(exchange, self._limits, now)
            max_turns = 0 if turns is None else checks.check_turn_claim(turns, self._limits)
            max_work = 0 if work is None else checks.check_activity_claim(work, self._limits)
            return ExchangeResult(
                commits=commit_turns(state, exchange.commits, now, self._limits),
                done=complete_activities(state, exchange.done, now),
                renewed=renew_leases(state, exchange.renew, exchange.renew_ms, now),
                released=release_leases(state, exchange.releases, now),
                turns=None if turns is None else claim_turns(state, turns, max_turns, now),
                activities=None if work is None else claim_activities(state, work, max_work, now),
                now=now,
            )

    def pump(self, budget_ms: int = 50) -> PumpResult:
        deadline = time.monotonic() + budget_ms / 1000
        done = 0
        with self._transaction() as state:
            now = self._clock.now()
            while state.sweep(now):
                done += 1
                if time.monotonic() >= deadline:
                    return PumpResult(done=done, more=True)
            return PumpResult(done=done)

    def subscribe(self, on_wake: OnWake) -> Subscription:
        store, made_here = self._context.store, self._context.subscriptions

        def forget(subscription: MemorySubscription) -> None:
            store.unsubscribe(self.name, subscription)
            made_here.discard(subscription)

        with self._transaction():
            subscription = MemorySubscription(on_wake, forget)
            store.subscribe(self.name, subscription)
            made_here.add(subscription)
            return subscription

"""A provider that keeps the contract to the letter and uses every freedom that it leaves.

It is the memory provider with other answers: whatever `perdure.spi` doesn't promise is otherwise here than in the
providers that there are. A case of the suite that fails on it asserts more than the contract does.

What it does in every configuration:

* sequences in records are tuples, mappings can't be written to, and errors are subclasses with other words;
* keys of leases are strange texts, tokens long ones, and fences and revs grow by leaps;
* `next_due` is half way to what it would have to be;
* instances that became claimable in one millisecond come in any order, held ones among the others by their age;
* renewing what is gone is LOST wherever that is true, as of completed activities;
* a purge by query deletes in an order of its own;
* an id is still remembered at the very end of its time, and `pump` sweeps one at a time and counts nothing;
* hints are late, doubled, spurious, and name everybody;
* the store holds hubs of others, and a store that isn't durable is empty once nobody has it open.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import count
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias, TypeVar
from zlib import crc32

from perdure.spi import (
    Activity,
    ActivityBatch,
    ActivityDone,
    BadId,
    Capabilities,
    ClaimActivities,
    ClaimTurns,
    Clock,
    Closed,
    Exchange,
    ExchangeResult,
    Fields,
    HistoryPage,
    Hub,
    HubStats,
    InstanceInfo,
    InstanceQuery,
    InvalidRequest,
    Lease,
    Limits,
    Message,
    Millis,
    NewInstance,
    NotFound,
    OnWake,
    OrchestrationStatus,
    Outcome,
    Page,
    ProviderError,
    PumpResult,
    PurgeRequest,
    PurgeResult,
    Release,
    Subscription,
    TooLarge,
    Transient,
    TurnBatch,
    TurnCommit,
    TurnItem,
    Unsupported,
    Wake,
    checks,
)
from perdure.spi.checks import PurgeBounds
from perdure_conformance import Adapter
from perdure_memory import MemoryProvider, retention
from perdure_memory.activities import _lease_activity
from perdure_memory.agenda import Agenda
from perdure_memory.hub import Context, MemoryHub
from perdure_memory.queries import matches
from perdure_memory.state import HubState, Instance, StoredActivity
from perdure_memory.turns import _held_instances, _is_past, _lease_turn, _next_due

_LOG = logging.getLogger(__name__)

T = TypeVar("T")
Row: TypeAlias = Instance | StoredActivity

MODEST = Capabilities(durable=False, concurrent_threads=False, multi_process=False, multi_host=False)
BOLD = Capabilities(
    durable=True,
    concurrent_threads=True,
    multi_process=False,
    multi_host=False,
    single_txn_exchange=True,
    push="process",
    tag_query=True,
    purge_cascade=True,
)
DAY_MS = 86_400_000


@dataclass(slots=True, kw_only=True, frozen=True)
class Freedoms:
    """Which of them are used. Those that are named nowhere here always are."""

    capabilities: Capabilities = BOLD
    limits: Limits = Limits()  # noqa: RUF009 - it is frozen
    short_pages: bool = False
    """Pages of histories hold less than was asked for, and yet more follow."""
    fresh_handles: bool = False
    """Each call of `hub` returns a new object."""
    counts_nothing: bool = False
    """Statuses without instances are counted, as 0."""
    locks_rows: bool = False
    """A claim locks the rows that it looks at, and skips those that another one has locked."""
    delay: float = 0.0
    """Seconds that each call takes."""


CONFIGURATIONS: dict[str, Freedoms] = {
    # Everything is declared, and only the core's least is bearable.
    "bold": Freedoms(
        limits=Limits(
            max_batch=100, max_pending=1000, max_commit_bytes=5 * 1024 * 1024, max_due_ahead_ms=10 * 366 * DAY_MS
        )
    ),
    # Nothing is declared, and everything is allowed.
    "modest": Freedoms(
        capabilities=MODEST,
        limits=Limits(
            max_payload=16 * 1024 * 1024,
            max_batch=5_000,
            max_commit_bytes=1024 * 1024 * 1024,
            max_pending=10_000_000,
            max_id_bytes=4096,
            dedupe_ms=DAY_MS,
            max_tags=100,
        ),
        short_pages=True,
        fresh_handles=True,
        counts_nothing=True,
    ),
    # A store of many servers: handles lag, rows are locked, and what isn't one transaction says so.
    "distant": Freedoms(
        capabilities=replace(
            BOLD,
            multi_process=True,
            multi_host=True,
            single_txn_exchange=False,
            push="network",
            read_lag_ms=10,
            purge_cascade=False,
        ),
        limits=Limits(max_batch=101),
        locks_rows=True,
    ),
}


# Leases: a key, a token and a fence are the provider's own affair.

_KEY = "Ключ 🔑/'\"%_\\{}$\N{COMBINING ACUTE ACCENT}:"
_TOKEN = " ~" * 100


def _lease_out(lease: Lease) -> Lease:
    return replace(lease, key=_KEY + lease.key, token=lease.token + _TOKEN, fence=lease.fence * 1009 + 10**12)


def _lease_in(lease: Lease) -> Lease:
    """Return the memory provider's lease; one that never was ours stays unknown to it."""
    if not isinstance(lease, Lease) or type(lease.key) is not str or type(lease.token) is not str:
        return lease
    if not lease.key.startswith(_KEY) or not lease.token.endswith(_TOKEN):
        return replace(lease, key="never there", token="never given")
    return replace(lease, key=lease.key.removeprefix(_KEY), token=lease.token.removesuffix(_TOKEN))


def _leases_in(leases: Sequence[Lease]) -> Sequence[Lease]:
    # What is no list at all is for the checks to refuse.
    return [_lease_in(lease) for lease in leases] if isinstance(leases, (list, tuple)) else leases


def _holders_in(items: Sequence[T], **more: Callable[[Any], Any]) -> Sequence[T]:
    """Return records with a `lease` as the memory provider wants them; what isn't one is left as it is."""

    def converted(item: Any) -> Any:
        if not hasattr(item, "lease"):
            return item
        changed = {name: convert(getattr(item, name)) for name, convert in more.items()}
        return replace(item, lease=_lease_in(item.lease), **changed)

    return [converted(item) for item in items] if isinstance(items, (list, tuple)) else items


# Errors: more precise ones than the named, with other words.


class OddInvalidRequest(InvalidRequest):
    """No."""


class OddBadId(BadId):
    """No such name."""


class OddTooLarge(TooLarge):
    """Too much."""


class OddNotFound(NotFound):
    """Nothing."""


class OddClosed(Closed):
    """Gone."""


class OddTransient(Transient):
    """Later."""


class OddUnsupported(Unsupported):
    """Not here."""


def _odd(error: ProviderError) -> ProviderError:
    match error:
        case TooLarge():
            return OddTooLarge(index=error.index)
        case BadId():
            return OddBadId(index=error.index)
        case InvalidRequest():
            return OddInvalidRequest(index=error.index)
        case NotFound():
            return OddNotFound()
        case Closed():
            return OddClosed()
        case Transient():
            return OddTransient(retry_after=None if error.retry_after else 0.001)
        case Unsupported():
            return OddUnsupported(error.capability)
        case _:
            return error


@contextmanager
def _odd_errors() -> Iterator[None]:
    try:
        yield
    except ProviderError as error:
        if type(error).__module__ == __name__:
            raise
        raise _odd(error) from error


# The state: ties are broken otherwise, and what is gone leaves a trace.


class ScrambledAgenda(Agenda[Instance]):
    """Among items of the same time the order is nobody's."""

    def put(self, number: int, item: Instance, at: Millis | None) -> None:
        super().put(_scrambled(number), item, at)

    def discard(self, number: int) -> None:
        super().discard(number if number >= _OFFSET else _scrambled(number))


_OFFSET = 2**40


def _scrambled(number: int) -> int:
    return _OFFSET + number * 0x9E3779B1 % 2**32


class ContrarianState(HubState):
    """A hub's tables."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = ScrambledAgenda()
        self.tokens_of_gone: dict[str, str | None] = {}
        """Of activities that are gone: the last token, by key."""
        self.locked: set[int] = set()
        """Numbers of instances and activities that a claim is about to take."""
        self.completed: set[str] = set()
        """Keys of activities that were completed."""

    def remove_activity(self, activity: StoredActivity) -> None:
        self.tokens_of_gone[activity.ownership.key] = activity.ownership.token
        super().remove_activity(activity)


def _ready_turns(state: HubState, request: ClaimTurns, now: Millis) -> list[Instance]:
    """Return what a claim could have, by age alone: what is held has no precedence over what waited longer."""
    kept = _held_instances(state, request)
    by_age: list[tuple[Millis, Instance]] = []
    for instance in kept:
        at = instance.ready_at(request.names, as_holder=True)
        if at is not None and at <= now:
            by_age.append((at, instance))
    for at, instance in state.turns:
        if at <= now and instance not in kept and _is_past(instance.ready_at(request.names), now):
            by_age.append((at, instance))
    by_age.sort(key=lambda entry: entry[0])
    return [instance for _, instance in by_age]


def _claim_turns(
    state: HubState, request: ClaimTurns, max_items: int, now: Millis, is_free: Callable[[Row], bool]
) -> TurnBatch:
    found = _ready_turns(state, request, now)
    ready = [instance for instance in found if is_free(instance)]
    more = len(ready) > max_items
    kept = _held_instances(state, request)
    items = [_lease_turn(state, instance, request, now, kept.pop(instance, None)) for instance in ready[:max_items]]
    skipped = len(found) - len(ready)
    due = now + 10 if skipped and not more else _next_due(state, request, kept, now)
    return TurnBatch(items=items, more=more, next_due=due, now=now)


def _ready_activities(state: HubState, request: ClaimActivities, now: Millis) -> list[StoredActivity]:
    return [activity for at, activity in state.queue if at <= now and _matches(activity, request)]


def _matches(activity: StoredActivity, request: ClaimActivities) -> bool:
    return activity.queue in request.queues and (request.names is None or activity.name in request.names)


def _claim_activities(
    state: HubState, request: ClaimActivities, max_items: int, now: Millis, is_free: Callable[[Row], bool]
) -> ActivityBatch:
    found = _ready_activities(state, request, now)
    ready = [activity for activity in found if is_free(activity)]
    more = len(ready) > max_items
    items = [_lease_activity(state, activity, now + request.lease_ms) for activity in ready[:max_items]]
    skipped = len(found) - len(ready)
    due = next((max(at, now) for at, activity in state.queue if _matches(activity, request)), None)
    return ActivityBatch(items=items, more=more, next_due=now + 10 if skipped and not more else due, now=now)


# Hints: late, doubled, merged into one for all, and some for nothing.


class OddSubscription(Subscription):
    """Passes hints on, and others."""

    def __init__(self, on_wake: OnWake) -> None:
        self._on_wake = on_wake
        self._closed = False
        self.inner: Subscription | None = None

    def pass_on(self, wake: Wake) -> None:
        time.sleep(0.01)
        both = (Wake(kind="changed"), Wake(kind="work", ids=frozenset({"nobody's"})), Wake(kind=wake.kind))
        for hint in (wake, wake, *both) if wake.ids else both:
            if self._closed:
                return
            try:
                self._on_wake(hint)
            except Exception:
                _LOG.exception("odd subscriber")

    def close(self) -> None:
        self._closed = True
        if self.inner is not None:
            self.inner.close()


class ContrarianHub(MemoryHub):
    """A hub of the memory provider with other answers."""

    def __init__(self, name: str, context: Context, provider: ContrarianProvider) -> None:
        super().__init__(name, context)
        self._provider = provider
        # At the very end of its time a consumed id is still remembered.
        self._limits = replace(context.limits, dedupe_ms=context.limits.dedupe_ms + 1)
        self._free = provider.freedoms

    exchange = Hub.exchange

    @contextmanager
    def _transaction(self) -> Iterator[HubState]:
        # The checks inside raise under it, too.
        with _odd_errors(), super()._transaction() as state:
            yield state

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Take the time that a call takes."""
        self._provider.enter()
        try:
            if self._free.delay:
                time.sleep(self._free.delay)
            yield
        finally:
            self._provider.leave()

    @contextmanager
    def _locking(self, most: int, look: Callable[[HubState], Sequence[Row]]) -> Iterator[Callable[[Row], bool]]:
        """Lock the rows that a claim takes; yield what tells which are free for it."""
        with self._transaction() as state:
            assert isinstance(state, ContrarianState)
        if not (self._free.locks_rows and self._provider.is_crowded()):
            yield lambda row: row.number not in state.locked
            return
        with self._transaction():
            mine = {row.number for row in look(state) if row.number not in state.locked}
            mine = set(sorted(mine)[: max(most, 0)])
            state.locked |= mine
        try:
            # Others come and find them locked.
            time.sleep(0.001)
            yield lambda row: row.number in mine
        finally:
            state.locked -= mine

    def _writing(self, state: HubState) -> None:
        self._provider.note_write(self.name, state)

    def _next_due(self, due: Millis | None, now: Millis, more: bool) -> Millis | None:
        """Return an earlier time: half way to the real one."""
        return due if due is None or more else now + max(1, (due - now) // 2)

    # The hot path.

    def claim_turns(self, request: ClaimTurns) -> TurnBatch:
        request = replace(request, held=_leases_in(request.held))

        def look(state: HubState) -> Sequence[Row]:
            return _ready_turns(state, request, self._clock.now())

        with self._busy(), self._locking(request.max_items, look) as is_free, self._transaction() as state:
            self._writing(state)
            max_items = checks.check_turn_claim(request, self._limits)
            batch = _claim_turns(state, request, max_items, self._clock.now(), is_free)
        items = tuple(self._turn_out(item) for item in batch.items)
        return replace(batch, items=items, next_due=self._next_due(batch.next_due, batch.now, batch.more))

    def _turn_out(self, item: TurnItem) -> TurnItem:
        history = None if item.history is None else tuple(item.history)
        return replace(item, lease=_lease_out(item.lease), messages=tuple(item.messages), history=history)

    def commit_turns(self, commits: Sequence[TurnCommit]) -> list[Outcome]:
        with self._busy(), self._transaction() as state:
            self._writing(state)
            return super().commit_turns(_holders_in(commits, settled=_leases_in))

    def claim_activities(self, request: ClaimActivities) -> ActivityBatch:
        def look(state: HubState) -> Sequence[Row]:
            return _ready_activities(state, request, self._clock.now())

        with self._busy(), self._locking(request.max_items, look) as is_free, self._transaction() as state:
            self._writing(state)
            max_items = checks.check_activity_claim(request, self._limits)
            batch = _claim_activities(state, request, max_items, self._clock.now(), is_free)
        items: tuple[Activity, ...] = tuple(replace(item, lease=_lease_out(item.lease)) for item in batch.items)
        return replace(batch, items=items, next_due=self._next_due(batch.next_due, batch.now, batch.more))

    def complete_activities(self, done: Sequence[ActivityDone]) -> list[Outcome]:
        with self._busy(), self._transaction() as state:
            self._writing(state)
            done = _holders_in(done)
            outcomes = super().complete_activities(done)
            assert isinstance(state, ContrarianState)
            state.completed.update(
                item.lease.key for item, outcome in zip(done, outcomes, strict=True) if outcome is Outcome.OK
            )
            return outcomes

    def renew(self, leases: Sequence[Lease], for_ms: int) -> list[tuple[Outcome, Lease | None]]:
        with self._busy(), self._transaction() as state:
            self._writing(state)
            leases = _leases_in(leases)
            answers = super().renew(leases, for_ms)
            return [self._renewed(state, lease, *answer) for lease, answer in zip(leases, answers, strict=True)]

    def _renewed(
        self, state: HubState, lease: Lease, outcome: Outcome, renewed: Lease | None
    ) -> tuple[Outcome, Lease | None]:
        """Answer LOST where both are true: to who wasn't the holder, and of what is completed."""
        assert isinstance(state, ContrarianState)
        if renewed is not None:
            return outcome, _lease_out(renewed)
        if lease.key in state.completed or state.tokens_of_gone.get(lease.key, lease.token) != lease.token:
            return Outcome.LOST, None
        return outcome, None

    def release(self, items: Sequence[Release]) -> list[Outcome]:
        with self._busy(), self._transaction() as state:
            self._writing(state)
            return super().release(_holders_in(items))

    # Clients.

    def create_instances(self, new: Sequence[NewInstance]) -> list[Outcome]:
        with self._busy(), self._transaction() as state:
            self._writing(state)
            return super().create_instances(new)

    def send_messages(self, messages: Sequence[Message]) -> list[Outcome]:
        with self._busy(), self._transaction() as state:
            self._writing(state)
            return super().send_messages(messages)

    # Reads.

    def get_instances(self, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        with self._busy(), self._reading():
            found = super().get_instances(ids, fields=fields)
        return [None if info is None else self._info_out(info) for info in found]

    def query_instances(self, query: InstanceQuery) -> Page[InstanceInfo]:
        with self._busy(), self._reading():
            page = super().query_instances(query)
        return replace(page, items=tuple(self._info_out(info) for info in page.items))

    def _info_out(self, info: InstanceInfo) -> InstanceInfo:
        """Let revs grow by leaps, and give tags that nobody can write to."""
        return replace(
            info,
            rev=_rev_out(info.id, info.rev),
            status_rev=_rev_out(info.id, info.status_rev) if info.status_rev else 0,
            tags=MappingProxyType(dict(info.tags)),
        )

    def read_history(self, instance: str, *, after: int = -1, limit: int = 1000) -> HistoryPage:
        if self._free.short_pages and limit > 1:
            limit = (limit + 1) // 2 if limit < 10 else 5
        with self._busy(), self._reading():
            page = super().read_history(instance, after=after, limit=limit)
        return replace(page, events=tuple(page.events))

    def stats(self) -> HubStats:
        with self._busy(), self._reading():
            stats = super().stats()
        counts: dict[OrchestrationStatus, int] = dict(stats.instances)
        if self._free.counts_nothing:
            counts = dict.fromkeys(OrchestrationStatus, 0) | counts
        return replace(stats, instances=MappingProxyType(counts))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Show the state from before a write of another handle, as long as that is allowed."""
        lag = self._free.capabilities.read_lag_ms
        if not lag:
            yield
            return
        store = self._context.store
        with store.lock:
            old = self._provider.stale(self.name, lag)
            current = store.hubs.get(self.name)
            if old is None or current is None:
                yield
                return
            store.hubs[self.name] = old
            try:
                yield
            finally:
                store.hubs[self.name] = current

    # The rest.

    def purge(self, request: PurgeRequest) -> PurgeResult:
        with self._busy(), self._transaction() as state:
            self._writing(state)
            checks.check_purge(request, self._limits, self._context.capabilities)
            if request.query is None:
                result = retention.purge_instances(state, request)
            else:
                result = self._purge_found(state, request, request.query)
        return replace(result, outcomes=tuple(result.outcomes))

    def _purge_found(self, state: HubState, request: PurgeRequest, query: InstanceQuery) -> PurgeResult:
        """Go through what is found in an order of its own."""
        bounds = PurgeBounds(request)
        found = [instance for _, instance in state.timeline]
        found.sort(key=lambda instance: hashlib.sha256(instance.encode()).digest())
        for instance_id in found:
            instance = state.instances.get(instance_id)
            if instance is None or not matches(instance, query):
                continue
            if retention._purge_family(state, instance_id, request, bounds) is None:
                return PurgeResult(deleted=bounds.deleted, complete=False)
        return PurgeResult(deleted=bounds.deleted, complete=True)

    def pump(self, budget_ms: int = 50) -> PumpResult:
        """Sweep one at a time, and count nothing."""
        with self._transaction() as state:
            return PumpResult(done=0, more=state.sweep(self._clock.now()))

    def subscribe(self, on_wake: OnWake) -> Subscription | None:  # type: ignore[override]  # None: it only polls
        if self._free.capabilities.push == "none":
            with self._transaction():
                return None
        subscription = OddSubscription(on_wake)
        with _odd_errors():
            subscription.inner = super().subscribe(subscription.pass_on)
        return subscription


def _rev_out(instance: str, rev: int) -> int:
    """Return what grows with `rev`: by irregular steps, and from another beginning for each id."""
    return rev * rev * 7 + crc32(instance.encode())


class AtomicHub(ContrarianHub):
    """Does an exchange whole."""

    def exchange(self, exchange: Exchange) -> ExchangeResult:
        with self._transaction():
            work = exchange.claim_turns
            checked = replace(
                exchange,
                commits=_holders_in(exchange.commits, settled=_leases_in),
                done=_holders_in(exchange.done),
                renew=_leases_in(exchange.renew),
                releases=_holders_in(exchange.releases),
                claim_turns=None if work is None else replace(work, held=_leases_in(work.held)),
            )
            checks.check_exchange(checked, self._limits, self._clock.now())
            return _with_tuples(Hub.exchange(self, exchange))


def _with_tuples(result: ExchangeResult) -> ExchangeResult:
    return replace(
        result,
        commits=tuple(result.commits),
        done=tuple(result.done),
        renewed=tuple(result.renewed),
        released=tuple(result.released),
    )


class ContrarianProvider(MemoryProvider):
    """`memory://name`, its hubs with other answers.

    Args:
        url: the store.
        freedoms: which to use.
        clock: the time.
    """

    _opened: ClassVar[Counter[str]] = Counter()
    """Handles that are open, by store."""

    _calls: ClassVar[Counter[str]] = Counter()
    """Calls that are under way, by store."""
    _writes: ClassVar[dict[tuple[str, str], list[tuple[float, ContrarianProvider, HubState]]]] = {}
    """Who wrote lately to a hub of a store, and the state before it."""

    def __init__(self, url: str, freedoms: Freedoms, *, clock: Clock | None = None) -> None:
        self.freedoms = freedoms
        self.capabilities = freedoms.capabilities
        self.limits = freedoms.limits
        self.name = "contrarian"
        self.version = "odd/Version 0 (β)"
        super().__init__(url, clock=clock)
        self._known_hubs: dict[str, ContrarianHub] = {}

    def enter(self) -> None:
        with self._store.lock:
            self._calls[self.url.rest] += 1

    def leave(self) -> None:
        with self._store.lock:
            self._calls[self.url.rest] -= 1

    def note_write(self, hub: str, state: HubState) -> None:
        """Remember what other handles may go on reading. The store is locked."""
        if self.capabilities.read_lag_ms and self._opened[self.url.rest] > 1:
            # What is only read needs no counter of its own, and newer Pythons warn of copying one.
            before = deepcopy(state, {id(state.numbers): state.numbers})
            self._writes.setdefault((self.url.rest, hub), []).append((time.monotonic(), self, before))

    def stale(self, hub: str, lag_ms: int) -> HubState | None:
        """Return the oldest state that this handle may still read; None: the current one. The store is locked."""
        writes = self._writes.get((self.url.rest, hub), [])
        oldest = time.monotonic() - lag_ms / 1000
        while writes and writes[0][0] < oldest:
            del writes[0]
        mine = [number for number, (_, writer, _) in enumerate(writes) if writer is self]
        unseen = writes[mine[-1] + 1 :] if mine else writes
        return unseen[0][2] if unseen else None

    def is_crowded(self) -> bool:
        """Tell whether there are other calls under way."""
        return self._calls[self.url.rest] > 1

    def open(self) -> None:
        with _odd_errors():
            was_open = self._is_open
            super().open()
        if not was_open:
            self._opened[self.url.rest] += 1
            # Somebody else's, here before us.
            for name in ("~", "Ωμέγα hub", "default"):
                self._store.hubs.setdefault(name, ContrarianState())

    def close(self) -> None:
        was_open = self._is_open and not self._is_closed
        super().close()
        if was_open:
            self._opened[self.url.rest] -= 1
            if not self._opened[self.url.rest] and not self.capabilities.durable:
                # Nothing holds the store any more.
                self._store.hubs.clear()

    def create_hub(self, name: str) -> Outcome:
        with _odd_errors(), self._store.lock:
            outcome = super().create_hub(name)
            if outcome is Outcome.OK:
                self._store.hubs[name] = ContrarianState()
            return outcome

    def delete_hub(self, name: str) -> Outcome:
        with _odd_errors():
            return super().delete_hub(name)

    def list_hubs(self) -> list[str]:
        with _odd_errors():
            return super().list_hubs()

    def hub(self, name: str) -> ContrarianHub:
        with _odd_errors():
            self._check_open()
            checks.check_hub_name(name)
        kind = ContrarianHub
        if self.capabilities.single_txn_exchange:
            kind = AtomicHub
        if self.freedoms.fresh_handles:
            return kind(name, self._context, self)
        return self._known_hubs.setdefault(name, kind(name, self._context, self))


class ContrarianAdapter(Adapter):
    """`contrarian://name`: it has no hooks.

    Args:
        configuration: a name in `CONFIGURATIONS`.
    """

    _numbers: ClassVar[Iterator[int]] = count(1)

    def __init__(self, configuration: str) -> None:
        super().__init__(f"contrarian://{configuration}-{next(self._numbers)}")
        self.freedoms = CONFIGURATIONS[configuration]

    def build(self, clock: Clock | None) -> ContrarianProvider:
        return ContrarianProvider(self.url, self.freedoms, clock=clock)

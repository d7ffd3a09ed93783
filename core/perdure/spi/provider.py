"""The provider interface: what a database must do for perdure, and all that it must do.

Who is responsible for what:

* **A provider** stores bytes and keeps the invariants written at each method: atomic commits, exclusive
  leases proven by tokens, ordered inboxes, due times, isolation of hubs. It never parses a payload.
* **The engine** decides everything else: what a message means, retries, the custom status's size, what
  happens to an instance that keeps failing. It calls the hot path from one thread, one `exchange` at a time.
* **Clients** call the client part and the reads, from any thread and any process.

Every list of results has the length and the order of the list of requests. One stale item neither rolls
back its neighbours nor leaks into them. A malformed item makes the whole call raise `InvalidRequest` (or
`TooLarge`, `BadId`) with its index, and nothing of the call is applied. Besides the errors named at a method,
each may raise `Closed`, `Transient` and `AuthFailed`, a write `OutcomeUnknown`, a read `Corrupt`, and a
hub's method `NotFound` where the hub doesn't exist. A provider maps its driver's errors by their codes,
never by their texts; one it doesn't know becomes `OutcomeUnknown` on writes and `Transient` on reads, with
the driver's own as `__cause__`; no message holds a password. Conflicts among calls that run at once (a deadlock, a
serialization failure) it repeats itself.

Ids and names are compared as code points (case-sensitive, neither trimmed nor normalised) and sorted as UTF-8
bytes. An id that is empty, over `Limits.max_id_bytes`, or holds NUL or a lone surrogate raises `BadId`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import ClassVar, Self

from perdure.spi.capabilities import Capabilities, Limits
from perdure.spi.clock import Clock, Millis
from perdure.spi.errors import InvalidRequest, Unsupported
from perdure.spi.records import (
    ActivityBatch,
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    ExchangeResult,
    Fields,
    HistoryPage,
    HubStats,
    InstanceInfo,
    InstanceQuery,
    Lease,
    Message,
    MigrationStep,
    NewInstance,
    OnWake,
    Outcome,
    Page,
    PumpResult,
    PurgeRequest,
    PurgeResult,
    Release,
    SchemaStatus,
    TurnBatch,
    TurnCommit,
)
from perdure.spi.url import ProviderURL

__all__ = ["SPI_VERSION", "Hub", "Provider", "Subscription"]

SPI_VERSION: tuple[int, int] = (0, 1)
"""Of the interface in this module. Frozen as (1, 0) once three databases have passed its suite."""


class Subscription(ABC):
    """A running `Hub.subscribe`."""

    @abstractmethod
    def close(self) -> None:
        """Stop the callbacks: none starts after this returned, and no thread of it is left. Idempotent."""


class Provider(ABC):
    """One storage URL.

    Constructing one does no I/O; `open` connects. All methods may be called from many threads where
    `capabilities.concurrent_threads` says so.

    Args:
        url: the provider URL, as text or parsed.
        clock: where to read the time. None: the database's own clock. With an injected clock there is
            no other: leases, timers, visibility and `updated_at` all come from it.

    Raises:
        InvalidRequest: an `op_` parameter that the provider doesn't know.
    """

    SPI: ClassVar[tuple[int, int]] = SPI_VERSION
    """The interface version that the class was written for."""
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"migrate"})
    """Names of the `op_*` parameters it understands, without the prefix and without `hub`."""

    name: str
    version: str
    capabilities: Capabilities
    limits: Limits

    def __init__(self, url: str | ProviderURL, *, clock: Clock | None = None) -> None:
        self.url = url if isinstance(url, ProviderURL) else ProviderURL.parse(url)
        self.clock = clock
        unknown = sorted(set(self.url.options) - self.OPTIONS)
        if unknown:
            known = ", ".join(f"op_{option}" for option in sorted(self.OPTIONS | {"hub"}))
            raise InvalidRequest(f"unknown parameter op_{unknown[0]} in {self.url}; known here: {known}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def open(self) -> None:
        """Connect, and create the schema if there is none. Idempotent.

        Before it, every call but `schema_status`, `migrate` and `close` raises `Closed`.
        `name`, `version`, `capabilities` and `limits` are final from here on. An old schema is never
        altered unless the URL says `op_migrate=auto`.

        Raises:
            ProviderUnavailable: the store can't be reached, or the driver is missing.
            AuthFailed: the store refused the credentials.
            SchemaMismatch: the schema is behind (and may not be migrated), ahead, or half migrated.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything: connections, threads, subscriptions. Idempotent.

        Leases are not released: they run out. Any later use of the provider or its hubs raises `Closed`,
        `open` included. A call in flight in another thread finishes or raises `Closed`; none hangs.
        """

    @abstractmethod
    def create_hub(self, name: str) -> Outcome:
        """Create the task hub `name` (1 to 64 characters). Returns `OK` or `EXISTS`.

        Raises:
            BadId: the name is malformed.
        """

    @abstractmethod
    def delete_hub(self, name: str) -> Outcome:
        """Delete the hub and everything in it, and nothing of any other. Returns `OK` or `NOT_FOUND`."""

    @abstractmethod
    def hub(self, name: str) -> Hub:
        """Return a handle on an open provider's hub. No I/O: whether it exists shows at the handle's first call."""

    @abstractmethod
    def list_hubs(self) -> list[str]:
        """Return the names of all hubs, sorted as UTF-8 bytes."""

    def schema_status(self) -> SchemaStatus:
        """Compare the store's schema with the one this version writes.

        Works before `open`, only reads, and creates nothing, not even a file. The default suits stores
        that have no schema.
        """
        return SchemaStatus(current=1, latest=1, state="ok")

    def migrate(self, *, to: int | None = None, dry_run: bool = False) -> list[MigrationStep]:
        """Bring the schema to version `to` (None: the latest) and return the steps taken.

        Works before `open`. Steps are idempotent, resumable and serialised among processes; the version is
        written only after its step succeeded. With `dry_run` the steps are returned and nothing changes.

        Raises:
            SchemaMismatch: there is no way to that version.
        """
        del to, dry_run
        return []


class Hub(ABC):
    """One task hub: a tenant, isolated from every other in ids, claims, counts, purges and wake-ups."""

    name: str

    @abstractmethod
    def now(self) -> Millis:
        """Return the time by which leases and due times are judged: the only authority for them."""

    # The hot path, called by the engine.

    @abstractmethod
    def claim_turns(self, request: ClaimTurns) -> TurnBatch:
        """Lease instances that have a deliverable message.

        Provider must:

        * return an instance only if no unexpired lease is on it (`expires_at <= now` is expired), no release
          delay hides it, it is not terminal, its name is in `names`, and a message of it is due; a due
          `control` message makes it claimable whatever the start's due, the names, or a release delay;
        * install a fresh random token and a larger fence, and store `attempt + 1`, with the claim;
        * prefer what has been claimable longest, and where another claim took that, go on to the next: of as many
          claims at once as there are ready items none is left with nothing;
        * deliver the start first, then by (stored due, arrival), at most `max_messages`, as a prefix; nothing
          before its due; what was not consumed comes again at the next claim;
        * deliver control messages alone where the name is not in `names` or the start is not due, so that no cut
          leaves them out; in front of them, uncounted, the start if it is due, for it tells what the instance is; a
          release delay that they override holds nothing back;
        * return a kept instance only by the claim that names its lease in `held`, and then, if it has
          deliverable messages, with the same token and fence, the stored attempt or 1 if that is 0, the lease
          lengthened to `lease_ms` (never shortened); `names` filters these too, control messages excepted; a
          lease in `held` that is no longer current is passed over;
        * answer `more` and `next_due` for what this very request could claim. `next_due` is now where `more` is
          True, else the earliest of due times, ends of release delays, and expiries of leases under which work
          waits: later than now, maybe early, never late, and None exactly where nothing is in sight. Rows skipped
          because somebody locks them count as now + 10 ms; `more` may count them where the claim got `max_items`.

        `max_items` over `Limits.max_batch` is capped; 0 claims nothing.

        Raises:
            InvalidRequest: a negative `max_items`, or a `lease_ms` or `max_messages` under 1.
        """

    @abstractmethod
    def commit_turns(self, commits: Sequence[TurnCommit]) -> list[Outcome]:
        """Apply turns, each whole or not at all.

        Returns, by item: `OK`; `ALREADY`: this `commit_id` was the instance's last commit; `LOST`: the token is
        not the current one; `CONFLICT`: `execution` or `expected_next_seq` is not the stored one, and the
        lease stays. Nothing but `OK` has an effect. An expired lease that nobody took is still good.

        Provider must, in one step:

        * append (or with `rewrite` replace) the events;
        * delete the consumed messages, of those that the lease's last claim delivered, remembering client ids for
          `Limits.dedupe_ms`;
        * in this order: delete `settled` activities of the instance whose leases are current; insert `activities` (a
          known id is the same activity; one that was just settled is new); apply `cancel_activities`, and
          `cancel_all` to those from before;
        * in this order: create `starts` as one batch of `create_instances`, but one that names the committing
          instance never replaces it (`EXISTS`), and send the `on_conflict` of each that answers `EXISTS`; insert
          `messages` (exactly once, behind what is pending, a new child's start among it; dropped where the target
          is unknown, finished, or of another generation); apply `cancel_messages`;
        * set status, failure and the three-valued fields; count `rev` up, and `status_rev` with it if the custom
          status was set or cleared; set the attempt to 0; release the lease, or have it end at now + `keep_ms`.

        A terminal status sets `completed_at` to this commit's `updated_at`, releases the lease even with `keep_ms`,
        and discards the instance's messages, timers and activities, those of this commit included. `continued`
        makes execution + 1 current with its events, input and version; pending messages stay; the old
        execution's history may go.

        A commit of the same batch sees the commits before it.

        Raises:
            TooLarge: a payload is over `max_payload`, or a commit over `max_commit_bytes`.
            InvalidRequest: a due time too far ahead, or `continued` with a terminal status or `rewrite`.
        """

    @abstractmethod
    def claim_activities(self, request: ClaimActivities) -> ActivityBatch:
        """Lease activities that are due, first in first out.

        Exclusive, fenced and counted as in `claim_turns`; `names` and `queues` must both match, and `more` and
        `next_due` speak of them only. An activity is never claimable before the commit that scheduled it is
        durable.

        Raises:
            InvalidRequest: a negative `max_items`, or a `lease_ms` under 1.
        """

    @abstractmethod
    def complete_activities(self, done: Sequence[ActivityDone]) -> list[Outcome]:
        """Delete finished activities and deliver their messages, each pair in one step.

        Returns, by item: `OK`; `LOST`: the token is not the current one, or the activity is gone: nothing is
        delivered. A message whose target can't take it is dropped, and the item is still `OK`.
        """

    @abstractmethod
    def renew(self, leases: Sequence[Lease], for_ms: int) -> list[tuple[Outcome, Lease | None]]:
        """Lengthen leases to now + `for_ms`, expired ones that nobody took among them; never shorten one.

        Returns, by item: `(OK, lease)` with the new expiry; `(LOST, None)`: the token is not the current one;
        `(CANCELLED, None)`: the activity was cancelled or went with its instance. An activity that is gone
        because it was completed may answer either of the two.
        """

    @abstractmethod
    def release(self, items: Sequence[Release]) -> list[Outcome]:
        """Give leases back: claimable again after `delay_ms`, the whole instance with all its messages.

        Returns, by item: `OK` or `LOST`. `penalize=False` takes back the attempt that the claim counted.
        """

    # Clients.

    @abstractmethod
    def create_instances(self, new: Sequence[NewInstance]) -> list[Outcome]:
        """Create instances, each together with its start message.

        Returns, by item: `OK`; `ALREADY`: the same id and generation exist, whatever their status; `EXISTS`:
        the id is taken; `REPLACED`: it was taken by an instance whose status is in `replace_if`; everything
        of that one is gone and its leases are dead, only `rev` goes on counting. Within a batch the first of an id
        wins: again it is `EXISTS` whatever its `replace_if`, or `ALREADY` for the same generation. `on_conflict` is
        ignored here.

        Raises:
            BadId: an id or a name is malformed.
            TooLarge: a payload is over `max_payload`.
            InvalidRequest: too many tags, or a due time that is negative or too far ahead.
        """

    @abstractmethod
    def send_messages(self, messages: Sequence[Message]) -> list[Outcome]:
        """Put messages into inboxes, in order.

        Returns, by item: `OK`, or the first of these that is true: `NOT_FOUND`: no such instance, or of another
        generation; `TERMINAL`: the instance has ended, and its status is not in `reopen`; `DUPLICATE`: the
        instance has one of that id pending, or consumed one within `Limits.dedupe_ms`.

        A message sent with `due=0` is stored with max(now, the latest such value of the instance), so that a
        clock that jumps back reorders nothing. A message that arrives under a lease makes the instance
        claimable right after it.

        Raises:
            BadId, TooLarge, InvalidRequest: as `create_instances`; the id `START_MESSAGE_ID` is a `BadId`.
            Transient: an inbox would hold more than `Limits.max_pending`; nothing was sent.
        """

    # Reads.

    @abstractmethod
    def get_instances(self, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        """Return instances in the order asked, None for each unknown id; any number of ids."""

    @abstractmethod
    def query_instances(self, query: InstanceQuery) -> Page[InstanceInfo]:
        """Return one page of the instances that match: `page_size` of them, and fewer on the last page alone.

        Paging is by key: inserts and purges between pages neither hide nor repeat an instance that was there
        throughout. A cursor outlives the process and belongs to its filter and order.

        Raises:
            InvalidRequest: a cursor that is garbage or another query's, or a `page_size` under 1.
            Unsupported: a filter whose capability is not declared.
        """

    @abstractmethod
    def read_history(self, instance: str, *, after: int = -1, limit: int = 1000) -> HistoryPage:
        """Return events of the current execution from seq `after + 1` on, at most `limit`.

        A page may be shorter than that and have `more`, if its events are many bytes; then it is not empty.

        Raises:
            NotFound: no such instance.
            Corrupt: a stored row can't be decoded, or one is missing.
            InvalidRequest: a `limit` under 1.
        """

    @abstractmethod
    def stats(self) -> HubStats:
        """Count what is there and what waits."""

    # Retention.

    @abstractmethod
    def purge(self, request: PurgeRequest) -> PurgeResult:
        """Delete instances with all that is theirs: history, inbox, activities, leases, remembered ids.

        By id the outcomes are `OK`, `NOT_FOUND`, or `CONFLICT`: it, or with `cascade` one of its descendants,
        has not ended and `force` is not set; then nothing of it is deleted. A query without `force` passes over
        those. Each instance (with `cascade`: each with its descendants) goes in one step; the first of a call
        goes whole even where that is more than `limit`, or it never would.

        Raises:
            InvalidRequest: not exactly one of `ids` and `query`.
            Unsupported: `cascade` where it is not declared.
        """

    # With defaults.

    def exchange(self, exchange: Exchange) -> ExchangeResult:
        """Do one engine round: commit, complete, renew, release, claim turns, claim activities, in that order.

        What a commit made ready is claimable in the same call. Override it to do all in one transaction, declare
        `single_txn_exchange` then, and for nothing less: an error then means that nothing was applied. With this
        default the parts before the one that raises may be applied, and retrying the whole exchange is safe, since
        each part is idempotent or fenced.
        """
        commits = self.commit_turns(exchange.commits) if exchange.commits else []
        done = self.complete_activities(exchange.done) if exchange.done else []
        renewed = self.renew(exchange.renew, exchange.renew_ms) if exchange.renew else []
        released = self.release(exchange.releases) if exchange.releases else []
        turns = self.claim_turns(exchange.claim_turns) if exchange.claim_turns else None
        activities = self.claim_activities(exchange.claim_activities) if exchange.claim_activities else None
        return ExchangeResult(
            commits=commits,
            done=done,
            renewed=renewed,
            released=released,
            turns=turns,
            activities=activities,
            now=self.now(),
        )

    def enlist(
        self, connection: object, *, starts: Sequence[NewInstance] = (), messages: Sequence[Message] = ()
    ) -> list[Outcome]:
        """Put down starts, then messages, in the caller's own transaction, on the caller's own connection.

        When that transaction is committed, they take effect as by `create_instances` and then `send_messages`, those of
        one transaction in the order in which they were put down: every call that begins afterwards finds them. When it
        is rolled back, nothing is left of them.

        Returns, by item, starts first, the outcome as far as it is known before the commit; with any but `OK` and
        `REPLACED` the item was not put down. What turns out only later to be in vain (an id that was taken meanwhile, a
        target that has ended or never came to be) is dropped and logged.

        Provider must: lock nothing that others wait for, so that a transaction that stays open for long holds nobody up
        (a database that has a single writer can't, and says so in its docs); leave the transaction usable where it
        raises for an argument. `Limits.max_pending` may be passed over.

        Raises:
            Unsupported: `caller_transaction` is not declared.
            InvalidRequest: the connection is none that can be used, to another database, or in no transaction.
            BadId, TooLarge, InvalidRequest: as `create_instances` and `send_messages`.
        """
        del connection, starts, messages
        raise Unsupported("caller_transaction")

    def pump(self, budget_ms: int = 50) -> PumpResult:
        """Do housekeeping for about `budget_ms`: roll redo records forward, sweep remembered ids.

        The engine calls it at its start and every 5 s. Nothing may depend on it but what is said to.
        """
        del budget_ms
        return PumpResult()

    def subscribe(self, on_wake: OnWake) -> Subscription | None:
        """Call `on_wake` with hints, from a thread of the provider's; None: this provider only polls.

        Hints are merged under load, and at least one follows the last event. An error from `on_wake` is
        logged and doesn't end the subscription. Nobody relies on hints: all who wait also poll.
        """
        del on_wake
        return None

"""The records that cross the provider interface.

All are slotted and keyword-only, and none is changed after it is made; those built thousands of times
a second are not frozen, since freezing costs three times the construction. Times are `Millis` on the
hub's clock, durations are ms. Payloads are opaque `bytes`: a provider stores them and never looks inside.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from perdure.spi.clock import Millis

__all__ = [
    "START_MESSAGE_ID",
    "UNSET",
    "Activity",
    "ActivityBatch",
    "ActivityDone",
    "ClaimActivities",
    "ClaimTurns",
    "Delivery",
    "Exchange",
    "ExchangeResult",
    "Fields",
    "HistoryPage",
    "HubStats",
    "InstanceInfo",
    "InstanceQuery",
    "Lease",
    "LeaseKind",
    "Message",
    "MigrationStep",
    "NewActivity",
    "NewInstance",
    "NextExecution",
    "OnWake",
    "OrchestrationStatus",
    "Outcome",
    "Page",
    "PumpResult",
    "PurgeRequest",
    "PurgeResult",
    "QueueStats",
    "Release",
    "SchemaStatus",
    "ThreeValued",
    "TurnBatch",
    "TurnCommit",
    "TurnItem",
    "Unset",
    "Wake",
]

START_MESSAGE_ID: Final = "@start"
"""The id under which an instance's start is delivered. It always comes first."""


class Outcome(enum.Enum):
    """What became of one item of a batch."""

    OK = "ok"
    ALREADY = "already"
    """The very same commit or create was applied before; nothing was done now."""
    LOST = "lost"
    """The lease is not the current one (or what it leased is gone); nothing was done."""
    CONFLICT = "conflict"
    """Turn: not the execution or next_seq that was claimed. Purge: the instance, or one under it, still runs."""
    EXISTS = "exists"
    REPLACED = "replaced"
    DUPLICATE = "duplicate"
    NOT_FOUND = "not_found"
    TERMINAL = "terminal"
    """The instance has ended and takes no message."""
    CANCELLED = "cancelled"
    """The activity was cancelled, or went with its instance."""


class OrchestrationStatus(enum.StrEnum):
    """Where an orchestration instance stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TERMINATED = "TERMINATED"

    @property
    def is_terminal(self) -> bool:
        """Whether an instance of this status has ended."""
        return self in _TERMINAL


_TERMINAL = frozenset({OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED})


class Unset(enum.Enum):
    """The type of `UNSET`."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
"""Keep what is stored. None clears it; bytes, `b""` among them, set it."""

ThreeValued: TypeAlias = bytes | Literal[Unset.UNSET] | None


class LeaseKind(enum.Enum):
    """What a lease is the right to do."""

    TURN = "turn"
    ACTIVITY = "activity"


@dataclass(slots=True, kw_only=True)
class Lease:
    """The right to do one turn or one activity, until somebody else takes it."""

    kind: LeaseKind
    key: str
    """Where the provider finds the item again; its meaning is the provider's own."""
    token: str
    """128 random bits or more, fresh for each claim: the only proof of ownership."""
    fence: int
    """Strictly grows with each claim of one item."""
    expires_at: Millis
    """From then on others may claim the item; until somebody does, the token stays good."""


@dataclass(slots=True, kw_only=True)
class Message:
    """Something to be put into an instance's inbox."""

    id: str
    """Unique within an instance: a second one with a pending or remembered id is dropped. Never `START_MESSAGE_ID`."""
    instance: str
    payload: bytes
    generation: str | None = None
    """The incarnation it is meant for; None for whichever is current."""
    due: Millis = 0
    """0: now, in order of arrival. Later: a durable timer. A time that is past is stored as given."""
    control: bool = False
    """Makes the instance claimable once due: whatever its start's due, the names asked for, a release delay.

    Where the name or the start would not allow the claim, it delivers control messages alone."""
    reopen: frozenset[OrchestrationStatus] = frozenset()
    """A finished target whose status is in it turns back to RUNNING in the same step."""


@dataclass(slots=True, kw_only=True)
class Delivery:
    """A message as a claim returns it."""

    id: str
    payload: bytes
    due: Millis
    """As stored: for a message sent with 0, the moment that fixed its place in the order."""
    enqueued_at: Millis
    """When it was put into the inbox."""
    control: bool = False


@dataclass(slots=True, kw_only=True)
class NewActivity:
    """An activity to be scheduled by a commit."""

    id: str
    """Unique within (instance, generation); the same id again is the same activity."""
    name: str
    payload: bytes
    queue: str = "default"
    due: Millis = 0


@dataclass(slots=True, kw_only=True)
class NewInstance:
    """An instance to be created, by a client or by a commit (a sub-orchestration)."""

    id: str
    name: str
    start: bytes
    """Payload of the start message, delivered under `START_MESSAGE_ID`."""
    generation: str
    """Fresh for each incarnation of an id; the same one again is a retry (`ALREADY`)."""
    input: bytes | None = None
    version: str | None = None
    due: Millis = 0
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    replace_if: frozenset[OrchestrationStatus] = frozenset()
    """An existing instance of one of these statuses is replaced; any other gives `EXISTS`, and so does the one
    that commits."""
    on_conflict: Message | None = None
    """In a commit: sent in the same step if the answer is `EXISTS`."""


@dataclass(slots=True, kw_only=True)
class ClaimTurns:
    """A request for leases on instances that have something to do."""

    worker: str
    """For people to read. Never a fence."""
    max_items: int
    lease_ms: int
    names: Collection[str] | None = None
    """Orchestration names this worker registered. None: any. Empty: none. Others come with control messages alone."""
    held: Sequence[Lease] = ()
    """Leases kept by this worker (`TurnCommit.keep_ms`) on which it would go on; `names` filters them too."""
    max_messages: int = 1000
    """Per instance; the rest is a later turn's."""
    inline_history: bool = False
    """Return the current execution's whole history with each item."""


@dataclass(slots=True, kw_only=True)
class TurnItem:
    """One leased instance with its deliverable messages."""

    lease: Lease
    instance: str
    generation: str
    execution: int
    """1 for the first; continue-as-new adds one."""
    name: str
    version: str | None
    status: OrchestrationStatus
    messages: Sequence[Delivery]
    next_seq: int
    """How many events the current execution's history holds."""
    attempt: int
    """Claims since the last successful commit, this one counted; at least 1, also for a held lease."""
    history: Sequence[bytes] | None = None
    """With `inline_history`: all events of the execution; else None."""
    custom_status: bytes | None = None
    memo: bytes | None = None
    error: str | None = None
    """Not None where stored data of this instance can't be decoded; it may still be ended by a commit."""


@dataclass(slots=True, kw_only=True)
class TurnBatch:
    """What `claim_turns` returns."""

    items: Sequence[TurnItem]
    more: bool
    """Whether `max_items` cut the result."""
    next_due: Millis | None
    """When this request could next claim something: now if `more`, else later; maybe early, never late; None:
    nothing is in sight."""
    now: Millis


@dataclass(slots=True, kw_only=True)
class NextExecution:
    """The execution that continue-as-new opens, in the step that closes the old one."""

    events: Sequence[bytes]
    """Its history from seq 0 on."""
    input: bytes | None = None
    version: str | None = None


@dataclass(slots=True, kw_only=True)
class TurnCommit:
    """All that one turn decided: applied whole or not at all."""

    lease: Lease
    commit_id: str
    """The same id again gives `ALREADY` until the instance's next commit."""
    execution: int
    expected_next_seq: int
    """A second fence beside the token; the old value also with `rewrite`."""
    status: OrchestrationStatus
    events: Sequence[bytes] = ()
    """Appended to the current execution's history."""
    consumed: Sequence[str] = ()
    """Ids of messages that are done with. Any that the lease's last claim did not deliver is ignored."""
    activities: Sequence[NewActivity] = ()
    """Applied after `settled`."""
    messages: Sequence[Message] = ()
    """To any instance, those in `starts` among them. One to an unknown or finished instance is dropped, and the
    commit stands."""
    starts: Sequence[NewInstance] = ()
    """Applied before `messages`."""
    cancel_activities: Sequence[str] = ()
    """Ids, applied after `activities`."""
    cancel_all: bool = False
    """Cancel every activity that existed before this commit."""
    cancel_messages: Sequence[str] = ()
    """Ids of this instance's pending messages, applied after `messages`."""
    settled: Sequence[Lease] = ()
    """Leases of this instance's activities whose results `events` hold: deleted in the same step; one that is no longer
    current, or another instance's, is skipped."""
    output: ThreeValued = UNSET
    custom_status: ThreeValued = UNSET
    memo: ThreeValued = UNSET
    """The engine's own state of an instance; nobody else reads it."""
    failure: bytes | None = None
    """Kept with status FAILED only."""
    rewrite: bool = False
    """`events` replace the execution's history."""
    continued: NextExecution | None = None
    keep_ms: int | None = None
    """None releases the lease, as a terminal status does; with a number it ends at now + `keep_ms`, and the next
    turn is the same worker's."""


@dataclass(slots=True, kw_only=True)
class ClaimActivities:
    """A request for leases on activities that are ready."""

    worker: str
    max_items: int
    lease_ms: int
    names: Collection[str] | None = None
    """Activity names this worker registered. None: any. Empty: none."""
    queues: Collection[str] = ("default",)
    """Their union. Empty: none."""


@dataclass(slots=True, kw_only=True)
class Activity:
    """One leased activity."""

    lease: Lease
    id: str
    name: str
    payload: bytes
    queue: str
    instance: str
    generation: str
    attempt: int
    """Claims since it was created, this one counted."""


@dataclass(slots=True, kw_only=True)
class ActivityBatch:
    """What `claim_activities` returns; the fields are those of `TurnBatch`."""

    items: Sequence[Activity]
    more: bool
    next_due: Millis | None
    now: Millis


@dataclass(slots=True, kw_only=True)
class ActivityDone:
    """A finished activity and the message that tells its instance."""

    lease: Lease
    message: Message | None


@dataclass(slots=True, kw_only=True)
class Release:
    """A lease given back."""

    lease: Lease
    delay_ms: int = 0
    """How long the item stays hidden."""
    penalize: bool = True
    """False takes the claim's attempt back, never below 0."""


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One round of an engine: everything it has to say, and what it wants next."""

    commits: Sequence[TurnCommit] = ()
    done: Sequence[ActivityDone] = ()
    renew: Sequence[Lease] = ()
    renew_ms: int = 0
    releases: Sequence[Release] = ()
    claim_turns: ClaimTurns | None = None
    claim_activities: ClaimActivities | None = None


@dataclass(slots=True, kw_only=True)
class ExchangeResult:
    """The answers to an `Exchange`, list by list in the order asked."""

    commits: Sequence[Outcome]
    done: Sequence[Outcome]
    renewed: Sequence[tuple[Outcome, Lease | None]]
    released: Sequence[Outcome]
    turns: TurnBatch | None
    activities: ActivityBatch | None
    now: Millis


class Fields(enum.Flag):
    """Which payloads of an instance a read returns; those left out come back as None."""

    NONE = 0
    INPUT = enum.auto()
    OUTPUT = enum.auto()
    CUSTOM_STATUS = enum.auto()
    FAILURE = enum.auto()
    ALL = INPUT | OUTPUT | CUSTOM_STATUS | FAILURE


@dataclass(slots=True, kw_only=True)
class InstanceInfo:
    """An instance as a reader sees it."""

    id: str
    generation: str
    name: str
    version: str | None
    status: OrchestrationStatus
    execution: int
    created_at: Millis
    updated_at: Millis
    completed_at: Millis | None
    """`updated_at` of the commit that ended it."""
    rev: int
    """Grows with every visible change, by any step, and with nothing else; an instance that replaces another goes on
    from its rev."""
    status_rev: int
    """The rev of the last commit that set or cleared the custom status; 0 before the first of this generation."""
    input: bytes | None
    """Of the current execution."""
    output: bytes | None
    custom_status: bytes | None
    failure: bytes | None
    parent: str | None
    tags: Mapping[str, str]
    next_seq: int


@dataclass(slots=True, kw_only=True, frozen=True)
class InstanceQuery:
    """A filter over instances and a page of it. Filters that are not None must all hold.

    An empty collection matches nothing, but empty `tags` match everything. Ranges include their start and
    exclude their end. The order is (created_at, id), ids as UTF-8 bytes.
    """

    statuses: Collection[OrchestrationStatus] | None = None
    names: Collection[str] | None = None
    versions: Collection[str | None] | None = None
    id_prefix: str | None = None
    """Taken literally: no character in it is special."""
    parent: str | None = None
    """Direct children only."""
    tags: Mapping[str, str] | None = None
    """Each must be there with that value. Needs `tag_query`."""
    created_from: Millis | None = None
    created_to: Millis | None = None
    updated_from: Millis | None = None
    updated_to: Millis | None = None
    completed_from: Millis | None = None
    completed_to: Millis | None = None
    descending: bool = False
    page_size: int = 100
    cursor: str | None = None
    """Of a former page of the same filter and order; opaque."""
    fields: Fields = Fields.ALL


T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Page(Generic[T]):
    """Some of the results of a query."""

    items: Sequence[T]
    cursor: str | None
    """Where the next page starts; None after the last."""


@dataclass(slots=True, kw_only=True)
class HistoryPage:
    """Events of the current execution, in order."""

    events: Sequence[bytes]
    first_seq: int
    """Seq of `events[0]`; what was asked for plus one where there are none."""
    more: bool
    """Whether events follow those of this page."""
    generation: str
    execution: int


@dataclass(slots=True, kw_only=True, frozen=True)
class QueueStats:
    """How much work waits."""

    ready: int
    """Claimable now."""
    leased: int
    """Under an unexpired lease."""
    future: int
    """Waiting for a due time or a release delay."""
    oldest_ready_age_ms: int | None


@dataclass(slots=True, kw_only=True, frozen=True)
class HubStats:
    """Counts over one hub."""

    instances: Mapping[OrchestrationStatus, int]
    """By status; statuses without instances may be missing."""
    turns: QueueStats
    activities: QueueStats
    now: Millis


@dataclass(slots=True, kw_only=True, frozen=True)
class PurgeRequest:
    """Which instances to delete: by `ids` or by `query`, exactly one of the two."""

    ids: Sequence[str] | None = None
    query: InstanceQuery | None = None
    """Its page, order and fields are ignored. Without `force` only finished instances match."""
    force: bool = False
    """Also those that run; whoever holds a lease on them gets `LOST`. Without it a query passes over an instance
    with, in a cascade, a descendant that runs."""
    cascade: bool = False
    """Their descendants too. Needs `purge_cascade`."""
    limit: int | None = None
    """Instances at most, in this call; but the first goes with all its descendants."""
    budget_ms: int | None = None
    """Stop after about this much time."""


@dataclass(slots=True, kw_only=True, frozen=True)
class PurgeResult:
    """What a purge did."""

    deleted: int
    """Instances, descendants counted."""
    complete: bool
    """False where the limit or the budget ended it early: call again."""
    outcomes: Sequence[Outcome] = ()
    """By id, in the order asked (`OK`, `NOT_FOUND`, `CONFLICT`); empty for a query. Ids not reached are missing."""


@dataclass(slots=True, kw_only=True, frozen=True)
class PumpResult:
    """What a `pump` did."""

    done: int = 0
    """Records rolled forward or swept."""
    more: bool = False


@dataclass(slots=True, kw_only=True, frozen=True)
class Wake:
    """A hint that something happened. It may be lost, doubled, spurious or merged with others."""

    kind: Literal["work", "changed"]
    """`work`: something became claimable. `changed`: instances changed visibly."""
    ids: frozenset[str] | None = None
    """Instances concerned; None: any."""


OnWake: TypeAlias = Callable[[Wake], None]


@dataclass(slots=True, kw_only=True, frozen=True)
class SchemaStatus:
    """The schema in the store against the one this version writes."""

    current: int
    """0 where there is none."""
    latest: int
    state: Literal["absent", "ok", "behind", "ahead", "dirty"]


@dataclass(slots=True, kw_only=True, frozen=True)
class MigrationStep:
    """One step from a schema version to the next."""

    version: int
    description: str
    statements: Sequence[str]

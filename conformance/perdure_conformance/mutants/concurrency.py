"""Mistakes that the cases of concurrency find out.

Which interleaving a race needs is not left to luck: between its check and its act a mutant waits, not for long, until
another thread is there as well. It does so in the threads of `at_once` alone, so that nothing else is slow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import pytest

from perdure.spi import (
    Activity,
    ActivityBatch,
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Closed,
    Fields,
    HistoryPage,
    InstanceInfo,
    Lease,
    LeaseKind,
    Message,
    Millis,
    NewInstance,
    Outcome,
    Release,
    TurnBatch,
    TurnCommit,
)
from perdure_conformance import threads
from perdure_conformance.mutant import mutant
from perdure_conformance.threads import is_racing
from perdure_memory import activities, leases, turns
from perdure_memory.hub import MemoryHub
from perdure_memory.inbox import Inbox, PendingMessage
from perdure_memory.messages import deliver
from perdure_memory.provider import MemoryProvider
from perdure_memory.state import HubState, Instance, StoredActivity

_WAIT_SECONDS: Final = 0.25
"""How long a thread waits for another one; where there is one, it comes much sooner."""

_PAUSE_SECONDS: Final = 0.005
"""Long enough for a writer to come in between."""

_PATIENCE_SECONDS: Final = 1.0
"""Enough where it is certain that a thread hangs."""

_BLOCKED_SECONDS: Final = 1.3
"""Longer than a reader may be blocked."""


_VAIN_WAITS: Final = 3
"""So often a thread waits in vain; then it is taken to be the only one."""

_waits = threading.local()


def _wait_for(condition: threading.Condition, there: Callable[[], bool]) -> None:
    """Wait until `there`, or until some time has passed."""
    vain = getattr(_waits, "vain", 0)
    if vain < _VAIN_WAITS and not condition.wait_for(there, _WAIT_SECONDS):
        _waits.vain = vain + 1


class _Meeting:
    """Where two threads that race wait for each other."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: list[object] = []

    def wait(self) -> None:
        """Wait until another thread is here too, or some time has passed."""
        if not is_racing():
            return
        with self._condition:
            if self._waiting:
                self._waiting.pop()
                self._condition.notify_all()
                return
            me = object()
            self._waiting.append(me)
            _wait_for(self._condition, lambda: me not in self._waiting)
            if me in self._waiting:
                self._waiting.remove(me)


class _Gap:
    """Between what one thread reads and what it writes, where another thread is to come in."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._open = 0
        self._passed = 0

    def leave_open(self) -> None:
        """Wait, having read, until another thread came in, or some time has passed."""
        if not is_racing():
            return
        with self._condition:
            self._open += 1
            before = self._passed
            self._condition.notify_all()
            _wait_for(self._condition, lambda: self._passed > before)
            self._open -= 1

    @contextmanager
    def come_in(self) -> Iterator[None]:
        """Wait until the gap is open, or some time has passed, and do something in it."""
        if not is_racing():
            yield
            return
        with self._condition:
            _wait_for(self._condition, lambda: self._open > 0)
        yield
        with self._condition:
            self._passed += 1
            self._condition.notify_all()


def _ready_turns(state: HubState, request: ClaimTurns, now: Millis) -> list[Instance]:
    ready = [instance for at, instance in state.turns if at <= now]
    return [instance for instance in ready if request.names is None or instance.name in request.names]


@mutant("60", "CON-01", source="a race of duroxide-pg")
def losing_a_candidate_ends_the_claim(patch: pytest.MonkeyPatch) -> None:
    """A claim that loses one of its candidates to another one returns nothing, and says to come again."""
    claim, meeting = MemoryHub.claim_turns, _Meeting()

    def give_up(self: MemoryHub, request: ClaimTurns) -> TurnBatch:
        if not is_racing():
            return claim(self, request)
        with self._transaction() as state:
            now = self._clock.now()
            candidates = [] if request.held else _ready_turns(state, request, now)[: max(0, request.max_items)]
        meeting.wait()
        with self._transaction():
            if any(instance.ownership.leased_until() > now for instance in candidates):
                return TurnBatch(items=[], more=False, next_due=now + 10, now=now)
            return claim(self, request)

    patch.setattr(MemoryHub, "claim_turns", give_up)


@mutant("61", "CON-01", "CON-02", "CON-03", source="dbos #541, mongomock")
def claiming_checks_without_a_lock(patch: pytest.MonkeyPatch) -> None:
    """A claim looks for what is ready, and then leases it, without a lock around the two."""
    claim, meeting = MemoryHub.claim_turns, _Meeting()

    def check_then_act(self: MemoryHub, request: ClaimTurns) -> TurnBatch:
        if request.held or request.max_items < 1 or not is_racing():
            return claim(self, request)
        with self._transaction() as state:
            now = self._clock.now()
            candidates = _ready_turns(state, request, now)[: request.max_items]
        meeting.wait()
        with self._transaction() as state:
            items = [turns._lease_turn(state, instance, request, now, None) for instance in candidates]
            return TurnBatch(items=items, more=False, next_due=None, now=now)

    patch.setattr(MemoryHub, "claim_turns", check_then_act)


@mutant("63", "CON-07", source="EvalPlanQual of PostgreSQL")
def committing_overwrites_a_newer_wake_up(patch: pytest.MonkeyPatch) -> None:
    """A commit writes when the instance will be ready as it was before a message that arrived meanwhile."""
    commit, send, gap = MemoryHub.commit_turns, MemoryHub.send_messages, _Gap()

    def commit_late(self: MemoryHub, commits: Sequence[TurnCommit]) -> list[Outcome]:
        if not is_racing():
            return commit(self, commits)
        with self._transaction() as state:
            before = [_pending(state, item.lease) for item in commits]
        gap.leave_open()
        with self._transaction() as state:
            late = [_pending(state, item.lease) - known for item, known in zip(commits, before, strict=True)]
            outcomes = commit(self, commits)
            for item, names, outcome in zip(commits, late, outcomes, strict=True):
                # As it was read: nothing is left but what came late.
                if outcome is Outcome.OK and _pending(state, item.lease) == names:
                    state.turns.discard(state.instances[item.lease.key].number)
            return outcomes

    def send_between(self: MemoryHub, messages: Sequence[Message]) -> list[Outcome]:
        with gap.come_in():
            return send(self, messages)

    patch.setattr(MemoryHub, "commit_turns", commit_late)
    patch.setattr(MemoryHub, "send_messages", send_between)


def _pending(state: HubState, lease: Lease) -> set[str]:
    instance = state.instances.get(lease.key)
    return set() if instance is None else set(instance.inbox._by_id)


@mutant("360", "CON-11", "LIM-14", "CAP-06", source="a clean-up at the start")
def a_new_handle_takes_leases_for_left_behind(patch: pytest.MonkeyPatch) -> None:
    """The first claim of a handle ends all leases, as if a crash had left them behind."""
    claim = MemoryHub.claim_turns
    # By what belongs to the handle, and is kept here, so that its id is not given to another.
    known: dict[tuple[int, str], object] = {}

    def clean_up(self: MemoryHub, request: ClaimTurns) -> TurnBatch:
        handle = (id(self._context), self.name)
        with self._transaction() as state:
            if handle not in known:
                known[handle] = self._context
                for instance in state.instances.values():
                    instance.ownership.release(hidden_until=0, penalize=True)
                    state.reschedule(instance)
            return claim(self, request)

    patch.setattr(MemoryHub, "claim_turns", clean_up)


@mutant("361", "CON-04", source="a SELECT without FOR UPDATE")
def committing_checks_without_a_lock(patch: pytest.MonkeyPatch) -> None:
    """A commit checks its token, and then writes, without a lock around the two."""
    commit, meeting = MemoryHub.commit_turns, _Meeting()

    def check_then_act(self: MemoryHub, commits: Sequence[TurnCommit]) -> list[Outcome]:
        if not is_racing():
            return commit(self, commits)
        with self._transaction() as state:
            good = [item for item in commits if _owns(state, item.lease)]
        meeting.wait()
        with self._transaction() as state:
            if len(good) < len(commits):
                return commit(self, commits)
            again = []
            for item in commits:
                instance = state.instances[item.lease.key]
                instance.ownership.token = item.lease.token
                again.append(replace(item, expected_next_seq=len(instance.history)))
            return commit(self, again)

    patch.setattr(MemoryHub, "commit_turns", check_then_act)


def _owns(state: HubState, lease: Lease) -> bool:
    instance = state.instances.get(lease.key) if lease.kind is LeaseKind.TURN else None
    return instance is not None and instance.ownership.grants(lease)


@mutant("362", "CON-05", source="a DELETE whose count nobody looks at")
def completing_checks_without_a_lock(patch: pytest.MonkeyPatch) -> None:
    """A completion checks its token, and then delivers, without a lock around the two."""
    complete, meeting = MemoryHub.complete_activities, _Meeting()

    def check_then_act(self: MemoryHub, done: Sequence[ActivityDone]) -> list[Outcome]:
        if not is_racing():
            return complete(self, done)
        with self._transaction() as state:
            found = [state.activities.get(item.lease.key) for item in done]
            good = all(
                activity is not None and activity.ownership.grants(item.lease)
                for activity, item in zip(found, done, strict=True)
            )
        meeting.wait()
        with self._transaction() as state:
            if not good:
                return complete(self, done)
            complete(self, [replace(item, message=None) for item in done])
            for item in done:
                if item.message is not None:
                    deliver(state, item.message, self._clock.now())
            return [Outcome.OK] * len(done)

    patch.setattr(MemoryHub, "complete_activities", check_then_act)


@mutant("363", "CON-06", source="find, then upsert")
def creating_checks_without_a_lock(patch: pytest.MonkeyPatch) -> None:
    """A create looks whether the id is taken, and then writes, without a lock around the two."""
    create, meeting = MemoryHub.create_instances, _Meeting()

    def check_then_act(self: MemoryHub, new: Sequence[NewInstance]) -> list[Outcome]:
        if not is_racing():
            return create(self, new)
        with self._transaction() as state:
            free = [item.id not in state.instances for item in new]
        meeting.wait()
        with self._transaction() as state:
            for item, was_free in zip(new, free, strict=True):
                existing = state.instances.get(item.id)
                if was_free and existing is not None:
                    state.remove_instance(existing)
            return create(self, new)

    patch.setattr(MemoryHub, "create_instances", check_then_act)


@mutant("364", "CON-08", source="a message id without a unique key")
def sending_checks_without_a_lock(patch: pytest.MonkeyPatch) -> None:
    """A send looks whether the message is known, and then writes, without a lock around the two."""
    send, meeting = MemoryHub.send_messages, _Meeting()

    def check_then_act(self: MemoryHub, messages: Sequence[Message]) -> list[Outcome]:
        if not is_racing():
            return send(self, messages)
        with self._transaction() as state:
            inboxes = {item.id: item.inbox for item in state.instances.values()}
            now = self._clock.now()
            known = [item.instance in inboxes and inboxes[item.instance].knows(item.id, now) for item in messages]
        meeting.wait()
        outcomes = send(self, messages)
        return [
            Outcome.OK if outcome is Outcome.DUPLICATE and not was_known else outcome
            for outcome, was_known in zip(outcomes, known, strict=True)
        ]

    patch.setattr(MemoryHub, "send_messages", check_then_act)


@mutant("365", "CON-09", source="renewing without the token in the WHERE of the update")
def renewing_checks_without_a_lock(patch: pytest.MonkeyPatch) -> None:
    """A renewal checks its token, and then lengthens the lease that is there, without a lock around the two."""
    claim, renew, gap = MemoryHub.claim_turns, MemoryHub.renew, _Gap()

    def check_then_act(self: MemoryHub, leases: Sequence[Lease], for_ms: int) -> list[tuple[Outcome, Lease | None]]:
        with self._transaction() as state:
            good = _some_expired(self, state) and all(_owns(state, lease) for lease in leases)
        if not good:
            return renew(self, leases, for_ms)
        gap.leave_open()
        return [(Outcome.OK, replace(lease, expires_at=self._clock.now() + for_ms)) for lease in leases]

    def steal(self: MemoryHub, request: ClaimTurns) -> TurnBatch:
        with self._transaction() as state:
            expired = _some_expired(self, state)
        if not expired:
            return claim(self, request)
        with gap.come_in():
            return claim(self, request)

    patch.setattr(MemoryHub, "renew", check_then_act)
    patch.setattr(MemoryHub, "claim_turns", steal)


def _some_expired(hub: MemoryHub, state: HubState) -> bool:
    now = hub._clock.now()
    ownerships = [instance.ownership for instance in state.instances.values()]
    return is_racing() and any(item.token is not None and item.expires_at <= now for item in ownerships)


@mutant("366", "CON-01", "CON-03", "CON-10", source="dbos #541")
def claiming_activities_checks_without_a_lock(patch: pytest.MonkeyPatch) -> None:
    """A claim looks for activities that are ready, and then leases them, without a lock around the two."""
    claim, meeting = MemoryHub.claim_activities, _Meeting()

    def check_then_act(self: MemoryHub, request: ClaimActivities) -> ActivityBatch:
        if not is_racing():
            return claim(self, request)
        with self._transaction() as state:
            now = self._clock.now()
            candidates: list[StoredActivity] = [item for at, item in state.queue if at <= now][: request.max_items]
        if candidates:
            meeting.wait()
        with self._transaction() as state:
            there = [item for item in candidates if item.ownership.key in state.activities]
            items: list[Activity] = [activities._lease_activity(state, item, now + request.lease_ms) for item in there]
            return ActivityBatch(items=items, more=False, next_due=None, now=now)

    patch.setattr(MemoryHub, "claim_activities", check_then_act)


@mutant("367", "CON-14", source="a connection that is closed under a call")
def closing_breaks_calls_in_flight(patch: pytest.MonkeyPatch) -> None:
    """A call that meets the closing of its handle in another thread fails with whatever the driver says."""
    check = MemoryProvider._check_open

    def break_off(self: MemoryProvider) -> None:
        try:
            check(self)
        except Closed:
            if is_racing():
                raise AttributeError("'NoneType' object has no attribute 'execute'") from None
            raise

    patch.setattr(MemoryProvider, "_check_open", break_off)


@mutant("368", "CON-14", source="a queue whose writer is gone")
def closing_leaves_calls_hanging(patch: pytest.MonkeyPatch) -> None:
    """A call that meets the closing of its handle in another thread waits for an answer that never comes."""
    check = MemoryProvider._check_open
    never, hanging = threading.Event(), threading.Lock()

    def hang(self: MemoryProvider) -> None:
        try:
            check(self)
        except Closed:
            # One thread, and not for ever: it is to end some time after it was found out.
            if is_racing() and hanging.acquire(blocking=False):
                never.wait(3 * _PATIENCE_SECONDS)
            raise

    patch.setattr(MemoryProvider, "_check_open", hang)
    patch.setattr(threads, "PATIENCE_SECONDS", _PATIENCE_SECONDS)


@mutant("369", "CON-15", source="one lock for readers and writers, and a row a statement")
def a_large_commit_blocks_readers(patch: pytest.MonkeyPatch) -> None:
    """Readers wait for a commit of many events until the last of them is written."""
    write = turns._write_history

    def write_slowly(instance: Instance, commit: TurnCommit) -> None:
        write(instance, commit)
        if is_racing() and len(commit.events) >= 1_000:
            time.sleep(_BLOCKED_SECONDS)

    patch.setattr(turns, "_write_history", write_slowly)


@mutant("370", "CON-07", "CON-16", source="an inbox that is one document, read, changed and written back")
def committing_writes_back_an_old_inbox(patch: pytest.MonkeyPatch) -> None:
    """A commit writes the inbox back as it read it, without what arrived meanwhile."""
    commit, send, complete = MemoryHub.commit_turns, MemoryHub.send_messages, MemoryHub.complete_activities
    gap = _Gap()

    def write_back(self: MemoryHub, commits: Sequence[TurnCommit]) -> list[Outcome]:
        if not is_racing():
            return commit(self, commits)
        with self._transaction() as state:
            before = [_pending(state, item.lease) for item in commits]
        gap.leave_open()
        with self._transaction() as state:
            late = [_pending(state, item.lease) - known for item, known in zip(commits, before, strict=True)]
            outcomes = commit(self, commits)
            for item, names, outcome in zip(commits, late, outcomes, strict=True):
                if outcome is Outcome.OK:
                    instance = state.instances[item.lease.key]
                    for name in names:
                        instance.inbox.remove(name)
                    state.reschedule(instance)
            return outcomes

    def send_between(self: MemoryHub, messages: Sequence[Message]) -> list[Outcome]:
        with gap.come_in():
            return send(self, messages)

    def complete_between(self: MemoryHub, done: Sequence[ActivityDone]) -> list[Outcome]:
        with gap.come_in():
            return complete(self, done)

    patch.setattr(MemoryHub, "commit_turns", write_back)
    patch.setattr(MemoryHub, "send_messages", send_between)
    patch.setattr(MemoryHub, "complete_activities", complete_between)


@mutant("371", "CON-17", source="INSERT ... ON CONFLICT DO NOTHING")
def a_second_parent_is_not_told(patch: pytest.MonkeyPatch) -> None:
    """Of commits that start one child at once each takes the child for its own."""
    commit, meeting = MemoryHub.commit_turns, _Meeting()

    def check_then_act(self: MemoryHub, commits: Sequence[TurnCommit]) -> list[Outcome]:
        if not is_racing():
            return commit(self, commits)
        with self._transaction() as state:
            free = {new.id for item in commits for new in item.starts if new.id not in state.instances}
        if free:
            meeting.wait()
        # What was free a moment ago is thought to be free still.
        return commit(
            self,
            [
                replace(item, starts=[replace(new, on_conflict=None) if new.id in free else new for new in item.starts])
                for item in commits
            ],
        )

    patch.setattr(MemoryHub, "commit_turns", check_then_act)


@mutant("644", "CON-18", source="a token compared before the update")
def a_late_release_ends_the_next_lease(patch: pytest.MonkeyPatch) -> None:
    """A release asks who owns the item, and later gives it back whoever owns it then."""
    gap = _Gap()
    release, claim_turns, claim_work = MemoryHub.release, MemoryHub.claim_turns, MemoryHub.claim_activities

    def released(self: MemoryHub, items: Sequence[Release]) -> list[Outcome]:
        if not is_racing():
            return release(self, items)
        owned = []
        with self._transaction() as state:
            for item in items:
                owner = leases._find(state, item.lease)
                owned.append(owner if owner is not None and owner.ownership.grants(item.lease) else None)
        gap.leave_open()
        with self._transaction() as state:
            for owner in owned:
                if owner is not None:
                    owner.ownership.release(0, penalize=True)
                    leases._reschedule(state, owner)
        return [Outcome.LOST if owner is None else Outcome.OK for owner in owned]

    def claimed(self: MemoryHub, request: ClaimTurns) -> TurnBatch:
        with gap.come_in():
            return claim_turns(self, request)

    def claimed_work(self: MemoryHub, request: ClaimActivities) -> ActivityBatch:
        with gap.come_in():
            return claim_work(self, request)

    patch.setattr(MemoryHub, "release", released)
    patch.setattr(MemoryHub, "claim_turns", claimed)
    patch.setattr(MemoryHub, "claim_activities", claimed_work)


@mutant("645", "CON-19", source="a row and its payloads read one after the other")
def a_read_is_of_two_moments(patch: pytest.MonkeyPatch) -> None:
    """The payloads of an instance are read somewhat later than its other fields."""
    get = MemoryHub.get_instances

    def got(self: MemoryHub, ids: Sequence[str], *, fields: Fields = Fields.ALL) -> list[InstanceInfo | None]:
        rows = get(self, ids, fields=Fields.NONE)
        if is_racing():
            time.sleep(_PAUSE_SECONDS)
        found = []
        for row, info in zip(rows, get(self, ids, fields=fields), strict=True):
            if row is None or info is None:
                found.append(row)
            else:
                found.append(replace(row, input=info.input, output=info.output, custom_status=info.custom_status))
        return found

    patch.setattr(MemoryHub, "get_instances", got)


@mutant("646", "CON-19", source="a row and its history read one after the other")
def a_history_is_of_two_moments(patch: pytest.MonkeyPatch) -> None:
    """The events of an instance are read somewhat later than which execution it is in."""
    read = MemoryHub.read_history

    def read_late(self: MemoryHub, instance: str, *, after: int = -1, limit: int = 1000) -> HistoryPage:
        page = read(self, instance, after=after, limit=limit)
        if is_racing():
            time.sleep(_PAUSE_SECONDS)
        return replace(page, events=read(self, instance, after=after, limit=limit).events)

    patch.setattr(MemoryHub, "read_history", read_late)


@mutant("648", "CON-20", source="a tidy end")
def closing_gives_activities_back(patch: pytest.MonkeyPatch) -> None:
    """A handle that is closed gives back the activities that were claimed with it."""
    close, claim = MemoryProvider.close, MemoryHub.claim_activities
    mine: dict[int, set[str]] = {}

    def claimed(self: MemoryHub, request: ClaimActivities) -> ActivityBatch:
        batch = claim(self, request)
        mine.setdefault(id(self._context), set()).update(item.lease.token for item in batch.items)
        return batch

    def closed(self: MemoryProvider) -> None:
        with self._store.lock:
            tokens = mine.pop(id(self._context), set())
            for state in self._store.hubs.values():
                for activity in state.activities.values():
                    if activity.ownership.token in tokens:
                        activity.ownership.release(0, penalize=False)
                        state.reschedule_activity(activity)
        close(self)

    patch.setattr(MemoryHub, "claim_activities", claimed)
    patch.setattr(MemoryProvider, "close", closed)


@mutant("647", "CON-20", source="ids remembered in the process")
def a_handle_remembers_what_it_sent(patch: pytest.MonkeyPatch) -> None:
    """An id that was consumed is DUPLICATE only for the handle that sent it."""
    send, knows, add = MemoryHub.send_messages, Inbox.knows, Inbox.add
    sender: list[int] = []
    sent_by: dict[tuple[int, str], int] = {}

    def sent(self: MemoryHub, messages: Sequence[Message]) -> list[Outcome]:
        with self._context.store.lock:
            sender.append(id(self._context))
            try:
                return send(self, messages)
            finally:
                sender.pop()

    def known(self: Inbox, message_id: str, now: Millis) -> bool:
        if message_id in self._by_id or not sender:
            return knows(self, message_id, now)
        return knows(self, message_id, now) and sent_by.get((id(self), message_id)) == sender[-1]

    def added(self: Inbox, message: PendingMessage) -> None:
        add(self, message)
        if sender:
            sent_by[id(self), message.id] = sender[-1]

    patch.setattr(MemoryHub, "send_messages", sent)
    patch.setattr(Inbox, "knows", known)
    patch.setattr(Inbox, "add", added)

"""MOD: generated workloads, on the provider and on the reference.

Both are driven with the same ids and the same clock. What is a provider's own (tokens, keys, fences, the size of steps
of `rev`, ties among instances, how early a `next_due` is) is normalised; everything else that can be read is compared
after each step.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from hypothesis import given, seed
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from perdure.spi import (
    UNSET,
    Activity,
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    ExchangeResult,
    Hub,
    HubStats,
    InstanceInfo,
    InstanceQuery,
    Lease,
    LeaseKind,
    ManualClock,
    Message,
    NewActivity,
    NewInstance,
    NextExecution,
    OrchestrationStatus,
    Outcome,
    Provider,
    PurgeRequest,
    QueueStats,
    Release,
    Transient,
    TurnCommit,
    TurnItem,
)
from perdure_conformance.bench import START, Bench, Fuse
from perdure_conformance.case import Level, case
from perdure_conformance.driver import ENDED, fresh, whole_history
from perdure_conformance.programs import LAPS, PROGRAMS, Program, generation, perform
from perdure_conformance.reference import reference_hub

T = TypeVar("T")

INSTANCES = ["a", "b", "c"]
MESSAGES = ["m1", "m2", "m3"]
ACTIVITIES = ["t1", "t2"]
NAMES = ["n1", "n2"]

statuses = st.sampled_from(OrchestrationStatus)
status_sets = st.frozensets(statuses, max_size=3)
running_mostly = st.sampled_from(
    [OrchestrationStatus.RUNNING] * 9 + [OrchestrationStatus.SUSPENDED] + sorted(ENDED, key=str)
)
delays = st.sampled_from([0, 0, 0, 1, 10, 1000])
names_asked = st.sampled_from([None, None, None, ["n1"], ["n2"], []])
three_valued = st.sampled_from([UNSET, UNSET, None, b"", b"v"])
payloads = st.sampled_from([b"", b"p", b"\x00q"])
lease_times = st.sampled_from([5, 1000])

LOSES_REPLY = 0.3
LOSES_CLAIM = 0.1
BREAKS_OFF = 0.6
"""How often calls have accidents, where they do at all. What a lost claim took is lost until its leases run out."""


@dataclass(slots=True)
class Held:
    """A lease that a claim returned, current or not, on the model and on the provider compared with it."""

    model: Any
    other: Any
    last_commit: Callable[[int], TurnCommit] | None = None


def comparable_info(info: InstanceInfo | None) -> object:
    """Leave the sizes of revs out: how far one grows is a provider's own affair."""
    if info is None:
        return None
    return replace(info, tags=dict(info.tags), rev=0, status_rev=int(info.status_rev > 0))


def comparable_stats(stats: HubStats) -> object:
    def counts(queue: QueueStats) -> object:
        return queue.ready, queue.leased, queue.future, queue.oldest_ready_age_ms is None

    by_status = {status: count for status, count in stats.instances.items() if count}
    return by_status, counts(stats.turns), counts(stats.activities), stats.now


class Comparison(RuleBasedStateMachine):
    """Drives a hub of the reference and one of the provider alike."""

    bench: ClassVar[Bench]
    has_two_handles: ClassVar[bool] = False
    """Whether the provider's hub is used through two handles, now the one and now the other."""
    loses_replies: ClassVar[bool] = False
    """Whether replies are lost at random; the calls are then made again, as the engine and clients do."""
    fuse: ClassVar[Fuse | None] = None
    """With it calls to the driver fail at random too."""

    def __init__(self) -> None:
        super().__init__()
        bench = self.bench
        self.clock = bench.clock
        self.clock.set(START)
        self.closing = ExitStack()
        self.model = self.closing.enter_context(reference_hub(bench, self.clock))
        driver = bench.new_hub()
        self.name = driver.hub.name
        handles = [bench.another_handle() for _ in range(2)] if self.has_two_handles else []
        self.handles: list[Provider] = [handle for handle in handles if handle is not None]
        self.others = [bench.on(handle, self.name).hub for handle in self.handles] or [driver.hub]
        self.place = 0
        self.rng = random.Random(0)
        self.turns: list[Held] = []
        self.work: list[Held] = []
        self.revs: dict[tuple[str, str], tuple[InstanceInfo, InstanceInfo]] = {}
        self.fences: dict[tuple[str, str], int] = {}
        self.tokens: set[str] = set()
        self.checks = 0

    def teardown(self) -> None:
        for provider in self.handles:
            provider.close()
        self.bench.provider.delete_hub(self.name)
        self.closing.close()

    # Asking both.

    def hub(self, side: int) -> Hub:
        """Return the model, or a handle on what is compared with it."""
        if side == 0:
            return self.model
        place = self.rng.randrange(len(self.others))
        if place != self.place:
            self.bench.settle_reads()
        self.place = place
        return self.others[place]

    def same(self, call: Callable[[int, Hub], T], comparable: Callable[[T], object] = lambda answer: answer) -> T:
        """Read from both sides, compare the answers, and return the model's."""
        model, other = (call(side, self.hub(side)) for side in (0, 1))
        assert comparable(other) == comparable(model)
        return model

    def write(
        self,
        call: Callable[[int, Hub], Sequence[T]],
        comparable: Callable[[Sequence[T]], object] = list,
    ) -> Sequence[T]:
        """Change both sides, compare the answers, and return the model's."""
        fuse = self.fuse
        if fuse is None or self.rng.random() > BREAKS_OFF:
            model, other = self.claim(call, LOSES_REPLY)
            assert comparable(other) == comparable(model)
            return model
        model = call(0, self.model)
        fuse.left, fuse.has_blown = self.rng.randrange(14), False
        try:
            other = call(1, self.hub(1))
        except Exception as error:
            if not fuse.has_blown:
                raise
            is_first = isinstance(error, Transient)
            other = call(1, self.hub(1))
        else:
            is_first = not fuse.has_blown
        finally:
            fuse.left = None
        # Where it may have been done before, for all of its items or for some, these were repeated: the answers say
        # so, and what it came to is compared by all that can be read.
        if is_first:
            assert comparable(other) == comparable(model)
        return model

    def claim(self, call: Callable[[int, Hub], T], loses_reply: float = LOSES_CLAIM) -> tuple[T, T]:
        """Change both sides, and return the answers."""
        if self.loses_replies and self.rng.random() < loses_reply:
            for side in (0, 1):
                call(side, self.hub(side))
        return call(0, self.model), call(1, self.hub(1))

    @precondition(lambda self: self.handles and self.bench.capabilities.durable)
    @rule(place=st.integers(0, 1))
    def reopen(self, place: int) -> None:
        self.handles[place].close()
        self.handles[place] = self.bench.connect()
        self.others[place] = self.bench.on(self.handles[place], self.name).hub

    # Clients.

    @initialize(number=st.integers(0, 2**32 - 1))
    def begin(self, number: int) -> None:
        self.rng.seed(number)
        self.create("a", "n1", "g0", 0, frozenset(), None)
        self.create("b", "n2", "g0", 0, frozenset(), "a")

    @rule(
        instance=st.sampled_from(INSTANCES),
        name=st.sampled_from(NAMES),
        generation=st.sampled_from(["g0", "g1", "g2"]),
        delay=delays,
        replace_if=status_sets,
        parent=st.sampled_from([None, *INSTANCES]),
    )
    def create(
        self,
        instance: str,
        name: str,
        generation: str,
        delay: int,
        replace_if: frozenset[OrchestrationStatus],
        parent: str | None,
    ) -> None:
        new = self.new_instance(instance, name, generation, delay, replace_if, parent)
        self.write(lambda _, hub: hub.create_instances([new]))

    def new_instance(
        self,
        instance: str,
        name: str = "n1",
        generation: str = "g0",
        delay: int = 0,
        replace_if: frozenset[OrchestrationStatus] = frozenset(),
        parent: str | None = None,
        on_conflict: Message | None = None,
    ) -> NewInstance:
        return NewInstance(
            id=instance,
            name=name,
            start=b"start",
            generation=generation,
            input=b"in",
            due=self.due(delay),
            replace_if=replace_if,
            parent=parent,
            tags={"k": name},
            on_conflict=on_conflict,
        )

    def due(self, delay: int) -> int:
        return self.clock.now() + delay if delay else 0

    @rule(data=st.data(), count=st.integers(1, 3))
    def send(self, data: st.DataObject, count: int) -> None:
        messages = [data.draw(self.messages()) for _ in range(count)]
        self.write(lambda _, hub: hub.send_messages(messages))

    def messages(self) -> st.SearchStrategy[Message]:
        return st.builds(
            Message,
            id=st.sampled_from(MESSAGES),
            instance=st.sampled_from(INSTANCES),
            payload=payloads,
            generation=st.sampled_from([None, None, None, None, "g0", "g1"]),
            due=delays.map(self.due),
            control=st.sampled_from([False, False, False, True]),
            reopen=st.sampled_from([frozenset(), frozenset(), ENDED]),
        )

    # Claims.

    @rule(
        names=names_asked,
        lease_ms=lease_times,
        max_messages=st.sampled_from([1, 2, 1000]),
        held=st.booleans(),
        inline=st.booleans(),
    )
    def claim_turns(
        self, names: Sequence[str] | None, lease_ms: int, max_messages: int, held: bool, inline: bool
    ) -> None:
        requests = [self.turn_request(side, names, lease_ms, max_messages, held, inline) for side in (0, 1)]
        self.keep_turns(*self.claim(lambda side, hub: hub.claim_turns(requests[side])))

    def turn_request(
        self, side: int, names: Sequence[str] | None, lease_ms: int, max_messages: int, held: bool, inline: bool
    ) -> ClaimTurns:
        leases = [(turn.model, turn.other)[side].lease for turn in self.turns[-3:]] if held else []
        return ClaimTurns(
            worker="w",
            max_items=100,
            lease_ms=lease_ms,
            names=names,
            held=leases,
            max_messages=max_messages,
            inline_history=inline,
        )

    def keep_turns(self, model: Any, other: Any) -> None:
        """Compare two turn batches, whose order may differ in ties, and keep the leases."""
        self.check_batches(model, other)
        ours, theirs = ({item.instance: item for item in batch.items} for batch in (model, other))
        assert theirs.keys() == ours.keys()
        for instance, item in ours.items():
            assert self.comparable_item(theirs[instance]) == self.comparable_item(item)
            lease = theirs[instance].lease
            for turn in self.turns:
                same_lease = turn.model.lease.token == item.lease.token
                assert (turn.other.lease.token == lease.token) == same_lease
            incarnation = (instance, item.generation)
            if lease.token not in self.tokens:
                assert lease.fence > self.fences.get(incarnation, lease.fence - 1)
            self.fences[incarnation] = lease.fence
            self.tokens.add(lease.token)
            self.turns.append(Held(item, theirs[instance]))

    def check_batches(self, model: Any, other: Any) -> None:
        assert (other.more, other.now) == (model.more, model.now)
        if model.next_due is not None:
            # It may be early, never late.
            assert other.next_due is not None
            assert other.next_due <= model.next_due

    @staticmethod
    def comparable_item(item: TurnItem) -> object:
        history = None if item.history is None else list(item.history)
        return replace(item, lease=item.lease.expires_at, messages=list(item.messages), history=history)  # type: ignore[arg-type]

    @rule(names=names_asked, queues=st.sampled_from([["default"], ["q"], ["default", "q"]]), lease_ms=lease_times)
    def claim_activities(self, names: Sequence[str] | None, queues: Sequence[str], lease_ms: int) -> None:
        request = ClaimActivities(worker="w", max_items=100, lease_ms=lease_ms, names=names, queues=queues)
        self.keep_work(*self.claim(lambda _, hub: hub.claim_activities(request)))

    def keep_work(self, model: Any, other: Any) -> None:
        self.check_batches(model, other)
        ours, theirs = ({(item.instance, item.id): item for item in batch.items} for batch in (model, other))
        assert theirs.keys() == ours.keys()
        for key, item in ours.items():
            assert self.comparable_work(theirs[key]) == self.comparable_work(item)
            assert theirs[key].lease.token not in self.tokens
            self.tokens.add(theirs[key].lease.token)
            self.work.append(Held(item, theirs[key]))

    @staticmethod
    def comparable_work(item: Activity) -> object:
        return replace(item, lease=item.lease.expires_at)  # type: ignore[arg-type]

    # Turns.

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.turns[-4:]))
        self.commit_with(held, self.draw_commit(data, held))

    def commit_with(self, held: Held, commit: Callable[[int], TurnCommit]) -> None:
        self.note_commit(held, commit, self.write(lambda side, hub: hub.commit_turns([commit(side)])))

    def note_commit(self, held: Held, commit: Callable[[int], TurnCommit], outcomes: Sequence[Outcome]) -> None:
        # Its id is new: where it was applied before, that was a call whose reply was lost.
        if outcomes[0] not in (Outcome.OK, Outcome.ALREADY):
            return
        held.last_commit = commit
        # Who kept the lease goes on from here.
        info = self.model.get_instances([held.model.instance])[0]
        if info is not None:
            for item in (held.model, held.other):
                item.execution, item.next_seq = info.execution, info.next_seq

    @rule(data=st.data(), rounds=st.integers(1, 4), keeping=st.booleans())
    def work_in_earnest(self, data: st.DataObject, rounds: int, keeping: bool) -> None:
        """Claim and commit whatever there is: left to chance alone few leases would be used in time."""
        for _ in range(rounds):
            turns, work = len(self.turns), len(self.work)
            self.claim_turns(None, 1000, 1000, keeping, False)
            for held in self.turns[turns:]:
                self.commit_with(held, self.draw_commit(data, held, misses=[0]))
            self.claim_activities(None, ["default", "q"], 1000)
            for held in self.work[work:]:
                if data.draw(st.booleans()):
                    self.complete_with(held, data.draw(st.none() | self.messages()))
            self.reads_agree()

    def draw_commit(
        self, data: st.DataObject, held: Held, misses: Sequence[int] = (0, 0, 0, 0, 0, 0, 1)
    ) -> Callable[[int], TurnCommit]:
        """Draw a commit with any effects, and return a function that makes it for either side."""
        item: TurnItem = held.model
        delivered = [delivery.id for delivery in item.messages]
        status = data.draw(running_mostly)
        kind = data.draw(st.sampled_from(["plain", "plain", "plain", "rewrite", "continued"]))
        if status.is_terminal and kind == "continued":
            kind = "plain"
        following = NextExecution(events=[b"n"], input=b"in2", version="2") if kind == "continued" else None
        settled = data.draw(st.lists(st.sampled_from(self.work[-3:]), max_size=2)) if self.work else []
        fields: dict[str, Any] = {
            "commit_id": fresh("commit"),
            "execution": item.execution + data.draw(st.sampled_from(misses)),
            "expected_next_seq": item.next_seq + data.draw(st.sampled_from(misses)),
            "status": status,
            "events": data.draw(st.lists(payloads, max_size=3)),
            "consumed": data.draw(st.sampled_from([delivered, delivered, delivered[:1], delivered[1:], MESSAGES])),
            "activities": data.draw(st.lists(self.activities(), max_size=2)),
            "messages": data.draw(st.lists(self.messages(), max_size=2)),
            "starts": data.draw(st.lists(self.starts(item.instance), max_size=1)),
            "cancel_activities": data.draw(st.lists(st.sampled_from(ACTIVITIES), max_size=1)),
            "cancel_all": data.draw(st.sampled_from([False, False, False, True])),
            "cancel_messages": data.draw(st.lists(st.sampled_from(MESSAGES), max_size=1)),
            "output": data.draw(three_valued),
            "custom_status": data.draw(three_valued),
            "memo": data.draw(three_valued),
            "failure": data.draw(st.sampled_from([None, b"why"])),
            "rewrite": kind == "rewrite",
            "continued": following,
            "keep_ms": data.draw(st.sampled_from([None, None, 5, 1000])),
        }

        def commit(side: int) -> TurnCommit:
            leases = [(work.model, work.other)[side].lease for work in settled]
            return TurnCommit(lease=(held.model, held.other)[side].lease, settled=leases, **fields)

        return commit

    def activities(self) -> st.SearchStrategy[NewActivity]:
        return st.builds(
            NewActivity,
            id=st.sampled_from(ACTIVITIES),
            name=st.sampled_from(NAMES),
            payload=payloads,
            queue=st.sampled_from(["default", "default", "q"]),
            due=delays.map(self.due),
        )

    def starts(self, parent: str) -> st.SearchStrategy[NewInstance]:
        return st.builds(
            self.new_instance,
            instance=st.sampled_from(INSTANCES),
            name=st.sampled_from(NAMES),
            generation=st.sampled_from(["g0", "g1", "g2"]),
            delay=delays,
            replace_if=st.sampled_from([frozenset(), frozenset(), ENDED]),
            parent=st.just(parent),
            on_conflict=st.none() | self.messages(),
        )

    @precondition(lambda self: any(turn.last_commit for turn in self.turns))
    @rule(data=st.data())
    def retry_a_commit(self, data: st.DataObject) -> None:
        made = [turn.last_commit for turn in self.turns if turn.last_commit is not None]
        commit = data.draw(st.sampled_from(made[-3:]))
        self.write(lambda side, hub: hub.commit_turns([commit(side)]))

    # Leases.

    @precondition(lambda self: self.turns or self.work)
    @rule(data=st.data(), for_ms=st.sampled_from([5, 1000]))
    def renew(self, data: st.DataObject, for_ms: int) -> None:
        held = data.draw(st.sampled_from(self.turns[-4:] + self.work[-4:]))
        tokens = {held.model.lease.token, held.other.lease.token}

        def comparable(answer: Sequence[tuple[Outcome, Lease | None]]) -> object:
            ((outcome, lease),) = answer
            # Completed and cancelled may be told alike.
            if lease is None and held.model.lease.kind is LeaseKind.ACTIVITY:
                return "gone"
            return outcome, lease and (lease.expires_at, lease.token in tokens)

        self.write(lambda side, hub: hub.renew([(held.model, held.other)[side].lease], for_ms), comparable)

    @precondition(lambda self: self.turns or self.work)
    @rule(data=st.data(), delay=delays, penalize=st.booleans())
    def release(self, data: st.DataObject, delay: int, penalize: bool) -> None:
        held = data.draw(st.sampled_from(self.turns[-4:] + self.work[-4:]))

        def release(side: int, hub: Hub) -> list[Outcome]:
            lease = (held.model, held.other)[side].lease
            return hub.release([Release(lease=lease, delay_ms=delay, penalize=penalize)])

        self.write(release)

    @precondition(lambda self: self.work)
    @rule(data=st.data(), with_message=st.booleans())
    def complete(self, data: st.DataObject, with_message: bool) -> None:
        held = data.draw(st.sampled_from(self.work[-4:]))
        self.complete_with(held, data.draw(self.messages()) if with_message else None)

    def complete_with(self, held: Held, message: Message | None) -> None:
        def complete(side: int, hub: Hub) -> list[Outcome]:
            lease = (held.model, held.other)[side].lease
            return hub.complete_activities([ActivityDone(lease=lease, message=message)])

        self.write(complete)

    # All at once.

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), lease_ms=lease_times)
    def exchange(self, data: st.DataObject, lease_ms: int) -> None:
        held = data.draw(st.sampled_from(self.turns[-4:]))
        commit = self.draw_commit(data, held)
        work = ClaimActivities(worker="w", max_items=100, lease_ms=lease_ms)

        def exchange(side: int, hub: Hub) -> ExchangeResult:
            turns = self.turn_request(side, None, lease_ms, 1000, False, False)
            return hub.exchange(Exchange(commits=[commit(side)], claim_turns=turns, claim_activities=work))

        model, other = self.claim(exchange)
        assert list(other.commits) == list(model.commits)
        self.note_commit(held, commit, model.commits)
        self.keep_turns(model.turns, other.turns)
        self.keep_work(model.activities, other.activities)

    @precondition(lambda self: len(self.turns) > 1)
    @rule(data=st.data())
    def commit_together(self, data: st.DataObject) -> None:
        """Several commits in one call, each of which sees those before it; two may be of one lease."""
        chosen = data.draw(st.lists(st.sampled_from(self.turns[-4:]), min_size=2, max_size=3))
        commits = [self.draw_commit(data, held) for held in chosen]
        outcomes = self.write(lambda side, hub: hub.commit_turns([commit(side) for commit in commits]))
        for held, commit, outcome in zip(chosen, commits, outcomes, strict=True):
            self.note_commit(held, commit, [outcome])

    # Retention and time.

    @rule(instance=st.sampled_from(INSTANCES), force=st.sampled_from([False, False, True]), cascade=st.booleans())
    def purge(self, instance: str, force: bool, cascade: bool) -> None:
        cascade = cascade and self.bench.capabilities.purge_cascade
        request = PurgeRequest(ids=[instance], force=force, cascade=cascade)

        def purge(_: int, hub: Hub) -> Sequence[object]:
            result = hub.purge(request)
            return result.deleted, list(result.outcomes)

        self.write(purge)
        self.forget_the_purged()

    @rule(wanted=status_sets, cascade=st.booleans())
    def purge_found(self, wanted: frozenset[OrchestrationStatus], cascade: bool) -> None:
        cascade = cascade and self.bench.capabilities.purge_cascade
        request = PurgeRequest(query=InstanceQuery(statuses=wanted), cascade=cascade)

        def purge(_: int, hub: Hub) -> Sequence[object]:
            result = hub.purge(request)
            return result.deleted, result.complete

        self.write(purge)
        self.forget_the_purged()

    def forget_the_purged(self) -> None:
        """A later incarnation of a purged id counts its revs and fences anew."""
        for instance, info in zip(INSTANCES, self.model.get_instances(INSTANCES), strict=True):
            if info is None:
                for known in (self.revs, self.fences):
                    for incarnation in [key for key in known if key[0] == instance]:
                        del known[incarnation]

    @rule(ms=st.sampled_from([1, 4, 5, 10, 1000, 600_000, -3]))
    def advance(self, ms: int) -> None:
        self.clock.advance(ms)

    @rule(names=names_asked)
    def nothing_comes_before_next_due(self, names: Sequence[str] | None) -> None:
        self.claim_turns(names, 1000, 1000, False, False)
        requests = [self.turn_request(side, names, 1000, 1000, False, False) for side in (0, 1)]
        model, other = self.claim(lambda side, hub: hub.claim_turns(requests[side]))
        self.keep_turns(model, other)
        now = self.clock.now()
        self.clock.set(now + 10_000 if model.next_due is None else max(now, model.next_due - 1))
        model, other = self.claim(lambda side, hub: hub.claim_turns(requests[side]))
        assert not list(other.items)
        self.keep_turns(model, other)

    @rule()
    def pump(self) -> None:
        for side in (0, 1):
            self.hub(side).pump()

    # What must hold after every step.

    @invariant()
    def reads_agree(self) -> None:
        infos = [self.hub(side).get_instances(INSTANCES) for side in (0, 1)]
        assert [comparable_info(info) for info in infos[1]] == [comparable_info(info) for info in infos[0]]
        for ours, theirs in zip(*infos, strict=True):
            if ours is None or theirs is None:
                continue
            self.check_revs(ours, theirs)
            _, events = self.same(
                lambda _, hub, name=ours.id: (hub.read_history(name), whole_history(hub, name)),  # type: ignore[misc]
                lambda read: (read[1], read[0].first_seq, read[0].generation, read[0].execution),
            )
            assert len(events) == ours.next_seq
        self.same(lambda _, hub: hub.stats(), comparable_stats)
        # One at a time: queries take longer than all else.
        queries = [InstanceQuery(), InstanceQuery(parent="a", descending=True)]
        if self.bench.capabilities.tag_query:
            queries.append(InstanceQuery(tags={"k": "n1"}))
        self.checks += 1
        query = queries[self.checks % len(queries)]
        self.same(
            lambda _, hub: hub.query_instances(query), lambda page: [comparable_info(info) for info in page.items]
        )

    def check_revs(self, ours: InstanceInfo, theirs: InstanceInfo) -> None:
        """Check that the revs move where they must, whatever they are."""
        last = self.revs.get((ours.id, ours.generation))
        if last is not None:
            our_last, their_last = last
            assert theirs.rev >= their_last.rev
            if ours.rev > our_last.rev:
                assert theirs.rev > their_last.rev
            assert (theirs.status_rev > their_last.status_rev) == (ours.status_rev > our_last.status_rev)
        assert theirs.rev >= theirs.status_rev
        self.revs[ours.id, ours.generation] = (ours, theirs)


class Sorted:
    """A hub that returns what it leases in an order that doesn't depend on ties or ids: that of creation."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._numbers: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hub, name)

    def number(self, instance: str) -> int:
        """Return which instance it is, by the order in which they were first named."""
        return self._numbers.setdefault(instance, len(self._numbers))

    def exchange(self, exchange: Exchange) -> ExchangeResult:
        for commit in exchange.commits:
            for new in commit.starts:
                self.number(new.id)
        result = self._hub.exchange(exchange)
        if result.turns is not None:
            result.turns.items = sorted(result.turns.items, key=lambda item: self.number(item.instance))
        if result.activities is not None:
            # The engine's ids end in the place at which they were scheduled.
            result.activities.items = sorted(
                result.activities.items,
                key=lambda item: (self.number(item.instance), int(item.id.rpartition(":")[2])),
            )
        return result


def outcome_of(hub: Hub, clock: ManualClock, program: Program, laps: int) -> str:
    """Run a program, and return all that it left behind, with ids replaced by numbers in order of their appearance."""
    ordered: Any = Sorted(hub)
    ordered.number("root")
    perform(ordered, clock, program, laps)
    infos = sorted(hub.query_instances(InstanceQuery(page_size=1000)).items, key=lambda info: ordered.number(info.id))
    told = []
    for info in infos:
        plain = replace(info, rev=0, status_rev=int(info.status_rev > 0), tags=dict(info.tags))
        told += [repr(plain), *map(repr, whole_history(hub, info.id))]
    known: dict[str, str] = {}
    return re.sub("[0-9a-f]{32}", lambda found: known.setdefault(found[0], f"#{len(known)}"), "\n".join(told))


def compare(bench: Bench, machine: type[Comparison], *, few: int, many: int) -> None:
    """Run generated sequences of calls on both."""
    machine.bench = bench
    try:
        run_state_machine_as_test(seed(bench.seed)(machine), settings=generation(bench, few=few, many=many))
    except Flaky as error:
        raise AssertionError("the same calls were not answered alike when they were made again") from error


class ModelCases:
    """Cases MOD."""

    @case("I4", "I7", "I3", slow=True)
    def test_mod_01_any_sequence_of_calls_is_answered_as_by_the_reference(self, bench: Bench) -> None:
        """Whatever is done in whatever order, the provider answers, and can be read, as the reference can."""

        class Machine(Comparison):
            pass

        compare(bench, Machine, few=4, many=100)

    @case("I19", "I4", "I20", level=Level.L1, slow=True)
    def test_mod_02_through_two_handles_in_turn(self, bench: Bench) -> None:
        """Two handles on one store, used in turn and opened anew, see and do the same as one."""

        class Machine(Comparison):
            has_two_handles = True

        compare(bench, Machine, few=3, many=60)

    @case("I5", "I4", "I7", slow=True)
    def test_mod_03_calls_whose_answers_are_lost_are_repeated(self, bench: Bench) -> None:
        """A call that is repeated because its answer was lost, or because it broke off, has its effect once."""

        class Machine(Comparison):
            loses_replies = True

        if not bench.adapter.has("intercept"):
            compare(bench, Machine, few=3, many=60)
            return
        Machine.fuse = fuse = Fuse()
        with bench.intercepted(fuse.burn):
            compare(bench, Machine, few=3, many=60)

    @case("ENGINE", "I6", "I8", slow=True)
    def test_mod_04_orchestrations_leave_the_same_history(self, bench: Bench) -> None:
        """Random orchestrations, run by the real engine, leave histories that equal the reference's but for ids."""

        @seed(bench.seed)
        @generation(bench, few=10, many=100)
        @given(program=PROGRAMS, laps=LAPS)
        def check(program: Program, laps: int) -> None:
            clock = ManualClock(START)
            with reference_hub(bench, clock) as model:
                expected = outcome_of(model, clock, program, laps)
            bench.clock.set(START)
            came = outcome_of(bench.new_hub().hub, bench.clock, program, laps)
            assert came == expected

        check()

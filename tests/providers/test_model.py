"""The memory provider as a model: whatever is done to both, the other provider must answer the same.

Both are driven with the same ids and the same clock. What is a provider's own (tokens, keys, fences, the
size of steps of `rev`, ties among instances) is normalised; everything else that can be read is compared
after each step.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.providers.conftest import provider_class

from perdure.spi import (
    UNSET,
    Activity,
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Exchange,
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
    PurgeRequest,
    Release,
    TurnCommit,
    TurnItem,
)
from perdure_conformance.driver import ENDED, fresh

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
    return replace(info, rev=0, status_rev=int(info.status_rev > 0))


def comparable_stats(stats: HubStats) -> object:
    counts = {status: count for status, count in stats.instances.items() if count}
    return counts, stats.turns, stats.activities, stats.now


class ProviderModel(RuleBasedStateMachine):
    """Drives two hubs alike."""

    scheme = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        url = f"sqlite:///{self.directory.name}/t.db" if self.scheme == "sqlite" else f"memory://{fresh('other')}"
        self.clock = ManualClock()
        model = provider_class("memory")(f"memory://{fresh('model')}", clock=self.clock)
        other = provider_class(self.scheme)(url, clock=self.clock)
        for provider in (model, other):
            provider.open()
            provider.create_hub("h")
        self.providers = (model, other)
        self.hubs = (model.hub("h"), other.hub("h"))
        self.turns: list[Held] = []
        self.work: list[Held] = []
        self.revs: dict[str, tuple[int, int]] = {}

    def teardown(self) -> None:
        for provider in self.providers:
            provider.close()
        self.directory.cleanup()

    def same(self, call: Callable[[int, Hub], T], comparable: Callable[[T], object] = lambda answer: answer) -> T:
        """Call both sides, compare the answers, and return the model's."""
        model, other = (call(side, hub) for side, hub in enumerate(self.hubs))
        assert comparable(other) == comparable(model)
        return model

    # Clients.

    @initialize()
    def begin(self) -> None:
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
        self.same(lambda _, hub: hub.create_instances([new]))

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
        self.same(lambda _, hub: hub.send_messages(messages))

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
        def claim(side: int, hub: Hub) -> Any:
            return hub.claim_turns(self.turn_request(side, names, lease_ms, max_messages, held, inline))

        model, other = (claim(side, hub) for side, hub in enumerate(self.hubs))
        self.keep_turns(model, other)

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
        assert (other.more, other.next_due, other.now) == (model.more, model.next_due, model.now)
        ours, theirs = ({item.instance: item for item in batch.items} for batch in (model, other))
        assert theirs.keys() == ours.keys()
        for instance, item in ours.items():
            assert self.comparable_item(theirs[instance]) == self.comparable_item(item)
            for turn in self.turns:
                same_lease = turn.model.lease.token == item.lease.token
                assert same_lease == (turn.other.lease.token == theirs[instance].lease.token)
            self.turns.append(Held(item, theirs[instance]))

    @staticmethod
    def comparable_item(item: TurnItem) -> object:
        history = None if item.history is None else list(item.history)
        return replace(item, lease=item.lease.expires_at, messages=list(item.messages), history=history)  # type: ignore[arg-type]

    @rule(names=names_asked, queues=st.sampled_from([["default"], ["q"], ["default", "q"]]), lease_ms=lease_times)
    def claim_activities(self, names: Sequence[str] | None, queues: Sequence[str], lease_ms: int) -> None:
        request = ClaimActivities(worker="w", max_items=100, lease_ms=lease_ms, names=names, queues=queues)
        model, other = (hub.claim_activities(request) for hub in self.hubs)
        self.keep_work(model, other)

    def keep_work(self, model: Any, other: Any) -> None:
        assert (other.more, other.next_due, other.now) == (model.more, model.next_due, model.now)
        ours, theirs = ({(item.instance, item.id): item for item in batch.items} for batch in (model, other))
        assert theirs.keys() == ours.keys()
        for key, item in ours.items():
            assert self.comparable_work(theirs[key]) == self.comparable_work(item)
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
        self.note_commit(held, commit, self.same(lambda side, hub: hub.commit_turns([commit(side)])))

    def note_commit(self, held: Held, commit: Callable[[int], TurnCommit], outcomes: Sequence[Outcome]) -> None:
        if list(outcomes) != [Outcome.OK]:
            return
        held.last_commit = commit
        # Who kept the lease goes on from here.
        info = self.hubs[0].get_instances([held.model.instance])[0]
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
        self.same(lambda side, hub: hub.commit_turns([commit(side)]))

    # Leases.

    @precondition(lambda self: self.turns or self.work)
    @rule(data=st.data(), for_ms=st.sampled_from([5, 1000]))
    def renew(self, data: st.DataObject, for_ms: int) -> None:
        held = data.draw(st.sampled_from(self.turns[-4:] + self.work[-4:]))

        def comparable(answer: list[tuple[Outcome, Lease | None]]) -> object:
            ((outcome, lease),) = answer
            # Completed and cancelled may be told alike.
            if lease is None and held.model.lease.kind is LeaseKind.ACTIVITY:
                return "gone"
            return outcome, lease and lease.expires_at

        self.same(lambda side, hub: hub.renew([(held.model, held.other)[side].lease], for_ms), comparable)

    @precondition(lambda self: self.turns or self.work)
    @rule(data=st.data(), delay=delays, penalize=st.booleans())
    def release(self, data: st.DataObject, delay: int, penalize: bool) -> None:
        held = data.draw(st.sampled_from(self.turns[-4:] + self.work[-4:]))

        def release(side: int, hub: Hub) -> list[Outcome]:
            lease = (held.model, held.other)[side].lease
            return hub.release([Release(lease=lease, delay_ms=delay, penalize=penalize)])

        self.same(release)

    @precondition(lambda self: self.work)
    @rule(data=st.data(), with_message=st.booleans())
    def complete(self, data: st.DataObject, with_message: bool) -> None:
        held = data.draw(st.sampled_from(self.work[-4:]))
        self.complete_with(held, data.draw(self.messages()) if with_message else None)

    def complete_with(self, held: Held, message: Message | None) -> None:
        def complete(side: int, hub: Hub) -> list[Outcome]:
            lease = (held.model, held.other)[side].lease
            return hub.complete_activities([ActivityDone(lease=lease, message=message)])

        self.same(complete)

    # All at once.

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), lease_ms=lease_times)
    def exchange(self, data: st.DataObject, lease_ms: int) -> None:
        held = data.draw(st.sampled_from(self.turns[-4:]))
        commit = self.draw_commit(data, held)
        work = ClaimActivities(worker="w", max_items=100, lease_ms=lease_ms)

        def exchange(side: int) -> Exchange:
            turns = self.turn_request(side, None, lease_ms, 1000, False, False)
            return Exchange(commits=[commit(side)], claim_turns=turns, claim_activities=work)

        model, other = (hub.exchange(exchange(side)) for side, hub in enumerate(self.hubs))
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
        outcomes = self.same(lambda side, hub: hub.commit_turns([commit(side) for commit in commits]))
        for held, commit, outcome in zip(chosen, commits, outcomes, strict=True):
            self.note_commit(held, commit, [outcome])

    # Retention and time.

    @rule(instance=st.sampled_from(INSTANCES), force=st.sampled_from([False, False, True]), cascade=st.booleans())
    def purge(self, instance: str, force: bool, cascade: bool) -> None:
        request = PurgeRequest(ids=[instance], force=force, cascade=cascade)
        self.same(lambda _, hub: hub.purge(request), lambda result: (result.deleted, list(result.outcomes)))
        self.forget_the_purged()

    @rule(wanted=status_sets, cascade=st.booleans())
    def purge_found(self, wanted: frozenset[OrchestrationStatus], cascade: bool) -> None:
        request = PurgeRequest(query=InstanceQuery(statuses=wanted), cascade=cascade)
        self.same(lambda _, hub: hub.purge(request), lambda result: (result.deleted, result.complete))
        self.forget_the_purged()

    def forget_the_purged(self) -> None:
        """A later incarnation of a purged id counts its revs anew."""
        for instance, info in zip(INSTANCES, self.hubs[0].get_instances(INSTANCES), strict=True):
            if info is None:
                self.revs.pop(instance, None)

    @rule(ms=st.sampled_from([1, 4, 5, 10, 1000, 600_000, -3]))
    def advance(self, ms: int) -> None:
        self.clock.advance(ms)

    @rule(names=names_asked)
    def nothing_comes_before_next_due(self, names: Sequence[str] | None) -> None:
        self.claim_turns(names, 1000, 1000, False, False)
        requests = [self.turn_request(side, names, 1000, 1000, False, False) for side in (0, 1)]
        batch = self.same(lambda side, hub: hub.claim_turns(requests[side]))
        assert not batch.items
        now = self.clock.now()
        self.clock.set(now + 10_000 if batch.next_due is None else batch.next_due - 1)
        batch = self.same(lambda side, hub: hub.claim_turns(requests[side]))
        assert not batch.items

    @rule()
    def pump(self) -> None:
        for hub in self.hubs:
            hub.pump()

    # What must hold after every step.

    @invariant()
    def reads_agree(self) -> None:
        infos = self.same(
            lambda _, hub: hub.get_instances(INSTANCES), lambda found: [comparable_info(info) for info in found]
        )
        for info in infos:
            if info is not None:
                page = self.same(
                    lambda _, hub, name=info.id: hub.read_history(name),  # type: ignore[misc]
                    lambda page: (list(page.events), page.first_seq, page.more, page.generation, page.execution),
                )
                assert len(page.events) == info.next_seq
        self.same(lambda _, hub: hub.stats(), comparable_stats)
        for query in (InstanceQuery(), InstanceQuery(parent="a", descending=True), InstanceQuery(tags={"k": "n1"})):
            self.same(
                lambda _, hub, query=query: hub.query_instances(query),  # type: ignore[misc]
                lambda page: [info.id for info in page.items],
            )

    @invariant()
    def revs_move_together(self) -> None:
        pairs = zip(INSTANCES, *(hub.get_instances(INSTANCES) for hub in self.hubs), strict=True)
        for instance, ours, theirs in pairs:
            if ours is None or theirs is None:
                continue
            before = self.revs.get(instance, (0, 0))
            assert theirs.rev >= before[1]
            assert (ours.rev > before[0]) == (theirs.rev > before[1])
            assert (ours.status_rev == ours.rev) == (theirs.status_rev == theirs.rev)
            self.revs[instance] = (ours.rev, theirs.rev)


@pytest.mark.parametrize("compared", ["memory", "sqlite"])
def test_a_provider_does_what_the_model_does(compared: str) -> None:
    provider_class(compared)

    class Machine(ProviderModel):
        scheme = compared

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    # A few on each run of the tests; thousands when somebody looks for trouble.
    examples = int(os.environ.get("PERDURE_MODEL_EXAMPLES", "50"))
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=50, deadline=None, suppress_health_check=checks, database=None
        ),
    )

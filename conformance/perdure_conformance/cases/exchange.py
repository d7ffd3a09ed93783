"""BAT: batches are as good as single calls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import pytest

from perdure.spi import (
    UNSET,
    Activity,
    ActivityDone,
    ClaimActivities,
    ClaimTurns,
    Exchange,
    ExchangeResult,
    Fields,
    Hub,
    InstanceInfo,
    InstanceQuery,
    InvalidRequest,
    Message,
    NewInstance,
    NextExecution,
    Outcome,
    Release,
    TooLarge,
    TurnCommit,
    TurnItem,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import case
from perdure_conformance.cases.atomicity import MIXES, commit_good_and_stale
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    FAILED,
    LEASE_MS,
    RUNNING,
    SUSPENDED,
    ByExchange,
    Driver,
    activity,
    fresh,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
    turn_commit,
    whole_history,
)
from perdure_conformance.reference import reference_hub

ROUNDS: Final = 200
MANY: Final = 100

GONE: Final = (Outcome.LOST, Outcome.CANCELLED)
"""What a renewal of a completed activity may answer."""

TURNS: Final = ClaimTurns(worker="w", max_items=1000, lease_ms=LEASE_MS)
WORK: Final = ClaimActivities(worker="w", max_items=1000, lease_ms=LEASE_MS)


@dataclass(slots=True)
class Pair:
    """What a claim returned on the reference and on the provider under test."""

    model: Any
    other: Any

    def on(self, side: int) -> Any:
        return (self.model, self.other)[side]


class Twins:
    """Two hubs of which one makes the rounds by `exchange`, the other by single calls; both must do the same."""

    INSTANCES = ("a", "b", "c", "d")
    ACTIVITIES = ("t1", "t2")
    NAMES = ("n1", "n2")

    def __init__(self, bench: Bench, model: Hub) -> None:
        self.rng = bench.rng
        self.clock = bench.clock
        self.hubs = (model, bench.hub)
        self.turns: list[Pair] = []
        self.work: list[Pair] = []

    def round(self) -> None:
        """Let clients do something, make one exchange, and compare all that can be read."""
        self.clock.advance(self.rng.choice([0, 0, 1, 5, 1000]))
        self.same(Hub.create_instances, [self.new_instance(name) for name in self.few(self.INSTANCES)])
        self.same(Hub.send_messages, [self.message() for _ in range(self.rng.randrange(4))])
        self.exchange()
        self.compare()

    def same(self, call: Callable[..., Any], *args: Any, comparable: Callable[[Any], object] = list) -> Any:
        """Make a call on both hubs, compare the answers, and return the reference's."""
        model, other = (getattr(hub, call.__name__)(*args) for hub in self.hubs)
        assert comparable(other) == comparable(model)
        return model

    # Drawing.

    def chance(self, one_in: int) -> bool:
        return self.rng.randrange(one_in) == 0

    def few(self, items: Sequence[Any], most: int = 2) -> list[Any]:
        return self.rng.sample(items, self.rng.randrange(min(most, len(items)) + 1))

    def due(self) -> int:
        delay = self.rng.choice([0, 0, 0, 1, 10, 1000])
        return self.clock.now() + delay if delay else 0

    def message(self) -> Message:
        return message(
            # Some of them twice, but none after it may have been forgotten.
            fresh("m") if self.chance(2) else f"m{self.rng.randrange(3)}-{self.clock.now() // 100_000}",
            self.rng.choice(self.INSTANCES),
            payload=self.rng.choice([b"", b"p", b"\0q"]),
            generation=self.rng.choice([None, None, None, "g0", "g1"]),
            due=self.due(),
            control=self.chance(5),
            reopen=ENDED if self.chance(4) else frozenset(),
        )

    def new_instance(self, instance: str, parent: str | None = None) -> NewInstance:
        return new_instance(
            instance,
            name=self.rng.choice(self.NAMES),
            generation=self.rng.choice(["g0", "g1", "g2"]),
            input=self.rng.choice([None, b"in"]),
            due=self.due(),
            replace_if=ENDED,
            parent=parent,
            on_conflict=self.message() if parent and self.chance(2) else None,
        )

    def commit(self, pair: Pair) -> Callable[[int], TurnCommit]:
        """Draw a commit with any effects, and return what makes it for either side."""
        rng, item = self.rng, pair.model
        delivered = ids_of(item.messages)
        status = rng.choice([RUNNING] * 8 + [SUSPENDED, COMPLETED, FAILED])
        kind = rng.choice(["plain", "plain", "plain", "rewrite", "continued"])
        goes_on = kind == "continued" and not status.is_terminal
        settled = self.few([work for work in self.work[-9:] if work.model.instance == item.instance])
        fields: dict[str, Any] = {
            "commit_id": fresh("commit"),
            "execution": item.execution + self.chance(10),
            "expected_next_seq": item.next_seq + self.chance(10),
            "status": status,
            "events": [rng.choice([b"", b"e", b"\0f"]) for _ in range(rng.randrange(4))],
            "consumed": rng.choice([delivered, delivered, delivered[:1], delivered[1:], []]),
            "activities": [self.activity(name) for name in self.few(self.ACTIVITIES)],
            "messages": [self.message() for _ in range(rng.randrange(3))],
            "starts": [self.new_instance(name, item.instance) for name in self.few(self.INSTANCES, 1)],
            "cancel_activities": self.few(self.ACTIVITIES, 1),
            "cancel_all": self.chance(5),
            "cancel_messages": self.few(delivered, 1),
            "rewrite": kind == "rewrite",
            "continued": NextExecution(events=[b"n"], input=b"in2", version="2") if goes_on else None,
            "failure": rng.choice([None, b"why"]),
            "keep_ms": rng.choice([None, None, 5, 1000]),
            **{name: rng.choice([UNSET, None, b"", b"v"]) for name in ("output", "custom_status", "memo")},
        }

        def make(side: int) -> TurnCommit:
            return TurnCommit(lease=pair.on(side).lease, settled=[work.on(side).lease for work in settled], **fields)

        return make

    def activity(self, name: str) -> Any:
        return activity(name, name=self.rng.choice(self.NAMES), queue=self.rng.choice(["default", "q"]), due=self.due())

    # Doing.

    def exchange(self) -> None:
        rng = self.rng
        turns, work = self.turns[-6:], self.work[-6:]
        committing = self.few(turns, 4)
        commits = [self.commit(pair) for pair in committing]
        done = [(pair, self.message() if self.chance(2) else None) for pair in self.few(work, 3)]
        renewing, releasing = self.few(turns + work), self.few(turns + work)
        releases = [(pair, rng.choice([0, 0, 10]), self.chance(2)) for pair in releasing]
        names = [rng.choice([None, None, ["n1"], ["n2"], []]) for _ in range(2)]
        held, lease_ms = self.few(turns, 3), rng.choice([5, 1000])
        claims: dict[str, Any] = {
            "lease_ms": lease_ms,
            "max_messages": rng.choice([1, 2, 1000]),
            "inline_history": self.chance(2),
            "names": names[0],
        }
        queues = rng.choice([["default"], ["q"], ["q", "default"]])
        asks, asks_work = not self.chance(5), not self.chance(5)

        def make(side: int) -> Exchange:
            return Exchange(
                commits=[commit(side) for commit in commits],
                done=[ActivityDone(lease=pair.on(side).lease, message=result) for pair, result in done],
                renew=[pair.on(side).lease for pair in renewing],
                renew_ms=500,
                releases=[
                    Release(lease=pair.on(side).lease, delay_ms=delay, penalize=penalize)
                    for pair, delay, penalize in releases
                ],
                claim_turns=replace(TURNS, held=[pair.on(side).lease for pair in held], **claims) if asks else None,
                claim_activities=replace(WORK, queues=queues, names=names[1], lease_ms=lease_ms) if asks_work else None,
            )

        # The default is what an exchange means: its parts, one after the other.
        model = Hub.exchange(self.hubs[0], make(0))
        other = self.hubs[1].exchange(make(1))
        kinds = [pair.model.lease.kind for pair in renewing]
        assert self.comparable_result(other, kinds) == self.comparable_result(model, kinds)
        for pair, outcome in zip(committing, model.commits, strict=True):
            if outcome is Outcome.OK:
                self.go_on(pair)
        self.keep(self.turns, model.turns, other.turns)
        self.keep(self.work, model.activities, other.activities)

    def go_on(self, pair: Pair) -> None:
        """Whoever kept the lease goes on from here."""
        (info,) = self.hubs[0].get_instances([pair.model.instance])
        if info is not None:
            for item in (pair.model, pair.other):
                item.execution, item.next_seq = info.execution, info.next_seq

    def keep(self, pairs: list[Pair], model: Any, other: Any) -> None:
        if model is None:
            return
        # Early is allowed, late is not.
        assert (other.next_due is None) <= (model.next_due is None)
        if model.next_due is not None:
            assert other.next_due <= model.next_due
        theirs = {name_of(item): item for item in other.items}
        pairs += [Pair(item, theirs[name_of(item)]) for item in model.items]

    # Comparing. What is a provider's own is left out: tokens, fences, keys, steps of revs, ties among instances.

    @staticmethod
    def comparable_result(result: ExchangeResult, kinds: Sequence[object]) -> object:
        renewed = [
            (outcome if lease else outcome in GONE, lease and lease.expires_at, kind)
            for (outcome, lease), kind in zip(result.renewed, kinds, strict=True)
        ]
        batches = [
            batch and (sorted(map(comparable_item, batch.items), key=repr), batch.more, batch.now)
            for batch in (result.turns, result.activities)
        ]
        return list(result.commits), list(result.done), renewed, list(result.released), batches, result.now

    def compare(self) -> None:
        infos = self.same(Hub.get_instances, self.INSTANCES, comparable=partial(map_list, comparable_info))
        for info in infos:
            if info is not None:
                self.same(
                    Hub.read_history,
                    info.id,
                    comparable=lambda page: (page.generation, page.execution),
                )
                histories = [whole_history(hub, info.id) for hub in self.hubs]
                assert histories[1] == histories[0]
        stats = [hub.stats() for hub in self.hubs]
        counts = [
            [(found.ready, found.leased, found.future) for found in (stat.turns, stat.activities)] for stat in stats
        ]
        assert counts[1] == counts[0]


def map_list(function: Callable[[Any], object], items: Collection[Any]) -> list[object]:
    return [function(item) for item in items]


def name_of(item: TurnItem | Activity) -> tuple[str, str]:
    return (item.instance, item.id if isinstance(item, Activity) else "")


def comparable_item(item: TurnItem | Activity) -> object:
    """Return all of a claimed item but who may do it."""
    shown: dict[str, Any] = {name: getattr(item, name) for name in type(item).__slots__ if name != "lease"}
    for name in ("messages", "history"):
        if shown.get(name) is not None:
            shown[name] = list(shown[name])
    return [*name_of(item), shown, item.lease.kind, item.lease.expires_at]


def comparable_info(info: InstanceInfo | None) -> object:
    if info is None:
        return None
    return replace(info, rev=0, status_rev=int(info.status_rev > 0), updated_at=0, tags=dict(info.tags))


def dump(driver: Driver) -> object:
    """Return all that a hub holds, in a form that two hubs share; what can be claimed is claimed."""
    infos: list[InstanceInfo] = []
    cursor = None
    while True:
        page = driver.hub.query_instances(InstanceQuery(page_size=1000, cursor=cursor, fields=Fields.ALL))
        infos += page.items
        cursor = page.cursor
        if cursor is None:
            break
    stats = driver.hub.stats()
    seen: list[object] = [
        sorted(map(comparable_info, infos), key=repr),
        {info.id: driver.history(info.id) for info in infos},
        (stats.turns, stats.activities),
    ]
    # Now, and when all leases, delays and timers are over.
    for wait in (0, 10 * LEASE_MS):
        driver.wait(wait)
        for claim in (driver.claim, driver.claim_work):
            found: list[Any] = []
            while items := claim():
                found += items
            seen.append(sorted(map(comparable_item, found), key=repr))
    driver.wait(-10 * LEASE_MS)
    return seen


class ExchangeCases:
    """Cases BAT."""

    @case("RESULTS", "I4", "I13", slow=True)
    def test_bat_01_exchange_is_its_parts_one_after_the_other(self, bench: Bench) -> None:
        """An exchange does and answers what commit, complete, renew, release, claim, claim would, one after the other:
        compared with the reference over generated rounds."""
        with reference_hub(bench, bench.clock) as model:
            twins = Twins(bench, model)
            for _ in range(ROUNDS):
                twins.round()
            assert len(twins.turns) > ROUNDS // 4
            assert len(twins.work) > ROUNDS // 8

    @case("RESULTS", "I4", variants=("calls", "exchange"))
    def test_bat_02_one_batch_is_as_good_as_single_calls(self, bench: Bench) -> None:
        """A batch of many items leaves the same state as the same items in as many calls, and answers the same."""
        number = min(MANY, bench.limits.max_batch // 2)
        one_by_one, at_once = bench.new_hub(), bench.new_hub()
        if bench.variant == "exchange":
            at_once.hub = ByExchange(at_once.hub)  # type: ignore[assignment]
        answers = []
        for driver, size in ((one_by_one, 1), (at_once, number)):
            answers.append(_many_things(driver, number, size))
        assert answers[1] == answers[0]
        assert dump(at_once) == dump(one_by_one)
        assert set(answers[0]) >= {Outcome.OK, Outcome.LOST, Outcome.CONFLICT, Outcome.EXISTS, Outcome.DUPLICATE}

    @case("RESULTS", "I3", "I4")
    def test_bat_03_stale_items_of_an_exchange_touch_nobody(self, bench: Bench) -> None:
        """In every part of an exchange a stale item has no effect, takes none from its neighbours, and each answer
        stands where it was asked."""
        for expected in MIXES:
            driver = bench.new_hub()
            hub = driver.hub

            def by_exchange(commits: Sequence[TurnCommit], hub: Hub = hub) -> Sequence[Outcome]:
                return hub.exchange(Exchange(commits=commits)).commits

            commit_good_and_stale(driver, by_exchange, expected)

        names = ("a", "b", "c")
        for name in names:
            bench.started(name, activities=[activity(f"{name}-{number}") for number in range(3)])
            bench.send(instance=name)
        work = {found.id: found for found in bench.claim_work()}
        items = {item.instance: item for item in bench.claim()}
        for stale in (work["a-0"], work["b-0"], work["c-0"], items["b"]):
            assert bench.release(stale.lease) is Outcome.OK
        thieves = {found.id: found for found in bench.claim_work()}
        leases = [items[name].lease for name in names]
        forged = [replace(lease, token="0" * 32) for lease in (leases[0], work["a-1"].lease)]
        done = ["a-0", "a-1", "b-0", "b-1", "a-1", "c-0"]
        result = bench.hub.exchange(
            Exchange(
                done=[ActivityDone(lease=work[name].lease, message=message(name, name[0])) for name in done],
                renew=[forged[0], leases[0], leases[1], work["a-2"].lease, forged[1], work["c-0"].lease, leases[2]],
                renew_ms=2 * LEASE_MS,
                releases=[
                    Release(lease=leases[1]),
                    Release(lease=leases[2]),
                    Release(lease=work["c-0"].lease),
                    Release(lease=work["b-2"].lease),
                    Release(lease=forged[0]),
                ],
            )
        )
        lost, ok = Outcome.LOST, Outcome.OK
        assert list(result.done) == [lost, ok, lost, ok, lost, lost]
        assert [outcome in GONE for outcome, _ in result.renewed] == [True, False, True, False, True, True, False]
        ends = [lease and lease.expires_at for _, lease in result.renewed]
        until = bench.clock.now() + 2 * LEASE_MS
        assert ends == [None, until, None, until, None, None, until]
        assert list(result.released) == [lost, ok, lost, ok, lost]
        assert ids_of(bench.claim_work()) == ["b-2"]
        found = ids_by_instance(bench.claim())
        assert found == {"b": ["m", "b-1"], "c": ["m"]}
        # Those robbed had no effect on the thieves.
        bench.wait(LEASE_MS - 1)
        assert bench.claim_work() == []
        assert {bench.complete(thief) for thief in thieves.values()} == {ok}
        bench.wait(1)
        assert {found.id for found in bench.claim_work()} == {"c-1", "c-2", "b-2"}
        assert bench.commit(items["a"]) is Outcome.OK

    @case("I9", "I4", "I13")
    def test_bat_04_exchange_returns_what_it_made_ready(self, bench: Bench) -> None:
        """What the first parts of an exchange make ready its claims return: the instance itself, others, children,
        activities; and nothing that they hide, keep, end or lengthen."""
        bench.started("a", activities=[activity("t"), activity("u"), activity("v")])
        names = ("self", "kept", "other", "ends", "hidden", "renewed", "late")
        bench.create(*names, name="main")
        items = {item.instance: item for item in bench.claim()}
        work = {found.id: found for found in bench.claim_work()}
        bench.send("m", instance="late")
        bench.wait(LEASE_MS)
        now = bench.clock.now()
        kept = turn_commit(items["kept"], messages=[message("to-kept", "kept")], keep_ms=LEASE_MS)
        former = replace(items["kept"].lease, token="0" * 32)
        result = bench.hub.exchange(
            Exchange(
                commits=[
                    turn_commit(
                        items["self"],
                        messages=[
                            message("to-self", "self"),
                            message("to-other", "other"),
                            message("due", "a", due=now),
                        ],
                        activities=[activity("new"), activity("later", due=now + 1)],
                        starts=[new_instance("child"), new_instance("later", due=now + 1)],
                    ),
                    kept,
                    turn_commit(items["other"]),
                    turn_commit(items["ends"], messages=[message("to-ends", "ends")], status=COMPLETED),
                ],
                done=[ActivityDone(lease=work["t"].lease, message=message("result"))],
                # All these leases have run out. Renewed, they are nobody else's.
                renew=[items["renewed"].lease, work["v"].lease],
                renew_ms=LEASE_MS,
                releases=[Release(lease=items["hidden"].lease, delay_ms=1), Release(lease=work["u"].lease, delay_ms=1)],
                # Former leases, before and behind the current one, are passed over.
                claim_turns=replace(TURNS, held=[former, items["kept"].lease, former]),
                claim_activities=WORK,
            )
        )
        assert list(result.commits) == [Outcome.OK] * 4
        assert result.turns is not None
        assert result.activities is not None
        found = ids_by_instance(result.turns.items)
        assert found == {
            "self": ["to-self"],
            "kept": ["to-kept"],
            "other": ["to-other"],
            "late": ["@start", "m"],
            "a": ["due", "result"],
            "child": ["@start"],
        }
        tokens = {item.instance: item.lease.token for item in result.turns.items}
        assert tokens["kept"] == items["kept"].lease.token
        assert tokens["self"] != items["self"].lease.token
        assert ids_of(result.activities.items) == ["new"]
        for batch in (result.turns, result.activities):
            assert batch.more is False
            assert batch.next_due is not None
            assert batch.next_due <= now + 1
        bench.wait(1)
        assert sorted(ids_of(bench.claim_work())) == ["later", "u"]
        assert sorted(item.instance for item in bench.claim()) == ["hidden", "later"]

    @case("BATCH", requires=("durable",), hooks=("intercept",))
    def test_bat_05_many_items_cost_the_round_trips_of_one(self, bench: Bench) -> None:
        """An exchange of a hundred items makes about as many calls to the driver as an exchange of one."""
        calls = [0]

        def count() -> None:
            calls[0] += 1

        number = min(MANY, bench.limits.max_batch)
        with bench.intercepted(count):
            # The first one warms up whatever is made once.
            costs = []
            for size in (1, 1, number):
                driver = bench.new_hub()
                exchange = _exchange_of_everything(driver, size)
                calls[0] = 0
                result = driver.hub.exchange(exchange)
                costs.append(calls[0])
                assert result.turns is not None
                assert result.activities is not None
                assert len(result.turns.items) == 4 * size
                assert len(result.activities.items) == size
                assert {*result.commits, *result.done, *result.released} == {Outcome.OK}
        _, few, many = costs
        assert few > 0
        assert many <= 1.2 * few, f"{many} calls for {number} items of each kind, {few} for one"

    @case("I4", "RESULTS")
    def test_bat_06_exchange_does_its_parts_in_order(self, bench: Bench) -> None:
        """An exchange commits, completes, renews, releases and claims in that order: each part finds what those before
        it left."""
        activities = [activity(name) for name in ("settled", "cancelled", "done", "released", "renewed")]
        bench.started("a", activities=activities)
        bench.create("b", "c", "d")
        items = {item.instance: item for item in bench.claim()}
        work = {found.id: found for found in bench.claim_work()}
        leases = {name: found.lease for name, found in work.items()}
        assert bench.release(leases["released"]) is Outcome.OK
        bench.send(instance="a")
        turn = bench.claim_one(names=["flow"])
        assert turn.instance == "a"
        result = bench.hub.exchange(
            Exchange(
                commits=[
                    turn_commit(turn, settled=[leases["settled"]], cancel_activities=["cancelled"]),
                    turn_commit(items["b"], activities=[activity("next")]),
                    turn_commit(items["b"], commit_id=fresh("x")),
                ],
                done=[
                    ActivityDone(lease=leases["settled"], message=message("late1")),
                    ActivityDone(lease=leases["cancelled"], message=message("late2")),
                    ActivityDone(lease=leases["done"], message=message("result", "b")),
                ],
                renew=[items["b"].lease, leases["done"], leases["cancelled"], items["c"].lease, leases["renewed"]],
                renew_ms=2 * LEASE_MS,
                releases=[
                    Release(lease=items["b"].lease),
                    Release(lease=items["c"].lease),
                    Release(lease=leases["done"]),
                    Release(lease=leases["renewed"], penalize=False),
                ],
                claim_turns=TURNS,
                claim_activities=WORK,
            )
        )
        lost, ok = Outcome.LOST, Outcome.OK
        assert list(result.commits) == [ok, ok, lost]
        assert list(result.done) == [lost, lost, ok]
        outcomes = [outcome for outcome, _ in result.renewed]
        assert outcomes == [lost, outcomes[1], Outcome.CANCELLED, ok, ok]
        assert outcomes[1] in GONE
        assert list(result.released) == [lost, ok, lost, ok]
        assert result.turns is not None
        found = {item.instance: (ids_of(item.messages), item.attempt) for item in result.turns.items}
        assert found == {"b": (["result"], 1), "c": (["@start"], 2)}
        assert result.activities is not None
        attempts = {item.id: item.attempt for item in result.activities.items}
        assert attempts == {"next": 1, "released": 2, "renewed": 1}
        # Claimed last, with the claim's own length.
        ends = {item.lease.expires_at for batch in (result.turns, result.activities) for item in batch.items}
        assert ends == {bench.clock.now() + LEASE_MS}
        assert result.now == result.turns.now == result.activities.now == bench.clock.now()
        assert bench.commit(items["d"]) is Outcome.OK

    @case("RESULTS")
    def test_bat_07_empty_exchange_does_nothing(self, bench: Bench) -> None:
        """An exchange does nothing that it isn't asked for, and answers with empty lists and no batches."""
        bench.started("a", events=[b"e"], activities=[activity()])
        bench.create("b")
        nothing = replace(TURNS, max_items=0), replace(WORK, max_items=0)
        with bench.unchanged("a", "b"):
            result = bench.hub.exchange(Exchange())
            parts = (result.commits, result.done, result.renewed, result.released)
            assert [list(part) for part in parts] == [[], [], [], []]
            assert (result.turns, result.activities, result.now) == (None, None, bench.clock.now())
            result = bench.hub.exchange(Exchange(claim_turns=nothing[0], claim_activities=nothing[1]))
            assert result.turns is not None
            assert result.activities is not None
            assert (list(result.turns.items), list(result.activities.items)) == ([], [])
        # One claim is not the other.
        result = bench.hub.exchange(Exchange(claim_turns=TURNS))
        assert result.turns is not None
        assert ([item.instance for item in result.turns.items], result.activities) == (["b"], None)
        result = bench.hub.exchange(Exchange(claim_activities=WORK))
        assert result.activities is not None
        assert (result.turns, ids_of(result.activities.items)) == (None, ["t"])

    @case("RESULTS", "I4", requires=("single_txn_exchange",))
    def test_bat_08_malformed_part_leaves_the_others_undone(self, bench: Bench) -> None:
        """One malformed part, whichever it is, makes the whole exchange raise, and nothing of any part is applied."""
        bench.started("a", events=[b"e"], activities=[activity("t"), activity("u")])
        bench.create("b", "c", "d")
        one, two, three = bench.claim()
        work = bench.claim_one_work(max_items=1)
        huge = bytes(bench.limits.max_payload + 1)
        good: dict[str, Any] = {
            "commits": [turn_commit(one, events=[b"x"], starts=[new_instance("child")])],
            "done": [ActivityDone(lease=work.lease, message=message("result"))],
            "renew": [two.lease],
            "renew_ms": 5 * LEASE_MS,
            "releases": [Release(lease=three.lease)],
            "claim_turns": TURNS,
            "claim_activities": WORK,
        }
        wrongs: list[tuple[type[InvalidRequest], int | None, dict[str, Any]]] = [
            (TooLarge, 1, {"commits": [*good["commits"], turn_commit(two, events=[huge])]}),
            (InvalidRequest, 0, {"commits": [turn_commit(one, messages=[message(due=-1)])]}),
            (TooLarge, 0, {"done": [ActivityDone(lease=work.lease, message=message(payload=huge))]}),
            (InvalidRequest, 1, {"done": [*good["done"], ActivityDone(lease=work.lease, message=message(""))]}),
            (InvalidRequest, None, {"renew_ms": 0}),
            (InvalidRequest, 1, {"releases": [*good["releases"], Release(lease=three.lease, delay_ms=-1)]}),
            (InvalidRequest, None, {"claim_turns": replace(TURNS, max_items=-1)}),
            (InvalidRequest, None, {"claim_turns": replace(TURNS, lease_ms=0)}),
            (InvalidRequest, None, {"claim_activities": replace(WORK, max_items=-1)}),
            (InvalidRequest, None, {"claim_activities": replace(WORK, queues=[""])}),
        ]
        with bench.unchanged("a", "b", "c", "d", "child"):
            for error, index, wrong in wrongs:
                with pytest.raises(error) as caught:
                    bench.hub.exchange(Exchange(**good | wrong))
                if index is not None:
                    assert caught.value.index == index
        result = bench.hub.exchange(Exchange(**good))
        assert [*result.commits, *result.done, *result.released] == [Outcome.OK] * 3
        assert result.turns is not None
        assert {item.instance for item in result.turns.items} == {"a", "child", three.instance}

    @case("I5", "I3")
    def test_bat_09_exchange_may_be_repeated(self, bench: Bench) -> None:
        """An exchange whose answer was lost may be sent again as it is: commits are ALREADY, completions and releases
        LOST, nothing happens twice, and nobody else's work is touched."""
        bench.started("a", activities=[activity("t"), activity("u")])
        bench.create("b", "c", "d", "e")
        items = {item.instance: item for item in bench.claim()}
        done, other = bench.claim_work()
        exchange = Exchange(
            commits=[
                turn_commit(
                    items["b"],
                    events=[b"e"],
                    messages=[message("own", "b"), message("told")],
                    activities=[activity("new")],
                    starts=[new_instance("child")],
                    custom_status=b"s",
                ),
                turn_commit(items["e"], events=[b"e"], messages=[message("from-e")], output=b"out"),
            ],
            done=[ActivityDone(lease=done.lease, message=message("result"))],
            renew=[items["d"].lease, other.lease],
            renew_ms=2 * LEASE_MS,
            releases=[Release(lease=items["c"].lease, delay_ms=5)],
        )
        result = bench.hub.exchange(exchange)
        ok, lost, already = Outcome.OK, Outcome.LOST, Outcome.ALREADY
        assert [*result.commits, *result.done, *result.released] == [ok] * 4
        # Whoever sends it again may ask for more than before: nothing was claimed under the answer that was lost.
        again = bench.hub.exchange(replace(exchange, claim_turns=TURNS, claim_activities=WORK))
        assert (list(again.commits), list(again.done), list(again.released)) == ([already] * 2, [lost], [lost])
        assert [outcome for outcome, _ in again.renewed] == [ok, ok]
        assert again.turns is not None
        assert again.activities is not None
        found = {item.instance: (ids_of(item.messages), item.attempt) for item in again.turns.items}
        assert found == {"a": (["told", "from-e", "result"], 1), "b": (["own"], 1), "child": (["@start"], 1)}
        assert ids_of(again.activities.items) == ["new"]
        # Once more, while others work on what it made.
        with bench.unchanged("a", "b", "c", "d", "e", "child"):
            late = bench.hub.exchange(exchange)
            assert (list(late.commits), list(late.done), list(late.released)) == ([already] * 2, [lost], [lost])
        outcomes = bench.hub.commit_turns([turn_commit(item) for item in again.turns.items])
        assert list(outcomes) == [ok] * 3
        bench.wait(5)
        (released,) = bench.claim()
        assert (released.instance, released.attempt) == ("c", 2)
        with bench.unchanged("a", "b", "c", "d", "e", "child"):
            late = bench.hub.exchange(exchange)
            assert (list(late.commits), list(late.done), list(late.released)) == ([lost, already], [lost], [lost])
        assert bench.commit(released) is ok
        assert (bench.history("b"), bench.get("b").custom_status) == ([b"e"], b"s")


def _exchange_of_everything(driver: Driver, size: int) -> Exchange:
    """Return an exchange with `size` items in every part, each with effects of many kinds."""
    numbers = range(size)
    hub = driver.hub
    for kind in ("commits", "works", "renews", "releases"):
        hub.create_instances([new_instance(f"{kind}-{number}", name=kind) for number in numbers])
    items = {item.instance: item for item in driver.claim(names=["commits"])}
    scheduled = [turn_commit(item, activities=[activity("old")]) for item in driver.claim(names=["works"])]
    hub.commit_turns(scheduled)
    commits = [
        turn_commit(
            item,
            events=[b"e"],
            activities=[activity("new")],
            messages=[message("self", name), message("tell", name.replace("commits", "works"))],
            starts=[new_instance(f"child-{name}")],
            custom_status=b"s",
            output=b"o",
            memo=b"m",
        )
        for name, item in items.items()
    ]
    return Exchange(
        commits=commits,
        done=[
            ActivityDone(lease=work.lease, message=message("result", work.instance))
            for work in driver.claim_work(max_items=size)
        ],
        renew=[item.lease for item in driver.claim(names=["renews"])],
        renew_ms=LEASE_MS,
        releases=[Release(lease=item.lease) for item in driver.claim(names=["releases"])],
        claim_turns=replace(TURNS, max_items=5 * size),
        claim_activities=replace(WORK, max_items=2 * size),
    )


def _many_things(driver: Driver, number: int, size: int) -> list[Outcome]:
    """Do many things of every kind, `size` items a call, and return the outcomes."""
    hub = driver.hub
    answers: list[Outcome] = []

    def in_calls(call: Callable[[Any], Sequence[Outcome]], items: Sequence[Any]) -> None:
        for first in range(0, len(items), size):
            answers.extend(call(items[first : first + size]))

    numbers = range(number)
    names = [f"i{each}" for each in numbers]
    # Every fifth comes twice.
    new = [new_instance(f"i{each - each % 5 // 4}", name="main", generation=f"g{each}", input=b"i") for each in numbers]
    in_calls(hub.create_instances, new)
    in_calls(hub.send_messages, [message(f"m{each % 4}", f"i{each % 7}", payload=b"%d" % each) for each in numbers])

    def claimed() -> list[TurnItem]:
        found: list[TurnItem] = []
        while items := driver.claim(max_items=number):
            found += items
        return sorted(found, key=lambda item: int(item.instance[1:]))

    items = claimed()
    in_calls(
        hub.commit_turns,
        [turn_commit(item, commit_id=f"first-{item.instance}", activities=_some_activities(item)) for item in items],
    )
    in_calls(hub.send_messages, [message("go", name) for name in names])
    items = claimed()
    for item in items[::11]:
        driver.release(item.lease)
    work: list[Activity] = []
    while found := driver.claim_work(max_items=number):
        work += found
    work.sort(key=lambda item: (int(item.instance[1:]), item.id))
    in_calls(hub.commit_turns, [_some_commit(each, item, work) for each, item in enumerate(items)])
    done = [
        ActivityDone(lease=item.lease, message=message(item.id, item.instance) if each % 3 else None)
        for each, item in enumerate(work)
    ]
    in_calls(hub.complete_activities, [item for each, item in enumerate(done) if each % 2])
    leases = [item.lease for item in items] + [item.lease for item in work]
    in_calls(lambda part: [outcome for outcome, _ in hub.renew(part, 2 * LEASE_MS)], leases)
    in_calls(hub.release, [Release(lease=lease, delay_ms=each % 3) for each, lease in enumerate(leases[::3])])
    return answers


def _some_activities(item: TurnItem) -> list[Any]:
    each = int(item.instance[1:])
    return [activity(f"t{number}", queue="default" if number else "other") for number in range(each % 4)]


def _some_commit(each: int, item: TurnItem, work: Sequence[Activity]) -> TurnCommit:
    """Return a commit whose kind of effect depends on its number."""
    own = [found for found in work if found.instance == item.instance]
    name = item.instance
    neighbours = [f"i{int(name[1:]) + step}" for step in (-1, 1)]
    kinds: list[dict[str, Any]] = [
        {"events": [b"e", b""], "custom_status": b"s"},
        {"messages": [message("tell", neighbour) for neighbour in (*neighbours, name)], "output": b"o"},
        {"starts": [new_instance(f"c-{name}", generation="g"), new_instance("c", generation=name)]},
        {"status": COMPLETED, "output": b"done", "messages": [message("self", name)]},
        {"status": FAILED, "failure": b"why", "keep_ms": LEASE_MS},
        {"events": [b"x"], "continued": NextExecution(events=[b"n"], input=b"in", version="2")},
        {"activities": [activity("new")], "cancel_all": True, "memo": b""},
        {"keep_ms": 3 * LEASE_MS, "settled": [found.lease for found in own], "messages": [message("self", name)]},
        {"rewrite": True, "events": [b"r"], "messages": [message("t", name, due=item.messages[0].enqueued_at + 5)]},
        {"expected_next_seq": 7, "events": [b"no"], "messages": [message("no", name)]},
        {"consumed": [], "cancel_messages": ["go"], "custom_status": None},
    ]
    return turn_commit(item, commit_id=f"second-{name}", **kinds[each % len(kinds)])

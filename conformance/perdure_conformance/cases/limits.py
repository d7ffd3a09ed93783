"""LIM: limits and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any, Final

import pytest

from perdure.spi import (
    Activity,
    ActivityDone,
    BadId,
    ClaimActivities,
    ClaimTurns,
    Closed,
    Exchange,
    Fields,
    InstanceInfo,
    InstanceQuery,
    InvalidRequest,
    Lease,
    NextExecution,
    NotFound,
    OrchestrationStatus,
    Outcome,
    OutcomeUnknown,
    Provider,
    ProviderError,
    PurgeRequest,
    Release,
    TooLarge,
    Transient,
    TurnItem,
    Unsupported,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import case
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    LEASE_MS,
    RUNNING,
    Driver,
    activity,
    fresh,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
    turn_commit,
)
from perdure_conformance.honesty import declares

_OK: Final = Outcome.OK
_LOST: Final = Outcome.LOST

_SECRET: Final = "pw-7f3Kq9xZ"
"""A password that no text may show."""


class LimitCases:
    """Cases LIM."""

    @case("LIMITS", "I2")
    def test_lim_01_max_items_bounds_a_claim(self, bench: Bench) -> None:
        """A claim returns at most `max_items`: 0 nothing, a negative number is refused, a huge one is capped."""
        most = bench.limits.max_batch
        bench.started("a", activities=[activity(f"t{number}") for number in range(most + 1)])
        for start in range(0, most + 1, most):
            bench.create(*(f"i{number}" for number in range(start, min(start + most, most + 1))))
        with bench.unchanged("a", "i0"):
            assert (bench.claim(max_items=0), bench.claim_work(max_items=0)) == ([], [])
            result = bench.hub.exchange(Exchange(claim_turns=_turns(max_items=0), claim_activities=_work(max_items=0)))
            assert result.turns is not None
            assert result.activities is not None
            assert (list(result.turns.items), list(result.activities.items)) == ([], [])
            for wrong in (
                lambda: bench.claim(max_items=-1),
                lambda: bench.claim_work(max_items=-1),
                lambda: bench.hub.exchange(Exchange(claim_turns=_turns(max_items=-1))),
                lambda: bench.hub.exchange(Exchange(claim_activities=_work(max_items=-1))),
                lambda: bench.claim(lease_ms=0),
                lambda: bench.claim_work(lease_ms=0),
                lambda: bench.claim(max_messages=0),
            ):
                with pytest.raises(InvalidRequest):
                    wrong()
        few = bench.claim_batch(max_items=2), bench.claim_work_batch(max_items=2)
        assert [(len(batch.items), batch.more, batch.next_due) for batch in few] == [(2, True, bench.clock.now())] * 2
        for item in few[0].items:
            bench.release(item.lease)
        for work in few[1].items:
            bench.release(work.lease)
        many = bench.claim_batch(max_items=2**62), bench.claim_work_batch(max_items=most + 1)
        assert [(len(batch.items), batch.more) for batch in many] == [(most, True)] * 2
        rest = bench.claim_batch(max_items=most + 1), bench.claim_work_batch(max_items=2**62)
        assert [(len(batch.items), batch.more) for batch in rest] == [(1, False)] * 2
        # An exchange is bound to the same.
        bench.wait(LEASE_MS)
        huge = Exchange(claim_turns=_turns(max_items=2**62), claim_activities=_work(max_items=most + 1))
        for count in (most, 1):
            result = bench.hub.exchange(huge)
            assert result.turns is not None
            assert result.activities is not None
            assert (len(result.turns.items), len(result.activities.items)) == (count, count)

    @case("LIMITS", "RESULTS", slow=True)
    def test_lim_02_a_list_of_max_batch_works_and_one_more_is_refused(self, bench: Bench) -> None:
        """Each list of a call may have `max_batch` items; one more is an InvalidRequest, and nothing of it is done."""
        most, hub = bench.limits.max_batch, bench.hub
        names = [f"i{number}" for number in range(most)]
        new = [new_instance(name) for name in [*names, "one-more"]]
        with bench.unchanged("i0", "one-more"):
            _refused(lambda: hub.create_instances(new))
        assert hub.create_instances(new[:most]) == [_OK] * most
        messages = [message("m", name) for name in names]
        with bench.unchanged("i0"):
            _refused(lambda: hub.send_messages([*messages, message("m2", "i0")]))
        assert hub.send_messages(messages) == [_OK] * most
        items = bench.claim(max_items=most)
        assert len(items) == most
        assert all(ids_of(item.messages) == ["@start", "m"] for item in items)
        leases = [item.lease for item in items]
        commits = [turn_commit(item, activities=[activity()], keep_ms=LEASE_MS) for item in items]
        with bench.unchanged("i0", items[-1].instance):
            _refused(lambda: hub.commit_turns([*commits, commits[0]]))
            _refused(lambda: hub.exchange(Exchange(commits=[*commits, commits[0]])))
            _refused(lambda: hub.claim_turns(_turns(held=[*leases, leases[0]])))
        assert hub.commit_turns(commits) == [_OK] * most
        with bench.unchanged("i0"):
            _refused(lambda: hub.renew([*leases, leases[0]], 7 * LEASE_MS))
            _refused(lambda: hub.exchange(Exchange(renew=[*leases, leases[0]], renew_ms=7 * LEASE_MS)))
            _refused(lambda: hub.release([Release(lease=lease) for lease in [*leases, leases[0]]]))
            _refused(lambda: hub.exchange(Exchange(releases=[Release(lease=lease) for lease in [*leases, leases[0]]])))
        assert [outcome for outcome, _ in hub.renew(leases, LEASE_MS)] == [_OK] * most
        assert hub.release([Release(lease=lease) for lease in leases]) == [_OK] * most
        done = [ActivityDone(lease=work.lease, message=None) for work in bench.claim_work(max_items=most)]
        with bench.unchanged("i0"):
            _refused(lambda: hub.complete_activities([*done, done[0]]))
            _refused(lambda: hub.exchange(Exchange(done=[*done, done[0]])))
        assert hub.complete_activities(done) == [_OK] * most
        with bench.unchanged("i0"):
            _refused(lambda: hub.purge(PurgeRequest(ids=[*names, "i0"], force=True)))
        assert list(bench.purge(*names, force=True).outcomes) == [_OK] * most

    @case("RESULTS", "LIMITS")
    def test_lim_03_empty_lists_are_answered_with_nothing(self, bench: Bench) -> None:
        """An empty list is answered with an empty list, and nothing changes."""
        hub = bench.hub
        bench.started("a", events=[b"e"], activities=[activity()])
        bench.ended("b")
        bench.send()
        with bench.unchanged("a", "b"):
            answers: list[Sequence[object]] = [
                hub.create_instances([]),
                hub.send_messages([]),
                hub.commit_turns([]),
                hub.complete_activities([]),
                hub.renew([], LEASE_MS),
                hub.renew([], 0),
                hub.release([]),
                hub.get_instances([]),
            ]
            assert [list(answer) for answer in answers] == [[]] * 8
            purged = hub.purge(PurgeRequest(ids=[], force=True))
            assert (purged.deleted, purged.complete, list(purged.outcomes)) == (0, True, [])
            result = hub.exchange(Exchange())
            lists = (result.commits, result.done, result.renewed, result.released)
            assert [list(answer) for answer in lists] == [[]] * 4
            assert (result.turns, result.activities, result.now) == (None, None, bench.clock.now())
        assert ids_of(bench.claim_one().messages) == ["m"]
        assert bench.claim_one_work().attempt == 1

    @case("ERRORS")
    def test_lim_04_each_error_has_its_trigger(self, bench: Bench) -> None:
        """Each kind of mistake raises its own kind of error, which says whether to try again."""
        bench.create("a")
        item = bench.claim_one()
        most = bench.limits.max_payload
        closed = bench.connect()
        closed.close()
        causes: list[tuple[type[ProviderError], Callable[[], object]]] = [
            (InvalidRequest, lambda: bench.claim(max_items=-1)),
            (InvalidRequest, lambda: bench.find(page_size=0)),
            (InvalidRequest, lambda: bench.find(cursor="garbage")),
            (InvalidRequest, lambda: bench.hub.read_history("a", limit=0)),
            (InvalidRequest, bench.purge),
            (InvalidRequest, lambda: bench.hub.purge(PurgeRequest(ids=["a"], query=InstanceQuery()))),
            (InvalidRequest, lambda: bench.send(due=-1)),
            (TooLarge, lambda: bench.send(payload=bytes(most + 1))),
            (BadId, lambda: bench.create("")),
            (BadId, lambda: bench.send("a\0b")),
            (BadId, lambda: bench.send("@start")),
            (BadId, lambda: bench.provider.create_hub("")),
            (NotFound, lambda: bench.hub.read_history("nobody")),
            (NotFound, bench.on(bench.provider, bench.hub_name()).find),
            (Closed, closed.list_hubs),
        ]
        if not declares(bench.capabilities, "tag_query"):
            causes.append((Unsupported, lambda: bench.find(tags={"k": "v"})))
        if not declares(bench.capabilities, "purge_cascade"):
            causes.append((Unsupported, lambda: bench.purge("a", cascade=True)))
        with bench.unchanged("a"):
            for kind, cause in causes:
                with pytest.raises(ProviderError) as caught:
                    cause()
                error = caught.value
                assert isinstance(error, kind)
                assert error.retryable is False
                assert str(error)
        # Every error is of the tree, so that the engine knows what to do about it.
        assert (Transient.retryable, OutcomeUnknown.retryable) == (True, True)
        assert bench.commit(item) is _OK

    @case("ERRORS")
    def test_lim_05_only_an_open_provider_may_be_used(self, bench: Bench) -> None:
        """Before `open` and after `close` every call raises Closed; opening twice and closing twice is fine."""
        bench.started("a", events=[b"e"], activities=[activity()])
        bench.send()
        item, work = bench.claim_one(), bench.claim_one_work()
        name = bench.hub.name
        unopened = bench.adapter.build(bench.clock)
        for call in _provider_calls(unopened, name):
            _closed(call)
        _fine(unopened.close)
        _fine(unopened.close)
        _closed(unopened.open)
        provider = bench.connect()
        _fine(provider.open)
        driver = bench.on(provider)
        _fine(provider.close)
        _fine(provider.close)
        with bench.unchanged("a"):
            for call in [provider.open, *_provider_calls(provider, name), *_hub_calls(driver, item, work)]:
                _closed(call)
        # One handle was closed, and that one alone.
        assert bench.complete(work, message("r")) is bench.commit(item) is _OK
        assert ids_of(bench.claim_one().messages) == ["r"]

    @case("ERRORS")
    def test_lim_06_a_wrong_url_is_a_typed_error_without_the_password(self, bench: Bench) -> None:
        """A parameter of ours that the provider doesn't know is refused by name; no text shows a password."""
        secret = f"{bench.url}{'&' if '?' in bench.url else '?'}password={_SECRET}"
        head, _, rest = bench.url.partition("://")
        host = rest.rpartition("@")[2] if "@" in rest.partition("?")[0] else rest
        user = f"{head}://nobody:{_SECRET}@{host}"
        unknown = f"{bench.url}{'&' if '?' in bench.url else '?'}op_nonsense=1"
        with pytest.raises(InvalidRequest, match="op_nonsense"):
            _build(bench, unknown)
        bench.control()
        for url in (secret, user):
            for wrong in (url, f"{url}{'&' if '?' in url else '?'}op_nonsense=1"):
                for shown in _texts(bench, wrong):
                    assert _SECRET not in shown
        # As it stands, the URL is fine.
        provider = bench.open(_build(bench, bench.url))
        assert isinstance(provider.list_hubs(), list)

    @case("ERRORS", "I15")
    def test_lim_07_a_hub_that_is_not_there_is_not_found(self, bench: Bench) -> None:
        """Every call on a hub that doesn't exist raises NotFound; a handle made before the hub works with it."""
        bench.started("a", activities=[activity()])
        bench.send()
        item, work = bench.claim_one(), bench.claim_one_work()
        name = bench.hub_name()
        driver = bench.on(bench.provider, name)
        assert driver.hub.name == name
        with bench.unchanged("a"):
            for call in _hub_calls(driver, item, work):
                with pytest.raises(NotFound):
                    call()
            assert name not in bench.provider.list_hubs()
        assert bench.provider.create_hub(name) is _OK
        assert driver.create("a") == [_OK]
        assert driver.find() == ["a"]
        assert bench.commit(item) is _OK

    @case("RESULTS")
    def test_lim_08_results_have_the_order_and_length_of_the_request(self, bench: Bench) -> None:
        """Every list of results has one answer for each item, in the order asked, whatever became of each."""
        for _ in range(3):
            bench.wait(1)
            _shuffled_creates(bench)
            _shuffled_sends(bench)
            _shuffled_commits(bench)
            _shuffled_work(bench)
            _shuffled_leases(bench)
            _shuffled_reads_and_purges(bench)

    @case("LIMITS", "I4")
    def test_lim_09_long_lists_meet_no_ceiling_of_the_driver(self, bench: Bench) -> None:
        """Lists that no limit bounds may be longer than what a statement takes as parameters."""
        many = [f"x{number}" for number in range(40_000)]
        bench.started("a", activities=[activity()])
        bench.send("m")
        found = bench.hub.get_instances(["a", *many, "a"], fields=Fields.NONE)
        assert len(found) == 40_002
        assert [info and info.id for info in (found[0], found[1], found[-2], found[-1])] == ["a", None, None, "a"]
        item = bench.claim_one(names=["flow", *many[:5000]])
        events = [b"%d" % number for number in range(70_000)]
        assert (
            bench.commit(
                item,
                events=events,
                consumed=[*many, "m"],
                cancel_activities=[*many, "t"],
                cancel_messages=many,
                keep_ms=LEASE_MS,
            )
            is _OK
        )
        assert bench.get().next_seq == 70_000
        assert list(bench.hub.read_history("a", after=69_998).events) == [b"69999"]
        assert bench.history() == events
        assert bench.claim_work() == []
        bench.wait(LEASE_MS)
        assert bench.claim() == []

    @case("RESULTS", "LIMITS")
    def test_lim_10_a_malformed_commit_is_refused_by_its_index(self, bench: Bench) -> None:
        """A malformed commit makes the whole call raise InvalidRequest with its index, and nothing is applied."""
        tags = {f"k{number}": "" for number in range(bench.limits.max_tags + 1)}
        wrongs: list[dict[str, Any]] = [
            {"keep_ms": -1},
            {"status": "RUNNING?"},
            {"execution": "1"},
            {"expected_next_seq": -1},
            {"consumed": [""]},
            {"cancel_messages": [""]},
            {"cancel_activities": ["\0"]},
            {"commit_id": ""},
            {"events": ["text"]},
            {"output": "text"},
            {"custom_status": bytearray(b"1")},
            {"continued": NextExecution(events=["text"])},  # type: ignore[list-item]
            {"continued": NextExecution(events=[]), "status": COMPLETED},
            {"continued": NextExecution(events=[]), "rewrite": True},
            {"messages": [message(due=-1)]},
            {"messages": [message("m"), message("")]},
            {"activities": [activity(""), activity("u")]},
            {"activities": [activity("u", queue="")]},
            {"activities": [activity("u", due=-1)]},
            {"starts": [new_instance("x", tags=tags)]},
            {"starts": [new_instance("x"), new_instance("y", name="")]},
            {"lease": None},
        ]
        bench.create("a", "b")
        one, two = bench.claim()
        with bench.unchanged("a", "b", "x"):
            for wrong in wrongs:
                with pytest.raises(InvalidRequest) as caught:
                    bench.hub.commit_turns([turn_commit(one, events=[b"e"]), turn_commit(two, **wrong)])
                assert (wrong, caught.value.index) == (wrong, 1)
        assert (bench.commit(one), bench.commit(two)) == (_OK, _OK)

    @case("RESULTS", "LIMITS")
    def test_lim_11_malformed_calls_change_nothing(self, bench: Bench) -> None:
        """A call with a malformed part raises InvalidRequest, with the item's index where it has one, and does nothing.

        An exchange that is one transaction is checked whole before anything of it is done.
        """
        hub = bench.hub
        is_whole = bench.capabilities.single_txn_exchange
        bench.started("a", activities=[activity()])
        bench.send()
        item, work = bench.claim_one(), bench.claim_one_work()
        # Elsewhere the parts before a malformed one are done.
        first = [turn_commit(item, events=[b"e"])] if is_whole else []
        negative = Release(lease=item.lease, delay_ms=-1)
        too_early = ActivityDone(lease=work.lease, message=message(due=-1))
        fine = ActivityDone(lease=work.lease, message=None)
        with_index: list[Callable[[], object]] = [
            lambda: hub.release([Release(lease=item.lease), negative]),
            lambda: hub.complete_activities([fine, too_early]),
            lambda: hub.send_messages([message("x"), message("y", due=-1)]),
            lambda: hub.send_messages([message("x"), message("y", instance="")]),
            lambda: hub.create_instances([new_instance("x"), new_instance("y", due=-1)]),
            lambda: hub.create_instances([new_instance("x"), new_instance("y", name="")]),
            lambda: hub.create_instances([new_instance("x"), new_instance("y", generation="")]),
            lambda: hub.get_instances(["a", ""]),
        ]
        without: list[Callable[[], object]] = [
            lambda: bench.renew(item.lease, 0),
            lambda: bench.renew(item.lease, -1),
            lambda: bench.purge("a", limit=-1, force=True),
            lambda: bench.purge("a", budget_ms=-1, force=True),
            lambda: hub.read_history("a", after=-2),
            *(_claims_of(bench, names) for names in ("flow", ["\0"], ["flow", ""])),
            *(_work_of(bench, names) for names in ("default", ["\0"], ["default", ""])),
            *(
                _exchange(bench, exchange)
                for exchange in (
                    Exchange(commits=first, claim_turns=_turns(lease_ms=0)),
                    Exchange(commits=first, claim_activities=_work(max_items=-1)),
                    Exchange(commits=first, renew=[item.lease], renew_ms=0),
                    Exchange(commits=first, releases=[negative]),
                    Exchange(commits=first, done=[too_early]),
                    Exchange(commits=[turn_commit(item, keep_ms=-1)], done=[fine]),
                )
            ),
        ]
        with bench.unchanged("a", "x"):
            for number, call in enumerate(with_index):
                with pytest.raises(InvalidRequest) as caught:
                    call()
                assert (number, caught.value.index) == (number, 1)
            for call in without:
                with pytest.raises(InvalidRequest):
                    call()
        assert bench.complete(work) is bench.commit(item) is _OK

    @case("I3")
    def test_lim_12_a_lease_of_the_wrong_kind_is_lost(self, bench: Bench) -> None:
        """A turn's lease completes no activity, and an activity's lease commits no turn."""
        bench.started("a", activities=[activity()])
        bench.send()
        item, work = bench.claim_one(), bench.claim_one_work()
        with bench.unchanged("a"):
            done = [ActivityDone(lease=item.lease, message=message("r"))]
            assert bench.hub.complete_activities(done) == [_LOST]
            assert bench.hub.commit_turns([turn_commit(item, lease=work.lease, events=[b"e"])]) == [_LOST]
            # Even where the key of one is that of the other.
            for lease, other in ((item.lease, work.lease), (work.lease, item.lease)):
                mixed = Lease(
                    kind=lease.kind,
                    key=lease.key,
                    token=other.token,
                    fence=lease.fence,
                    expires_at=lease.expires_at,
                )
                assert bench.release(mixed) is _LOST
                assert bench.renew(mixed)[0] in (_LOST, Outcome.CANCELLED)
        assert bench.complete(work) is bench.commit(item) is _OK

    @case("LIMITS", "I7")
    def test_lim_13_lists_inside_a_commit_may_be_longer_than_a_batch(self, bench: Bench) -> None:
        """Only a call's own lists are bounded by `max_batch`, not those inside a commit."""
        count = bench.limits.max_batch + 1
        names = [f"m{number}" for number in range(count)]
        bench.started(
            "a",
            messages=[message(name) for name in names],
            activities=[activity(f"t{number}") for number in range(count)],
            starts=[new_instance(f"c{number}", name="child") for number in range(count)],
        )
        item = bench.claim_one(names=["flow"], max_messages=count)
        assert ids_of(item.messages) == names
        assert bench.commit(item, consumed=names[1:]) is _OK
        assert ids_of(bench.claim_one(names=["flow"]).messages) == names[:1]
        stats = bench.hub.stats()
        assert (stats.turns.ready, stats.activities.ready) == (count, count)

    @case("I20", "I19")
    def test_lim_14_closing_a_handle_leaves_the_store_to_others(self, bench: Bench) -> None:
        """What was done on a handle stays when that is closed: its leases run on, and others may use them."""
        provider = bench.another_handle()
        if provider is None:
            # There are no others: the handle that was closed had a store of its own.
            assert bench.create("a") == [_OK]
            return
        other = bench.on(provider)
        other.create("a")
        other.create("b")
        items = {item.instance: item for item in other.claim()}
        assert bench.claim() == []
        provider.close()
        assert bench.claim() == []
        assert bench.commit(items["a"], events=[b"e"], messages=[message("self")]) is _OK
        assert bench.history() == [b"e"]
        assert [item.instance for item in bench.claim()] == ["a"]
        bench.wait(LEASE_MS)
        assert {item.instance: item.attempt for item in bench.claim()} == {"a": 2, "b": 2}
        assert bench.commit(items["b"]) is _LOST


def _turns(**fields: Any) -> ClaimTurns:
    defaults: dict[str, Any] = {"worker": "w", "max_items": 1, "lease_ms": LEASE_MS}
    return ClaimTurns(**(defaults | fields))


def _work(**fields: Any) -> ClaimActivities:
    defaults: dict[str, Any] = {"worker": "w", "max_items": 1, "lease_ms": LEASE_MS}
    return ClaimActivities(**(defaults | fields))


def _claims_of(bench: Bench, names: Any) -> Callable[[], object]:
    return lambda: bench.claim(names=names)


def _work_of(bench: Bench, queues: Any) -> Callable[[], object]:
    return lambda: bench.claim_work(queues=queues)


def _exchange(bench: Bench, exchange: Exchange) -> Callable[[], object]:
    return lambda: bench.hub.exchange(exchange)


def _refused(call: Callable[[], object]) -> None:
    with pytest.raises(InvalidRequest):
        call()


def _closed(call: Callable[[], object]) -> None:
    try:
        call()
    except Closed:
        return
    except Exception as error:
        raise AssertionError(f"a provider that isn't open raises {type(error).__name__} and not Closed") from error
    raise AssertionError("a provider that isn't open may be used")


def _fine(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as error:
        raise AssertionError(f"opening or closing once more raises {type(error).__name__}: {error}") from error


# Which calls there are: all but those whose default does nothing, and so can't tell.


def _provider_calls(provider: Provider, name: str) -> list[Callable[[], object]]:
    return [
        provider.list_hubs,
        lambda: provider.create_hub("x"),
        lambda: provider.delete_hub("x"),
        lambda: provider.hub(name),
        lambda: provider.hub(name).now(),
    ]


def _hub_calls(driver: Driver, item: TurnItem, work: Activity) -> list[Callable[[], object]]:
    hub = driver.hub
    return [
        lambda: hub.now(),  # noqa: PLW0108 - the hub finds its methods when they are called
        lambda: hub.stats(),  # noqa: PLW0108
        driver.claim,
        driver.claim_work,
        lambda: driver.create("x"),
        driver.send,
        lambda: driver.commit(item),
        lambda: driver.complete(work),
        lambda: driver.renew(item.lease),
        lambda: driver.release(work.lease),
        lambda: hub.get_instances(["a"]),
        driver.find,
        driver.history,
        lambda: driver.purge("a", force=True),
        lambda: driver.purge(query=InstanceQuery(), force=True),
        lambda: hub.exchange(Exchange(commits=[turn_commit(item)], claim_turns=_turns())),
    ]


# URLs.


def _build(bench: Bench, url: str) -> Provider:
    adapter = copy(bench.adapter)
    adapter.url = url
    return adapter.build(bench.clock)


def _texts(bench: Bench, url: str) -> Iterator[str]:
    """Use a URL as far as it gets, and yield all that is said about it."""
    provider = None
    try:
        provider = _build(bench, url)
        yield from (repr(provider), str(provider.url), repr(provider.url))
        provider.open()
    except Exception as error:
        if not isinstance(error, ProviderError):
            raise AssertionError(
                f"a wrong URL raises {type(error).__name__}, which is no error of perdure.spi"
            ) from None
        told: BaseException | None = error
        while told is not None:
            yield from (str(told), repr(told))
            told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)
    finally:
        if provider is not None:
            provider.close()


# Fuzzed batches: each item has its answer beside it.


def _shuffle(bench: Bench, pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    bench.rng.shuffle(pairs)
    return [asked for asked, _ in pairs], [answer for _, answer in pairs]


def _names(bench: Bench, count: int = 3) -> list[str]:
    """Return new ids, whose order is not that of their making."""
    return [f"{bench.rng.getrandbits(32):08x}-{fresh('i')}" for _ in range(count)]


def _claimed(bench: Bench, names: list[str]) -> list[TurnItem]:
    """Create instances under a name of their own, and claim them in this order."""
    name = fresh("name")
    bench.create(*names, name=name)
    found = {item.instance: item for item in bench.claim(names=[name])}
    return [found[instance] for instance in names]


def _running(bench: Bench, names: list[str], **fields: Any) -> None:
    commits = [turn_commit(item, **fields) for item in _claimed(bench, names)]
    assert bench.hub.commit_turns(commits) == [_OK] * len(names)


def _shuffled_creates(bench: Bench) -> None:
    free, taken, ended, again = (_names(bench) for _ in range(4))
    _running(bench, taken)
    _running(bench, ended, status=COMPLETED)
    repeated = [new_instance(name) for name in again]
    bench.hub.create_instances(repeated)
    new, expected = _shuffle(
        bench,
        [
            *((new_instance(name), _OK) for name in free),
            *((new_instance(name, replace_if=ENDED), Outcome.EXISTS) for name in taken),
            *((new_instance(name, replace_if=ENDED), Outcome.REPLACED) for name in ended),
            *((item, Outcome.ALREADY) for item in repeated),
        ],
    )
    assert list(bench.hub.create_instances(new)) == expected
    bench.purge(*free, *ended, *again, *taken, force=True)


def _shuffled_sends(bench: Bench) -> None:
    running, ended, told, nobody = (_names(bench) for _ in range(4))
    _running(bench, running)
    _running(bench, told)
    _running(bench, ended, status=COMPLETED)
    assert bench.hub.send_messages([message("m", name) for name in told]) == [_OK] * 3
    messages, expected = _shuffle(
        bench,
        [
            *((message("m", name), _OK) for name in running),
            *((message("m", name), Outcome.DUPLICATE) for name in told),
            *((message("m", name), Outcome.TERMINAL) for name in ended),
            *((message("m", name), Outcome.NOT_FOUND) for name in nobody),
            *((message("n", name, generation="other"), Outcome.NOT_FOUND) for name in running),
        ],
    )
    assert list(bench.hub.send_messages(messages)) == expected
    bench.purge(*running, *ended, *told, force=True)


def _shuffled_commits(bench: Bench) -> None:
    good, lost, conflicting, already = (_names(bench) for _ in range(4))
    items = _claimed(bench, good)
    released = _claimed(bench, lost)
    bench.hub.release([Release(lease=item.lease) for item in released])
    done = [turn_commit(item) for item in _claimed(bench, already)]
    assert bench.hub.commit_turns(done) == [_OK] * 3
    commits, expected = _shuffle(
        bench,
        [
            *((turn_commit(item, events=[b"e"]), _OK) for item in items),
            *((turn_commit(item), _LOST) for item in released),
            *((turn_commit(item, execution=2), Outcome.CONFLICT) for item in _claimed(bench, conflicting)),
            *((commit, Outcome.ALREADY) for commit in done),
        ],
    )
    through = bench.hub.exchange(Exchange(commits=commits)).commits if bench.rng.random() < 0.5 else None
    assert list(bench.hub.commit_turns(commits) if through is None else through) == expected
    bench.purge(*good, *lost, *conflicting, *already, force=True)


def _shuffled_work(bench: Bench) -> None:
    (name,) = _names(bench, 1)
    _running(bench, [name], activities=[activity(fresh("t")) for _ in range(9)])
    work = bench.claim_work()
    bench.rng.shuffle(work)
    gone, released = work[:3], work[3:6]
    bench.hub.complete_activities([ActivityDone(lease=item.lease, message=None) for item in gone])
    bench.hub.release([Release(lease=item.lease) for item in released])
    done, expected = _shuffle(
        bench,
        [
            *((item, _LOST) for item in gone + released),
            *((item, _OK) for item in work[6:]),
        ],
    )
    results = [ActivityDone(lease=item.lease, message=message(item.id, name)) for item in done]
    assert list(bench.hub.complete_activities(results)) == expected
    told = ids_by_instance(bench.claim())
    assert told[name] == [item.id for item, outcome in zip(done, expected, strict=True) if outcome is _OK]
    bench.purge(name, force=True)


def _shuffled_leases(bench: Bench) -> None:
    held, given_back = _names(bench), _names(bench)
    items, released = _claimed(bench, held), _claimed(bench, given_back)
    bench.hub.release([Release(lease=item.lease) for item in released])
    (name,) = _names(bench, 1)
    ids = [fresh("t") for _ in range(6)]
    _running(bench, [name], activities=[activity(id) for id in ids])  # noqa: A001 - as in the record
    work = {item.id: item for item in bench.claim_work()}
    bench.send(instance=name)
    turns = {item.instance: item for item in bench.claim()}
    assert name in turns
    assert bench.commit(turns[name], cancel_activities=ids[:3]) is _OK
    leases, expected = _shuffle(
        bench,
        [
            *((item.lease, _OK) for item in items),
            *((item.lease, _LOST) for item in released),
            *((work[id].lease, Outcome.CANCELLED) for id in ids[:3]),  # noqa: A001
            *((work[id].lease, _OK) for id in ids[3:]),  # noqa: A001
        ],
    )
    answers = bench.hub.renew(leases, 2 * LEASE_MS)
    assert [outcome for outcome, _ in answers] == expected
    assert [renewed and renewed.token for _, renewed in answers] == [
        lease.token if outcome is _OK else None for lease, outcome in zip(leases, expected, strict=True)
    ]
    outcomes = [_OK if outcome is _OK else _LOST for outcome in expected]
    assert list(bench.hub.release([Release(lease=lease) for lease in leases])) == outcomes
    bench.purge(name, *held, *given_back, force=True)


def _shuffled_reads_and_purges(bench: Bench) -> None:
    ended, running, nobody = (_names(bench) for _ in range(3))
    _running(bench, ended, status=COMPLETED)
    _running(bench, running)
    asked, expected = _shuffle(
        bench,
        [
            *((name, (name, COMPLETED)) for name in ended * 2),
            *((name, (name, RUNNING)) for name in running),
            *((name, None) for name in nobody),
        ],
    )
    assert [_brief(info) for info in bench.hub.get_instances(asked)] == expected
    ids, outcomes = _shuffle(
        bench,
        [
            *((name, _OK) for name in ended),
            *((name, Outcome.CONFLICT) for name in running),
            *((name, Outcome.NOT_FOUND) for name in nobody),
        ],
    )
    purged = bench.purge(*ids)
    assert (list(purged.outcomes), purged.deleted, purged.complete) == (outcomes, 3, True)
    bench.purge(*running, force=True)


def _brief(info: InstanceInfo | None) -> tuple[str, OrchestrationStatus] | None:
    return None if info is None else (info.id, info.status)

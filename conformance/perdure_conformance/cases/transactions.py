"""TXN: what is put down in a caller's transaction happens with its commit, or not at all."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, Final

import pytest

from perdure.spi import (
    START_MESSAGE_ID,
    BadId,
    ClaimTurns,
    Exchange,
    InstanceInfo,
    InvalidRequest,
    OrchestrationStatus,
    Outcome,
    TooLarge,
    TurnItem,
    Wake,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case
from perdure_conformance.driver import COMPLETED, LEASE_MS, Driver, fresh, ids_of, message, new_instance
from perdure_conformance.threads import PATIENCE_SECONDS, at_once

_OK: Final = Outcome.OK
_NEEDS: Final[Any] = {"requires": ("caller_transaction",), "hooks": ("transaction",)}


class _Undone(Exception):
    """What ends a transaction that is to be rolled back."""


def _put(bench: Bench, *items: Any, driver: Driver | None = None) -> list[Outcome]:
    """Put items down in a transaction that is committed: instances first."""
    hub = (driver or bench).hub
    starts = [item for item in items if hasattr(item, "start")]
    messages = [item for item in items if not hasattr(item, "start")]
    with bench.adapter.transaction() as connection:
        return list(hub.enlist(connection, starts=starts, messages=messages))


def _read(bench: Bench, *instances: str) -> list[InstanceInfo | None]:
    # While a transaction is open only what is sure not to write is called: a store may have a single writer.
    return list(bench.hub.get_instances(list(instances)))


def _claim(driver: Driver, *, by_exchange: bool) -> list[TurnItem]:
    if not by_exchange:
        return driver.claim(max_items=10)
    turns = driver.hub.exchange(Exchange(claim_turns=ClaimTurns(worker="w", max_items=10, lease_ms=LEASE_MS))).turns
    assert turns is not None
    return list(turns.items)


class TransactionCases:
    """Cases TXN."""

    @case("CALLER", "I4", **_NEEDS)
    def test_txn_01_what_is_put_down_happens_with_the_commit(self, bench: Bench) -> None:
        """Starts and messages that are put down in a caller's transaction take effect with its commit, just as created
        and sent, and nothing of them is there before."""
        fields: dict[str, Any] = {
            "name": "other",
            "start": b"start",
            "input": b"",
            "version": "2",
            "parent": "p",
            "tags": {"k": "v", "l": ""},
            "generation": fresh("g"),
        }
        bench.started("b", events=[b"e"])
        with bench.adapter.transaction() as connection:
            outcomes = bench.hub.enlist(
                connection,
                starts=[new_instance("a", **fields)],
                messages=[message("1", "b", payload=b"\0one"), message("2", "a", payload=b"")],
            )
            assert list(outcomes) == [_OK] * 3
            assert _read(bench, "a") == [None]
            assert bench.find() == ["b"]
            assert bench.hub.stats().instances == {OrchestrationStatus.RUNNING: 1}
        put = bench.get("a")
        created = new_instance("c", **fields)
        assert list(bench.hub.create_instances([created])) == [_OK]
        like = bench.get("c")
        for field in ("generation", "name", "version", "parent", "tags", "input", "status", "execution", "next_seq"):
            assert getattr(put, field) == getattr(like, field), field
        items = {item.instance: item for item in bench.claim(max_items=10)}
        assert sorted(items) == ["a", "b", "c"]
        assert [(one.id, one.payload) for one in items["a"].messages] == [(START_MESSAGE_ID, b"start"), ("2", b"")]
        assert [(one.id, one.payload) for one in items["b"].messages] == [("1", b"\0one")]
        for item in items.values():
            assert bench.commit(item, status=COMPLETED) is _OK

    @case("CALLER", "I4", **_NEEDS)
    def test_txn_02_a_rollback_leaves_nothing(self, bench: Bench) -> None:
        """Of what was put down in a transaction that is rolled back nothing remains, and all of it can be put down
        anew."""
        bench.started("b", events=[b"e"])
        bench.ended("c")
        start, replacing = new_instance("a"), new_instance("c", replace_if=frozenset([COMPLETED]))
        sent = message("m", "b")
        with bench.unchanged("a", "b", "c"), suppress(_Undone), bench.adapter.transaction() as connection:
            outcomes = bench.hub.enlist(connection, starts=[start, replacing], messages=[sent])
            assert list(outcomes) == [_OK, Outcome.REPLACED, _OK]
            raise _Undone
        assert bench.claim() == []
        assert _put(bench, start, replacing, sent) == [_OK, Outcome.REPLACED, _OK]
        assert sorted(item.instance for item in bench.claim(max_items=10)) == ["a", "b", "c"]

    @case("CALLER", "I8", variants=("claim", "exchange"), **_NEEDS)
    def test_txn_03_the_order_is_kept(self, bench: Bench) -> None:
        """What was put down in one transaction takes effect in that order, over as many calls as it was; and after what
        was committed before."""
        bench.started("b")
        bench.send("0", instance="b")
        with bench.adapter.transaction() as connection:
            for number in range(1, 4):
                assert list(bench.hub.enlist(connection, messages=[message(str(number), "b")])) == [_OK]
            assert list(bench.hub.enlist(connection, starts=[new_instance("a")])) == [_OK]
            together = [message(str(number), "a") for number in (5, 3, 4)]
            assert list(bench.hub.enlist(connection, messages=together)) == [_OK] * 3
        assert _put(bench, message("4", "b"), message("6", "a")) == [_OK, _OK]
        bench.send("5", instance="b")
        items = _claim(bench, by_exchange=bench.variant == "exchange")
        assert {item.instance: ids_of(item.messages) for item in items} == {
            "a": [START_MESSAGE_ID, "5", "3", "4", "6"],
            "b": ["0", "1", "2", "3", "4", "5"],
        }

    @case("CALLER", "I5", "I11", **_NEEDS)
    def test_txn_04_what_can_not_be_is_said_at_once(self, bench: Bench) -> None:
        """What is in vain from the beginning, because of an instance that is there, answers so and is not put down; a
        target that takes the place of one that has ended is reached."""
        known = new_instance("a")
        bench.hub.create_instances([known])
        bench.turn()
        bench.ended("b")
        bench.started("c")
        with bench.unchanged("a", "b", "c"):
            outcomes = _put(
                bench,
                known,
                new_instance("a"),
                new_instance("c", replace_if=frozenset([COMPLETED])),
                message("m", "b"),
                message("m", "a", generation="another"),
            )
            assert outcomes == [Outcome.ALREADY, Outcome.EXISTS, Outcome.EXISTS, Outcome.TERMINAL, Outcome.NOT_FOUND]
        # A target of which nothing is known may yet come to be; if it doesn't, that is all.
        with bench.unchanged("a", "b", "c", "d"):
            assert _put(bench, message("m", "d")) in ([_OK], [Outcome.NOT_FOUND])
        assert bench.create("d") == [_OK]
        assert ids_of(bench.turn().messages) == [START_MESSAGE_ID]
        reopening = message("r", "b", reopen=frozenset([COMPLETED]))
        assert _put(bench, reopening) == [_OK]
        item = bench.claim_one()
        assert (item.instance, ids_of(item.messages)) == ("b", ["r"])
        assert bench.commit(item, status=COMPLETED) is _OK
        with bench.adapter.transaction() as connection:
            replacing = new_instance("b", replace_if=frozenset([COMPLETED]))
            assert list(bench.hub.enlist(connection, starts=[replacing])) == [Outcome.REPLACED]
            assert list(bench.hub.enlist(connection, messages=[message("m", "b")])) == [_OK]
        item = bench.claim_one()
        assert (item.instance, item.generation, ids_of(item.messages)) == (
            "b",
            replacing.generation,
            [START_MESSAGE_ID, "m"],
        )

    @case("CALLER", "LIMITS", **_NEEDS)
    def test_txn_05_a_malformed_item_spoils_nothing(self, bench: Bench) -> None:
        """A malformed item raises, nothing of that call is put down, and the transaction is as good as before."""
        bench.started("b")
        large = bytes(bench.limits.max_payload + 1)
        calls: list[tuple[type[Exception], dict[str, Any]]] = [
            (BadId, {"starts": [new_instance("x"), new_instance("")]}),
            (BadId, {"starts": [new_instance("x")], "messages": [message("m", "b"), message("a\0", "b")]}),
            (BadId, {"messages": [message("m", "b"), message(START_MESSAGE_ID, "b")]}),
            (TooLarge, {"starts": [new_instance("x"), new_instance("y", start=large)]}),
            (TooLarge, {"starts": [new_instance("x")], "messages": [message("m", "b", payload=large)]}),
            (InvalidRequest, {"starts": [new_instance("x")], "messages": [message("m", "b", due=-1)]}),
        ]
        with bench.adapter.transaction() as connection:
            assert list(bench.hub.enlist(connection, messages=[message("1", "b")])) == [_OK]
            for expected, fields in calls:
                with pytest.raises(expected):
                    bench.hub.enlist(connection, **fields)
            assert list(bench.hub.enlist(connection, messages=[message("2", "b")])) == [_OK]
            assert list(bench.hub.enlist(connection)) == []
        assert bench.find() == ["b"]
        assert ids_of(bench.turn().messages) == ["1", "2"]

    @case("CALLER", **_NEEDS)
    def test_txn_06_what_is_no_connection_is_refused(self, bench: Bench) -> None:
        """What is no connection to the store raises InvalidRequest, and has no effect."""
        bench.started("a", events=[b"e"])
        for nonsense in (object(), "connection", 7, [], bench.url, bench.provider):
            with bench.unchanged("a", "b"), pytest.raises(InvalidRequest):
                bench.hub.enlist(nonsense, starts=[new_instance("b")], messages=[message("m", "a")])
        assert _put(bench, new_instance("b"), message("m", "a")) == [_OK, _OK]
        assert sorted(item.instance for item in bench.claim(max_items=10)) == ["a", "b"]

    @case(
        "CALLER",
        variants=("get", "query", "stats", "create", "send", "purge", "commit", "claim", "exchange"),
        **_NEEDS,
    )
    def test_txn_07_whoever_calls_after_the_commit_finds_it(self, bench: Bench) -> None:
        """After the commit every call finds what was put down, whichever it is, on any handle."""
        leased = bench.started("b", keep_ms=LEASE_MS)
        other = bench.a_handle_each(2)[1]
        bench.send("m", instance="b")
        (item,) = bench.claim(held=[leased.lease])
        for driver in (bench, other):
            # So that whoever remembers what wasn't there is found out.
            assert list(driver.hub.get_instances(["a"])) == [None]
            assert driver.find() == ["b"]
        assert _put(bench, new_instance("a")) == [_OK]
        driver = other if bench.rng.random() < 0.5 else bench
        match bench.variant:
            case "get":
                assert driver.get("a").id == "a"
            case "query":
                assert driver.find() == ["a", "b"]
            case "stats":
                assert driver.hub.stats().instances[OrchestrationStatus.PENDING] == 1
            case "create":
                assert driver.create("a") == [Outcome.EXISTS]
            case "send":
                assert driver.send("m", instance="a") == [_OK]
            case "purge":
                assert list(driver.purge("a", force=True).outcomes or ()) == [_OK]
            case "commit":
                assert driver.commit(item, messages=[message("from b", "a")]) is _OK
            case "claim" | "exchange":
                items = _claim(driver, by_exchange=bench.variant == "exchange")
                assert [found.instance for found in items] == ["a"]
        if bench.variant == "commit":
            assert ids_of(driver.claim_one().messages) == [START_MESSAGE_ID, "from b"]

    @case("I15", "CALLER", **_NEEDS)
    def test_txn_08_hubs_are_kept_apart(self, bench: Bench) -> None:
        """What is put down for one hub happens there and nowhere else; one transaction may be for several hubs."""
        one, two, three = bench.new_hub(), bench.new_hub(), bench.new_hub()
        three.started("a", events=[b"e"])
        for number in range(2):
            with bench.adapter.transaction() as connection:
                assert list(one.hub.enlist(connection, starts=[new_instance(f"a{number}")])) == [_OK]
                assert list(two.hub.enlist(connection, starts=[new_instance(f"a{number}", name="n")])) == [_OK]
                assert list(one.hub.enlist(connection, messages=[message("m1", f"a{number}")])) == [_OK]
        assert three.find() == ["a"]
        assert three.claim() == []
        found = {item.instance: ids_of(item.messages) for item in one.claim(max_items=10)}
        assert found == {"a0": [START_MESSAGE_ID, "m1"], "a1": [START_MESSAGE_ID, "m1"]}
        found = {item.instance: ids_of(item.messages) for item in two.claim(max_items=10)}
        assert found == {"a0": [START_MESSAGE_ID], "a1": [START_MESSAGE_ID]}

    @case("I5", "I7", "CALLER", **_NEEDS)
    def test_txn_09_a_message_comes_once(self, bench: Bench) -> None:
        """A message is delivered once, however often it was put down or sent, pending or consumed; a timer when it is
        due."""
        bench.started("a")
        sent = message("m", "a")
        with bench.adapter.transaction() as connection:
            bench.hub.enlist(connection, messages=[sent, sent])
            bench.hub.enlist(connection, messages=[sent])
        _put(bench, sent)
        bench.send("n")
        _put(bench, message("n", "a"), message("timer", "a", due=bench.clock.now() + LEASE_MS))
        assert ids_of(bench.turn().messages) == ["m", "n"]
        _put(bench, sent, message("n", "a"))
        assert bench.send("m") == [Outcome.DUPLICATE]
        assert bench.claim() == []
        bench.wait(LEASE_MS - 1)
        assert bench.claim() == []
        bench.wait(1)
        assert ids_of(bench.turn().messages) == ["timer"]

    @case("CALLER", "I7", level=Level.L2, requires=("caller_transaction", "concurrent_threads"), hooks=("transaction",))
    def test_txn_10_many_may_do_so_at_once(self, bench: Bench) -> None:
        """Transactions of many threads put down what they like: what was committed happens once, in the order of each,
        and what was rolled back never."""
        bench.started("all")
        drivers = bench.a_handle_each(2)
        claimed: dict[str, list[str]] = {}
        done = threading.Event()

        def put(number: int) -> None:
            driver = drivers[number % len(drivers)]
            for step in range(4):
                name = f"{number}.{step}"
                try:
                    with bench.adapter.transaction() as connection:
                        driver.hub.enlist(connection, starts=[new_instance(name)])
                        driver.hub.enlist(connection, messages=[message("m", name), message(name, "all")])
                        if step == 2:
                            raise _Undone
                except _Undone:
                    continue

        def claim(driver: Driver) -> None:
            ended = False
            while not ended:
                # Asked before the claim, so that the last one comes after all was committed.
                ended = done.is_set()
                for item in driver.claim(max_items=10):
                    claimed.setdefault(item.instance, []).extend(ids_of(item.messages))
                    assert driver.commit(item) is _OK

        def run(number: int) -> None:
            if number == 4:
                claim(bench)
                return
            try:
                put(number)
            finally:
                with lock:
                    finished.append(number)
                if len(finished) == 4:
                    done.set()

        lock, finished = threading.Lock(), list[int]()
        at_once(run, 5)
        names = [f"{number}.{step}" for number in range(4) for step in (0, 1, 3)]
        told = claimed.pop("all")
        assert sorted(told) == sorted(names)
        assert claimed == {name: [START_MESSAGE_ID, "m"] for name in names}
        for number in range(4):
            mine = [name for name in told if name.startswith(f"{number}.")]
            assert mine == sorted(mine)

    @case("CALLER", requires=("caller_transaction", "push"), hooks=("transaction",))
    def test_txn_11_who_subscribed_is_told(self, bench: Bench) -> None:
        """After the commit those who subscribed are told that there is work."""
        woken = threading.Event()

        def on_wake(wake: Wake) -> None:
            if wake.kind == "work":
                woken.set()

        subscription = bench.hub.subscribe(on_wake)
        assert subscription is not None
        try:
            for name in ("a", "b"):
                woken.clear()
                assert _put(bench, new_instance(name)) == [_OK]
                assert woken.wait(PATIENCE_SECONDS), "nobody was told"
                assert bench.turn().instance == name
        finally:
            subscription.close()

    @case("I15", "CALLER", requires=("caller_transaction",), hooks=("transaction", "count_rows"))
    def test_txn_12_it_goes_with_its_hub(self, bench: Bench) -> None:
        """What was put down goes with the hub that it was meant for, and comes to no other of that name."""
        name = bench.hub_name()
        driver = bench.new_hub(name)
        assert _put(bench, new_instance("a"), message("m", "a"), driver=driver) == [_OK, _OK]
        assert bench.provider.delete_hub(name) is _OK
        assert sum(bench.adapter.count_rows(name).values()) == 0
        again = bench.new_hub(name)
        assert again.find() == []
        assert again.claim() == []
        assert _put(bench, new_instance("b"), driver=again) == [_OK]
        assert again.claim_one().instance == "b"

"""CAP: a provider is what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import pytest

from perdure.plugins import PROVIDERS_GROUP, find_provider, installed_entry_points
from perdure.spi import (
    MIN_ID_BYTES,
    MIN_PAYLOAD_BYTES,
    SPI_VERSION,
    BadId,
    Capabilities,
    Hub,
    InvalidRequest,
    Limits,
    Outcome,
    Provider,
    ProviderUnavailable,
    ProviderURL,
    PurgeRequest,
    Subscription,
    TooLarge,
    Transient,
)
from perdure_conformance.bench import Bench
from perdure_conformance.case import case
from perdure_conformance.driver import (
    COMPLETED,
    LEASE_MS,
    activity,
    check_next_due,
    fresh,
    ids_by_instance,
    ids_of,
    message,
    new_instance,
)
from perdure_conformance.honesty import NEGATIVE_CHECKS, declares

_OK: Final = Outcome.OK

# Up to here it is worth it to go to a limit; what is larger is only bounded from above.
_MOST_MESSAGES: Final = 5_000
_MOST_BYTES: Final = 128 * 1024 * 1024

_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]*")

_LIST_PROVIDERS: Final = """
import sys
before = set(sys.modules)
import perdure
from perdure.plugins import PROVIDERS_GROUP, installed_entry_points
found = [str(found) for found in installed_entry_points(PROVIDERS_GROUP)]
print(len(found))
print(*sorted(set(sys.modules) - before), sep="\\n")
"""


class CapabilityCases:
    """Cases CAP."""

    @case("CAPABILITIES", variants=("tag_query", "purge_cascade", "push", "single_txn_exchange", "durable"))
    def test_cap_01_what_is_declared_works_and_nothing_else(self, bench: Bench) -> None:
        """A declared capability works; the operation of one that is not raises Unsupported, and has no effect."""
        if declares(bench.capabilities, bench.variant):
            _POSITIVE_CHECKS[bench.variant](bench)
            return
        NEGATIVE_CHECKS[bench.variant](bench)
        # What has nothing to do with it works on.
        assert bench.new_hub().create("a") == [_OK]

    @case("CAPABILITIES")
    def test_cap_02_what_a_provider_is_does_not_change(self, bench: Bench) -> None:
        """Name, version, capabilities and limits are those of every handle, and stay as they are once it is open."""
        one, two = bench.provider, bench.connect()
        first = _description(one)
        assert _description(two) == first
        bench.started("a", activities=[activity()])
        bench.send()
        bench.claim(), bench.claim_work()
        assert _description(one) == first
        assert all(isinstance(text, str) and text for text in (one.name, one.version))
        assert isinstance(one.capabilities, Capabilities)
        assert isinstance(one.limits, Limits)
        assert one.schema_status().state == "ok"
        assert list(one.migrate(dry_run=True)) == []
        assert bench.find() == ["a"]

    @case("CAPABILITIES")
    def test_cap_03_what_is_built_is_declared(self, bench: Bench) -> None:
        """What a provider implements of the optional operations it declares, and it declares no more than that."""
        hub, capabilities = bench.provider.hub(bench.hub.name), bench.capabilities
        assert (type(hub).exchange is not Hub.exchange) == capabilities.single_txn_exchange
        overridden = type(hub).subscribe is not Hub.subscribe
        if not overridden:
            assert capabilities.push == "none"
        subscription = hub.subscribe(_ignore)
        try:
            assert (subscription is not None) == (capabilities.push != "none")
        finally:
            if subscription is not None:
                subscription.close()
        if type(hub).enlist is Hub.enlist:
            assert not capabilities.caller_transaction
        # Reserved: there is no operation that could prove it.
        assert capabilities.status_query is False
        assert capabilities.push in ("none", "process", "network")
        if capabilities.multi_host:
            assert capabilities.multi_process
        for name in (name for name in NEGATIVE_CHECKS if name != "push"):
            assert type(getattr(capabilities, name)) is bool
        assert capabilities.read_lag_ms >= 0
        assert bench.create("a") == [_OK]

    @case(
        "LIMITS",
        slow=True,
        variants=(
            "max_payload",
            "max_batch",
            "max_commit_bytes",
            "max_pending",
            "max_id_bytes",
            "dedupe_ms",
            "max_due_ahead_ms",
            "time_resolution_ms",
            "max_tags",
        ),
    )
    def test_cap_04_limits_are_true(self, bench: Bench) -> None:
        """What is at a limit works, and one more is refused by a typed error, without effect."""
        assert type(getattr(bench.limits, bench.variant)) is int
        _LIMIT_CHECKS[bench.variant](bench)

    @case("CAPABILITIES", slow=True)
    def test_cap_05_the_entry_point_leads_to_the_provider_and_costs_nothing(self, bench: Bench) -> None:
        """The URL's scheme leads to the provider, written for this interface, and nothing imports it before then."""
        assert bench.provider.SPI[0] == SPI_VERSION[0]
        assert bench.provider.SPI <= SPI_VERSION
        assert bench.create("a") == [_OK]
        scheme = ProviderURL.parse(bench.url).scheme
        names = (scheme, scheme.partition("+")[0])
        points = [found.point for found in installed_entry_points(PROVIDERS_GROUP) if found.point.name in names]
        if not points:
            # It is not installed under its scheme: its tests build it themselves.
            return
        try:
            factory, record = find_provider(scheme)
        except ProviderUnavailable as error:
            raise AssertionError(f"the entry point of {scheme}:// leads nowhere: {error}") from error
        assert callable(factory)
        assert record.scheme in names
        assert _SCHEME.fullmatch(record.scheme)
        if record.distribution is None:
            # Registered by hand, before any that is installed.
            return
        assert record.version
        imported = _imported_by_listing()
        assert [point.module for point in points if point.module in imported] == []

    @case("I19", "CAPABILITIES")
    def test_cap_06_another_handle_reads_what_was_written(self, bench: Bench) -> None:
        """A handle without `read_lag_ms` reads at once what another wrote, and hubs are those of the store."""
        if bench.capabilities.read_lag_ms:
            assert bench.create("a") == [_OK]
            return
        provider = bench.another_handle()
        if provider is None:
            # Nobody else reads it.
            assert bench.create("a") == [_OK]
            return
        other = bench.on(provider)
        bench.create("a")
        assert other.find() == ["a"]
        item = other.claim_one()
        assert bench.claim() == []
        assert bench.commit(item, events=[b"e"], custom_status=b"1", activities=[activity()]) is _OK
        assert (other.history(), other.get().custom_status) == ([b"e"], b"1")
        work = other.claim_one_work()
        assert bench.complete(work, message("r")) is _OK
        assert ids_of(other.claim_one().messages) == ["r"]
        bench.purge("a", force=True)
        assert other.find() == []
        name = bench.hub_name()
        bench.new_hub(name)
        assert name in provider.list_hubs()
        assert provider.create_hub(name) is Outcome.EXISTS


def _ignore(wake: object) -> None:
    """Do nothing about a hint."""


def _description(provider: Provider) -> tuple[object, ...]:
    return (provider.SPI, provider.name, provider.version, provider.capabilities, provider.limits)


def _imported_by_listing() -> set[str]:
    """Return the modules that a fresh interpreter imports to list what providers there are."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", _LIST_PROVIDERS],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    count, *modules = done.stdout.split("\n")
    assert int(count) > 0
    return set(modules)


# Capabilities that are declared.


def _check_tag_query(bench: Bench) -> None:
    bench.create("a", tags={"k": "v"})
    bench.create("b", tags={"k": "w"})
    assert bench.find(tags={"k": "v"}) == ["a"]


def _check_purge_cascade(bench: Bench) -> None:
    bench.ended("a")
    bench.create("b", parent="a")
    bench.turn(status=COMPLETED)
    bench.ended("c")
    assert bench.hub.purge(PurgeRequest(ids=["a"], cascade=True)).deleted == 2
    assert bench.find() == ["c"]


def _check_push(bench: Bench) -> None:
    subscription = bench.hub.subscribe(_ignore)
    assert isinstance(subscription, Subscription)
    subscription.close()
    assert bench.create("a") == [_OK]


def _check_single_txn_exchange(bench: Bench) -> None:
    # That an error leaves nothing behind is for the cases of the exchange; here that it is one at all.
    hub = bench.provider.hub(bench.hub.name)
    assert type(hub).exchange is not Hub.exchange
    assert bench.create("a") == [_OK]


def _check_durable(bench: Bench) -> None:
    bench.started("a", events=[b"e"])
    bench.reopen()
    assert bench.history() == [b"e"]


_POSITIVE_CHECKS: Final[dict[str, Callable[[Bench], None]]] = {
    "tag_query": _check_tag_query,
    "purge_cascade": _check_purge_cascade,
    "push": _check_push,
    "single_txn_exchange": _check_single_txn_exchange,
    "durable": _check_durable,
}


# Limits.


def _check_max_payload(bench: Bench) -> None:
    most = bench.limits.max_payload
    assert most >= MIN_PAYLOAD_BYTES
    bench.started("a")
    largest = bytes(range(256)) * (most // 256) + bytes(most % 256)
    with bench.unchanged("a"), pytest.raises(TooLarge):
        bench.send("m", payload=largest + b"x")
    assert bench.send("m", payload=largest) == [_OK]
    assert [delivery.payload == largest for delivery in bench.claim_one().messages] == [True]


def _check_max_batch(bench: Bench) -> None:
    most = bench.limits.max_batch
    assert most >= 100
    new = [new_instance(f"i{number}") for number in range(most + 1)]
    with bench.unchanged(), pytest.raises(InvalidRequest):
        bench.hub.create_instances(new)
    assert bench.hub.create_instances(new[:-1]) == [_OK] * most


def _check_max_commit_bytes(bench: Bench) -> None:
    most = bench.limits.max_commit_bytes
    assert most >= bench.limits.max_payload
    if most > _MOST_BYTES:
        bench.started("a", events=[bytes(bench.limits.max_payload)])
        return
    step = min(bench.limits.max_payload, 4 * 1024 * 1024)
    block = bytes(step)
    events = [block] * (most // step) + ([bytes(most % step)] if most % step else [])
    bench.create("a")
    item = bench.claim_one()
    with bench.unchanged("a"):
        # Whatever its bytes are of, they count.
        for more in ({"output": b"x"}, {"messages": [message(payload=b"x")]}, {"activities": [activity(payload=b"x")]}):
            with pytest.raises(TooLarge):
                bench.commit(item, events=events, **more)
        with pytest.raises(TooLarge):
            bench.commit(item, events=[*events, b"x"])
    assert bench.commit(item, events=events) is _OK
    assert bench.get().next_seq == len(events)


def _check_max_pending(bench: Bench) -> None:
    most = bench.limits.max_pending
    assert most >= 1
    bench.started("a")
    bench.started("b")
    if most > _MOST_MESSAGES:
        assert bench.send("m") == [_OK]
        return
    _send(bench, [f"m{number}" for number in range(most)])
    with bench.unchanged("a", "b"):
        for instances in (["a"], ["b", "a"]):
            with pytest.raises(Transient) as caught:
                bench.hub.send_messages([message("one-more", instance) for instance in instances])
            assert caught.value.retryable
        # One that is known already takes no room.
        assert bench.send("m0") == [Outcome.DUPLICATE]
    assert bench.send("m", instance="b") == [_OK]
    # It binds nothing else: a commit's own messages come in.
    items = {item.instance: item for item in bench.claim(max_messages=2)}
    assert bench.commit(items["b"], messages=[message("from-b", "a")]) is _OK
    assert bench.commit(items["a"]) is _OK
    assert bench.send("one-more") == [_OK]


def _send(bench: Bench, names: list[str]) -> None:
    most = bench.limits.max_batch
    for start in range(0, len(names), most):
        part = names[start : start + most]
        assert bench.send(*part) == [_OK] * len(part)


def _check_max_id_bytes(bench: Bench) -> None:
    most = bench.limits.max_id_bytes
    assert most >= MIN_ID_BYTES
    # By bytes and not by characters: the same number of characters would be four times too many.
    longest = "\N{GRINNING FACE}" * (most // 4) + "x" * (most % 4)
    other = longest[:-1] + "\N{WINKING FACE}" if most % 4 == 0 else longest[:-1] + "y"
    assert bench.create(longest, name=longest, tags={longest: longest}, version=longest) == [_OK]
    assert bench.create(other) == [_OK]
    assert bench.send(longest, other, instance=longest) == [_OK, _OK]
    items = {item.instance: item for item in bench.claim()}
    assert ids_of(items[longest].messages) == ["@start", longest, other]
    assert bench.commit(items[longest], commit_id=longest, activities=[activity(longest, name=longest)]) is _OK
    assert ids_of(bench.claim_work()) == [longest]
    info = bench.get(longest)
    assert (info.id, info.name, info.version, info.tags) == (longest, longest, longest, {longest: longest})
    with bench.unchanged(longest, other):
        for too_long in (longest + "x", "x" * (most + 1)):
            for call in (
                lambda text=too_long: bench.create(text),
                lambda text=too_long: bench.create(fresh("i"), name=text),
                lambda text=too_long: bench.create(fresh("i"), generation=text),
                lambda text=too_long: bench.send(text, instance=other),
                lambda text=too_long: bench.commit(items[other], activities=[activity(text)]),
                lambda text=too_long: bench.commit(items[other], commit_id=text),
            ):
                with pytest.raises(BadId):
                    call()
    assert bench.commit(items[other]) is _OK


def _check_dedupe_ms(bench: Bench) -> None:
    kept = bench.limits.dedupe_ms
    assert kept >= 600_000
    bench.started("a")
    assert bench.send("m") == [_OK]
    bench.turn()
    bench.wait(kept - bench.limits.time_resolution_ms)
    assert bench.send("m") == [Outcome.DUPLICATE]
    assert bench.claim() == []
    bench.wait(2 * bench.limits.time_resolution_ms)
    assert bench.send("m") == [_OK]
    assert ids_of(bench.claim_one().messages) == ["m"]


def _check_max_due_ahead_ms(bench: Bench) -> None:
    last = bench.clock.now() + bench.limits.max_due_ahead_ms
    # Whole steps of the provider's time.
    last -= last % bench.limits.time_resolution_ms
    beyond = bench.clock.now() + bench.limits.max_due_ahead_ms + 1
    bench.started("a")
    bench.send("first")
    item = bench.claim_one()
    with bench.unchanged("a", "b"):
        for call in (
            lambda: bench.send("late", due=beyond),
            lambda: bench.create("b", due=beyond),
            lambda: bench.commit(item, messages=[message("late", due=beyond)]),
            lambda: bench.commit(item, activities=[activity(due=beyond)]),
        ):
            with pytest.raises(InvalidRequest):
                call()
    assert bench.send("late", due=last) == bench.create("b", due=last) == [_OK]
    assert bench.commit(item, activities=[activity(due=last)]) is _OK
    assert (bench.claim(), bench.claim_work()) == ([], [])
    check_next_due(bench.claim_batch(), last)
    check_next_due(bench.claim_work_batch(), last)
    bench.clock.set(last - bench.limits.time_resolution_ms)
    assert (bench.claim(), bench.claim_work()) == ([], [])
    bench.clock.set(last)
    assert ids_by_instance(bench.claim()) == {"a": ["late"], "b": ["@start"]}
    assert len(bench.claim_work()) == 1


def _check_time_resolution_ms(bench: Bench) -> None:
    step = bench.limits.time_resolution_ms
    assert step >= 1
    bench.clock.set(bench.clock.now() // step * step)
    now = bench.clock.now()
    bench.started("a", messages=[message("timer", due=now + 7 * step)], activities=[activity(due=now + 8 * step)])
    bench.wait(3 * step)
    assert bench.send("late", due=now + 9 * step) == [_OK]
    assert (bench.get().created_at, bench.get().updated_at) == (now, now)
    bench.wait(4 * step - 1)
    assert bench.claim() == []
    bench.wait(1)
    item = bench.claim_one(lease_ms=LEASE_MS * step)
    assert [(delivery.id, delivery.due) for delivery in item.messages] == [("timer", now + 7 * step)]
    assert item.lease.expires_at == bench.clock.now() + LEASE_MS * step
    bench.wait(step - 1)
    assert bench.claim_work() == []
    bench.wait(1)
    assert len(bench.claim_work()) == 1


def _check_max_tags(bench: Bench) -> None:
    tags = {f"k{number}": f"v{number}" for number in range(bench.limits.max_tags + 1)}
    with bench.unchanged("a"), pytest.raises(InvalidRequest):
        bench.create("a", tags=tags)
    del tags["k0"]
    assert bench.create("a", tags=tags) == [_OK]
    assert bench.get().tags == tags


_LIMIT_CHECKS: Final[dict[str, Callable[[Bench], None]]] = {
    "max_payload": _check_max_payload,
    "max_batch": _check_max_batch,
    "max_commit_bytes": _check_max_commit_bytes,
    "max_pending": _check_max_pending,
    "max_id_bytes": _check_max_id_bytes,
    "dedupe_ms": _check_dedupe_ms,
    "max_due_ahead_ms": _check_max_due_ahead_ms,
    "time_resolution_ms": _check_time_resolution_ms,
    "max_tags": _check_max_tags,
}

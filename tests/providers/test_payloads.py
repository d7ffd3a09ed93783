"""Payloads and ids come back as they went in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perdure.spi import BadId, InvalidRequest, Limits, NextExecution, Outcome, Provider, TooLarge
from perdure.spi.capabilities import MIN_ID_BYTES, MIN_PAYLOAD_BYTES
from perdure_conformance.driver import FAILED, Driver, activity, message, new_instance, turn_commit

PAYLOADS = [
    bytes(range(256)),
    b"",
    b"\0",
    b"\0x\0y\0",
    b'{"b":1,"a":1.0,"a":-0.0,"c":1e400,"d":"\\u0041"}',
    '"\ud800 \udc00"'.encode("utf-8", "surrogatepass"),
    "\u00e9 e\u0301 \u202e \uffff \u2028 👩‍👩‍👧".encode(),
    b"\xff\xfe invalid \x1f\x8b gzip",
    b"'; DROP TABLE instances; -- %s {0} $where",
    bytes(1024 * 1024),
]

IDS = [
    "a'b\"c",
    "back\\slash/../%00",
    "; DROP TABLE x; --",
    "$where",
    "a.b$c",
    "\u00e9",
    "e\u0301",
    " a",
    "a ",
    "a\n",
    "A",
    "a",
    "😀" * (MIN_ID_BYTES // 4),
    "\x01",
    "\uffff",
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_every_payload_round_trips_byte_for_byte(driver: Driver, payload: bytes) -> None:
    driver.create(start=payload, input=payload)
    item = driver.claim_one()
    seen = [item.messages[0].payload, driver.get().input]
    driver.commit(
        item,
        events=[payload, payload],
        activities=[activity(payload=payload)],
        messages=[message(payload=payload)],
        custom_status=payload,
        memo=payload,
        output=payload,
    )
    item = driver.claim_one(inline_history=True)
    seen += [item.messages[0].payload, item.custom_status, item.memo, *(item.history or ())]
    seen += [driver.get().output, driver.get().custom_status, *driver.history(), driver.claim_one_work().payload]
    driver.commit(item, continued=NextExecution(events=[payload], input=payload))
    seen += [driver.get().input, *driver.history()]
    driver.send("last", payload=payload)
    item = driver.claim_one()
    seen.append(item.messages[0].payload)
    driver.commit(item, status=FAILED, failure=payload)
    seen.append(driver.get().failure)
    assert len(seen) == 16
    assert all(value == payload and type(value) is bytes for value in seen)


def test_a_payload_at_the_limit_works_and_one_more_byte_is_too_large(provider: Provider, driver: Driver) -> None:
    assert provider.limits.max_payload >= MIN_PAYLOAD_BYTES
    full, huge = bytes(provider.limits.max_payload), bytes(provider.limits.max_payload + 1)
    driver.create(start=full, input=full)
    item = driver.claim_one()
    assert item.messages[0].payload == full
    driver.commit(item, events=[full], output=full)
    assert driver.history() == [full]
    with pytest.raises(TooLarge) as caught:
        driver.hub.create_instances([new_instance("x"), new_instance("y", input=huge)])
    assert caught.value.index == 1
    with pytest.raises(TooLarge):
        driver.hub.send_messages([message("x"), message("y", payload=huge)])
    assert (driver.find(), driver.claim()) == (["a"], [])


@pytest.mark.parametrize("what", ["output", "custom_status", "memo", "failure"])
def test_no_field_of_a_commit_is_over_the_limit(provider: Provider, driver: Driver, what: str) -> None:
    driver.create()
    item = driver.claim_one()
    with pytest.raises(TooLarge):
        driver.commit(item, status=FAILED, **{what: bytes(provider.limits.max_payload + 1)})
    assert driver.commit(item) is Outcome.OK


def test_a_commit_over_its_limit_is_too_large(provider: Provider, driver: Driver) -> None:
    driver.create()
    item = driver.claim_one()
    chunk = bytes(provider.limits.max_payload)
    count = provider.limits.max_commit_bytes // len(chunk) + 1
    with pytest.raises(TooLarge):
        driver.commit(item, events=[chunk] * count)
    assert driver.get().next_seq == 0


@pytest.mark.parametrize("payload", [None, "text", bytearray(b"x"), memoryview(b"x"), 1])
def test_a_payload_is_bytes_and_nothing_else(driver: Driver, payload: Any) -> None:
    driver.create()
    item = driver.claim_one()
    for call in (
        lambda: driver.hub.send_messages([message(payload=payload)]),
        lambda: driver.create("b", start=payload),
        lambda: driver.commit(item, events=[payload]),
        lambda: driver.commit(item, activities=[activity(payload=payload)]),
    ):
        with pytest.raises(InvalidRequest):
            call()
    assert driver.commit(item) is Outcome.OK


def test_ids_are_compared_as_code_points(driver: Driver) -> None:
    assert driver.create(*IDS) == [Outcome.OK] * len(IDS)
    assert driver.create(*IDS) == [Outcome.EXISTS] * len(IDS)
    assert {item.instance for item in driver.claim()} == set(IDS)
    assert driver.find() == sorted(IDS, key=str.encode)
    for name in IDS:
        assert driver.get(name).id == name


def test_ids_of_messages_and_activities_are_compared_so_too(driver: Driver) -> None:
    driver.started(activities=[activity(name, name=name, queue="q") for name in IDS])
    assert driver.send(*IDS) == [Outcome.OK] * len(IDS)
    assert [delivery.id for delivery in driver.claim_one().messages] == IDS
    assert [(work.id, work.name) for work in driver.claim_work(queues=["q"], names=IDS)] == [(x, x) for x in IDS]


def test_names_versions_and_tags_round_trip(provider: Provider, driver: Driver) -> None:
    tags = {f"k{number} é": "😀" * number for number in range(provider.limits.max_tags)}
    for name in IDS:
        driver.create(name, name=name, version=name, parent=name, tags=tags, generation=name)
        info = driver.get(name)
        assert (info.name, info.version, info.parent, info.generation) == (name, name, name, name)
        assert info.tags == tags
    with pytest.raises(InvalidRequest):
        driver.create("x", tags=tags | {"one": "more"})


BAD_IDS = ["", "a\0", "\ud800", "x" * (MIN_ID_BYTES + 1), "😀" * (MIN_ID_BYTES // 4) + "x", None, 1, b"a"]


@pytest.mark.parametrize("bad", BAD_IDS)
def test_malformed_ids_are_refused_and_nothing_is_applied(provider: Provider, driver: Driver, bad: Any) -> None:
    assert provider.limits.max_id_bytes >= MIN_ID_BYTES
    if isinstance(bad, str) and MIN_ID_BYTES < len(bad.encode(errors="replace")) <= provider.limits.max_id_bytes:
        pytest.skip("this provider takes longer ids")
    driver.create()
    item = driver.claim_one()
    for call in (
        lambda: driver.hub.create_instances([new_instance("ok"), new_instance(bad)]),
        lambda: driver.hub.create_instances([new_instance("ok"), new_instance("b", name=bad)]),
        lambda: driver.hub.create_instances([new_instance("ok"), new_instance("b", generation=bad)]),
        lambda: driver.hub.send_messages([message("ok"), message(bad)]),
        lambda: driver.hub.send_messages([message("ok"), message("m", bad)]),
        lambda: driver.hub.commit_turns([turn_commit(item), turn_commit(item, commit_id=bad)]),
        lambda: driver.hub.commit_turns([turn_commit(item), turn_commit(item, activities=[activity(bad)])]),
        lambda: driver.hub.commit_turns([turn_commit(item), turn_commit(item, starts=[new_instance(bad)])]),
        lambda: driver.hub.get_instances(["ok", bad]),
    ):
        with pytest.raises(BadId) as caught:
            call()
        assert caught.value.index == 1
    assert driver.find() == ["a"]
    assert driver.commit(item) is Outcome.OK
    assert driver.claim() == []


def test_times_come_back_as_whole_milliseconds(driver: Driver) -> None:
    driver.ended()
    info = driver.get()
    assert {type(moment) for moment in (info.created_at, info.updated_at, info.completed_at)} == {int}
    assert info.created_at == driver.clock.now()


def test_twenty_megabytes_fit_into_a_batch(driver: Driver) -> None:
    driver.started()
    chunk = bytes(1024 * 1024)
    assert driver.send(*(f"m{number}" for number in range(20)), payload=chunk) == [Outcome.OK] * 20
    assert all(delivery.payload == chunk for delivery in driver.claim_one().messages)


def test_limits_cannot_be_changed_through_a_copy(provider: Provider) -> None:
    assert replace(provider.limits, max_tags=1) != provider.limits
    assert isinstance(provider.limits, Limits)

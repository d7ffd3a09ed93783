"""PAY: payloads, ids, names and times come back as they went in."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import pytest

from perdure.spi import (
    ActivityDone,
    BadId,
    Delivery,
    InstanceQuery,
    InvalidRequest,
    NextExecution,
    OrchestrationStatus,
    Outcome,
    Release,
    TooLarge,
    TurnItem,
)
from perdure.spi.capabilities import MIN_ID_BYTES, MIN_PAYLOAD_BYTES
from perdure_conformance.bench import Bench
from perdure_conformance.case import case
from perdure_conformance.driver import (
    COMPLETED,
    ENDED,
    FAILED,
    LEASE_MS,
    activity,
    fresh,
    ids_of,
    message,
    new_instance,
    turn_commit,
)

Payloads: TypeAlias = Sequence[bytes]
Found: TypeAlias = Iterable[bytes | None]

MEGABYTE: Final = 1024 * 1024

ODD_IDS: Final = (
    "a'b\"c`d",
    "back\\slash/../%00",
    "..",
    "; DROP TABLE x; --",
    "%s{0}${x}",
    "$where",
    "a.b$c",
    "a*[b]?_%",
    "\x01\x1f\x7f",
    "\u0085\u2028\u2029",
    "\uffff\ufeff",
    "\U0010ffff",
    "\u202eabc",
    "null",
    "0",
    "-1",
    "true",
    "[]",
    '{"a":1}',
)
"""Ids that mean something to somebody, but not to a store."""

ALIKE_IDS: Final = (
    *("a", "A", "a ", " a", "a\n", "a\t", "a\u00a0", "a\u200b", "a\u00ad", "a\ufe0f", "\uff41", "\u0430", "aa"),
    *("\u00e9", "e\u0301", "e", "E\u0301", "\u00c9"),
    *("ss", "\u00df", "\u1e9e", "SS", "\u017fs", "i", "I", "\u0131", "\u0130", "k", "\u212a"),
    *("\ufb01", "fi", "\u00e6", "ae", "1", "01", "1.0", "\u0661", "\U0001f469", "\U0001f469\u200d"),
    # Where several are joined to one text.
    *("b", "a,b", "a:b", "a/b", "a|b", "a b", "a\u001fb"),
)
"""Ids that some collation, normal form or joined text takes for one another."""


def cut_alike(most: int) -> list[str]:
    """Return ids that a column of some usual length, or a digest of a part, takes for one another."""
    return [f"{'x' * length}{last}" for length in (32, 36, 64, 128, 191, 255, most - 1) for last in "ab"]


def halves(ids: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield halves of ids so that of any two each is once in the first half while the other is not."""
    for bit in range((len(ids) - 1).bit_length()):
        parts: tuple[list[str], list[str]] = ([], [])
        for number, id_ in enumerate(ids):
            parts[number >> bit & 1].append(id_)
        yield parts
        yield parts[::-1]


# Places: what is written there by each function comes back from it.


def begin(bench: Bench, fields: Sequence[Mapping[str, Any]]) -> list[TurnItem]:
    """Create an instance for each and claim them."""
    new = [new_instance(fresh("p"), **more) for more in fields]
    assert list(bench.hub.create_instances(new)) == [Outcome.OK] * len(new)
    items = {item.instance: item for item in bench.claim()}
    assert sorted(items) == sorted(item.id for item in new)
    return [items[item.id] for item in new]


def commit(bench: Bench, items: Sequence[TurnItem], fields: Sequence[Mapping[str, Any]]) -> None:
    """Commit a turn of each."""
    commits = [turn_commit(item, **more) for item, more in zip(items, fields, strict=True)]
    assert list(bench.hub.commit_turns(commits)) == [Outcome.OK] * len(commits)


def begun(bench: Bench, fields: Sequence[Mapping[str, Any]]) -> list[str]:
    """Create an instance for each, commit its first turn with these fields, and return the ids."""
    items = begin(bench, [{}] * len(fields))
    commit(bench, items, fields)
    return [item.instance for item in items]


def claimed(bench: Bench, ids: Sequence[str], **fields: Any) -> list[TurnItem]:
    """Return claims of instances in the order asked, and let the leases be consumed."""
    found = {item.instance: item for item in bench.claim(**fields)}
    assert sorted(found) == sorted(ids)
    items = [found[id_] for id_ in ids]
    commit(bench, items, [{}] * len(items))
    return items


def received(bench: Bench, ids: Sequence[str]) -> Found:
    """Return the payload of the one message of each instance."""
    for item in claimed(bench, ids):
        assert len(item.messages) == 1
        yield item.messages[0].payload


def woken(bench: Bench, ids: Sequence[str], **fields: Any) -> list[TurnItem]:
    """Return claims of instances that are sent something first."""
    bench.hub.send_messages([message(fresh("m"), id_) for id_ in ids])
    return claimed(bench, ids, **fields)


def through_start(bench: Bench, payloads: Payloads) -> Found:
    items = begin(bench, [{"start": payload} for payload in payloads])
    commit(bench, items, [{}] * len(items))
    return [item.messages[0].payload for item in items]


def through_input(bench: Bench, payloads: Payloads) -> Found:
    items = begin(bench, [{"input": payload} for payload in payloads])
    commit(bench, items, [{}] * len(items))
    return [bench.get(item.instance).input for item in items]


def through_queried_input(bench: Bench, payloads: Payloads) -> Found:
    name = fresh("queried")
    items = begin(bench, [{"input": payload, "name": name} for payload in payloads])
    commit(bench, items, [{}] * len(items))
    page = bench.hub.query_instances(InstanceQuery(names=[name], page_size=1000))
    found = {info.id: info.input for info in page.items}
    assert sorted(found) == sorted(item.instance for item in items)
    return [found[item.instance] for item in items]


def through_event(bench: Bench, payloads: Payloads) -> Found:
    (id_,) = begun(bench, [{"events": payloads}])
    return bench.history(id_)


def through_inline_event(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{"events": [payload]} for payload in payloads])
    return [item.history[0] if item.history else None for item in woken(bench, ids, inline_history=True)]


def through_rewritten_event(bench: Bench, payloads: Payloads) -> Found:
    (item,) = begin(bench, [{}])
    assert bench.commit(item, events=payloads, rewrite=True) is Outcome.OK
    return bench.history(item.instance)


def through_message(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{}] * len(payloads))
    sent = [message(instance=id_, payload=payload) for id_, payload in zip(ids, payloads, strict=True)]
    assert list(bench.hub.send_messages(sent)) == [Outcome.OK] * len(sent)
    return received(bench, ids)


def through_control_message(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{}] * len(payloads))
    sent = [message(instance=id_, payload=p, control=True) for id_, p in zip(ids, payloads, strict=True)]
    assert list(bench.hub.send_messages(sent)) == [Outcome.OK] * len(sent)
    items = {item.instance: item for item in bench.claim(names=[])}
    assert sorted(items) == sorted(ids)
    commit(bench, list(items.values()), [{"consumed": []}] * len(items))
    # Once alone, and once among all messages.
    again = list(received(bench, ids))
    assert [items[id_].messages[0].payload for id_ in ids] == again
    return again


def through_timer(bench: Bench, payloads: Payloads) -> Found:
    due = bench.clock.now() + 1000
    items = begin(bench, [{}] * len(payloads))
    timers = [message("timer", item.instance, payload=p, due=due) for item, p in zip(items, payloads, strict=True)]
    commit(bench, items, [{"messages": [timer]} for timer in timers])
    bench.wait(1000)
    return received(bench, [item.instance for item in items])


def through_query(bench: Bench, payloads: Payloads, what: str, status: OrchestrationStatus) -> Found:
    ids = begun(bench, [{what: payload, "status": status} for payload in payloads])
    page = bench.hub.query_instances(InstanceQuery(page_size=1000))
    found = {info.id: getattr(info, what) for info in page.items}
    return [found[id_] for id_ in ids]


def through_queried_output(bench: Bench, payloads: Payloads) -> Found:
    return through_query(bench, payloads, "output", COMPLETED)


def through_queried_custom_status(bench: Bench, payloads: Payloads) -> Found:
    return through_query(bench, payloads, "custom_status", OrchestrationStatus.RUNNING)


def through_queried_failure(bench: Bench, payloads: Payloads) -> Found:
    return through_query(bench, payloads, "failure", FAILED)


def through_message_of_commit(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{}] * len(payloads))
    begun(bench, [{"messages": [message(instance=id_, payload=p)]} for id_, p in zip(ids, payloads, strict=True)])
    return received(bench, ids)


def through_result(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{"activities": [activity()]} for _ in payloads])
    targets = dict(zip(ids, payloads, strict=True))
    results = [
        ActivityDone(lease=work.lease, message=message(instance=work.instance, payload=targets[work.instance]))
        for work in bench.claim_work()
    ]
    assert list(bench.hub.complete_activities(results)) == [Outcome.OK] * len(results)
    return received(bench, ids)


def through_activity(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{"activities": [activity(payload=payload)]} for payload in payloads])
    work = {item.instance: item for item in bench.claim_work()}
    assert sorted(work) == sorted(ids)
    bench.hub.complete_activities([ActivityDone(lease=item.lease, message=None) for item in work.values()])
    return [work[id_].payload for id_ in ids]


def through_custom_status(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{"custom_status": payload} for payload in payloads])
    return [bench.get(id_).custom_status for id_ in ids]


def through_claimed_custom_status(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{"custom_status": payload} for payload in payloads])
    return [item.custom_status for item in woken(bench, ids)]


def through_memo(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{"memo": payload} for payload in payloads])
    return [item.memo for item in woken(bench, ids)]


def through_output(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{"output": payload, "status": COMPLETED} for payload in payloads])
    return [bench.get(id_).output for id_ in ids]


def through_failure(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{"failure": payload, "status": FAILED} for payload in payloads])
    return [bench.get(id_).failure for id_ in ids]


def through_next_event(bench: Bench, payloads: Payloads) -> Found:
    (id_,) = begun(bench, [{"events": [b"old"], "continued": NextExecution(events=payloads)}])
    return bench.history(id_)


def through_next_input(bench: Bench, payloads: Payloads) -> Found:
    ids = begun(bench, [{"continued": NextExecution(events=[], input=payload)} for payload in payloads])
    return [bench.get(id_).input for id_ in ids]


def through_start_of_child(bench: Bench, payloads: Payloads) -> Found:
    children = [fresh("child") for _ in payloads]
    starts = [new_instance(id_, start=payload) for id_, payload in zip(children, payloads, strict=True)]
    begun(bench, [{"starts": [start]} for start in starts])
    return received(bench, children)


def through_input_of_child(bench: Bench, payloads: Payloads) -> Found:
    children = [fresh("child") for _ in payloads]
    starts = [new_instance(id_, input=payload) for id_, payload in zip(children, payloads, strict=True)]
    begun(bench, [{"starts": starts}])
    claimed(bench, children)
    return [bench.get(id_).input for id_ in children]


def through_message_on_conflict(bench: Bench, payloads: Payloads) -> Found:
    (taken,) = begun(bench, [{}])
    items = begin(bench, [{}] * len(payloads))
    conflicts = [
        new_instance(taken, on_conflict=message(instance=item.instance, payload=payload))
        for item, payload in zip(items, payloads, strict=True)
    ]
    commit(bench, items, [{"starts": [conflict]} for conflict in conflicts])
    return received(bench, [item.instance for item in items])


PLACES: Final[Mapping[str, Callable[[Bench, Payloads], Found]]] = {
    "start": through_start,
    "input": through_input,
    "input in a query": through_queried_input,
    "event": through_event,
    "event in a claim": through_inline_event,
    "rewritten event": through_rewritten_event,
    "message": through_message,
    "control message": through_control_message,
    "timer": through_timer,
    "message of a commit": through_message_of_commit,
    "result": through_result,
    "message on conflict": through_message_on_conflict,
    "activity": through_activity,
    "custom status": through_custom_status,
    "custom status in a claim": through_claimed_custom_status,
    "memo": through_memo,
    "output": through_output,
    "failure": through_failure,
    "output in a query": through_queried_output,
    "custom status in a query": through_queried_custom_status,
    "failure in a query": through_queried_failure,
    "event of the next execution": through_next_event,
    "input of the next execution": through_next_input,
    "start of a child": through_start_of_child,
    "input of a child": through_input_of_child,
}
"""Every place in which a provider keeps a payload, or from which it returns one."""


def described(value: object) -> str:
    """Return what tells a payload from others: its type too, and not all of its bytes, of which there may be many."""
    if not isinstance(value, bytes | bytearray | memoryview):
        return repr(value)[:200]
    content = bytes(value)
    return f"{type(value).__name__}, {len(content)} bytes, {hashlib.sha256(content).hexdigest()[:16]}, {content[:60]!r}"


def check_places(bench: Bench, *payloads: bytes, places: Iterable[str] = PLACES) -> None:
    """Check that payloads come back from these places as they went in."""
    expected = [described(payload) for payload in payloads]
    for place in places:
        came = [described(value) for value in PLACES[place](bench, payloads)]
        assert (place, came) == (place, expected)


class PayloadCases:
    """Cases PAY."""

    @case("I16")
    def test_pay_01_every_byte_round_trips(self, bench: Bench) -> None:
        """A payload with all 256 byte values comes back byte for byte from every place."""
        check_places(bench, bytes(range(256)), bytes(reversed(range(256))), b"\xff", b"\x80\x7f")

    @case("I16")
    def test_pay_02_nul_is_a_byte_like_any_other(self, bench: Bench) -> None:
        """NUL comes back from every place: first, in the middle, last, alone."""
        check_places(bench, b"\0", b"\0x", b"x\0y", b"x\0", b"\0\0\0", b"x" * 100 + b"\0" * 100)

    @case("I16")
    def test_pay_03_no_bytes_are_a_payload_too(self, bench: Bench) -> None:
        """A payload of no bytes comes back as `b""` from every place, between others that have some."""
        check_places(bench, b"", b"x", b"", b" ", b"\n")

    @case("I16", "LIMITS", variants=tuple(PLACES))
    def test_pay_04_large_payloads_are_whole(self, bench: Bench) -> None:
        """Payloads up to `max_payload` (at least 4 MiB and a quarter) come back whole."""
        most = bench.limits.max_payload
        assert most >= MIN_PAYLOAD_BYTES
        # A byte more than what fits into the usual columns, and not all of one kind.
        check_places(bench, *(bench.rng.randbytes(size) for size in (65_536, MEGABYTE + 1)), places=[bench.variant])
        check_places(bench, b"a" + bytes(most - 2) + b"z", places=[bench.variant])

    @case("I16", "RESULTS")
    def test_pay_05_a_larger_one_has_no_effect(self, bench: Bench) -> None:
        """A payload over `max_payload` anywhere in a call is TooLarge, named by its index, and nothing is applied."""
        huge = bytes(bench.limits.max_payload + 1)
        bench.started("a", activities=[activity("t1"), activity("t2")])
        bench.ended("ended")
        bench.send("m")
        item = bench.claim_one()
        work = bench.claim_work()
        new = [{"start": huge}, {"input": huge}]
        commits: list[dict[str, Any]] = [
            {"events": [b"x", huge]},
            {"events": [huge], "rewrite": True},
            {"activities": [activity("t3"), activity("t4", payload=huge)]},
            {"messages": [message("n"), message("o", payload=huge)]},
            {"starts": [new_instance("child"), new_instance("other", start=huge)]},
            {"starts": [new_instance("child", input=huge)]},
            {"starts": [new_instance("ended", on_conflict=message("n", payload=huge))]},
            *({field: huge, "status": FAILED} for field in ("output", "custom_status", "memo", "failure")),
            {"continued": NextExecution(events=[b"x", huge])},
            {"continued": NextExecution(events=[], input=huge)},
        ]
        results = [message("n"), message("o", payload=huge)]
        calls: list[Callable[[], object]] = [
            lambda: bench.hub.send_messages([message("n"), message("o", payload=huge), message("p")]),
            lambda: bench.hub.complete_activities(
                [ActivityDone(lease=t.lease, message=m) for t, m in zip(work, results, strict=True)]
            ),
        ]

        def create(fields: dict[str, Any]) -> Callable[[], object]:
            return lambda: bench.hub.create_instances([new_instance("x"), new_instance("y", **fields)])

        def change(fields: dict[str, Any]) -> Callable[[], object]:
            return lambda: bench.hub.commit_turns([turn_commit(item, events=[b"first"]), turn_commit(item, **fields)])

        calls += [*map(create, new), *map(change, commits)]
        with bench.unchanged("a", "ended"):
            for call in calls:
                with pytest.raises(TooLarge) as caught:
                    call()
                assert caught.value.index == 1
        assert bench.commit(item) is Outcome.OK
        assert [bench.complete(work_item) for work_item in work] == [Outcome.OK] * 2
        assert bench.claim() == []
        assert bench.claim_work() == []
        assert sorted(bench.find()) == ["a", "ended"]

    @case("I16")
    def test_pay_06_text_is_not_looked_into(self, bench: Bench) -> None:
        """Text in any script or normal form, with lone surrogates or with noncharacters, comes back as it was."""
        texts = [
            "\ud800 high",
            "low \udfff",
            "\udc00\ud800",
            "\u00e9 e\u0301 \u1e69 s\u0323\u0307",
            "\u202e\u05d0\u200f\u0627",
            "\uffff\ufffe\ufdd0",
            "\ufeffbom",
            "\u2028\u2029\u0085\x0b\x0c\r\n",
            "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e6\U0001f1f9",
            "\U00010000\U0010ffff",
        ]
        check_places(bench, *(text.encode("utf-8", "surrogatepass") for text in texts))

    @case("I16")
    def test_pay_07_json_is_not_looked_into(self, bench: Bench) -> None:
        """JSON that a JSON column would alter comes back byte for byte: keys, numbers, escapes, white space."""
        check_places(
            bench,
            b'{"b":1,"a":2,"b":3}',
            b'{"z":1,"a":{"y":1,"b":2}}',
            b"[1.0,1,-0.0,1e400,1E2,0.10]",
            b"10000000000000000000000000000000000000001",
            b"9007199254740993",
            b'"\\u0041\\/\\ud800\\u00e9"',
            b' { "a" : [ ] }\n',
            b'"\xc3\xa9"',
            b"NaN",
            b"null",
        )

    @case("I16")
    def test_pay_08_bytes_need_not_be_text(self, bench: Bench) -> None:
        """Bytes that are no UTF-8, compressed ones and pickled ones come back as they were."""
        check_places(
            bench,
            b"\xff\xfe invalid \xc3\x28 \xe2\x82 \xf0\x9f",
            b"\xc0\x80\xed\xa0\x80",
            gzip.compress(b"payload" * 50, mtime=0),
            pickle.dumps({"key": [1, None, "x"]}),
            b"\x89PNG\r\n\x1a\n",
        )

    @case("I16")
    def test_pay_09_nothing_is_run_or_filled_in(self, bench: Bench) -> None:
        """Bytes that look like a statement, an operator, a script or a format come back as they were."""
        check_places(
            bench,
            b"'; DROP TABLE instances; --",
            b"\\'; \\x00 \\\\x41",
            b'{"$where":"1","$gt":""}',
            b"$ROOT",
            b"return redis.call('FLUSHALL')",
            b"%s %(name)s {0} {name} ${name} :name ? $1",
            b"\\xdeadbeef",
            b"X'00'",
            b"a" * 3 + b"\x1a",
            b"AAECAw==",
        )

    @case("I17", "LIMITS", variants=("instances", "messages", "activities"))
    def test_pay_10_odd_and_long_ids_round_trip(self, bench: Bench) -> None:
        """Ids of quotes, slashes, operators and controls, and of `max_id_bytes` bytes, work; longer ones are BadId."""
        most = bench.limits.max_id_bytes
        assert most >= MIN_ID_BYTES
        alike = "\U0001f600" * (most // 4 - 1)
        ids = [*ODD_IDS, "x" * most, "x" * (most - 1), f"{alike}aaaa", f"{alike}aaab"]
        too_long = ["x" * (most + 1), f"{alike}aaaaa", "\u00e9" * (most // 2 + 1)]
        if bench.variant == "instances":
            assert bench.create(*ids) == [Outcome.OK] * len(ids)
            for bad in too_long:
                with pytest.raises(BadId):
                    bench.create("new", bad)
            assert bench.find() == sorted(ids, key=str.encode)
            items = bench.claim()
            assert sorted(item.instance for item in items) == sorted(ids)
            commit(bench, items, [{"events": [item.instance.encode()]} for item in items])
            assert [bench.history(id_) for id_ in ids] == [[id_.encode()] for id_ in ids]
            assert [bench.get(id_).id for id_ in ids] == ids
            assert [bench.find(id_prefix=id_)[:1] for id_ in ids] == [[id_] for id_ in ids]
            assert bench.purge(*ids).deleted == 0
            assert bench.purge(*ids, force=True).deleted == len(ids)
        elif bench.variant == "messages":
            bench.started()
            assert bench.send(*ids) == [Outcome.OK] * len(ids)
            for bad in too_long:
                with pytest.raises(BadId):
                    bench.send("new", bad)
            item = bench.claim_one()
            assert ids_of(item.messages) == ids
            kept = ids[::2]
            assert bench.commit(item, consumed=ids[1::2]) is Outcome.OK
            item = bench.claim_one()
            assert ids_of(item.messages) == kept
            assert bench.commit(item, consumed=[], cancel_messages=kept) is Outcome.OK
            assert bench.claim() == []
            assert bench.send(*ids) == [Outcome.DUPLICATE if id_ not in kept else Outcome.OK for id_ in ids]
        else:
            # Names and queues too: they are texts of the same kind.
            bench.started(activities=[activity(id_, name=id_, queue=id_) for id_ in ids])
            bench.send("m")
            item = bench.claim_one()
            for bad in too_long:
                with pytest.raises(BadId):
                    bench.commit(item, activities=[activity("new"), activity(bad)])
            for id_ in ids[::2]:
                work = bench.claim_one_work(queues=[id_], names=[id_])
                assert (work.id, work.name, work.queue) == (id_, id_, id_)
                assert bench.complete(work) is Outcome.OK
            assert bench.commit(item, cancel_activities=ids[1::4]) is Outcome.OK
            came = bench.claim_work(queues=ids)
            assert sorted(work.id for work in came) == sorted(ids[3::4])

    @case("I17", "I15")
    def test_pay_11_ids_are_equal_as_code_points_only(self, bench: Bench) -> None:
        """Ids that differ in case, spaces, accents, width or normal form are different ones, and none is altered."""
        ids = list(ALIKE_IDS)
        number = len(ids)
        assert bench.create(*ids) == [Outcome.OK] * number
        assert bench.create(*ids) == [Outcome.EXISTS] * number
        assert bench.find() == sorted(ids, key=str.encode)
        assert [bench.get(id_).id for id_ in ids] == ids
        assert list(bench.hub.get_instances(["B", "a  ", "\u00e8", "f\u200bi"])) == [None] * 4
        items = bench.claim()
        assert sorted(item.instance for item in items) == sorted(ids)
        commit(
            bench,
            items,
            [{"events": [item.instance.encode()], "custom_status": item.instance.encode()} for item in items],
        )
        assert [bench.history(id_) for id_ in ids] == [[id_.encode()] for id_ in ids]
        sent = [message("m", id_, payload=id_.encode()) for id_ in ids]
        assert list(bench.hub.send_messages(sent)) == [Outcome.OK] * number
        items = bench.claim()
        came = {item.instance: (item.messages[0].payload, item.custom_status) for item in items}
        assert came == {id_: (id_.encode(), id_.encode()) for id_ in ids}
        commit(bench, items, [{"status": COMPLETED}] * number)
        assert bench.purge("a", "\u00e9").deleted == 2
        assert bench.find() == sorted(set(ids) - {"a", "\u00e9"}, key=str.encode)

    @case("I17", variants=("messages", "activities", "names", "parents", "generations", "commits"))
    def test_pay_16_other_texts_are_compared_so_too(self, bench: Bench) -> None:
        """Ids of messages, activities and commits, names, queues, parents and generations are compared alike."""
        ids = [*ALIKE_IDS, *cut_alike(bench.limits.max_id_bytes)]
        number = len(ids)
        match bench.variant:
            case "messages":
                bench.started()
                assert bench.send(*ids) == [Outcome.OK] * number
                assert bench.send(*ids) == [Outcome.DUPLICATE] * number
                item = bench.claim_one()
                assert ids_of(item.messages) == ids
                assert bench.commit(item, consumed=ids[::2]) is Outcome.OK
                assert bench.send(*ids[::2]) == [Outcome.DUPLICATE] * len(ids[::2])
                item = bench.claim_one()
                assert ids_of(item.messages) == ids[1::2]
                assert bench.commit(item, consumed=[], cancel_messages=ids[1::4]) is Outcome.OK
                assert ids_of(bench.claim_one().messages) == ids[3::4]
                for place, (mine, others) in enumerate(halves(ids)):
                    apart = [Outcome.DUPLICATE if id_ in mine else Outcome.OK for id_ in ids]
                    for way in ("consumed", "cancelled"):
                        name = f"{way}-{place}"
                        bench.started(name)
                        # Pending, consumed or cancelled, an id is no other's.
                        assert bench.send(*mine, instance=name) == [Outcome.OK] * len(mine)
                        assert bench.send(*ids, instance=name) == apart
                        item = bench.claim_one()
                        gone = {"consumed": mine if way == "consumed" else []}
                        gone["cancel_messages"] = mine if way == "cancelled" else []
                        assert bench.commit(item, **gone) is Outcome.OK
                        item = bench.claim_one()
                        assert sorted(ids_of(item.messages)) == sorted(others)
                        assert bench.commit(item, consumed=[], cancel_messages=others) is Outcome.OK
                        if way == "consumed":
                            assert bench.send(*ids, instance=name) == apart
                            bench.claim()
            case "activities":
                bench.started(activities=[activity(id_, name=id_, queue=id_) for id_ in ids])
                for mine, _ in halves(ids):
                    filters: list[dict[str, Any]] = [{"names": mine, "queues": ids}, {"names": ids, "queues": mine}]
                    for fields in [*filters, {"queues": mine}]:
                        found = bench.claim_work(**fields)
                        assert sorted(work.id for work in found) == sorted(mine)
                        bench.hub.release([Release(lease=work.lease, penalize=False) for work in found])
                # A queue and a name that join to the text of another queue and name.
                for mark in ":,/|":
                    assert bench.claim_work(queues=["a"], names=[f"b{mark}a{mark}b"]) == []
                    assert bench.claim_work(queues=[f"a{mark}b{mark}a"], names=["b"]) == []
                for place, (mine, others) in enumerate(halves(ids)):
                    bench.started(name := f"cancels-{place}", activities=[activity(id_, name=name) for id_ in ids])
                    bench.send(instance=name)
                    bench.turn(cancel_activities=mine)
                    assert sorted(work.id for work in bench.claim_work(names=[name])) == sorted(others)
                for id_ in ids[::2]:
                    work = bench.claim_one_work(queues=ids, names=[id_])
                    assert (work.id, work.name, work.queue) == (id_, id_, id_)
                    assert bench.claim_work(queues=[id_]) == []
                    assert bench.complete(work) is Outcome.OK
                bench.send()
                bench.turn(cancel_activities=ids[1::4])
                for id_ in ids[3::4]:
                    work = bench.claim_one_work(queues=[id_])
                    assert (work.id, work.name, work.queue) == (id_, id_, id_)
                assert bench.claim_work(queues=ids) == []
            case "names":
                places = [f"{place:03}" for place in range(number)]
                for named, id_ in zip(places, ids, strict=True):
                    bench.create(named, name=id_, version=id_)
                for mine, _ in halves(ids):
                    expected = [named for named, id_ in zip(places, ids, strict=True) if id_ in mine]
                    assert bench.find(names=mine) == bench.find(versions=mine) == expected
                    items = bench.claim(names=mine)
                    assert sorted(item.instance for item in items) == expected
                    bench.hub.release([Release(lease=item.lease, penalize=False) for item in items])
                for named, id_ in zip(places, ids, strict=True):
                    assert bench.find(names=[id_]) == [named]
                    assert bench.find(versions=[id_]) == [named]
                    item = bench.claim_one(names=[id_])
                    assert (item.instance, item.name, item.version) == (named, id_, id_)
            case "parents":
                places = [f"{place:03}" for place in range(number)]
                for named, id_ in zip(places, ids, strict=True):
                    bench.create(named, parent=id_)
                assert [bench.find(parent=id_) for id_ in ids] == [[place] for place in places]
                assert [bench.get(place).parent for place in places] == ids
            case "generations":
                assert bench.create("a", generation="\u00e9") == [Outcome.OK]
                others = [id_ for id_ in ids if id_ != "\u00e9"]
                for id_ in others:
                    assert bench.create("a", generation=id_) == [Outcome.EXISTS]
                assert bench.create("a", generation="\u00e9", replace_if=ENDED) == [Outcome.ALREADY]
                sent = [message(fresh("m"), generation=id_) for id_ in others]
                assert set(bench.hub.send_messages(sent)) == {Outcome.NOT_FOUND}
                assert bench.send("m", generation="\u00e9") == [Outcome.OK]
                assert bench.claim_one().generation == "\u00e9"
                for place, own in enumerate(ids):
                    name = f"{place:03}"
                    assert bench.create(name, generation=own) == [Outcome.OK]
                    sent = [message(fresh("m"), name, generation=id_) for id_ in ids]
                    answers = [Outcome.OK if id_ == own else Outcome.NOT_FOUND for id_ in ids]
                    assert list(bench.hub.send_messages(sent)) == answers
                    answers = [Outcome.ALREADY if id_ == own else Outcome.EXISTS for id_ in ids]
                    again = [new_instance(name, generation=id_) for id_ in ids]
                    assert list(bench.hub.create_instances(again)) == answers
            case _:
                bench.create()
                item = bench.claim_one()
                for id_ in ids:
                    outcome = bench.commit(item, commit_id=id_, consumed=[], keep_ms=LEASE_MS)
                    assert outcome is Outcome.OK
                    assert bench.commit(item, commit_id=id_, consumed=[], keep_ms=LEASE_MS) is Outcome.ALREADY

    @case("I17", "RESULTS")
    def test_pay_17_malformed_ids_are_refused(self, bench: Bench) -> None:
        """An id that is empty, no text, or holds NUL or a lone surrogate is a BadId with its index, without effect."""
        bench.started("a", activities=[activity("t1"), activity("t2")])
        bench.send("m")
        item = bench.claim_one()
        work = bench.claim_work()
        malformed = ["a\0", "\0", "\0a", "\ud800", "a\udfffb", 1, b"a"]
        ids = ["", None, *malformed]
        hub = bench.hub

        def create(bad: Any, field: str) -> object:
            return hub.create_instances([new_instance("ok"), new_instance(**({"id": "b"} | {field: bad}))])

        def send(bad: Any, field: str) -> object:
            return hub.send_messages([message("ok"), message(**({"id": "n"} | {field: bad}))])

        def change(**fields: Any) -> object:
            return hub.commit_turns([turn_commit(item), turn_commit(item, **fields)])

        def finish(bad: Any, field: str = "id") -> object:
            results = [message("ok"), message(**({"id": "n"} | {field: bad}))]
            return hub.complete_activities(
                [ActivityDone(lease=t.lease, message=m) for t, m in zip(work, results, strict=True)]
            )

        calls: list[tuple[Sequence[Any], Callable[[Any], object]]] = [
            (ids, lambda bad: create(bad, "id")),
            (ids, lambda bad: create(bad, "name")),
            (ids, lambda bad: create(bad, "generation")),
            (["", *malformed], lambda bad: create(bad, "parent")),
            (malformed, lambda bad: create(bad, "version")),
            (ids, lambda bad: create({"k": "v", bad: "v"}, "tags")),
            ([None, *malformed], lambda bad: create({"k": bad}, "tags")),
            (ids, lambda bad: send(bad, "id")),
            (ids, lambda bad: send(bad, "instance")),
            (["", *malformed], lambda bad: send(bad, "generation")),
            (ids, lambda bad: change(commit_id=bad)),
            (ids, lambda bad: change(activities=[activity("ok"), activity(bad)])),
            (ids, lambda bad: change(activities=[activity("ok", name=bad)])),
            (ids, lambda bad: change(activities=[activity("ok", queue=bad)])),
            (ids, lambda bad: change(messages=[message("ok"), message(bad)])),
            (ids, lambda bad: change(messages=[message("ok", instance=bad)])),
            (ids, lambda bad: change(starts=[new_instance("ok"), new_instance(bad)])),
            (ids, lambda bad: change(starts=[new_instance("ok", name=bad)])),
            (["", *malformed], lambda bad: change(messages=[message("ok", generation=bad)])),
            (ids, lambda bad: change(starts=[new_instance("ok", generation=bad)])),
            (["", *malformed], lambda bad: change(starts=[new_instance("ok", parent=bad)])),
            (malformed, lambda bad: change(starts=[new_instance("ok", version=bad)])),
            (ids, lambda bad: change(starts=[new_instance("ok", tags={bad: "v"})])),
            (ids, lambda bad: change(starts=[new_instance("ok", on_conflict=message(bad))])),
            (ids, lambda bad: change(starts=[new_instance("ok", on_conflict=message(instance=bad))])),
            (ids, lambda bad: change(consumed=["m", bad])),
            (ids, lambda bad: change(cancel_activities=["t1", bad])),
            (ids, lambda bad: change(cancel_messages=["m", bad])),
            (malformed, lambda bad: change(continued=NextExecution(events=[], version=bad))),
            (ids, lambda bad: create(message(bad), "on_conflict")),
            (ids, finish),
            (ids, lambda bad: finish(bad, "instance")),
            (["", *malformed], lambda bad: finish(bad, "generation")),
            (ids, lambda bad: hub.get_instances(["ok", bad])),
        ]
        with bench.unchanged("a"):
            for wrong, call in calls:
                for bad in wrong:
                    with pytest.raises(BadId) as caught:
                        call(bad)
                    assert caught.value.index == 1
            for malformed_id in cast("list[str]", ids):
                with pytest.raises(BadId):
                    hub.read_history(malformed_id)
        assert bench.find() == ["a"]
        assert bench.commit(item) is Outcome.OK
        assert bench.claim() == []
        assert [bench.complete(work_item) for work_item in work] == [Outcome.OK] * 2

    @case("I16", "LIMITS")
    def test_pay_12_names_versions_and_tags_round_trip(self, bench: Bench) -> None:
        """Names, versions, parents and up to `max_tags` tags of any text come back, empty values among them."""
        texts = [*ODD_IDS, *ALIKE_IDS][: bench.limits.max_tags - 1]
        tags = dict(zip(texts, [*reversed(texts)], strict=True)) | {"empty": ""}
        for place, text in enumerate((*ODD_IDS, *ALIKE_IDS)):
            fields = {"name": text, "version": text, "parent": text, "generation": text}
            assert bench.create(f"i{place}", **fields, tags=tags if place == 0 else {text: text}) == [Outcome.OK]
            found = bench.hub.query_instances(InstanceQuery(id_prefix=f"i{place}", names=[text])).items
            assert ids_of(found) == [f"i{place}"]
            for came in (*found, bench.get(f"i{place}")):
                assert (came.name, came.version, came.parent, came.generation) == (text,) * 4
                assert dict(came.tags) == (tags if place == 0 else {text: text})
        item = bench.claim_one(names=[ODD_IDS[0]])
        child = new_instance("child", parent="i0", tags=tags, version="", name="\U0001f600")
        outcome = bench.commit(item, starts=[child], continued=NextExecution(events=[], version=ODD_IDS[3]))
        assert outcome is Outcome.OK
        assert bench.get("i0").version == ODD_IDS[3]
        came = bench.get("child")
        assert (came.name, came.version, came.parent, dict(came.tags)) == ("\U0001f600", "", "i0", tags)
        most = {f"k{number}": "v" for number in range(bench.limits.max_tags)}
        with bench.unchanged("child"), pytest.raises(InvalidRequest) as caught:
            bench.hub.create_instances([new_instance("x"), new_instance("y", tags=most | {"one": "more"})])
        assert caught.value.index == 1
        assert bench.create("x", tags=most) == [Outcome.OK]
        assert bench.get("x").tags == most

    @case("CLOCK", "I2")
    def test_pay_13_times_are_whole_milliseconds_of_the_clock(self, bench: Bench) -> None:
        """Times come back as `int`, the very milliseconds that the clock said or the caller asked for."""
        step = bench.limits.time_resolution_ms

        def tick() -> int:
            bench.wait(123 * step)
            return bench.clock.now()

        created = tick()
        bench.create("a")
        sent = tick()
        due = sent + 7 * step
        bench.send("m")
        bench.send("timer", due=due)
        now = tick()
        batch = bench.claim_batch(lease_ms=1000 * step)
        (item,) = batch.items
        times: list[tuple[str, object, int]] = [
            ("batch.now", batch.now, now),
            ("lease.expires_at", item.lease.expires_at, now + 1000 * step),
        ]
        deliveries: list[tuple[Delivery, int, int]] = [
            (item.messages[0], created, created),
            (item.messages[1], sent, sent),
            (item.messages[2], due, sent),
        ]
        for delivery, due_at, enqueued_at in deliveries:
            times.append((f"{delivery.id}.due", delivery.due, due_at))
            times.append((f"{delivery.id}.enqueued_at", delivery.enqueued_at, enqueued_at))
        renewed_at = tick()
        _, lease = bench.renew(item.lease, 5000 * step)
        assert lease is not None
        times.append(("renewed", lease.expires_at, renewed_at + 5000 * step))
        committed = tick()
        later = committed + 1000 * step
        bench.commit(item, activities=[activity()], messages=[message("later", due=later)])
        # This one may be early.
        next_due = bench.claim_batch().next_due
        assert type(next_due) is int
        assert next_due <= later
        info = bench.get()
        times += [("created_at", info.created_at, created), ("updated_at", info.updated_at, committed)]
        assert info.completed_at is None
        now = tick()
        work = bench.claim_one_work(lease_ms=1000 * step)
        times.append(("work.expires_at", work.lease.expires_at, now + 1000 * step))
        bench.complete(work, message("result"))
        ended = tick()
        bench.turn(status=COMPLETED)
        info = bench.get()
        assert info.completed_at is not None
        times += [("ended.completed_at", info.completed_at, ended), ("ended.updated_at", info.updated_at, ended)]
        now = tick()
        times += [("now", bench.hub.now(), now), ("stats.now", bench.hub.stats().now, now)]
        came = [(name, type(time), time) for name, time, _ in times]
        assert came == [(name, int, time) for name, _, time in times]

    @case("I16")
    def test_pay_14_a_payload_is_of_type_bytes(self, bench: Bench) -> None:
        """What comes back is exactly `bytes`, no view, wrapper or text; so are ids `str` and numbers `int`."""
        for payload in (b"", b"text", b"\0\xff"):
            for place, through in PLACES.items():
                assert (place, [type(value) for value in through(bench, [payload])]) == (place, [bytes])
        bench.create("a", version="v", parent="p", tags={"k": "v"}, input=b"x")
        item = bench.claim_one()
        info = bench.get()
        texts = [item.lease.key, item.lease.token, item.instance, item.generation, item.name, item.version]
        texts += [info.id, info.generation, info.name, info.version, info.parent, *info.tags, *info.tags.values()]
        texts += [delivery.id for delivery in item.messages]
        numbers = [item.lease.fence, item.execution, item.next_seq, item.attempt]
        numbers += [info.execution, info.rev, info.status_rev, info.next_seq]
        assert {type(text) for text in texts} == {str}
        assert {type(number) for number in numbers} == {int}
        assert type(item.messages[0].control) is bool
        bench.commit(item, activities=[activity()])
        work = bench.claim_one_work()
        texts = [work.lease.key, work.lease.token, work.id, work.name, work.queue, work.instance, work.generation]
        assert {type(text) for text in texts} == {str}
        assert {type(work.attempt), type(work.lease.fence)} == {int}

    @case("I16", "LIMITS", variants=("messages", "events", "activities"))
    def test_pay_15_many_large_payloads_fit_into_a_batch(self, bench: Bench) -> None:
        """Twenty payloads of a megabyte, or as many as a commit may hold, go and come in one call."""
        count = 20
        if bench.variant != "messages":
            # A little is left for what else the commit holds.
            count = min(count, (bench.limits.max_commit_bytes - 1024) // MEGABYTE)
        payloads = [bytes([number]) * MEGABYTE for number in range(count)]
        expected = [described(payload) for payload in payloads]
        bench.create()
        item = bench.claim_one()
        if bench.variant == "messages":
            assert bench.commit(item) is Outcome.OK
            sent = [message(f"m{place}", payload=payload) for place, payload in enumerate(payloads)]
            assert list(bench.hub.send_messages(sent)) == [Outcome.OK] * count
            assert [described(delivery.payload) for delivery in bench.claim_one().messages] == expected
        elif bench.variant == "events":
            assert bench.commit(item, events=payloads, messages=[message()]) is Outcome.OK
            assert [described(event) for event in bench.history()] == expected
            assert [described(event) for event in bench.claim_one(inline_history=True).history or ()] == expected
        else:
            work = [activity(f"t{place}", payload=payload) for place, payload in enumerate(payloads)]
            assert bench.commit(item, activities=work) is Outcome.OK
            found = {item.id: described(item.payload) for item in bench.claim_work()}
            assert [found[f"t{place}"] for place in range(count)] == expected

    @case("LIMITS", "I16", slow=True)
    def test_pay_18_a_commit_over_its_limit_is_too_large(self, bench: Bench) -> None:
        """A commit with payloads of `max_commit_bytes` in all works, and one byte more is TooLarge."""
        most = bench.limits.max_commit_bytes
        whole, rest = divmod(most, bench.limits.max_payload)
        events = [bytes(bench.limits.max_payload)] * whole + [bytes(rest)]
        bench.create("a", "b")
        items = bench.claim_each("a", "b")
        item = items["a"]
        more: list[dict[str, Any]] = [
            {"events": [*events, b"x"]},
            {"events": events, "memo": b"x"},
            {"events": events, "messages": [message("m", payload=b"x")]},
            {"events": events, "activities": [activity(payload=b"x")]},
            {"events": events, "starts": [new_instance("child", start=b"x")]},
            {"events": events, "starts": [new_instance("child", start=b"", input=b"x")]},
            {"events": events, "starts": [new_instance("child", start=b"", on_conflict=message(payload=b"x"))]},
            {"events": events[1:], "continued": NextExecution(events=[events[0], b"x"])},
            {"events": events[1:], "continued": NextExecution(events=[events[0]], input=b"x")},
            {"events": events, "output": b"x"},
            {"events": events, "custom_status": b"x"},
            {"events": events, "status": FAILED, "failure": b"x"},
        ]
        with bench.unchanged("a"):
            for fields in more:
                with pytest.raises(TooLarge) as caught:
                    bench.hub.commit_turns([turn_commit(item, events=[b"first"]), turn_commit(item, **fields)])
                assert caught.value.index == 1
        # It bounds each commit and not the call.
        batch = [turn_commit(item, events=events), turn_commit(items["b"], events=[b"x"])]
        assert list(bench.hub.commit_turns(batch)) == [Outcome.OK] * 2
        assert bench.get().next_seq == len(events)
        assert [len(event) for event in bench.history()] == [len(event) for event in events]

    @case("I16", "RESULTS", variants=("None", "str", "bytearray", "memoryview", "int"))
    def test_pay_19_a_payload_is_bytes_and_nothing_else(self, bench: Bench) -> None:
        """A payload that is not exactly `bytes` is an InvalidRequest with its index, and nothing is applied."""
        wrong = {"None": None, "str": "text", "bytearray": bytearray(b"x"), "memoryview": memoryview(b"x"), "int": 1}
        bad: Any = wrong[bench.variant]
        bench.create()
        item = bench.claim_one()
        hub = bench.hub
        commits: list[dict[str, Any]] = [
            {"events": [b"x", bad]},
            {"activities": [activity(), activity("u", payload=bad)]},
            {"messages": [message(payload=bad)]},
            {"starts": [new_instance("c", start=bad)]},
            {"continued": NextExecution(events=[bad])},
        ]
        if bad is not None:
            commits += [{field: bad, "status": FAILED} for field in ("output", "custom_status", "memo", "failure")]
        calls: list[Callable[[], object]] = [
            lambda: hub.send_messages([message("ok"), message("m", payload=bad)]),
            lambda: hub.create_instances([new_instance("ok"), new_instance("b", start=bad)]),
        ]

        def change(fields: dict[str, Any]) -> Callable[[], object]:
            return lambda: hub.commit_turns([turn_commit(item), turn_commit(item, **fields)])

        calls += map(change, commits)
        with bench.unchanged("a"):
            for call in calls:
                with pytest.raises(InvalidRequest) as caught:
                    call()
                assert caught.value.index == 1
        assert bench.commit(item) is Outcome.OK
        assert bench.claim() == []
        assert bench.find() == ["a"]

    @case("I17", "I7", "I12")
    def test_pay_20_ids_that_join_to_the_same_text(self, bench: Bench) -> None:
        """Two ids that joined to one text look like two others are others, whatever character stands between them."""
        marks = [":", "/", ".", "-", "_", "|", "#", ",", " ", "\u001f", "@", "::", ""]
        for place, mark in enumerate(marks):
            first = f"i{place}"
            pairs = [(first, f"x{mark}y"), (f"{first}{mark}x", "y")]
            for instance, _ in pairs:
                assert bench.create(instance) == [Outcome.OK]
            items = bench.claim_each(*(instance for instance, _ in pairs))
            for instance, id_ in pairs:
                # What a client sends, what commits send and schedule, and what is remembered.
                assert bench.send(id_, instance=instance) == [Outcome.OK]
                effects: dict[str, Any] = {"activities": [activity(id_)], "commit_id": id_}
                assert bench.commit(items[instance], messages=[message(f"own{id_}", instance)], **effects) is Outcome.OK
            work = bench.claim_work()
            assert sorted((each.instance, each.id) for each in work) == sorted(pairs)
            items = bench.claim_each(*(instance for instance, _ in pairs))
            for instance, id_ in pairs:
                assert sorted(ids_of(items[instance].messages)) == sorted([id_, f"own{id_}"])
                assert bench.commit(items[instance]) is Outcome.OK
                assert bench.send(id_, instance=instance) == [Outcome.DUPLICATE]
            assert [bench.complete(each, message("r", each.instance)) for each in work] == [Outcome.OK] * 2
            items = bench.claim_each(*(instance for instance, _ in pairs))
            for instance, _ in pairs:
                assert ids_of(items[instance].messages) == ["r"]
                assert bench.commit(items[instance]) is Outcome.OK

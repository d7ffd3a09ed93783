"""Events as they are stored."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import history as h
from perdure.errors import Corrupt
from perdure.failures import FailureDetails
from perdure.spi import OrchestrationStatus

# What the core lets into names and ids: no control characters, no surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
TIMES = st.integers(0, 2**53)
NUMBERS = st.integers(-1, 2**31)
PAYLOADS = st.none() | st.binary(max_size=50)
OPTIONAL_TEXT = st.none() | TEXT
FAILURES = st.builds(
    FailureDetails, error_type=TEXT, message=TEXT, stack_trace=OPTIONAL_TEXT, non_retriable=st.booleans()
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "timestamp": TIMES,
    "fire_at": TIMES,
    "event_id": NUMBERS,
    "task_scheduled_id": NUMBERS,
    "timer_id": NUMBERS,
    "failure": FAILURES,
    "status": st.sampled_from(OrchestrationStatus),
    "recurse": st.booleans(),
    "tags": st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
    "parent": st.none()
    | st.builds(
        h.ParentInstance,
        instance_id=TEXT,
        generation=TEXT,
        execution_id=TEXT,
        name=TEXT,
        version=OPTIONAL_TEXT,
        task_id=NUMBERS,
        seq=NUMBERS,
    ),
    "trace_context": st.none() | st.builds(h.TraceContext, traceparent=TEXT, tracestate=OPTIONAL_TEXT),
    **dict.fromkeys(("name", "instance_id", "execution_id"), TEXT),
    **dict.fromkeys(("version", "continued_from"), OPTIONAL_TEXT),
    **dict.fromkeys(("input", "result", "output", "reason", "data"), PAYLOADS),
}
KINDS: list[type[h.Event]] = [
    kind
    for name in h.__all__
    if isinstance(kind := getattr(h, name), type) and issubclass(kind, h.Event) and kind is not h.Event
]


def events_of(kind: type[h.Event]) -> st.SearchStrategy[h.Event]:
    return st.builds(kind, **{field.name: FIELDS[field.name] for field in dataclasses.fields(kind)})


def test_all_kinds_of_durable_task_are_there() -> None:
    assert len(KINDS) == 19


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_event_comes_back_as_it_was(kind: type[h.Event], data: st.DataObject) -> None:
    event = data.draw(events_of(kind))
    assert h.decode_event(h.encode_event(event)) == event


@pytest.mark.parametrize("payload", [b"", b"\n", b"\n\n{}", b"\x00\xff", '"ä\\ud800"'.encode(), b"{" * 1000])
def test_a_payload_is_kept_byte_for_byte(payload: bytes) -> None:
    stored = h.encode_event(h.EventRaised(timestamp=1, name="e", input=payload))
    assert stored.endswith(payload)
    event = h.decode_event(stored)
    assert isinstance(event, h.EventRaised)
    assert event.input == payload


def test_an_envelope_is_small() -> None:
    event = h.TaskCompleted(timestamp=1_700_000_000_000, task_scheduled_id=123_456, result=b"x" * 1_000_000)
    assert len(h.encode_event(event)) < 1_000_000 + 200


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"garbage",
        b"[]",
        b"null",
        b'"TaskCompleted"',
        b"{}",
        b'{"kind":"Unheard","timestamp":1}',
        b'{"kind":["TaskCompleted"],"timestamp":1}',
        b'{"kind":"Event","timestamp":1}',
        b'{"kind":"TaskCompleted"}',
        b'{"kind":"TaskCompleted","timestamp":1}',
        b'{"kind":"TaskCompleted","timestamp":1,"task_scheduled_id":0,"unheard":1}',
        b'{"kind":"TaskFailed","timestamp":1,"task_scheduled_id":0,"failure":"no"}',
        b'{"kind":"TaskFailed","timestamp":1,"task_scheduled_id":0,"failure":{"message":1}}',
        b'{"kind":"ExecutionCompleted","timestamp":1,"status":"UNHEARD"}',
        b'{"kind":"ExecutionStarted","timestamp":1,"name":"n","instance_id":"i","execution_id":"e","parent":[1]}',
        b'{"kind":"ExecutionStarted","timestamp":1,"name":"n","instance_id":"i","execution_id":"e","parent":{"a":1}}',
        b'{"kind":"Exec\xff',
        b"[" * 100_000,
    ],
)
def test_what_is_no_event_is_refused_by_name(stored: bytes) -> None:
    with pytest.raises(Corrupt, match="no history event that this version of perdure can read"):
        h.decode_event(stored)


@given(st.binary(max_size=100))
def test_no_bytes_raise_anything_else(stored: bytes) -> None:
    with contextlib.suppress(Corrupt):
        h.decode_event(stored)


@given(FAILURES)
def test_a_failure_comes_back_as_it_was(failure: FailureDetails) -> None:
    assert h.decode_failure(h.encode_failure(failure)) == failure


@pytest.mark.parametrize("stored", [b"", b"garbage", b"[]", b"1", b"{}", b'{"error_type":"E","message":1}'])
def test_what_is_no_failure_is_refused_by_name(stored: bytes) -> None:
    with pytest.raises(Corrupt, match="no failure that perdure wrote"):
        h.decode_failure(stored)


@pytest.mark.parametrize(
    "stored",
    [
        b'{"kind":"OrchestratorStarted","timestamp":"now"}',
        b'{"kind":"TaskScheduled","timestamp":1,"event_id":[1],"name":"a"}',
        b'{"kind":"TaskScheduled","timestamp":1,"event_id":true,"name":"a"}',
        b'{"kind":"TaskScheduled","timestamp":1,"event_id":1,"name":5}',
        b'{"kind":"TimerFired","timestamp":1,"timer_id":1,"fire_at":1.5}',
    ],
)
def test_fields_of_another_type_are_corrupt(stored: bytes) -> None:
    with pytest.raises(Corrupt):
        h.decode_event(stored)

"""States, lists and histories."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.client.hand import COMPLETED, FAILED, Hand, blocking

from perdure import operations
from perdure.async_client import AsyncClient
from perdure.client import Client
from perdure.errors import (
    Corrupt,
    InstanceNotFound,
    InvalidArgument,
    InvalidInstanceId,
    OrchestrationFailedError,
    PayloadError,
    Transient,
)
from perdure.failures import FailureDetails
from perdure.history import EventRaised, ExecutionCompleted, encode_event, encode_failure
from perdure.requests import OrchestrationQuery
from perdure.spi import ManualClock, OrchestrationStatus, Provider
from perdure.state import OrchestrationState


@dataclass
class Order:
    item: str
    when: datetime


def state_of(client: Client, instance: str, **fields: Any) -> OrchestrationState:
    state = client.get_orchestration_state(instance, **fields)
    assert state is not None
    return state


class TestState:
    def test_an_unknown_instance_is_none(self, client: Client) -> None:
        assert client.get_orchestration_state("nobody") is None

    def test_a_malformed_id_is_an_error(self, client: Client) -> None:
        with pytest.raises(InvalidInstanceId):
            client.get_orchestration_state("@start")

    def test_all_of_it(self, client: Client, hand: Hand, clock: ManualClock) -> None:
        born = clock.now()
        client.schedule_new_orchestration("flow", instance_id="a", input=[1], tags={"k": "v"}, version="3")
        pending = state_of(client, "a")
        assert (pending.runtime_status, pending.rev, pending.status_rev) == (OrchestrationStatus.PENDING, 1, 0)
        assert pending.completed_at is None
        clock.advance(1500)
        hand.turn("a", custom_status=b'{"progress":0.5}')
        running = state_of(client, "a")
        assert running.status_rev == running.rev > pending.rev
        clock.advance(500)
        hand.turn("a", COMPLETED, output=b'"done"')
        state = state_of(client, "a")
        assert (state.instance_id, state.name, state.version, state.execution) == ("a", "flow", "3", 1)
        assert state.runtime_status is COMPLETED
        assert state.created_at == datetime.fromtimestamp(born / 1000, UTC)
        assert state.created_at.utcoffset() == timedelta(0)
        assert state.last_updated_at == state.completed_at == state.created_at + timedelta(seconds=2)
        assert (state.serialized_input, state.serialized_output) == ("[1]", '"done"')
        assert state.serialized_custom_status == '{"progress":0.5}'
        assert (state.get_input(), state.get_output(), state.get_custom_status()) == ([1], "done", {"progress": 0.5})
        assert (state.failure_details, state.parent_instance_id, state.tags) == (None, None, {"k": "v"})
        assert state.generation == hand.get("a").generation
        state.raise_if_failed()

    def test_without_payloads(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration("flow", instance_id="a", input=1)
        failure = encode_failure(FailureDetails(error_type="E", message="m"))
        hand.turn("a", FAILED, output=b"2", custom_status=b"3", failure=failure)
        state = state_of(client, "a", fetch_payloads=False)
        assert (state.serialized_input, state.serialized_output) == (None, None)
        assert state.get_input() is state.get_output() is None
        assert state.get_custom_status() == 3
        assert state.failure_details is not None

    def test_a_child_knows_its_parent(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        hand.create_child("b", of="a")
        assert state_of(client, "b").parent_instance_id == "a"

    @pytest.mark.parametrize("value", [0, False, "", [], {}, "中", "😀", {"b": 1, "a": None}])
    def test_custom_statuses(self, client: Client, hand: Hand, value: Any) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        hand.turn("a", custom_status=json.dumps(value, ensure_ascii=False).encode())
        status = state_of(client, "a").get_custom_status()
        assert status == value
        assert type(status) is type(value)

    @pytest.mark.parametrize("cleared", [None, b"null"])
    def test_a_cleared_custom_status_is_none(self, client: Client, hand: Hand, cleared: bytes | None) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        hand.turn("a", custom_status=b"1")
        hand.turn("a", custom_status=cleared)
        state = state_of(client, "a")
        assert state.serialized_custom_status is None
        assert state.get_custom_status() is None

    def test_values_are_rebuilt_as_what_is_asked_for(self, client: Client, hand: Hand) -> None:
        order = Order("tea", datetime(2024, 2, 29, tzinfo=UTC))
        client.schedule_new_orchestration("flow", instance_id="a", input=order)
        stored = hand.get("a").input
        hand.turn("a", COMPLETED, output=stored, custom_status=stored)
        state = state_of(client, "a")
        assert state.get_input(Order) == state.get_output(type=Order) == state.get_custom_status(Order) == order
        assert state.get_input() == {"item": "tea", "when": "2024-02-29T00:00:00+00:00"}
        with pytest.raises(PayloadError):
            state.get_output(list[int])

    def test_failures(self, client: Client, hand: Hand) -> None:
        details = FailureDetails(error_type="ValueError", message="no tea", stack_trace="...")
        client.schedule_new_orchestration("flow", instance_id="a")
        hand.turn("a", FAILED, failure=encode_failure(details))
        state = state_of(client, "a")
        assert state.failure_details == details
        with pytest.raises(OrchestrationFailedError, match="'a' failed: ValueError: no tea") as caught:
            state.raise_if_failed()
        assert caught.value.details == details

    def test_damaged_payloads_hide_nothing(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        hand.turn("a", FAILED, failure=b"\xff", output=b"\xff", custom_status=b"{")
        (state,) = client.get_all_orchestration_states(OrchestrationQuery(fetch_inputs_and_outputs=True))
        assert state.serialized_output == "\\xff"
        assert state.failure_details is not None
        assert "Corrupt" in state.failure_details.error_type
        with pytest.raises(PayloadError):
            state.get_custom_status()
        with pytest.raises(OrchestrationFailedError):
            state.raise_if_failed()

    def test_a_data_converter(self, provider: Provider, kind: str) -> None:
        class Reversed:
            def dumps(self, value: Any) -> str:
                return json.dumps(value)[::-1]

            def loads(self, text: bytes, type_hint: Any = Any) -> Any:
                assert type_hint in (Any, str)
                return json.loads(text.decode()[::-1])

        make: Callable[..., Any] = Client if kind == "sync" else blocking
        with make(provider, data_converter=Reversed()) as client:
            hand = Hand(provider.hub("default"))
            client.schedule_new_orchestration("flow", instance_id="a", input="abc")
            hand.turn("a", custom_status=b'"abc"')
            state = state_of(client, "a")
            assert state.serialized_input == '"cba"'
            assert state.get_input() == state.get_input(str) == "abc"
            # A custom status is JSON for everybody.
            assert state.get_custom_status() == "abc"
            client.raise_orchestration_event("a", "go", data="xy")
            client.terminate_orchestration("a", output="xy")
            assert {event.input for event in hand.inbox("a") if isinstance(event, EventRaised)} == {b'"yx"'}


class TestLists:
    @pytest.fixture(autouse=True)
    def instances(self, client: Client, hand: Hand, clock: ManualClock) -> None:
        for number in range(5):
            client.schedule_new_orchestration(
                "even" if number % 2 == 0 else "odd", instance_id=f"i-{number}", input=number, tags={"n": str(number)}
            )
            clock.advance(1000)
        hand.turn("i-1", COMPLETED)
        hand.turn("i-2", custom_status=b'"half"')

    def ids(self, client: Client, **filters: Any) -> list[str]:
        return [state.instance_id for state in client.get_all_orchestration_states(OrchestrationQuery(**filters))]

    def at(self, clock: ManualClock, number: float) -> datetime:
        return datetime.fromtimestamp(clock.now() / 1000, UTC) + timedelta(seconds=number - 5)

    def test_all(self, client: Client) -> None:
        states = client.get_all_orchestration_states()
        assert [state.instance_id for state in states] == [f"i-{number}" for number in range(5)]
        assert states[2].get_custom_status() == "half"
        assert states[2].serialized_input is None

    def test_with_payloads(self, client: Client) -> None:
        states = client.get_all_orchestration_states(OrchestrationQuery(fetch_inputs_and_outputs=True))
        assert [state.get_input() for state in states] == list(range(5))

    def test_filters(self, client: Client, hand: Hand, clock: ManualClock) -> None:
        assert self.ids(client, runtime_status=[COMPLETED]) == ["i-1"]
        assert self.ids(client, runtime_status="COMPLETED") == ["i-1"]
        assert self.ids(client, runtime_status=[]) == []
        assert self.ids(client, names=["odd"]) == self.ids(client, names="odd") == ["i-1", "i-3"]
        assert self.ids(client, versions=[None]) == [f"i-{number}" for number in range(5)]
        assert self.ids(client, instance_id_prefix="i-4") == ["i-4"]
        assert self.ids(client, tags={"n": "3"}) == ["i-3"]
        assert self.ids(client, descending=True)[0] == "i-4"
        assert self.ids(client, updated_time_from=self.at(clock, 5)) == ["i-1", "i-2"]
        assert self.ids(client, completed_time_from=self.at(clock, 0)) == ["i-1"]
        hand.create_child("c", of="i-0")
        assert self.ids(client, parent_instance_id="i-0") == ["c"]

    def test_ranges_include_their_start_and_not_their_end(self, client: Client, clock: ManualClock) -> None:
        found = self.ids(client, created_time_from=self.at(clock, 1), created_time_to=self.at(clock, 3))
        assert found == ["i-1", "i-2"]
        naive = self.at(clock, 1).replace(tzinfo=None)
        assert self.ids(client, created_time_from=naive) == ["i-1", "i-2", "i-3", "i-4"]
        just_after = self.at(clock, 1) + timedelta(microseconds=1)
        assert self.ids(client, created_time_from=just_after) == ["i-2", "i-3", "i-4"]
        assert self.ids(client, created_time_to=just_after) == ["i-0", "i-1"]

    def test_a_greatest_number(self, client: Client) -> None:
        assert self.ids(client, max_instance_count=2) == ["i-0", "i-1"]
        assert self.ids(client, max_instance_count=0) == []
        with pytest.raises(InvalidArgument, match="max_instance_count is -1"):
            self.ids(client, max_instance_count=-1)

    def test_bad_filters(self, client: Client) -> None:
        with pytest.raises(InvalidArgument, match="one of PENDING, RUNNING"):
            self.ids(client, runtime_status=["DONE"])
        with pytest.raises(InvalidArgument, match="times are datetimes, not float"):
            self.ids(client, created_time_from=1.5)

    def test_pages(self, client: Client) -> None:
        query, found, cursor = OrchestrationQuery(names=["even"]), [], None
        while True:
            page = client.query_orchestrations(query, page_size=1, cursor=cursor)
            found += [state.instance_id for state in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        assert found == ["i-0", "i-2", "i-4"]
        assert len(client.query_orchestrations().items) == 5

    def test_more_than_a_page(self, client: Client) -> None:
        for number in range(130):
            client.schedule_new_orchestration("many", instance_id=f"m-{number:03}")
        assert self.ids(client, names=["many"]) == [f"m-{number:03}" for number in range(130)]
        assert len(self.ids(client, names=["many"], max_instance_count=120)) == 120


class TestHistory:
    def raised(self, number: int) -> EventRaised:
        return EventRaised(timestamp=number, name=f"e-{number}", input=b"[%d]" % number)

    def test_over_several_pages(self, client: Client, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(operations, "_HISTORY_PAGE", 3)
        client.schedule_new_orchestration("flow", instance_id="a")
        events = [self.raised(number) for number in range(7)]
        hand.turn("a", events=[encode_event(event) for event in events])
        end = ExecutionCompleted(timestamp=9, status=COMPLETED, result=b'"x"')
        hand.turn("a", COMPLETED, events=[encode_event(end)])
        assert list(client.read_history("a")) == [*events, end]

    def test_an_empty_one(self, client: Client) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        assert list(client.read_history("a")) == []

    def test_an_unknown_instance(self, client: Client) -> None:
        with pytest.raises(InstanceNotFound):
            list(client.read_history("nobody"))

    def test_a_malformed_id_is_told_at_once(self, client: Client) -> None:
        with pytest.raises(InvalidInstanceId):
            client.read_history("a/b")

    def test_what_is_no_event(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        hand.turn("a", events=[b'{"kind":"Later"}'])
        with pytest.raises(Corrupt, match="run workers of that version"):
            list(client.read_history("a"))

    def test_another_execution_begins_meanwhile(self, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(operations, "_HISTORY_PAGE", 1)
        with Client(provider) as client:
            hand = Hand(provider.hub("default"))
            client.schedule_new_orchestration("flow", instance_id="a")
            hand.turn("a", events=[encode_event(self.raised(number)) for number in range(3)])
            events = client.read_history("a")
            assert next(events) == self.raised(0)
            hand.continue_as_new("a", input=b"2", events=(encode_event(self.raised(7)),) * 2)
            with pytest.raises(Transient, match="read it again"):
                next(events)
            assert list(client.read_history("a")) == [self.raised(7)] * 2
            assert state_of(client, "a").execution == 2
            assert state_of(client, "a").get_input() == 2

    async def streamed(self, provider: Provider) -> list[Any]:
        async with AsyncClient(provider) as client:
            await client.schedule_new_orchestration("flow", instance_id="a")
            Hand(provider.hub("default")).turn("a", events=[encode_event(self.raised(1))])
            return [event async for event in client.read_history("a")]

    def test_async_for(self, provider: Provider) -> None:
        assert asyncio.run(self.streamed(provider)) == [self.raised(1)]

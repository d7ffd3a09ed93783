"""Starting orchestrations."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.client.hand import COMPLETED, FAILED, TERMINATED, Hand, nested

from perdure.client import Client
from perdure.errors import (
    InstanceAlreadyExists,
    InvalidArgument,
    InvalidInstanceId,
    InvalidName,
    PayloadError,
    PayloadTooLarge,
)
from perdure.history import ExecutionStarted
from perdure.registry import orchestrator
from perdure.spi import ClaimTurns, ManualClock


def flow(context: Any, order: Any) -> None: ...


@orchestrator(name="renamed")
def marked(context: Any) -> None: ...


def started(hand: Hand, instance: str) -> ExecutionStarted:
    (event,) = hand.inbox(instance)
    assert isinstance(event, ExecutionStarted)
    return event


def test_the_start_reaches_the_worker(client: Client, hand: Hand, clock: ManualClock) -> None:
    made = client.schedule_new_orchestration(
        flow, input={"n": 1}, instance_id="order-1", tags={"team": "blue"}, version="2.0"
    )
    assert made == "order-1"
    item, event = hand.claim(made), started(hand, made)
    assert (item.name, item.version) == ("flow", "2.0")
    assert (event.name, event.instance_id, event.version) == ("flow", made, "2.0")
    assert (event.input, event.tags, event.timestamp, event.parent) == (b'{"n":1}', {"team": "blue"}, clock.now(), None)
    assert len(event.execution_id) == 32
    assert event.execution_id != item.generation
    assert hand.get(made).input == b'{"n":1}'
    assert hand.get(made).tags == {"team": "blue"}


@pytest.mark.parametrize(("given", "name"), [(flow, "flow"), (marked, "renamed"), ("any name", "any name")])
def test_an_orchestrator_is_given_by_function_or_name(
    client: Client, hand: Hand, given: Callable[..., Any] | str, name: str
) -> None:
    assert hand.get(client.schedule_new_orchestration(given)).name == name


def test_ids_are_fresh_by_default(client: Client) -> None:
    ids = {client.schedule_new_orchestration(flow) for _ in range(3)}
    assert len(ids) == 3
    assert all(len(instance_id) == 32 for instance_id in ids)


def test_no_input_is_no_payload(client: Client, hand: Hand) -> None:
    made = client.schedule_new_orchestration(flow)
    assert started(hand, made).input is None
    assert hand.get(made).input is None


@pytest.mark.parametrize("falsy", [0, False, "", [], {}])
def test_a_falsy_input_is_an_input(client: Client, falsy: Any) -> None:
    state = client.get_orchestration_state(client.schedule_new_orchestration(flow, input=falsy))
    assert state is not None
    assert state.get_input() == falsy
    assert type(state.get_input()) is type(falsy)


class TestDelayedStart:
    def due(self, client: Client, hand: Hand, start_at: Any) -> int | None:
        client.schedule_new_orchestration(flow, instance_id="a", start_at=start_at)
        batch = hand.hub.claim_turns(ClaimTurns(worker="w", max_items=10, lease_ms=1))
        return None if batch.items else batch.next_due

    def at(self, clock: ManualClock, **later: float) -> datetime:
        return datetime.fromtimestamp(clock.now() / 1000, UTC) + timedelta(**later)

    def test_a_span_counts_from_the_hubs_now(self, client: Client, hand: Hand, clock: ManualClock) -> None:
        assert self.due(client, hand, timedelta(days=40)) == clock.now() + 40 * 86_400_000

    def test_a_time_with_a_zone(self, client: Client, hand: Hand, clock: ManualClock) -> None:
        at = self.at(clock, hours=1).astimezone(timezone(timedelta(hours=5, minutes=30)))
        assert self.due(client, hand, at) == clock.now() + 3_600_000

    def test_a_time_without_a_zone_is_utc(self, client: Client, hand: Hand, clock: ManualClock) -> None:
        assert self.due(client, hand, self.at(clock, hours=1).replace(tzinfo=None)) == clock.now() + 3_600_000

    def test_a_part_of_a_millisecond_is_rounded_up(self, client: Client, hand: Hand, clock: ManualClock) -> None:
        assert self.due(client, hand, timedelta(microseconds=1)) == clock.now() + 1

    @pytest.mark.parametrize("past", [timedelta(0), timedelta(seconds=-1), datetime(1969, 1, 1)])
    def test_the_past_is_now(self, client: Client, hand: Hand, past: Any) -> None:
        assert self.due(client, hand, past) is None

    def test_anything_else_is_refused(self, client: Client) -> None:
        with pytest.raises(InvalidArgument, match="start_at must be a datetime or a timedelta, not int"):
            client.schedule_new_orchestration(flow, start_at=5)  # type: ignore[arg-type]


class TestReuse:
    def test_a_taken_id_is_an_error(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration(flow, instance_id="a")
        hand.turn("a")
        for policy in (None, "error"):
            with pytest.raises(InstanceAlreadyExists, match="exists already and is RUNNING") as caught:
                client.schedule_new_orchestration(flow, instance_id="a", reuse_id_policy=policy)
            assert caught.value.instance_id == "a"

    @pytest.mark.parametrize("status", [COMPLETED, FAILED, TERMINATED])
    def test_an_ended_one_is_replaced(self, client: Client, hand: Hand, status: Any) -> None:
        client.schedule_new_orchestration(flow, instance_id="a", input=1)
        hand.turn("a", custom_status=b'"old"')
        hand.turn("a", status)
        before = hand.get("a")
        with pytest.raises(InstanceAlreadyExists):
            client.schedule_new_orchestration(flow, instance_id="a")
        assert (
            client.schedule_new_orchestration(flow, instance_id="a", input=2, reuse_id_policy="replace_finished") == "a"
        )
        state = client.get_orchestration_state("a")
        assert state is not None
        assert (state.runtime_status, state.get_input(), state.get_custom_status()) == ("PENDING", 2, None)
        assert state.generation != before.generation

    def test_a_running_one_is_not_replaced(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration(flow, instance_id="a")
        with pytest.raises(InstanceAlreadyExists, match="is PENDING"):
            client.schedule_new_orchestration(flow, instance_id="a", reuse_id_policy="replace_finished")

    def test_replacing_nothing_is_a_start(self, client: Client) -> None:
        assert client.schedule_new_orchestration(flow, instance_id="a", reuse_id_policy="replace_finished") == "a"

    def test_ignore_leaves_what_is_there(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration(flow, instance_id="a", input=1)
        for _ in range(2):
            assert client.schedule_new_orchestration(flow, instance_id="a", input=2, reuse_id_policy="ignore") == "a"
        assert hand.get("a").input == b"1"
        hand.turn("a", COMPLETED)
        client.schedule_new_orchestration(flow, instance_id="a", reuse_id_policy="ignore")
        assert hand.get("a").status is COMPLETED

    def test_an_unknown_policy_is_refused(self, client: Client) -> None:
        with pytest.raises(InvalidArgument, match="'error', 'replace_finished' or 'ignore'"):
            client.schedule_new_orchestration(flow, reuse_id_policy="replace")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"instance_id": ""}, InvalidInstanceId),
        ({"instance_id": "a/b"}, InvalidInstanceId),
        ({"instance_id": "x" * 257}, InvalidInstanceId),
        ({"orchestrator": ""}, InvalidName),
        ({"orchestrator": lambda context: None}, InvalidName),
        ({"input": float("nan")}, PayloadError),
        ({"input": 2**64}, PayloadError),
        ({"input": object()}, PayloadError),
        ({"input": nested(30_000)}, PayloadError),
        ({"input": "x" * (4 * 1024 * 1024)}, PayloadTooLarge),
        ({"tags": {"a": 1}}, InvalidArgument),
        ({"version": 2}, InvalidName),
    ],
)
def test_bad_arguments_are_named_and_start_nothing(
    client: Client, fields: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        client.schedule_new_orchestration(**({"orchestrator": flow} | fields))
    assert client.get_all_orchestration_states() == []


def test_the_largest_payload_fits(client: Client) -> None:
    largest = "x" * (4 * 1024 * 1024 - 2)
    state = client.get_orchestration_state(client.schedule_new_orchestration(flow, input=largest))
    assert state is not None
    assert state.get_input(str) == largest

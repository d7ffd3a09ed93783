"""Purging."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.client.hand import COMPLETED, FAILED, Hand

from perdure import operations
from perdure.client import Client
from perdure.errors import InvalidArgument, InvalidInstanceId
from perdure.requests import PurgeInstancesResult
from perdure.spi import ManualClock


def ids(client: Client) -> list[str]:
    return [state.instance_id for state in client.get_all_orchestration_states()]


class TestById:
    def test_an_ended_one(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        hand.turn("a", COMPLETED)
        assert client.purge_orchestration("a") == PurgeInstancesResult(deleted_instance_count=1, is_complete=True)
        assert client.get_orchestration_state("a") is None

    def test_an_unknown_one(self, client: Client) -> None:
        assert client.purge_orchestration("a") == PurgeInstancesResult(deleted_instance_count=0, is_complete=True)

    def test_a_running_one_stays(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        result = client.purge_orchestration("a")
        assert result == PurgeInstancesResult(deleted_instance_count=0, is_complete=False, unfinished=("a",))
        assert ids(client) == ["a"]
        assert client.purge_orchestration("a", force=True).deleted_instance_count == 1
        assert ids(client) == []

    def test_with_its_children(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        hand.create_child("b", of="a")
        hand.turn("a", COMPLETED)
        assert client.purge_orchestration("a", recursive=True).unfinished == ("a",)
        hand.turn("b", COMPLETED)
        assert client.purge_orchestration("a", recursive=True).deleted_instance_count == 2
        assert ids(client) == []

    def test_without_its_children(self, client: Client, hand: Hand) -> None:
        client.schedule_new_orchestration("flow", instance_id="a")
        hand.create_child("b", of="a")
        hand.turn("a", COMPLETED)
        assert client.purge_orchestration("a").deleted_instance_count == 1
        assert ids(client) == ["b"]

    def test_a_malformed_id(self, client: Client) -> None:
        with pytest.raises(InvalidInstanceId):
            client.purge_orchestration("")


class TestByFilter:
    @pytest.fixture(autouse=True)
    def instances(self, client: Client, hand: Hand, clock: ManualClock) -> None:
        for number in range(6):
            client.schedule_new_orchestration(f"flow-{number}", instance_id=f"i-{number}", tags={"n": str(number)})
            clock.advance(1000)
        for number in range(5):
            hand.turn(f"i-{number}", FAILED if number % 2 else COMPLETED)

    def test_all_that_ended(self, client: Client) -> None:
        result = client.purge_orchestrations_by()
        assert result == PurgeInstancesResult(deleted_instance_count=5, is_complete=True)
        assert ids(client) == ["i-5"]

    @pytest.mark.parametrize(
        ("filters", "left"),
        [
            ({"runtime_status": [FAILED]}, "0245"),
            ({"runtime_status": []}, "012345"),
            ({"names": ["flow-0", "flow-5"]}, "12345"),
            ({"instance_id_prefix": "i-2"}, "01345"),
            ({"tags": {"n": "4"}}, "01235"),
        ],
    )
    def test_filters(self, client: Client, filters: dict[str, Any], left: str) -> None:
        client.purge_orchestrations_by(**filters)
        assert ids(client) == [f"i-{number}" for number in left]

    def test_times(self, client: Client, clock: ManualClock) -> None:
        start = datetime.fromtimestamp(clock.now() / 1000, UTC) - timedelta(seconds=6)
        result = client.purge_orchestrations_by(
            created_time_from=start + timedelta(seconds=1), created_time_to=start + timedelta(seconds=3)
        )
        assert result.deleted_instance_count == 2
        assert ids(client) == ["i-0", "i-3", "i-4", "i-5"]
        assert client.purge_orchestrations_by(completed_time_to=start).deleted_instance_count == 0
        assert client.purge_orchestrations_by(completed_time_from=start).deleted_instance_count == 3

    def test_portion_by_portion(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(operations, "_PURGE_LIMIT", 2)
        result = client.purge_orchestrations_by()
        assert result == PurgeInstancesResult(deleted_instance_count=5, is_complete=True)

    @pytest.mark.parametrize("timeout", [0, timedelta(0)])
    def test_a_time_out(self, client: Client, monkeypatch: pytest.MonkeyPatch, timeout: Any) -> None:
        monkeypatch.setattr(operations, "_PURGE_LIMIT", 2)
        result = client.purge_orchestrations_by(timeout=timeout)
        assert result == PurgeInstancesResult(deleted_instance_count=2, is_complete=False)

    def test_a_bad_time_out(self, client: Client) -> None:
        with pytest.raises(InvalidArgument):
            client.purge_orchestrations_by(timeout=-1)

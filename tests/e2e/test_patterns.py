"""The three patterns of the custom status through `Worker` and `Client`, each status read while the instance runs.

Both in one process, on memory and SQLite; and on SQLite with the worker in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import patterns
from tests.e2e.command import environment, eventually, require_installed
from tests.e2e.patterns import Gates

import perdure
from perdure import OrchestrationStatus

RUNNING, COMPLETED, FAILED = OrchestrationStatus.RUNNING, OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED
OFFER = {"discount": 20, "discountTimeout": 60, "bookingUrl": "https://tickets.example/book/trip"}

_numbers = count(1)


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    (tmp_path / "gates").mkdir()
    return Gates(tmp_path / "gates")


@pytest.fixture(params=["memory", "sqlite", "sqlite, worker in a second process"])
def client(request: pytest.FixtureRequest, tmp_path: Path, gates: Gates) -> Iterator[perdure.Client]:
    require_installed()
    url = f"memory://patterns-{next(_numbers)}" if request.param == "memory" else f"sqlite:///{tmp_path}/patterns.db"
    with perdure.Client(url) as client:
        if request.param.endswith("second process"):
            with worker_process(url, gates):
                yield client
        else:
            with patterns.make_worker(url, gates):
                yield client


@contextmanager
def worker_process(url: str, gates: Gates) -> Iterator[None]:
    words = [sys.executable, patterns.__file__, url, str(gates.directory)]
    process = subprocess.Popen(words, env=environment(), stdin=subprocess.PIPE)
    try:
        yield
        process.communicate(timeout=20)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def names(city: str) -> Callable[[Any], bool]:
    return lambda status: status is not None and status["message"] == city


def test_progress_over_a_sequence(client: perdure.Client, gates: Gates) -> None:
    client.schedule_new_orchestration("sequence", instance_id="tour")
    eventually(lambda: gates.reached() == 1, what="the first city")
    state = client.get_orchestration_state("tour")
    assert state is not None
    assert (state.runtime_status, state.get_custom_status()) == (RUNNING, None)

    for number, city in enumerate(["Tokyo", "Seattle"], start=1):
        gates.open()
        state = client.wait_for_custom_status("tour", names(city))
        assert state.runtime_status is RUNNING
        assert state.get_custom_status() == {"progress": number / 3, "message": city}

    gates.open()
    state = client.wait_for_orchestration_completion("tour")
    assert state.runtime_status is COMPLETED
    assert state.get_output() == ["Hello, Tokyo!", "Hello, Seattle!", "Hello, London!"]
    assert state.get_custom_status() == {"progress": 1, "message": "London"}


def test_data_for_the_caller(client: perdure.Client, gates: Gates) -> None:
    client.schedule_new_orchestration("city_recommender", instance_id="where", input={"likes": "mountains"})
    recommended = {"recommendedCities": ["Innsbruck", "Denver"], "recommendedSeasons": ["Summer", "Winter"]}
    state = client.wait_for_custom_status("where", lambda status: status is not None)
    assert (state.runtime_status, state.get_custom_status()) == (RUNNING, recommended)

    eventually(lambda: gates.reached() == 2, what="both descriptions at once")
    gates.open(2)
    state = client.wait_for_orchestration_completion("where")
    assert state.runtime_status is COMPLETED
    assert state.get_output() == ["Innsbruck is worth the journey.", "Denver is worth the journey."]
    assert state.get_custom_status() == recommended


def test_an_offer_that_waits_for_a_click(client: perdure.Client) -> None:
    order = {"customer": "Ada", "tickets": 4}
    client.schedule_new_orchestration("ticket_reservation", instance_id="trip", input=order)
    state = client.wait_for_custom_status("trip", lambda status: status is not None)
    assert (state.runtime_status, state.get_custom_status()) == (RUNNING, OFFER)

    client.raise_orchestration_event("trip", "BookingConfirmed", data={"seats": "12A"})
    state = client.wait_for_orchestration_completion("trip")
    assert state.runtime_status is COMPLETED
    assert state.get_output() == {"booked": True, "discount": 20, "seats": "12A"}
    assert state.get_custom_status() == {"message": "Thank you for booking, Ada!"}


def test_a_click_without_data_books_without_seats(client: perdure.Client) -> None:
    client.schedule_new_orchestration("ticket_reservation", instance_id="trip")
    client.raise_orchestration_event("trip", "BookingConfirmed")
    state = client.wait_for_orchestration_completion("trip")
    assert state.get_output() == {"booked": True, "discount": 5, "seats": None}
    assert state.get_custom_status() == {"message": "Thank you for booking, somebody!"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [(True, "expected Confirmation, found True (bool)"), ({"seats": 12}, "$.seats"), ({}, "seats")],
)
def test_a_click_with_malformed_data_is_refused(client: perdure.Client, data: object, reason: str) -> None:
    """With the reason; and nobody has been thanked for a booking that there isn't."""
    order = {"customer": "Ada", "tickets": 4}
    client.schedule_new_orchestration("ticket_reservation", instance_id="trip", input=order)
    client.raise_orchestration_event("trip", "BookingConfirmed", data=data)
    state = client.wait_for_orchestration_completion("trip")
    assert state.runtime_status is FAILED
    assert state.failure_details is not None
    assert state.failure_details.error_type == "perdure.errors.PayloadError"
    assert reason in state.failure_details.message
    assert state.get_custom_status() == OFFER

"""The examples, run as a reader would run them."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.command import EXAMPLES, Command, eventually, stop

import perdure as api

CITIES = ["Hello, Tokyo!", "Hello, Seattle!", "Hello, London!"]


def example(name: str) -> str:
    return str(EXAMPLES / f"{name}.py")


def custom_status(perdure: Command, instance_id: str) -> Any:
    shown = perdure.run("show", instance_id, "--json", code=None)
    return shown.json["custom_status"] if shown.code == 0 else None


def take_inventory(perdure: Command, request: dict[str, Any], *more: str) -> dict[str, Any]:
    report: dict[str, Any] = perdure.run("run", example("inventory"), "--input", json.dumps(request), *more).json
    return report


def test_sequence_shows_the_last_city_done_while_it_runs(perdure: Command) -> None:
    process = perdure.start("run", example("sequence"), "--id", "tour")
    seen: list[str] = []

    def saw_two() -> bool:
        status = custom_status(perdure, "tour")
        if status is not None and status["message"] not in seen:
            seen.append(status["message"])
        return len(seen) >= 2

    eventually(saw_two, what="a second city")
    assert process.poll() is None, "the status was to be read from a second process while it runs"
    stdout, stderr = process.communicate(timeout=20)
    assert json.loads(stdout) == CITIES
    assert seen == [city for city in ("Tokyo", "Seattle", "London") if city in seen]
    assert [line.split(" ", 1)[1].strip() for line in stderr.splitlines()[2:]] == [
        "33% Tokyo",
        "67% Seattle",
        "100% London",
    ]
    assert custom_status(perdure, "tour") == {"progress": 1, "message": "London"}


@pytest.mark.parametrize(
    ("likes", "cities", "seasons"),
    [
        ("coast", ["Lisbon", "San Diego", "Split"], ["Spring", "Autumn"]),
        ("mountains", ["Innsbruck", "Denver"], ["Summer", "Winter"]),
    ],
)
def test_city_recommender_recommends_at_once_and_describes_later(
    perdure: Command, likes: str, cities: list[str], seasons: list[str]
) -> None:
    recommended = {"recommendedCities": cities, "recommendedSeasons": seasons}
    with api.Client(f"sqlite:///{perdure.directory}/perdure.db") as client:
        # Scheduled before anybody runs it, so that the wait below stands when the status comes.
        client.schedule_new_orchestration("city_recommender", instance_id=likes, input={"likes": likes})
        process = perdure.start("run", example("city_recommender"), "--id", likes)
        state = client.wait_for_custom_status(likes, lambda status: status is not None)
    assert state.runtime_status is api.OrchestrationStatus.RUNNING, "it was to be read while it runs"
    assert state.get_custom_status() == recommended
    stdout, _ = process.communicate(timeout=20)
    assert json.loads(stdout) == [f"{city} is worth the journey." for city in cities]
    history = perdure.run("history", likes, "--json").json
    assert [event["kind"] for event in history].count("TaskScheduled") == len(cities)
    assert custom_status(perdure, likes) == recommended


def test_city_recommender_says_what_it_does_not_know(perdure: Command) -> None:
    failed = perdure.run("run", example("city_recommender"), "--input", '{"likes": "noise"}', code=1)
    assert "'coast', 'mountains', 'food'" in failed.stderr
    assert failed.stdout == ""


def test_ticket_reservation_is_decided_by_an_event_from_another_process(perdure: Command) -> None:
    process = perdure.start(
        "run", example("ticket_reservation"), "--id", "trip", "--input", '{"customer": "Ada", "tickets": 4}'
    )
    eventually(lambda: custom_status(perdure, "trip") is not None, what="the offer")
    assert custom_status(perdure, "trip") == {
        "discount": 20,
        "discountTimeout": 60,
        "bookingUrl": "https://tickets.example/book/trip",
    }
    perdure.run("raise-event", "trip", "BookingConfirmed", "--data", '{"seats": "12A-12D"}')
    stdout, _ = process.communicate(timeout=20)
    assert json.loads(stdout) == {"booked": True, "discount": 20, "seats": "12A-12D"}
    assert custom_status(perdure, "trip") == {"message": "Thank you for booking, Ada!"}


def test_ticket_reservation_refuses_a_malformed_confirmation(perdure: Command) -> None:
    process = perdure.start("run", example("ticket_reservation"), "--id", "trip")
    eventually(lambda: custom_status(perdure, "trip") is not None, what="the offer")
    offer = custom_status(perdure, "trip")
    perdure.run("raise-event", "trip", "BookingConfirmed", "--data", "true")
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "expected Confirmation, found True (bool)" in stderr
    assert custom_status(perdure, "trip") == offer, "nobody is thanked"


def test_ticket_reservation_runs_out(perdure: Command) -> None:
    done = perdure.run("run", example("ticket_reservation"), "--id", "late", "--input", '{"seconds_to_decide": 0.2}')
    assert done.json == {"booked": False, "discount": 0, "seats": None}
    assert custom_status(perdure, "late") == {"message": "The offer has run out."}


def test_inventory_reports_what_is_there(perdure: Command, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub" / "deeper").mkdir(parents=True)
    contents = {"a.txt": b"alpha", "sub/b.txt": b"alpha", "sub/deeper/c.py": b"print()\n" * 20, "sub/empty": b""}
    for path, content in contents.items():
        (tree / path).write_bytes(content)
    (tree / "link.txt").symlink_to(tree / "a.txt")
    (tree / "loop").symlink_to(tree)
    (tree / "perdure.db-wal").write_bytes(b"changes all the time")
    os.mkfifo(tree / "pipe")

    assert take_inventory(perdure, {"path": str(tree)}) == {
        "files": 4,
        "bytes": 170,
        "by_type": {
            "application/octet-stream": {"files": 1, "bytes": 0},
            "text/plain": {"files": 2, "bytes": 10},
            "text/x-python": {"files": 1, "bytes": 160},
        },
        "largest": [
            {"path": "sub/deeper/c.py", "size": 160},
            {"path": "a.txt", "size": 5},
            {"path": "sub/b.txt", "size": 5},
            {"path": "sub/empty", "size": 0},
        ],
        "duplicates": [
            {
                "sha256": hashlib.sha256(b"alpha").hexdigest(),
                "size": 5,
                "count": 2,
                "paths": ["a.txt", "sub/b.txt"],
            }
        ],
        "duplicate_groups": 1,
        "unreadable": [],
        "unreadable_count": 0,
    }


def test_inventory_of_an_empty_directory(perdure: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert take_inventory(perdure, {"path": str(tmp_path / "empty")})["files"] == 0


def test_inventory_takes_names_that_are_no_text(perdure: Command, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "odd") + b"/\xff.txt")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    report = take_inventory(perdure, {"path": str(tmp_path / "odd")})
    assert report["largest"] == [{"path": "\udcff.txt", "size": 1}]


def give_up_reading_everything() -> None:
    """Drop the capabilities by which root reads what nobody may: only its owner's rights count then."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        drop_from_bounding_set, override, read_search = 24, 1, 2
        for capability in (override, read_search):
            if libc.prctl(drop_from_bounding_set, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl")


def test_inventory_names_what_it_can_not_read(perdure: Command, tmp_path: Path) -> None:
    (tmp_path / "tree" / "closed").mkdir(parents=True)
    (tmp_path / "tree" / "secret").write_bytes(b"x")
    (tmp_path / "tree" / "secret").chmod(0)
    (tmp_path / "tree" / "closed").chmod(0)
    try:
        request = json.dumps({"path": str(tmp_path / "tree")})
        done = perdure.run("run", example("inventory"), "--input", request, first=give_up_reading_everything)
        report = done.json
    finally:
        (tmp_path / "tree" / "closed").chmod(0o700)
    assert report["unreadable"] == [
        {"path": "closed", "error": "PermissionError: Permission denied"},
        {"path": "secret", "error": "PermissionError: Permission denied"},
    ]


def test_inventory_reports_what_vanished_or_changed_meanwhile(tmp_path: Path) -> None:
    """What root can't be refused by permissions: here the activities themselves."""
    spec = importlib.util.spec_from_file_location("inventory", example("inventory"))
    assert spec is not None
    assert spec.loader is not None
    inventory: Any = importlib.util.module_from_spec(spec)
    sys.modules["inventory"] = inventory
    spec.loader.exec_module(inventory)
    del sys.modules["inventory"]
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path)
    errors = {
        path: inventory.examine(None, inventory.Place(str(tmp_path), path)).error
        for path in ("gone", "pipe", "link", "")
    }
    assert errors["gone"] == "FileNotFoundError: No such file or directory"
    assert errors["pipe"] == "no regular file any more"
    assert errors["link"] is not None
    assert errors[""] is not None
    listing = inventory.list_directory(None, inventory.Place(str(tmp_path), "gone"))
    assert (listing.files, listing.error) == ([], "FileNotFoundError: No such file or directory")


def test_inventory_pages_through_a_large_directory(perdure: Command, tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    for number in range(2_001):
        (tmp_path / "wide" / f"{number:05}").mkdir()
    (tmp_path / "wide" / "99999").write_bytes(b"on the second page")
    report = take_inventory(perdure, {"path": str(tmp_path / "wide")})
    assert report["largest"] == [{"path": "99999", "size": 18}]


def test_inventory_refuses_what_is_no_directory(perdure: Command) -> None:
    failed = perdure.run("run", example("inventory"), "--input", '{"path": "/no/such/place"}', code=1)
    assert "NotADirectoryError: '/no/such/place' is no directory" in failed.stderr


def test_inventory_goes_on_from_another_directory(perdure: Command, tmp_path: Path) -> None:
    """The path was made absolute by an activity, and that is on record."""
    (perdure.directory / "tree").mkdir()
    for number in range(3_000):
        (perdure.directory / "tree" / f"{number}.txt").write_bytes(b"%d" % number)
    process = perdure.start("run", example("inventory"), "--id", "moved", "--input", '{"path": "tree"}')
    eventually(lambda: (custom_status(perdure, "moved") or {"progress": 0})["progress"] > 0, what="progress")
    code, _, _ = stop(process)
    assert code == 130
    elsewhere = Command(tmp_path)
    store = f"sqlite:///{perdure.directory}/perdure.db"
    assert elsewhere.run("run", example("inventory"), "--id", "moved", "--provider", store).json["files"] == 3_000

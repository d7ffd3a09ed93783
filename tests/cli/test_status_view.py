from __future__ import annotations

import io
import re
from typing import Any

import pytest

from perdure.cli.status_view import Snapshot, open_view
from perdure.spi import OrchestrationStatus

RUNNING = OrchestrationStatus.RUNNING


def snapshot(value: Any, status: OrchestrationStatus = RUNNING) -> Snapshot:
    return Snapshot(status=status, custom_status=value)


@pytest.mark.parametrize(
    ("value", "progress", "message"),
    [
        (None, None, ""),
        ({"progress": 0.4, "message": "nearly"}, 0.4, "nearly"),
        ({"progress": 1}, 1.0, ""),
        ({"progress": 7, "message": None}, 1.0, ""),
        ({"progress": -1, "message": "below"}, 0.0, "below"),
        ({"progress": True}, None, '{"progress": true}'),
        ({"progress": "much"}, None, '{"progress": "much"}'),
        ({"progress": 0.5, "files": 3}, 0.5, '{"progress": 0.5, "files": 3}'),
        ({"message": "only words"}, None, "only words"),
        ("Tokyo", None, "Tokyo"),
        ("two\nlines", None, "two lines"),
        ("\x1b[2J", None, "\\x1b[2J"),
        (0, None, "0"),
        ([], None, "[]"),
        ({"message": {"a": 1}}, None, '{"a": 1}'),
    ],
)
def test_what_is_read_out_of_a_custom_status(value: Any, progress: float | None, message: str) -> None:
    assert snapshot(value).progress == progress
    assert snapshot(value).message == message


def test_without_a_terminal_there_is_a_line_per_change() -> None:
    stream = io.StringIO()
    with open_view(stream, "x") as view:
        for value in (None, "a", "a", {"progress": 0.05, "message": "b"}, None, "c" * 500):
            view.show(snapshot(value))
        view.show(snapshot("d", OrchestrationStatus.SUSPENDED))
        view.show(snapshot("d", OrchestrationStatus.SUSPENDED))
        view.show(snapshot("d"))
    lines = [line.split(" ", 1) for line in stream.getvalue().splitlines()]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", time) for time, _ in lines)
    assert [text for _, text in lines] == ["a", "  5% b", "c" * 199 + "…", "d", "suspended", "resumed"]

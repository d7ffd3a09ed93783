from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perdure.cli.inputs import read_duration, read_json, read_tags, read_time
from perdure.cli.problems import UsageProblem
from perdure.limits import MAX_NESTING, MAX_PAYLOAD_BYTES


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("null", None),
        ("0", 0),
        ('"text"', "text"),
        ('{"path": "."}', {"path": "."}),
        (" [1, 2.5] ", [1, 2.5]),
        (str(2**64 - 1), 2**64 - 1),
        ('"\\ud800"', "\ud800"),
    ],
)
def test_json(text: str | None, value: object) -> None:
    assert read_json("--input", text) == value


def test_json_up_to_the_limits() -> None:
    read_json("--input", "[" * MAX_NESTING + "]" * MAX_NESTING)
    read_json("--input", '"' + "a" * (MAX_PAYLOAD_BYTES - 2) + '"')


def test_json_of_a_file(directory: Path) -> None:
    (directory / "input.json").write_text('{"a": 1}')
    assert read_json("--input", "@input.json") == {"a": 1}


def test_a_file_over_the_limit_is_not_read_to_its_end(directory: Path) -> None:
    (directory / "large.json").write_text('"' + "a" * (2 * MAX_PAYLOAD_BYTES) + '"')
    with pytest.raises(UsageProblem, match=r"^--input: it is over 4,194,304 bytes"):
        read_json("--input", "@large.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{path: .}",
            r"not JSON at character 1 .*'\{path: \.\}'; .*single quotes around it all: '\{\"path\": \"\.\"\}'",
        ),
        ("", "not JSON at character 0"),
        ("hello", "not JSON at character 0"),
        ('{"a": 1}}', "not JSON at character 8"),
        ("x" * 100, "'x{40}…|x{20,}'…"),
        ("NaN", "NaN is no JSON; use null or a string"),
        ('{"a": -Infinity}', "-Infinity is no JSON"),
        (str(2**64), r"integer outside -2\*\*63\.\.2\*\*64-1"),
        (str(-(2**63) - 1), r"integer outside"),
        ("9" * 30, r"integer outside"),
        ("9" * 5_000, r"beyond a float's range"),
        ("1e999", "float"),
        ("[" * 30_000, f"nested over {MAX_NESTING} levels"),
        ("[" * 30_000 + "]" * 30_000, f"nested over {MAX_NESTING} levels"),
        ('"' + "a" * MAX_PAYLOAD_BYTES + '"', "at most 4,194,304 are stored"),
        ("\udcff", "not JSON|UTF-8"),
        ("@/no/such/file", "can't read /no/such/file: No such file or directory"),
        ("@/tmp", "can't read /tmp: Is a directory"),
        ("@a\0b", "can't read"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_json(text: str, message: str) -> None:
    with pytest.raises(UsageProblem, match=rf"^--input: .*({message})"):
        read_json("--input", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("15 m", 900), ("2h", 7_200), ("30d", 2_592_000), ("4w", 2_419_200)],
)
def test_durations(text: str, seconds: float) -> None:
    assert read_duration("--delay", text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5", "5y", "1e3", "9" * 30 + "w", "٣"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageProblem, match="--delay takes a duration such as 90s"):
        read_duration("--delay", text)


def test_times() -> None:
    assert read_time("--start-at", "2030-12-31T17:00Z") == datetime(2030, 12, 31, 17, tzinfo=UTC)
    assert read_time("--start-at", "2030-12-31T17:00") == datetime(2030, 12, 31, 17).astimezone()


@pytest.mark.parametrize("text", ["tomorrow", "", "2030-13-01", "0001-01-01T00:00+14:00"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageProblem, match="--start-at takes a time in ISO form"):
        read_time("--start-at", text)


def test_tags() -> None:
    assert read_tags(None) is None
    assert read_tags(["a=b", "c="]) == {"a": "b", "c": ""}
    assert read_tags(["url=http://x?y=z"]) == {"url": "http://x?y=z"}


@pytest.mark.parametrize("pairs", [["a"], ["=b"], ["a=1", "a=2"]])
def test_what_is_no_tag(pairs: list[str]) -> None:
    with pytest.raises(UsageProblem, match="--tag"):
        read_tags(pairs)

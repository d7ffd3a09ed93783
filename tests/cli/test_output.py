from __future__ import annotations

import io
import json

import pytest

from perdure.cli.output import clip, print_json, print_table, printable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_control_characters_are_written_out() -> None:
    assert printable("a\x1b[31mb\x9b\u202ec\ud800\n") == "a\\x1b[31mb\\x9b\\u202ec\\ud800\n"


@pytest.mark.parametrize(
    ("text", "width", "clipped"),
    [("short", 10, "short"), ("0123456789x", 10, "012345678…"), ("a\nb", 10, "a\\nb"), ("東京東京", 5, "東京…")],
)
def test_clipping_counts_columns(text: str, width: int, clipped: str) -> None:
    assert clip(text, width) == clipped


def test_tables_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B", "C"), [("東京", "1", "x"), ("ab", "22", "")])
    assert capsys.readouterr().out == "A     B   C\n東京  1   x\nab    22\n"


def test_a_table_without_rows_is_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [])
    assert capsys.readouterr().out == "A  B\n"


VALUE = {"text": "é\x1b\x7f\x9b\ud800\U0001f600", "list": [1, 2.5, None]}


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal(), io.TextIOWrapper(io.BytesIO(), encoding="ascii")])
def test_json_comes_back_whatever_the_stream(stream: io.StringIO) -> None:
    print_json(VALUE, stream=stream)
    stream.seek(0)
    assert json.loads(stream.read()) == VALUE


def test_json_is_one_line_in_a_pipe_and_drives_no_terminal() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    print_json({"a": [1]}, stream=pipe)
    assert pipe.getvalue() == '{"a":[1]}\n'
    print_json(VALUE, stream=terminal)
    assert terminal.getvalue().count("\n") > 1
    assert not {"\x1b", "\x7f", "\x9b"} & set(terminal.getvalue())

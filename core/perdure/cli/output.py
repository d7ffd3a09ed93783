"""What goes to stdout: JSON for programs, tables for people."""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = ["clip", "compact_json", "local_time", "print_json", "print_table", "printable", "utc_time"]

# Control characters in stored data would drive the terminal that shows them, and the bidirectional ones reorder it.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LAST_COLUMN_CHARS = 120
_MIN_LAST_COLUMN_CHARS = 20


def printable(text: str) -> str:
    """Return `text` with what a terminal would act on written out."""
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)


def clip(text: str, width: int) -> str:
    """Return `text` on one line of at most `width` columns."""
    text = printable(text).replace("\n", "\\n").replace("\t", " ")
    if _columns(text) <= width:
        return text
    while _columns(text) > width - 1:
        text = text[: min(len(text) - 1, width - 1)]
    return text + "…"


def compact_json(value: Any) -> str:
    """Return `value` as JSON on one line, for people."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def print_json(value: Any, *, pretty: bool | None = None, stream: TextIO | None = None) -> None:
    """Print `value` as one JSON document.

    Args:
        value: what `json` can encode.
        pretty: indented; by default where a person reads it, on a terminal.
        stream: by default stdout.
    """
    stream = stream or sys.stdout
    on_terminal = stream.isatty()
    indent = 2 if (on_terminal if pretty is None else pretty) else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=None if indent else (",", ":"))
    # Escaped it is still the same document: for a terminal that must not act on it, an encoding that lacks a
    # character, and lone surrogates, which no encoding has.
    if (on_terminal and _UNPRINTABLE.search(text)) or not _encodable(text, stream.encoding or "ascii"):
        text = json.dumps(value, ensure_ascii=True, indent=indent, separators=None if indent else (",", ":"))
        text = text.replace("\x7f", "\\u007f")
    print(text, file=stream)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their headings. The last column gets the room that is left."""
    *widths, _ = (max(map(_columns, column)) for column in zip(headings, *rows, strict=True))
    room = _LAST_COLUMN_CHARS
    if sys.stdout.isatty():
        room = max(_MIN_LAST_COLUMN_CHARS, shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths))
    for row in (headings, *rows):
        cells = [printable(cell) + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=False)]
        print("  ".join((*cells, clip(row[-1], room))).rstrip())


def local_time(moment: datetime | None) -> str:
    """Return a time for people: of this machine's zone, to the second."""
    return "-" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def utc_time(moment: datetime | None) -> str | None:
    """Return a time for programs: ISO form, UTC, to the millisecond."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _columns(text: str) -> int:
    if text.isascii():
        return len(printable(text))
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in printable(text)
    )


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True

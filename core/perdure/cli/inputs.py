"""Values that people type: JSON, tags, durations, times."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from perdure.cli.problems import UsageProblem
from perdure.codec import loads
from perdure.errors import PayloadError, PayloadTooLarge
from perdure.limits import MAX_PAYLOAD_BYTES

__all__ = ["read_duration", "read_json", "read_tags", "read_time"]

_EXCERPT_CHARS = 40
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[smhdw]?)")


def read_json(option: str, text: str | None) -> Any:
    """Return the value of the JSON given for `option`; None where it was not given.

    `@FILE` stands for the content of a file and `-` for stdin: one argument holds 128 KiB at most on Linux.

    Raises:
        UsageProblem: it isn't JSON, or not JSON that perdure stores.
    """
    if text is None:
        return None
    data = _content(option, text)
    try:
        value = loads(data)
    except PayloadError as error:
        raise UsageProblem(f"{option}: {_explain(data, error)}") from None
    if len(data) > MAX_PAYLOAD_BYTES:
        raise UsageProblem(f"{option}: {PayloadTooLarge(len(data), MAX_PAYLOAD_BYTES)}")
    return value


def read_tags(pairs: Sequence[str] | None) -> dict[str, str] | None:
    """Return the tags of `--tag key=value`, None where there are none."""
    tags: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageProblem(f"--tag takes key=value, not {pair!r}")
        if key in tags:
            raise UsageProblem(f"--tag {key} is given twice")
        tags[key] = value
    return tags or None


def read_duration(option: str, text: str) -> timedelta:
    """Return a duration such as `90`, `90s`, `15m`, `2h`, `30d`, `4w`; a number alone is seconds."""
    found = _DURATION.fullmatch(text.strip())
    try:
        if found is not None:
            return timedelta(seconds=float(found["number"]) * _SECONDS[found["unit"]])
    except OverflowError:
        pass
    raise UsageProblem(f"{option} takes a duration such as 90s, 15m, 2h or 30d, not {text!r}")


def read_time(option: str, text: str) -> datetime:
    """Return a point in time in ISO form; without an offset it is local time."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise UsageProblem(
            f"{option} takes a time in ISO form, such as 2030-12-31T18:00 (local) or 2030-12-31T17:00Z, not {text!r}"
        ) from None


def _content(option: str, text: str) -> bytes:
    try:
        if text == "-":
            return sys.stdin.buffer.read(MAX_PAYLOAD_BYTES + 1)
        if text.startswith("@"):
            with Path(text[1:]).open("rb") as file:
                return file.read(MAX_PAYLOAD_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageProblem(f"{option}: can't read {text[1:] or 'stdin'}: {reason}") from None
    # What is no UTF-8 on the command line comes in as lone surrogates; here it goes out as the bytes it was.
    return text.encode(errors="surrogateescape")


def _explain(data: bytes, error: PayloadError) -> str:
    if len(data) > MAX_PAYLOAD_BYTES:
        # Only its head was read, so that what the codec says of it would mislead.
        return f"it is over {MAX_PAYLOAD_BYTES:,} bytes; keep large data in a file and pass its path"
    text = data.decode(errors="replace")
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as wrong:
        return _locate(text, wrong)
    except PayloadError as better:
        return str(better)
    except (ValueError, RecursionError):
        pass
    return str(error)


def _refuse_constant(name: str) -> None:
    raise PayloadError(f"{name} is no JSON; use null or a string")


def _locate(text: str, wrong: json.JSONDecodeError) -> str:
    start = max(0, wrong.pos - _EXCERPT_CHARS // 2)
    shown = repr(text[start : start + _EXCERPT_CHARS])
    if start:
        shown = "…" + shown
    if start + _EXCERPT_CHARS < len(text):
        shown += "…"
    return (
        f"not JSON at character {wrong.pos} ({wrong.msg.lower()}): {shown}; JSON wants double quotes around names and "
        """text, and the shell single quotes around it all: '{"path": "."}' or '"text"'"""
    )

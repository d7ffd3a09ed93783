r"""The one canonical JSON text of everything that perdure stores.

Compact, non-ASCII raw, string keys in their order, as orjson writes it; a lone surrogate, which UTF-8 can't hold, as
its 6-character escape (`\ud800`). What orjson would change without a word (NaN, integers of over 64 bits, fields of a
dataclass) or only some readers take (deep nesting) is refused by name, on the way in and on the way out.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NoReturn, TypeAlias

import orjson

from perdure.errors import PayloadError, PayloadTooLarge
from perdure.limits import MAX_INT, MAX_NESTING, MAX_PAYLOAD_BYTES, MIN_INT

__all__ = ["JSON", "dump_payload", "dumps", "format_path", "loads"]

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"
"""What `loads` returns."""

# orjson writes a dataclass's `__dict__`: with it what a cached_property left there, without its `_private` fields.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS

_SURROGATE = re.compile("([\ud800-\udfff])")
# The closing quote is optional so that text with an unclosed string takes one pass and not one per quote.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_STRINGS = re.compile(_STRING.encode(), re.DOTALL)
_STRING_OR_BRACKET = re.compile(f"{_STRING}|(?P<open>[\\[{{])|(?P<close>[\\]}}])".encode(), re.DOTALL)
_LONG_DIGITS = re.compile(rb"[0-9]{19}")
_STRING_OR_LONG_INT = re.compile(f"{_STRING}|(?<![0-9.eE+\\-])(?P<int>-?[0-9]{{19,}}+)(?![.eE])".encode(), re.DOTALL)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_MAX_INT_DIGITS = 20
_MAX_PATH_CHARS = 200

_REMEDY_VALUE = "convert it to JSON types first, or give the worker and the client a data_converter"


def dumps(value: Any) -> bytes:
    """Return the canonical JSON text of `value`.

    Dataclasses become objects of all their fields, tuples arrays, enums their values; dates, times and UUIDs are
    written in ISO form.

    Raises:
        PayloadError: `value` holds something that is not JSON, or is nested too deeply. It names the path to it.
    """
    try:
        text = orjson.dumps(value, _plain, _OPTIONS)
    except TypeError:
        return _encode(value)
    if (b"null" in text and not _is_finite(value)) or _is_nested_too_deeply(text):
        return _encode(value)
    return text


def dump_payload(value: Any) -> bytes:
    """Return the canonical JSON text of a user's payload.

    Raises:
        PayloadTooLarge: it is over `MAX_PAYLOAD_BYTES`.
        PayloadError: as `dumps`.
    """
    text = dumps(value)
    if len(text) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(len(text), MAX_PAYLOAD_BYTES)
    return text


def loads(text: bytes | str) -> Any:
    """Return the value of a JSON text. Of equal keys in an object the last wins.

    Raises:
        PayloadError: `text` is not JSON, or holds what `dumps` would refuse: NaN, Infinity, a number over their
            range, nesting over `MAX_NESTING`.
    """
    if isinstance(text, str):
        try:
            text = text.encode()
        except UnicodeEncodeError as error:
            raise PayloadError(
                f"not valid JSON: a lone surrogate at character {error.start}; write it as an escape (\\udXXX)"
            ) from None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _decode(text, error)
    if _is_nested_too_deeply(text):
        _refuse_nesting(text)
    if _LONG_DIGITS.search(text):
        _check_ints(text)
    return value


def format_path(path: Sequence[str | int]) -> str:
    """Return the place in a value to which the keys and indexes of `path` lead, for a message: `$.a[3].b`."""
    text = "$"
    for step in path:
        if len(text) > _MAX_PATH_CHARS:
            return text + "…"
        if isinstance(step, int):
            text += f"[{step}]"
        elif isinstance(step, str) and step.isidentifier():
            text += f".{_clip(step)}"
        else:
            text += f"[{_clip(repr(step))}]"
    return text


def _plain(value: Any) -> Any:
    # Called by orjson for what it doesn't know.
    if isinstance(value, tuple):
        return tuple(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, float):
        return float(value)
    raise TypeError(value)


def _is_finite(value: Any) -> bool:
    # Whether the nulls that orjson wrote are Nones. `value` is known to be encodable, hence free of cycles.
    pending = [value]
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is dict:
            pending.extend(item.values())
        elif kind is list or kind is tuple:
            pending.extend(item)
        elif kind is str or kind is int or item is None or kind is bool:
            continue
        elif isinstance(item, Enum):
            pending.append(item.value)
        elif isinstance(item, float):
            if not math.isfinite(item):
                return False
        elif isinstance(item, dict):
            pending.extend(dict.values(item))
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
        elif dataclasses.is_dataclass(item):
            pending.extend(getattr(item, field.name) for field in dataclasses.fields(item))
    return True


def _is_nested_too_deeply(text: bytes) -> bool:
    # `text` is valid JSON, so that its brackets are balanced and taking out the innermost pairs lowers it by a level.
    if text.count(b"[") + text.count(b"{") <= MAX_NESTING:
        return False
    brackets = _STRINGS.sub(b"", text).translate(None, _NOT_BRACKETS).translate(_TO_SQUARE)
    for _ in range(MAX_NESTING):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


# Encoding in full: for lone surrogates, for keys of a subclass of str, and to find what is wrong and where.


def _encode(value: Any) -> bytes:
    # Without recursion, since the value may be of any depth and the caller's stack nearly full.
    pieces: list[bytes] = []
    path: list[str | int] = []
    # The members still to come of each open container, and the keys written of an object (None: it is an array).
    frames: list[tuple[Iterator[tuple[str | int, Any]], set[bytes] | None]] = []
    item = value
    while True:
        item = _unwrap(item)
        members = _members(item, path)
        if members is None:
            pieces.append(_leaf(item, path))
        elif len(frames) == MAX_NESTING:
            raise PayloadError(
                f"{format_path(path)} is nested over {MAX_NESTING} levels deep, or holds itself; "
                "flatten the value, or pass its parts separately"
            )
        else:
            is_object = not isinstance(item, (list, tuple))
            pieces.append(b"{" if is_object else b"[")
            frames.append((iter(members), set() if is_object else None))
            path.append("")
        while frames:
            members_left, keys = frames[-1]
            following = next(members_left, None)
            if following is not None:
                break
            pieces.append(b"]" if keys is None else b"}")
            frames.pop()
            path.pop()
        else:
            return b"".join(pieces)
        if pieces[-1] not in (b"{", b"["):
            pieces.append(b",")
        path[-1], item = following
        if keys is not None:
            key = _key(following[0], path)
            if key in keys:
                raise PayloadError(f"{format_path(path)} stands twice: two of the keys are the same text; rename one")
            keys.add(key)
            pieces.append(key)


def _unwrap(item: Any) -> Any:
    for _ in range(MAX_NESTING):
        if not isinstance(item, Enum):
            break
        item = item.value
    return item


def _members(item: Any, path: Sequence[str | int]) -> Iterable[tuple[str | int, Any]] | None:
    # The members of a container, None for anything else.
    if type(item) in _SCALARS:
        return None
    if isinstance(item, dict):
        return dict.items(item)
    if isinstance(item, (list, tuple)):
        return enumerate(item)
    if not dataclasses.is_dataclass(item) or isinstance(item, type):
        return None
    try:
        return [(field.name, getattr(item, field.name)) for field in dataclasses.fields(item)]
    except Exception as error:
        raise PayloadError(f"the fields of {format_path(path)} ({_name(item)}) can't be read: {error}") from error


def _key(key: Any, path: Sequence[str | int]) -> bytes:
    if not isinstance(key, str):
        where = format_path(path[:-1])
        raise PayloadError(f"{where} has a key of type {_name(key)}; JSON keys are strings: use str(key)")
    return _string(str.__str__(key)) + b":"


def _leaf(item: Any, path: Sequence[str | int]) -> bytes:
    if isinstance(item, str):
        return _string(str.__str__(item))
    if isinstance(item, float) and not math.isfinite(item):
        raise PayloadError(f"{format_path(path)} is {float(item)}, which JSON can't hold; use None or a string")
    if isinstance(item, int) and not MIN_INT <= item <= MAX_INT:
        raise PayloadError(f"{format_path(path)} is an integer outside -2**63..2**64-1; pass it as a string")
    try:
        return orjson.dumps(item, _plain, _OPTIONS)
    except TypeError as error:
        reason = "" if str(error).startswith("Type is not JSON") else f" ({error})"
        raise PayloadError(
            f"{format_path(path)} is of type {_name(item)}, which is not JSON{reason}; {_REMEDY_VALUE}"
        ) from None


def _string(text: str) -> bytes:
    try:
        return orjson.dumps(text)
    except TypeError:
        # Two surrogates that make a pair are read back as the character that they stand for, so they are written as it.
        paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        parts = _SURROGATE.split(paired)
        for i, part in enumerate(parts):
            parts[i] = f"\\u{ord(part):04x}" if i % 2 else orjson.dumps(part)[1:-1].decode()
        return f'"{"".join(parts)}"'.encode()


def _name(item: Any) -> str:
    kind = type(item)
    return _clip(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))


def _clip(text: str, limit: int = 64) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


# Decoding in full: for escapes of lone surrogates, and to say what is wrong.


def _decode(text: bytes, error: orjson.JSONDecodeError) -> Any:
    try:
        decoded = text.decode()
    except UnicodeDecodeError as wrong:
        raise PayloadError(f"not valid JSON: byte {wrong.start} is not UTF-8; store JSON as UTF-8 text") from None
    _refuse_nesting(text)
    if not _SURROGATE_ESCAPE.search(text):
        _refuse_json(error)
    try:
        return json.loads(decoded, parse_constant=_refuse_constant, parse_float=_parse_float, parse_int=_parse_int)
    except json.JSONDecodeError as wrong:
        _refuse_json(wrong)


def _refuse_json(error: json.JSONDecodeError) -> NoReturn:
    raise PayloadError(
        f"not valid JSON: {error.msg} at character {error.pos}; text (and not a value) must be JSON, "
        "without NaN, Infinity and numbers beyond a float's range"
    ) from None


def _refuse_nesting(text: bytes) -> None:
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        if found.lastgroup == "open":
            depth += 1
            if depth > MAX_NESTING:
                raise PayloadError(
                    f"the JSON text is nested over {MAX_NESTING} levels deep at byte {found.start()}; flatten the value"
                )
        elif found.lastgroup == "close":
            depth -= 1


def _check_ints(text: bytes) -> None:
    for found in _STRING_OR_LONG_INT.finditer(text):
        if found.lastgroup == "int":
            digits = found["int"]
            if len(digits.lstrip(b"-")) > _MAX_INT_DIGITS or not MIN_INT <= int(digits) <= MAX_INT:
                _refuse_int(f" at byte {found.start()}")


def _refuse_int(where: str = "") -> NoReturn:
    raise PayloadError(f"the JSON text holds an integer outside -2**63..2**64-1{where}; write it as a string")


def _refuse_constant(name: str) -> NoReturn:
    raise PayloadError(f"not valid JSON: {name} is no number; write null or a string")


def _parse_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise PayloadError(
            f"the JSON text holds the number {_clip(digits)}, beyond a float's range; write it as a string"
        )
    return number


def _parse_int(digits: str) -> int:
    if len(digits.lstrip("-")) > _MAX_INT_DIGITS or not MIN_INT <= int(digits) <= MAX_INT:
        _refuse_int()
    return int(digits)

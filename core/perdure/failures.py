"""How a failure is recorded: as text, never as the exception object."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from perdure.codec import JSON, dumps
from perdure.errors import OrchestrationFailedError, PayloadError, TaskFailedError
from perdure.limits import (
    MAX_FAILURE_BASES_CHARS,
    MAX_FAILURE_DEPTH,
    MAX_FAILURE_MESSAGE_CHARS,
    MAX_FAILURE_PROPERTIES_BRACKETS,
    MAX_FAILURE_PROPERTIES_BYTES,
    MAX_FAILURE_STACK_CHARS,
    MAX_FAILURE_TYPE_CHARS,
)

__all__ = ["FailureDetails"]

# More than MAX_FAILURE_STACK_CHARS can show; formatting a thousand frames of a RecursionError takes its time.
_MAX_FRAMES = 100
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_CUT = " … "
_OUR_FILES = str(Path(__file__).parent)


@dataclass(slots=True, kw_only=True, frozen=True)
class FailureDetails:
    """What is kept of an exception."""

    error_type: str
    """`module.qualname` of its class; builtins without the module."""
    base_types: tuple[str, ...] = ()
    """The same of the classes it derives from, nearest first, up to `Exception`."""
    message: str
    stack_trace: str | None = None
    inner_failure: FailureDetails | None = None
    """Of its cause, or what was being handled when it was raised."""
    non_retriable: bool = False
    """No retry policy applies to it."""
    properties: Mapping[str, JSON] | None = None
    """Anything else to be known about it, as a small JSON object."""

    @classmethod
    def from_exception(cls, error: BaseException, *, non_retriable: bool = False) -> FailureDetails:
        """Describe `error` and what caused it, within the limits.

        Never raises, whatever the exception's own methods do.
        """
        return _describe(error, non_retriable=non_retriable, depth=0)

    @classmethod
    def from_json(cls, data: object) -> FailureDetails:
        """Read what `to_json` made, by this version or another: unknown keys are ignored.

        Raises:
            PayloadError: it is no object with an `error_type` and a `message`.
        """
        return _read(data, depth=0)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, cut down to the limits."""
        return _write(self, depth=0)

    def is_caused_by(self, kind: type[BaseException]) -> bool:
        """Return whether the exception was a `kind` or of a subclass of it.

        By the names that were recorded when it was raised: what is imported here and now has no say, so that a replay
        answers as the first run did, and nothing that stored data names is ever looked up.
        """
        name = _type_name(kind)
        return name in {"BaseException", self.error_type} or name in self.base_types


def _describe(error: BaseException, *, non_retriable: bool, depth: int) -> FailureDetails:
    return FailureDetails(
        error_type=_head(_type_name(type(error)), MAX_FAILURE_TYPE_CHARS),
        base_types=_base_types(type(error)),
        message=_head(_message(error), MAX_FAILURE_MESSAGE_CHARS),
        stack_trace=_stack_trace(error),
        inner_failure=_describe_inner(error, depth + 1) if depth < MAX_FAILURE_DEPTH else None,
        non_retriable=non_retriable,
    )


def _describe_inner(error: BaseException, depth: int) -> FailureDetails | None:
    # What failed elsewhere is the better reason than what happened to be handled here.
    if isinstance(error, (TaskFailedError, OrchestrationFailedError)) and isinstance(error.details, FailureDetails):
        return _read(_write(error.details, depth=depth), depth=depth)
    inner = error.__cause__
    if inner is None and not error.__suppress_context__:
        inner = error.__context__
    return None if inner is None else _describe(inner, non_retriable=False, depth=depth)


def _message(error: BaseException) -> str:
    try:
        return str.__str__(str(error))
    # Whatever a user's __str__ raises, SystemExit among it, must not take the worker down.
    except BaseException as broken:
        return f"<str() of the exception raised {type(broken).__name__}>"


def _stack_trace(error: BaseException) -> str | None:
    try:
        own = _skip_our_frames(error.__traceback__)
        lines = traceback.format_exception(type(error), error, own, limit=-_MAX_FRAMES, chain=False)
        return _tail("".join(lines), MAX_FAILURE_STACK_CHARS)
    except BaseException:
        return None


def _skip_our_frames(trace: TracebackType | None) -> TracebackType | None:
    # What leads from the engine to the user's function says nothing to its reader. All ours: a fault of ours, kept.
    first = trace
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OUR_FILES):
        first = first.tb_next
    return first or trace


def _type_name(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _base_types(kind: type[BaseException]) -> tuple[str, ...]:
    return _bounded(_type_name(base) for base in kind.__mro__[1:] if issubclass(base, Exception))


def _bounded(names: Iterable[str]) -> tuple[str, ...]:
    kept: list[str] = []
    room = MAX_FAILURE_BASES_CHARS
    for name in map(_visible, names):
        room -= len(name)
        if room < 0:
            break
        kept.append(name)
    return tuple(kept)


def _write(failure: FailureDetails, *, depth: int) -> dict[str, Any]:
    data: dict[str, Any] = {
        "error_type": _head(failure.error_type, MAX_FAILURE_TYPE_CHARS),
        "message": _head(failure.message, MAX_FAILURE_MESSAGE_CHARS),
    }
    if failure.base_types:
        data["base_types"] = _bounded(failure.base_types)
    if failure.stack_trace is not None:
        data["stack_trace"] = _tail(failure.stack_trace, MAX_FAILURE_STACK_CHARS)
    if failure.inner_failure is not None and depth < MAX_FAILURE_DEPTH:
        data["inner"] = _write(failure.inner_failure, depth=depth + 1)
    if failure.non_retriable:
        data["non_retriable"] = True
    if failure.properties is not None and _are_storable(failure.properties):
        data["properties"] = dict(failure.properties)
    return data


def _read(data: object, *, depth: int) -> FailureDetails:
    if not isinstance(data, Mapping):
        raise PayloadError(f"a failure is a JSON object, not {type(data).__name__}")
    for key in ("error_type", "message"):
        if not isinstance(data.get(key), str):
            raise PayloadError(f"a failure has the text {key!r}; this one has not, and was not written by perdure")
    base_types = data.get("base_types")
    stack_trace = data.get("stack_trace")
    inner = data.get("inner")
    properties = data.get("properties")
    return FailureDetails(
        error_type=_head(data["error_type"], MAX_FAILURE_TYPE_CHARS),
        base_types=_bounded(name for name in base_types if isinstance(name, str))
        if isinstance(base_types, (list, tuple))
        else (),
        message=_head(data["message"], MAX_FAILURE_MESSAGE_CHARS),
        stack_trace=_tail(stack_trace, MAX_FAILURE_STACK_CHARS) if isinstance(stack_trace, str) else None,
        inner_failure=_read(inner, depth=depth + 1) if inner is not None and depth < MAX_FAILURE_DEPTH else None,
        non_retriable=data.get("non_retriable") is True,
        properties=properties if isinstance(properties, Mapping) else None,
    )


def _are_storable(properties: Mapping[str, JSON]) -> bool:
    try:
        text = dumps(dict(properties))
    except PayloadError:
        return False
    return (
        len(text) <= MAX_FAILURE_PROPERTIES_BYTES
        and text.count(b"[") + text.count(b"{") <= MAX_FAILURE_PROPERTIES_BRACKETS
    )


def _head(text: str, limit: int) -> str:
    # Cut before as well as after: what is to be thrown away need not be searched, and writing out makes it longer.
    shown = _visible(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - len(_CUT)] + _CUT


def _tail(text: str, limit: int) -> str:
    shown = _visible(text[-limit - 1 :])
    return shown if len(shown) <= limit else _CUT + shown[len(_CUT) - limit :]


def _visible(text: str) -> str:
    # Control characters would drive the terminal that shows them, and take six bytes each; surrogates are no UTF-8.
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)

"""Single values: ids, payloads, times, and lists of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from perdure.spi.capabilities import Limits
from perdure.spi.clock import Millis
from perdure.spi.errors import BadId, InvalidRequest, TooLarge
from perdure.spi.records import OrchestrationStatus

__all__ = [
    "MAX_HUB_NAME",
    "MAX_INT",
    "check_batch",
    "check_due",
    "check_duration",
    "check_each",
    "check_hub_name",
    "check_id",
    "check_ids",
    "check_int",
    "check_names",
    "check_payload",
    "check_tags",
    "check_text",
]

MAX_HUB_NAME: Final = 64
"""Characters of a hub's name: what fits into a schema or collection name of every database we know."""

MAX_INT: Final = 2**63 - 1
"""What a signed 64-bit column holds: a larger number must become our error, not a driver's."""

T = TypeVar("T")


def check_text(value: str, limits: Limits, what: str = "text") -> None:
    """Check a text that may be empty (a version, a tag's value).

    Raises:
        BadId: it is no `str`, is over `max_id_bytes`, or holds NUL or a lone surrogate.
    """
    if type(value) is not str:
        raise BadId(f"{what} must be a str, not {type(value).__name__}")
    if "\0" in value:
        raise BadId(f"{what} {value[:80]!r} holds NUL")
    if value.isascii():
        size = len(value)
    else:
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise BadId(f"{what} {value[:80]!r} holds a lone surrogate") from None
    if size > limits.max_id_bytes:
        raise BadId(f"{what} {value[:80]!r}... has {size} bytes; at most {limits.max_id_bytes} are allowed")


def check_id(value: str, limits: Limits, what: str = "id") -> None:
    """Check an id or a name.

    Raises:
        BadId: as `check_text`, or it is empty.
    """
    check_text(value, limits, what)
    if not value:
        raise BadId(f"{what} is empty")


def check_hub_name(name: str) -> None:
    """Check a task hub's name.

    Raises:
        BadId: it has not 1 to 64 characters, or holds NUL or a lone surrogate.
    """
    check_id(name, Limits(), "hub name")
    if len(name) > MAX_HUB_NAME:
        raise BadId(f"hub name has {len(name)} characters; at most {MAX_HUB_NAME} are allowed")


def check_payload(value: bytes, limits: Limits, what: str = "payload") -> int:
    """Check a payload and return its size.

    Raises:
        InvalidRequest: its type is not exactly `bytes`.
        TooLarge: it is over `max_payload`.
    """
    if type(value) is not bytes:
        raise InvalidRequest(f"{what} must be bytes, not {type(value).__name__}")
    size = len(value)
    if size > limits.max_payload:
        raise TooLarge(f"{what} has {size} bytes; at most {limits.max_payload} are allowed")
    return size


def check_due(due: Millis, limits: Limits, now: Millis, what: str = "due") -> None:
    """Check a due time; 0 stands for now.

    Raises:
        InvalidRequest: it is no `int`, is negative, or lies more than `max_due_ahead_ms` ahead.
    """
    check_int(due, what)
    if due > now + limits.max_due_ahead_ms:
        raise InvalidRequest(f"{what} {due} is more than {limits.max_due_ahead_ms} ms ahead of {now}")


def check_duration(duration_ms: int, limits: Limits, what: str, *, least: int = 0) -> None:
    """Check a length of time in ms, counted from now.

    Raises:
        InvalidRequest: it is no `int`, is under `least`, or over `max_due_ahead_ms`.
    """
    check_int(duration_ms, what, least=least, most=limits.max_due_ahead_ms)


def check_batch(items: Sequence[object], limits: Limits, what: str = "batch") -> None:
    """Check the length of a call's list.

    Raises:
        InvalidRequest: it has more than `max_batch` items.
    """
    if len(items) > limits.max_batch:
        raise InvalidRequest(f"{what} has {len(items)} items; at most {limits.max_batch} are allowed")


def check_ids(ids: Sequence[str], limits: Limits, what: str = "ids") -> None:
    """Check any number of ids, as `get_instances` takes them.

    Raises:
        BadId: one is malformed.
    """
    check_each(ids, what, lambda item: check_id(item, limits))


def check_each(items: Iterable[T], what: str, check: Callable[[T], object]) -> None:
    """Run `check` on each item, and let its error name the item.

    Raises:
        InvalidRequest: what `check` raised, of the same type, with the item's index.
    """
    for index, item in enumerate(items):
        try:
            check(item)
        except InvalidRequest as error:
            raise type(error)(f"{what}[{index}]: {error}", index=index) from None


def check_int(value: int, what: str, *, least: int = 0, most: int = MAX_INT) -> None:
    """Check a number.

    Raises:
        InvalidRequest: it is no `int`, or out of bounds.
    """
    if type(value) is not int:
        raise InvalidRequest(f"{what} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise InvalidRequest(f"{what} is {value}; it must be from {least} to {most}")


def check_names(names: Collection[str] | None, limits: Limits, what: str) -> None:
    """Check a filter by names; None is none.

    Raises:
        BadId: a name is malformed.
        InvalidRequest: it is one text.
    """
    # One text is a collection of texts too, of its characters: never what the caller means.
    if isinstance(names, str):
        raise InvalidRequest(f"{what} must be a collection of names, not one text")
    for name in names or ():
        check_id(str(name) if isinstance(name, OrchestrationStatus) else name, limits, what)


def check_tags(tags: Mapping[str, str], limits: Limits) -> None:
    """Check the tags of an instance, or of a query.

    Raises:
        BadId: a key or a value is malformed.
        InvalidRequest: there are more than `max_tags`.
    """
    if len(tags) > limits.max_tags:
        raise InvalidRequest(f"there are {len(tags)} tags; at most {limits.max_tags} are allowed")
    for key, value in tags.items():
        check_id(key, limits, "tag")
        check_text(value, limits, "value of a tag")

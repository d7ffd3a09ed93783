"""Instance ids, names and tags: the rules, and errors that say which one was broken."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from perdure.errors import InvalidArgument, InvalidInstanceId, InvalidName
from perdure.limits import MAX_ID_CHARS, MAX_NAME_CHARS, MAX_TAG_KEY_CHARS, MAX_TAG_VALUE_CHARS, MAX_TAGS

__all__ = ["check_instance_id", "check_name", "check_tags", "new_instance_id"]

# C0, DEL and C1: they break logs and terminals, and NUL can't be stored everywhere.
_CONTROL = "\x00-\x1f\x7f-\x9f"
_SURROGATES = "\ud800-\udfff"
_INSTANCE_ID = re.compile(rf"(?!@)[^/\\#?{_CONTROL}{_SURROGATES}]{{1,{MAX_ID_CHARS}}}")
_TEXT_FAULT = re.compile(f"(?P<control>[{_CONTROL}])|(?P<surrogate>[{_SURROGATES}])")
_URL_FAULT = re.compile(r"[/\\#?]")
_MAX_SHOWN_CHARS = 64


def check_instance_id(instance_id: Any) -> str:
    r"""Return `instance_id` if it may be one: 1 to 256 characters, not starting with `@`, none of `/ \ # ?`.

    Nor may it hold control characters or lone surrogates.

    Raises:
        InvalidInstanceId: it breaks a rule, which the message names.
    """
    # A subclass of str may lie about itself, and a dict would be a query to some databases.
    if type(instance_id) is str and _INSTANCE_ID.fullmatch(instance_id):
        return instance_id
    fault = _fault(instance_id, MAX_ID_CHARS)
    if fault is None and instance_id.startswith("@"):
        fault = "starts with '@', which is kept for perdure's own ids"
    if fault is None:
        fault = f"holds {_URL_FAULT.search(instance_id)[0]!r}, which would end it in a URL"  # type: ignore[index]
    raise InvalidInstanceId(
        f"the instance id {_shown(instance_id)} {fault}; use 1 to {MAX_ID_CHARS} characters without "
        "/ \\ # ? and control characters"
    )


def check_name(name: Any, what: str = "name") -> str:
    """Return `name` if an orchestrator, activity or event may be called so: 1 to 256 characters.

    It may hold neither control characters nor lone surrogates.

    Args:
        name: the name.
        what: what it names, for the message: "orchestrator", "activity", "event".

    Raises:
        InvalidName: it breaks a rule, which the message names.
    """
    fault = _fault(name, MAX_NAME_CHARS)
    if fault is not None:
        raise InvalidName(
            f"the {what} name {_shown(name)} {fault}; use 1 to {MAX_NAME_CHARS} characters without control characters"
        )
    return str(name)


def check_tags(tags: Any) -> dict[str, str]:
    """Return a copy of `tags` if an instance may have them: at most 32, keys and values of 1 to 256 characters.

    Neither may hold control characters or lone surrogates; a value may be empty.

    Raises:
        InvalidArgument: they break a rule, which the message names.
    """
    if not isinstance(tags, Mapping):
        raise InvalidArgument(f"tags are a mapping of strings to strings, not {type(tags).__name__}; pass a dict")
    if len(tags) > MAX_TAGS:
        raise InvalidArgument(
            f"{len(tags)} tags are too many: an instance has at most {MAX_TAGS}; put the data into its input"
        )
    for key, value in tags.items():
        fault = _fault(key, MAX_TAG_KEY_CHARS)
        if fault is not None:
            raise InvalidArgument(f"the tag key {_shown(key)} {fault}; use 1 to {MAX_TAG_KEY_CHARS} plain characters")
        fault = None if type(value) is str and not value else _fault(value, MAX_TAG_VALUE_CHARS)
        if fault is not None:
            raise InvalidArgument(
                f"the value {_shown(value)} of the tag {_shown(key)} {fault}; "
                f"use at most {MAX_TAG_VALUE_CHARS} plain characters"
            )
    return dict(tags)


def new_instance_id() -> str:
    """Return a fresh random id."""
    return uuid.uuid4().hex


def _fault(text: Any, limit: int) -> str | None:
    if type(text) is not str:
        return f"is of type {type(text).__name__}, not str"
    if not text:
        return "is empty"
    if len(text) > limit:
        return f"has {len(text):,} characters, over the limit of {limit}"
    found = _TEXT_FAULT.search(text)
    if found is None:
        return None
    kind = "a control character" if found["control"] else "a lone surrogate"
    return f"holds {kind}, {found[0]!r}, at position {found.start()}"


def _shown(value: Any) -> str:
    # `repr` of a stranger's object may do anything.
    if type(value) is not str:
        return f"<{type(value).__name__}>"
    return repr(value if len(value) <= _MAX_SHOWN_CHARS else value[: _MAX_SHOWN_CHARS - 1] + "…")

"""From JSON back to the types that a person's annotations ask for, and the converter that can be replaced.

Only the caller's own annotation decides what is built: nothing in stored data names a type.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time
from enum import Enum
from typing import Any, Final, NoReturn, Protocol, TypeAlias
from uuid import UUID

from perdure.codec import dumps, format_path, loads
from perdure.errors import PayloadError

__all__ = ["DataConverter", "JsonDataConverter", "parameter_type", "rebuild", "return_type"]

_Path: TypeAlias = tuple[str | int, ...]
_Handler: TypeAlias = Callable[[Any, Any, _Path], Any]
"""Takes the value, the hint without wrappers, and the path to the value."""


class DataConverter(Protocol):
    """How values become stored text and values again. A worker and its clients need the same one.

    `JsonDataConverter` is the default. Another one may encrypt, or know more types. What it writes is stored as it
    is, must be UTF-8, and is held to the same limit of 4 MiB.
    """

    def dumps(self, value: Any) -> str | bytes:
        """Return `value` as text; equal values must give equal texts.

        Raises:
            PayloadError: it can't be written.
        """

    def loads(self, text: bytes, type_hint: Any = Any) -> Any:
        """Return the value of a text that `dumps` wrote, as a `type_hint`; `Any` asks for the plain value.

        Raises:
            PayloadError: it can't be read, or is no `type_hint`.
        """


class JsonDataConverter:
    """The canonical JSON of `perdure.codec`, rebuilt by the type that is asked for."""

    def dumps(self, value: Any) -> bytes:
        """Return the canonical JSON text of `value`."""
        return dumps(value)

    def loads(self, text: bytes | str, type_hint: Any = Any) -> Any:
        """Return the value of a JSON text as a `type_hint`."""
        return rebuild(loads(text), type_hint)


def rebuild(value: Any, type_hint: Any) -> Any:
    """Return the JSON value `value` as a `type_hint`.

    Understood are dataclasses, NamedTuple, TypedDict, Enum, datetime, date, time, UUID, unions, Literal, Annotated,
    NewType, and the generic lists, tuples, sets and mappings of them. In a union a type that JSON itself has
    (`str`, `int`, `float`, `bool`, `None`) wins, else the first member that fits. Keys that a dataclass doesn't know
    are ignored, so that what a newer version wrote can be read. `Any` and every type not listed here leave the
    value as it is.

    Raises:
        PayloadError: it doesn't fit. The message names the path, what was expected and what was found.
    """
    try:
        return _rebuild(value, type_hint, ())
    except RecursionError:
        raise PayloadError(
            "the value is nested too deeply to be rebuilt here; flatten it, or annotate it Any"
        ) from None


def parameter_type(function: Callable[..., Any], index: int) -> Any:
    """Return the annotation of the positional parameter number `index` (from 0), `Any` where there is none.

    Never raises: an annotation that can't be resolved is `Any`.
    """
    signature = _signature(function)
    positional = [
        parameter
        for parameter in (signature.parameters.values() if signature else ())
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return _resolve_of(function, positional[index].annotation) if 0 <= index < len(positional) else Any


def return_type(function: Callable[..., Any]) -> Any:
    """Return the annotation of what `function` gives in the end, `Any` where there is none.

    That is the awaited value of a coroutine, and the returned one of a generator. Never raises, as `parameter_type`.
    """
    signature = _signature(function)
    hint = _resolve_of(function, signature.return_annotation) if signature else Any
    position = _RESULT_POSITION.get(typing.get_origin(hint) or hint)
    if position is not None:
        arguments = typing.get_args(hint)
        return arguments[position] if position < len(arguments) else Any
    return Any if inspect.isgeneratorfunction(function) else hint


# Where the result stands among the arguments of a type that only leads to it.
_RESULT_POSITION: Final[Mapping[Any, int]] = {
    collections.abc.Awaitable: 0,
    collections.abc.Coroutine: 2,
    collections.abc.Generator: 2,
}


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _resolve_of(function: Any, annotation: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not hasattr(function, "__globals__"):
        function = type(function).__call__
    return _resolve(annotation, getattr(function, "__globals__", {}), None)


def _resolve(annotation: Any, global_names: dict[str, Any], local_names: Mapping[str, Any] | None) -> Any:
    # One at a time: the context's type is often imported for the type checker alone, and must not hide the others.
    if annotation is inspect.Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, global_names, dict(local_names or {}), include_extras=True)["it"]
    # Evaluating an annotation runs whatever stands in it.
    except Exception:
        return Any


@functools.lru_cache(maxsize=1024)
def _field_types(kind: type) -> Mapping[str, Any]:
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        module = sys.modules.get(base.__module__)
        for name, annotation in inspect.get_annotations(base).items():
            hints[name] = _resolve(annotation, vars(module) if module else {}, vars(base))
    return hints


def _rebuild(value: Any, hint: Any, path: _Path) -> Any:
    if hint is Any:
        return value
    hint = _unwrap(hint)
    kind = typing.get_origin(hint) or hint
    handler = _handler(kind) if isinstance(kind, collections.abc.Hashable) else None
    return value if handler is None else handler(value, hint, path)


@functools.lru_cache(maxsize=1024)
def _handler(kind: Any) -> _Handler | None:
    # None for a type that this module knows nothing about.
    if kind in _HANDLERS:
        return _HANDLERS[kind]
    if isinstance(kind, type):
        for applies, handler in _CLASS_HANDLERS:
            if applies(kind):
                return handler
    return None


def _unwrap(hint: Any) -> Any:
    # Down to the type that a wrapper says something about, or gives a name to.
    while True:
        if typing.get_origin(hint) in _WRAPPERS:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":  # `type X = ...`, which Python 3.11 has not
            hint = hint.__value__
        else:
            return hint


_WRAPPERS: Final = frozenset({typing.Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar})


def _rebuild_none(value: Any, _hint: Any, path: _Path) -> None:
    if value is not None:
        _refuse(value, "null", path)


def _rebuild_float(value: Any, _hint: Any, path: _Path) -> float:
    # Some encoders write 2.0 as 2.
    if type(value) is not float and type(value) is not int:
        _refuse(value, "float", path)
    return float(value)


def _rebuild_exact(value: Any, hint: Any, path: _Path) -> Any:
    return value if type(value) is hint else _refuse(value, hint.__name__, path)


def _rebuild_from_text(value: Any, hint: Any, path: _Path) -> Any:
    parse = UUID if hint is UUID else hint.fromisoformat
    if type(value) is str:
        # Not in one expression: PayloadError is a ValueError as well.
        with contextlib.suppress(ValueError):
            return parse(value)
    return _refuse(value, f"{hint.__name__} in ISO form", path)


_ARRAYS: Final[Mapping[Any, Callable[[list[Any]], Any]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}


def _rebuild_union(value: Any, hint: Any, path: _Path) -> Any:
    members = [_unwrap(member) for member in typing.get_args(hint)]
    if type(value) in members and not isinstance(value, (list, dict)):
        return value
    reasons = []
    for member in members:
        try:
            return _rebuild(value, member, path)
        except PayloadError as error:
            reasons.append(error)
    if len(members) == 2 and type(None) in members:
        # Of an optional thing, what is wrong with the thing says more.
        raise reasons[1 - members.index(type(None))]
    return _refuse(value, " or ".join(_type_name(member) for member in members), path)


def _rebuild_literal(value: Any, hint: Any, path: _Path) -> Any:
    allowed = typing.get_args(hint)
    for choice in allowed:
        plain = choice.value if isinstance(choice, Enum) else choice
        if type(plain) is type(value) and plain == value:
            return choice
    return _refuse(value, f"one of {', '.join(map(repr, allowed))}", path)


def _rebuild_array(value: Any, hint: Any, path: _Path) -> Any:
    kind = typing.get_origin(hint) or hint
    members = typing.get_args(hint)
    make = _ARRAYS[kind]
    if type(value) is not list:
        _refuse(value, kind.__name__, path)
    if kind is tuple and members and members[-1] is not Ellipsis:
        if len(value) != len(members):
            _refuse(value, f"an array of {len(members)}", path)
        hints = members
    else:
        hints = (members[0] if members else Any,) * len(value)
    items = [_rebuild(item, hint, (*path, i)) for i, (item, hint) in enumerate(zip(value, hints, strict=True))]
    try:
        return make(items)
    except TypeError as error:
        raise PayloadError(f"{format_path(path)} can't be a {kind.__name__}: {error}; annotate it as a list") from None


def _rebuild_mapping(value: Any, hint: Any, path: _Path) -> Any:
    if type(value) is not dict:
        _refuse(value, "dict", path)
    key_hint, item_hint = typing.get_args(hint) or (Any, Any)
    return {_rebuild(key, key_hint, (*path, key)): _rebuild(value[key], item_hint, (*path, key)) for key in value}


def _rebuild_enum(value: Any, kind: Any, path: _Path) -> Any:
    members = _members_by_text(kind)
    found = members.get(dumps(value))
    if found is not None:
        return found
    try:
        # Combinations of flags, and what the class's own _missing_ knows. To Python True is 1, in JSON it is not.
        return kind(value) if type(value) is not bool else _refuse(value, kind.__qualname__, path)
    except Exception:
        texts = ", ".join(text.decode() for text in list(members)[:_MAX_LISTED_MEMBERS])
        return _refuse(value, f"{kind.__qualname__} ({texts})", path)


_MAX_LISTED_MEMBERS = 10


@functools.lru_cache(maxsize=1024)
def _members_by_text(kind: type[Enum]) -> Mapping[bytes, Enum]:
    # By what they are written as, for a member's value may be a tuple, a date or a dataclass.
    members: dict[bytes, Enum] = {}
    for member in kind:
        try:
            members.setdefault(dumps(member), member)
        except PayloadError:
            continue
    return members


def _rebuild_typed_dict(value: Any, hint: Any, path: _Path) -> Any:
    kind = typing.get_origin(hint) or hint
    if type(value) is not dict:
        _refuse(value, kind.__qualname__, path)
    hints = _field_types(kind)
    # `__required_keys__` takes an annotation that is a string for a required one.
    optional = {name for name, hint in hints.items() if typing.get_origin(hint) is typing.NotRequired}
    _require(value, kind.__required_keys__ - optional, kind, path)
    return {key: _rebuild(item, hints.get(key, Any), (*path, key)) for key, item in value.items()}


def _rebuild_named_tuple(value: Any, hint: Any, path: _Path) -> Any:
    kind = typing.get_origin(hint) or hint
    names: tuple[str, ...] = kind._fields
    if type(value) is not list or not len(names) - len(kind._field_defaults) <= len(value) <= len(names):
        _refuse(value, f"{kind.__qualname__} (an array of {len(names)})", path)
    hints = _field_types(kind)
    return kind(*(_rebuild(item, hints.get(names[i], Any), (*path, i)) for i, item in enumerate(value)))


def _rebuild_dataclass(value: Any, hint: Any, path: _Path) -> Any:
    kind = typing.get_origin(hint) or hint
    if type(value) is not dict:
        _refuse(value, kind.__qualname__, path)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    missing = dataclasses.MISSING
    _require(value, [f.name for f in fields if f.default is missing and f.default_factory is missing], kind, path)
    hints = _field_types(kind)
    arguments = {
        field.name: _rebuild(value[field.name], hints.get(field.name, Any), (*path, field.name))
        for field in fields
        if field.name in value
    }
    try:
        return kind(**arguments)
    # Its own __post_init__ may refuse the values.
    except Exception as error:
        raise PayloadError(
            f"{format_path(path)} can't be a {kind.__qualname__}: {type(error).__name__}: {error}; "
            "correct the value, or what the class demands"
        ) from error


_HANDLERS: Final[Mapping[Any, _Handler]] = {
    None: _rebuild_none,
    type(None): _rebuild_none,
    float: _rebuild_float,
    **dict.fromkeys((bool, int, str), _rebuild_exact),
    **dict.fromkeys((datetime, date, time, UUID), _rebuild_from_text),
    **dict.fromkeys(_ARRAYS, _rebuild_array),
    **dict.fromkeys((dict, collections.abc.Mapping, collections.abc.MutableMapping), _rebuild_mapping),
    **dict.fromkeys((typing.Union, types.UnionType), _rebuild_union),
    typing.Literal: _rebuild_literal,
}

_CLASS_HANDLERS: Final[tuple[tuple[Callable[[type], bool], _Handler], ...]] = (
    (lambda kind: issubclass(kind, Enum), _rebuild_enum),
    (typing.is_typeddict, _rebuild_typed_dict),
    (lambda kind: issubclass(kind, tuple) and hasattr(kind, "_field_defaults"), _rebuild_named_tuple),
    (dataclasses.is_dataclass, _rebuild_dataclass),
)


def _require(value: dict[str, Any], names: Collection[str], kind: type, path: _Path) -> None:
    missing = sorted(set(names) - value.keys())
    if missing:
        raise PayloadError(
            f"{format_path((*path, missing[0]))} is missing, and {kind.__qualname__} needs it; "
            "pass it, or give the field a default"
        )


def _refuse(value: Any, expected: str, path: _Path) -> NoReturn:
    shown = repr(value)
    shown = shown if len(shown) <= _MAX_SHOWN_CHARS else shown[:_MAX_SHOWN_CHARS] + "…"
    raise PayloadError(
        f"{format_path(path)}: expected {expected}, found {shown} ({type(value).__name__}); "
        "correct the value that was passed, or the annotation that it is read by"
    )


_MAX_SHOWN_CHARS = 64


def _type_name(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)

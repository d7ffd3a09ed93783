"""Changes of the SQLite provider's schema and statements, for mistakes that are made in SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from perdure_sql.effects import Effect
from perdure_sqlite import schema, transaction

__all__ = ["change_effect", "change_schema", "change_statement", "only_within"]


def change_schema(patch: pytest.MonkeyPatch, *changes: str) -> None:
    """Replace texts in the statements that make the tables: pairs of an old and a new one.

    Raises:
        ValueError: an old text is not there.
    """
    first, *rest = schema.STEPS
    statements = list(first.statements)
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        changed = [statement.replace(old, new) for statement in statements]
        if changed == statements:
            raise ValueError(f"no statement holds {old!r}")
        statements = changed
    patch.setattr(schema, "STEPS", [replace(first, statements=tuple(statements)), *rest])


def change_statement(patch: pytest.MonkeyPatch, module: ModuleType, name: str, *changes: str) -> None:
    """Replace texts in a statement that a module holds under a name: pairs of an old and a new one.

    Raises:
        ValueError: an old text is not there.
    """
    patch.setattr(module, name, _changed(getattr(module, name), changes))


def change_effect(patch: pytest.MonkeyPatch, effect: Effect, *changes: str) -> None:
    """Replace texts in the statement that makes a kind of change: pairs of an old and a new one.

    Raises:
        ValueError: an old text is not there.
    """
    patch.setitem(transaction.EFFECTS, effect, _changed(transaction.EFFECTS[effect], changes))


def _changed(statement: str, changes: Sequence[str]) -> str:
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        if old not in statement:
            raise ValueError(f"{old!r} is not in {statement}")
        statement = statement.replace(old, new)
    return statement


def only_within(
    patch: pytest.MonkeyPatch, place: Any, name: str, mistake: Callable[[pytest.MonkeyPatch], None], **called: Any
) -> None:
    """Have a mistake be made only while a function runs: others send the same statements.

    Args:
        patch: what undoes it all.
        place: the module or class that holds the function.
        name: the function's.
        mistake: makes the mistake.
        called: options with which the function must be called.
    """
    function = getattr(place, name)

    def changed(*args: Any, **options: Any) -> Any:
        if not called.items() <= options.items():
            return function(*args, **options)
        with pytest.MonkeyPatch.context() as inner:
            mistake(inner)
            return function(*args, **options)

    patch.setattr(place, name, changed)

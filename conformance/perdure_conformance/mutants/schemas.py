"""Changes of the SQLite provider's schema and statements, for mistakes that are made in SQL."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest

from perdure_sqlite import schema

__all__ = ["change_schema", "change_statement"]


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
    statement: str = getattr(module, name)
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        if old not in statement:
            raise ValueError(f"{name} doesn't hold {old!r}")
        statement = statement.replace(old, new)
    patch.setattr(module, name, statement)

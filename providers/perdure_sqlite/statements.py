"""Statements, compiled once: from SQLAlchemy Core to the text that the driver caches by.

Lists of keys come as one parameter, a JSON array: so a call about one item and a call about a thousand send the
same statement, and no limit on the number of parameters is ever near.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ClauseElement, ColumnElement, Integer, TableValuedAlias, Text, bindparam, func, literal_column
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.schema import Table

from perdure_sql import Tables

__all__ = ["DIALECT", "NONE", "ONE", "TABLES", "each", "insert_into", "number", "plain", "sql", "words"]

DIALECT: Final = sqlite_dialect(paramstyle="qmark")

TABLES: Final = Tables(greatest="max")

ONE: Final[Any] = literal_column("1")
"""The number, written out: as a parameter it would have to be passed."""

NONE: Final[Any] = literal_column("0")
"""For `OFFSET`, which the compiler writes with every `LIMIT`, as a parameter of its own where it is left out."""


def sql(statement: ClauseElement, *parameters: str) -> str:
    """Compile `statement`, whose parameters must come in exactly this order."""
    compiled: Any = statement.compile(dialect=DIALECT)
    found = tuple(compiled.positiontup or ())
    if found != parameters:
        raise TypeError(f"parameters are {found}, not {parameters}, in {compiled}")
    return str(compiled)


def insert_into(table: Table, *columns: str, prefix: str | None = None) -> str:
    """Compile an insert of `columns`, in this order."""
    statement = table.insert()
    if prefix is not None:
        statement = statement.prefix_with(prefix)
    compiled: Any = statement.compile(dialect=DIALECT, column_keys=list(columns))
    if tuple(compiled.positiontup) != columns:
        raise TypeError(f"columns are {compiled.positiontup}")
    return str(compiled)


def number(name: str) -> Any:
    """Return a parameter that holds an integer."""
    return bindparam(name, type_=Integer())


def words(name: str) -> Any:
    """Return a parameter that holds text."""
    return bindparam(name, type_=Text())


def plain(column: ColumnElement[Any]) -> Any:
    """Return a column for whose sake SQLite looks through no index.

    Where keys are listed and the hub is only checked, it would rather go through the whole hub.
    """
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def each(parameter: str, name: str = "each_") -> TableValuedAlias:
    """Return the rows of a parameter that is a JSON array: `key` is the place, `value` the element."""
    return func.json_each(words(parameter)).table_valued("key", "value", name=name)

"""Statements, compiled once: from SQLAlchemy Core to the text that the driver caches by.

Lists of keys come as one parameter, a JSON array: so a call about one item and a call about a thousand send the
same statement, and no limit on the number of parameters is ever near.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Integer,
    Select,
    TableValuedAlias,
    Text,
    bindparam,
    case,
    delete,
    func,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.schema import Table

from perdure_sql import Tables
from perdure_sql.effects import Effect

__all__ = [
    "DIALECT",
    "NONE",
    "ONE",
    "TABLES",
    "compile_effect",
    "each",
    "execute",
    "number",
    "plain",
    "sql",
    "words",
]

DIALECT: Final = sqlite_dialect(paramstyle="qmark")


def _within(column: ColumnElement[Any], values: Sequence[str]) -> ColumnElement[bool]:
    listed = func.json_each(literal(json.dumps(values, ensure_ascii=False))).table_valued("value")
    return column.in_(select(listed.c.value))


TABLES: Final = Tables(greatest="max", within=_within)

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


def compile_effect(effect: Effect) -> str:
    """Compile a kind of change, for `executemany`."""
    table = TABLES.metadata.tables[f"perdure_{effect.table}"]
    names = tuple(f"where_{name}" for name in effect.where)
    found = [table.c[name] == _value(table, "where", name) for name in effect.where]
    values = {name: _value(table, "set", name) for name in effect.columns}
    written = tuple(f"set_{name}" for name in effect.columns)
    if effect.kind == "delete":
        return sql(delete(table).where(*found), *names)
    if effect.kind == "update":
        return sql(update(table).where(*found).values(values), *written, *names)
    if effect.kind == "insert":
        made = insert(table).values(values)
        prefix = {"keep": "OR IGNORE", "replace": "OR REPLACE"}.get(effect.known)
        return sql(made if prefix is None else made.prefix_with(prefix), *written)
    made = insert(table).values({name: _value(table, "where", name) for name in effect.where} | values)
    chosen = {name: case((number(f"has_{name}"), made.excluded[name]), else_=table.c[name]) for name in effect.columns}
    statement = made.on_conflict_do_update(index_elements=list(effect.where), set_=chosen)
    return sql(statement, *names, *written, *(f"has_{name}" for name in effect.columns))


def _value(table: Table, use: str, name: str) -> Any:
    return bindparam(f"{use}_{name}", type_=table.c[name].type)


def execute(db: sqlite3.Connection, statement: Select[Any]) -> sqlite3.Cursor:
    """Run a statement that is made for one call."""
    compiled: Any = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    values = compiled.construct_params()
    return db.execute(str(compiled), [values[name] for name in compiled.positiontup])


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

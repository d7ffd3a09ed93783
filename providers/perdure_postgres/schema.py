"""The schema's versions: what is in a database, and how it gets to the newest.

Statements that define tables are transactional in Postgres. So a step and the version it leads to are committed
together, under an advisory lock, which makes processes that migrate at once take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, TypeVar

import psycopg
from psycopg import sql
from sqlalchemy.schema import CreateIndex, CreateTable

from perdure.spi import MigrationStep, SchemaStatus
from perdure_postgres.connection import Connection
from perdure_postgres.errors import translate
from perdure_postgres.statements import DIALECT, statements
from perdure_sql import migrations
from perdure_sql.migrations import Step, Version, check_usable, plan, status_of

__all__ = ["guarded", "migrate", "planned", "prepare", "status", "steps"]

T = TypeVar("T")

# Rows of these come and go, or are rewritten, thousands of times a second. Room is left in a page for the next version
# of a row, and what is dead is swept after a fixed number of changes, however large the table was meanwhile.
_BUSY: Final = ("instances", "activities", "inbox", "intake", "states", "remembered")
_STORAGE: Final = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_threshold": "2000",
    "autovacuum_vacuum_insert_scale_factor": "0.1",
    "autovacuum_vacuum_cost_delay": "0",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_analyze_threshold": "2000",
}
_FILL: Final = {"instances": 70, "activities": 80}


@cache
def steps(schema: str) -> Sequence[Step]:
    """Return the migrations, the first tables first."""
    return (Step(version=1, description="the first tables", statements=_first(schema), min_reader=1),)


def _first(schema: str) -> tuple[str, ...]:
    name = sql.Identifier(schema).as_string()
    made = [
        f'CREATE TABLE {name}.perdure_meta (name text COLLATE "C" PRIMARY KEY, value bigint NOT NULL)',
        f"CREATE SEQUENCE {name}.perdure_key_blocks",
    ]
    for table in statements(schema).tables.metadata.sorted_tables:
        made.append(str(CreateTable(table).compile(dialect=DIALECT)).strip())
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            made.append(str(CreateIndex(index).compile(dialect=DIALECT)).strip())
        kind = table.name.removeprefix("perdure_")
        if kind in _BUSY:
            settings = dict(_STORAGE) | ({"fillfactor": str(_FILL[kind])} if kind in _FILL else {})
            listed = ", ".join(f"{key} = {value}" for key, value in settings.items())
            made.append(f"ALTER TABLE {name}.{table.name} SET ({listed})")
    return tuple(made)


def status(db: Connection, schema: str) -> SchemaStatus:
    """Compare what is in the database with the newest version."""
    return status_of(_read(db, schema), steps(schema)[-1].version)


def migrate(db: Connection, schema: str, store: str, *, to: int | None = None) -> list[MigrationStep]:
    """Bring the schema to version `to` and return the steps taken.

    Raises:
        SchemaMismatch: there is no way from here to there.
    """
    taken: list[MigrationStep] = []
    while True:
        db.run("BEGIN")
        try:
            db.run("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"perdure.migrate.{schema}"])
            # Read again under the lock for each step: another process may have taken it meanwhile.
            ahead = plan(steps(schema), status(db, schema), store, to=to)
            if not ahead:
                db.run("ROLLBACK")
                return taken
            step = ahead[0]
            _make_schema(db, schema)
            for statement in step.statements:
                db.run(statement.encode())
            _write(db, schema, step)
            db.run("COMMIT")
        except BaseException:
            if not db.closed:
                db.run("ROLLBACK")
            raise
        taken.append(step.told())


def planned(found: SchemaStatus, schema: str, store: str, *, to: int | None = None) -> list[MigrationStep]:
    """Return the steps that `migrate` would take."""
    return migrations.planned(steps(schema), found, store, to=to)


def prepare(db: Connection, schema: str, store: str, *, auto: bool) -> None:
    """Make the schema usable: create an absent one, and migrate an old one if it may be.

    Raises:
        SchemaMismatch: it is not usable, and may not be made so.
        AuthFailed: it is absent, and the role may not create it.
    """
    found = status(db, schema)
    if found.state == "absent" or (found.state == "behind" and auto):
        migrate(db, schema, store)
        found = status(db, schema)
    check_usable(found, store)


def guarded(step: Callable[[], T], store: str) -> T:
    """Run `step` on a connection of its own, with the driver's errors translated."""
    try:
        return step()
    except psycopg.Error as error:
        raise translate(error, "open", store) from error


def _make_schema(db: Connection, schema: str) -> None:
    # Not simply IF NOT EXISTS: that needs the right to create one even where it is there.
    if db.run("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]).fetchone() is None:
        db.run(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


def _read(db: Connection, schema: str) -> Version:
    found = db.run(
        "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relkind IN ('r', 'p')",
        [schema],
    ).fetchall()
    names = {name for (name,) in found}
    if "perdure_meta" not in names:
        return Version(dirty=any(name.startswith("perdure_") for name in names))
    meta = sql.Identifier(schema, "perdure_meta")
    values = dict(db.run(sql.SQL("SELECT name, value FROM {}").format(meta)).fetchall())
    version, min_reader = values.get("version"), values.get("min_reader")
    if type(version) is not int or type(min_reader) is not int or version < 1:
        return Version(dirty=True)
    return Version(version, min_reader)


def _write(db: Connection, schema: str, step: Step) -> None:
    statement = sql.SQL(
        "INSERT INTO {} (name, value) SELECT * FROM unnest(%s::text[], %s::bigint[]) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    ).format(sql.Identifier(schema, "perdure_meta"))
    db.run(statement, [["version", "min_reader"], [step.version, step.min_reader]])

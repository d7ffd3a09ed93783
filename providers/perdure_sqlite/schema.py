"""The schema's versions: what is in a file, and how it gets to the newest.

Statements that define tables are transactional in SQLite. So a step and the version it leads to are committed
together, under `BEGIN IMMEDIATE`, which also makes processes that migrate at once take turns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from sqlalchemy.schema import CreateIndex, CreateTable

from perdure.spi import MigrationStep, SchemaMismatch, SchemaStatus
from perdure_sql import Tables
from perdure_sqlite.connection import peek
from perdure_sqlite.errors import translate
from perdure_sqlite.statements import DIALECT, TABLES
from perdure_sqlite.urls import MEMORY

__all__ = ["STEPS", "Step", "guarded", "look", "migrate", "planned", "prepare", "status"]

T = TypeVar("T")

_META: Final = "perdure_meta"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A migration: one version further."""

    version: int
    description: str
    statements: tuple[str, ...]
    min_reader: int
    """The oldest version of this provider that can use the result."""


def _first(tables: Tables) -> tuple[str, ...]:
    made = [
        f"CREATE TABLE {_META} (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    ]
    for table in tables.metadata.sorted_tables:
        made.append(str(CreateTable(table).compile(dialect=DIALECT)).strip())
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            made.append(str(CreateIndex(index).compile(dialect=DIALECT)).strip())
    return tuple(made)


STEPS: Final[list[Step]] = [
    Step(version=1, description="the first tables", statements=_first(TABLES), min_reader=1),
]


def status(db: sqlite3.Connection | None) -> SchemaStatus:
    """Compare what is in the file with the newest version; None: there is no file."""
    latest = STEPS[-1].version
    found = (0, 0, False) if db is None else _read(db)
    current, min_reader, dirty = found
    state: Literal["absent", "ok", "behind", "ahead", "dirty"] = "ok"
    if dirty:
        state = "dirty"
    elif current == 0:
        state = "absent"
    elif current < latest:
        state = "behind"
    elif current > latest and min_reader > latest:
        state = "ahead"
    return SchemaStatus(current=current, latest=latest, state=state)


def check_usable(found: SchemaStatus, path: str) -> None:
    """Raise unless the schema is one that this version can use.

    Raises:
        SchemaMismatch: it is not.
    """
    versions = f"SQLite file {path!r} has schema version {found.current}, this perdure uses {found.latest}"
    if found.state == "behind":
        raise SchemaMismatch(
            f"{versions}: stop the workers and migrate it with Provider.migrate(), or add op_migrate=auto to the URL"
        )
    if found.state == "ahead":
        raise SchemaMismatch(f"{versions}: install a newer perdure, or open another file")
    if found.state == "dirty":
        raise SchemaMismatch(
            f"SQLite file {path!r} has tables of perdure but no readable schema version: restore it from a backup, "
            "or open another file"
        )


def migrate(db: sqlite3.Connection, path: str, *, to: int | None = None) -> list[MigrationStep]:
    """Bring the schema to version `to` and return the steps taken.

    Raises:
        SchemaMismatch: there is no way from here to there.
    """
    taken: list[MigrationStep] = []
    while True:
        db.execute("BEGIN IMMEDIATE")
        try:
            # Read again under the lock for each step: another process may have taken it meanwhile.
            steps = plan(status(db), path, to=to)
            if not steps:
                db.execute("ROLLBACK")
                return taken
            step = steps[0]
            for statement in step.statements:
                db.execute(statement)
            _write(db, step)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        taken.append(_tell(step))


def planned(found: SchemaStatus, path: str, *, to: int | None = None) -> list[MigrationStep]:
    """Return the steps that `migrate` would take."""
    return [_tell(step) for step in plan(found, path, to=to)]


def plan(found: SchemaStatus, path: str, *, to: int | None = None) -> Sequence[Step]:
    """Return the steps from what was found to version `to`.

    Raises:
        SchemaMismatch: there is no way.
    """
    latest = STEPS[-1].version
    goal = latest if to is None else to
    if found.state == "dirty":
        check_usable(found, path)
    if to is None and found.current > latest:
        if found.state == "ahead":
            check_usable(found, path)
        return []
    if not max(found.current, 1) <= goal <= max(latest, found.current):
        raise SchemaMismatch(
            f"SQLite file {path!r} has schema version {found.current}; there is no way to version {goal}: "
            f"this perdure can go forward only, up to {latest}"
        )
    return [step for step in STEPS if found.current < step.version <= goal]


def _tell(step: Step) -> MigrationStep:
    return MigrationStep(version=step.version, description=step.description, statements=step.statements)


def _read(db: sqlite3.Connection) -> tuple[int, int, bool]:
    names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if _META not in names:
        return 0, 0, any(name in names for name in TABLES.metadata.tables)
    values = dict(db.execute("SELECT name, value FROM perdure_meta").fetchall())
    version, min_reader = values.get("version"), values.get("min_reader")
    if type(version) is not int or type(min_reader) is not int or version < 1:
        return 0, 0, True
    return version, min_reader, False


def _write(db: sqlite3.Connection, step: Step) -> None:
    db.executemany(
        "INSERT INTO perdure_meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [("version", step.version), ("min_reader", step.min_reader)],
    )


def prepare(db: sqlite3.Connection, path: str, *, auto: bool) -> None:
    """Make the schema usable: create an absent one, and migrate an old one if it may be.

    Raises:
        SchemaMismatch: it is not usable, and may not be made so.
    """
    found = status(db)
    if found.state == "absent" or (found.state == "behind" and auto):
        migrate(db, path)
        found = status(db)
    check_usable(found, path)


def look(path: str) -> SchemaStatus:
    """Compare a file that nobody here has open with the newest version; it is only read, and need not exist.

    Raises:
        ProviderUnavailable: it is there, but can't be read.
    """
    db = None if path == MEMORY else peek(path)
    if db is None:
        return status(None)
    with closing(db):
        return guarded(lambda: status(db), path)


def guarded(step: Callable[[], T], path: str) -> T:
    """Run `step` on a connection of its own, with the driver's errors translated."""
    try:
        return step()
    except sqlite3.Error as error:
        raise translate(error, "open", path) from error

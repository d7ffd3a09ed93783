"""The schema's versions: what is in a file, and how it gets to the newest.

Statements that define tables are transactional in SQLite. So a step and the version it leads to are committed
together, under `BEGIN IMMEDIATE`, which also makes processes that migrate at once take turns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Final, TypeVar

from sqlalchemy.schema import CreateIndex, CreateTable

from perdure.spi import MigrationStep, SchemaStatus
from perdure_sql import Tables, migrations
from perdure_sql.migrations import Step, Version, check_usable, plan, status_of
from perdure_sqlite.connection import peek
from perdure_sqlite.errors import translate
from perdure_sqlite.statements import DIALECT, TABLES
from perdure_sqlite.urls import MEMORY

__all__ = ["STEPS", "Step", "guarded", "look", "migrate", "planned", "prepare", "status"]

T = TypeVar("T")

_META: Final = "perdure_meta"


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
    return status_of(Version() if db is None else _read(db), STEPS[-1].version)


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
            steps = plan(STEPS, status(db), _store(path), to=to)
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
        taken.append(step.told())


def planned(found: SchemaStatus, path: str, *, to: int | None = None) -> list[MigrationStep]:
    """Return the steps that `migrate` would take."""
    return migrations.planned(STEPS, found, _store(path), to=to)


def _store(path: str) -> str:
    return f"SQLite file {path!r}"


def _read(db: sqlite3.Connection) -> Version:
    names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if _META not in names:
        return Version(dirty=any(name in names for name in TABLES.metadata.tables))
    values = dict(db.execute("SELECT name, value FROM perdure_meta").fetchall())
    version, min_reader = values.get("version"), values.get("min_reader")
    if type(version) is not int or type(min_reader) is not int or version < 1:
        return Version(dirty=True)
    return Version(version, min_reader)


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
    check_usable(found, _store(path))


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

"""Every statement finds its rows through an index, so that none grows slow with what it doesn't ask for."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from types import ModuleType

import pytest

from perdure.spi import InstanceQuery
from perdure_sql import instance_page
from perdure_sqlite import agenda, reader, schema, transaction
from perdure_sqlite.statements import DIALECT, TABLES

MODULES: list[ModuleType] = [agenda, reader, transaction]
# They count or delete all that a hub holds.
WHOLE_HUB = {"STATUS_COUNTS", "TURN_QUEUE", "ACTIVITY_QUEUE", "WIPE_HUB"}
STATEMENT = re.compile(r"\s*(SELECT|UPDATE|DELETE|WITH)\b")


def statements() -> Iterator[tuple[str, str]]:
    for module in MODULES:
        for name, value in vars(module).items():
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and STATEMENT.match(text):
                    yield name, text
    for effect, text in transaction.EFFECTS.items():
        if STATEMENT.match(text):
            yield f"{effect.kind} {effect.table}", text


def plan(text: str) -> list[str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        schema.migrate(db, ":memory:")
        return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", ["[]"] * text.count("?"))]


@pytest.mark.parametrize(("name", "text"), list(statements()))
def test_no_statement_scans(name: str, text: str) -> None:
    steps = plan(text)
    scans = [step for step in steps if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
    assert set(scans) <= {"SCAN sqlite_sequence", "SCAN CONSTANT ROW", "SCAN found", "SCAN family", "SCAN given"}
    if name not in WHOLE_HUB and "NAMES" not in name:
        assert not [step for step in steps if step.endswith("(hub=?)")]
    if name in ("HEADERS", "REMEMBERED"):
        assert any("instance=? AND id=?" in step for step in steps)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (InstanceQuery(), "perdure_instances_created (hub=?)"),
        (InstanceQuery(parent="p"), "perdure_instances_parent (hub=? AND parent=?)"),
    ],
)
def test_pages_come_in_order_from_an_index(query: InstanceQuery, index: str) -> None:
    compiled = instance_page(TABLES, 1, query, None, 10).compile(
        dialect=DIALECT, compile_kwargs={"render_postcompile": True}
    )
    steps = plan(str(compiled))
    assert any(step.endswith(index) for step in steps)
    assert not any("ORDER BY" in step for step in steps)

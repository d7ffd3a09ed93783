"""The schema's versions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from perdure.spi import InvalidRequest, ProviderError, SchemaMismatch
from perdure_sqlite import SQLiteProvider, schema

NEXT = schema.Step(
    version=2, description="one more table", statements=("CREATE TABLE perdure_more (x INTEGER)",), min_reader=2
)


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def set_version(path: Path, **values: int) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for name, value in values.items():
            db.execute("UPDATE perdure_meta SET value = ? WHERE name = ?", (value, name))


def state(url: str) -> tuple[int, str]:
    found = SQLiteProvider(url).schema_status()
    return found.current, found.state


@pytest.fixture
def made(url: str) -> None:
    with SQLiteProvider(url):
        pass


def test_a_look_creates_nothing(url: str, path: Path) -> None:
    assert state(url) == (0, "absent")
    assert list(path.parent.iterdir()) == []


def test_a_look_at_a_closed_file_leaves_no_log_behind(url: str, path: Path, made: None) -> None:
    before = sorted(path.parent.iterdir())
    assert state(url) == (1, "ok")
    assert sorted(path.parent.iterdir()) == before == [path]


def test_a_look_sees_what_is_still_in_the_log(url: str) -> None:
    with SQLiteProvider(url) as provider:
        assert state(url) == (1, "ok")
        assert provider.schema_status().state == "ok"


def test_an_empty_file_and_a_file_of_somebody_else_are_absent(url: str, path: Path) -> None:
    path.touch()
    assert state(url) == (0, "absent")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE mine (x)")
    assert state(url) == (0, "absent")
    with SQLiteProvider(url):
        assert "mine" in tables(path)


def test_a_dry_run_tells_and_changes_nothing(url: str, path: Path) -> None:
    steps = SQLiteProvider(url).migrate(dry_run=True)
    assert [step.version for step in steps] == [1]
    assert any("CREATE TABLE" in statement for statement in steps[0].statements)
    assert not path.exists()


def test_migrating_twice_does_nothing_the_second_time(url: str) -> None:
    assert [step.version for step in SQLiteProvider(url).migrate()] == [1]
    assert SQLiteProvider(url).migrate() == []
    assert state(url) == (1, "ok")


@pytest.mark.usefixtures("made")
def test_an_old_schema_is_refused_unless_it_may_be_migrated(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "STEPS", [*schema.STEPS, NEXT])
    assert state(url) == (1, "behind")
    with pytest.raises(SchemaMismatch, match="op_migrate=auto"):
        SQLiteProvider(url).open()
    assert "perdure_more" not in tables(path)
    with SQLiteProvider(f"{url}?op_migrate=auto") as provider:
        assert provider.schema_status().state == "ok"
    assert "perdure_more" in tables(path)
    assert state(url) == (2, "ok")


@pytest.mark.usefixtures("made")
def test_a_step_that_fails_leaves_no_trace(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = schema.Step(
        version=2, description="", statements=(*NEXT.statements, "CREATE TABLE perdure_meta (x)"), min_reader=2
    )
    monkeypatch.setattr(schema, "STEPS", [*schema.STEPS, broken])
    with pytest.raises(ProviderError):
        SQLiteProvider(url).migrate()
    assert state(url) == (1, "behind")
    assert "perdure_more" not in tables(path)


@pytest.mark.usefixtures("made")
def test_a_newer_schema_is_refused_unless_it_is_readable(url: str, path: Path) -> None:
    set_version(path, version=7, min_reader=1)
    with SQLiteProvider(url) as provider:
        assert provider.list_hubs() == []
    set_version(path, min_reader=7)
    assert state(url) == (7, "ahead")
    with pytest.raises(SchemaMismatch, match="newer perdure"):
        SQLiteProvider(url).open()
    with pytest.raises(SchemaMismatch):
        SQLiteProvider(url).migrate(to=1)


@pytest.mark.usefixtures("made")
def test_tables_without_a_version_are_dirty(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM perdure_meta")
    assert state(url) == (0, "dirty")
    with pytest.raises(SchemaMismatch, match="backup"):
        SQLiteProvider(url).open()


def test_there_is_no_way_back_or_too_far(url: str) -> None:
    with pytest.raises(SchemaMismatch):
        SQLiteProvider(url).migrate(to=2)
    SQLiteProvider(url).migrate(to=1)
    with pytest.raises(SchemaMismatch):
        SQLiteProvider(url).migrate(to=0)


def test_options_are_checked(url: str) -> None:
    with pytest.raises(InvalidRequest, match="op_migrate"):
        SQLiteProvider(f"{url}?op_migrate=yes")
    with pytest.raises(InvalidRequest, match="timeout"):
        SQLiteProvider(f"{url}?timeout=3")
    for wrong in ("sqlite://", "sqlite:///", "sqlite://host/x.db"):
        with pytest.raises(InvalidRequest, match="names no file"):
            SQLiteProvider(wrong)

"""Files that can't be used, locks of other processes, full disks: by the driver's codes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from perdure.spi import Closed, NotFound, OutcomeUnknown, ProviderUnavailable, Transient
from perdure_conformance.driver import Driver
from perdure_sqlite import SQLiteProvider, connection
from perdure_sqlite.errors import translate


def refused(path: Path) -> str:
    with pytest.raises(ProviderUnavailable) as caught:
        SQLiteProvider(f"sqlite:///{path}").open()
    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    return str(caught.value)


def test_a_missing_directory_or_a_directory(tmp_path: Path) -> None:
    assert "directory exists" in refused(tmp_path / "no" / "t.db")
    assert "that it is a file" in refused(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_something_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)
    assert "not a SQLite database" in refused(path)
    with pytest.raises(ProviderUnavailable):
        SQLiteProvider(f"sqlite:///{path}").schema_status()


@pytest.fixture
def folder_for_all() -> Iterator[Path]:
    """Yield a folder that any user can get at: those of tmp_path are closed to all but their owner."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_a_file_that_may_not_be_written(folder_for_all: Path) -> None:
    path = folder_for_all / "t.db"
    with SQLiteProvider(f"sqlite:///{path}"):
        pass
    path.chmod(0o444)
    was_root = os.geteuid() == 0
    if was_root:
        # For root nothing is read-only; for nobody it is.
        os.seteuid(65534)
    try:
        with pytest.raises(ProviderUnavailable, match="read-only; give this user the right") as caught:
            SQLiteProvider(f"sqlite:///{path}").open()
        assert str(path) in str(caught.value)
    finally:
        if was_root:
            os.seteuid(0)


def test_a_path_may_hold_anything(tmp_path: Path) -> None:
    with SQLiteProvider(f"sqlite:///{tmp_path}/a%20b%3Fc%25%23.db"):
        assert (tmp_path / "a b?c%#.db").exists()


def test_relative_and_absolute_urls_name_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SQLiteProvider("sqlite:///r.db") as one, SQLiteProvider(f"sqlite:////{str(tmp_path)[1:]}/r.db") as other:
        one.create_hub("h")
        assert other.list_hubs() == ["h"]
        assert one.store() is other.store()


def test_durable_settings_are_on(provider: SQLiteProvider) -> None:
    def settings(db: sqlite3.Connection) -> list[object]:
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert provider.store().writer.run_outside(settings) == ["wal", 2]


def test_a_lock_of_somebody_else_is_transient(path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BUSY_MS", 50)
    with SQLiteProvider(url) as provider, closing(sqlite3.connect(path, isolation_level=None)) as other:
        provider.create_hub("h")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Transient) as caught:
            provider.create_hub("i")
        assert caught.value.retry_after is not None
        assert provider.list_hubs() == ["h"]
        other.execute("ROLLBACK")
        provider.create_hub("i")


def test_a_full_disk_is_transient_and_passes(driver: Driver, provider: SQLiteProvider) -> None:
    def limit(pages: int) -> None:
        provider.store().writer.run_outside(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())

    driver.create("a")
    limit(1)
    with pytest.raises(Transient):
        driver.create("b", input=bytes(1_000_000))
    limit(1_000_000)
    assert driver.find() == ["a"]
    driver.create("b", input=bytes(1_000_000))
    assert driver.find() == ["a", "b"]


@pytest.mark.parametrize(
    ("code", "stage", "expected"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "write", Transient),
        (sqlite3.SQLITE_IOERR_WRITE, "write", Transient),
        (sqlite3.SQLITE_IOERR_FSYNC, "commit", OutcomeUnknown),
        (sqlite3.SQLITE_FULL, "commit", Transient),
        (sqlite3.SQLITE_CANTOPEN, "open", ProviderUnavailable),
        (sqlite3.SQLITE_CANTOPEN, "read", Transient),
        (sqlite3.SQLITE_INTERNAL, "read", Transient),
        (sqlite3.SQLITE_INTERNAL, "write", OutcomeUnknown),
    ],
)
def test_errors_are_told_by_their_codes(code: int, stage: str, expected: type[Exception]) -> None:
    error = sqlite3.OperationalError("any text at all")
    error.sqlite_errorcode = code
    assert type(translate(error, stage, "x.db")) is expected  # type: ignore[arg-type]


def test_every_use_after_close_is_refused(provider: SQLiteProvider) -> None:
    provider.create_hub("h")
    hub = provider.hub("h")
    provider.close()
    provider.close()
    calls: list[Callable[[], object]] = [hub.now, hub.stats, provider.open, provider.list_hubs, hub.pump]
    for call in calls:
        with pytest.raises(Closed):
            call()


def test_a_hub_that_is_not_there(provider: SQLiteProvider) -> None:
    with pytest.raises(NotFound):
        provider.hub("nobody").stats()


def test_memory_belongs_to_its_provider() -> None:
    with SQLiteProvider("sqlite:///:memory:") as one, SQLiteProvider("sqlite:///:memory:") as other:
        one.create_hub("h")
        assert (one.list_hubs(), other.list_hubs()) == (["h"], [])
        assert not one.capabilities.durable


def test_importing_the_package_imports_no_driver() -> None:
    code = "import sys, perdure_sqlite; print({'sqlite3', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "set()"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}

"""What only SQLite has: files, processes that share them, statements and their plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.spi import ManualClock, Outcome
from perdure_conformance.driver import Driver
from perdure_sqlite import SQLiteProvider


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def connect(url: str, clock: ManualClock) -> Iterator[Callable[[], SQLiteProvider]]:
    """Open handles on the file."""
    made: list[SQLiteProvider] = []

    def open_one() -> SQLiteProvider:
        made.append(SQLiteProvider(url, clock=clock))
        made[-1].open()
        return made[-1]

    yield open_one
    for provider in made:
        provider.close()


@pytest.fixture
def provider(connect: Callable[[], SQLiteProvider]) -> SQLiteProvider:
    return connect()


@pytest.fixture
def driver(provider: SQLiteProvider, clock: ManualClock) -> Driver:
    assert provider.create_hub("h") is Outcome.OK
    return Driver(provider.hub("h"), clock)

"""Every provider test runs on each provider that needs no server, in virtual time, on a fresh hub."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.spi import Clock, Hub, ManualClock, Outcome, Provider
from perdure_conformance.driver import Driver, fresh

SCHEMES = {"memory": ("perdure_memory", "MemoryProvider"), "sqlite": ("perdure_sqlite", "SQLiteProvider")}


def provider_class(scheme: str) -> Callable[..., Provider]:
    module, name = SCHEMES[scheme]
    try:
        found: Callable[..., Provider] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        pytest.skip(f"{module} is not there yet")
    return found


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(scheme: str, tmp_path: Path) -> str:
    return f"memory://{fresh('store')}" if scheme == "memory" else f"sqlite:///{tmp_path}/t.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def connect(scheme: str, url: str, clock: ManualClock) -> Iterator[Callable[..., Provider]]:
    """Open further handles on the same store."""
    made: list[Provider] = []

    def open_one(clock: Clock | None = clock) -> Provider:
        made.append(provider_class(scheme)(url, clock=clock))
        made[-1].open()
        return made[-1]

    yield open_one
    for provider in made:
        provider.close()


@pytest.fixture
def provider(connect: Callable[..., Provider]) -> Provider:
    return connect()


@pytest.fixture
def hub(provider: Provider) -> Hub:
    assert provider.create_hub("h") is Outcome.OK
    return provider.hub("h")


@pytest.fixture
def driver(hub: Hub, clock: ManualClock) -> Driver:
    return Driver(hub, clock)

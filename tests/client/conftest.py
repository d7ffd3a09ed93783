"""Every client test runs with both clients, on each provider that needs no server."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.client.hand import Hand, blocking

from perdure.client import Client
from perdure.spi import Hub, ManualClock, Provider

SCHEMES = {"memory": ("perdure_memory", "MemoryProvider"), "sqlite": ("perdure_sqlite", "SQLiteProvider")}

_numbers = count(1)


def provider_class(scheme: str) -> Callable[..., Provider]:
    module, name = SCHEMES[scheme]
    try:
        found: Callable[..., Provider] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        pytest.skip(f"{module} is not there yet")
    return found


@pytest.fixture
def memory_url() -> str:
    return f"memory://client-{next(_numbers)}"


@pytest.fixture(params=SCHEMES)
def url(request: pytest.FixtureRequest, tmp_path: Path, memory_url: str) -> str:
    return memory_url if request.param == "memory" else f"sqlite:///{tmp_path}/t.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def provider(url: str, clock: ManualClock) -> Iterator[Provider]:
    with provider_class(url.partition(":")[0])(url, clock=clock) as provider:
        yield provider


@pytest.fixture
def memory(memory_url: str, clock: ManualClock) -> Iterator[Provider]:
    with provider_class("memory")(memory_url, clock=clock) as provider:
        provider.create_hub("default")
        yield provider


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(provider: Provider, kind: str) -> Iterator[Client]:
    with Client(provider) if kind == "sync" else blocking(provider) as client:
        yield client


@pytest.fixture
def hub(provider: Provider, client: Client) -> Hub:
    provider.create_hub("default")
    return provider.hub("default")


@pytest.fixture
def hand(hub: Hub) -> Hand:
    return Hand(hub)

"""Every engine test runs on each provider that needs no server, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.spi import ManualClock, Provider
from perdure_conformance.stage import Stage, add_one, child, echo, fail, failing_child, numbers, waiter
from perdure_memory import MemoryProvider
from perdure_sqlite import SQLiteProvider

MakeStage = Callable[..., Stage]


@pytest.fixture(params=["memory", "sqlite"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make_provider(scheme: str, tmp_path: Path, clock: ManualClock | None) -> Provider:
    if scheme == "memory":
        return MemoryProvider(f"memory://stage-{next(numbers)}", clock=clock)
    return SQLiteProvider(f"sqlite:///{tmp_path}/t{next(numbers)}.db", clock=clock)


@pytest.fixture
def make_stage(scheme: str, tmp_path: Path) -> Iterator[MakeStage]:
    """Build stages, each on a store of its own."""
    providers: list[Provider] = []
    stages: list[Stage] = []

    def make(*, cold: bool = False) -> Stage:
        clock = ManualClock()
        provider = make_provider(scheme, tmp_path, clock)
        provider.open()
        providers.append(provider)
        provider.create_hub("h")
        stage = Stage(provider.hub("h"), clock, cold=cold)
        stages.append(stage)
        stage.activities(echo, add_one, fail)
        stage.orchestrators(child, failing_child, waiter)
        return stage

    yield make
    for stage in stages:
        for engine in stage.engines:
            engine.close()
    for provider in providers:
        provider.close()


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    return make_stage()


@pytest.fixture(params=["cached", "replayed"])
def any_stage(request: pytest.FixtureRequest, make_stage: MakeStage) -> Stage:
    """A stage on which turns continue the kept orchestrator, and one on which each turn is a replay."""
    return make_stage(cold=request.param == "replayed")

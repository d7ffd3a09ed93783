from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.cli import main
from perdure_memory import MemoryProvider
from perdure_sqlite import SQLiteProvider

try:
    importlib.metadata.distribution("perdure")
except importlib.metadata.PackageNotFoundError:
    # Run from the source tree alone, where no entry points lead to the providers.
    perdure.register_provider("memory", MemoryProvider)
    perdure.register_provider("sqlite", SQLiteProvider)


@dataclass(frozen=True)
class Result:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of the test's own, and none of the traces that loading a file leaves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERDURE_PROVIDER", raising=False)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Call `perdure` with these words."""

    def call(*words: str, code: int = 0) -> Result:
        capsys.readouterr()
        actual = main(words)
        captured = capsys.readouterr()
        result = Result(actual, captured.out, captured.err)
        assert actual == code, result
        return result

    return call


@pytest.fixture
def finished(directory: Path) -> Iterator[perdure.Client]:
    """A client on the default store, in which `done` has completed and `broken` has failed."""

    def double(ctx: perdure.OrchestrationContext, number: int) -> Any:
        ctx.set_custom_status({"progress": 0.5, "message": "half"})
        return (yield ctx.call_activity(times_two, input=number))

    def times_two(ctx: perdure.ActivityContext, number: int) -> int:
        return 2 * number

    def fail(ctx: perdure.OrchestrationContext) -> None:
        raise ValueError("out of luck")

    with (
        perdure.connect(f"sqlite:///{directory}/perdure.db") as provider,
        perdure.Worker(provider) as worker,
        perdure.Client(provider) as client,
    ):
        worker.add_orchestrator(double)
        worker.add_orchestrator(fail)
        worker.add_activity(times_two)
        client.schedule_new_orchestration("double", input=21, instance_id="done", tags={"team": "blue"}, version="1.0")
        client.schedule_new_orchestration("fail", instance_id="broken")
        client.wait_for_orchestration_completion("done", timeout=20)
        client.wait_for_orchestration_completion("broken", timeout=20)
        yield client

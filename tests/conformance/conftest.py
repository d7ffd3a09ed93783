"""Runs of the suite as processes of their own, in a directory that is nobody's repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.small import SmallSuite
from tests.e2e.command import require_installed

from perdure_conformance import run, self_test, suite

ROOT = Path(__file__).parents[2]

SMALL = """
import pytest
pytest.register_assert_rewrite("tests.conformance.small")
import perdure_conformance.suite
from tests.conformance.small import SmallSuite
perdure_conformance.suite.ProviderConformance = SmallSuite
"""
"""In a conftest: the small suite in the place of the real one."""

KEEP_REPORTS = """
import json
import pytest
from pathlib import Path
@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session):
    yield
    recorder = session.config.pluginmanager.get_plugin("perdure-conformance-recorder")
    if recorder is not None:
        reports = {target.rpartition("::")[2]: report.document() for target, report in recorder.reports.items()}
        Path("reports.json").write_text(json.dumps(reports))
"""
"""In a conftest: the report of each class, by its name."""


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Project:
    """A directory, and what is run in it.

    Args:
        directory: where.
        bytecode: shared by all runs, for to rewrite the assertions of all cases takes seconds.
    """

    def __init__(self, directory: Path, bytecode: Path) -> None:
        self.directory = directory
        dropped = ("PERDURE_", "PYTEST_", "PYTHONDONTWRITEBYTECODE")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.environment = {
            **kept,
            "PYTHONPATH": path,
            "PYTHONWARNINGS": "error",
            "PYTHONPYCACHEPREFIX": str(bytecode),
        }

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.directory / f"{name}.py").write_text(text)

    def install_broken(self) -> None:
        """Install a distribution with the broken providers."""
        site = self.directory / "site"
        info = site / "broken-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[perdure.providers]\nbroken = tests.conformance.broken:make\n"
            "[perdure.conformance]\nbroken = tests.conformance.broken:BrokenAdapter\n"
        )
        self.environment["PYTHONPATH"] += f"{os.pathsep}{site}"

    def pytest(self, *words: str, code: int | None = 0) -> Done:
        return self._run("pytest", words, code)

    def perdure(self, *words: str, code: int | None = 0) -> Done:
        return self._run("perdure", words, code)

    def start(self, module: str, *words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words], cwd=self.directory, env=self.environment, text=True, **options
        )

    def _run(self, module: str, words: tuple[str, ...], code: int | None) -> Done:
        with self.start(module, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            stdout, stderr = process.communicate(timeout=120)
        done = Done(process.returncode, stdout, stderr)
        assert code is None or done.code == code, f"exit code {done.code}, not {code}:\n{stdout}\n{stderr}"
        return done

    def reports(self) -> Any:
        return json.loads((self.directory / "reports.json").read_text())


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_installed()
    return tmp_path_factory.getbasetemp().parent / "bytecode"


@pytest.fixture
def project(tmp_path: Path, bytecode: Path) -> Project:
    return Project(tmp_path, bytecode)


@pytest.fixture
def _small_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small suite in the place of the real one, in this process."""
    for module in (suite, run, self_test):
        monkeypatch.setattr(module, "ProviderConformance", SmallSuite)
    for function in (suite.canonical_cases, suite.canonical_names):
        uncached = function.__wrapped__
        monkeypatch.setattr(suite, function.__name__, uncached)
    monkeypatch.setattr("perdure_conformance.report.canonical_cases", suite.canonical_cases)

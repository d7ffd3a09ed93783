"""Gathers the results of all processes of a run, and makes the reports."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from perdure_conformance.report import Report

__all__ = ["RECORDER", "UNEXPLAINED", "Recorder", "problem_with_writing"]

RECORDER: Final = "perdure-conformance-recorder"
"""The name under which pytest knows it."""

UNEXPLAINED: Final = "an assertion failed"
"""How a result begins that doesn't say what was compared."""


class Recorder:
    """A plugin of pytest that hears of every result, in the one process that hears of all.

    Args:
        config: that of pytest.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._results: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
        self._started = time.monotonic()
        self.targets: dict[str, dict[str, Any]] = {}
        """By test class, what was under test there."""
        self.reports: dict[str, Report] = {}
        """By test class, once the session has finished."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give the seed to another process, which would choose its own."""
        node.workerinput["conformance_seed"] = self._config.option.provider_seed

    def pytest_sessionstart(self) -> None:
        """Empty the report of a former run: were this one killed, it would be taken for this one's."""
        if self._config.option.provider_report is not None:
            self._config.option.provider_report.write_text("")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Look at what this process is going to run."""
        self._check_targets([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Look at what the other processes are going to run."""
        self._check_targets(ids)

    def _check_targets(self, nodeids: list[str]) -> None:
        option = self._config.option
        if option.provider_report is None:
            return
        from perdure_conformance.suite import canonical_names  # noqa: PLC0415

        targets = set()
        for nodeid in nodeids:
            target, _, name = nodeid.partition("[")[0].rpartition("::")
            if name in canonical_names():
                targets.add(target)
        if len(targets) > 1:
            raise pytest.UsageError(
                f"--provider-report is of one provider, and this run has {len(targets)}: {', '.join(sorted(targets))}"
            )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a result. What once failed has failed, whatever comes after it."""
        for name, data in report.user_properties:
            if name == "conformance" and isinstance(data, dict):
                results = self._results.setdefault(data["target"], {})
                key = data["case"], data["variant"]
                if key not in results or results[key]["outcome"] not in ("fail", "error"):
                    results[key] = data["result"]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear from another process what was under test there."""
        self.targets.update(getattr(node, "workeroutput", {}).get("conformance", {}))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Make the reports, and write the one that was asked for."""
        if not self._results:
            return
        from perdure_conformance.report import Report, Result  # noqa: PLC0415
        from perdure_conformance.run import waivers_of  # noqa: PLC0415

        option = self._config.option
        unheard = {"error": "no process that reached it came to its end"}
        lost = {"url": option.provider_url or "unknown://", "provider": unheard}
        for target, results in self._results.items():
            about = self.targets.get(target, lost)
            self.reports[target] = Report(
                url=about["url"],
                provider=about["provider"],
                level=option.provider_level,
                seed=option.provider_seed,
                full=option.provider_full,
                seconds=time.monotonic() - self._started,
                results=[Result(**data) for data in results.values()],
                waivers=waivers_of(self._config),
            )
        if option.provider_report is not None:
            (report,) = self.reports.values()
            option.provider_report.write_text(json.dumps(report.document(), indent=2) + "\n", encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the verdict on each provider."""
        if not self.reports:
            return
        from perdure_conformance.summary import run_line, verdict_lines  # noqa: PLC0415

        terminalreporter.section("perdure conformance")
        reports = list(self.reports.values())
        terminalreporter.write_line(run_line(reports[0]))
        for report in reports:
            for line in verdict_lines(report, terminalreporter._tw.fullwidth):
                terminalreporter.write_line(line)


def problem_with_writing(file: str) -> str | None:
    """Say why a file can't be written, None if it can: before a run, for afterwards it would be for nothing."""
    path = Path(file)
    if path.is_dir():
        return f"{file} is a directory, not a file to write"
    if not path.parent.is_dir():
        return f"there is no directory {path.parent} to write {path.name} to"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return f"{file} may not be written"
    return None

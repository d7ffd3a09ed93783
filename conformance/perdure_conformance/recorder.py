"""Gathers the results of all processes of a run, and makes the reports."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from perdure_conformance.report import Report

__all__ = ["Recorder"]


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

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a result; one of a later phase takes the place of an earlier one's."""
        for name, data in report.user_properties:
            if name == "conformance" and isinstance(data, dict):
                target = report.nodeid.rpartition("::")[0]
                self._results.setdefault(target, {})[data["case"], data["variant"]] = data

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
        for target, results in self._results.items():
            about = self.targets.get(target, {"url": "unknown://", "provider": {"error": "its process died"}})
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
            if len(self.reports) > 1:
                raise pytest.UsageError(f"--provider-report is of one provider; this run has {len(self.reports)}")
            (report,) = self.reports.values()
            option.provider_report.write_text(json.dumps(report.document(), indent=2) + "\n", encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the verdict on each provider."""
        if not self.reports:
            return
        from perdure_conformance.summary import verdict_lines  # noqa: PLC0415

        terminalreporter.section("perdure conformance")
        for report in self.reports.values():
            for line in verdict_lines(report):
                terminalreporter.write_line(line)

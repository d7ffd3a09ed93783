"""A run of cases in one process of pytest: the stores under test, and the judgement on each case."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from perdure.spi import PerdureError
from perdure_conformance.adapter import find_adapter
from perdure_conformance.bench import Bench, Session
from perdure_conformance.case import Case
from perdure_conformance.evidence import VacuousCase
from perdure_conformance.honesty import NEGATIVE_CHECKS, declares
from perdure_conformance.report import Outcome, Result, describe
from perdure_conformance.suite import ProviderConformance, canonical_cases
from perdure_conformance.waivers import Waiver, WaiverProblem, read_waivers

__all__ = ["Run", "waivers_of"]

_LONGEST: Final = 600
_SUITE: Final = Path(__file__).parent


class Run:
    """What the cases of one process share.

    Args:
        config: that of pytest, with our options.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._sessions: dict[str, Session] = {}
        self._waivers = waivers_of(config)
        self._today = datetime.datetime.now(datetime.UTC).date()
        self._compared: tuple[str, str] | None = None
        self._reason: tuple[Outcome, str] | None = None

    def session_of(self, item: pytest.Function) -> Session:
        """Return the store on which a case runs: that of its class, or of the URL that was given."""
        target = target_of(item.nodeid)
        if target not in self._sessions:
            adapter = getattr(item.cls, "adapter", None)
            if adapter is None:
                url = self._config.getoption("--provider-url")
                if not url:
                    raise pytest.UsageError("say which provider is under test: --provider-url URL")
                try:
                    adapter = find_adapter(url)
                except PerdureError as error:
                    raise pytest.UsageError(str(error)) from error
            self._sessions[target] = Session(
                adapter,
                seed=self._config.getoption("--provider-seed"),
                full=self._config.getoption("--provider-full"),
            )
        return self._sessions[target]

    def targets(self) -> dict[str, dict[str, Any]]:
        """Return by test class what was under test there, as JSON data."""
        return {
            target: {"url": session.adapter.url, "provider": describe(session)}
            for target, session in self._sessions.items()
        }

    def close(self) -> None:
        """Close the stores."""
        for session in self._sessions.values():
            session.abandon()

    def before_call(self, spec: Case, bench: Bench) -> None:
        """Skip a case that doesn't apply, once its negative check has passed, or that can't be run."""
        self._compared = None
        undeclared = [name for name in spec.requires if not declares(bench.capabilities, name)]
        for name in undeclared:
            NEGATIVE_CHECKS[name](bench)
        if undeclared:
            self._skip("n/a", f"{' and '.join(undeclared)} not declared")
        without = [hook for hook in spec.hooks if not bench.adapter.has(hook)]
        if without:
            self._skip("not-run", f"hook {' and '.join(without)}")

    def _skip(self, outcome: Outcome, reason: str) -> None:
        self._reason = outcome, reason
        pytest.skip(f"{outcome}: {reason}")

    def note_comparison(self, op: str, left: object, right: object) -> None:
        """Keep what was compared by an assertion that failed."""
        expected = _short(right) if op in ("==", "is") else f"{op} {_short(right)}"
        self._compared = _short(left), expected

    def judge(
        self,
        item: pytest.Function,
        spec: Case,
        bench: Bench | None,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
    ) -> pytest.TestReport:
        """Put the result of a phase on its report, where it is one."""
        result = self._result(spec, bench, call, report)
        if result is None:
            return report
        if result.outcome in ("fail", "error"):
            # Nobody knows how the failure left the store.
            self.session_of(item).abandon()
        if call.when == "call":
            self._waive(result, report)
        if is_canonical(item):
            report.user_properties.append(("conformance", result_data(result)))
        return report

    def _result(
        self, spec: Case, bench: Bench | None, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> Result | None:
        reason, self._reason = self._reason, None
        outcome: Outcome
        if report.skipped:
            if reason is None:
                return None  # by somebody else's mark: the case was not executed
            outcome = reason[0]
        elif report.failed:
            outcome = "fail" if call.when == "call" else "error"
        elif call.when == "call":
            outcome = "pass"
        else:
            return None
        result = Result(
            case=spec.id,
            variant="" if bench is None else bench.variant,
            outcome=outcome,
            seconds=call.duration,
            seed=None if bench is None else bench.seed,
            calls=0 if bench is None else bench.evidence.calls.total(),
            detail="" if reason is None else reason[1],
        )
        if call.excinfo is not None and report.failed:
            self._explain(result, spec, call.excinfo)
        return result

    def _explain(self, result: Result, spec: Case, info: pytest.ExceptionInfo[BaseException]) -> None:
        error = info.value
        result.expected = spec.title
        if isinstance(error, AssertionError) and self._compared is not None:
            result.came, result.expected = self._compared
        elif isinstance(error, (AssertionError, pytest.fail.Exception, VacuousCase)):
            result.came = _short_text(str(error) or "an assertion failed")
        else:
            result.came = _short_text(f"raised {type(error).__name__}: {error}")
        for entry in reversed(info.traceback):
            path = Path(str(entry.path))
            if path.is_relative_to(_SUITE):
                result.where = f"{path.relative_to(_SUITE)}:{entry.lineno + 1}"
                break

    def _waive(self, result: Result, report: pytest.TestReport) -> None:
        waiver = self._waivers.get(result.case)
        if waiver is None or result.outcome not in ("pass", "fail"):
            return
        if waiver.has_expired(self._today):
            result.detail = f"its waiver expired on {waiver.expires}"
        elif result.outcome == "fail":
            result.outcome = "waived"
            result.detail = f"{waiver.reason} ({waiver.issue}, until {waiver.expires})"
            report.outcome = "skipped"
            report.wasxfail = result.detail  # what pytest's own xfail does
        else:
            result.outcome = "fail"
            result.expected = "to fail, as its waiver says"
            result.came = "it passes: take the waiver out"
            report.outcome = "failed"
            report.longrepr = f"{result.case} passes, but is waived ({waiver.issue}): take the waiver out"


def waivers_of(config: pytest.Config) -> dict[str, Waiver]:
    """Read the waivers that a run was given."""
    path = config.getoption("--provider-waivers")
    if path is None:
        return {}
    try:
        return read_waivers(path, canonical_cases())
    except WaiverProblem as problem:
        raise pytest.UsageError(str(problem)) from problem


def is_canonical(item: pytest.Function) -> bool:
    """Tell whether an item runs the suite's own function, and not what a subclass put in its place."""
    name = item.originalname
    return getattr(item.cls, name, None) is getattr(ProviderConformance, name, item)


def target_of(nodeid: str) -> str:
    """Return the test class that an item belongs to."""
    return nodeid.rpartition("::")[0]


def result_data(result: Result) -> dict[str, Any]:
    """Return a result as plain data, which crosses processes."""
    return {name: getattr(result, name) for name in Result.__slots__}


def _short(value: object) -> str:
    return _short_text(repr(value))


def _short_text(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

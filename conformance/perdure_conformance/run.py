"""A run of cases in one process of pytest: the stores under test, and the judgement on each case."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from perdure.spi import PerdureError
from perdure_conformance.adapter import find_adapter
from perdure_conformance.bench import Bench, Session
from perdure_conformance.case import Case
from perdure_conformance.evidence import VacuousCase
from perdure_conformance.guard import Escaped, TimedOut, guarded
from perdure_conformance.honesty import NEGATIVE_CHECKS, declares
from perdure_conformance.recorder import UNEXPLAINED
from perdure_conformance.report import Outcome, Result, describe
from perdure_conformance.suite import ProviderConformance, canonical_cases
from perdure_conformance.waivers import Waiver, WaiverProblem, read_waivers
from perdure_conformance.wording import Wording, difference, text_of

__all__ = ["Run", "check_options", "waivers_of"]

_SUITE: Final = Path(__file__).parent
_CASES: Final = _SUITE / "cases"


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
        self._failed: dict[tuple[str, str, str], Result] = {}

    def session_of(self, item: pytest.Function) -> Session:
        """Return the store on which a case runs: that of its class, or of the URL that was given."""
        target = target_of(item)
        if target not in self._sessions:
            adapter = getattr(item.cls, "adapter", None)
            if adapter is None:
                url = self._config.getoption("--provider-url")
                if not url:
                    raise pytest.UsageError("say which provider is under test: --provider-url URL")
                adapter = find_adapter(url)
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

    def before_call(self, spec: Case, bench: Bench) -> str | None:
        """Run what is due before a case: the negative checks, if it doesn't apply.

        Returns:
            Why the case itself is not to be run; None if it is.
        """
        self._compared = None
        undeclared = [name for name in spec.requires if not declares(bench.capabilities, name)]
        for name in undeclared:
            NEGATIVE_CHECKS[name](bench)
        without = [hook for hook in spec.hooks if not bench.adapter.has(hook)]
        if undeclared:
            self._reason = reason = "n/a", f"{' and '.join(undeclared)} not declared"
        elif without:
            self._reason = reason = "not-run", f"hook {' and '.join(without)}"
        else:
            return None
        return ": ".join(reason)

    def note_comparison(self, op: str, left: object, right: object) -> None:
        """Keep what was compared by an assertion that failed."""
        came, expected = difference(left, right)
        self._compared = came, expected if op in ("==", "is") else f"{op} {expected}"

    def judge(
        self,
        item: pytest.Function,
        spec: Case,
        bench: Bench | None,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
    ) -> pytest.TestReport:
        """Put the result of a phase on its report, where it is one."""
        session = self._sessions.get(target_of(item))
        wording = Wording("" if session is None else session.adapter.url)
        result = self._result(item, spec, call, report, wording)
        if result is None:
            return report
        if bench is not None:
            result.seed = bench.seed
            result.calls = bench.evidence.calls.total()
        if result.outcome in ("fail", "error"):
            _reword(report, wording)
            if session is not None:
                # Nobody knows how the failure left the store.
                session.abandon()
        if call.when == "call":
            self._waive(result, spec, report)
        # What once failed has failed, also where somebody runs it again and tells nobody of the first time.
        key = target_of(item), result.case, result.variant
        if result.outcome in ("fail", "error"):
            self._failed[key] = result
        result = self._failed.get(key, result)
        if is_canonical(item):
            data = {name: getattr(result, name) for name in Result.__slots__}
            told = {"target": target_of(item), "case": result.case, "variant": result.variant, "result": data}
            report.user_properties.append(("conformance", told))
        return report

    def _result(
        self,
        item: pytest.Function,
        spec: Case,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        wording: Wording,
    ) -> Result | None:
        reason, self._reason = self._reason, None
        result = Result(case=spec.id, variant=variant_of(item), outcome="pass", seconds=call.duration)
        if report.skipped and reason is not None:
            result.outcome, result.detail = reason
        elif report.skipped:
            # By a mark, or somebody's fixture: whatever for, the case was not executed.
            result.outcome = "missing"
            marked = getattr(report, "wasxfail", None)
            skipped = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            result.detail = wording.clean(skipped if marked is None else f"marked xfail: {marked}")
        elif report.failed:
            result.outcome = "fail" if call.when == "call" else "error"
            self._explain(result, spec, call, report, wording.clean)
        elif call.when != "call":
            return None
        return result

    def _explain(
        self,
        result: Result,
        spec: Case,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        clean: Callable[[str], str],
    ) -> None:
        result.expected = spec.title
        if call.excinfo is None:  # it failed by a mark, as one of those that must fail
            result.came = clean(report.longreprtext)
            return
        info = call.excinfo
        error = info.value
        if isinstance(error, Escaped) and error.__cause__ is not None:
            info = pytest.ExceptionInfo.from_exception(error.__cause__)
            result.came = clean(f"raised {text_of(error)}")
        elif isinstance(error, AssertionError) and self._compared is not None:
            result.came, result.expected = map(clean, self._compared)
        elif isinstance(error, (AssertionError, pytest.fail.Exception, VacuousCase, TimedOut)):
            result.came = clean(text_of(error) or f"{UNEXPLAINED}: {str(info.traceback[-1].statement).strip()}")
        else:
            result.came = clean(f"raised {type(error).__name__}: {text_of(error)}")
        ours = [(Path(str(entry.path)), entry.lineno + 1) for entry in info.traceback]
        ours = [(path, line) for path, line in ours if path.is_relative_to(_SUITE)]
        # Rather the line of the case than that of a helper under it.
        of_cases = [(path, line) for path, line in ours if path.is_relative_to(_CASES)]
        for path, line in (of_cases or ours)[-1:]:
            result.where = f"{path.relative_to(_SUITE)}:{line}"

    def _waive(self, result: Result, spec: Case, report: pytest.TestReport) -> None:
        waiver = self._waivers.get(f"{result.case}[{result.variant}]") or self._waivers.get(result.case)
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
            if waiver.case == spec.id and result.variant:
                result.came = f"it passes: waive only those variants that fail, as {spec.id}[name]"
            report.outcome = "failed"
            report.longrepr = f"{result.case} is waived ({waiver.issue}), but {result.came}"


def check_options(config: pytest.Config) -> None:
    """Check the URL and the waivers that a run was given.

    Raises:
        pytest.UsageError: they can't be used.
    """
    waivers_of(config)
    url = config.getoption("--provider-url")
    if url:
        try:
            adapter = find_adapter(url)
            with guarded(adapter.patience):
                adapter.build(None)
        except PerdureError as error:
            raise pytest.UsageError(str(error)) from error
        except (Exception, SystemExit, TimedOut):
            # What it raises besides is for the report to tell.
            return


def waivers_of(config: pytest.Config) -> dict[str, Waiver]:
    """Read the waivers that a run was given."""
    file = config.getoption("--provider-waivers")
    if file is None:
        return {}
    variants = {f"{spec.id}[{variant}]" for spec in canonical_cases().values() for variant in spec.variants}
    try:
        return read_waivers(Path(file), canonical_cases().keys() | variants)
    except WaiverProblem as problem:
        raise pytest.UsageError(str(problem)) from problem


def is_canonical(item: pytest.Function) -> bool:
    """Tell whether an item runs the suite's own function, and not what somebody put in its place."""
    return item.function is getattr(ProviderConformance, item.originalname, None)


def target_of(item: pytest.Function) -> str:
    """Return the test class that an item belongs to."""
    return "" if item.parent is None else item.parent.nodeid


def variant_of(item: pytest.Function) -> str:
    """Return the variant in which an item runs its case."""
    return str(item.callspec.params.get("_variant", "")) if hasattr(item, "callspec") else ""


def _reword(report: pytest.TestReport, wording: Wording) -> None:
    # Only where it must be: pytest's own is in colours.
    text = report.longreprtext
    if wording.encodable(text) != text:
        report.longrepr = wording.encodable(text)
    report.sections = [(title, wording.encodable(content)) for title, content in report.sections]

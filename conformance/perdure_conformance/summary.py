"""A report as text that fits a screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import shorten
from typing import Final

from perdure_conformance import SUITE_VERSION
from perdure_conformance.case import Case
from perdure_conformance.invariants import INVARIANTS
from perdure_conformance.report import LevelResult, Outcome, Report, Result
from perdure_conformance.self_test import SelfTest
from perdure_conformance.suite import content_hash

__all__ = ["matrix_lines", "summary_lines", "verdict_lines"]

_WIDTH: Final = 110
_SHOWN: Final = 5
"""Failures told in full; the rest is named."""

_WORDS: Final[dict[Outcome, str]] = {
    "fail": "failed",
    "error": "in error",
    "missing": "not executed",
    "not-run": "not run",
    "waived": "waived",
    "n/a": "not applicable",
}


def verdict_lines(report: Report) -> Iterator[str]:
    """Yield what a run found out about one provider, a line for each level and the verdict."""
    yield f"{report.printable_url}  {_provider(report)}"
    for result in report.levels():
        yield f"  {result.level} {result.level.subject:<8} {_counts(result):<60} {_granted(result)}"
    yield _verdict(report)


def summary_lines(report: Report) -> Iterator[str]:
    """Yield the verdict with what led to it: failures, what was not run, what was waived."""
    yield f"suite {SUITE_VERSION} (content {content_hash()}), seed {report.seed}"
    yield from verdict_lines(report)
    cases = report.cases()
    bad = [
        (spec, result) for spec, outcome, results in cases if outcome in ("fail", "error") for result in _bad(results)
    ]
    for spec, result in bad[:_SHOWN]:
        yield ""
        yield from _failure(spec, result)
    if len(bad) > _SHOWN:
        yield ""
        yield _list("and these", list(dict.fromkeys(spec.id for spec, _ in bad[_SHOWN:])))
    for outcome, title in (("missing", "not executed"), ("not-run", "not run"), ("waived", "waived")):
        named = [_named(spec, results) for spec, found, results in cases if found == outcome]
        if named:
            yield _list(title, named)


def matrix_lines(test: SelfTest, problems: Sequence[str]) -> Iterator[str]:
    """Yield the kill matrix, a line for each mutant, and what is wrong with it."""
    yield f"suite {SUITE_VERSION} (content {content_hash()})"
    for result in test.results:
        mutant = result.mutant
        others = len(set(result.killers) - set(mutant.killed_by))
        by = "SURVIVES" if result.problem else f"killed by {', '.join(mutant.killed_by)}"
        yield f"{mutant.number:>4} {mutant.base:<6} {mutant.title:<70.70} {by}" + (f" and {others} more" * bool(others))
    killed = sum(result.problem is None for result in test.results)
    yield f"{killed} of {len(test.results)} mutants killed; cases that no mutant proves: {len(test.unproven)}"
    yield from problems


def _failure(spec: Case, result: Result) -> Iterator[str]:
    variant = f"[{result.variant}]" if result.variant else ""
    yield f"{result.outcome.upper()} {spec.id}{variant} {spec.title}"
    yield f"  expected  {_line(result.expected)}"
    yield f"  came      {_line(result.came)}"
    yield f"  {spec.invariants[0]:<8}  {INVARIANTS[spec.invariants[0]]}"
    detail = f", {result.detail}" if result.detail else ""
    yield f"  at {result.where}, run it alone with -k {spec.id}{detail}"


def _bad(results: list[Result]) -> list[Result]:
    return [result for result in results if result.outcome in ("fail", "error")]


def _provider(report: Report) -> str:
    about = report.provider
    if "error" in about:
        return f"can't be opened: {_line(about['error'])}"
    server = f" on {about['server']}" if about.get("server") else ""
    return f"{about['name']} {about['version']}{server}, SPI {about['spi']}"


def _counts(result: LevelResult) -> str:
    parts = [f"{result.counts.get('pass', 0)} of {result.total} passed"]
    parts += [f"{result.counts[outcome]} {word}" for outcome, word in _WORDS.items() if outcome in result.counts]
    return ", ".join(parts)


def _granted(result: LevelResult) -> str:
    if result.granted:
        return "granted"
    return "not granted" if result.applies else "does not apply"


def _verdict(report: Report) -> str:
    if not report.conformant:
        return "not conformant"
    granted = [result.level.value for result in report.levels() if result.granted]
    return f"conformant: {', '.join(granted)}"


def _named(spec: Case, results: list[Result]) -> str:
    detail = next((result.detail for result in results if result.detail), "")
    return f"{spec.id} ({detail})" if detail else spec.id


def _list(title: str, names: list[str]) -> str:
    return shorten(f"{title}: {', '.join(names)}", 4 * _WIDTH, placeholder=f" ... ({len(names)} in all)")


def _line(text: str) -> str:
    return shorten(text, 2 * _WIDTH, placeholder=" ...")

"""A report as text that fits a screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Final

from perdure_conformance import SUITE_VERSION
from perdure_conformance.case import Case
from perdure_conformance.invariants import INVARIANTS
from perdure_conformance.report import LevelResult, Outcome, Report, Result
from perdure_conformance.self_test import SelfTest
from perdure_conformance.suite import content_hash

__all__ = ["matrix_lines", "run_line", "summary_lines", "verdict_lines"]

_SCREEN: Final = 36
"""Lines. As many failures are told in full as there is room for; the rest is named."""

_WORDS: Final[dict[Outcome, str]] = {
    "fail": "failed",
    "error": "in error",
    "missing": "not executed",
    "not-run": "not run",
    "waived": "waived",
    "n/a": "not applicable",
}


def verdict_lines(report: Report, width: int) -> Iterator[str]:
    """Yield what a run found out about one provider, a line for each level and the verdict."""
    yield from _wrapped(f"{report.printable_url}  {_provider(report)}", width, lines=2)
    for result in report.levels():
        start = f"  {result.level} {result.level.subject:<8} {_granted(result):<14} "
        yield from _wrapped(_counts(result), width, lines=2, start=start)
    yield _verdict(report)


def run_line(report: Report) -> str:
    """Say which suite it was, and how to repeat what it generated."""
    return f"suite {SUITE_VERSION} (content {content_hash()}), seed {report.seed}"


def summary_lines(report: Report, width: int) -> Iterator[str]:
    """Yield the verdict with what led to it: failures, what was not run, what was waived."""
    head = [run_line(report), *verdict_lines(report, width)]
    tail = [line for outcome in _WORDS if outcome not in ("fail", "error") for line in _listed(report, outcome, width)]
    yield from head
    room = _SCREEN - len(head) - len(tail) - 2
    failures = _failures(report)
    for shown, alike in enumerate(failures):
        lines = ["", *_failure(alike, width)]
        room -= len(lines)
        if shown and room < 0:
            yield ""
            yield from _named("also failed", [spec.id for alike in failures[shown:] for spec, _ in alike], width)
            break
        yield from lines
    if tail:
        yield ""
        yield from tail


def matrix_lines(test: SelfTest, problems: Sequence[str], width: int) -> Iterator[str]:
    """Yield the kill matrix, a line for each mutant, and what is wrong with it."""
    yield f"suite {SUITE_VERSION} (content {content_hash()})"
    room = max(20, width - 52)
    for result in test.results:
        mutant = result.mutant
        others = len(set(result.killers) - set(mutant.killed_by))
        by = "SURVIVES" if result.problem else f"killed by {', '.join(mutant.killed_by)}"
        title = f"{mutant.title:<{room}.{room}}"
        yield f"{mutant.number:>4} {mutant.base:<6} {title} {by}" + (f" and {others} more" * bool(others))
    killed = sum(result.problem is None for result in test.results)
    unproven = f"; cases that no mutant proves: {len(test.unproven)}" if test.of_all_mutants else ""
    yield f"{killed} of {len(test.results)} mutants killed{unproven}"
    yield from problems


def _failures(report: Report) -> list[list[tuple[Case, Result]]]:
    """Return what failed, those together that failed alike: a provider that can't be opened fails them all."""
    alike: dict[tuple[str, ...], list[tuple[Case, Result]]] = {}
    for spec, _, results in report.cases():
        for result in results:
            if result.outcome in ("fail", "error"):
                where = "" if result.came.startswith("raised ") else result.where
                alike.setdefault((result.outcome, result.came, where), []).append((spec, result))
    return list(alike.values())


def _failure(alike: list[tuple[Case, Result]], width: int) -> Iterator[str]:
    (spec, result), *others = alike
    variant = f"[{result.variant}]" if result.variant else ""
    title = "" if result.expected == spec.title else spec.title
    yield from _wrapped(f"{result.outcome.upper()} {spec.id}{variant} {title}", width, lines=2)
    invariant = spec.invariants[0]
    for name, text in (("expected", result.expected), ("came", result.came), (invariant, INVARIANTS[invariant])):
        yield from _wrapped(text, width, lines=2, start=f"  {name:<8}  ")
    detail = f", {result.detail}" if result.detail else ""
    yield from _wrapped(f"{result.where}, run it alone with -k {spec.id}{detail}", width, lines=2, start="  at ")
    names = [name for name in dict.fromkeys(other.id for other, _ in others) if name != spec.id]
    if names:
        yield from _named("  alike", names, width)


def _listed(report: Report, outcome: Outcome, width: int) -> Iterator[str]:
    """Yield the cases of an outcome, those together that have it for the same reason."""
    named: dict[str, list[str]] = {}
    for spec, found, results in report.cases():
        if found == outcome:
            detail = next((result.detail for result in results if result.detail), "")
            named.setdefault(detail, []).append(spec.id)
    for detail, names in named.items():
        yield from _named(f"{_WORDS[outcome]}{f', {detail}' if detail else ''}", names, width)


def _named(title: str, names: list[str], width: int) -> list[str]:
    names = list(dict.fromkeys(names))
    placeholder = f" ... ({len(names)} in all)"
    return wrap(f"{title}: {', '.join(names)}", width, max_lines=2, placeholder=placeholder, subsequent_indent="    ")


def _wrapped(text: str, width: int, *, lines: int, start: str = "") -> list[str]:
    indent = " " * len(start)
    wrapped = wrap(
        text, width, initial_indent=start, subsequent_indent=indent, max_lines=lines, placeholder=" ...",
        break_on_hyphens=False,
    )  # fmt: skip
    return wrapped or [start.rstrip()]


def _provider(report: Report) -> str:
    about = report.provider
    if "error" in about:
        return str(about["error"])
    server = f" on {about['server']}" if about.get("server") else ""
    return f"{about['name']} {about['version']}{server}, SPI {about['spi']}"


def _counts(result: LevelResult) -> str:
    parts = [f"{result.counts.get('pass', 0)} of {result.total} passed"]
    parts += [f"{result.counts[outcome]} {word}" for outcome, word in _WORDS.items() if outcome in result.counts]
    return ", ".join(parts)


def _granted(result: LevelResult) -> str:
    if result.granted:
        return "granted"
    if not result.applies:
        return "does not apply"
    alone = result.counts.keys() <= {"pass", "n/a"}
    return f"needs {result.needs}" if result.needs is not None and alone else "not granted"


def _verdict(report: Report) -> str:
    if not report.conformant:
        return "not conformant"
    granted = [result.level.value for result in report.levels() if result.granted]
    return f"conformant: {', '.join(granted)}"

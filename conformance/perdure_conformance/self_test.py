"""The suite proven on its own broken providers: each passes the control case, and is found out by the cases named."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import count
from pathlib import Path
from traceback import walk_tb
from typing import Any, Final, Literal, TypeAlias

import pytest

from perdure_conformance import SUITE_VERSION, evidence
from perdure_conformance.adapter import Adapter, find_adapter
from perdure_conformance.bench import Bench, Session
from perdure_conformance.case import Case, cases_of
from perdure_conformance.guard import TimedOut, guarded
from perdure_conformance.honesty import NEGATIVE_CHECKS, declares
from perdure_conformance.mutant import Base, Mutant
from perdure_conformance.suite import ProviderConformance, content_hash

__all__ = ["CONTROL", "MutantResult", "SelfTest", "run_case", "run_mutant"]

CONTROL: Final = "LIF-01"
"""What every mutant must pass: one that can do nothing at all proves nothing."""

Verdict: TypeAlias = Literal["pass", "kill", "error", "n/a"]
"""`kill`: an assertion of the case, or a call of the provider, failed. `error`: anything else did."""

_numbers = count(1)


@dataclass(slots=True, kw_only=True)
class MutantResult:
    """What became of one mutant."""

    mutant: Mutant
    verdicts: dict[str, Verdict]
    """By case, of those that were run."""
    reasons: dict[str, str]
    """By case that didn't pass: the first line of why."""

    @property
    def problem(self) -> str | None:
        """What is wrong with it; None if it was killed as it must be."""
        if self.verdicts[CONTROL] != "pass":
            return f"is broken: it fails the control case {self._told(CONTROL)}"
        spared = [self._told(case) for case in self.mutant.killed_by if self.verdicts.get(case) != "kill"]
        return f"survives {', '.join(spared)}" if spared else None

    def _told(self, case: str) -> str:
        verdict = self.verdicts.get(case, "there is no such case")
        return f"{case} ({verdict}{f': {reason}' if (reason := self.reasons.get(case)) else ''})"

    @property
    def killers(self) -> list[str]:
        """The cases that killed it."""
        return [case for case, verdict in self.verdicts.items() if verdict == "kill"]


@dataclass(slots=True, kw_only=True)
class SelfTest:
    """The kill matrix, and what it says of the suite."""

    of_all_mutants: bool = True
    """Else what is found says nothing of the cases."""
    results: list[MutantResult] = field(default_factory=list)

    @property
    def unproven(self) -> list[str]:
        """Cases that no mutant proves: none that names them is killed by them. The control case is proven by all."""
        proven = {case for result in self.results for case in result.killers if case in result.mutant.killed_by}
        return sorted({spec.id for spec, _ in cases_of(ProviderConformance)} - proven - {CONTROL})

    def problems(self) -> Iterator[str]:
        """Yield what must be mended, a line each."""
        for result in self.results:
            if result.problem is not None:
                yield f"mutant {result.mutant.number} {result.mutant.name} {result.problem}"
        if not self.of_all_mutants:
            return
        listed = unproven_cases()
        for case in self.unproven:
            if case not in listed:
                yield f"{case} is proven by no mutant: write one (the list of those that aren't may only shrink)"
        for case in sorted(listed - set(self.unproven)):
            yield f"{case} is proven by a mutant now: take it out of mutants/unproven.txt"

    def document(self) -> dict[str, Any]:
        """Return the matrix as JSON data."""
        return {
            "kill_matrix": 1,
            "suite": {"version": SUITE_VERSION, "content": content_hash()},
            "mutants": [
                {
                    "number": result.mutant.number,
                    "name": result.mutant.name,
                    "title": result.mutant.title,
                    "source": result.mutant.source,
                    "base": result.mutant.base,
                    "must_be_killed_by": result.mutant.killed_by,
                    "killed_by": result.killers,
                    "problem": result.problem,
                }
                for result in self.results
            ],
            "unproven": self.unproven if self.of_all_mutants else None,
        }


def unproven_cases() -> set[str]:
    """Return the ids of the cases that no mutant is known to prove."""
    text = files("perdure_conformance").joinpath("mutants/unproven.txt").read_text(encoding="utf-8")
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {line for line in lines if line}


def run_mutant(mutant: Mutant, *, whole: bool = False) -> MutantResult:
    """Run on a mutant the control case and those that must kill it; as a whole row all others too, but slow ones."""
    wanted = {CONTROL, *mutant.killed_by}
    result = MutantResult(mutant=mutant, verdicts={}, reasons={})
    _use_once(mutant.base)
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        mutant.apply(patch)
        # What is generated differs from one installation to the next: a kill must not be left to a few examples.
        session = Session(_adapter(mutant.base, Path(directory)), hunting=True)
        try:
            for spec, function in cases_of(ProviderConformance):
                if spec.id in wanted or (whole and not spec.slow):
                    verdict, reason = _run_variants(session, spec, function)
                    result.verdicts[spec.id] = verdict
                    if reason:
                        result.reasons[spec.id] = reason
        finally:
            session.abandon()
    return result


@cache
def _use_once(base: Base) -> None:
    """Have a provider import all of itself: a module first imported under a patch would keep what it took from it."""
    with tempfile.TemporaryDirectory() as directory:
        session = Session(_adapter(base, Path(directory)))
        Bench(session).clear()
        session.close()


def _adapter(base: Base, directory: Path) -> Adapter:
    if base == "memory":
        return find_adapter(f"memory://mutant-{next(_numbers)}")
    return find_adapter(f"sqlite:///{directory}/mutant.db")


def _run_variants(session: Session, spec: Case, function: Callable[[Any, Bench], None]) -> tuple[Verdict, str]:
    verdict: Verdict = "n/a"
    for variant in spec.variants:
        verdict, reason = run_case(session, spec, function, variant)
        if verdict in ("kill", "error"):
            return verdict, reason
    return verdict, ""


def run_case(session: Session, spec: Case, function: Callable[[Any, Bench], None], variant: str) -> tuple[Verdict, str]:
    """Run one case in one variant without pytest around it, and say why it failed if it did."""
    try:
        with guarded(session.adapter.patience), _bench(session, spec, variant) as bench:
            undeclared = [name for name in spec.requires if not declares(bench.capabilities, name)]
            for name in undeclared:
                NEGATIVE_CHECKS[name](bench)
            if undeclared or not all(bench.adapter.has(hook) for hook in spec.hooks):
                return "n/a", ""
            function(ProviderConformance(), bench)
            bench.finish()
    except (AssertionError, pytest.fail.Exception, TimedOut) as error:
        session.abandon()
        return "kill", _first_line(error)
    except (Exception, SystemExit, GeneratorExit) as error:
        session.abandon()
        # What the provider raises at a call that should have worked is found out by the case that makes the call.
        in_call = any(frame.f_code.co_filename == evidence.__file__ for frame, _ in walk_tb(error.__traceback__))
        is_vacuous = isinstance(error, evidence.VacuousCase)
        return ("kill" if in_call and not is_vacuous else "error"), _first_line(error)
    return "pass", ""


@contextmanager
def _bench(session: Session, spec: Case, variant: str) -> Iterator[Bench]:
    bench = Bench(session, seed=session.case_seed(spec.id, variant), variant=variant)
    try:
        yield bench
    finally:
        bench.clear()


def _first_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).splitlines()
    # Without pytest around it an assertion says nothing but where it stands.
    places = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    where = "".join(f" at {path.name}:{line}" for path, line in places if path.parent.name == "cases")
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}{where}"

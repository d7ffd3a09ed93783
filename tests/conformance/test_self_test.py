"""The suite is proven on broken providers: what is wrong with one of them, or with a case, is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.conftest import Project

from perdure.spi import Outcome
from perdure_conformance import self_test
from perdure_conformance.mutant import Mutant, mutant
from perdure_conformance.self_test import MutantResult, SelfTest, run_mutant
from perdure_conformance.summary import matrix_lines
from perdure_memory import MemoryProvider, instances
from perdure_memory.hub import MemoryHub

pytestmark = pytest.mark.usefixtures("_small_suite")


@mutant("1", "SML-02", source="a test")
def loses_the_input(patch: pytest.MonkeyPatch) -> None:
    """The input of an instance is lost."""
    create = instances.create_instance

    def forget(state: Any, new: Any, *rest: Any) -> Any:
        outcome = create(state, new, *rest)
        state.instances[new.id].input = None
        return outcome

    patch.setattr(instances, "create_instance", forget)


@mutant("2", "SML-02", source="a test")
def does_nothing_wrong(patch: pytest.MonkeyPatch) -> None:
    """It is correct."""


@mutant("3", "SML-02", source="a test")
def does_nothing_at_all(patch: pytest.MonkeyPatch) -> None:
    """It creates nothing."""
    patch.setattr(MemoryHub, "create_instances", lambda self, new: [Outcome.EXISTS for _ in new])


@mutant("4", "SML-04", source="a test")
def breaks_the_bench(patch: pytest.MonkeyPatch) -> None:
    """It raises where no case has called."""
    hub = MemoryProvider.hub
    calls: list[str] = []

    def once_too_often(self: MemoryProvider, name: str) -> Any:
        calls.append(name)
        if len(calls) == 2:
            raise RuntimeError("no more hubs")
        return hub(self, name)

    patch.setattr(MemoryProvider, "hub", once_too_often)


@mutant("5", "SML-02", source="a test")
def raises_in_a_call(patch: pytest.MonkeyPatch) -> None:
    """It raises where a case called."""

    def refuse(self: MemoryHub, *_: Any, **__: Any) -> Any:
        raise RuntimeError("not today")

    patch.setattr(MemoryHub, "get_instances", refuse)


@mutant("6", "XYZ-01", source="a test")
def is_found_by_a_case_that_is_not_there(patch: pytest.MonkeyPatch) -> None:
    """It names a case that there is not."""


def made(function: Any) -> Mutant:
    found: Mutant = function.__conformance_mutant__
    return found


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (loses_the_input, None),
        (raises_in_a_call, None),
        (does_nothing_wrong, "survives SML-02 (pass)"),
        (does_nothing_at_all, "is broken: it fails the control case LIF-01 (kill: AssertionError"),
        (breaks_the_bench, "survives SML-04 (error: RuntimeError: no more hubs)"),
        (is_found_by_a_case_that_is_not_there, "survives XYZ-01 (there is no such case)"),
    ],
)
def test_a_mutant_is_killed_by_an_assertion_of_the_case_named(function: Any, problem: str | None) -> None:
    result = run_mutant(made(function))
    assert result.problem == problem or (problem and str(result.problem).startswith(problem)), result


def test_a_row_holds_what_must_kill_it_and_a_whole_one_all_cases() -> None:
    result = run_mutant(made(loses_the_input))
    assert result.verdicts == {"LIF-01": "pass", "SML-02": "kill"}
    assert result.killers == ["SML-02"]
    assert run_mutant(made(loses_the_input), whole=True).verdicts["SML-05"] == "n/a"


def test_the_list_of_cases_that_nothing_proves_is_held_to_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    test = SelfTest(results=[run_mutant(made(loses_the_input))])
    assert test.unproven == ["SML-03", "SML-04", "SML-05", "SML-06"]
    monkeypatch.setattr(self_test, "unproven_cases", lambda: {"SML-02", "SML-03", "SML-04", "SML-05"})
    assert list(test.problems()) == [
        "SML-06 is proven by no mutant: write one (the list of those that aren't may only shrink)",
        "SML-02 is proven by a mutant now: take it out of mutants/unproven.txt",
    ]
    assert list(SelfTest(results=test.results, of_all_mutants=False).problems()) == []
    monkeypatch.setattr(self_test, "unproven_cases", lambda: set(test.unproven))
    assert list(test.problems()) == []


def test_the_matrix_says_who_killed_whom() -> None:
    test = SelfTest(results=[run_mutant(made(function)) for function in (loses_the_input, does_nothing_wrong)])
    problems = list(SelfTest(results=test.results, of_all_mutants=False).problems())
    _, killed, survivor, total, problem = matrix_lines(test, problems, 80)
    assert " ".join(killed.split()) == "1 memory The input of an instance is killed by SML-02"
    assert survivor.endswith("SURVIVES")
    assert total == "1 of 2 mutants killed; cases that no mutant proves: 4"
    assert problem == "mutant 2 does_nothing_wrong survives SML-02 (pass)"
    first, second = test.document()["mutants"]
    assert (first["killed_by"], first["problem"]) == (["SML-02"], None)
    assert (second["killed_by"], second["problem"]) == ([], "survives SML-02 (pass)")
    json.dumps(test.document())
    some = SelfTest(results=test.results, of_all_mutants=False)
    assert list(matrix_lines(some, problems, 80))[-2] == "1 of 2 mutants killed"
    assert some.document()["unproven"] is None


def test_a_mutant_says_what_it_does_wrong_and_what_must_find_it() -> None:
    def silent(patch: pytest.MonkeyPatch) -> None: ...

    with pytest.raises(TypeError, match="doesn't say what it does wrong"):
        mutant("1", "LIF-01", source="a test")(silent)
    with pytest.raises(TypeError, match="what must find it"):
        mutant("1", source="a test")(loses_the_input)
    found = made(loses_the_input)
    assert [found.is_called(keyword) for keyword in ("1", "input", "SML-02", "2", "LIF")] == [True] * 3 + [False] * 2


def test_a_mutants_mistake_is_taken_back() -> None:
    before = instances.create_instance
    run_mutant(made(loses_the_input))
    assert instances.create_instance is before
    assert isinstance(run_mutant(made(does_nothing_wrong)), MutantResult)


def test_the_command_runs_one_mutant_by_its_number_or_case(project: Project, tmp_path: Path) -> None:
    done = project.perdure("conformance", "--self-test", "-k", "56")
    assert "56 memory" in done.stdout
    assert "killed by LIF-03" in done.stdout
    document = project.perdure("conformance", "--self-test", "-k", "LIF-03", "--json").json
    assert "56" in [entry["number"] for entry in document["mutants"]]
    assert list(tmp_path.iterdir()) == []
    project.perdure("conformance", "--self-test", "-k", "56", "--report", "row.json")
    assert [entry["number"] for entry in json.loads((tmp_path / "row.json").read_text())["mutants"]] == ["56"]

"""`perdure conformance` as people meet it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.broken import PASSWORD
from tests.conformance.conftest import Project
from tests.e2e.command import eventually

from perdure.cli import main

CASES = ("-k", "LIF-01 or LIF-02 or LIF-03 or CRA-17")


def ran(report: Any) -> dict[str, str]:
    return {case["id"]: case["outcome"] for case in report["cases"] if case["outcome"] != "missing"}


def test_the_ways_to_run_it_agree(project: Project, tmp_path: Path) -> None:
    project.write(
        test_mine="""
from perdure_conformance import Adapter, ProviderConformance
class TestMine(ProviderConformance): adapter = Adapter("memory://mine")
"""
    )
    chosen = (*CASES, "--provider-seed", "7")
    project.pytest("-q", *chosen, "--provider-report", "mine.json")
    given = ("--provider-url", "memory://theirs", "-p", "perdure_conformance.plugin", "--pyargs", "perdure_conformance")
    project.pytest("-q", *chosen, *given, "--provider-report", "theirs.json")
    project.pytest("-q", *chosen, *given, "--provider-report", "parallel.json", "-n", "2")
    project.perdure("conformance", "memory://t", *CASES, "--seed", "7", "--report", "command.json", code=1)
    reports = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("mine", "theirs", "parallel")}
    command = json.loads((tmp_path / "command.json").read_text())
    expected = {"LIF-01": "pass", "LIF-02": "pass", "LIF-03": "pass", "CRA-17": "n/a"}
    assert ran(command) == expected

    def results(report: Any) -> Any:
        for case in report["cases"]:
            for result in case["results"]:
                result.pop("seconds", None)
        return report["cases"], report["levels"], report["suite"], report["provider"], report["conformant"]

    for report in reports.values():
        assert report["run"]["seed"] == 7
        assert results(report) == results(command)


def test_it_runs_in_processes_and_writes_what_was_asked_for(project: Project, tmp_path: Path) -> None:
    done = project.perdure(
        "conformance", "memory://t", *CASES, "-n", "2", "--junit", "junit.xml", "--json", "--level", "L0", code=1
    )
    assert done.stderr == ""
    assert ran(done.json) == {"LIF-01": "pass", "LIF-02": "pass", "LIF-03": "pass"}
    assert [level["level"] for level in done.json["levels"]] == ["L0"]
    suite = ET.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.attrib["tests"] == "3"


def test_it_leaves_nothing_behind_and_minds_nothing_that_lies_around(project: Project, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '--nonsense'\n")
    project.write(conftest="raise SystemExit('never loaded')")
    project.environment |= {"PYTEST_ADDOPTS": "--collect-only", "PYTEST_PLUGINS": "nonsense"}
    before = sorted(path.name for path in tmp_path.iterdir())
    done = project.perdure("conformance", "memory://t", "-k", "LIF-01 or MOD-01", "--json", code=1)
    assert ran(done.json) == {"LIF-01": "pass", "MOD-01": "pass"}
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("what", ["raises", "empty", "agrees", "cancelled", "mute", "unbuilt"])
def test_a_provider_that_does_nothing_is_not_conformant(project: Project, what: str) -> None:
    project.install_broken()
    # The whole suite on one of them; on the others what is enough to see that it is so.
    chosen = () if what == "empty" else ("-k", "LIF")
    done = project.perdure("conformance", f"broken://{what}", *chosen, code=1)
    assert "\nnot conformant\n" in done.stdout
    assert " granted " not in done.stdout.replace("not granted", "")
    assert len(done.stdout.splitlines()) <= 40
    assert "  expected  " in done.stdout
    assert "  came      " in done.stdout
    assert done.stderr == ""


def test_a_provider_that_skips_is_not_conformant(project: Project) -> None:
    project.install_broken()
    done = project.perdure("conformance", "broken://skip", "-k", "LIF-01", code=1)
    assert "came      raised Skipped: not in the mood" in done.stdout
    assert "at cases/lifecycle.py:" in done.stdout
    assert "-k LIF-01" in done.stdout


def test_a_failure_is_told_with_what_was_expected_and_what_came(project: Project) -> None:
    project.install_broken()
    project.environment["PYTHONIOENCODING"] = "ascii"
    done = project.perdure("conformance", "broken://long", "-k", "LIF-01", code=1)
    failure = done.stdout.partition("\n\n")[2].splitlines()
    assert failure[0].startswith("FAIL LIF-01 An instance is created")
    assert failure[1] == "  expected  [<Outcome.OK: 'ok'>]"
    assert failure[2].startswith("  came      [<Outcome.OK: 'ok'>, <Outcome.OK: 'ok'>")
    assert failure[4].startswith("  I4        A commit is applied whole")
    assert all(len(line) <= 110 for line in done.stdout.splitlines())
    odd = project.perdure("conformance", "broken://odd", "-k", "LIF-01", code=1)
    assert r"came      raised ValueError: \ud800 \x1b[31m \u4e2d long" in odd.stdout


def test_what_is_run_once_more_is_told_apart_from_the_run(project: Project, tmp_path: Path) -> None:
    project.install_broken()
    chosen = ("conformance", "broken://first_process", "-k", "LIF-01", "--report", "report.json")
    done = project.perdure(*chosen, code=1)
    assert "came      an assertion failed: assert " in done.stdout
    assert "it passed when it was run again" in done.stdout
    (tmp_path / "first").unlink()
    (tmp_path / "waivers.toml").write_text(
        '[[waiver]]\ncase = "LIF-01"\nreason = "slow disk"\nissue = "#12"\nexpires = 9999-12-31\n'
    )
    project.perdure(*chosen, "--waivers", "waivers.toml", code=1)
    report = json.loads((tmp_path / "report.json").read_text())
    (result,) = next(case for case in report["cases"] if case["id"] == "LIF-01")["results"]
    assert result["outcome"] == "waived"
    assert result["came"].startswith("an assertion failed: assert ")
    assert result["detail"] == "slow disk (#12, until 9999-12-31), it passed when it was run again"


def test_what_is_run_once_more_imports_what_the_run_imported(project: Project) -> None:
    project.install_broken()
    project.write(secrets="raise RuntimeError('never imported')")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "perdure", "conformance", "broken://long", "-k", "LIF-01"],
        cwd=project.directory,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "came      [<Outcome.OK: 'ok'>, " in done.stdout


def test_a_password_is_neither_printed_nor_written(project: Project, tmp_path: Path) -> None:
    project.install_broken()
    done = project.perdure(
        *("conformance", f"broken://u:{PASSWORD}@leak", "-k", "LIF-01"),
        *("--report", "report.json", "--junit", "junit.xml"),
        code=1,
    )
    assert "broken://u:***@leak" in done.stdout
    printed = project.pytest(
        *("--pyargs", "perdure_conformance", "--provider-url", f"broken://u:{PASSWORD}@leak", "-k", "LIF-01"), code=1
    )
    written = [(tmp_path / name).read_text() for name in ("report.json", "junit.xml")]
    for text in (done.stdout, done.stderr, printed.stdout, printed.stderr, *written):
        assert PASSWORD not in text
        assert "can't reach" in text or not text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere://t"], 3, "there is no provider for nowhere://"),
        (["sqlite:////no/such/directory/x.db"], 3, "/no/such/directory/x.db"),
        (["nonsense"], 2, "'nonsense' is not a provider URL"),
        (["memory://t?op_colour=red"], 2, "unknown parameter op_colour"),
        ([], 2, "say which provider is under test"),
        (["memory://t", "--level", "L9"], 2, "invalid choice: 'L9'"),
        (["memory://t", "-n", "0"], 2, "a whole number from 1 on"),
        (["memory://t", "--report", "none/report.json"], 2, "there is no directory none"),
        (["memory://t", "--junit", "none/junit.xml"], 2, "there is no directory none"),
        (["memory://t", "--report", "."], 2, ". is a directory"),
        (["memory://t", "--self-test"], 2, "leave the URL out"),
        (["--self-test", "-k", "no such mutant"], 2, "no mutant has 'no such mutant'"),
        (["--self-test", "--report", "none/matrix.json"], 2, "there is no directory none"),
        (["--self-test", "--level", "L0"], 2, "--level is for a run on a provider"),
        (["--self-test", "-n", "2"], 2, "--self-test runs in one process"),
    ],
)
def test_mistakes_are_told_in_a_line(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert main(["conformance", *words]) == code
    stdout, stderr = capsys.readouterr()
    assert message in stderr
    assert stdout == ""
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-k", "XYZ-99"], "no case was run"),
        (["-k", "LIF and"], "Wrong expression"),
        (["--waivers", "none.toml"], "none.toml can't be read"),
    ],
)
def test_mistakes_that_pytest_finds_are_told_in_a_line(project: Project, words: list[str], message: str) -> None:
    failed = project.perdure("conformance", "memory://t", *words, code=2)
    assert message in failed.stderr
    assert failed.stdout == ""
    assert len(failed.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say which provider is under test: --provider-url URL"),
        (["--provider-url", "nowhere://t"], "there is no provider for nowhere://"),
        (["--provider-url", "memory://t", "--provider-level", "L9"], "--provider-level: invalid"),
        (["--provider-url", "memory://t", "--provider-report", "none/report.json"], "there is no directory none"),
        (["--provider-url", "memory://t", "--provider-waivers", "none.toml"], "none.toml can't be read"),
    ],
)
def test_pytest_tells_mistakes_before_it_runs_anything(project: Project, words: list[str], message: str) -> None:
    failed = project.pytest("--pyargs", "perdure_conformance", *words, code=4)
    assert message in failed.stderr
    assert "passed" not in failed.stdout


@pytest.mark.parametrize("processes", [[], ["-n", "2"]])
def test_a_report_is_of_one_provider(project: Project, processes: list[str]) -> None:
    project.write(
        test_two="""
from perdure_conformance import Adapter, ProviderConformance
class TestOne(ProviderConformance): adapter = Adapter("memory://one")
class TestTwo(ProviderConformance): adapter = Adapter("memory://two")
"""
    )
    failed = project.pytest("-q", "-k", "LIF-01", "--provider-report", "report.json", *processes, code=4)
    assert "test_two.py::TestOne, test_two.py::TestTwo" in failed.stderr
    done = project.pytest("-q", "-k", "LIF-01", *processes)
    assert "memory://one  memory" in done.stdout
    assert "memory://two  memory" in done.stdout
    assert done.stdout.count(", seed ") == 1


def test_a_report_of_a_former_run_is_not_taken_for_this_ones(project: Project, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text('{"conformant": true}')
    project.perdure("conformance", "memory://t", "-k", "XYZ-99", "--report", "report.json", code=2)
    assert report.read_text() == ""


def test_a_missing_dependency_is_named_with_the_cure(project: Project) -> None:
    project.write(sitecustomize="import sys\nsys.modules['pytest'] = None\n")
    project.environment["PYTHONPATH"] = f"{project.directory}{os.pathsep}{project.environment['PYTHONPATH']}"
    failed = project.perdure("conformance", "memory://t", code=2)
    assert failed.stderr == 'error: the conformance suite needs pytest; run: pip install "perdure[conformance]"\n'
    project.write(sitecustomize="import sys\nsys.modules['xdist'] = None\n")
    failed = project.perdure("conformance", "memory://t", "-n", "2", code=2)
    assert failed.stderr == 'error: -n needs pytest-xdist; run: pip install "perdure[conformance]"\n'


def test_without_assertions_nothing_is_proven(project: Project) -> None:
    project.environment["PYTHONOPTIMIZE"] = "1"
    done = project.perdure("conformance", "memory://t", "-k", "LIF-01", code=1)
    assert "python -O takes the assertions out" in done.stdout
    failed = project.perdure("conformance", "--self-test", code=2)
    assert "python -O takes the assertions out" in failed.stderr


def test_on_a_terminal_there_is_a_bar_and_the_summary_fits_it(project: Project) -> None:
    project.install_broken()
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure", "conformance", "broken://odd", "-k", "LIF-1"],
        cwd=project.directory,
        env={**project.environment, "TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    written = b""
    while True:
        try:
            part = os.read(controller, 65_536)
        except OSError:  # what Linux answers once the other side is closed
            break
        if not part:
            break
        written += part
    os.close(controller)
    assert process.wait(20) == 1
    bar, _, summary = written.decode().partition("suite 0.1")
    assert "conformance" in bar
    assert "failed" in bar
    lines = summary.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in summary


def test_ctrl_c_ends_it(project: Project) -> None:
    project.install_broken()
    with project.start(
        "perdure", "conformance", "broken://hang", "-k", "LIF-01", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        eventually((project.directory / "hanging").exists)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr

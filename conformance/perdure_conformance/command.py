"""`perdure conformance`: runs the suite and prints what it found out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, track

import perdure_conformance
from perdure.spi import PerdureError
from perdure_conformance.adapter import find_adapter
from perdure_conformance.recorder import Recorder
from perdure_conformance.report import Report
from perdure_conformance.summary import matrix_lines, summary_lines

__all__ = ["run_self_test", "run_suite"]

_PASSED: Final = 0
_NOT_CONFORMANT: Final = 1
_USAGE: Final = 2


def run_suite(arguments: argparse.Namespace) -> int:
    """Run the suite on one provider.

    Returns:
        0 if every required case of the levels asked for passed, 1 if not, 2 for a mistake in the arguments.

    Raises:
        ProviderError: the provider can't be found, or its store can't be reached.
    """
    # Before anything else, so that a wrong URL is one line and not three hundred failures.
    try:
        with find_adapter(arguments.url).build(None):
            pass
    except PerdureError:
        raise
    except Exception as error:
        # Whatever else it raises is for the report to tell.
        del error
    watcher = Watcher(quiet=arguments.json)
    code = pytest.main(_pytest_arguments(arguments), plugins=[watcher])
    report = watcher.report
    if report is None:
        if code == pytest.ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        print("error: no case was run; see -k and --level", file=sys.stderr)
        return _USAGE
    if arguments.json:
        print(json.dumps(report.document(), indent=2))
    else:
        for line in summary_lines(report):
            print(line)
    return _PASSED if report.conformant else _NOT_CONFORMANT


def run_self_test(arguments: argparse.Namespace) -> int:
    """Run the suite on its own broken providers, print the kill matrix and write it as JSON.

    With a keyword only the mutants of that number, name or case are run, and only the cases that must kill them.

    Returns:
        0 if each was found out as it must be, 1 if not.
    """
    from perdure_conformance.mutants import all_mutants  # noqa: PLC0415
    from perdure_conformance.self_test import SelfTest, run_mutant  # noqa: PLC0415

    test = SelfTest()
    keyword = arguments.keyword
    mutants = [mutant for mutant in all_mutants() if keyword is None or mutant.is_called(keyword)]
    console = Console(stderr=True)
    for mutant in track(mutants, "mutants", console=console, disable=arguments.json or not console.is_terminal):
        test.results.append(run_mutant(mutant, only_named=keyword is not None))
    problems = list(test.problems(whole=keyword is None))
    if keyword is not None:
        print(*matrix_lines(test, problems), sep="\n")
        return _NOT_CONFORMANT if problems or not mutants else _PASSED
    path = Path(arguments.report or "kill-matrix.json")
    path.write_text(json.dumps(test.document(), indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(test.document(), indent=2))
    else:
        for line in matrix_lines(test, problems):
            print(line)
        print(f"the kill matrix is in {path}")
    return _NOT_CONFORMANT if problems else _PASSED


def _pytest_arguments(arguments: argparse.Namespace) -> list[str]:
    # Nothing of the directory we happen to be in: neither its configuration nor its conftest.
    root = Path(perdure_conformance.__file__).parent
    chosen = ["-c", os.devnull, f"--rootdir={root}", str(root / "test_provider.py")]
    chosen += ["-p", "perdure_conformance.plugin", "-p", "no:terminal", "-p", "no:cacheprovider"]
    chosen += [f"--provider-url={arguments.url}", f"--provider-level={arguments.level}"]
    if arguments.workers > 1:
        chosen += ["-n", str(arguments.workers)]
    if arguments.keyword:
        chosen += ["-k", arguments.keyword]
    if arguments.junit:
        chosen += [f"--junitxml={arguments.junit}"]
    for name in ("report", "waivers", "seed"):
        value = getattr(arguments, name)
        if value is not None:
            chosen.append(f"--provider-{name}={value}")
    if arguments.full:
        chosen.append("--provider-full")
    return chosen


class Watcher:
    """A plugin of pytest in place of its terminal: a bar, and in the end the report.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._recorder: Recorder | None = None
        self._failed = 0
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}"),
            TimeElapsedColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("conformance", total=None, failed="")

    @property
    def report(self) -> Report | None:
        """The report, once the session has finished; None where no case was run."""
        return None if self._recorder is None else next(iter(self._recorder.reports.values()), None)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Show the bar."""
        self._recorder = session.config.pluginmanager.get_plugin("perdure-conformance-recorder")
        self._progress.start()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn how long the bar is."""
        if session.items:
            self._progress.update(self._task, total=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Learn how long the bar is where other processes run the cases."""
        self._progress.update(self._task, total=len(ids))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Move the bar on."""
        if report.failed:
            self._failed += 1
            self._progress.update(self._task, failed=f"[red]{self._failed} failed[/]")
        if report.when == "teardown":
            self._progress.advance(self._task)

    def pytest_sessionfinish(self) -> None:
        """Take the bar away."""
        self._progress.stop()

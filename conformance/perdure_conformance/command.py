"""`perdure conformance`: runs the suite and prints what it found out."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Self

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, track

import perdure_conformance
from perdure.cli.problems import UsageProblem
from perdure.spi import PerdureError
from perdure_conformance.adapter import find_adapter
from perdure_conformance.case import NO_ASSERTIONS
from perdure_conformance.guard import TimedOut, guarded
from perdure_conformance.recorder import RECORDER, UNEXPLAINED, Recorder, problem_with_writing

# Nothing that imports the cases may be imported here: pytest must rewrite their assertions first.
if TYPE_CHECKING:
    from perdure_conformance.report import Report

__all__ = ["run_self_test", "run_suite"]

_WIDTH: Final = 110
"""Columns, where there is no terminal that has them."""

_PASSED: Final = 0
_NOT_CONFORMANT: Final = 1
_USAGE: Final = 2


def run_suite(arguments: argparse.Namespace) -> int:
    """Run the suite on one provider.

    Returns:
        0 if every required case of the levels asked for passed, 1 if not, 2 for a mistake in the arguments.

    Raises:
        UsageProblem: something that was asked for can't be done.
        ProviderError: the provider can't be found, or its store can't be reached.
    """
    # Before anything else, so that a mistake is one line, and neither three hundred failures nor the end of a run.
    _check_files(arguments.report, arguments.junit)
    if arguments.workers > 1 and find_spec("xdist") is None:
        raise UsageProblem('-n needs pytest-xdist; run: pip install "perdure[conformance]"')
    _try_to_open(arguments.url)
    with Watcher(quiet=arguments.json) as watcher, _alone():
        chosen = _pytest_arguments(arguments)
        if not arguments.junit:
            # To have pytest rewrite the assertions of all cases takes a third of the time.
            chosen.append("--assert=plain")
        code = pytest.main(chosen, plugins=[watcher])
        if watcher.report is not None and not watcher.interrupted:
            _explain(arguments, watcher.report)
    if watcher.interrupted:
        raise KeyboardInterrupt
    report = watcher.report
    if report is None:
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            print("error: no case was run; see -k and --level", file=sys.stderr)
        return _USAGE
    if arguments.json:
        print(json.dumps(report.document(), indent=2))
    else:
        from perdure_conformance.summary import summary_lines  # noqa: PLC0415

        for line in summary_lines(report, _width()):
            print(line)
    return _PASSED if report.conformant else _NOT_CONFORMANT


def _explain(arguments: argparse.Namespace, report: Report) -> None:
    """Run what failed once more, in a process where assertions say what they compared.

    Only what is said of a failure is taken from there: what became of a case stays as it was.
    """
    unexplained = {(found.case, found.variant): found for found in report.results if found.came.startswith(UNEXPLAINED)}
    if not unexplained:
        return
    cases = " or ".join(dict.fromkeys(case for case, _ in unexplained))
    with TemporaryDirectory() as directory:
        path = Path(directory) / "report.json"
        changed = {"keyword": cases, "workers": 1, "junit": None, "waivers": None, "report": path}
        changed["seed"] = report.seed
        again = _pytest_arguments(argparse.Namespace(**{**vars(arguments), **changed}))
        subprocess.run(  # noqa: S603 - ourselves, with what we were given
            [sys.executable, "-P", "-m", "pytest", *again],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    for case in json.loads(text)["cases"] if text else ():
        for told in case["results"]:
            found = unexplained.get((case["id"], told.get("variant", "")))
            if found is None:
                continue
            if told["outcome"] == "pass":
                found.detail = ", ".join(filter(None, (found.detail, "it passed when it was run again")))
            elif told["outcome"] == "fail":
                found.came, found.expected = told["came"], told["expected"]
                found.where = told.get("where", found.where)
    if arguments.report:
        Path(arguments.report).write_text(json.dumps(report.document(), indent=2) + "\n", encoding="utf-8")


def run_self_test(arguments: argparse.Namespace) -> int:
    """Run the suite on its own broken providers, print the kill matrix and write it as JSON.

    A row of the matrix holds the control case and those that must kill the mutant; in a full run all but the slow ones.
    With a keyword only the mutants of that number, name or case are run, which says nothing of all cases.

    Returns:
        0 if each was found out as it must be, 1 if not.

    Raises:
        UsageProblem: something that was asked for can't be done.
    """
    from perdure_conformance.mutants import all_mutants  # noqa: PLC0415
    from perdure_conformance.self_test import SelfTest, run_mutant  # noqa: PLC0415
    from perdure_conformance.summary import matrix_lines  # noqa: PLC0415

    if arguments.url is not None:
        raise UsageProblem("--self-test brings its own providers: leave the URL out")
    if not __debug__:
        raise UsageProblem(NO_ASSERTIONS)
    for option in ("level", "junit", "waivers", "seed"):
        if getattr(arguments, option) is not None:
            raise UsageProblem(
                f"--{option} is for a run on a provider; --self-test takes -k, --full, --report and --json"
            )
    if arguments.workers > 1:
        raise UsageProblem("-n is for a run on a provider; --self-test runs in one process")
    keyword = arguments.keyword
    path = arguments.report or ("kill-matrix.json" if keyword is None else None)
    _check_files(path)
    test = SelfTest(of_all_mutants=keyword is None)
    mutants = [mutant for mutant in all_mutants() if keyword is None or mutant.is_called(keyword)]
    if not mutants:
        raise UsageProblem(f"no mutant has {keyword!r} as its number, in its name, or as a case that must kill it")
    console = Console(stderr=True)
    with _alone():
        for mutant in track(mutants, "mutants", console=console, disable=arguments.json or not console.is_terminal):
            test.results.append(run_mutant(mutant, whole=arguments.full))
    problems = list(test.problems())
    if path is not None:
        Path(path).write_text(json.dumps(test.document(), indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(test.document(), indent=2))
    else:
        for line in matrix_lines(test, problems, _width()):
            print(line)
        if path is not None:
            print(f"the kill matrix is in {path}")
    return _NOT_CONFORMANT if problems else _PASSED


def _check_files(*files: str | None) -> None:
    for file in files:
        problem = None if file is None else problem_with_writing(file)
        if problem is not None:
            raise UsageProblem(problem)


def _try_to_open(url: str) -> None:
    adapter = find_adapter(url)
    try:
        with guarded(adapter.patience), adapter.build(None):
            pass
    except PerdureError:
        raise
    except (Exception, SystemExit, TimedOut):
        # What it raises besides is for the report to tell.
        return


@contextmanager
def _alone() -> Iterator[None]:
    """Return a context in which pytest loads no plugin, and hears of no option, but those that we name.

    What Hypothesis keeps of a run is not left behind in the directory that we happen to be in.
    """
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as environment:
        for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
            environment.delenv(name, raising=False)
        environment.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        environment.setenv("HYPOTHESIS_STORAGE_DIRECTORY", directory)
        yield


def _pytest_arguments(arguments: argparse.Namespace) -> list[str]:
    # Nothing of the directory we happen to be in: neither its configuration nor a conftest of any above us.
    root = Path(perdure_conformance.__file__).parent
    chosen = ["-c", os.devnull, f"--rootdir={root}", "--noconftest", str(root / "test_provider.py")]
    chosen += ["-p", "perdure_conformance.plugin", "-p", "no:terminal", "-p", "no:cacheprovider"]
    chosen += [f"--provider-url={arguments.url}"]
    if arguments.workers > 1:
        chosen += ["-p", "xdist.plugin", "-n", str(arguments.workers)]
    if arguments.keyword:
        chosen += ["-k", arguments.keyword]
    if arguments.junit:
        chosen += [f"--junitxml={arguments.junit}"]
    for name in ("level", "report", "waivers", "seed"):
        value = getattr(arguments, name)
        if value is not None:
            chosen.append(f"--provider-{name}={value}")
    if arguments.full:
        chosen.append("--provider-full")
    return chosen


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH


class Watcher:
    """A plugin of pytest in place of its terminal: a bar, and in the end the report. Used as a context.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.interrupted = False
        self._recorder: Recorder | None = None
        self._failed = 0
        is_shown = sys.stderr.isatty() and not quiet
        # Of our own, for pytest captures what is written to stderr while a case runs.
        self._terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8") if is_shown else None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}"),
            TimeElapsedColumn(),
            console=Console(file=self._terminal),
            disable=not is_shown,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("conformance", total=None, failed="")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._terminal is not None:
            self._terminal.close()

    @property
    def report(self) -> Report | None:
        """The report, once the session has finished; None where no case was run."""
        return None if self._recorder is None else next(iter(self._recorder.reports.values()), None)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Have tracebacks as Python prints them: pytest's own take most of the time of a run in which much fails."""
        config.option.tbstyle = "native"

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Show the bar."""
        self._recorder = session.config.pluginmanager.get_plugin(RECORDER)
        self._progress.start()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Say what is wrong with the suite itself."""
        if report.failed:
            print(report.longreprtext, file=sys.stderr)

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

    def pytest_keyboard_interrupt(self) -> None:
        """Note that somebody has had enough."""
        self.interrupted = True

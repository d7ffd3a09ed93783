"""The pytest plugin: options, the `bench` fixture, and what becomes of each case.

It is loaded in every run of pytest where perdure is installed, so that it imports the suite only when there is a case.
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from perdure_conformance.case import Case, Level, case_of
from perdure_conformance.recorder import RECORDER, Recorder, problem_with_writing

if TYPE_CHECKING:
    from perdure_conformance.bench import Bench
    from perdure_conformance.run import Run

# Without it a failed assertion would say nothing but that it failed.
pytest.register_assert_rewrite(
    *(f"perdure_conformance.{name}" for name in ("bench", "cases", "driver", "honesty", "programs", "stage"))
)

RUN: Final = pytest.StashKey["Run"]()
_SUITE: Final = Path(__file__).parent
_BENCH: Final = pytest.StashKey["Bench"]()
_PASSED: Final = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; they concern conformance cases alone."""
    group = parser.getgroup("perdure conformance")
    group.addoption("--provider-url", metavar="URL", help="the provider under test")
    group.addoption(
        "--provider-level",
        metavar="LEVEL",
        type=Level,
        choices=list(Level),
        default=max(Level),
        help=f"run the cases up to this level: {', '.join(Level)} (default: {max(Level)})",
    )
    group.addoption("--provider-report", metavar="FILE", type=_file_to_write, help="write a report as JSON")
    group.addoption("--provider-waivers", metavar="FILE", help="a TOML file of cases that may fail")
    group.addoption("--provider-seed", metavar="N", type=int, help="repeat the generated parts of a run")
    group.addoption("--provider-full", action="store_true", help="run large cases in full")


def _file_to_write(text: str) -> Path:
    problem = problem_with_writing(text)
    if problem is not None:
        raise argparse.ArgumentTypeError(problem)
    return Path(text)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed, once for all processes of the run, and gather what they find out."""
    if hasattr(config, "workerinput"):
        config.option.provider_seed = config.workerinput["conformance_seed"]
        return
    if config.option.provider_seed is None:
        config.option.provider_seed = secrets.randbelow(2**32)
    config.pluginmanager.register(Recorder(config), RECORDER)
    # What is wrong with these is said once, and not at every case.
    if config.option.provider_url or config.option.provider_waivers:
        from perdure_conformance.run import check_options  # noqa: PLC0415

        check_options(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a case once for each of its variants."""
    spec = case_of(metafunc.function)
    if spec is not None and spec.variants != ("",) and "_variant" in metafunc.fixturenames:
        metafunc.parametrize("_variant", spec.variants)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases above the level asked for, and let `-k` find cases by id, area and level."""
    level = config.getoption("--provider-level")
    left_out = []
    for item in items:
        spec = _spec(item)
        if spec is None:
            continue
        item.extra_keyword_matches.update((spec.id, spec.area, spec.level.value))
        if spec.level > level:
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        dropped = set(left_out)
        items[:] = [item for item in items if item not in dropped]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run our own test class on nothing. Another one's adapter may come with a fixture."""
    if session.config.option.provider_url or hasattr(session.config, "workerinput"):
        return
    if any(item.path.parent == _SUITE and _spec(item) is not None for item in session.items):
        raise pytest.UsageError("say which provider is under test: --provider-url URL")


@pytest.fixture
def _variant() -> str:
    return ""


@pytest.fixture
def bench(request: pytest.FixtureRequest, _variant: str) -> Iterator[Bench]:
    """A fresh hub of the provider under test, for one conformance case."""
    from perdure_conformance.bench import Bench  # noqa: PLC0415
    from perdure_conformance.guard import guarded  # noqa: PLC0415

    spec = _spec(request.node)
    if spec is None:
        raise pytest.UsageError("the fixture bench is for the cases of a ProviderConformance")
    session = _run(request.config).session_of(request.node)
    patience = session.adapter.patience
    with guarded(patience):
        bench = Bench(session, seed=session.case_seed(spec.id, _variant), variant=_variant)
    request.node.stash[_BENCH] = bench
    yield bench
    try:
        if request.node.stash.get(_PASSED, False):
            bench.finish()
    finally:
        with guarded(patience):
            bench.clear()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run what is due in place of a case that doesn't apply."""
    spec = _spec(pyfuncitem)
    if spec is None:
        return (yield)
    from perdure_conformance.guard import guarded  # noqa: PLC0415

    bench = pyfuncitem.stash.get(_BENCH, None)
    if bench is None or pyfuncitem.funcargs.get("bench") is not bench:
        raise pytest.UsageError("the fixture bench of a case is that of the suite: give yours another name")
    with guarded(bench.adapter.patience):
        left_out = _run(pyfuncitem.config).before_call(spec, bench)
    if left_out is not None:
        pytest.skip(left_out)
    with guarded(bench.adapter.patience):
        return (yield)


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> None:
    """Keep what was compared when an assertion of a case failed: what came stands left, what was expected right."""
    run = config.stash.get(RUN, None)
    if run is not None:
        run.note_comparison(op, left, right)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note on the report what became of the case."""
    report = yield
    spec = _spec(item)
    if spec is None or not isinstance(item, pytest.Function):
        return report
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    bench = item.stash.get(_BENCH, None)
    return _run(item.config).judge(item, spec, bench, call, report)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that gathers results what was under test, and close it."""
    run = session.config.stash.get(RUN, None)
    if run is None:
        return
    targets = run.targets()
    run.close()
    recorder = session.config.pluginmanager.get_plugin(RECORDER)
    if recorder is None:
        session.config.workeroutput["conformance"] = targets  # type: ignore[attr-defined]  # where xdist looks
    else:
        recorder.targets.update(targets)


def _spec(item: pytest.Item) -> Case | None:
    return case_of(getattr(item, "function", None))


def _run(config: pytest.Config) -> Run:
    run = config.stash.get(RUN, None)
    if run is None:
        from perdure_conformance.run import Run  # noqa: PLC0415

        run = config.stash[RUN] = Run(config)
    return run

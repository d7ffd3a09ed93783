"""The rules that a case is held to: it sees its control, it knows what is declared, it can be repeated."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import perdure_conformance
from perdure.spi import Capabilities, Clock, Page, Provider, PurgeResult
from perdure_conformance import Adapter, suite
from perdure_conformance.adapter import find_adapter
from perdure_conformance.bench import Bench, Session
from perdure_conformance.case import Case, Level, case, case_of
from perdure_conformance.driver import fresh
from perdure_conformance.guard import Escaped, TimedOut, guarded
from perdure_conformance.honesty import NEGATIVE_CHECKS, declares
from perdure_conformance.self_test import run_case
from perdure_conformance.suite import canonical_cases
from perdure_conformance.wording import Wording, difference
from perdure_memory import MemoryProvider
from perdure_memory.hub import MemoryHub

CASE = Case(id="XYZ-01", title="It works.", level=Level.L0, invariants=("I1",))


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session(Adapter(f"memory://{fresh('rules')}"))
    yield session
    session.close()


def verdict(session: Session, function: Callable[[Any, Bench], None], **fields: Any) -> tuple[str, str]:
    return run_case(session, replace(CASE, **fields), function, "")


# No case is vacuous.


def test_a_case_that_calls_nothing_is_an_error(session: Session) -> None:
    result, reason = verdict(session, lambda _, bench: None)
    assert result == "error"
    assert "no positive control" in reason


def test_a_case_that_only_sees_nothing_is_an_error(session: Session) -> None:
    def look(_: Any, bench: Bench) -> None:
        assert bench.claim() == []
        assert bench.hub.get_instances(["a"]) == [None]

    assert verdict(session, look)[0] == "error"


def test_nothing_changed_is_no_proof_before_something_does(session: Session) -> None:
    def no_effect(_: Any, bench: Bench) -> None:
        bench.create("a")
        with bench.unchanged("a"):
            bench.create("a")

    def no_effect_and_then_one(_: Any, bench: Bench) -> None:
        no_effect(_, bench)
        bench.claim_one()

    def read_only(_: Any, bench: Bench) -> None:
        no_effect(_, bench)
        bench.get()

    def effect(_: Any, bench: Bench) -> None:
        bench.create("a")
        with bench.unchanged("a"):
            bench.create("b")

    def shown_by_other_means(_: Any, bench: Bench) -> None:
        no_effect(_, bench)
        bench.control()

    result, reason = verdict(session, no_effect)
    assert result == "error"
    assert "nothing was seen to work afterwards" in reason
    assert verdict(session, read_only)[0] == "error"
    assert verdict(session, effect)[0] == "kill"
    assert verdict(session, no_effect_and_then_one) == ("pass", "")
    assert verdict(session, shown_by_other_means) == ("pass", "")


def test_calls_are_counted_even_those_that_raise(session: Session) -> None:
    bench = Bench(session)
    bench.create("a")
    with pytest.raises(AttributeError):
        bench.hub.claim_turns(None)  # type: ignore[arg-type]
    assert bench.evidence.calls == {"create_instances": 1, "claim_turns": 1}
    bench.clear()


# A case is told whole.


def test_a_case_needs_a_name_an_invariant_and_a_docstring() -> None:
    def test_xyz_1_short(self: Any, bench: Bench) -> None:
        """It works."""

    def test_xyz_01_dumb(self: Any, bench: Bench) -> None: ...

    for invariants, function in [
        (["I1"], test_xyz_1_short),
        (["I1"], test_xyz_01_dumb),
        (["I99"], test_xyz_1_short),
        ([], test_xyz_1_short),
    ]:
        with pytest.raises(TypeError):
            case(*invariants)(function)


def test_the_real_cases_ask_for_what_there_is() -> None:
    assert len(canonical_cases()) > 0
    for spec in canonical_cases().values():
        assert set(spec.requires) <= NEGATIVE_CHECKS.keys(), spec.id
        assert set(spec.hooks) <= Adapter.HOOKS, spec.id
        assert len(set(spec.variants)) == len(spec.variants), spec.id
        assert "]" not in "".join(spec.variants), spec.id


# Capabilities, both ways.


class Modest(MemoryProvider):
    """Does what it doesn't declare."""

    capabilities = replace(
        MemoryProvider.capabilities, tag_query=False, purge_cascade=False, push="none", single_txn_exchange=False
    )


class ModestAdapter(Adapter):
    def build(self, clock: Clock | None) -> Provider:
        return Modest(self.url, clock=clock)


def never(_: Any, bench: Bench) -> None:
    raise AssertionError("the case doesn't apply")


@pytest.fixture
def modest() -> Iterator[Session]:
    session = Session(ModestAdapter(f"memory://{fresh('modest')}"))
    yield session
    session.close()


@pytest.mark.parametrize("capability", ["tag_query", "purge_cascade", "durable", "server_clock"])
def test_what_is_not_declared_and_doesnt_work_is_not_applicable(modest: Session, capability: str) -> None:
    assert not declares(modest.provider.capabilities, capability)
    assert verdict(modest, never, requires=(capability,)) == ("n/a", "")


@pytest.mark.parametrize("capability", ["push", "single_txn_exchange"])
def test_what_is_not_declared_must_not_work(modest: Session, capability: str) -> None:
    assert not declares(modest.provider.capabilities, capability)
    assert verdict(modest, never, requires=(capability,))[0] == "kill"


@pytest.mark.parametrize(
    ("capability", "method", "answer"),
    [
        ("tag_query", "query_instances", Page(items=[], cursor=None)),
        ("purge_cascade", "purge", PurgeResult(deleted=0, complete=True)),
    ],
)
def test_what_is_not_declared_must_not_half_work(
    modest: Session, capability: str, method: str, answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryHub, method, lambda self, request: answer)
    assert verdict(modest, never, requires=(capability,))[0] == "kill"


def test_what_is_declared_is_put_to_its_case(session: Session) -> None:
    def fail(_: Any, bench: Bench) -> None:
        raise AssertionError("found out")

    result, reason = verdict(session, fail, requires=("tag_query",))
    assert result == "kill"
    assert reason.startswith("AssertionError: found out")


def test_every_capability_that_an_operation_uses_has_its_negative_check() -> None:
    reserved = {"read_lag_ms", "status_query"}
    assert NEGATIVE_CHECKS.keys() == set(Capabilities.__dataclass_fields__) - reserved


# Runs can be repeated.


def test_the_same_seed_makes_the_same_case(session: Session) -> None:
    other = Session(session.adapter, seed=session.seed)
    assert session.case_seed("LIF-01", "a") == other.case_seed("LIF-01", "a")
    seeds = {session.case_seed(case, variant) for case in ("LIF-01", "LIF-02") for variant in ("", "a", "b")}
    assert len(seeds) == 6
    assert Session(session.adapter, seed=1).case_seed("LIF-01", "a") not in seeds
    drawn = [Bench(session, seed=seed).rng.random() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_each_case_has_a_hub_and_a_clock_of_its_own(session: Session) -> None:
    one = Bench(session)
    one.create("a")
    session.clock.advance(1000)
    two = Bench(session)
    assert two.hub.name != one.hub.name
    assert two.hub.now() == session.clock.now() == 1_700_000_000_000
    assert two.hub.get_instances(["a"]) == [None]
    one.clear()
    assert session.provider.list_hubs() == [two.hub.name]
    two.clear()
    assert session.provider.list_hubs() == []


def test_the_content_hash_is_of_the_cases_and_not_of_the_mutants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(perdure_conformance.__file__).parent
    copy = tmp_path / "suite"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(suite, "__file__", str(copy / "suite.py"))
    content_hash = suite.content_hash.__wrapped__
    before = content_hash()
    assert before == suite.content_hash()
    with (copy / "mutants" / "lifecycle.py").open("a") as file:
        file.write("# more\n")
    assert content_hash() == before
    with (copy / "cases" / "lifecycle.py").open("a") as file:
        file.write("# more\n")
    assert content_hash() != before


# Providers that don't answer.


def test_a_store_that_was_never_reached_is_not_tried_again() -> None:
    tried = []

    class Unreachable(Adapter):
        def build(self, clock: Clock | None) -> Provider:
            tried.append(clock)
            raise ConnectionError("nobody there")

    session = Session(Unreachable("memory://x"))
    for _ in range(3):
        with pytest.raises(ConnectionError, match="nobody there"):
            Bench(session)
    assert len(tried) == 1


def test_a_provider_that_hangs_is_stopped() -> None:
    def hang() -> None:
        while True:
            # A provider's handlers don't see it.
            with suppress(Exception):
                time.sleep(1)

    with pytest.raises(TimedOut, match=r"had not ended after 0\.05 s"), guarded(0.05):
        hang()


@pytest.mark.parametrize("outcome", [pytest.skip, pytest.xfail, pytest.exit])
def test_an_outcome_of_pytest_does_not_get_out(outcome: Any) -> None:
    with pytest.raises(Escaped, match="not in the mood"), guarded(10):
        outcome("not in the mood")


def test_an_adapter_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(find_adapter("nowhere://x")) is Adapter
    with pytest.raises(TypeError, match="needs the URL"):
        Adapter()


# Words.


@pytest.mark.parametrize(
    "url",
    [
        "db://user:pa55%3Fword@host/x",
        "db://user@host/x?password=pa55?word",
        "db://user@host/x?sslkey=pa55?word&a=b",
        "db://user:pa55%3Fword@host/x?op_hub=h",
    ],
)
def test_passwords_are_left_out_however_they_are_written(url: str) -> None:
    wording = Wording(url)
    for text in (url, f"can't reach {url!r}", "the password is pa55?word"):
        shown = wording.clean(text)
        assert "pa55" not in shown
        assert "***" in shown


def test_words_without_a_password_are_left_alone() -> None:
    assert Wording("memory://t").clean("at memory://t") == "at memory://t"
    assert Wording("db://u:a@host").clean("a bad day at db://u:a@host") == "a bad day at db://u:***@host"
    assert Wording("").clean("\x1b[2J\ud800") == r"\x1b[2J\ud800"
    assert Wording("no url").clean("x" * 1000) == "x" * 597 + "..."


def test_of_long_values_the_difference_is_shown() -> None:
    left, right = list(range(1000)), [*range(900), 0, *range(901, 1000)]
    came, expected = difference(left, right)
    assert came.startswith("...")
    assert "900, 901" in came[:80]
    assert "0, 901" in expected[:80]
    assert difference([1], [2]) == ("[1]", "[2]")

    class Shy:
        def __repr__(self) -> str:
            raise ValueError

    assert difference(Shy(), 1)[0] == "<Shy whose repr raises ValueError>"


def test_a_case_is_known_by_its_function() -> None:
    assert case_of(suite.ProviderConformance.test_lif_01_create_claim_commit_read_back) is canonical_cases()["LIF-01"]
    assert case_of(print) is None

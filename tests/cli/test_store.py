from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from tests.cli.conftest import Invoke

from perdure.cli.store import provider_option, provider_url


def arguments(provider: str | None) -> argparse.Namespace:
    return argparse.Namespace(provider=provider)


def test_the_option_wins_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider_url(arguments(None)) == "sqlite:///perdure.db"
    monkeypatch.setenv("PERDURE_PROVIDER", "")
    assert provider_url(arguments(None)) == "sqlite:///perdure.db"
    monkeypatch.setenv("PERDURE_PROVIDER", "memory://environment")
    assert provider_url(arguments(None)) == "memory://environment"
    assert provider_url(arguments("memory://option")) == "memory://option"


def test_later_commands_are_shown_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider_option(arguments(None)) == ""
    assert provider_option(arguments("sqlite:///a b.db")) == " --provider 'sqlite:///a b.db'"
    secret = "postgres://user:secret@host/db"
    assert "secret" not in provider_option(arguments(secret))
    monkeypatch.setenv("PERDURE_PROVIDER", secret)
    assert provider_option(arguments(None)) == ""


@pytest.mark.parametrize("words", [["list"], ["show", "x"], ["history", "x"], ["watch", "x"], ["purge", "--all"]])
def test_looking_creates_no_store(invoke: Invoke, directory: Path, words: list[str]) -> None:
    failed = invoke(*words, code=3)
    assert failed.stderr.startswith("error: there is no perdure store at sqlite:///perdure.db yet")
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("nonsense", 2, "'nonsense' is not a provider URL; write scheme://"),
        ("foo://x", 3, "there is no provider for foo:// \\(there are: .*memory, .*sqlite"),
        ("sqlite:////no/such/directory/x.db", 3, "/no/such/directory/x.db"),
        ("sqlite:///perdure.db?op_colour=red", 2, "unknown parameter op_colour"),
        ("foo://user:secret@x/", 3, "no provider for foo://"),
    ],
)
@pytest.mark.parametrize("words", [["list"], ["start", "x"]], ids=" ".join)
def test_urls_that_lead_nowhere(invoke: Invoke, words: list[str], url: str, code: int, message: str) -> None:
    failed = invoke(*words, "--provider", url, code=code)
    assert failed.stdout == ""
    assert failed.stderr.count("\n") == 1
    assert "secret" not in failed.stderr
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(failed.stderr)


def test_a_file_that_is_no_database(invoke: Invoke, directory: Path) -> None:
    (directory / "perdure.db").write_text("this is a letter to somebody\n" * 100)
    failed = invoke("list", code=3)
    assert failed.stderr.count("\n") == 1


def test_common_options_stand_before_or_after_the_command(invoke: Invoke) -> None:
    for words in (
        ("--provider", "memory://places", "--json", "list"),
        ("list", "--provider", "memory://places", "--json"),
        ("--json", "list", "--provider=memory://places"),
    ):
        assert invoke(*words).json == []

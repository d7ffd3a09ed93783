from __future__ import annotations

import subprocess
import sys

import pytest
from tests.cli.conftest import Invoke

COMMANDS = [
    "run", "worker", "start", "list", "show", "history", "watch", "raise-event", "suspend", "resume", "terminate",
    "purge", "provider",
]  # fmt: skip

# Each of them takes longer to import than all that help needs.
EXPENSIVE = {
    "asyncio",
    "importlib.metadata",
    "logging",
    "perdure.client",
    "perdure.worker",
    "pluggy",
    "rich",
    "sqlalchemy",
}


def test_help_names_every_command_and_exit_code(invoke: Invoke) -> None:
    shown = invoke("--help").stdout
    for command in COMMANDS:
        assert f"\n    {command} " in shown
    assert "3 provider unreachable" in shown
    assert "PERDURE_PROVIDER" in shown


@pytest.mark.parametrize("words", [*([command] for command in COMMANDS), ["provider", "list"]], ids=" ".join)
def test_each_command_has_help_and_takes_the_common_options(invoke: Invoke, words: list[str]) -> None:
    shown = invoke(*words, "--help").stdout
    assert words == ["provider"] or ("--json" in shown and "--provider URL" in shown)


def test_version(invoke: Invoke) -> None:
    assert invoke("--version").stdout.startswith("perdure 0.")


def test_help_imports_nothing_expensive() -> None:
    """It has to be there in less than 200 ms, of which Python itself takes a part."""
    code = (
        "import sys; from perdure.cli import main; before = sys.stdout; sys.stdout = sys.stderr; main(['--help']);"
        "sys.stdout = before; print('\\n'.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert EXPENSIVE.isdisjoint(done.stdout.split())


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["show"],
        ["list", "--limit", "0"],
        ["list", "--status", "odd"],
        ["run", "x.py", "--lease-seconds", "0"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_one_line_that_leads_to_help(invoke: Invoke, words: list[str]) -> None:
    failed = invoke(*words, code=2)
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.endswith("--help`\n")
    assert failed.stderr.count("\n") == 1

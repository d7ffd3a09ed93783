"""What the README tells people to type, typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.command import EXAMPLES, Command, environment, eventually, stop

ROOT = EXAMPLES.parent
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """Return what stands under a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}[^\n]*\n(.*?)(?=^#+ |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title!r}"
    return found.group(1)


def blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Terminal:
    """A shell in a clone of the repository, with `perdure` installed."""

    def __init__(self, block: str, directory: Path) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        # The last command takes the place of the shell, so that a signal reaches it.
        *before, last = block.splitlines()
        self.process = subprocess.Popen(
            ["sh", "-ec", "\n".join([*before, f"exec {last}"])],
            cwd=directory,
            env={**environment(), "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def output(self) -> str:
        stdout, stderr = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, stderr
        return stdout


@pytest.fixture
def clone(perdure: Command) -> Path:
    (perdure.directory / "examples").mkdir()
    for example in EXAMPLES.glob("*.py"):
        (perdure.directory / "examples" / example.name).write_text(example.read_text())
    return perdure.directory


def test_three_terminals(perdure: Command, clone: Path) -> None:
    worker, client, watcher = blocks(section("Three terminals"))

    def offered() -> bool:
        shown = perdure.run("show", "ticket-1", "--json", code=None)
        return shown.code == 0 and shown.json["custom_status"] is not None

    with Terminal(worker, clone) as first, Terminal(client, clone) as second:
        eventually(offered, what="the offer")
        assert second.process.poll() is None, "it watches"
        with Terminal(watcher, clone) as third:
            third.output()
        assert json.loads(second.output().splitlines()[-1]) == {"booked": True, "discount": 20, "seats": "12A"}
        assert first.process.poll() is None, "a worker goes on"
        code, _, stderr = stop(first.process)
        assert code in {0, 130}, stderr


def test_the_first_snippet_runs_as_a_file(perdure: Command) -> None:
    (perdure.directory / "booking.py").write_text(blocks(README, "python")[0])
    process = perdure.start("run", "booking.py", "--id", "b", "--input", "4")

    def held() -> bool:
        shown = perdure.run("show", "b", "--json", code=None)
        return shown.code == 0 and shown.json["custom_status"] == {"progress": 0.5, "message": "4 seats held"}

    eventually(held, what="the status")
    perdure.run("raise-event", "b", "BookingConfirmed", "--data", '"Ada"')
    stdout, stderr = process.communicate(timeout=20)
    assert json.loads(stdout) == "booked: Ada", stderr


def test_the_snippets_together_are_a_program(perdure: Command) -> None:
    definitions, use = blocks(README, "python")
    (perdure.directory / "program.py").write_text(f"{definitions}\n\n{use}")
    with Terminal(shlex.join([sys.executable, "program.py"]), perdure.directory) as terminal:
        assert terminal.output() == "booked: Ada\n"


def test_five_minutes(clone: Path) -> None:
    """The first command, but for the installation, which is the one that runs this test."""
    inventory, _ = blocks(section("Five minutes"))
    install, run = inventory.strip().split(" && ")
    assert install == "pip install ."
    with Terminal(run, clone) as terminal:
        counted = json.loads(terminal.output())["files"]
    # Counted afterwards: loading the example may have left its bytecode beside it.
    assert counted == sum(path.is_file() for path in (clone / "examples").rglob("*"))


def test_the_conformance_suite_says_what_a_provider_is_worth(clone: Path) -> None:
    """The command of the README, but for the installation, on one of the areas."""
    (block,) = blocks(section("Run the conformance tests"))
    install, run = block.strip().split(" && ")
    assert install == "pip install '.[conformance]'"
    with Terminal(f"{run} -k LIF-01", clone) as terminal:
        stdout, _ = terminal.process.communicate(timeout=60)
    assert "L0 core" in stdout
    assert terminal.process.returncode == 1, "one case makes no conformant provider"


def test_ci_runs_the_two_commands_of_five_minutes() -> None:
    """On a tree of its own choice, and with a pip that says less."""
    told = [command for block in blocks(section("Five minutes")) for command in block.strip().split(" && ")]
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    typed = [
        [word.removeprefix("$OLDPWD/") for word in shlex.split(line, comments=True) if word != "--quiet"]
        for line in run
    ]
    for command in told:
        words = shlex.split(command)
        if "--input" in words:
            words = words[: words.index("--input") + 1]
        assert any(line[: len(words)] == words for line in typed), f"{command} is not in .ci/run"

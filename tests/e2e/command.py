"""The command `perdure` as a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Result:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Command:
    """Runs `perdure` in a directory, hence on the `perdure.db` there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[subprocess.Popen[str]] = []

    def run(
        self,
        *arguments: str,
        stdin: str | bytes = "",
        timeout: float = 60,
        code: int | None = 0,
        first: Callable[[], None] | None = None,
    ) -> Result:
        """Run to the end; `code` is what it has to exit with, None for anything; `first` runs in the new process."""
        done = subprocess.run(
            self._words(arguments),
            cwd=self.directory,
            env=environment(),
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=timeout,
            preexec_fn=first,
            check=False,
        )
        result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert code is None or result.code == code, f"exit code {result.code}, not {code}:\n{result.stderr}"
        assert "Traceback" not in result.stderr or result.code == 1, result.stderr
        return result

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it in the background; what still runs in the end is killed."""
        process = subprocess.Popen(
            self._words(arguments),
            cwd=self.directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def _words(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "perdure", *arguments]


def require_installed() -> None:
    """Providers are found by entry points, which only an installed distribution has."""
    try:
        importlib.metadata.distribution("perdure")
    except importlib.metadata.PackageNotFoundError:
        pytest.fail("end-to-end tests run the installed command: pip install -e .", pytrace=False)


def eventually(condition: Callable[[], bool], *, seconds: float = 20, what: str = "it") -> None:
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} has not come within {seconds} s"
        time.sleep(0.02)


def stop(process: subprocess.Popen[str], number: int = signal.SIGINT, *, within: float = 10) -> tuple[int, str, str]:
    """Send a signal, and return exit code, stdout and stderr."""
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=within)
    return process.returncode, stdout, stderr


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PERDURE_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"}

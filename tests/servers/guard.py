"""Servers end and their directories go when the process that started them ends, however it does.

A second process sees to that: it reads from a pipe, which ends with the last process that could write to it. Nothing in
the first one would do where that is killed.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 5.0  # seconds that a server has to end before it is killed

_process: subprocess.Popen[str] | None = None


def watch(directory: Path, pid: int = 0) -> None:
    """See that `directory` goes with this process, and that the server `pid` in it ends; the last call for it holds."""
    _say(f"{pid}\t{directory}")


def remove(directory: Path) -> None:
    """Remove `directory`, in which no server runs any more."""
    shutil.rmtree(directory, ignore_errors=True)
    _say(f"-\t{directory}")


def _say(line: str) -> None:
    global _process  # noqa: PLW0603
    if _process is None:
        # A session of its own: Ctrl-C is for the tests, and the guard is needed after them.
        _process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            text=True,
            bufsize=1,
        )
        atexit.register(_finish, _process)
    assert _process.stdin is not None
    _process.stdin.write(line + "\n")


def _finish(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def _main() -> None:
    watched: dict[str, int] = {}
    for line in sys.stdin:
        pid, directory = line.rstrip("\n").split("\t")
        if pid == "-":
            watched.pop(directory, None)
        else:
            watched[directory] = int(pid)
    # SIGQUIT is PostgreSQL's immediate shutdown; unlike SIGKILL, it lets the server end its own processes.
    running = [pid for pid in watched.values() if pid > 0 and _signal(pid, signal.SIGQUIT)]
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and (running := [pid for pid in running if _signal(pid, 0)]):
        time.sleep(0.01)
    for pid in running:
        _signal(pid, signal.SIGKILL)
    for directory in watched:
        shutil.rmtree(directory, ignore_errors=True)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False  # it has ended, and at most its number is another's
    return True


if __name__ == "__main__":
    _main()

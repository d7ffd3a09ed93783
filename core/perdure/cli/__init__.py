"""The command `perdure`.

What a command needs is imported when that command runs, so that `perdure --help` is there at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from perdure.cli import exit_codes
from perdure.cli.parser import parse
from perdure.cli.problems import report
from perdure.errors import PerdureError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments after the program's name; by default those of this process.
    """
    # Names and payloads may hold characters that the terminal's encoding lacks: show them escaped, don't fail.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter would complain when it flushes what is left of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE


def _run(argv: Sequence[str]) -> int:
    try:
        arguments = parse(argv)
    except SystemExit as done:  # argparse has printed its help or its error
        return done.code if isinstance(done.code, int) else exit_codes.USAGE
    run = arguments.run
    if isinstance(run, str):
        module, _, function = run.partition(":")
        run = getattr(importlib.import_module(module), function)
    try:
        code: int = run(arguments)
    except PerdureError as error:
        return report(error)
    return code

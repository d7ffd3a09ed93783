"""What a person reads when a command can't do what was asked: one line, and an exit code."""

from __future__ import annotations

import sys
from typing import Final

from perdure.cli import exit_codes
from perdure.cli.output import printable
from perdure.errors import (
    InstanceNotFound,
    InvalidArgument,
    InvalidRequest,
    NotFound,
    NotRegistered,
    PayloadError,
    PerdureError,
    ProviderError,
    Unsupported,
)

__all__ = ["UsageProblem", "report", "warn"]


class UsageProblem(PerdureError):
    """The command line, or a file named on it, is wrong."""


# The first that fits decides.
_EXIT_CODES: Final[tuple[tuple[type[PerdureError], int], ...]] = (
    (UsageProblem, exit_codes.USAGE),
    (PayloadError, exit_codes.USAGE),
    (InvalidArgument, exit_codes.USAGE),
    (InvalidRequest, exit_codes.USAGE),
    (Unsupported, exit_codes.USAGE),
    (NotRegistered, exit_codes.USAGE),
    (InstanceNotFound, exit_codes.NOT_FOUND),
    (NotFound, exit_codes.NOT_FOUND),
    (ProviderError, exit_codes.PROVIDER_UNREACHABLE),
)


def report(error: PerdureError) -> int:
    """Print `error` to stderr and return the exit code for it."""
    print(f"error: {_one_line(str(error))}", file=sys.stderr)
    for kind, code in _EXIT_CODES:
        if isinstance(error, kind):
            return code
    return exit_codes.FAILED


def warn(message: str) -> None:
    """Print a warning to stderr."""
    print(f"warning: {_one_line(message)}", file=sys.stderr)


def _one_line(message: str) -> str:
    return printable(" ".join(message.split("\n")))

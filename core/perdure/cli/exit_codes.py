"""What the command's exit code says. Scripts rest on these: never change one."""

from __future__ import annotations

from typing import Final

__all__ = [
    "BROKEN_PIPE",
    "FAILED",
    "INTERRUPTED",
    "NOT_FOUND",
    "OK",
    "PROVIDER_UNREACHABLE",
    "SIGNAL_BASE",
    "USAGE",
]

OK: Final = 0
FAILED: Final = 1
"""The instance failed or was terminated, or is not in a state for what was asked."""
USAGE: Final = 2
"""The command line, a file or a value on it is wrong; argparse uses the same number."""
PROVIDER_UNREACHABLE: Final = 3
NOT_FOUND: Final = 4
"""No such instance or hub."""

SIGNAL_BASE: Final = 128
"""A command that a signal ended exits with 128 + its number, as shells have it."""
INTERRUPTED: Final = SIGNAL_BASE + 2
BROKEN_PIPE: Final = SIGNAL_BASE + 13

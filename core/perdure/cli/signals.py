"""Ctrl-C and SIGTERM, turned into a request to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

from perdure.cli.exit_codes import SIGNAL_BASE

__all__ = ["STOP_SECONDS", "StopSignal", "leave"]

STOP_SECONDS: Final = 5.0
"""How long running activities get to finish; what hasn't then is given back."""

_POLL_SECONDS = 0.2


class StopSignal:
    """While it is entered, the first SIGINT or SIGTERM is noted, and a second ends the process at once.

    A flag and no event: a handler runs wherever the main thread happens to be, inside a lock of its own too.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Elsewhere Python refuses to set handlers, and the signals go to somebody else anyway.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """The exit code of a command that it ended."""
        return SIGNAL_BASE + (self.number or 0)

    def wait(self, while_: Callable[[], bool]) -> bool:
        """Wait for the first signal as long as `while_()` holds; return whether there was one."""
        while self.number is None and while_():
            time.sleep(_POLL_SECONDS)
        return self.number is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.number is not None:
            # The live view has hidden the cursor.
            shown = b"\x1b[?25h" if os.isatty(2) else b""
            os.write(2, shown + b"\nstopped at once; nothing is lost, but leases have to run out first\n")
            os._exit(SIGNAL_BASE + number)
        self.number = number


def leave(code: int) -> int:
    """Return `code`, or end the process with it where a thread that can't be stopped would keep it alive."""
    stuck = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and thread.is_alive() and not thread.daemon
    ]
    if stuck and threading.current_thread() is threading.main_thread():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code

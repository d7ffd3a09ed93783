"""Keeps a provider from ending a case, or the whole run, by anything but an answer or an error."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import pytest

__all__ = ["Escaped", "TimedOut", "guarded", "ignoring_errors"]

_OUTCOMES: Final = (pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception)


class Escaped(Exception):
    """A provider raised one of pytest's own outcomes, by which the case would have ended without a verdict."""


class TimedOut(BaseException):
    """A case has not ended in time. No `Exception`, so that no handler in a provider takes it for a failed call."""


@contextmanager
def guarded(seconds: float) -> Iterator[None]:
    """Return a context in which a provider is called.

    Args:
        seconds: how long that may take. Only where there are signals, which reach the main thread alone.

    Raises:
        Escaped: the provider raised an outcome of pytest's.
        TimedOut: it took too long.
    """
    try:
        with _limited(seconds):
            yield
    except _OUTCOMES as outcome:
        raise Escaped(f"{type(outcome).__name__}: {outcome}") from outcome


@contextmanager
def ignoring_errors() -> Iterator[None]:
    """Return a context in which nothing that a provider raises counts: after a failure, and for tidying up."""
    with suppress(Exception, SystemExit, GeneratorExit, TimedOut, *_OUTCOMES):
        yield


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    in_main_thread = threading.current_thread() is threading.main_thread()
    # A timer that runs is somebody else's limit.
    if not hasattr(signal, "setitimer") or not in_main_thread or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def stop(*_: Any) -> None:
        raise TimedOut(f"it had not ended after {seconds:g} s")

    usual = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)

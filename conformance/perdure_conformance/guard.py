"""Keeps a provider from ending a case, or the whole run, by anything but an answer or an error."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from perdure_conformance.wording import text_of

__all__ = ["Escaped", "TimedOut", "guarded", "ignoring_errors"]

_OUTCOMES: Final = (pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception)


class Escaped(Exception):
    """A provider raised an outcome of pytest's, or what nobody catches: it would have ended the case, or the run."""


class TimedOut(BaseException):
    """A case has not ended in time. No `Exception`, so that no handler in a provider takes it for a failed call."""


_CAUGHT: Final = (Exception, SystemExit, GeneratorExit, KeyboardInterrupt, TimedOut, pytest.fail.Exception)


@contextmanager
def guarded(seconds: float) -> Iterator[None]:
    """Return a context in which a provider is called.

    Args:
        seconds: how long that may take. Only where there are signals, which reach the main thread alone.

    Raises:
        Escaped: the provider raised an outcome of pytest's, or what nobody catches.
        TimedOut: it took too long.
    """
    try:
        with _limited(seconds):
            yield
    except BaseException as error:
        if isinstance(error, _CAUGHT) and not isinstance(error, _OUTCOMES):
            raise
        raise Escaped(f"{type(error).__name__}: {text_of(error)}") from error


@contextmanager
def ignoring_errors() -> Iterator[None]:
    """Return a context in which nothing that a provider raises counts: after a failure, and for tidying up."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: S110 - that it doesn't count is what this is for
        pass


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

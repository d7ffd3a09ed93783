"""Threads that start together, and for which nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["PATIENCE_SECONDS", "THREADS", "at_once", "is_racing"]

T = TypeVar("T")

THREADS: Final = 8
"""How many race where nothing else is said."""

PATIENCE_SECONDS = 60.0
"""Long enough for whatever a case lets threads do, on a busy machine; nobody waits for it unless a thread hangs."""

_RACING: Final = "perdure-conformance-racing"


def at_once(call: Callable[[int], T], threads: int = THREADS, *, patience: float | None = None) -> list[T]:
    """Run `call` with 0, 1, 2, ... in threads that start together, and return what each returned.

    Raises:
        AssertionError: a thread hangs. It is left behind, and doesn't keep the process from ending.
        Exception: what `call` raised in the first of the threads in which it did.
    """
    patience = PATIENCE_SECONDS if patience is None else patience
    barrier = threading.Barrier(threads)
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}

    def run(number: int) -> None:
        try:
            barrier.wait(patience)
            results[number] = call(number)
        except BaseException as error:
            errors[number] = error

    deadline = time.monotonic() + patience
    running = [
        threading.Thread(target=run, args=(number,), name=f"{_RACING}-{number}", daemon=True)
        for number in range(threads)
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(max(0.0, deadline - time.monotonic()))
    hanging = [number for number, thread in enumerate(running) if thread.is_alive()]
    # A barrier that is broken tells of nothing but that another thread failed.
    for number in sorted(errors, key=lambda number: (isinstance(errors[number], threading.BrokenBarrierError), number)):
        raise errors[number]
    if hanging:
        raise AssertionError(f"after {patience:g} s threads {hanging} of {threads} still hang in a call")
    return [results[number] for number in range(threads)]


def is_racing() -> bool:
    """Tell whether this is a thread of `at_once`: a mutant whose mistake is a race makes it in these alone."""
    return threading.current_thread().name.startswith(_RACING)

"""Hints that something happened: from this process at once, from others by looking for what they did.

One thread serves all subscribers of a store in this process, and ends with the last of them. What this process
commits is announced by those who committed it. Where others have to be looked for, the thread does so every few
milliseconds, less often while nothing happens: a glance first, and where that shows something a question.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from perdure.spi import OnWake, ProviderError, Subscription, Wake

__all__ = ["Others", "Watch"]

_LOG = logging.getLogger("perdure.wakeup")

# Where something has just happened more is likely to follow; a quiet file is looked at less and less often.
_LOOK_SOON_S = 0.005
_LOOK_LATE_S = 0.025
_SLOWDOWN = 1.1
# Two writes within one tick of the file system's clock have one date: now and then it is not trusted.
_ASK_EVERY_S = 0.200
# More ids than this in one hint are told as "any".
_MOST_IDS = 1000


class _Subscription(Subscription):
    def __init__(self, watch: Watch, hub: str, on_wake: OnWake, on_close: Callable[[Subscription], None]) -> None:
        self.hub = hub
        self.on_wake = on_wake
        self.on_close = on_close
        self.work = False
        self.changed: set[str] | None = set()
        """Ids not told of yet; None: any."""
        self.closed = False
        # Held while the callback runs, so that `close` returns after it; reentrant, so that the callback may close.
        self.calling = threading.RLock()
        self._watch = watch

    def close(self) -> None:
        # After a fork nobody here serves it, and the watch's lock may be held by a thread of the parent.
        if self._watch.process == os.getpid():
            self._watch.remove(self)


class Others(Protocol):
    """How the other processes on a file are looked at."""

    def glance(self) -> object:
        """Return something that differs where anybody may have committed; cheap."""

    def data_version(self) -> int:
        """Return the counter that other processes' commits move."""


class Watch:
    """The subscribers to one file in this process.

    Args:
        others: the other processes; None where there are none.
    """

    def __init__(self, others: Others | None) -> None:
        self.process = os.getpid()
        self._others = others
        self._lock = threading.Lock()
        self._woken = threading.Condition(self._lock)
        self._subscriptions: list[_Subscription] = []
        self._thread: threading.Thread | None = None
        self._news = False

    def subscribe(self, hub: str, on_wake: OnWake, on_close: Callable[[Subscription], None]) -> Subscription:
        """Call `on_wake` with what happens in `hub`, and `on_close` once at the end."""
        subscription = _Subscription(self, hub, on_wake, on_close)
        # Read before the subscription counts, so that whatever another process commits from now on shows.
        lookout = None if self._others is None else _Lookout(self._others)
        with self._lock:
            self._subscriptions = [*self._subscriptions, subscription]
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, args=(lookout,), name="perdure-watch", daemon=True)
                self._thread.start()
        return subscription

    def remove(self, subscription: _Subscription) -> None:
        """End a subscription; with the last of them the thread ends."""
        ended = None
        with self._lock:
            self._subscriptions = [other for other in self._subscriptions if other is not subscription]
            if not self._subscriptions and self._thread is not None:
                ended, self._thread = self._thread, None
                self._woken.notify_all()
        with subscription.calling:
            was_closed, subscription.closed = subscription.closed, True
        if not was_closed:
            subscription.on_close(subscription)
        if ended is not None and ended is not threading.current_thread():
            ended.join()

    def close(self) -> None:
        """End all subscriptions."""
        for subscription in self._subscriptions:
            subscription.close()

    def announce(self, hub: str, *, work: bool, changed: set[str] | None) -> None:
        """Tell the subscribers of `hub` what a commit did; `changed` None: any instance may have changed."""
        if not self._subscriptions or not (work or changed is None or changed):
            return
        with self._lock:
            for subscription in self._subscriptions:
                if subscription.hub == hub:
                    self._news = True
                    subscription.work = subscription.work or work
                    if (
                        changed is None
                        or subscription.changed is None
                        or len(subscription.changed) + len(changed) > _MOST_IDS
                    ):
                        subscription.changed = None
                    else:
                        subscription.changed |= changed
            if self._news:
                self._woken.notify_all()

    def _serve(self, lookout: _Lookout | None) -> None:
        me = threading.current_thread()
        pause = _LOOK_SOON_S
        while True:
            with self._lock:
                if self._thread is me and not self._news:
                    self._woken.wait(None if lookout is None else pause)
                if self._thread is not me:
                    return
                news, self._news = self._news, False
            if lookout is not None and lookout.sees_change():
                news = True
                with self._lock:
                    for subscription in self._subscriptions:
                        subscription.work, subscription.changed = True, None
            pause = _LOOK_SOON_S if news else min(pause * _SLOWDOWN, _LOOK_LATE_S)
            if news:
                self._tell()

    def _tell(self) -> None:
        for subscription in self._subscriptions:
            with self._lock:
                work, changed = subscription.work, subscription.changed
                subscription.work, subscription.changed = False, set()
            if work:
                _call(subscription, Wake(kind="work"))
            if changed is None or changed:
                _call(subscription, Wake(kind="changed", ids=None if changed is None else frozenset(changed)))


class _Lookout:
    """Notices when another process has committed."""

    def __init__(self, others: Others) -> None:
        self._others = others
        self._glimpse = others.glance()
        self._version = others.data_version()
        self._asked_at = time.monotonic()

    def sees_change(self) -> bool:
        glimpse, now = self._others.glance(), time.monotonic()
        asked = now - self._asked_at
        # This process's own commits move the date as well: the writer is not to be kept busy with questions.
        if asked < (_ASK_EVERY_S if glimpse == self._glimpse else _LOOK_SOON_S):
            return False
        self._glimpse, self._asked_at = glimpse, now
        try:
            version = self._others.data_version()
        except ProviderError:
            # A hint is lost, or the store is being closed: whoever waits polls as well.
            return False
        changed = version != self._version
        self._version = version
        return changed


def _call(subscription: _Subscription, wake: Wake) -> None:
    with subscription.calling:
        if subscription.closed:
            return
        try:
            subscription.on_wake(wake)
        except Exception:
            _LOG.exception("a wake-up callback failed; its subscription goes on")

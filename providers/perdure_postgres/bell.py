"""Hints between processes: LISTEN and NOTIFY, on a connection of their own.

A NOTIFY inside a transaction that does work would have all such transactions of the database commit one after the
other. So what happened is gathered in memory, and one thread tells it, at most a hundred times a second, however much
happened. The same thread listens. Its connection is opened when there is first something to tell or to hear; while
there is none, hints are lost, and whoever waits polls.
"""

from __future__ import annotations

import json
import logging
import selectors
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Final

import psycopg
from psycopg import Notify, sql

from perdure.spi import Closed, OnWake, ProviderError, Subscription
from perdure_postgres.connection import Connection, connect
from perdure_postgres.urls import Settings, channel_of
from perdure_sql.wakeup import Watch

__all__ = ["ANYTHING", "Bell"]

_LOG = logging.getLogger("perdure.postgres")

_PAUSE_S: Final = 0.010
"""Between one NOTIFY and the next."""

_RETRY_S: Final = (0.1, 5.0)
"""The first and the longest pause before a lost connection is opened anew."""

_LINGER_S: Final = 1.0
"""How long the connection is kept where nobody subscribes: somebody who has just told something may tell more."""

_CLOSE_S: Final = 2.0
"""How long what was announced may still be told while a provider is closed."""

# Postgres takes less than 8,000 bytes.
_MOST_BYTES: Final = 7900


ANYTHING: Final = "[1,null]"
"""What is told where anything may have happened."""


class Bell:
    """Tells other processes what happened here, and our subscribers what happened anywhere.

    Args:
        settings: what the URL says.
        name: what to call the database in messages.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._watch = Watch(None)
        self._lock = threading.Lock()
        self._news: dict[str, tuple[bool, set[str] | None]] = {}
        """By hub: whether work was made, and which instances changed; None: any."""
        self._hubs: dict[str, int] = {}
        """How many subscribers each hub has."""
        self._listening: dict[str, str] = {}
        """Hubs by the channels that the session listens to."""
        self._thread: threading.Thread | None = None
        self._closed = False
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)

    def announce(self, hub: str, *, work: bool, changed: set[str]) -> None:
        """Have everybody told what a commit did."""
        self._watch.announce(hub, work=work, changed=changed)
        with self._lock:
            if self._closed:
                return
            was_work, were_changed = self._news.get(hub, (False, set()))
            together = None if were_changed is None else were_changed | changed
            if together is not None and len(together) > _MOST_BYTES // 4:
                together = None
            is_first = not self._news
            self._news[hub] = (was_work or work, together)
            self._start()
        if is_first:
            self._ring()

    def subscribe(self, hub: str, on_wake: OnWake) -> Subscription:
        """Call `on_wake` with what happens in `hub`."""
        with self._lock:
            if self._closed:
                raise Closed
            self._hubs[hub] = self._hubs.get(hub, 0) + 1
            self._start()
        subscription = self._watch.subscribe(hub, on_wake, lambda _: self._forget(hub))
        self._ring()
        return subscription

    def close(self) -> None:
        """Tell what is left to be told, and end. Idempotent."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._watch.close()
        if thread is not None and thread is not threading.current_thread():
            self._ring()
            thread.join(_CLOSE_S)
        if thread is None or not thread.is_alive():
            self._inner.close()
            self._outer.close()

    def _forget(self, hub: str) -> None:
        with self._lock:
            self._hubs[hub] -= 1
            if not self._hubs[hub]:
                del self._hubs[hub]
        self._ring()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="perdure-postgres-bell", daemon=True)
            self._thread.start()

    def _ring(self) -> None:
        # A full pipe rings anyway.
        with suppress(BlockingIOError, OSError):
            self._outer.send(b"!")

    def _serve(self) -> None:
        pause, longest = _RETRY_S
        me = threading.current_thread()
        while self._thread is me and not self._is_over():
            try:
                db = connect(self._settings, self._name)
            except ProviderError as error:
                _LOG.debug("no connection for hints: %s", error)
                if self._closed or self._leave():
                    return
                self._wait(None, pause)
                pause = min(2 * pause, longest)
                continue
            try:
                pause = _RETRY_S[0]
                self._converse(db)
            except (psycopg.Error, OSError) as error:
                _LOG.debug("the connection for hints broke: %s", type(error).__name__)
            finally:
                db.close()

    def _is_over(self) -> bool:
        with self._lock:
            return self._closed and not self._news

    def _leave(self) -> bool:
        """Tell whether there is nobody to tell and nobody to listen for; then the thread ends."""
        with self._lock:
            if self._hubs or self._news:
                return False
            self._thread = None
            return True

    def _converse(self, db: Connection) -> None:
        """Tell and listen until the connection breaks or we are closed."""
        self._listening = {}
        hear = partial(self._hear, db.info.backend_pid)
        db.add_notify_handler(hear)
        told_at = 0.0
        while not self._is_over():
            self._listen(db)
            # Also what came along with an answer: of that the socket says nothing any more.
            db.pgconn.consume_input()
            while (notice := db.pgconn.notifies()) is not None:
                hear(Notify(notice.relname.decode(), notice.extra.decode(), notice.be_pid))
            rest = told_at + _PAUSE_S - time.monotonic()
            with self._lock:
                waiting = bool(self._news)
            if waiting and rest <= 0:
                self._tell(db)
                told_at = time.monotonic()
                continue
            if waiting:
                self._wait(db, rest)
            elif self._hubs:
                self._wait(db, None)
            else:
                self._wait(db, _LINGER_S)
                if self._leave():
                    return

    def _listen(self, db: Connection) -> None:
        """Listen where somebody has subscribed, and nowhere else."""
        with self._lock:
            wanted = {channel_of(self._settings.schema, hub): hub for hub in self._hubs}
        for channel in self._listening.keys() - wanted.keys():
            db.run(sql.SQL("UNLISTEN {}").format(sql.Identifier(channel)))
        fresh = wanted.keys() - self._listening.keys()
        for channel in fresh:
            db.run(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        self._listening = wanted
        for channel in fresh:
            # What happened before we listened was told to nobody.
            self._watch.announce(wanted[channel], work=True, changed=None)

    def _tell(self, db: Connection) -> None:
        with self._lock:
            news, self._news = self._news, {}
        channels, payloads = [], []
        for hub, (work, changed) in news.items():
            channels.append(channel_of(self._settings.schema, hub))
            payloads.append(_payload(work=work, changed=changed))
        db.run("SELECT pg_notify(n.channel, n.payload) FROM unnest(%s::text[], %s::text[]) AS n (channel, payload)",
               [channels, payloads])  # fmt: skip

    def _hear(self, own_pid: int, notice: Notify) -> None:
        hub = self._listening.get(notice.channel)
        # Our own subscribers know already what happened here.
        if hub is not None and notice.pid != own_pid:
            work, changed = _read(notice.payload)
            self._watch.announce(hub, work=work, changed=changed)

    def _wait(self, db: Connection | None, seconds: float | None) -> None:
        """Wait until the server or somebody here says something."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._inner, selectors.EVENT_READ)
            if db is not None:
                selector.register(db, selectors.EVENT_READ)
            selector.select(seconds)
        with suppress(BlockingIOError):
            while self._inner.recv(4096):
                pass


def _payload(*, work: bool, changed: set[str] | None) -> str:
    text = json.dumps([int(work), None if changed is None else sorted(changed)], separators=(",", ":"))
    return text if len(text) <= _MOST_BYTES else json.dumps([int(work), None])


def _read(payload: str) -> tuple[bool, set[str] | None]:
    """Return what a notification says; what can't be read says that anything may have happened."""
    try:
        work, changed = json.loads(payload)
        return bool(work), None if changed is None else {str(id_) for id_ in changed}
    except (TypeError, ValueError):
        return True, None

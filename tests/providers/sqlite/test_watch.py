"""How often the file is looked at for what other processes do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from perdure.spi import Wake
from perdure_sql.wakeup import Watch

PATIENCE_SECONDS = 10


class Others:
    """Other processes, as far as a watch sees them."""

    def __init__(self) -> None:
        self.looks = 0
        self.questions = 0
        self.version = 0
        self.is_busy_here = False

    def glance(self) -> object:
        self.looks += 1
        return self.looks if self.is_busy_here else self.version

    def data_version(self) -> int:
        self.questions += 1
        return self.version


@contextmanager
def watched(others: Others, news: threading.Event) -> Iterator[Watch]:
    def wake(_: Wake) -> None:
        news.set()

    watch = Watch(others)
    subscription = watch.subscribe("h", wake, lambda _: None)
    yield watch
    subscription.close()


def test_a_quiet_file_is_looked_at_less_often() -> None:
    others = Others()
    with watched(others, threading.Event()):
        time.sleep(0.5)
        before = others.looks
        time.sleep(1)
        assert 5 < others.looks - before <= 45


def test_what_others_do_is_noticed_after_a_long_silence_and_soon_once_more() -> None:
    others, news = Others(), threading.Event()
    with watched(others, news):
        time.sleep(0.5)
        for _ in range(3):
            news.clear()
            others.version += 1
            assert news.wait(PATIENCE_SECONDS)


def test_news_of_this_process_are_told_at_once() -> None:
    others, news = Others(), threading.Event()
    with watched(others, news) as watch:
        time.sleep(0.5)
        watch.announce("h", work=True, changed=set())
        assert news.wait(PATIENCE_SECONDS)


def test_a_busy_process_does_not_keep_its_writer_busy_with_questions() -> None:
    others, news = Others(), threading.Event()
    others.is_busy_here = True
    with watched(others, news) as watch:
        before, end = others.questions, time.monotonic() + 0.5
        while time.monotonic() < end:
            watch.announce("h", work=True, changed=set())
        assert others.questions - before <= 105

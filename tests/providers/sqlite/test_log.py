"""The write-ahead log stays short, whoever reads and whoever dies."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from perdure_conformance.driver import Driver
from perdure_sqlite import SQLiteProvider
from perdure_sqlite.connection import LOG_BYTES

MEGABYTE = 1024 * 1024
# What checkpoints that come by themselves leave: 2,000 pages, and the transaction that went over it.
USUAL = 10 * MEGABYTE


@pytest.fixture
def length(path: Path) -> Callable[[], int]:
    return lambda: os.path.getsize(f"{path}-wal")


@pytest.fixture
def write(driver: Driver) -> Callable[[int], None]:
    """Write so many megabytes."""
    written = 0

    def write(megabytes: int) -> None:
        nonlocal written
        for _ in range(megabytes):
            written += 1
            driver.create(f"i{written}", input=bytes(MEGABYTE))

    return write


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def read(db: sqlite3.Connection) -> None:
    """Begin to read, and go on."""
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM perdure_hubs").fetchone()


def test_the_log_starts_anew_by_itself(write: Callable[[int], None], length: Callable[[], int]) -> None:
    write(50)
    assert length() < USUAL


def test_a_log_that_grew_under_a_long_reader_is_cut_after_it(
    path: Path, driver: Driver, write: Callable[[int], None], length: Callable[[], int]
) -> None:
    with closing(connect(path)) as reader:
        read(reader)
        write(50)
        driver.hub.pump()
        assert length() > LOG_BYTES
        write(1)
    driver.hub.pump()
    assert length() < USUAL
    write(20)
    assert length() < USUAL


def test_a_long_log_is_cut_even_without_pump(
    path: Path, write: Callable[[int], None], length: Callable[[], int]
) -> None:
    with closing(connect(path)) as reader:
        read(reader)
        write(50)
    write(2)
    assert length() <= LOG_BYTES


@contextmanager
def always_reading(path: Path) -> Iterator[None]:
    """Have two take turns, so that there is never a moment at which nobody reads."""
    ended = threading.Event()

    def take_turns() -> None:
        with closing(connect(path)) as one, closing(connect(path)) as other:
            while not ended.is_set():
                for begins, ends in ((one, other), (other, one)):
                    read(begins)
                    if ends.in_transaction:
                        ends.execute("ROLLBACK")
                    ended.wait(0.005)

    thread = threading.Thread(target=take_turns)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_readers_that_take_turns_do_not_let_it_grow(
    path: Path, driver: Driver, write: Callable[[int], None], length: Callable[[], int]
) -> None:
    with always_reading(path):
        write(50)
        deadline = time.monotonic() + 20
        while length() > USUAL and time.monotonic() < deadline:
            driver.hub.pump()
        assert length() < USUAL


def test_a_process_that_is_killed_as_it_reads_keeps_nothing(
    path: Path, driver: Driver, write: Callable[[int], None], length: Callable[[], int]
) -> None:
    code = (
        "import sqlite3, sys, time; db = sqlite3.connect(sys.argv[1], isolation_level=None); db.execute('BEGIN');"
        "db.execute('SELECT count(*) FROM perdure_hubs').fetchone(); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        write(20)
        assert length() > USUAL
        process.send_signal(signal.SIGKILL)
        process.wait()
    write(30)
    assert length() < LOG_BYTES
    driver.hub.pump()
    write(30)
    assert length() < LOG_BYTES


def test_a_killed_writers_log_is_taken_over(path: Path, length: Callable[[], int]) -> None:
    code = (
        "import os, sys; from perdure.spi import NewInstance; from perdure_sqlite import SQLiteProvider;"
        "p = SQLiteProvider(f'sqlite:///{sys.argv[1]}'); p.open(); p.create_hub('h');"
        "p.hub('h').create_instances([NewInstance(id='a', name='n', start=bytes(4_000_000), generation='g')]);"
        "os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    for _ in range(5):
        subprocess.run([sys.executable, "-c", code, str(path)], check=False, env=environment)
        assert length() < USUAL
    with SQLiteProvider(f"sqlite:///{path}") as provider:
        assert [found and found.id for found in provider.hub("h").get_instances(["a"])] == ["a"]

"""Many threads, one transaction."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import count
from types import FrameType
from typing import Any

import pytest

from perdure.spi import Closed, Outcome, OutcomeUnknown, Transient
from perdure_conformance.driver import Driver
from perdure_sqlite import SQLiteProvider
from perdure_sqlite import writer as writer_module
from perdure_sqlite.writer import Writer


class Connection(sqlite3.Connection):
    """Fails where it is told to."""

    fail: tuple[str, int] | None = None

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if self.fail is not None and sql == self.fail[0]:
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self.fail[1]
            self.fail = None
            raise error
        return super().execute(sql, *parameters)


@pytest.fixture
def db() -> Connection:
    made = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=Connection)
    made.execute("CREATE TABLE t (x INTEGER PRIMARY KEY)")
    return made


@pytest.fixture
def writer(db: Connection) -> Iterator[Writer]:
    made = Writer(db, "t.db")
    yield made
    made.close()


def insert(number: int) -> Callable[[sqlite3.Connection], int]:
    def work(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO t VALUES (?)", (number,))
        return number

    return work


def stored(writer: Writer) -> list[int]:
    return writer.run_outside(lambda db: [x for (x,) in db.execute("SELECT x FROM t ORDER BY x")])


def together(writer: Writer, works: list[Callable[[sqlite3.Connection], int]]) -> list[object]:
    """Run all of them in one transaction, each from a thread of its own."""
    answers: list[object] = [None] * len(works)
    begun, gathered = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        begun.set()
        gathered.wait(10)

    def ask(place: int) -> None:
        try:
            answers[place] = writer.run(works[place])
        except Exception as error:
            answers[place] = error

    first = threading.Thread(target=writer.run_outside, args=(hold,))
    first.start()
    begun.wait(10)
    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(works))]
    for waiting, thread in enumerate(threads, 1):
        thread.start()
        while len(writer._queue) < waiting:
            threading.Event().wait(0.001)
    gathered.set()
    for thread in (first, *threads):
        thread.join(10)
        assert not thread.is_alive()
    return answers


def test_what_gathers_is_one_transaction(writer: Writer) -> None:
    before = writer.transactions
    assert together(writer, [insert(number) for number in range(10)]) == list(range(10))
    assert writer.transactions - before == 1
    assert stored(writer) == list(range(10))


def test_one_that_fails_spoils_nothing_of_its_neighbours(writer: Writer) -> None:
    def halfway(db: sqlite3.Connection) -> int:
        insert(7)(db)
        raise Transient

    answers = together(writer, [insert(1), halfway, insert(1), insert(2)])
    assert [answers[0], answers[3]] == [1, 2]
    assert isinstance(answers[1], Transient)
    assert isinstance(answers[2], OutcomeUnknown)
    assert stored(writer) == [1, 2]


def test_a_commit_that_fails_fails_all(writer: Writer, db: Connection) -> None:
    db.fail = ("COMMIT", sqlite3.SQLITE_FULL)
    answers = together(writer, [insert(1), insert(2)])
    assert [type(answer) for answer in answers] == [Transient, Transient]
    assert answers[0] is not answers[1]
    assert stored(writer) == []
    db.fail = ("COMMIT", sqlite3.SQLITE_IOERR_FSYNC)
    assert isinstance(together(writer, [insert(1)])[0], OutcomeUnknown)
    assert writer.run(insert(3)) == 3


def test_a_lock_that_is_not_got_fails_all(writer: Writer, db: Connection) -> None:
    db.fail = ("BEGIN IMMEDIATE", sqlite3.SQLITE_BUSY)
    assert [type(answer) for answer in together(writer, [insert(1), insert(2)])] == [Transient, Transient]
    assert stored(writer) == []


def test_closing_refuses_what_waits(writer: Writer) -> None:
    begun, gathered = threading.Event(), threading.Event()
    answers: list[object] = []

    def hold(db: sqlite3.Connection) -> int:
        begun.set()
        gathered.wait(10)
        return insert(1)(db)

    def ask(work: Callable[[sqlite3.Connection], int]) -> None:
        try:
            answers.append(writer.run(work))
        except Closed as error:
            answers.append(type(error))

    threads = [threading.Thread(target=ask, args=(hold,))]
    threads[0].start()
    begun.wait(10)
    threads.append(threading.Thread(target=ask, args=(insert(2),)))
    threads[1].start()
    while not writer._queue:
        threading.Event().wait(0.001)
    threads.append(threading.Thread(target=writer.close))
    threads[2].start()
    threads[1].join(10)
    gathered.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert answers == [Closed, 1]


def test_threads_of_clients_share_syncs(driver: Driver, provider: SQLiteProvider) -> None:
    writer = provider.store().writer
    before = writer.transactions

    def create(name: int) -> None:
        for number in range(25):
            assert driver.create(f"{name}-{number}") == [Outcome.OK]

    threads = [threading.Thread(target=create, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(driver.find(page_size=1000)) == 400
    assert writer.transactions - before < 300


def test_handles_of_one_file_share_one_writer(connect: Callable[[], SQLiteProvider]) -> None:
    one, other = connect(), connect()
    assert one.store() is other.store()
    one.close()
    other.create_hub("h")
    assert other.list_hubs() == ["h"]


class Interrupt:
    """Raises `KeyboardInterrupt` in one thread where Ctrl-C could: as a function starts, or one in C returns."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.raised = False

    def __enter__(self) -> None:
        sys.setprofile(self._profile)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _called: object) -> None:
        ours = frame.f_code.co_filename == writer_module.__file__ or frame.f_code.co_name == "work"
        if self.raised or not ours or event not in ("call", "c_return"):
            return
        self.after -= 1
        if self.after < 0:
            self.raised = True
            raise KeyboardInterrupt


class Asking:
    """Threads that each ask for one insertion."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._threads: list[threading.Thread] = []
        self.answers: dict[int, object] = {}

    def ask(self, number: int, work: Callable[[sqlite3.Connection], int], interrupt: Interrupt | None = None) -> None:
        """Ask, and return once the work waits or is done."""

        def is_known() -> bool:
            return number in self.answers or any(job.work is work for job in self._writer._queue)

        def run() -> None:
            try:
                with interrupt or nullcontext():
                    self.answers[number] = self._writer.run(work)
            except BaseException as error:
                self.answers[number] = error

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()
        deadline = time.monotonic() + 10
        while not is_known() and time.monotonic() < deadline:
            time.sleep(0.0002)

    def finish(self) -> None:
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a thread waits for one that was interrupted"


def interrupted_leader(writer: Writer, interrupt: Interrupt) -> Asking:
    """Interrupt the one that leads, for whom two others wait."""
    asking = Asking(writer)

    def work(db: sqlite3.Connection) -> int:
        for number in (1, 2):
            asking.ask(number, insert(number))
        return insert(0)(db)

    asking.ask(0, work, interrupt)
    return asking


def interrupted_heir(writer: Writer, interrupt: Interrupt) -> Asking:
    """Interrupt one that waits and is passed the lead, with two others behind it."""
    asking = Asking(writer)

    def work(db: sqlite3.Connection) -> int:
        asking.ask(0, insert(0), interrupt)
        for number in (1, 2):
            asking.ask(number, insert(number))
        return insert(3)(db)

    asking.ask(3, work)
    return asking


@pytest.mark.parametrize("scenario", [interrupted_leader, interrupted_heir])
def test_an_interrupt_anywhere_leaves_nobody_waiting(
    scenario: Callable[[Writer, Interrupt], Asking],
) -> None:
    for after in count():
        interrupt = Interrupt(after)
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        db.execute("CREATE TABLE t (x INTEGER PRIMARY KEY)")
        writer = Writer(db, "t.db")
        asking = scenario(writer, interrupt)
        asking.finish()
        assert writer.run(insert(9)) == 9
        kept = stored(writer)
        for number, answer in asking.answers.items():
            if isinstance(answer, int):
                assert number in kept, f"lost after {after} steps"
            elif number:
                assert isinstance(answer, Transient | OutcomeUnknown)
                assert number not in kept or isinstance(answer, OutcomeUnknown)
        closing = threading.Thread(target=writer.close, daemon=True)
        closing.start()
        closing.join(10)
        assert not closing.is_alive(), "the lead was lost"
        if not interrupt.raised:
            assert after > 10
            return

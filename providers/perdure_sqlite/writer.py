"""The one connection that writes, and how many threads share its transactions.

A sync to disk costs more than most operations do. So while one transaction runs, what other threads ask
gathers, and the next transaction does all of it: one sync for all. Nobody waits for more to gather.

There is no thread behind this. Of those who ask, the first leads: it runs what has gathered, its own among it,
hands the results out, and passes the lead on to somebody who came meanwhile.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from copy import copy
from typing import Generic, TypeVar

from perdure.spi import Closed, OutcomeUnknown, Transient
from perdure_sqlite.errors import translate

__all__ = ["Writer"]

T = TypeVar("T")


class _Job(Generic[T]):
    """One operation that a thread asks for."""

    __slots__ = ("error", "lead", "result", "turn", "waiting", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], *, turn: bool) -> None:
        self.work = work
        self.turn = turn
        self.result: T | None = None
        self.error: BaseException | None = None
        self.lead = False
        self.waiting: threading.Lock | None = None


class Writer:
    """Runs operations on one connection, grouped into transactions.

    Args:
        db: the connection; the writer closes it.
        path: of the file, for messages.
    """

    def __init__(self, db: sqlite3.Connection, path: str) -> None:
        self._db = db
        self._path = path
        self._mutex = threading.Lock()
        self._queue: list[_Job[object]] = []
        self._led = False
        self._closed = False
        self._idle = threading.Condition(self._mutex)
        self.transactions = 0
        """How many were committed."""

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` inside a transaction, and return its result once that is committed.

        Raises:
            Closed: the writer was closed.
            ProviderError: what `work` raised, or what the driver's error means; nothing of it was applied,
                unless it is `OutcomeUnknown`.
        """
        return self._submit(_Job(work, turn=True))

    def run_outside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the connection, alone and between transactions."""
        return self._submit(_Job(work, turn=False))

    def close(self) -> None:
        """Let what runs end, refuse what waits, and close the connection. Idempotent."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            refused, self._queue = self._queue, []
            for job in refused:
                job.error = Closed()
                _hand_out(job)
            while self._led:
                self._idle.wait()
        self._db.close()

    def _submit(self, job: _Job[T]) -> T:
        with self._mutex:
            if self._closed:
                raise Closed
            self._queue.append(job)  # type: ignore[arg-type]  # its result goes to its own thread alone
            leads = not self._led
            if leads:
                self._led = True
            else:
                job.waiting = threading.Lock()
                job.waiting.acquire()
        if job.waiting is not None:
            try:
                job.waiting.acquire()
            except BaseException:
                self._withdraw(job)
                raise
            leads = job.lead
        if leads:
            self._lead()
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # set wherever there is no error

    def _lead(self) -> None:
        """Run everything that has gathered, then pass the lead on."""
        with self._mutex:
            jobs, self._queue = self._queue, []
        try:
            outside = [job for job in jobs if not job.turn]
            inside = [job for job in jobs if job.turn]
            for job in outside:
                self._attempt(job, "read")
            if inside:
                self._transaction(inside)
        finally:
            with self._mutex:
                self._pass_on()
            for job in jobs:
                _hand_out(job)

    def _pass_on(self) -> None:
        if self._queue:
            self._queue[0].lead = True
            _hand_out(self._queue[0])
        else:
            self._led = False
            self._idle.notify_all()

    def _withdraw(self, job: _Job[T]) -> None:
        """Take back a job whose thread was interrupted while it waited, and with it the lead it may have."""
        with self._mutex:
            self._queue = [other for other in self._queue if other is not job]
            if job.lead:
                self._pass_on()

    def _transaction(self, jobs: list[_Job[object]]) -> None:
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            _fail(jobs, translate(error, "write", self._path), error)
            return
        try:
            if len(jobs) == 1:
                self._attempt(jobs[0], "write")
                if jobs[0].error is not None:
                    _roll_back(db)
                    return
            else:
                self._attempt_each(jobs)
            if not db.in_transaction:
                # An error took the whole transaction with it.
                lost = Transient(f"SQLite file {self._path!r}: the transaction was rolled back; nothing was applied")
                _fail(jobs, lost, None)
                return
            db.execute("COMMIT")
            self.transactions += 1
        except sqlite3.Error as error:
            _roll_back(db)
            _fail(jobs, translate(error, "commit", self._path), error)
        except BaseException:
            # This thread was interrupted; the others in the transaction were not.
            certain = db.in_transaction
            _roll_back(db)
            _fail(jobs, Transient() if certain else OutcomeUnknown(), None)
            raise

    def _attempt_each(self, jobs: list[_Job[object]]) -> None:
        """Run jobs of several threads, so that one that fails takes nothing of the others back."""
        db = self._db
        for job in jobs:
            db.execute("SAVEPOINT job")
            self._attempt(job, "write")
            if not db.in_transaction:
                return
            if job.error is not None:
                db.execute("ROLLBACK TO job")
            db.execute("RELEASE job")

    def _attempt(self, job: _Job[object], stage: str) -> None:
        try:
            job.result = job.work(self._db)
        except sqlite3.Error as error:
            job.error = translate(error, "read" if stage == "read" else "write", self._path)
            job.error.__cause__ = error
        except Exception as error:
            job.error = error


def _roll_back(db: sqlite3.Connection) -> None:
    try:
        if db.in_transaction:
            db.execute("ROLLBACK")
    except sqlite3.Error:
        # It rolled back by itself, or will when the connection closes: nothing is applied either way.
        return


def _fail(jobs: list[_Job[object]], error: BaseException, cause: BaseException | None) -> None:
    for job in jobs:
        if job.error is None:
            # Each thread raises an exception of its own: a traceback is written into it.
            job.error = copy(error)
            job.error.__cause__ = cause


def _hand_out(job: _Job[object]) -> None:
    if job.waiting is not None and job.waiting.locked():
        job.waiting.release()

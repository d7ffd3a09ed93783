"""The one connection that writes, and how many threads share its transactions.

A sync to disk costs more than most operations do. So while one transaction runs, what other threads ask
gathers, and the next transaction does all of it: one sync for all. Nobody waits for more to gather.

There is no thread behind this. Of those who ask, the first leads: it runs what has gathered, its own among it,
hands the results out, and passes the lead on to somebody who came meanwhile.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from copy import copy
from typing import Generic, TypeVar

from perdure.spi import Closed, OutcomeUnknown, Transient
from perdure_sqlite.errors import translate

__all__ = ["Writer"]

T = TypeVar("T")


class _Job(Generic[T]):
    """One operation that a thread asks for."""

    __slots__ = ("done", "error", "result", "taken", "turn", "waiting", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], *, turn: bool) -> None:
        self.work = work
        self.turn = turn
        self.result: T | None = None
        self.error: BaseException | None = None
        self.done = False
        self.taken: Sequence[_Job[object]] = ()
        """What its thread runs as the leader."""
        # Released by whoever has the answer, or passes on the lead.
        self.waiting = threading.Lock()
        self.waiting.acquire()


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
        self._leader: _Job[object] | None = None
        """That of the thread that runs what has gathered, or was told to."""
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
            while self._leader is not None:
                self._idle.wait()
        self._db.close()

    def _submit(self, job: _Job[T]) -> T:
        # Ctrl-C may interrupt the main thread between any two steps, and must leave nobody waiting for it. So what it
        # asked for and whether it leads stand in the writer and not in this frame, where they can be taken back.
        mine: _Job[object] = job  # type: ignore[assignment]  # its result goes to its own thread alone
        try:
            with self._mutex:
                if self._closed:
                    raise Closed
                self._queue.append(mine)
                if self._leader is None:
                    self._leader = mine
                leads = self._leader is mine
            if not leads:
                job.waiting.acquire()
            if self._leader is mine:
                self._lead(mine)
        except BaseException:
            self._withdraw(mine)
            raise
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # set wherever there is no error

    def _lead(self, leader: _Job[object]) -> None:
        """Run everything that has gathered, then pass the lead on."""
        with self._mutex:
            jobs = leader.taken = self._queue
            self._queue = []
        for job in jobs:
            if not job.turn:
                self._attempt(job, "read")
                job.done = True
        inside = [job for job in jobs if job.turn]
        if inside:
            self._transaction(inside)
            for job in inside:
                job.done = True
        with self._mutex:
            self._pass_on()
        for job in jobs:
            _hand_out(job)
        # It holds its own job: a circle would keep all results until the garbage collector comes.
        leader.taken = ()

    def _pass_on(self) -> None:
        if self._queue:
            # In this order: one that is woken finds that it leads.
            self._leader = self._queue[0]
            _hand_out(self._leader)
        else:
            self._leader = None
            self._idle.notify_all()

    def _withdraw(self, job: _Job[object]) -> None:
        """Take back a job whose thread was interrupted, and with it the lead it may have."""
        with self._mutex:
            self._queue = [other for other in self._queue if other is not job]
            if self._leader is None or self._leader is job:
                self._pass_on()
            elif self._leader in self._queue:
                # It may not have been woken yet.
                _hand_out(self._leader)
        for taken in job.taken:
            if not taken.done and taken.error is None:
                taken.error = OutcomeUnknown()
            _hand_out(taken)
        job.taken = ()

    def _transaction(self, jobs: list[_Job[object]]) -> None:
        db = self._db
        committing = False
        try:
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                _fail(jobs, translate(error, "write", self._path), error)
                return
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
            committing = True
            db.execute("COMMIT")
            self.transactions += 1
        except sqlite3.Error as error:
            _roll_back(db)
            _fail(jobs, translate(error, "commit", self._path), error)
        except BaseException:
            # This thread was interrupted; the others in the transaction were not.
            certain = not committing or db.in_transaction
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
    # Its thread may hold it anew, having been woken before: then nobody waits, and nothing comes of it.
    if job.waiting.locked():
        job.waiting.release()

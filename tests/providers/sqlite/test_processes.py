"""Many processes on one file."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.spi import ClaimTurns, Closed, Outcome, SystemClock, Wake
from perdure_conformance.driver import Driver, new_instance, turn_commit
from perdure_sqlite import SQLiteProvider

PROCESSES = multiprocessing.get_context("spawn")
PATIENCE_SECONDS = 30


def run(target: Callable[..., None], *given: tuple[object, ...]) -> None:
    """Run `target` in as many processes as there are tuples of arguments, and wait for all of them."""
    made = [PROCESSES.Process(target=target, args=arguments) for arguments in given]
    for process in made:
        process.start()
    for process in made:
        process.join(PATIENCE_SECONDS)
    assert [process.exitcode for process in made] == [0] * len(made)


def open_and_create(url: str, name: str) -> None:
    with SQLiteProvider(url) as provider:
        provider.create_hub(name)


def test_processes_that_open_a_new_file_at_once_all_succeed(url: str) -> None:
    run(open_and_create, *((url, f"h{number}") for number in range(8)))
    with SQLiteProvider(url) as provider:
        assert provider.list_hubs() == [f"h{number}" for number in range(8)]


def drain(url: str, report: Path) -> None:
    taken: list[str] = []
    with SQLiteProvider(url) as provider:
        hub = provider.hub("h")
        while True:
            batch = hub.claim_turns(ClaimTurns(worker=report.name, max_items=3, lease_ms=60_000))
            if not batch.items:
                break
            taken += [item.instance for item in batch.items]
            assert set(hub.commit_turns([turn_commit(item) for item in batch.items])) == {Outcome.OK}
    report.write_text("\n".join(taken))


def test_processes_share_the_work_without_a_repeat(url: str, tmp_path: Path) -> None:
    with SQLiteProvider(url) as provider:
        provider.create_hub("h")
        provider.hub("h").create_instances([new_instance(f"i{number}") for number in range(200)])
        reports = [tmp_path / f"report{number}" for number in range(4)]
        run(drain, *((url, report) for report in reports))
    taken = [line for report in reports for line in report.read_text().splitlines()]
    assert sorted(taken) == sorted(f"i{number}" for number in range(200))


def send(url: str) -> None:
    with SQLiteProvider(url) as provider:
        provider.hub("h").create_instances([new_instance("far")])


def test_a_commit_of_another_process_wakes_subscribers(url: str) -> None:
    woken: queue.SimpleQueue[Wake] = queue.SimpleQueue()
    with SQLiteProvider(url) as provider:
        provider.create_hub("h")
        hub = provider.hub("h")
        hub.subscribe(woken.put)
        hub.create_instances([new_instance("near")])
        time.sleep(0.1)
        while not woken.empty():
            woken.get()
        # What this process does itself is announced with its ids, and not once more by the look at the file.
        assert woken.empty()
        run(send, (url,))
        assert {woken.get(timeout=5).kind, woken.get(timeout=5).kind} == {"work", "changed"}


def commit_for_ever(url: str, report: str) -> None:
    with SQLiteProvider(url) as provider, Path(report).open("a") as acknowledged:
        hub = provider.hub("h")
        number = 0
        while True:
            hub.create_instances([new_instance(f"{os.getpid()}-{number}-{part}") for part in range(3)])
            acknowledged.write(f"{os.getpid()}-{number}\n")
            acknowledged.flush()
            number += 1


def test_what_was_acknowledged_survives_a_kill(url: str, tmp_path: Path, clock: SystemClock) -> None:
    report = tmp_path / "acknowledged"
    with SQLiteProvider(url) as provider:
        provider.create_hub("h")
    for _ in range(3):
        process = PROCESSES.Process(target=commit_for_ever, args=(url, str(report)))
        process.start()
        deadline = time.monotonic() + PATIENCE_SECONDS
        size = report.stat().st_size if report.exists() else 0
        while time.monotonic() < deadline and (not report.exists() or report.stat().st_size < size + 500):
            time.sleep(0.01)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE_SECONDS)
    with SQLiteProvider(url) as provider:
        found = Driver(provider.hub("h"), clock).find(page_size=1_000_000)  # type: ignore[arg-type]
        for line in report.read_text().splitlines():
            assert {f"{line}-{part}" for part in range(3)} <= set(found)
        # Each batch is there as a whole or not at all.
        assert len(found) % 3 == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_handle_is_refused_in_a_forked_child(provider: SQLiteProvider, url: str) -> None:
    provider.create_hub("h")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing of the test runner may run on in the child.
        said = b"nothing"
        try:
            provider.list_hubs()
        except Closed as error:
            said = str(error).encode()
        try:
            provider.close()
            with SQLiteProvider(url) as own:
                said += b"|" + ",".join(own.list_hubs()).encode()
        finally:
            os.write(writer, said)
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as pipe:
        refusal, _, hubs = pipe.read().decode().partition("|")
    assert "fork" in refusal
    assert hubs == "h"
    assert provider.list_hubs() == ["h"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_locks_that_were_held_at_the_fork_stop_no_child(driver: Driver, provider: SQLiteProvider) -> None:
    subscription = driver.hub.subscribe(lambda _: None)
    assert subscription is not None
    with provider._lock, provider.store().watch._lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child == 0:
            subscription.close()
            provider.close()
            os._exit(0)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)

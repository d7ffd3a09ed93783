"""The command as people meet it: processes, signals, pipes, a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.command import Command, eventually, stop

FLOWS = str(Path(__file__).with_name("flows.py"))


def status(perdure: Command, instance_id: str) -> Any:
    shown = perdure.run("show", instance_id, "--json", code=None)
    return shown.json["status"] if shown.code == 0 else None


def custom_status(perdure: Command, instance_id: str) -> Any:
    shown = perdure.run("show", instance_id, "--json", code=None)
    return shown.json["custom_status"] if shown.code == 0 else None


def test_run_prints_the_output_alone_on_stdout(perdure: Command) -> None:
    done = perdure.run("run", FLOWS, "count_up", "--input", "41", "--id", "c1")
    assert done.stdout == "42\n"
    announced, command, *lines = done.stderr.splitlines()
    assert announced == "count_up c1; if it is interrupted, go on with:"
    assert command == f"  perdure run {FLOWS} count_up --id c1"
    assert "working" in done.stderr
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d  50% half-way\\x1b\[31m.*", line) for line in lines), done.stderr
    assert "\x1b" not in done.stderr


def test_run_as_json_prints_one_document(perdure: Command) -> None:
    document = perdure.run("run", FLOWS, "count_up", "--json").json
    assert (document["status"], document["output"]) == ("COMPLETED", 1)
    failed = perdure.run("run", FLOWS, "fail", "--json", code=1).json
    assert failed["status"] == "FAILED"


def test_run_takes_its_input_from_stdin(perdure: Command) -> None:
    assert perdure.run("run", FLOWS, "count_up", "--input", "-", stdin=" 7 ").stdout == "8\n"


def test_a_failure_goes_to_stderr_with_its_stack(perdure: Command) -> None:
    failed = perdure.run("run", FLOWS, "fail", "--id", "f1", code=1)
    assert failed.stdout == ""
    assert "fail f1 failed: " in failed.stderr
    assert "ValueError: no way \\x1b[2J out" in failed.stderr
    assert 'flows.py", line' in failed.stderr
    assert "\x1b" not in failed.stderr


def test_an_orchestrator_that_yields_5_is_told_what_it_may_wait_for(perdure: Command) -> None:
    failed = perdure.run("run", FLOWS, "five", code=1)
    assert "an orchestrator can't wait for int: yield or await only what" in failed.stderr


def test_what_is_finished_is_shown_again_and_not_run_again(perdure: Command) -> None:
    perdure.run("run", FLOWS, "count_up", "--id", "once")
    again = perdure.run("run", FLOWS, "--id", "once", "--input", "10")
    assert again.stdout == "1\n"
    assert again.stderr == "instance once is finished already; this is its result\n"
    perdure.run("run", FLOWS, "fail", "--id", "never", code=1)
    assert "is finished already" in perdure.run("run", FLOWS, "--id", "never", code=1).stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on_and_does(perdure: Command, number: int, code: int) -> None:
    process = perdure.start("run", FLOWS, "wait", "--input", '"why?"', "--id", "w1")
    eventually(lambda: custom_status(perdure, "w1") is not None, what="the question")
    actual, stdout, stderr = stop(process, number)
    assert (actual, stdout) == (code, "")
    assert stderr.splitlines()[-2:] == [
        "interrupted; wait w1 is kept as it is. Go on with:",
        f"  perdure run {FLOWS} wait --id w1",
    ]
    assert status(perdure, "w1") == "RUNNING"
    perdure.run("raise-event", "w1", "answer", "--data", '["because"]')
    resumed = perdure.run(*stderr.splitlines()[-1].split()[1:])
    assert resumed.stdout == '["because"]\n'
    assert "wait w1 goes on where it was" in resumed.stderr


def test_an_interrupted_run_as_json_says_how_to_go_on(perdure: Command) -> None:
    url = f"sqlite:///{perdure.directory}/elsewhere.db"
    process = perdure.start("run", FLOWS, "nap", "--id", "n1", "--json", "--provider", url)
    eventually(lambda: (perdure.directory / "elsewhere.db").exists() and len(history(perdure, "n1", url)) > 2)
    code, stdout, _ = stop(process)
    assert code == 130
    document = json.loads(stdout)
    assert document["status"] == "RUNNING"
    assert document["resume"] == f"perdure run {FLOWS} nap --id n1 --provider {url}"


def history(perdure: Command, instance_id: str, url: str) -> list[Any]:
    shown = perdure.run("history", instance_id, "--json", "--provider", url, code=None)
    return list(shown.json) if shown.code == 0 else []


def test_an_interrupted_run_lets_activities_finish_within_a_bound(perdure: Command) -> None:
    process = perdure.start("run", FLOWS, "dawdle", "--input", "1", "--id", "short")
    eventually(lambda: custom_status(perdure, "short") == "dawdling")
    started = time.monotonic()
    code, _, _ = stop(process)
    assert time.monotonic() - started < 5
    # What finished while it stopped is kept, be it the very end.
    assert code in (0, 130)
    assert perdure.run("run", FLOWS, "--id", "short").stdout == '"slept"\n'

    process = perdure.start("run", FLOWS, "dawdle", "--input", "60", "--id", "long")
    eventually(lambda: custom_status(perdure, "long") == "dawdling")
    started = time.monotonic()
    code, _, stderr = stop(process)
    assert 4 < time.monotonic() - started < 8
    assert code == 130
    assert "stopping: what runs has 5 s to finish" in stderr
    assert status(perdure, "long") == "RUNNING"


def test_a_second_signal_stops_at_once(perdure: Command) -> None:
    process = perdure.start("run", FLOWS, "dawdle", "--input", "60", "--id", "d2")
    eventually(lambda: custom_status(perdure, "d2") == "dawdling")
    process.send_signal(signal.SIGINT)
    time.sleep(0.7)
    started = time.monotonic()
    code, _, stderr = stop(process)
    assert code == 130
    assert time.monotonic() - started < 2
    assert "stopped at once; nothing is lost" in stderr
    assert status(perdure, "d2") == "RUNNING"


def test_a_run_goes_on_after_its_activity_killed_the_process(perdure: Command) -> None:
    assert perdure.run("run", FLOWS, "crash", "--id", "k", "--lease-seconds", "0.3", code=None).code == -signal.SIGKILL
    assert perdure.run("run", FLOWS, "crash", "--id", "k", "--lease-seconds", "0.3").stdout == "2\n"


def test_going_on_with_other_arguments(perdure: Command) -> None:
    stop_waiting(perdure, "w2", "1")
    other = perdure.run("run", FLOWS, "count_up", "--id", "w2", code=2)
    assert other.stderr == "error: instance 'w2' runs 'wait', not 'count_up'; leave the name out\n"
    stranger = perdure.directory / "stranger.py"
    stranger.write_text("import perdure\n@perdure.orchestrator\ndef stranger(ctx):\n    return 1\n    yield\n")
    assert (
        "which stranger.py doesn't have (it has stranger)"
        in perdure.run("run", "stranger.py", "--id", "w2", code=2).stderr
    )
    perdure.run("raise-event", "w2", "answer")
    resumed = perdure.run("run", FLOWS, "--id", "w2", "--input", "2")
    assert "warning: --input is ignored: this instance has another input already" in resumed.stderr
    assert resumed.stdout == "null\n"
    stop_waiting(perdure, "w3", "1")
    perdure.run("raise-event", "w3", "answer")
    assert "warning" not in perdure.run("run", FLOWS, "--id", "w3", "--input", " 1 ").stderr


def stop_waiting(perdure: Command, instance_id: str, input_json: str) -> None:
    process = perdure.start("run", FLOWS, "wait", "--id", instance_id, "--input", input_json)
    eventually(lambda: custom_status(perdure, instance_id) is not None)
    stop(process)


def test_a_suspended_instance_is_announced(perdure: Command) -> None:
    process = perdure.start("run", FLOWS, "wait", "--id", "s1")
    eventually(lambda: custom_status(perdure, "s1") is not None)
    perdure.run("suspend", "s1")
    eventually(lambda: status(perdure, "s1") == "SUSPENDED")
    time.sleep(0.5)
    _, _, stderr = stop(process)
    assert re.search(r"^\d\d:\d\d:\d\d suspended$", stderr, re.MULTILINE)
    process = perdure.start("run", FLOWS, "--id", "s1")
    perdure.run("raise-event", "s1", "answer", "--data", "3")
    perdure.run("resume", "s1")
    stdout, stderr = process.communicate(timeout=20)
    assert stdout == "3\n"


def test_others_that_go_on_too_are_mentioned(perdure: Command) -> None:
    stop_waiting(perdure, "left-behind", "1")
    done = perdure.run("run", FLOWS, "count_up")
    assert "also unfinished, and going on in this process too: left-behind (see `perdure list`)" in done.stderr


def test_a_run_in_memory_is_gone_and_says_so(perdure: Command) -> None:
    process = perdure.start("run", FLOWS, "nap", "--provider", "memory://gone")
    time.sleep(1.5)
    code, _, stderr = stop(process)
    assert code == 130
    assert "memory://gone keeps nothing" in stderr


def test_worker_serves_what_others_start(perdure: Command) -> None:
    worker = perdure.start("worker", FLOWS)
    assert worker.stdout is not None
    lines = [worker.stdout.readline() for _ in range(4)]
    assert re.fullmatch(r"provider: +sqlite \(perdure \S+\) at sqlite:///perdure.db\n", lines[0])
    assert lines[1] == "orchestrators: count_up, crash, dawdle, fail, five, nap, wait\n"
    assert lines[2] == "activities:    add_one, die_once, ring, sleep_long\n"

    started = perdure.run("start", "count_up", "--input", "1", "--id", "c")
    assert (started.stdout, started.stderr) == ("c\n", "")
    watched = perdure.run("watch", "c")
    assert watched.stdout.endswith("count_up c COMPLETED\n2\n")
    perdure.run("start", "fail", "--id", "f")
    failed = perdure.run("watch", "f", "--json", code=1)
    assert [json.loads(line)["id"] for line in failed.stdout.splitlines()].count("f") >= 1
    assert json.loads(failed.stdout.splitlines()[-1])["status"] == "FAILED"

    watching = perdure.start("watch", "w", "--json")
    assert watching.wait(20) == 4
    perdure.run("start", "wait", "--id", "w")
    watching = perdure.start("watch", "w", "--json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["id"] == "w"
    perdure.run("terminate", "w")
    rest, _ = watching.communicate(timeout=20)
    assert json.loads(rest.splitlines()[-1])["status"] == "TERMINATED"
    assert watching.returncode == 1

    assert stop(worker, signal.SIGTERM)[0] == 0


def test_worker_gives_back_what_it_can_not_finish(perdure: Command) -> None:
    perdure.run("start", "dawdle", "--input", "0.5", "--id", "d", "--wait", "0")
    worker = perdure.start("worker", FLOWS, "--lease-seconds", "60")
    eventually(lambda: custom_status(perdure, "d") == "dawdling")
    assert stop(worker, signal.SIGINT)[0] == 0
    # With a lease of a minute, only what was given back or finished can go on now.
    started = time.monotonic()
    assert perdure.run("run", FLOWS, "--id", "d").stdout == '"slept"\n'
    assert time.monotonic() - started < 20


def test_worker_takes_modules_by_name(perdure: Command) -> None:
    (perdure.directory / "shop").mkdir()
    (perdure.directory / "shop" / "orders.py").write_text(Path(FLOWS).read_text())
    worker = perdure.start("worker", "shop.orders", "--json")
    assert worker.stdout is not None
    document = json.loads(worker.stdout.readline())
    assert document["provider"]["distribution"] == "perdure"
    assert "count_up" in document["orchestrators"]
    assert stop(worker)[0] == 0
    assert "neither a file nor a module 'shop.nothing'" in perdure.run("worker", "shop.nothing", code=2).stderr


def test_watch_can_be_left(perdure: Command) -> None:
    perdure.run("start", "nobody", "--id", "n", "--wait", "0")
    process = perdure.start("watch", "n")
    time.sleep(1)
    code, stdout, stderr = stop(process)
    assert (code, stdout, stderr) == (130, "", "nobody n goes on without being watched\n")


def test_a_reader_that_goes_away_is_no_error(perdure: Command) -> None:
    perdure.run("start", "nobody", "--id", "n", "--wait", "0")
    done = subprocess.run(
        f"{sys.executable} -m perdure list | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=perdure.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_arguments_that_are_wrong_leave_no_store_behind(perdure: Command) -> None:
    for words in (["run", "nothing.py"], ["run", FLOWS], ["run", FLOWS, "count_up", "--input", "{a: 1}"]):
        failed = perdure.run(*words, code=2)
        assert failed.stderr.count("\n") == 1
    assert list(perdure.directory.iterdir()) == []


def test_a_payload_over_the_limit(perdure: Command) -> None:
    failed = perdure.run("start", "x", "--input", "-", stdin='"' + "a" * 4 * 1024 * 1024 + '"', code=2)
    assert "at most 4,194,304" in failed.stderr or "over 4,194,304 bytes" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_on_a_terminal_there_is_a_bar(perdure: Command) -> None:
    """And it ends with the whole line standing, the cursor visible, and the output in colourless JSON."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure", "run", FLOWS, "count_up", "--id", "bar"],
        cwd=perdure.directory,
        env={**os.environ, "TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    written = b""
    while True:
        try:
            part = os.read(controller, 65_536)
        except OSError:  # what Linux answers once the other side is closed
            break
        if not part:
            break
        written += part
    os.close(controller)
    assert process.wait(20) == 0
    shown = written.decode()
    assert "━" in shown
    assert "50%" in shown
    assert "half-way\\x1b[31m" in shown
    assert "✓" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.splitlines()[-1]) == "1"

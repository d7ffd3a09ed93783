"""What the commands print and how they exit, on a store with instances in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.cli.conftest import Invoke

import perdure
from perdure.spi import OrchestrationStatus

INSTANCE_KEYS = {
    "id", "name", "version", "status", "execution", "parent", "tags", "created_at", "updated_at", "completed_at",
    "custom_status", "failure",
}  # fmt: skip
NO_WAIT = ("--wait", "0")


def ids(documents: list[dict[str, Any]]) -> set[str]:
    return {document["id"] for document in documents}


def test_show(invoke: Invoke, finished: perdure.Client) -> None:
    lines = dict(re.findall(r"^([a-z ]+): +(.*)$", invoke("show", "done").stdout, re.MULTILINE))
    assert lines["status"] == "COMPLETED"
    assert lines["name"] == "double"
    assert lines["version"] == "1.0"
    assert lines["tags"] == "team=blue"
    assert lines["custom status"] == '{"progress": 0.5, "message": "half"}'
    assert (lines["input"], lines["output"]) == ("21", "42")
    assert "failure:       ValueError: out of luck" in invoke("show", "broken").stdout


def test_show_as_json(invoke: Invoke, finished: perdure.Client) -> None:
    document = invoke("show", "done", "--json").json
    assert document.keys() == INSTANCE_KEYS | {"input", "output"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document["created_at"])
    assert (document["status"], document["input"], document["output"]) == ("COMPLETED", 21, 42)
    assert document["custom_status"] == {"progress": 0.5, "message": "half"}
    failure = invoke("show", "broken", "--json").json["failure"]
    assert (failure["error_type"], failure["message"]) == ("ValueError", "out of luck")


def test_list(invoke: Invoke, finished: perdure.Client) -> None:
    headings, *rows = invoke("list").stdout.splitlines()
    assert headings.split("  ")[0] == "ID"
    assert sorted(row.split()[:3] for row in rows) == [["broken", "fail", "FAILED"], ["done", "double", "COMPLETED"]]
    assert any(row.endswith("50% half") for row in rows)
    assert any(row.endswith("ValueError: out of luck") for row in rows)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), {"done", "broken"}),
        (("--status", "failed"), {"broken"}),
        (("--status", "FAILED", "--status", "completed"), {"done", "broken"}),
        (("--status", "running"), set()),
        (("--name", "double"), {"done"}),
        (("--name", "double", "--name", "fail"), {"done", "broken"}),
        (("--tag", "team=blue"), {"done"}),
        (("--tag", "team=red"), set()),
        (("--version", "1.0"), {"done"}),
        (("--prefix", "do"), {"done"}),
        (("--prefix", "%"), set()),
    ],
)
def test_list_filters(invoke: Invoke, finished: perdure.Client, words: tuple[str, ...], found: set[str]) -> None:
    documents = invoke("list", "--json", *words).json
    assert ids(documents) == found
    assert all(document.keys() == INSTANCE_KEYS for document in documents)


def test_list_says_that_there_are_more(invoke: Invoke, finished: perdure.Client) -> None:
    shown = invoke("list", "--limit", "1", "--json")
    assert len(shown.json) == 1
    assert "there are more than these 1" in shown.stderr
    assert invoke("list", "--limit", "2").stderr == ""


def test_history(invoke: Invoke, finished: perdure.Client) -> None:
    headings, *rows = invoke("history", "done").stdout.splitlines()
    assert headings.split() == ["SEQ", "TIME", "EVENT", "DETAILS"]
    assert [row.split()[0] for row in rows] == [str(seq) for seq in range(len(rows))]
    assert any(re.search(r"TaskScheduled +#0 times_two input=21$", row) for row in rows)
    assert any(re.search(r"TaskCompleted +of #0 result=42$", row) for row in rows)
    assert re.search(r"ExecutionCompleted +.*status=COMPLETED result=42$", rows[-1])


def test_history_as_json_has_whole_events(invoke: Invoke, finished: perdure.Client) -> None:
    events = invoke("history", "done", "--json").json
    assert [event["seq"] for event in events] == list(range(len(events)))
    started = next(event for event in events if event["kind"] == "ExecutionStarted")
    assert (started["name"], started["input"], started["tags"]) == ("double", 21, {"team": "blue"})
    failed = invoke("history", "broken", "--json").json[-1]
    assert failed["status"] == "FAILED"
    assert failed["failure"]["error_type"] == "ValueError"


def test_watch_of_what_has_ended_exits_by_its_result(invoke: Invoke, finished: perdure.Client) -> None:
    done = invoke("watch", "done")
    assert done.stdout.endswith("50% half\ndouble done COMPLETED\n42\n")
    broken = invoke("watch", "broken", code=1)
    assert broken.stdout == "fail broken FAILED\n"
    assert broken.stderr.startswith("ValueError: out of luck\nTraceback")
    assert invoke("watch", "done", "--json").json["output"] == 42
    assert invoke("watch", "broken", "--json", code=1).json["status"] == "FAILED"


def test_start_prints_the_id_and_warns_that_nobody_takes_it(invoke: Invoke) -> None:
    started = invoke("start", "lonely", "--id", "l1", "--wait", "0.1", "--input", '{"a": [1]}', "--tag", "k=v")
    assert started.stdout == "l1\n"
    assert started.stderr.startswith("warning: no live worker has taken 'lonely' within 0.1 s")
    assert "`perdure worker FILE.py`" in started.stderr
    document = invoke("show", "l1", "--json").json
    assert (document["status"], document["input"], document["tags"]) == ("PENDING", {"a": [1]}, {"k": "v"})


def test_start_says_with_which_provider_the_worker_has_to_run(invoke: Invoke, directory: Any) -> None:
    url = f"sqlite:///{directory}/other.db"
    assert (
        f"`perdure worker FILE.py --provider {url}`" in invoke("start", "x", "--wait", "0.1", "--provider", url).stderr
    )


def test_start_of_what_a_worker_takes_warns_of_nothing(invoke: Invoke, finished: perdure.Client) -> None:
    started = invoke("start", "double", "--input", "2", "--json")
    assert started.stderr == ""
    assert started.json["name"] == "double"


def test_start_later(invoke: Invoke) -> None:
    for words in (("--delay", "1h"), ("--start-at", "2200-01-01T00:00Z")):
        assert invoke("start", "x", *words, "--json").json["status"] == "PENDING"
    assert "not allowed with" in invoke("start", "x", "--delay", "1h", "--start-at", "2200-01-01", code=2).stderr


def test_reuse_of_an_id(invoke: Invoke, finished: perdure.Client) -> None:
    taken = invoke("start", "nobody", "--id", "done", *NO_WAIT, code=1)
    assert "'done' exists already and is COMPLETED" in taken.stderr
    assert "--reuse-id replace_finished" in taken.stderr
    invoke("start", "nobody", "--id", "done", "--reuse-id", "ignore", *NO_WAIT)
    assert invoke("show", "done", "--json").json["name"] == "double"
    invoke("start", "nobody", "--id", "done", "--reuse-id", "replace_finished", *NO_WAIT)
    assert invoke("show", "done", "--json").json["name"] == "nobody"


def test_events_suspension_and_termination(invoke: Invoke, finished: perdure.Client) -> None:
    def waiter(ctx: perdure.OrchestrationContext) -> Any:
        return (yield ctx.wait_for_external_event("go"))

    with perdure.Worker("sqlite:///perdure.db") as worker:
        worker.add_orchestrator(waiter)
        for name in ("first", "second"):
            finished.schedule_new_orchestration("waiter", instance_id=name)
            finished.wait_for_orchestration_start(name, timeout=20)
        assert invoke("suspend", "first", "--reason", "lunch", "--json").json == {"id": "first", "accepted": "suspend"}
        assert invoke("raise-event", "first", "go", "--data", '{"n": 1}').stdout == "raised go on first\n"
        assert invoke("resume", "first").stdout == "resuming first\n"
        assert invoke("terminate", "second", "--output", '"enough"').stdout == "terminating second\n"
        first = finished.wait_for_orchestration_completion("first", timeout=20)
        second = finished.wait_for_orchestration_completion("second", timeout=20)
    assert first.get_output() == {"n": 1}
    assert second.runtime_status is OrchestrationStatus.TERMINATED
    assert second.get_output() == "enough"
    ended = invoke("watch", "second", code=1)
    assert ended.stdout == 'waiter second TERMINATED\n"enough"\n'
    assert 'reason="lunch"' in invoke("history", "first").stdout


@pytest.mark.parametrize(
    "words", [("raise-event", "done", "go"), ("suspend", "done"), ("resume", "done"), ("terminate", "done")]
)
def test_what_has_ended_takes_nothing(invoke: Invoke, finished: perdure.Client, words: tuple[str, ...]) -> None:
    assert "has ended (COMPLETED)" in invoke(*words, code=1).stderr


@pytest.mark.parametrize(
    "words",
    [["show"], ["history"], ["watch"], ["raise-event", "go"], ["suspend"], ["resume"], ["terminate"]],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("instance_id", "code", "message"),
    [
        ("nobody", 4, "there is no orchestration instance 'nobody'"),
        ("a/b", 2, "holds '/'"),
        ("@x", 2, "starts with '@'"),
        ("", 2, "is empty"),
        ("x" * 257, 2, "over the limit of 256"),
        ("a\x1bb", 2, "a control character"),
        ("\udcff", 2, "a lone surrogate"),
    ],
)
def test_ids_that_lead_nowhere(
    invoke: Invoke, finished: perdure.Client, words: list[str], instance_id: str, code: int, message: str
) -> None:
    failed = invoke(words[0], instance_id, *words[1:], code=code)
    assert failed.stdout == ""
    assert failed.stderr.count("\n") == 1
    assert message in failed.stderr


@pytest.mark.parametrize("option", ["start x --input", "raise-event done go --data", "terminate done --output"])
def test_json_that_is_none(invoke: Invoke, finished: perdure.Client, option: str) -> None:
    failed = invoke(*option.split(), "{path: .}", code=2)
    assert failed.stderr.startswith(f"error: {option.rsplit(maxsplit=1)[-1]}: not JSON at character 1")


@pytest.mark.parametrize(
    "words",
    [
        ("start", "x" * 257),
        ("start", "a\nb"),
        ("start", "x", "--tag", "nothing"),
        ("start", "x", "--tag", "k=" + "v" * 257),
        ("start", "x", "--version", ""),
        ("start", "x", "--delay", "soon"),
        ("start", "x", "--start-at", "soon"),
        ("start", "x", "--id", "a?b"),
        ("raise-event", "done", ""),
        ("purge",),
        ("purge", "done", "--all"),
        ("purge", "--all", "--status", "failed"),
        ("purge", "--status", "running"),
        ("purge", "--older-than", "soon"),
        ("purge", "a/b"),
    ],
)
def test_arguments_that_break_a_rule(invoke: Invoke, finished: perdure.Client, words: tuple[str, ...]) -> None:
    failed = invoke(*words, code=2)
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1


def test_purge_by_ids(invoke: Invoke, finished: perdure.Client) -> None:
    invoke("start", "nobody", "--id", "waiting", *NO_WAIT)
    mixed = invoke("purge", "done", "waiting", "unheard-of", "--json", code=1)
    assert mixed.json == {"deleted": 1, "unfinished": ["waiting"], "not_found": ["unheard-of"]}
    assert "--force" in mixed.stderr
    assert invoke("purge", "done", code=4).stderr == "error: there is no instance 'done'\n"
    assert invoke("purge", "waiting", "--force").stdout == "deleted 1 instance\n"
    assert ids(invoke("list", "--json").json) == {"broken"}


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (("--all",), {"waiting"}),
        (("--status", "failed"), {"done", "waiting"}),
        (("--name", "double"), {"broken", "waiting"}),
        (("--tag", "team=blue"), {"broken", "waiting"}),
        (("--version", "1.0"), {"broken", "waiting"}),
        (("--prefix", "b"), {"done", "waiting"}),
        (("--older-than", "1d"), {"done", "broken", "waiting"}),
        (("--older-than", "0s"), {"waiting"}),
        (("--all", "--force"), set()),
        (("--name", "nobody", "--force"), {"done", "broken"}),
        (("--all", "--recursive"), {"waiting"}),
    ],
)
def test_purge_by_filter(invoke: Invoke, finished: perdure.Client, words: tuple[str, ...], left: set[str]) -> None:
    invoke("start", "nobody", "--id", "waiting", *NO_WAIT)
    everything = {"done", "broken", "waiting"}
    dry = invoke("purge", *words, "--dry-run", "--json").json
    assert ids(dry["would_delete"]) == everything - left
    assert ids(invoke("list", "--json").json) == everything
    assert invoke("purge", *words, "--json").json["deleted"] == len(everything - left)
    assert ids(invoke("list", "--json").json) == left


def test_purge_dry_run_in_words(invoke: Invoke, finished: perdure.Client) -> None:
    shown = invoke("purge", "done", "unheard-of", "--dry-run").stdout
    assert "would delete 1 instance\n" in shown
    assert "there is no instance 'unheard-of'" in shown


def test_provider_list(invoke: Invoke) -> None:
    records = {record["scheme"]: record for record in invoke("provider", "list", "--json").json}
    assert records["sqlite"]["error"] is None
    assert records["memory"].keys() == {"scheme", "distribution", "version", "error"}
    assert re.search(r"^sqlite:// .* ok$", invoke("provider", "list").stdout, re.MULTILINE)

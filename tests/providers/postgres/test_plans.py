"""Each statement finds its rows by an index, whatever else a hub is full of, and whatever the server knows of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest

from perdure.spi import ClaimTurns, Fields, Message, NewActivity, NewInstance, OrchestrationStatus, TurnCommit, TurnItem
from perdure_postgres import PostgresProvider
from perdure_postgres.statements import Statements

# They count, list or delete all that a hub or a store holds.
WHOLE = {"list_hubs", "wipe_hub", "status_counts", "turn_queue", "activity_queue"}
# Statements without a table of ours.
NO_TABLE = {"begin", "plan_anew", "lock_hub", "clock", "key_block"}

INDEX_SCANS = ("Index Scan", "Index Only Scan", "Bitmap Index Scan")

BATCH = 500
READY = 4000
OTHERS = 1500
MOST_BLOCKS = 60

_PARAMETER = re.compile(r"%\((\w+)\)s|%s")


def texts(say: Statements) -> Iterator[tuple[str, str]]:
    """Every statement, also one that is added later."""
    for name, value in vars(say).items():
        if isinstance(value, bytes):
            yield name, value.decode()
    for effect, (text, _) in say.effects.items():
        yield f"{effect.kind} {effect.table} by {', '.join(effect.where)}", text.decode()
    yield "infos", say.infos(Fields.ALL).decode()


def numbered(text: str) -> tuple[str, list[str]]:
    """A statement as PREPARE takes it, and the names of its parameters."""
    names: list[str] = []

    def place(found: re.Match[str]) -> str:
        name = found[1] or f"{len(names)}"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PARAMETER.sub(place, text), names


def explain(db: psycopg.Connection, text: str, values: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """The nodes of a statement's plan; it is run if there are values."""
    statement, names = numbered(text)
    how = "FORMAT JSON" if values is None else "ANALYZE, BUFFERS, FORMAT JSON"
    given = ", ".join("NULL" if values is None else values[name] for name in names)
    db.execute(f"PREPARE planned AS {statement}".encode())
    try:
        found = db.execute(f"EXPLAIN ({how}) EXECUTE planned{f'({given})' if given else ''}".encode()).fetchone()
    finally:
        db.execute("DEALLOCATE planned")
    assert found is not None

    def nodes(plan: dict[str, Any], above: str = "") -> Iterator[dict[str, Any]]:
        yield {**plan, "Above": above}
        for part in plan.get("Plans", ()):
            yield from nodes(part, plan["Node Type"])

    return nodes(found[0][0]["Plan"])


def fill(provider: PostgresProvider) -> None:
    """What nobody asks for: ready instances, timers, finished ones with history, activities."""
    provider.create_hub("full")
    hub = provider.hub("full")

    def create(name: str, count: int) -> None:
        for first in range(0, count, BATCH):
            ids = [f"{name}{number}" for number in range(first, first + BATCH)]
            hub.create_instances(
                [NewInstance(id=id_, name=name, start=b"s", generation=id_, tags={"k": "v"}) for id_ in ids]
            )

    def turns(name: str, commit: Callable[[TurnItem], dict[str, Any]]) -> None:
        while items := hub.claim_turns(ClaimTurns(worker="w", max_items=BATCH, lease_ms=60_000, names=[name])).items:
            hub.commit_turns(
                [
                    TurnCommit(
                        lease=item.lease,
                        commit_id=f"{item.instance} {item.next_seq}",
                        execution=1,
                        expected_next_seq=item.next_seq,
                        events=[b"e"],
                        consumed=[message.id for message in item.messages],
                        custom_status=b"{}",
                        **commit(item),
                    )
                    for item in items
                ]
            )

    far = hub.now() + 10**9
    running = {"status": OrchestrationStatus.RUNNING}

    def wait(item: TurnItem) -> dict[str, Any]:
        return {**running, "messages": [Message(id="t", instance=item.instance, payload=b"", due=far)]}

    for name in ("finished", "timer", "busy"):
        create(name, OTHERS)
    turns("finished", lambda _: {"status": OrchestrationStatus.COMPLETED})
    turns("timer", wait)
    turns("busy", lambda _: {**running, "activities": [NewActivity(id="a", name="unasked", payload=b"")]})
    for kind in ("consumed", "pending"):
        for first in range(0, OTHERS, BATCH):
            hub.send_messages(
                [Message(id=kind, instance=f"busy{number}", payload=b"") for number in range(first, first + BATCH)]
            )
        if kind == "consumed":
            turns("busy", lambda _: running)
    create("unasked", READY)


@pytest.fixture(scope="module")
def server(shared_postgres: Callable[[str], str]) -> Iterator[Callable[[str], tuple[psycopg.Connection, Statements]]]:
    """A session on a full store of a version, and the statements for it."""
    made: dict[str, tuple[psycopg.Connection, Statements]] = {}

    def full(version: str) -> tuple[psycopg.Connection, Statements]:
        if version not in made:
            url = f"{shared_postgres(version)}?op_schema=plans"
            with PostgresProvider(url) as provider:
                fill(provider)
                say = provider.store().statements
            db = psycopg.connect(shared_postgres(version), autocommit=True, prepare_threshold=None)
            # Settings as in all transactions that write, though for longer.
            db.execute(say.begin.decode().replace("true)", "false)").encode(), {"place": "plans"})
            made[version] = db, say
        return made[version]

    yield full
    for db, _ in made.values():
        db.execute("DROP SCHEMA plans CASCADE")
        db.close()


@pytest.mark.parametrize("known", ["little", "all"])
@pytest.mark.parametrize("version", ["15", "16", "18"])
def test_every_statement_finds_its_rows_by_an_index(
    server: Callable[[str], tuple[psycopg.Connection, Statements]], version: str, known: str
) -> None:
    db, say = server(version)
    if known == "all":
        db.execute("VACUUM ANALYZE")
    wrong = []
    for name, text in texts(say):
        if name in WHOLE | NO_TABLE:
            continue
        for node in explain(db, text):
            kind, condition = node["Node Type"], node.get("Index Cond") or node.get("Recheck Cond") or ""
            if kind == "Seq Scan" and node["Relation Name"] != "perdure_hubs":
                wrong.append(f"{name}: reads all of {node['Relation Name']}")
            elif node.get("Index Name") == "perdure_intake_front":
                # It is about a hub's.
                continue
            # What is in order, and of which but the first few are taken, may be as long as it likes.
            elif kind in INDEX_SCANS and re.fullmatch(r"(\(?hub = \S+\)?)?", condition) and node["Above"] != "Limit":
                wrong.append(f"{name}: reads all of a hub by {node['Index Name']}")
    assert not wrong, "\n".join(wrong)


def blocks(nodes: Iterator[dict[str, Any]]) -> int:
    top = next(iter(nodes))
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


@pytest.mark.parametrize("version", ["15", "16", "18"])
def test_a_claim_reads_no_more_than_it_takes(
    server: Callable[[str], tuple[psycopg.Connection, Statements]], version: str
) -> None:
    db, say = server(version)
    db.execute("VACUUM ANALYZE")
    now = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    hub = "(SELECT key FROM plans.perdure_hubs WHERE name = 'full')"
    found = db.execute(f"SELECT {hub}, {now}".encode()).fetchone()
    assert found is not None
    values = {"hub": str(found[0]), "now": str(found[1]), "top": "33", "without": "'{}'", "most": "1"}
    names: Sequence[str] = ["'{nothing}'", "'{timer}'", "'{finished,nothing}'"]
    for asked in names:
        for statement in (say.turn_candidates, say.next_turn, say.activity_candidates, say.next_activity):
            found_blocks = blocks(explain(db, statement.decode(), {**values, "names": asked, "queues": "'{default}'"}))
            assert found_blocks <= MOST_BLOCKS, f"{found_blocks} blocks for {asked}: {statement.decode()}"

"""The servers are what tests take them for: durable, alone, and gone afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.servers.fixtures import VERSIONS, StartPostgres
from tests.servers.postgres import PostgresServer

SCRIPT = """
import sys
from tests.servers.postgres import PostgresServer
server = PostgresServer()
print(server.url, server._directory, flush=True)
sys.stdin.read()
"""


def one(url: str, statement: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def answers(url: str) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) == 0


@pytest.mark.parametrize("postgres_server", VERSIONS, indirect=True)
def test_a_crash_keeps_what_was_committed(postgres_server: PostgresServer) -> None:
    url, pid = postgres_server.url, postgres_server.pid
    with psycopg.connect(url) as open_before:
        open_before.execute("CREATE TABLE t (x int)")
        open_before.execute("INSERT INTO t VALUES (1)")
        open_before.commit()
        open_before.execute("INSERT INTO t VALUES (2)")
        postgres_server.restart("immediate")
        with pytest.raises(psycopg.OperationalError):
            open_before.execute("SELECT 1")
    assert postgres_server.url == url
    assert postgres_server.pid != pid
    assert one(url, "SELECT sum(x) FROM t") == 1
    assert "automatic recovery in progress" in postgres_server.log
    assert str(one(url, "SHOW server_version")).split(".")[0] == postgres_server.version


def test_commits_are_durable_and_settings_can_be_changed(start_postgres: StartPostgres) -> None:
    server = start_postgres(max_connections=20)
    assert one(server.url, "SHOW max_connections") == "20"
    server.restart("fast", max_connections=21)
    assert one(server.url, "SHOW max_connections") == "21"
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert one(server.url, f"SHOW {name}") == "on"


def test_the_role_is_no_superuser_and_owns_its_database(postgres_url: str) -> None:
    if "PERDURE_TEST_POSTGRES" in os.environ:
        pytest.skip("a given server is as its owner wants it")
    assert one(postgres_url, "SELECT usesuper FROM pg_user WHERE usename = current_user") is False
    assert one(postgres_url, "SELECT has_database_privilege(current_database(), 'CREATE')") is True


def test_shared_servers_are_started_once(shared_postgres: Callable[[str], str]) -> None:
    assert shared_postgres("16") == shared_postgres("16")


def test_a_server_that_is_stopped_leaves_nothing(start_postgres: StartPostgres) -> None:
    server = start_postgres()
    pid, directory = server.pid, server._directory
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not directory.exists()
    assert not answers(server.url)


@pytest.mark.parametrize("ending", ["exit", "kill"])
def test_a_server_ends_with_its_process(
    ending: str, start_postgres: StartPostgres, request: pytest.FixtureRequest
) -> None:
    start_postgres()  # or this is a skip
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=request.config.rootpath,
    ) as process:
        assert process.stdout is not None
        url, directory = process.stdout.readline().split()
        assert answers(url)
        if ending == "kill":
            process.send_signal(signal.SIGKILL)
        else:
            process.communicate("")
    deadline = time.monotonic() + (20 if ending == "kill" else 0)
    while Path(directory).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(directory).exists()
    assert not answers(url)

"""Hints: what is told arrives, whatever else the connection for them is busy with."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import psycopg
import pytest

from perdure.spi import Wake
from perdure_postgres import PostgresProvider, connection
from perdure_postgres.connection import Connection

PATIENCE_SECONDS = 20


def test_what_arrives_while_something_is_told_is_heard(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes along with the server's answer, and nothing more follows on the socket."""
    heard = threading.Event()
    told = [threading.Event(), threading.Event()]

    def on_wake(wake: Wake) -> None:
        if wake.ids is not None and "from afar" in wake.ids:
            heard.set()

    with closing(psycopg.connect(postgres_url, autocommit=True)) as other:

        class Overtaken(Connection):
            def run(self, *arguments: Any) -> psycopg.Cursor[tuple[Any, ...]]:
                if "pg_notify" not in str(arguments[0]):
                    return super().run(*arguments)
                if told[0].is_set():
                    other.execute("SELECT pg_notify(%s, %s)", [provider.channel("overtaken"), '[0,["from afar"]]'])
                done = super().run(*arguments)
                told[told[0].is_set()].set()
                return done

        monkeypatch.setattr(connection, "factory", Overtaken)
        with PostgresProvider(postgres_url) as provider:
            provider.create_hub("overtaken")
            subscription = provider.hub("overtaken").subscribe(on_wake)
            assert subscription is not None
            with closing(subscription):
                # The first has woken the thread more than once; after the second only the server can.
                for is_told in told:
                    provider.announce("overtaken", work=True, changed=set())
                    assert is_told.wait(PATIENCE_SECONDS)
                assert heard.wait(PATIENCE_SECONDS)
            provider.delete_hub("overtaken")

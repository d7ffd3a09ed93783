"""Servers, databases and sessions that are other than usual."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from tests.servers.postgres import PostgresServer

from perdure.spi import NewInstance, Outcome, ProviderUnavailable
from perdure_postgres import PostgresProvider, connection


def test_a_database_that_cannot_hold_every_id_is_refused(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.admin_url, autocommit=True) as db:
        db.execute("CREATE DATABASE latin OWNER perdure TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    provider = PostgresProvider(postgres_server.url.rpartition("/")[0] + "/latin")
    with pytest.raises(ProviderUnavailable, match=r"stores text as LATIN1.*ENCODING 'UTF8'"):
        provider.open()


def test_an_old_server_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_OLDEST", 990_000)
    with pytest.raises(ProviderUnavailable, match=r"is PostgreSQL \d\d; perdure needs 99 or newer: upgrade"):
        PostgresProvider(postgres_url).open()


def test_what_a_role_prefers_changes_nothing(postgres_server: PostgresServer) -> None:
    """Settings of a role reach every session of it."""
    with psycopg.connect(postgres_server.admin_url, autocommit=True) as db:
        for setting in (
            "client_encoding = 'LATIN1'",
            "default_transaction_isolation = 'serializable'",
            "standard_conforming_strings = off",
            "bytea_output = 'escape'",
            "search_path = ''",
            "timezone = 'Asia/Kathmandu'",
            "plan_cache_mode = 'force_custom_plan'",
        ):
            db.execute(f"ALTER ROLE perdure SET {setting}".encode())
    with PostgresProvider(postgres_server.url) as provider:
        provider.create_hub("odd")
        hub = provider.hub("odd")
        ids = ["żółw", "𝄞'\\%_", "a"]
        new = [NewInstance(id=id_, name="ñ", start=b"\\\0'", generation=id_, tags={"€": "\\"}) for id_ in ids]
        assert hub.create_instances(new) == [Outcome.OK] * 3
        found = [info for info in hub.get_instances(ids) if info is not None]
        assert [(info.id, info.name, dict(info.tags)) for info in found] == [(id_, "ñ", {"€": "\\"}) for id_ in ids]
    with closing(psycopg.connect(postgres_server.admin_url)) as db:
        stored = db.execute("SELECT id FROM perdure.perdure_instances ORDER BY id").fetchall()
    assert sorted(id_ for (id_,) in stored) == sorted(ids)

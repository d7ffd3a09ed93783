"""The provider held to the whole suite, with no waiver, on every version of the server that perdure supports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perdure_conformance import ProviderConformance
from perdure_postgres.conformance import PostgresAdapter


class OnServer(ProviderConformance):
    __test__ = False
    version: str

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls, shared_postgres: Callable[[str], str]) -> None:
        cls.adapter = PostgresAdapter(shared_postgres(cls.version))


class TestPostgres15(OnServer):
    __test__ = True
    version = "15"


class TestPostgres16(OnServer):
    __test__ = True
    version = "16"


class TestPostgres18(OnServer):
    __test__ = True
    version = "18"

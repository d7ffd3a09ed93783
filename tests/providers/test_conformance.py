"""Both providers held to the whole suite, with no waiver: just as somebody else does it in a repository of his own."""

from __future__ import annotations

import pytest

from perdure_conformance import ProviderConformance
from perdure_memory.conformance import MemoryAdapter
from perdure_sqlite.conformance import SQLiteAdapter


class TestMemory(ProviderConformance):
    adapter = MemoryAdapter("memory://conformance")


class TestSQLite(ProviderConformance):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _file(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.adapter = SQLiteAdapter(f"sqlite:///{tmp_path_factory.mktemp('conformance')}/t.db")

"""LIF: instances from their creation to their end."""

from __future__ import annotations

from perdure.spi import Outcome
from perdure_conformance.bench import Bench
from perdure_conformance.case import case
from perdure_conformance.driver import COMPLETED, ids_of


class LifecycleCases:
    """Cases LIF."""

    @case("I4", "I6")
    def test_lif_01_create_claim_commit_read_back(self, bench: Bench) -> None:
        """An instance is created, claimed and committed, and reads as it was committed."""
        assert bench.create("a", input=b"in") == [Outcome.OK]
        item = bench.claim_one()
        assert (item.instance, item.execution, item.next_seq) == ("a", 1, 0)
        assert ids_of(item.messages) == ["@start"]
        assert bench.commit(item, events=[b"e0", b"e1"], status=COMPLETED, output=b"out") is Outcome.OK
        info = bench.get()
        assert (info.status, info.execution, info.next_seq) == (COMPLETED, 1, 2)
        assert (info.input, info.output) == (b"in", b"out")
        assert bench.history() == [b"e0", b"e1"]
        assert bench.claim() == []

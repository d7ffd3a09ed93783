"""A suite of six cases, to try the framework without running the real ones."""

from __future__ import annotations

from typing import ClassVar

from perdure.spi import Outcome
from perdure_conformance import Adapter
from perdure_conformance.bench import Bench
from perdure_conformance.case import Level, case


class SmallCases:
    @case("I4")
    def test_lif_01_control(self, bench: Bench) -> None:
        """An instance is created and claimed."""
        assert bench.create("a") == [Outcome.OK]
        assert bench.claim_one().instance == "a"

    @case("I16", variants=["a", "b"])
    def test_sml_02_variants(self, bench: Bench) -> None:
        """An input comes back."""
        bench.create(input=bench.variant.encode())
        assert bench.get().input == bench.variant.encode()

    @case("CAPABILITIES", requires=["tag_query"])
    def test_sml_03_capability(self, bench: Bench) -> None:
        """Tags are found."""
        bench.create("a", tags={"k": "v"})
        assert bench.find(tags={"k": "v"}) == ["a"]

    @case("PURGE", hooks=["count_rows"])
    def test_sml_04_hook(self, bench: Bench) -> None:
        """Rows are counted."""
        bench.create("a")
        assert bench.adapter.count_rows(bench.hub.name)["instances"] == 1

    @case("I20", level=Level.L1, requires=["durable"])
    def test_sml_05_durable(self, bench: Bench) -> None:
        """An instance is there after a reopening."""
        bench.create("a")
        bench.reopen()
        assert bench.get().id == "a"

    @case("I2", level=Level.L2)
    def test_sml_06_threads(self, bench: Bench) -> None:
        """An instance is claimed."""
        bench.create("a")
        assert bench.claim_one().instance == "a"


class SmallSuite(SmallCases):
    adapter: ClassVar[Adapter | None] = None

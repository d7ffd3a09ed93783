"""Mistakes that the cases of lifecycle find out."""

from __future__ import annotations

import pytest

from perdure.spi import Millis, NewInstance, Outcome
from perdure_conformance.mutant import mutant
from perdure_memory import instances
from perdure_memory.state import HubState


@mutant("56", "LIF-03", source="an upsert")
def create_overwrites_an_existing_instance(patch: pytest.MonkeyPatch) -> None:
    """Creating an id that is taken overwrites what is there."""
    create = instances.create_instance

    def overwrite(state: HubState, new: NewInstance, now: Millis, settled: set[str]) -> Outcome:
        existing = state.instances.get(new.id)
        if existing is not None:
            state.remove_instance(existing)
        return create(state, new, now, settled)

    patch.setattr(instances, "create_instance", overwrite)

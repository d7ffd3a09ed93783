"""Random small orchestrations under random misfortune: always the same outcome, and a sound history."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from tests.engine.conftest import make_provider

from perdure.spi import ManualClock
from perdure_conformance.programs import LAPS, MISFORTUNES, PROGRAMS, Program, perform
from perdure_conformance.stage import output_of


def outcome(scheme: str, folder: str, program: Program, laps: int, misfortunes: list[str]) -> Any:
    clock = ManualClock()
    with make_provider(scheme, Path(folder), clock) as provider:
        provider.create_hub("h")
        return output_of(perform(provider.hub("h"), clock, program, laps, misfortunes))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=PROGRAMS, laps=LAPS, misfortunes=MISFORTUNES)
def test_misfortune_changes_nothing(program: Program, laps: int, misfortunes: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = outcome("memory", folder, program, laps, [])
        assert outcome("memory", folder, program, laps, misfortunes) == undisturbed
        assert outcome("sqlite", folder, program, laps, misfortunes) == undisturbed

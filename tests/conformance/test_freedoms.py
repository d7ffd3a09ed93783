"""A provider that uses every freedom that the contract leaves is conformant."""

from __future__ import annotations

import pytest
from tests.conformance.contrarian import CONFIGURATIONS, ContrarianAdapter

from perdure_conformance.bench import Session
from perdure_conformance.case import cases_of
from perdure_conformance.self_test import run_case
from perdure_conformance.suite import ProviderConformance


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_no_case_asserts_more_than_is_promised(configuration: str) -> None:
    session = Session(ContrarianAdapter(configuration))
    wrong: list[str] = []
    passed = 0
    for spec, function in cases_of(ProviderConformance):
        if spec.slow:
            continue
        for variant in spec.variants:
            verdict, reason = run_case(session, spec, function, variant)
            passed += verdict == "pass"
            if verdict in ("kill", "error"):
                wrong.append(f"{spec.id}[{variant}]: {reason}")
    session.close()
    assert wrong == []
    # No configuration is so modest that hardly a case applies to it.
    assert passed > 400

"""All cases in one class."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import ClassVar

from perdure_conformance.adapter import Adapter
from perdure_conformance.case import Case, cases_of
from perdure_conformance.cases.activities import ActivityCases
from perdure_conformance.cases.atomicity import AtomicityCases
from perdure_conformance.cases.capabilities import CapabilityCases
from perdure_conformance.cases.clocks import ClockCases
from perdure_conformance.cases.concurrency import ConcurrencyCases
from perdure_conformance.cases.crashes import CrashCases
from perdure_conformance.cases.custom_status import CustomStatusCases
from perdure_conformance.cases.engine import EngineCases
from perdure_conformance.cases.exchange import ExchangeCases
from perdure_conformance.cases.history import HistoryCases
from perdure_conformance.cases.hubs import HubCases
from perdure_conformance.cases.leases import LeaseCases
from perdure_conformance.cases.lifecycle import LifecycleCases
from perdure_conformance.cases.limits import LimitCases
from perdure_conformance.cases.messages import MessageCases
from perdure_conformance.cases.model import ModelCases
from perdure_conformance.cases.names import NameCases
from perdure_conformance.cases.payloads import PayloadCases
from perdure_conformance.cases.purge import PurgeCases
from perdure_conformance.cases.queries import QueryCases
from perdure_conformance.cases.timers import TimerCases
from perdure_conformance.cases.transactions import TransactionCases
from perdure_conformance.cases.wakeup import WakeUpCases

__all__ = ["ProviderConformance", "canonical_cases", "canonical_names", "content_hash"]


class ProviderConformance(
    LifecycleCases,
    ActivityCases,
    AtomicityCases,
    LeaseCases,
    TimerCases,
    MessageCases,
    CustomStatusCases,
    HistoryCases,
    QueryCases,
    PurgeCases,
    HubCases,
    ConcurrencyCases,
    CrashCases,
    PayloadCases,
    ClockCases,
    LimitCases,
    WakeUpCases,
    ExchangeCases,
    TransactionCases,
    CapabilityCases,
    ModelCases,
    NameCases,
    EngineCases,
):
    """Derive a test class from it, and give it an `adapter`: every case is run on that provider."""

    adapter: ClassVar[Adapter | None] = None
    """None: that of the URL given by `--provider-url`."""


@cache
def canonical_cases() -> dict[str, Case]:
    """Return every case of the suite by its id: what a provider has to pass, whoever runs it and however."""
    return {spec.id: spec for spec, _ in cases_of(ProviderConformance)}


@cache
def canonical_names() -> frozenset[str]:
    """Return the names of the cases' functions."""
    return frozenset(function.__name__ for _, function in cases_of(ProviderConformance))


@cache
def content_hash() -> str:
    """Return a digest of the suite's own sources: two reports with the same one ran the same cases."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if "mutants" not in path.relative_to(root).parts:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]

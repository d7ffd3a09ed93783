"""The museum of broken providers: each is a correct one with one realistic mistake, and each must be found out.

Modules are named after the area whose cases do it. `MODULES` lists them; `perdure conformance --self-test` runs them.
"""

from __future__ import annotations

import importlib
from typing import Final

from perdure_conformance.mutant import Mutant, mutants_of

__all__ = ["MODULES", "all_mutants"]

MODULES: Final = (
    "activities",
    "atomicity",
    "capabilities",
    "concurrency",
    "crashes",
    "custom_status",
    "exchange",
    "history",
    "hubs",
    "leases",
    "lifecycle",
    "limits",
    "messages",
    "names",
    "payloads",
    "purge",
    "queries",
    "timers",
    "transactions",
    "wakeup",
)


def all_mutants() -> list[Mutant]:
    """Return every broken provider, by number.

    Raises:
        TypeError: two share a number.
    """
    found: dict[str, Mutant] = {}
    for name in MODULES:
        for mutant in mutants_of(importlib.import_module(f"{__name__}.{name}")):
            if mutant.number in found:
                raise TypeError(f"mutant {mutant.number} is both {found[mutant.number].name} and {mutant.name}")
            found[mutant.number] = mutant
    return sorted(found.values(), key=lambda mutant: (int(mutant.number.rstrip("abcdefgh")), mutant.number))

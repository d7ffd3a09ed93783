"""The conformance suite: what makes "perdure supports X" a fact.

A provider's own repository needs two names of it::

    from perdure_conformance import Adapter, ProviderConformance

    class TestMyDB(ProviderConformance):
        adapter = Adapter("mydb://localhost/0")

Cases are ordinary pytest tests. `cases` holds them by area, `mutants` the broken providers that prove them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from perdure_conformance.adapter import Adapter
    from perdure_conformance.suite import ProviderConformance

__all__ = ["SUITE_VERSION", "Adapter", "ProviderConformance"]

SUITE_VERSION: Final = "0.1.0"
"""Changes with every case that is added, changed or withdrawn; the suite's CHANGELOG says which."""

_MODULES: Final = {"Adapter": "adapter", "ProviderConformance": "suite"}


def __getattr__(name: str) -> Any:
    # Imported when they are used: every run of pytest where perdure is installed loads the plugin, and before the
    # cases are imported it must have told pytest to rewrite their assertions.
    if name in _MODULES:
        return getattr(importlib.import_module(f"perdure_conformance.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

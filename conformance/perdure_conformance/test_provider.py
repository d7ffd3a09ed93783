"""What `pytest --pyargs perdure_conformance --provider-url URL` collects."""

from __future__ import annotations

from perdure_conformance.suite import ProviderConformance


class TestProvider(ProviderConformance):
    """The cases on the provider of `--provider-url`."""

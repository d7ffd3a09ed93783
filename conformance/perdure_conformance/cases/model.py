"""MOD: generated workloads, on the provider and on the reference."""

from __future__ import annotations


class ModelCases:
    """Cases MOD."""

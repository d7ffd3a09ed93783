"""CST: the custom status, in the provider and through the engine."""

from __future__ import annotations


class CustomStatusCases:
    """Cases CST."""

"""CAP: a provider is what it says."""

from __future__ import annotations


class CapabilityCases:
    """Cases CAP."""

"""ATM: what is done whole or not at all."""

from __future__ import annotations


class AtomicityCases:
    """Cases ATM."""

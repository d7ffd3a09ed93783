"""LSE: who may work on an item, and for how long."""

from __future__ import annotations


class LeaseCases:
    """Cases LSE."""

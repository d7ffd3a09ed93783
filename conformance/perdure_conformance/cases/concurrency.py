"""CON: many threads at once."""

from __future__ import annotations


class ConcurrencyCases:
    """Cases CON."""

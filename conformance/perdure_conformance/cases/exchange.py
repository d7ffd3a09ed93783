"""BAT: batches are as good as single calls."""

from __future__ import annotations


class ExchangeCases:
    """Cases BAT."""

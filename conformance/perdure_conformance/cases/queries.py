"""QRY: finding instances."""

from __future__ import annotations


class QueryCases:
    """Cases QRY."""

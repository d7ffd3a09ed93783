"""HIS: histories and their pages."""

from __future__ import annotations


class HistoryCases:
    """Cases HIS."""

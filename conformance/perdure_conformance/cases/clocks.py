"""CLK: the clock, and what it may do."""

from __future__ import annotations


class ClockCases:
    """Cases CLK."""

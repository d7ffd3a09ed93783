"""NOT: hints, which nobody relies on."""

from __future__ import annotations


class WakeUpCases:
    """Cases NOT."""

"""CRA: what dies with its leases."""

from __future__ import annotations


class CrashCases:
    """Cases CRA."""

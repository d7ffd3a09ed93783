"""LIM: limits and errors."""

from __future__ import annotations


class LimitCases:
    """Cases LIM."""

"""NMS: names, memo, settled activities, rewritten histories."""

from __future__ import annotations


class NameCases:
    """Cases NMS."""

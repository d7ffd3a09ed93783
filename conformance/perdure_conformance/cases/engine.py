"""ENG: the engine on the provider."""

from __future__ import annotations


class EngineCases:
    """Cases ENG."""

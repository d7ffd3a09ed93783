"""PRG: deleting instances."""

from __future__ import annotations


class PurgeCases:
    """Cases PRG."""

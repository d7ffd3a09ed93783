"""MSG: messages are ordered, kept, and delivered once."""

from __future__ import annotations


class MessageCases:
    """Cases MSG."""

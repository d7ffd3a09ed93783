"""PAY: bytes, texts and ids come back as they went in."""

from __future__ import annotations


class PayloadCases:
    """Cases PAY."""

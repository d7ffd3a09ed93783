"""HUB: task hubs are tenants."""

from __future__ import annotations


class HubCases:
    """Cases HUB."""

"""SCH: activities from the commit that schedules them to their result."""

from __future__ import annotations


class ActivityCases:
    """Cases SCH."""

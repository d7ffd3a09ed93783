"""TIM: durable timers, and everything else with a due time."""

from __future__ import annotations


class TimerCases:
    """Cases TIM."""

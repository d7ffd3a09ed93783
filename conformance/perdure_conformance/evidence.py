"""What a case has seen of the provider: whoever saw nothing has proven nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from perdure.spi import (
    ActivityBatch,
    ExchangeResult,
    HistoryPage,
    Hub,
    InstanceInfo,
    Outcome,
    Page,
    PurgeResult,
    TurnBatch,
)

__all__ = ["Evidence", "RecordingHub", "VacuousCase"]

_DONE = (Outcome.OK, Outcome.REPLACED)
_UNRECORDED = frozenset({"name", "subscribe", "pump"})


class VacuousCase(Exception):
    """A case ended without having seen the provider do anything: it would pass on one that does nothing."""


class Evidence:
    """Counts a case's calls, and what they showed."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.controls = 0
        """How often the provider did or returned something."""
        self.lacks_control = False
        """Whether it was last seen to do nothing, where it should do nothing."""

    def control(self) -> None:
        """Note that the provider was seen to do what it should, by other means than a hub's calls."""
        self.controls += 1
        self.lacks_control = False

    def note(self, answer: object) -> None:
        """Note the answer to a call."""
        if _did_something(answer):
            self.control()
        elif _returned_something(answer):
            self.controls += 1

    def check(self) -> None:
        """Check that the case could have failed.

        Raises:
            VacuousCase: it could not.
        """
        if not self.controls:
            raise VacuousCase(f"no positive control: of {self.calls.total()} calls none returned or did anything")
        if self.lacks_control:
            raise VacuousCase("nothing changed where nothing should, but nothing was seen to work afterwards either")


def _did_something(answer: object) -> bool:
    match answer:
        case TurnBatch(items=items) | ActivityBatch(items=items):
            return bool(items)
        case PurgeResult(deleted=deleted):
            return deleted > 0
        case ExchangeResult():
            parts = (answer.commits, answer.done, answer.renewed, answer.released, answer.turns, answer.activities)
            return any(_did_something(part) for part in parts)
        case [*items]:
            return any(item in _DONE or (isinstance(item, tuple) and item and item[0] in _DONE) for item in items)
        case _:
            return False


def _returned_something(answer: object) -> bool:
    match answer:
        case Page(items=items):
            return bool(items)
        case HistoryPage(events=events):
            return bool(events)
        case [*items]:
            return any(isinstance(item, InstanceInfo) for item in items)
        case _:
            return False


class RecordingHub:
    """Stands before a hub and notes every call. It has the hub's methods, whatever they are."""

    def __init__(self, hub: Hub, evidence: Evidence) -> None:
        self._hub = hub
        self._evidence = evidence

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._hub, name)
        if name in _UNRECORDED or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._evidence.calls[name] += 1
            answer = found(*args, **kwargs)
            self._evidence.note(answer)
            return answer

        # Found without this detour from now on.
        self.__dict__[name] = call
        return call

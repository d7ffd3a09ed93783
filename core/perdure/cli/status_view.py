"""How a custom status looks while an instance runs: a bar that moves on a terminal, a line per change elsewhere."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, TextIO

from perdure.cli.output import compact_json, printable
from perdure.spi.records import OrchestrationStatus

__all__ = ["Snapshot", "StatusView", "open_view"]

_MAX_LINE_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is shown of an instance."""

    status: OrchestrationStatus
    custom_status: Any = None
    """The value; None: there is no status."""

    @property
    def progress(self) -> float | None:
        """How much is done, 0 to 1; None where the custom status doesn't say."""
        value = self.custom_status.get("progress") if isinstance(self.custom_status, dict) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return min(1.0, max(0.0, float(value)))

    @property
    def message(self) -> str:
        """The custom status in words."""
        value = self.custom_status
        if value is None:
            return ""
        if isinstance(value, dict) and self.progress is not None and set(value) <= {"progress", "message"}:
            value = value.get("message") or ""
        elif isinstance(value, dict) and set(value) == {"message"}:
            value = value["message"]
        return printable(value if isinstance(value, str) else compact_json(value)).replace("\n", " ")


class StatusView(ABC):
    """Where snapshots of one instance are shown, one after the other."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def show(self, snapshot: Snapshot) -> None:
        """Show what is new."""

    def close(self) -> None:  # noqa: B027 - most views have nothing to let go of
        """Leave the last state standing and let go of the terminal."""


def open_view(stream: TextIO, label: str) -> StatusView:
    """Return the view that suits `stream`.

    Args:
        stream: where to draw.
        label: what to call the instance.
    """
    if stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        # rich takes a tenth of a second to import: only where it draws.
        from perdure.cli.live_view import LiveView  # noqa: PLC0415

        return LiveView(stream, label)
    return _LineView(stream)


class _LineView(StatusView):
    """Prints a line when the status has changed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        last, self._last = self._last, snapshot
        if snapshot.custom_status is not None and (last is None or snapshot.custom_status != last.custom_status):
            share = "" if snapshot.progress is None else f"{snapshot.progress:4.0%} "
            message = snapshot.message
            if len(message) > _MAX_LINE_CHARS:
                message = message[: _MAX_LINE_CHARS - 1] + "…"
            self._print(f"{share}{message}")
        is_suspended = snapshot.status is OrchestrationStatus.SUSPENDED
        if is_suspended != (last is not None and last.status is OrchestrationStatus.SUSPENDED):
            self._print("suspended" if is_suspended else "resumed")

    def _print(self, text: str) -> None:
        # In one piece: activities in other threads print to the same stream.
        self._stream.write(f"{datetime.now():%H:%M:%S} {text}\n")
        self._stream.flush()

"""The custom status drawn on a terminal. Importing it imports rich."""

from __future__ import annotations

from typing import Final, TextIO

from rich.console import Console, ConsoleDimensions
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from perdure.cli.status_view import Snapshot, StatusView
from perdure.spi.records import OrchestrationStatus

__all__ = ["LiveView"]

_BAR_COLUMNS: Final = 30
_MARKS: Final = {
    OrchestrationStatus.COMPLETED: ("✓", "green"),
    OrchestrationStatus.FAILED: ("✗", "red"),
    OrchestrationStatus.TERMINATED: ("✗", "red"),
    OrchestrationStatus.SUSPENDED: ("⏸", "yellow"),
}


class LiveView(StatusView):
    """One line that moves: a mark, the label, a bar if there is progress, the status in words, the time.

    What is printed meanwhile appears above it.
    """

    def __init__(self, stream: TextIO, label: str) -> None:
        self._progress = Progress(
            _Mark(),
            TextColumn("{task.description}", markup=False),
            _Bar(bar_width=_BAR_COLUMNS),
            _Share(),
            TextColumn(
                "{task.fields[message]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            TimeElapsedColumn(),
            console=_Console(file=stream),
            expand=True,
        )
        self._task = self._progress.add_task(label, total=None, message="", status=OrchestrationStatus.PENDING)
        self._progress.start()

    def show(self, snapshot: Snapshot) -> None:
        share = snapshot.progress
        message = snapshot.message
        if snapshot.status is OrchestrationStatus.SUSPENDED:
            message = f"suspended; {message}" if message else "suspended"
        self._progress.update(
            self._task,
            total=None if share is None else 1.0,
            completed=share or 0.0,
            message=message,
            status=snapshot.status,
        )

    def close(self) -> None:
        # A spinner that stands still would look like a hang.
        self._progress.update(self._task, closed=True)
        self._progress.stop()


class _Console(Console):
    # Room at the end of the line for the ^C that a terminal echoes: on a line of its own it would leave a stale bar.
    @property  # type: ignore[misc] # nobody sets it
    def size(self) -> ConsoleDimensions:
        width, height = super().size
        return ConsoleDimensions(max(1, width - 3), height)


class _Mark(SpinnerColumn):
    def render(self, task: Task) -> Text:
        mark, style = _MARKS.get(task.fields["status"], ("", ""))
        if mark:
            return Text(mark, style=style)
        if task.fields.get("closed"):
            return Text("-")
        spinner = super().render(task)
        return spinner if isinstance(spinner, Text) else Text("")


class _Bar(BarColumn):
    # Without a total rich lets a block run to and fro, which says nothing that the spinner doesn't.
    def render(self, task: Task) -> Text:  # type: ignore[override]
        return Text("") if task.total is None else super().render(task)  # type: ignore[return-value]


class _Share(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:4.0%}")

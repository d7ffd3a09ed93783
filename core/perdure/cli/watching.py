"""`perdure watch`: follow an instance that runs elsewhere."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from perdure.cli.documents import instance_document, payload_value
from perdure.cli.following import describe_failure, follow, result_code, snapshot
from perdure.cli.output import print_json, printable
from perdure.cli.signals import StopSignal
from perdure.cli.status_view import open_view
from perdure.cli.store import open_client
from perdure.identifiers import check_instance_id
from perdure.spi import OrchestrationStatus
from perdure.state import OrchestrationState

__all__ = ["watch"]


def watch(arguments: argparse.Namespace) -> int:
    """Show the custom status of an instance until it ends."""
    check_instance_id(arguments.id)
    with StopSignal() as stop, open_client(arguments, create=False) as client:
        if arguments.json:
            lines = _JsonLines()
            state = follow(client, arguments.id, lines.show, stop)
            lines.end(state)
        else:
            # The stream is what was asked for, so that it goes to stdout.
            with open_view(sys.stdout, arguments.id) as view:
                state = follow(client, arguments.id, lambda state: view.show(snapshot(state)), stop)
            _print_end(state)
    return result_code(state) if state.runtime_status.is_terminal else stop.exit_code


class _JsonLines:
    """Prints a line for each state that differs from the one before."""

    def __init__(self) -> None:
        self._rev: tuple[str, int] | None = None

    def show(self, state: OrchestrationState) -> None:
        rev = (state.generation, state.rev)
        if rev != self._rev:
            self._rev = rev
            if not state.runtime_status.is_terminal:
                self._print(instance_document(state, payloads=False))

    def end(self, state: OrchestrationState) -> None:
        """Print the last line, which has input and output too."""
        if state.runtime_status.is_terminal:
            self._print(instance_document(state))

    def _print(self, document: dict[str, Any]) -> None:
        print_json(document, pretty=False)
        sys.stdout.flush()


def _print_end(state: OrchestrationState) -> None:
    if not state.runtime_status.is_terminal:
        print(f"{state.name} {state.instance_id} goes on without being watched", file=sys.stderr)
        return
    print(printable(f"{state.name} {state.instance_id} {state.runtime_status.value}"))
    if state.runtime_status is OrchestrationStatus.FAILED:
        print(describe_failure(state.failure_details), file=sys.stderr)
    elif state.serialized_output is not None:
        print_json(payload_value(state.serialized_output))

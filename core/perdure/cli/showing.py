"""`perdure show`: all that is known of an instance."""

from __future__ import annotations

import argparse

from perdure.cli import exit_codes
from perdure.cli.documents import instance_document, payload_value
from perdure.cli.following import describe_failure
from perdure.cli.output import clip, compact_json, local_time, print_json, printable
from perdure.cli.store import open_client
from perdure.errors import InstanceNotFound
from perdure.identifiers import check_instance_id
from perdure.state import OrchestrationState

__all__ = ["show"]

_VALUE_CHARS = 2_000


def show(arguments: argparse.Namespace) -> int:
    """Print one instance."""
    check_instance_id(arguments.id)
    with open_client(arguments, create=False) as client:
        state = client.get_orchestration_state(arguments.id)
    if state is None:
        raise InstanceNotFound(arguments.id)
    if arguments.json:
        print_json(instance_document(state))
        return exit_codes.OK
    for label, text in _lines(state):
        print(f"{label + ':':15}{text}")
    return exit_codes.OK


def _lines(state: OrchestrationState) -> list[tuple[str, str]]:
    lines = [
        ("id", state.instance_id),
        ("name", printable(state.name)),
        ("version", None if state.version is None else printable(state.version)),
        ("status", state.runtime_status.value),
        ("execution", str(state.execution) if state.execution > 1 else None),
        ("parent", state.parent_instance_id),
        ("tags", printable(", ".join(f"{key}={value}" for key, value in sorted(state.tags.items()))) or None),
        ("created", local_time(state.created_at)),
        ("updated", local_time(state.last_updated_at)),
        ("completed", None if state.completed_at is None else local_time(state.completed_at)),
        ("custom status", _value(state.serialized_custom_status)),
        ("input", _value(state.serialized_input)),
        ("output", _value(state.serialized_output)),
        ("failure", describe_failure(state.failure_details).replace("\n", "\n" + " " * 15) or None),
    ]
    return [(label, text) for label, text in lines if text is not None]


def _value(text: str | None) -> str | None:
    return None if text is None else clip(compact_json(payload_value(text)), _VALUE_CHARS)

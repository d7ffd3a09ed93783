"""`perdure history`: the events of an instance."""

from __future__ import annotations

import argparse
import dataclasses
from enum import Enum
from typing import Any, Final

from perdure.cli import exit_codes
from perdure.cli.documents import payload_value
from perdure.cli.output import compact_json, local_time, print_json, print_table, utc_time
from perdure.cli.store import open_client
from perdure.failures import FailureDetails
from perdure.history import Event
from perdure.identifiers import check_instance_id
from perdure.times import as_datetime

__all__ = ["event_document", "show_history"]

_TIMES: Final = frozenset({"timestamp", "fire_at"})
# Known from the instance itself, or of use to machines only.
_NOT_DETAILS: Final = frozenset({"timestamp", "event_id", "instance_id", "execution_id", "parent", "trace_context"})


def show_history(arguments: argparse.Namespace) -> int:
    """Print all events of the instance's current execution."""
    check_instance_id(arguments.id)
    with open_client(arguments, create=False) as client:
        events = list(client.read_history(arguments.id))
    if arguments.json:
        print_json([event_document(seq, event) for seq, event in enumerate(events)])
        return exit_codes.OK
    rows = [
        (str(seq), local_time(as_datetime(event.timestamp)), type(event).__name__, _details(event))
        for seq, event in enumerate(events)
    ]
    print_table(("SEQ", "TIME", "EVENT", "DETAILS"), rows)
    return exit_codes.OK


def event_document(seq: int, event: Event) -> dict[str, Any]:
    """Return a whole event as a JSON object."""
    document: dict[str, Any] = {"seq": seq, "kind": type(event).__name__}
    for field in dataclasses.fields(event):
        document[field.name] = _plain(event, field.name)
    return document


def _details(event: Event) -> str:
    parts = [] if event.event_id < 0 else [f"#{event.event_id}"]
    payload = event.PAYLOAD
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        if field.name in _NOT_DETAILS or field.name == payload or value is None:
            continue
        parts.append(_detail(field.name, value))
    # The payload last: it may be cut off.
    if payload is not None and getattr(event, payload) is not None:
        parts.append(f"{payload}={compact_json(_plain(event, payload))}")
    return " ".join(parts)


def _detail(name: str, value: Any) -> str:
    if name == "name":
        return str(value)
    if name in ("task_scheduled_id", "timer_id"):
        return f"of #{value}"
    if name in _TIMES:
        return f"{name}={local_time(as_datetime(value))}"
    if isinstance(value, FailureDetails):
        return f"{value.error_type}: {value.message}"
    return f"{name}={compact_json(value) if isinstance(value, dict) else value}"


def _plain(event: Event, name: str) -> Any:
    value = getattr(event, name)
    if name == event.PAYLOAD:
        return payload_value(value)
    if name in _TIMES:
        return utc_time(as_datetime(value))
    if isinstance(value, FailureDetails):
        return value.to_json()
    if isinstance(value, Enum):
        return value.value
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value

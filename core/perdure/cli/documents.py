"""The shape in which `--json` shows things. Scripts rest on it: add keys, never change one."""

from __future__ import annotations

from typing import Any

from perdure.cli.output import utc_time
from perdure.codec import loads
from perdure.errors import PayloadError
from perdure.state import OrchestrationState

__all__ = ["instance_document", "payload_value"]


def payload_value(text: str | bytes | None) -> Any:
    """Return the value of a stored payload; the text itself where a data converter wrote no JSON."""
    if text is None:
        return None
    try:
        return loads(text)
    except PayloadError:
        return text if isinstance(text, str) else text.decode(errors="backslashreplace")


def instance_document(state: OrchestrationState, *, payloads: bool = True) -> dict[str, Any]:
    """Return an instance as a JSON object.

    Args:
        state: the instance.
        payloads: with its input and output, where the state was read with them.
    """
    document = {
        "id": state.instance_id,
        "name": state.name,
        "version": state.version,
        "status": state.runtime_status.value,
        "execution": state.execution,
        "parent": state.parent_instance_id,
        "tags": dict(state.tags),
        "created_at": utc_time(state.created_at),
        "updated_at": utc_time(state.last_updated_at),
        "completed_at": utc_time(state.completed_at),
        "custom_status": payload_value(state.serialized_custom_status),
        "failure": None if state.failure_details is None else state.failure_details.to_json(),
    }
    if payloads:
        document["input"] = payload_value(state.serialized_input)
        document["output"] = payload_value(state.serialized_output)
    return document

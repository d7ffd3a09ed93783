"""`perdure list`: the instances of a hub."""

from __future__ import annotations

import argparse
import sys

from perdure.cli import exit_codes
from perdure.cli.documents import instance_document
from perdure.cli.following import snapshot
from perdure.cli.inputs import read_tags
from perdure.cli.output import local_time, print_json, print_table
from perdure.cli.store import open_client
from perdure.requests import OrchestrationQuery
from perdure.spi import OrchestrationStatus
from perdure.state import OrchestrationState

__all__ = ["list_instances", "print_instances", "statuses"]


def list_instances(arguments: argparse.Namespace) -> int:
    """Print the newest instances that match."""
    query = OrchestrationQuery(
        runtime_status=statuses(arguments),
        names=arguments.name,
        versions=arguments.version,
        instance_id_prefix=arguments.prefix,
        tags=read_tags(arguments.tag),
        descending=True,
        # One more than is shown tells whether there are more.
        max_instance_count=arguments.limit + 1,
    )
    with open_client(arguments, create=False) as client:
        found = client.get_all_orchestration_states(query)
    shown = found[: arguments.limit]
    if arguments.json:
        print_json([instance_document(state, payloads=False) for state in shown])
    else:
        print_instances(shown)
    if len(found) > len(shown):
        print(f"there are more than these {len(shown)}; --limit shows more, a filter less", file=sys.stderr)
    return exit_codes.OK


def statuses(arguments: argparse.Namespace) -> list[OrchestrationStatus] | None:
    """Return the statuses of `--status`."""
    return None if arguments.status is None else [OrchestrationStatus(name.upper()) for name in arguments.status]


def print_instances(states: list[OrchestrationState]) -> None:
    """Print instances as a table."""
    rows = [
        (state.instance_id, state.name, state.runtime_status.value, local_time(state.created_at), _say(state))
        for state in states
    ]
    print_table(("ID", "NAME", "STATUS", "CREATED", "DETAILS"), rows)


def _say(state: OrchestrationState) -> str:
    if state.failure_details is not None:
        return f"{state.failure_details.error_type}: {state.failure_details.message}"
    shown = snapshot(state)
    return shown.message if shown.progress is None else f"{shown.progress:.0%} {shown.message}".rstrip()

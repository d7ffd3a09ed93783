"""`perdure raise-event`, `suspend`, `resume` and `terminate`: tell an instance something."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from perdure.cli import exit_codes
from perdure.cli.inputs import read_json
from perdure.cli.output import print_json, printable
from perdure.cli.store import open_client
from perdure.client import Client
from perdure.identifiers import check_instance_id

__all__ = ["raise_event", "resume", "suspend", "terminate"]


def raise_event(arguments: argparse.Namespace) -> int:
    """Raise an external event."""
    data = read_json("--data", arguments.data)

    def act(client: Client) -> None:
        client.raise_orchestration_event(arguments.id, arguments.name, data=data)

    return _tell(arguments, act, f"raised {arguments.name} on {arguments.id}", "raise-event")


def suspend(arguments: argparse.Namespace) -> int:
    """Suspend an instance."""

    def act(client: Client) -> None:
        client.suspend_orchestration(arguments.id, reason=arguments.reason)

    return _tell(arguments, act, f"suspending {arguments.id}", "suspend")


def resume(arguments: argparse.Namespace) -> int:
    """Resume a suspended instance."""

    def act(client: Client) -> None:
        client.resume_orchestration(arguments.id, reason=arguments.reason)

    return _tell(arguments, act, f"resuming {arguments.id}", "resume")


def terminate(arguments: argparse.Namespace) -> int:
    """Terminate an instance."""
    output = read_json("--output", arguments.output)

    def act(client: Client) -> None:
        client.terminate_orchestration(arguments.id, output=output, recursive=not arguments.no_recursive)

    return _tell(arguments, act, f"terminating {arguments.id}", "terminate")


def _tell(arguments: argparse.Namespace, act: Callable[[Client], None], done: str, request: str) -> int:
    check_instance_id(arguments.id)
    with open_client(arguments, create=False) as client:
        act(client)
    if arguments.json:
        print_json({"id": arguments.id, "accepted": request})
    else:
        # It is in the instance's inbox for good; when it takes effect is a worker's to say.
        print(printable(done))
    return exit_codes.OK

"""`perdure start`: start an instance that a worker elsewhere runs."""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta

from perdure.cli import exit_codes
from perdure.cli.documents import instance_document
from perdure.cli.inputs import read_duration, read_json, read_tags, read_time
from perdure.cli.output import print_json
from perdure.cli.problems import warn
from perdure.cli.store import open_client, provider_option
from perdure.errors import InstanceAlreadyExists, OrchestrationNotStarted, PerdureError

__all__ = ["start"]


def start(arguments: argparse.Namespace) -> int:
    """Start an instance, and warn if nobody takes it."""
    input_value = read_json("--input", arguments.input)
    tags = read_tags(arguments.tag)
    start_at = _start_at(arguments)
    with open_client(arguments, create=True) as client:
        try:
            instance_id = client.schedule_new_orchestration(
                arguments.name,
                input=input_value,
                instance_id=arguments.id,
                start_at=start_at,
                tags=tags,
                version=arguments.version,
                reuse_id_policy=arguments.reuse_id,
            )
        except InstanceAlreadyExists as taken:
            state = f" and is {taken.status}" if taken.status else ""
            raise PerdureError(
                f"instance {taken.instance_id!r} exists already{state}; choose another --id, or pass "
                "--reuse-id replace_finished to replace it once it has ended, or --reuse-id ignore to keep it"
            ) from None
        # The id first: it is what a script waits for.
        if not arguments.json:
            print(instance_id, flush=True)
        if arguments.wait and start_at is None:
            try:
                client.wait_for_orchestration_start(instance_id, timeout=arguments.wait)
            except OrchestrationNotStarted:
                warn(
                    f"no live worker has taken {arguments.name!r} within {arguments.wait:g} s; it waits. Start one "
                    f"that has it: `perdure worker FILE.py{provider_option(arguments)}`"
                )
        if arguments.json:
            started = client.get_orchestration_state(instance_id)
            print_json({"id": instance_id} if started is None else instance_document(started))
    return exit_codes.OK


def _start_at(arguments: argparse.Namespace) -> datetime | timedelta | None:
    if arguments.start_at is not None:
        return read_time("--start-at", arguments.start_at)
    if arguments.delay is not None:
        return read_duration("--delay", arguments.delay)
    return None

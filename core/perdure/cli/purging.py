"""`perdure purge`: delete instances."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from perdure.cli import exit_codes
from perdure.cli.documents import instance_document
from perdure.cli.inputs import read_duration, read_tags
from perdure.cli.listing import print_instances, statuses
from perdure.cli.output import print_json
from perdure.cli.problems import UsageProblem
from perdure.cli.store import open_client
from perdure.client import Client
from perdure.identifiers import check_instance_id
from perdure.requests import FINISHED, OrchestrationQuery
from perdure.state import OrchestrationState

__all__ = ["purge"]


def purge(arguments: argparse.Namespace) -> int:
    """Delete instances by their ids or by a filter."""
    for instance_id in arguments.ids:
        check_instance_id(instance_id)
    query = _query(arguments)
    with open_client(arguments, create=False) as client:
        if arguments.dry_run:
            return _say_what_would_go(arguments, client, query)
        if arguments.ids:
            return _purge_ids(arguments, client, arguments.ids)
        if arguments.force or arguments.version:
            # What the client's purge by filter doesn't do.
            ids = [state.instance_id for state in client.get_all_orchestration_states(query)]
            return _purge_ids(arguments, client, ids)
        result = client.purge_orchestrations_by(
            completed_time_to=query.completed_time_to,
            runtime_status=query.runtime_status,
            names=query.names,
            instance_id_prefix=query.instance_id_prefix,
            tags=query.tags,
            recursive=arguments.recursive,
        )
    return _report(arguments, result.deleted_instance_count, [], [])


def _query(arguments: argparse.Namespace) -> OrchestrationQuery:
    wanted = statuses(arguments)
    tags = read_tags(arguments.tag)
    ended_before = None
    if arguments.older_than is not None:
        ended_before = datetime.now(UTC) - read_duration("--older-than", arguments.older_than)
    filters = (wanted, arguments.name, tags, arguments.version, arguments.prefix, ended_before)
    is_filtered = any(item is not None for item in filters)
    if bool(arguments.ids) + is_filtered + arguments.all != 1:
        raise UsageProblem(
            "say what to delete in one of three ways: ids, a filter (--status completed, --older-than 30d), or --all"
        )
    if not arguments.force:
        running = [] if wanted is None else [status.value.lower() for status in wanted if not status.is_terminal]
        if running:
            raise UsageProblem(f"what is {' or '.join(running)} has not ended, and is deleted only with --force")
        wanted = wanted or sorted(FINISHED)
    return OrchestrationQuery(
        runtime_status=wanted,
        names=arguments.name,
        versions=arguments.version,
        instance_id_prefix=arguments.prefix,
        tags=tags,
        completed_time_to=ended_before,
    )


def _purge_ids(arguments: argparse.Namespace, client: Client, ids: list[str]) -> int:
    deleted, unfinished, unknown = 0, [], []
    for instance_id in dict.fromkeys(ids):
        result = client.purge_orchestration(instance_id, recursive=arguments.recursive, force=arguments.force)
        deleted += result.deleted_instance_count
        if result.unfinished:
            unfinished.append(instance_id)
        elif not result.deleted_instance_count:
            unknown.append(instance_id)
    # What a filter found and another purge took meanwhile is no mistake of anybody's.
    return _report(arguments, deleted, unfinished, unknown if arguments.ids else [])


def _report(arguments: argparse.Namespace, deleted: int, unfinished: list[str], unknown: list[str]) -> int:
    if arguments.json:
        print_json({"deleted": deleted, "unfinished": unfinished, "not_found": unknown})
    else:
        print(f"deleted {_count(deleted)}")
    for instance_id in unfinished:
        below = ", or something under it," if arguments.recursive else ""
        print(
            f"error: {instance_id!r}{below} has not ended and was kept; terminate it first, or pass --force",
            file=sys.stderr,
        )
    for instance_id in unknown:
        print(f"error: there is no instance {instance_id!r}", file=sys.stderr)
    return exit_codes.FAILED if unfinished else exit_codes.NOT_FOUND if unknown else exit_codes.OK


def _say_what_would_go(arguments: argparse.Namespace, client: Client, query: OrchestrationQuery) -> int:
    unknown: list[str] = []
    unfinished: list[str] = []
    found: list[OrchestrationState] = []
    if arguments.ids:
        for instance_id in dict.fromkeys(arguments.ids):
            state = client.get_orchestration_state(instance_id, fetch_payloads=False)
            if state is None:
                unknown.append(instance_id)
            elif state.runtime_status.is_terminal or arguments.force:
                found.append(state)
            else:
                unfinished.append(instance_id)
    else:
        found = client.get_all_orchestration_states(query)
    if arguments.json:
        print_json(
            {
                "would_delete": [instance_document(state, payloads=False) for state in found],
                "recursive": arguments.recursive,
                "unfinished": unfinished,
                "not_found": unknown,
            }
        )
        return exit_codes.OK
    if found:
        print_instances(found)
    below = ", and all that is under them" if arguments.recursive else ""
    print(f"would delete {_count(len(found))}{below}")
    for instance_id in unfinished:
        print(f"would keep {instance_id!r}, which has not ended (--force deletes it)")
    for instance_id in unknown:
        print(f"there is no instance {instance_id!r}")
    return exit_codes.OK


def _count(number: int) -> str:
    return "1 instance" if number == 1 else f"{number:,} instances"

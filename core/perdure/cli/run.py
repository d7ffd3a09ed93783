"""`perdure run`: a worker, one instance, and its custom status while it runs."""

from __future__ import annotations

import argparse
import contextlib
import logging
import shlex
import sys
from typing import Any

from perdure.cli.documents import instance_document, payload_value
from perdure.cli.following import describe_failure, follow, result_code, snapshot
from perdure.cli.inputs import read_json
from perdure.cli.output import print_json, printable
from perdure.cli.problems import UsageProblem, warn
from perdure.cli.script import choose_orchestrator, load_file, register
from perdure.cli.signals import STOP_SECONDS, StopSignal, leave
from perdure.cli.status_view import open_view
from perdure.cli.store import open_provider, provider_option
from perdure.client import Client
from perdure.errors import ProviderError, ProviderUnavailable
from perdure.identifiers import check_instance_id, new_instance_id
from perdure.registry import Registry
from perdure.requests import OrchestrationQuery
from perdure.spi import OrchestrationStatus, Provider
from perdure.state import OrchestrationState
from perdure.worker import Worker

__all__ = ["run"]

_MAX_OTHERS = 100


def run(arguments: argparse.Namespace) -> int:
    """Run an orchestration of a file here, or go on with one."""
    if arguments.id is not None:
        check_instance_id(arguments.id)
    input_value = read_json("--input", arguments.input)
    module = load_file(arguments.file)
    registry = register(module, arguments.file)
    if arguments.id is None or arguments.name is not None or len(registry.orchestrators) <= 1:
        # Else the instance says which. Whatever is wrong is said before a store is made.
        choose_orchestrator(registry, arguments.name, arguments.file)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with StopSignal() as stop, open_provider(arguments, create=True) as provider, Client(provider) as client:
        state = client.get_orchestration_state(arguments.id) if arguments.id is not None else None
        if state is not None and state.runtime_status.is_terminal:
            _say(f"instance {state.instance_id} is finished already; this is its result")
            return _finish(arguments, state)
        name = _choose_name(arguments, registry, state)
        if state is None:
            instance_id = _start(arguments, client, name, input_value)
        else:
            instance_id = state.instance_id
            _say_what_continues(arguments, state, input_value)
        _mention_others(client, registry, instance_id)
        worker = Worker(provider, lease_seconds=arguments.lease_seconds)
        worker.add_module(module)
        try:
            state = _work(worker, client, instance_id, f"{name} {instance_id}", stop)
        except ProviderError:
            command = _resume_command(arguments, name, instance_id)
            _say(f"nothing is lost; once the store is there again, go on with:\n  {command}")
            raise
        if state.runtime_status.is_terminal:
            return _finish(arguments, state)
        return _pause(arguments, provider, state, stop)


def _choose_name(arguments: argparse.Namespace, registry: Registry, state: OrchestrationState | None) -> str:
    if state is None:
        return choose_orchestrator(registry, arguments.name, arguments.file)
    if arguments.name not in (None, state.name):
        raise UsageProblem(
            f"instance {state.instance_id!r} runs {state.name!r}, not {arguments.name!r}; leave the name out"
        )
    if state.name not in registry.orchestrators:
        raise UsageProblem(
            f"instance {state.instance_id!r} runs {state.name!r}, which {arguments.file} doesn't have (it has "
            f"{', '.join(sorted(registry.orchestrators)) or 'none'}); give the file that has it, or another id"
        )
    return state.name


def _start(arguments: argparse.Namespace, client: Client, name: str, input_value: Any) -> str:
    instance_id: str = arguments.id or new_instance_id()
    # Before it is started: whoever kills us in between can use the same line.
    _say(f"{name} {instance_id}; if it is interrupted, go on with:\n  {_resume_command(arguments, name, instance_id)}")
    return client.schedule_new_orchestration(name, input=input_value, instance_id=instance_id)


def _say_what_continues(arguments: argparse.Namespace, state: OrchestrationState, input_value: Any) -> None:
    _say(f"{state.name} {state.instance_id} goes on where it was")
    if state.runtime_status is OrchestrationStatus.SUSPENDED:
        command = f"perdure resume {shlex.quote(state.instance_id)}{provider_option(arguments)}"
        _say(f"it is suspended; `{command}` lets it go on")
    if arguments.input is not None and input_value != payload_value(state.serialized_input):
        warn("--input is ignored: this instance has another input already; without --id a new instance is started")


def _mention_others(client: Client, registry: Registry, instance_id: str) -> None:
    # A worker can't choose among instances, so that what earlier runs left unfinished goes on along with this one.
    query = OrchestrationQuery(
        runtime_status=[OrchestrationStatus.PENDING, OrchestrationStatus.RUNNING],
        names=list(registry.orchestrators),
        max_instance_count=_MAX_OTHERS,
    )
    others = [
        state.instance_id
        for state in client.get_all_orchestration_states(query)
        if state.parent_instance_id is None and state.instance_id != instance_id
    ]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        _say(f"also unfinished, and going on in this process too: {others[0]}{more} (see `perdure list`)")


def _work(worker: Worker, client: Client, instance_id: str, label: str, stop: StopSignal) -> OrchestrationState:
    def check() -> None:
        if not worker.is_running:
            raise ProviderUnavailable("the worker has given up, since the store can't be used any more")

    with contextlib.ExitStack() as stack:
        # stdout is for the output alone. The view comes second, since it has to get hold of all that is printed.
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        view = stack.enter_context(open_view(sys.stderr, label))
        worker.start()
        stack.callback(worker.stop, STOP_SECONDS)
        state = follow(client, instance_id, lambda state: view.show(snapshot(state)), stop, check)
        if not state.runtime_status.is_terminal:
            _say(f"stopping: what runs has {STOP_SECONDS:g} s to finish; Ctrl-C again stops at once")
    # While it stopped, the instance may have gone on, and even have ended.
    return client.get_orchestration_state(instance_id) or state


def _finish(arguments: argparse.Namespace, state: OrchestrationState) -> int:
    if arguments.json:
        print_json(instance_document(state))
    elif state.runtime_status is OrchestrationStatus.COMPLETED:
        print_json(payload_value(state.serialized_output))
    if state.runtime_status is OrchestrationStatus.FAILED:
        _say(f"{state.name} {state.instance_id} failed: {describe_failure(state.failure_details)}")
    elif state.runtime_status is OrchestrationStatus.TERMINATED:
        output = state.serialized_output
        _say(f"{state.name} {state.instance_id} was terminated" + (f": {output}" if output else ""))
    return result_code(state)


def _pause(arguments: argparse.Namespace, provider: Provider, state: OrchestrationState, stop: StopSignal) -> int:
    command = _resume_command(arguments, state.name, state.instance_id)
    if arguments.json:
        print_json({**instance_document(state), "resume": command})
    if provider.capabilities.durable:
        _say(f"interrupted; {state.name} {state.instance_id} is kept as it is. Go on with:\n  {command}")
    else:
        _say(f"interrupted; {provider.url} keeps nothing, so that {state.instance_id} is gone with this process")
    return leave(stop.exit_code)


def _resume_command(arguments: argparse.Namespace, name: str, instance_id: str) -> str:
    words = f"perdure run {shlex.quote(arguments.file)} {shlex.quote(name)} --id {shlex.quote(instance_id)}"
    return words + provider_option(arguments)


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)

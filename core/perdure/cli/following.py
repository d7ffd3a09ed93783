"""Following an instance until it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure.cli import exit_codes
from perdure.cli.documents import payload_value
from perdure.cli.output import printable
from perdure.cli.signals import StopSignal
from perdure.cli.status_view import Snapshot
from perdure.client import Client
from perdure.errors import InstanceNotFound
from perdure.failures import FailureDetails
from perdure.spi import OrchestrationStatus
from perdure.state import OrchestrationState

__all__ = ["describe_failure", "follow", "result_code", "snapshot"]

# How late a signal, or a change that gives no hint, is noticed at worst.
_LOOK_SECONDS: Final = 0.25


def follow(
    client: Client,
    instance_id: str,
    show: Callable[[OrchestrationState], None],
    stop: StopSignal,
    check: Callable[[], None] = lambda: None,
) -> OrchestrationState:
    """Show the instance whenever it may have changed, until it has ended or `stop` is set.

    Returns:
        Its last state, with input and output, which those shown lack.

    Args:
        client: of the hub.
        instance_id: of the instance.
        show: called with each state.
        stop: ends it.
        check: called between looks; what it raises ends it too.

    Raises:
        InstanceNotFound: there is no such instance, or it was purged meanwhile.
    """
    while True:
        state = _read(client, instance_id, fetch_payloads=False)
        show(state)
        if state.runtime_status.is_terminal or stop.number is not None:
            return _read(client, instance_id, fetch_payloads=True)
        check()
        try:
            client.wait_for_custom_status(instance_id, since=state.status_rev, timeout=_LOOK_SECONDS)
        except TimeoutError:
            continue


def snapshot(state: OrchestrationState) -> Snapshot:
    """Return what a view shows of a state."""
    return Snapshot(status=state.runtime_status, custom_status=payload_value(state.serialized_custom_status))


def result_code(state: OrchestrationState) -> int:
    """Return the exit code for an instance that has ended."""
    return exit_codes.OK if state.runtime_status is OrchestrationStatus.COMPLETED else exit_codes.FAILED


def describe_failure(failure: FailureDetails | None) -> str:
    """Return a failure in words, with its stack and those of its causes below it."""
    if failure is None:
        return ""
    parts = [f"{failure.error_type}: {failure.message}"]
    cause: FailureDetails | None = failure
    while cause is not None:
        if cause is not failure:
            parts.append("caused by")
        parts.append((cause.stack_trace or f"{cause.error_type}: {cause.message}").rstrip())
        cause = cause.inner_failure
    return printable("\n".join(parts))


def _read(client: Client, instance_id: str, *, fetch_payloads: bool) -> OrchestrationState:
    state = client.get_orchestration_state(instance_id, fetch_payloads=fetch_payloads)
    if state is None:
        raise InstanceNotFound(instance_id)
    return state

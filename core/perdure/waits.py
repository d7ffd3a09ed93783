"""Waiting until an instance has started, has ended, or shows a custom status.

Who waits is woken by the provider's hints where there are any, and reads the instance from time to time all the
same, since a hint may be lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeAlias

from perdure.codec import loads
from perdure.connection import Changes, OnChange
from perdure.conversion import DataConverter
from perdure.errors import InstanceNotFound, OrchestrationNotStarted, ProviderError
from perdure.identifiers import check_instance_id
from perdure.operations import AwaitChange, Operation, read_info, retried
from perdure.requests import as_timeout
from perdure.spi import Fields, InstanceInfo, OrchestrationStatus
from perdure.state import OrchestrationState

__all__ = ["StatusPredicate", "Watch", "for_completion", "for_custom_status", "for_start"]

StatusPredicate: TypeAlias = Callable[[Any], bool]
"""Judges a custom status: its JSON value, None while there is none."""

_POLL_WITH_HINTS: Final = 1.0
_FIRST_POLL: Final = 0.005
_LAST_POLL: Final = 0.25
_POLL_GROWTH: Final = 1.5

# All that is small, or that isn't there before the end: so that a wait can return what it saw.
_LIGHT: Final = Fields.ALL & ~Fields.INPUT


class Watch:
    """One wait for one instance.

    Args:
        changes: tells of changes.
        on_change: ends the `AwaitChange` that the wait is in.
        instance_id: the instance.
        timeout: seconds; None: for ever.
    """

    def __init__(self, changes: Changes, on_change: OnChange, instance_id: str, timeout: float | None) -> None:
        self.instance_id = check_instance_id(instance_id)
        self.timeout = as_timeout(timeout)
        self._changes = changes
        self._on_change = on_change
        self._deadline = time.monotonic() + self.timeout
        self._generation: str | None = None

    def until(
        self,
        holds: Callable[[InstanceInfo], bool],
        on_timeout: Callable[[InstanceInfo | None], TimeoutError],
        fields: Fields = _LIGHT,
    ) -> Operation[InstanceInfo]:
        """Return the instance as soon as `holds` is true of it.

        Raises:
            InstanceNotFound: there is none, or it was purged or replaced meanwhile.
            TimeoutError: what `on_timeout` made of the instance as it was last seen.
        """
        changes, seen = self._changes, None
        try:
            # First the watch, then the look: a change between the two is a hint, and one before is seen.
            changes.watch(self.instance_id, self._on_change)
            yield from retried(changes.subscribe, deadline=self._deadline)
            interval = _FIRST_POLL
            while True:
                seen = yield from self._look(fields)
                if holds(seen):
                    return seen
                left = self._deadline - time.monotonic()
                if left <= 0:
                    raise on_timeout(seen)
                yield AwaitChange(min(_POLL_WITH_HINTS if changes.are_pushed else interval, left))
                interval = min(interval * _POLL_GROWTH, _LAST_POLL)
        except ProviderError as error:
            if error.retryable and time.monotonic() >= self._deadline:
                raise on_timeout(seen) from error
            raise
        finally:
            changes.unwatch(self.instance_id, self._on_change)

    def _look(self, fields: Fields) -> Operation[InstanceInfo]:
        info = yield from read_info(self.instance_id, fields, deadline=self._deadline)
        if info is None:
            raise InstanceNotFound(self.instance_id)
        if self._generation is None:
            self._generation = info.generation
        elif info.generation != self._generation:
            gone = InstanceNotFound(self.instance_id)
            gone.add_note("The instance that was waited for is gone: another one was started under its id meanwhile.")
            raise gone
        return info


def for_start(watch: Watch, converter: DataConverter, *, fetch_payloads: bool) -> Operation[OrchestrationState]:
    """Wait until a worker has taken the instance."""
    info = yield from watch.until(
        lambda info: info.status is not OrchestrationStatus.PENDING,
        lambda info: OrchestrationNotStarted(watch.instance_id, watch.timeout, None if info is None else info.name),
    )
    return (yield from _state(info, converter, fetch_payloads=fetch_payloads))


def for_completion(watch: Watch, converter: DataConverter, *, fetch_payloads: bool) -> Operation[OrchestrationState]:
    """Wait until the instance has ended."""
    info = yield from watch.until(
        lambda info: info.status.is_terminal,
        lambda info: TimeoutError(
            f"orchestration instance {watch.instance_id!r} has not ended within {watch.timeout:g} s{_standing(info)}"
        ),
    )
    return (yield from _state(info, converter, fetch_payloads=fetch_payloads))


def for_custom_status(
    watch: Watch, converter: DataConverter, predicate: StatusPredicate | None, since: int | None
) -> Operation[OrchestrationState]:
    """Wait for a custom status, or for the end of the instance."""
    judged: int | None = None

    def holds(info: InstanceInfo) -> bool:
        nonlocal judged, since
        if since is None:
            # As of the call; a predicate may hold of what is there already.
            since = info.status_rev if predicate is None else -1
        is_new, judged = info.status_rev != judged, info.status_rev
        if is_new and info.status_rev > since and (predicate is None or predicate(_value(info.custom_status))):
            return True
        return info.status.is_terminal

    what = "a new custom status" if predicate is None else "the custom status waited for"
    info = yield from watch.until(
        holds,
        lambda info: TimeoutError(
            f"orchestration instance {watch.instance_id!r} has not shown {what} "
            f"within {watch.timeout:g} s{_standing(info)}"
        ),
    )
    return OrchestrationState.from_info(info, converter)


def _state(info: InstanceInfo, converter: DataConverter, *, fetch_payloads: bool) -> Operation[OrchestrationState]:
    if not fetch_payloads:
        return replace(OrchestrationState.from_info(info, converter), serialized_output=None)
    # Only now the input, which may be large. All else stays as it was when the wait ended.
    full = yield from read_info(info.id, Fields.INPUT)
    if full is not None and full.generation == info.generation:
        info = replace(info, input=full.input)
    return OrchestrationState.from_info(info, converter)


def _standing(info: InstanceInfo | None) -> str:
    return (
        ""
        if info is None
        else f" (it is {info.status}); wait longer, or see that a worker has {info.name!r} registered"
    )


def _value(custom_status: bytes | None) -> Any:
    return None if custom_status is None else loads(custom_status)

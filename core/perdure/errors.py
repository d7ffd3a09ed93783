"""Every error that perdure raises on purpose.

    PerdureError
    ├── ProviderError                 a call to a storage provider failed
    │   ├── Transient                 certainly not applied; try again (retryable)
    │   ├── OutcomeUnknown            may have been applied; try again with the same ids (retryable)
    │   ├── ProviderUnavailable       no such provider, its driver is missing, or its store can't be reached
    │   ├── Closed                    the provider was closed
    │   ├── NotFound                  no such hub or instance
    │   ├── SchemaMismatch            the store's schema is not one this provider can use
    │   ├── AuthFailed                the store refused the credentials
    │   ├── InvalidRequest            the request itself is wrong
    │   │   ├── TooLarge              a payload or a commit is over a limit
    │   │   └── BadId                 an id is malformed
    │   ├── Unsupported               an optional operation that this provider does not declare
    │   └── Corrupt                   stored data can't be decoded
    ├── PayloadError                  a value or a text is not JSON that perdure stores (ValueError)
    │   ├── PayloadTooLarge           it is over 4 MiB
    │   └── CustomStatusTooLarge      a custom status is over 16 KB of UTF-16
    ├── InvalidArgument               an argument breaks a rule (ValueError)
    │   ├── InvalidInstanceId         an instance id does
    │   └── InvalidName               the name of an orchestrator, an activity or an event does
    ├── InstanceNotFound              no instance has that id
    ├── InstanceAlreadyExists         another instance has that id
    ├── InstanceFinished              the instance has ended and takes nothing any more
    ├── OrchestrationNotStarted       no worker took the instance in time (TimeoutError)
    ├── NotRegistered                 this worker has nothing of that name
    ├── NonDeterminismError           an orchestrator asked for something else than its history holds
    ├── InvalidYield                  an orchestrator waits for something that is no durable task (TypeError)
    ├── TaskCancelledError            an orchestrator waits for a task that it cancelled
    ├── TaskFailedError               an activity or a sub-orchestration failed; `details` says how
    ├── OrchestrationTerminated       a sub-orchestration was ended from outside; the type named in its failure
    └── OrchestrationFailedError      an orchestration whose result was asked for failed

    BaseException
    └── Evicted                       the orchestrator that goes on here is only a cached copy, thrown away

The providers' part is defined in `perdure.spi.errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from perdure.spi.errors import (
    AuthFailed,
    BadId,
    Closed,
    Corrupt,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    ProviderError,
    ProviderUnavailable,
    SchemaMismatch,
    TooLarge,
    Transient,
    Unsupported,
)

if TYPE_CHECKING:
    from perdure.failures import FailureDetails

__all__ = [
    "AuthFailed",
    "BadId",
    "Closed",
    "Corrupt",
    "CustomStatusTooLarge",
    "Evicted",
    "InstanceAlreadyExists",
    "InstanceFinished",
    "InstanceNotFound",
    "InvalidArgument",
    "InvalidInstanceId",
    "InvalidName",
    "InvalidRequest",
    "InvalidYield",
    "NonDeterminismError",
    "NotFound",
    "NotRegistered",
    "OrchestrationFailedError",
    "OrchestrationNotStarted",
    "OrchestrationTerminated",
    "OutcomeUnknown",
    "PayloadError",
    "PayloadTooLarge",
    "PerdureError",
    "ProviderError",
    "ProviderUnavailable",
    "SchemaMismatch",
    "TaskCancelledError",
    "TaskFailedError",
    "TooLarge",
    "Transient",
    "Unsupported",
]

_MAX_LISTED_NAMES = 20


def _restore(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args  # which an OSError's __new__ leaves to its __init__
    error.__dict__.update(attributes)
    return error


class _Picklable:
    # An exception is pickled as a call with its `args`, the message alone: with a constructor that takes more, that
    # call fails, and where a pool of processes makes it the whole pool breaks.

    args: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


class PayloadError(PerdureError, ValueError):
    """The value is not JSON that perdure stores."""


class PayloadTooLarge(_Picklable, PayloadError):
    """The payload is too large.

    Args:
        size: UTF-8 bytes of its JSON.
        limit: how many there may be.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the payload is {size:,} bytes of JSON, and at most {limit:,} are stored; "
            "keep large data elsewhere (a file, an object store) and pass a reference to it"
        )
        self.size = size
        self.limit = limit


class CustomStatusTooLarge(_Picklable, PayloadError):
    """The custom status is too large; the one before it stays.

    Args:
        size: UTF-16 bytes of its JSON.
        limit: how many there may be.
        largest: its largest top-level keys with their sizes, largest first.
    """

    def __init__(self, size: int, limit: int, largest: Sequence[tuple[str, int]] = ()) -> None:
        blame = ", ".join(f"{_short(key)} ({bytes_:,})" for key, bytes_ in largest)
        super().__init__(
            f"the custom status is {size:,} bytes of UTF-16, and at most {limit:,} are allowed"
            + (f"; its largest keys: {blame}" if blame else "")
            + "; keep large data elsewhere and put a reference to it into the status"
        )
        self.size = size
        self.limit = limit
        self.largest = tuple(largest)


class InvalidArgument(PerdureError, ValueError):
    """An argument breaks a rule."""


class InvalidInstanceId(InvalidArgument):
    """The instance id breaks a rule."""


class InvalidName(InvalidArgument):
    """The name of an orchestrator, an activity or an event breaks a rule."""


class InstanceNotFound(_Picklable, PerdureError):
    """No instance has that id."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(
            f"there is no orchestration instance {instance_id!r} in this task hub; "
            "check the id, the provider URL and its op_hub, and whether it was purged"
        )
        self.instance_id = instance_id


class InstanceAlreadyExists(_Picklable, PerdureError):
    """Another instance has that id.

    Args:
        instance_id: the id asked for.
        status: how the other one stands, None where that isn't known.
    """

    def __init__(self, instance_id: str, status: str | None = None) -> None:
        state = f" and is {status}" if status else ""
        super().__init__(
            f"orchestration instance {instance_id!r} exists already{state}; choose another id, or pass "
            "reuse_id_policy='replace_finished' to replace it once it has ended, or 'ignore' to keep it"
        )
        self.instance_id = instance_id
        self.status = status


class InstanceFinished(_Picklable, PerdureError):
    """The instance has ended and takes nothing any more."""

    def __init__(self, instance_id: str, status: str | None = None) -> None:
        state = f" ({status})" if status else ""
        super().__init__(
            f"orchestration instance {instance_id!r} has ended{state} and takes nothing any more; start a new one"
        )
        self.instance_id = instance_id
        self.status = status


class OrchestrationNotStarted(_Picklable, PerdureError, TimeoutError):
    """No worker took the instance in time.

    Args:
        instance_id: the instance.
        seconds: how long it was waited for.
        name: its orchestrator.
    """

    def __init__(self, instance_id: str, seconds: float, name: str | None = None) -> None:
        orchestrator = f"the orchestrator {name!r}" if name else "its orchestrator"
        super().__init__(
            f"no worker took the orchestration instance {instance_id!r} within {seconds:g} s; "
            f"start a worker on this task hub that has {orchestrator} registered"
        )
        self.instance_id = instance_id
        self.seconds = seconds
        self.name = name


class NotRegistered(_Picklable, PerdureError):
    """This worker has nothing of that name.

    Args:
        what: "orchestrator" or "activity".
        name: the name asked for.
        registered: the names that there are.
    """

    def __init__(self, what: str, name: str, registered: Iterable[str] = ()) -> None:
        names = sorted(registered)
        listed = ", ".join(_short(known) for known in names[:_MAX_LISTED_NAMES]) or "none"
        if len(names) > _MAX_LISTED_NAMES:
            listed += f" and {len(names) - _MAX_LISTED_NAMES} more"
        super().__init__(
            f"no {what} {_short(name)} is registered with this worker (registered: {listed}); "
            "add it to the worker before it starts, or correct the name"
        )
        self.what = what
        self.name = name
        self.registered = tuple(names)


class NonDeterminismError(_Picklable, PerdureError):
    """An orchestrator asked for something else than its history holds.

    Args:
        event_number: the position of the event in the history, from 0.
        expected: what the history holds there, in words.
        found: what the code asked for instead, in words.
    """

    def __init__(self, event_number: int, expected: str, found: str) -> None:
        super().__init__(
            f"event {event_number} of the history is {expected}, but the code asks for {found}; "
            "an orchestrator must ask for the same things in the same order on each replay: take time, "
            "ids and random numbers from the context, leave I/O to activities, and after a change of the code keep the "
            "old path for instances that run (compare ctx.version), or register the new one under another name"
        )
        self.event_number = event_number
        self.expected = expected
        self.found = found


class InvalidYield(_Picklable, PerdureError, TypeError):
    """An orchestrator waits for something that is no durable task.

    Args:
        value: what it yielded or awaited.
    """

    def __init__(self, value: object) -> None:
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        foreign = "; asyncio and other libraries belong into activities" if hasattr(type(value), "__await__") else ""
        super().__init__(
            f"an orchestrator can't wait for {_short(kind, quoted=False)}: yield or await only what the context's "
            f"methods, when_all and when_any return{foreign}"
        )
        self.kind = kind


class TaskCancelledError(PerdureError):
    """The orchestrator cancelled this task."""


class TaskFailedError(_Picklable, PerdureError):
    """An activity or a sub-orchestration failed; raised in the orchestrator where it waits for the result.

    Args:
        message: which task failed.
        details: how it failed.
    """

    def __init__(self, message: str, details: FailureDetails) -> None:
        super().__init__(message)
        self.details = details


class OrchestrationTerminated(_Picklable, PerdureError):
    """An orchestration was ended from outside. Its parent finds it in the `details` of a `TaskFailedError`."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(f"instance {instance_id!r} was terminated")
        self.instance_id = instance_id


class OrchestrationFailedError(_Picklable, PerdureError):
    """An orchestration whose result was asked for failed.

    Args:
        message: which one, and how it ended.
        details: its failure, None where it ended without one (terminated).
    """

    def __init__(self, message: str, details: FailureDetails | None = None) -> None:
        super().__init__(message)
        self.details = details


class Evicted(BaseException):
    """The orchestrator that goes on here is only a cached copy, thrown away: let this pass through.

    Raised by the context's methods in a `finally:` or `except` of the user's, which runs when the cache drops a
    generator. The orchestration itself goes on elsewhere, from its history. It is no `Exception`, so that
    `except Exception` doesn't swallow it.
    """

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message
            or "this copy of the orchestrator was evicted from the worker's cache; the orchestration goes on from its "
            "history: don't catch this, and decide nothing in a finally:"
        )


def _short(text: str, *, quoted: bool = True, limit: int = 64) -> str:
    # Names in messages come from users and from stored data: bounded, and nothing unprintable in them.
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return repr(shown) if quoted else repr(shown)[1:-1]

"""What a client learns about an orchestration instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar, overload

from perdure.codec import loads
from perdure.conversion import DataConverter, JsonDataConverter, rebuild
from perdure.errors import Corrupt, OrchestrationFailedError
from perdure.failures import FailureDetails
from perdure.history import decode_failure
from perdure.payloads import load
from perdure.spi import InstanceInfo, OrchestrationStatus
from perdure.times import as_datetime

__all__ = ["OrchestrationState"]

T = TypeVar("T")

_JSON: Final = JsonDataConverter()


@dataclass(slots=True, kw_only=True, frozen=True)
class OrchestrationState:
    """An orchestration instance as it stood when it was read."""

    instance_id: str
    name: str
    """Of its orchestrator."""
    version: str | None
    runtime_status: OrchestrationStatus
    created_at: datetime
    """With UTC as its time zone, as all times here."""
    last_updated_at: datetime
    completed_at: datetime | None
    """None while it hasn't ended."""
    serialized_input: str | None
    """As it is stored. None if there is none, or if it was not asked for."""
    serialized_output: str | None
    serialized_custom_status: str | None
    """JSON text; None while no custom status is set."""
    failure_details: FailureDetails | None
    """Why it failed; None if it didn't."""
    parent_instance_id: str | None
    tags: Mapping[str, str]
    execution: int
    """1, and one more with each continue-as-new."""
    rev: int
    """Grows with every visible change."""
    status_rev: int
    """The `rev` at which the custom status was last set or cleared; 0 before the first time."""
    generation: str
    """Which of the instances that had this id, one after the other, it is."""
    _converter: DataConverter = field(default=_JSON, repr=False, compare=False)

    @classmethod
    def from_info(cls, info: InstanceInfo, converter: DataConverter) -> OrchestrationState:
        """Make it of what a provider returned."""
        return cls(
            instance_id=info.id,
            name=info.name,
            version=info.version,
            runtime_status=info.status,
            created_at=as_datetime(info.created_at),
            last_updated_at=as_datetime(info.updated_at),
            completed_at=None if info.completed_at is None else as_datetime(info.completed_at),
            serialized_input=_text(info.input),
            serialized_output=_text(info.output),
            # JSON's null is no status, whoever stored it and however.
            serialized_custom_status=None if info.custom_status == b"null" else _text(info.custom_status),
            failure_details=_failure(info.failure),
            parent_instance_id=info.parent,
            tags=dict(info.tags),
            execution=info.execution,
            rev=info.rev,
            status_rev=info.status_rev,
            generation=info.generation,
            _converter=converter,
        )

    @overload
    def get_input(self, type: type[T]) -> T | None: ...
    @overload
    def get_input(self, type: Any = None) -> Any: ...
    def get_input(self, type: Any = None) -> Any:  # noqa: A002 - what callers write
        """Return the input of the current execution, None if there is none or it was not asked for.

        Args:
            type: what to rebuild it as; None: the plain JSON value.

        Raises:
            PayloadError: it can't be read, or is no `type`.
        """
        return self._load(self.serialized_input, type)

    @overload
    def get_output(self, type: type[T]) -> T | None: ...
    @overload
    def get_output(self, type: Any = None) -> Any: ...
    def get_output(self, type: Any = None) -> Any:  # noqa: A002 - what callers write
        """Return what the orchestrator returned; arguments, None and errors as with `get_input`."""
        return self._load(self.serialized_output, type)

    @overload
    def get_custom_status(self, type: type[T]) -> T | None: ...
    @overload
    def get_custom_status(self, type: Any = None) -> Any: ...
    def get_custom_status(self, type: Any = None) -> Any:  # noqa: A002 - what callers write
        """Return the custom status, None while none is set; arguments and errors as with `get_input`."""
        text = self.serialized_custom_status
        if text is None:
            return None
        # A custom status is JSON for all who read it, whatever converter the payloads have.
        value = loads(text)
        return value if type is None else rebuild(value, type)

    def raise_if_failed(self) -> None:
        """Raise the failure of an instance that failed; do nothing about any other.

        Raises:
            OrchestrationFailedError: it failed; `details` says how.
        """
        if self.runtime_status is OrchestrationStatus.FAILED:
            why = self.failure_details
            reason = "" if why is None else f": {why.error_type}: {why.message}"
            raise OrchestrationFailedError(f"orchestration instance {self.instance_id!r} failed{reason}", why)

    def _load(self, text: str | None, type_hint: Any) -> Any:
        payload = None if text is None else text.encode()
        return load(self._converter, payload, Any if type_hint is None else type_hint)


def _text(payload: bytes | None) -> str | None:
    # Nobody writes anything but UTF-8; but a damaged payload must not hide the instance that it belongs to.
    return None if payload is None else payload.decode(errors="backslashreplace")


def _failure(stored: bytes | None) -> FailureDetails | None:
    if stored is None:
        return None
    try:
        return decode_failure(stored)
    except Corrupt as error:
        return FailureDetails(error_type=f"{Corrupt.__module__}.{Corrupt.__qualname__}", message=str(error))

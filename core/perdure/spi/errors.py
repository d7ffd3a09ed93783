"""Errors a provider may raise, and the root of every perdure error.

    PerdureError
    └── ProviderError            a call to a provider failed
        ├── Transient            certainly not applied; try again (retryable)
        ├── OutcomeUnknown       may have been applied; try again with the same ids (retryable)
        ├── ProviderUnavailable  no such provider, its driver is missing, or its store can't be reached
        ├── Closed               the provider was closed
        ├── NotFound             no such hub or instance
        ├── SchemaMismatch       the store's schema is not one this provider can use
        ├── AuthFailed           the store refused the credentials
        ├── InvalidRequest       the request itself is wrong
        │   ├── TooLarge         a payload or a commit is over a limit
        │   └── BadId            an id is malformed
        ├── Unsupported          an optional operation that this provider does not declare
        └── Corrupt              stored data can't be decoded

An exception means that the whole call failed and nothing of it was applied (`OutcomeUnknown` apart);
what happened to single items of a batch is told by `Outcome` values instead.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AuthFailed",
    "BadId",
    "Closed",
    "Corrupt",
    "InvalidRequest",
    "NotFound",
    "OutcomeUnknown",
    "PerdureError",
    "ProviderError",
    "ProviderUnavailable",
    "SchemaMismatch",
    "TooLarge",
    "Transient",
    "Unsupported",
]


class PerdureError(Exception):
    """Root of every error that perdure raises on purpose.

    The first line of a subclass's docstring is its message where none is given.
    """

    def __init__(self, message: str | None = None) -> None:
        if message is None:
            message = (type(self).__doc__ or type(self).__name__).strip().splitlines()[0]
        super().__init__(message)


class ProviderError(PerdureError):
    """A call to a storage provider failed."""

    retryable: ClassVar[bool] = False


class Transient(ProviderError):
    """The store could not do it now, and nothing was applied: try again.

    `retry_after` is the provider's advice in seconds, None where it has none.
    """

    retryable = True

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OutcomeUnknown(ProviderError):
    """The store did not say whether the write was applied: try again with the same ids."""

    retryable = True


class ProviderUnavailable(ProviderError):
    """The provider is not installed, or its store can't be reached."""


class Closed(ProviderError):
    """The provider was closed: open a new one."""


class NotFound(ProviderError):
    """There is no such hub or instance."""


class SchemaMismatch(ProviderError):
    """The store's schema is not one that this version can use."""


class AuthFailed(ProviderError):
    """The store refused the credentials."""


class InvalidRequest(ProviderError):
    """The request is malformed; nothing of it was applied.

    `index` is the position of the offending item in its batch, None where no single item is to blame.
    """

    def __init__(self, message: str | None = None, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class TooLarge(InvalidRequest):
    """A payload or a commit is larger than the provider's limits allow."""


class BadId(InvalidRequest):
    """An id is empty, too long, or holds NUL or a lone surrogate."""


class Unsupported(ProviderError):
    """The provider does not declare the capability that this operation needs."""

    def __init__(self, capability: str) -> None:
        super().__init__(f"this provider does not declare the capability {capability!r}")
        self.capability = capability


class Corrupt(ProviderError):
    """Stored data can't be decoded."""

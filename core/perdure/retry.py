"""How a failed activity or sub-orchestration is tried again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from perdure.failures import FailureDetails

__all__ = ["RetryPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Try again after a growing delay. Delays are durable timers and count in the orchestration's time.

    Args:
        first_retry_interval: the delay before the second attempt.
        max_number_of_attempts: attempts in all, the first counted; at least 1.
        backoff_coefficient: each further delay is the former times this; at least 1.
        max_retry_interval: no delay is longer.
        retry_timeout: no attempt starts later than this after the first.
        retry_predicate: called with the failure; False ends the attempts. It is orchestrator code: deterministic.
        non_retryable_error_types: a failure caused by one of these (classes, or names as in
            `FailureDetails.error_type`) ends the attempts.
    """

    first_retry_interval: timedelta
    max_number_of_attempts: int
    backoff_coefficient: float = 1.0
    max_retry_interval: timedelta | None = None
    retry_timeout: timedelta | None = None
    retry_predicate: Callable[[FailureDetails], bool] | None = None
    non_retryable_error_types: Sequence[type[BaseException] | str] = ()

    def __post_init__(self) -> None:
        if self.first_retry_interval < timedelta(0):
            raise ValueError("first_retry_interval must not be negative")
        if self.max_number_of_attempts < 1:
            raise ValueError("max_number_of_attempts must be at least 1: it counts the first attempt")
        if not self.backoff_coefficient >= 1:
            raise ValueError("backoff_coefficient must be at least 1")
        for name in ("max_retry_interval", "retry_timeout"):
            value: timedelta | None = getattr(self, name)
            if value is not None and value < timedelta(0):
                raise ValueError(f"{name} must not be negative")

    def delay_ms(self, *, attempt: int, failure: FailureDetails, elapsed_ms: int) -> int | None:
        """Return how long to wait after failed attempt number `attempt`; None: don't try again.

        Args:
            attempt: 1 for the first.
            failure: why it failed.
            elapsed_ms: since the first attempt was scheduled, in the orchestration's time.
        """
        if attempt >= self.max_number_of_attempts or failure.non_retriable:
            return None
        if any(_matches(failure, kind) for kind in self.non_retryable_error_types):
            return None
        if self.retry_predicate is not None and not self.retry_predicate(failure):
            return None
        delay = self._interval_ms(attempt)
        if self.retry_timeout is not None and elapsed_ms + delay > self.retry_timeout / timedelta(milliseconds=1):
            return None
        return delay

    def _interval_ms(self, attempt: int) -> int:
        longest = timedelta.max if self.max_retry_interval is None else self.max_retry_interval
        if not self.first_retry_interval:
            # However often it is multiplied, overflows on the way included.
            return 0
        try:
            interval = self.first_retry_interval * self.backoff_coefficient ** (attempt - 1)
        except OverflowError:
            interval = longest
        return int(min(interval, longest) / timedelta(milliseconds=1))


def _matches(failure: FailureDetails, kind: type[BaseException] | str) -> bool:
    return failure.error_type == kind if isinstance(kind, str) else failure.is_caused_by(kind)

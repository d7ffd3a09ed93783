"""Retry policies by themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.failures import FailureDetails
from perdure.retry import RetryPolicy

SECOND = timedelta(seconds=1)
FAILURE = FailureDetails.from_exception(ValueError("no"))


def policy(**options: Any) -> RetryPolicy:
    fields: dict[str, Any] = {"first_retry_interval": SECOND, "max_number_of_attempts": 5} | options
    return RetryPolicy(**fields)


def delays(policy: RetryPolicy, failure: FailureDetails = FAILURE) -> list[int]:
    """Return the delays until it gives up."""
    found: list[int] = []
    delay = policy.delay_ms(attempt=1, failure=failure, elapsed_ms=0)
    while delay is not None and len(found) < 100:
        found.append(delay)
        delay = policy.delay_ms(attempt=len(found) + 1, failure=failure, elapsed_ms=sum(found))
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1000] * 4),
        ({"max_number_of_attempts": 1}, []),
        ({"backoff_coefficient": 3}, [1000, 3000, 9000, 27_000]),
        ({"backoff_coefficient": 1.5}, [1000, 1500, 2250, 3375]),
        ({"backoff_coefficient": 3, "max_retry_interval": 5 * SECOND}, [1000, 3000, 5000, 5000]),
        ({"max_retry_interval": timedelta(0)}, [0] * 4),
        ({"first_retry_interval": timedelta(0), "backoff_coefficient": 2}, [0] * 4),
        ({"retry_timeout": timedelta(milliseconds=2999)}, [1000, 1000]),
        ({"retry_timeout": 3 * SECOND}, [1000, 1000, 1000]),
        ({"retry_timeout": timedelta(0)}, []),
        ({"retry_predicate": lambda failure: failure.message == "no"}, [1000] * 4),
        ({"retry_predicate": lambda failure: failure.message == "yes"}, []),
        ({"non_retryable_error_types": [ValueError]}, []),
        ({"non_retryable_error_types": [Exception]}, []),
        ({"non_retryable_error_types": ["ValueError"]}, []),
        ({"non_retryable_error_types": [KeyError, "builtins.ValueError"]}, [1000] * 4),
    ],
)
def test_delays(options: dict[str, Any], expected: list[int]) -> None:
    assert delays(policy(**options)) == expected


def test_what_is_marked_as_final_is_not_tried_again() -> None:
    assert delays(policy(), FailureDetails(error_type="E", message="m", non_retriable=True)) == []


def test_a_predicate_is_not_asked_where_there_is_no_attempt_left() -> None:
    def never(failure: FailureDetails) -> bool:
        raise AssertionError

    assert delays(policy(max_number_of_attempts=1, retry_predicate=never)) == []


@pytest.mark.parametrize("first", [timedelta(0), SECOND])
@pytest.mark.parametrize("coefficient", [2.0, 1e300, float("inf")])
def test_the_longest_chains_overflow_nothing(first: timedelta, coefficient: float) -> None:
    endless = policy(
        first_retry_interval=first,
        max_number_of_attempts=10**9,
        backoff_coefficient=coefficient,
        max_retry_interval=timedelta(days=1),
    )
    expected = 0 if not first else 86_400_000
    assert endless.delay_ms(attempt=10**6, failure=FAILURE, elapsed_ms=0) == expected


@given(
    first=st.timedeltas(timedelta(0), timedelta(days=30)),
    coefficient=st.floats(1, 100),
    longest=st.timedeltas(timedelta(0), timedelta(days=365)),
    attempt=st.integers(1, 2000),
)
def test_delays_only_grow_and_keep_the_limit(
    first: timedelta, coefficient: float, longest: timedelta, attempt: int
) -> None:
    tried = policy(
        first_retry_interval=first,
        max_number_of_attempts=10**9,
        backoff_coefficient=coefficient,
        max_retry_interval=longest,
    )
    one = tried.delay_ms(attempt=attempt, failure=FAILURE, elapsed_ms=0)
    other = tried.delay_ms(attempt=attempt + 1, failure=FAILURE, elapsed_ms=0)
    assert one is not None
    assert other is not None
    assert 0 <= one <= other <= longest / timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "options",
    [
        {"first_retry_interval": -SECOND},
        {"max_number_of_attempts": 0},
        {"backoff_coefficient": 0.5},
        {"backoff_coefficient": float("nan")},
        {"max_retry_interval": -SECOND},
        {"retry_timeout": -SECOND},
    ],
)
def test_senseless_policies_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        policy(**options)

"""Between a person's datetimes and durations, and the milliseconds that are stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from perdure.spi import Millis

__all__ = ["as_datetime", "as_millis", "span_millis"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def as_datetime(at: Millis) -> datetime:
    """Return a stored time as an aware datetime in UTC."""
    return _EPOCH + at * _MILLISECOND


def as_millis(at: datetime) -> Millis:
    """Return the ms since the epoch, rounded up: nothing happens early. A naive datetime is taken as UTC."""
    return span_millis((at.replace(tzinfo=UTC) if at.tzinfo is None else at) - _EPOCH)


def span_millis(span: timedelta) -> int:
    """Return a duration in ms, rounded up."""
    return -(-span // _MILLISECOND)

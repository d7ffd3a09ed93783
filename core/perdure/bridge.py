"""Objects that belong to an event loop, for code in another thread."""

from __future__ import annotations

from collections.abc import Awaitable
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["bridged"]

T = TypeVar("T")

_AWAITED = ("close", "commit", "execute")


def bridged(value: T, loop: AbstractEventLoop) -> T | Any:
    """Return `value`, or where its methods are to be awaited something whose methods block instead.

    Args:
        value: a connection of a database driver, as a rule.
        loop: the one that it belongs to, which must be free while another thread uses it.
    """
    if any(iscoroutinefunction(getattr(type(value), name, None)) for name in _AWAITED):
        return _Bridge(value, loop)
    return value


class _Bridge:
    """Stands for an object, and has its attributes."""

    def __init__(self, value: Any, loop: AbstractEventLoop) -> None:
        self._value = value
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._value, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            if isawaitable(answer):
                from asyncio import run_coroutine_threadsafe  # noqa: PLC0415 - there already, where there is a loop

                answer = run_coroutine_threadsafe(_result(answer), self._loop).result()
            return bridged(answer, self._loop)

        return call

    @property  # type: ignore[misc]  # what it stands for, to whoever asks
    def __class__(self) -> Any:
        return type(self._value)


async def _result(awaitable: Awaitable[T]) -> T:
    return await awaitable

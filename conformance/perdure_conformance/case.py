"""What a case is, and the canonical set of them."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from perdure_conformance.invariants import INVARIANTS

__all__ = ["NO_ASSERTIONS", "Case", "Level", "case", "case_of", "cases_of"]

_NAME = re.compile(r"test_([a-z]+)_(\d{2})_[a-z0-9_]+")
_ATTRIBUTE: Final = "__conformance_case__"

NO_ASSERTIONS: Final = "python -O takes the assertions out of the cases: run the suite without it"
"""Why nothing is run where `__debug__` is false."""

F = TypeVar("F", bound=Callable[..., None])


class Level(enum.StrEnum):
    """How much of a provider a case needs. Reported apart."""

    L0 = "L0"
    """Core: virtual time, one handle."""
    L1 = "L1"
    """Durable: handles are closed and opened again."""
    L2 = "L2"
    """Threads."""

    @property
    def subject(self) -> str:
        """What the level is about, in a word."""
        return {"L0": "core", "L1": "durable", "L2": "threads"}[self.value]


@dataclass(slots=True, kw_only=True, frozen=True)
class Case:
    """One thing that a provider must do."""

    id: str
    """"LIF-01": area and number, for ever."""
    title: str
    """What the provider must do: the first paragraph of the test's docstring."""
    level: Level
    invariants: tuple[str, ...]
    """Names in `INVARIANTS`; the first is the one a failure cites."""
    requires: tuple[str, ...] = ()
    """Capabilities it needs. Where one is not declared, its negative check runs instead."""
    hooks: tuple[str, ...] = ()
    """Hooks of the `Adapter` it needs."""
    variants: tuple[str, ...] = ("",)
    """The case is run once for each, and passes if all of them do."""
    slow: bool = False
    """Left out of the whole kill matrix, where every broken provider would run it."""

    @property
    def area(self) -> str:
        """Return the letters of the id."""
        return self.id.partition("-")[0]


def case(
    *invariants: str,
    level: Level = Level.L0,
    requires: Sequence[str] = (),
    hooks: Sequence[str] = (),
    variants: Sequence[str] = (),
    slow: bool = False,
) -> Callable[[F], F]:
    """Make a test method `test_<area>_<number>_<words>(self, bench)` a case.

    Args:
        invariants: names in `INVARIANTS`, the most important first.
        level: how much of the provider it needs.
        requires: capabilities without which it doesn't apply.
        hooks: hooks of the `Adapter` without which it can't run.
        variants: names of what it is run with, each found in `bench.variant`.
        slow: whether it takes much longer than others.
    """

    def mark(function: F) -> F:
        named = _NAME.fullmatch(function.__name__)
        if named is None:
            raise TypeError(f"{function.__name__} is no name for a case: test_<area>_<two digits>_<words>")
        unknown = set(invariants) - INVARIANTS.keys()
        if unknown or not invariants:
            raise TypeError(f"{function.__name__} names no known invariant: {sorted(unknown)}")
        if not function.__doc__:
            raise TypeError(f"{function.__name__} doesn't say in its docstring what the provider must do")
        spec = Case(
            id=f"{named[1].upper()}-{named[2]}",
            title=" ".join(inspect.cleandoc(function.__doc__).partition("\n\n")[0].split()),
            level=level,
            invariants=invariants,
            requires=tuple(requires),
            hooks=tuple(hooks),
            variants=tuple(variants) or ("",),
            slow=slow,
        )
        setattr(function, _ATTRIBUTE, spec)
        return function

    return mark


def case_of(function: object) -> Case | None:
    """Return the case that a function is, if it is one."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Case) else None


def cases_of(suite: type) -> Iterator[tuple[Case, Callable[[Any, Any], None]]]:
    """Yield every case of a class and its bases with its function, in the order of definition.

    Raises:
        TypeError: two cases share an id.
    """
    seen: dict[str, str] = {}
    for base in suite.__mro__:
        for function in vars(base).values():
            spec = case_of(function)
            if spec is None:
                continue
            if spec.id in seen:
                raise TypeError(f"{spec.id} is both {seen[spec.id]} and {function.__qualname__}")
            seen[spec.id] = function.__qualname__
            yield spec, function

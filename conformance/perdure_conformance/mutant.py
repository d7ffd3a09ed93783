"""What a mutant is: a correct provider with one mistake in it, and the cases that must find it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Final, Literal, TypeAlias, TypeVar

import pytest

__all__ = ["Base", "Mutant", "mutant", "mutants_of"]

Base: TypeAlias = Literal["memory", "sqlite"]

_ATTRIBUTE: Final = "__conformance_mutant__"

F = TypeVar("F", bound=Callable[[pytest.MonkeyPatch], None])


@dataclass(slots=True, kw_only=True, frozen=True)
class Mutant:
    """One broken provider."""

    number: str
    """For ever: "17", or "64a" where a mistake has several places."""
    name: str
    title: str
    """What it does wrong: the first paragraph of the function's docstring."""
    source: str
    """Where the mistake was seen, or how it is made."""
    base: Base
    killed_by: tuple[str, ...]
    """Ids of the cases that must fail on it, every one of them."""
    apply: Callable[[pytest.MonkeyPatch], None]
    """Makes the mistake in the provider's own code; undone afterwards."""

    def is_called(self, keyword: str) -> bool:
        """Tell whether a keyword is its number, part of its name, or a case that must kill it."""
        return keyword == self.number or keyword in self.name or keyword in self.killed_by


def mutant(number: str, *killed_by: str, source: str, base: Base = "memory") -> Callable[[F], F]:
    """Make a function that patches a provider a mutant.

    Args:
        number: of the mutant.
        killed_by: ids of the cases that must fail on it.
        source: where the mistake was seen, or how it is made.
        base: which provider it changes.
    """

    def mark(function: F) -> F:
        if not function.__doc__ or not killed_by:
            raise TypeError(f"mutant {function.__name__} doesn't say what it does wrong, or what must find it")
        made = Mutant(
            number=number,
            name=function.__name__,
            title=" ".join(inspect.cleandoc(function.__doc__).partition("\n\n")[0].split()),
            source=source,
            base=base,
            killed_by=killed_by,
            apply=function,
        )
        setattr(function, _ATTRIBUTE, made)
        return function

    return mark


def mutants_of(module: ModuleType) -> Iterator[Mutant]:
    """Yield the mutants that a module defines."""
    for value in vars(module).values():
        made = getattr(value, _ATTRIBUTE, None)
        if isinstance(made, Mutant) and value.__module__ == module.__name__:
            yield made

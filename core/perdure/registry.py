"""Which names a worker can run, and how a function comes by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from perdure.conversion import parameter_type, return_type
from perdure.errors import InvalidName, NotRegistered
from perdure.identifiers import check_name

if TYPE_CHECKING:
    from perdure.activities import ActivityContext
    from perdure.replay.context import OrchestrationContext

    OrchestratorFunction = Callable[[OrchestrationContext], Any] | Callable[[OrchestrationContext, Any], Any]
    ActivityFunction = Callable[[ActivityContext], Any] | Callable[[ActivityContext, Any], Any]

__all__ = ["Registration", "Registry", "activity", "name_of", "orchestrator"]

F = TypeVar("F", bound=Callable[..., Any])
OrchestratorT = TypeVar("OrchestratorT", bound="OrchestratorFunction")
ActivityT = TypeVar("ActivityT", bound="ActivityFunction")
Kind = Literal["orchestrator", "activity"]

_MARK: Final = "__perdure__"


@dataclass(slots=True, frozen=True)
class _Mark:
    kind: Kind
    name: str


@dataclass(slots=True, frozen=True, kw_only=True)
class Registration:
    """A function under the name by which history knows it."""

    name: str
    function: Callable[..., Any]
    takes_input: bool
    input_type: Any
    return_type: Any


@overload
def orchestrator(function: OrchestratorT, /) -> OrchestratorT: ...
@overload
def orchestrator(*, name: str) -> Callable[[OrchestratorT], OrchestratorT]: ...
def orchestrator(
    function: OrchestratorT | None = None, /, *, name: str | None = None
) -> OrchestratorT | Callable[[OrchestratorT], OrchestratorT]:
    """Mark a function as an orchestrator, so that `Worker.add_module` and the command line find it.

    Args:
        function: the function, where the decorator is used without parentheses.
        name: what history calls it; by default its `__name__`. Keep it when you rename the function.
    """
    return _marker("orchestrator", function, name)


@overload
def activity(function: ActivityT, /) -> ActivityT: ...
@overload
def activity(*, name: str) -> Callable[[ActivityT], ActivityT]: ...
def activity(
    function: ActivityT | None = None, /, *, name: str | None = None
) -> ActivityT | Callable[[ActivityT], ActivityT]:
    """Mark a function as an activity; the arguments are those of `orchestrator`."""
    return _marker("activity", function, name)


def _marker(kind: Kind, function: F | None, name: str | None) -> F | Callable[[F], F]:
    def mark(function: F) -> F:
        setattr(function, _MARK, _Mark(kind, check_name(name or function.__name__, kind)))
        return function

    return mark if function is None else mark(function)


def name_of(function_or_name: Callable[..., Any] | str) -> str:
    """Return the name under which history knows a function.

    Raises:
        InvalidName: it has none of its own (a lambda, a partial), or a malformed one.
    """
    if isinstance(function_or_name, str):
        return check_name(function_or_name, "function")
    mark = getattr(function_or_name, _MARK, None)
    if isinstance(mark, _Mark):
        return mark.name
    name = getattr(function_or_name, "__name__", None)
    if name is None or name == "<lambda>":
        raise InvalidName(f"{function_or_name!r} has no name of its own; register it with name=...")
    return check_name(name, "function")


class Registry:
    """The orchestrators and activities of one worker."""

    def __init__(self) -> None:
        self.orchestrators: dict[str, Registration] = {}
        self.activities: dict[str, Registration] = {}

    def add_orchestrator(self, function: OrchestratorFunction, *, name: str | None = None) -> str:
        """Register an orchestrator and return its name.

        Raises:
            InvalidName: the name is malformed, or taken by another function.
            TypeError: it isn't callable as `function(context)` or `function(context, input)`.
        """
        if inspect.isasyncgenfunction(function):
            raise TypeError(
                f"orchestrator {function.__name__!r} is an async generator; use `await` or `yield`, not both"
            )
        return self._add(self.orchestrators, "orchestrator", function, name)

    def add_activity(self, function: ActivityFunction, *, name: str | None = None) -> str:
        """Register an activity and return its name; raises what `add_orchestrator` does."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"activity {function.__name__!r} is a generator; only orchestrators yield")
        return self._add(self.activities, "activity", function, name)

    def add_module(self, module: ModuleType) -> None:
        """Register every function of `module` that is marked with `@orchestrator` or `@activity`."""
        for kind, function in _marked(module):
            if kind == "orchestrator":
                self.add_orchestrator(function)
            else:
                self.add_activity(function)

    def orchestrator(self, name: str) -> Registration:
        """Return an orchestrator.

        Raises:
            NotRegistered: there is none of that name.
        """
        return _look_up(self.orchestrators, "orchestrator", name)

    def activity(self, name: str) -> Registration:
        """Return an activity; raises what `orchestrator` does."""
        return _look_up(self.activities, "activity", name)

    def _add(self, known: dict[str, Registration], kind: Kind, function: Callable[..., Any], name: str | None) -> str:
        name = name_of(function) if name is None else check_name(name, kind)
        taken = known.get(name)
        if taken is not None and taken.function is not function:
            raise InvalidName(f"another {kind} is registered as {name!r}; give one of them a name=... of its own")
        known[name] = Registration(
            name=name,
            function=function,
            takes_input=_takes_input(function, kind),
            input_type=parameter_type(function, 1),
            return_type=return_type(function),
        )
        return name


def _marked(module: ModuleType) -> Iterator[tuple[Kind, Callable[..., Any]]]:
    for value in list(vars(module).values()):
        mark = getattr(value, _MARK, None) if callable(value) else None
        if isinstance(mark, _Mark):
            yield mark.kind, value


def _takes_input(function: Callable[..., Any], kind: Kind) -> bool:
    shown = getattr(function, "__name__", repr(function))
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise TypeError(f"{kind} {shown!r} must take (context) or (context, input), and {error}") from None
    for arguments in (("context", "input"), ("context",)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return len(arguments) == 2
    raise TypeError(f"{kind} {shown!r} must take (context) or (context, input), not {signature}")


def _look_up(known: dict[str, Registration], kind: Kind, name: str) -> Registration:
    found = known.get(name)
    if found is None:
        raise NotRegistered(kind, name, known)
    return found

"""What a worker registers, and how functions come by their names."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import pytest

from perdure.errors import InvalidName, NotRegistered
from perdure.registry import Registry, activity, name_of, orchestrator


def plain(ctx: Any, value: int) -> str:
    return str(value)


def test_a_function_is_known_by_its_own_name() -> None:
    registry = Registry()
    assert registry.add_activity(plain) == "plain"
    registration = registry.activity("plain")
    assert registration.function is plain
    assert (registration.takes_input, registration.input_type, registration.return_type) == (True, int, str)


def test_a_name_may_be_given_by_argument_or_decorator() -> None:
    @orchestrator(name="stable")
    def renamed(ctx: Any) -> None: ...

    @activity
    def marked(ctx: Any) -> None: ...

    registry = Registry()
    assert registry.add_orchestrator(renamed) == "stable"
    assert registry.add_orchestrator(renamed, name="other") == "other"
    assert registry.add_activity(marked) == "marked"
    assert (name_of(renamed), name_of(marked), name_of("text")) == ("stable", "marked", "text")
    assert not registry.orchestrator("stable").takes_input


def test_orchestrators_and_activities_have_names_of_their_own() -> None:
    registry = Registry()
    registry.add_activity(plain, name="same")
    registry.add_orchestrator(plain, name="same")


def test_another_function_of_a_taken_name_is_refused_and_the_same_one_is_not() -> None:
    registry = Registry()
    registry.add_activity(plain)
    registry.add_activity(plain)
    with pytest.raises(InvalidName, match="another activity is registered as 'plain'"):
        registry.add_activity(lambda ctx: None, name="plain")


@pytest.mark.parametrize("function", [lambda ctx: None, functools.partial(plain, value=1)])
def test_what_has_no_name_of_its_own_needs_one(function: Callable[..., Any]) -> None:
    registry = Registry()
    with pytest.raises(InvalidName, match="no name of its own"):
        registry.add_activity(function)
    assert registry.add_activity(function, name="named") == "named"


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 257, "\ud800", "a\0"])
def test_malformed_names_are_refused(name: str) -> None:
    for add in (Registry().add_activity, Registry().add_orchestrator):
        with pytest.raises(InvalidName):
            add(plain, name=name)
    with pytest.raises(InvalidName):
        name_of(name)


def nothing() -> None: ...
def three(ctx: Any, value: Any, more: Any) -> None: ...
def only_keywords(*, ctx: Any) -> None: ...


@pytest.mark.parametrize("function", [nothing, three, only_keywords])
@pytest.mark.parametrize("name", [None, "named"])
def test_what_can_not_be_called_so_is_refused(function: Callable[..., Any], name: str | None) -> None:
    for add in (Registry().add_activity, Registry().add_orchestrator):
        with pytest.raises(TypeError, match="must take"):
            add(function, name=name)


@pytest.mark.parametrize("function", [lambda: None, functools.partial(three, 1, 2, 3), max])
def test_it_is_refused_by_what_it_is_and_not_by_its_lack_of_a_name(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError):
        Registry().add_activity(function, name="named")


def with_default(ctx: Any, value: int = 1) -> None: ...
def with_rest(*args: Any) -> None: ...
def with_keyword(ctx: Any, *, option: int = 1) -> None: ...


class Callee:
    def __call__(self, ctx: Any, value: int) -> None: ...

    def method(self, ctx: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "takes_input"),
    [
        (with_default, True),
        (with_rest, True),
        (with_keyword, False),
        (Callee(), True),
        (Callee().method, False),
        (functools.partial(plain, value=1), False),
    ],
)
def test_whether_a_function_takes_an_input(function: Callable[..., Any], takes_input: bool) -> None:
    registry = Registry()
    registry.add_activity(function, name="f")
    assert registry.activity("f").takes_input is takes_input


def test_a_generator_is_no_activity_and_an_async_generator_is_nothing() -> None:
    def generator(ctx: Any) -> Any:
        yield

    async def both(ctx: Any) -> AsyncIterator[None]:
        yield

    registry = Registry()
    registry.add_orchestrator(generator)
    with pytest.raises(TypeError, match="only orchestrators yield"):
        registry.add_activity(generator)
    with pytest.raises(TypeError):
        registry.add_activity(both)
    with pytest.raises(TypeError, match="not both"):
        registry.add_orchestrator(both)


def test_a_module_is_searched_for_marks() -> None:
    module = ModuleType("module")

    @orchestrator
    def flow(ctx: Any) -> None: ...

    @activity(name="job")
    def work(ctx: Any) -> None: ...

    vars(module).update(flow=flow, work=work, again=work, plain=plain, value=5)
    registry = Registry()
    registry.add_module(module)
    assert (list(registry.orchestrators), list(registry.activities)) == (["flow"], ["job"])


def test_what_is_not_registered_is_named_with_what_is() -> None:
    registry = Registry()
    registry.add_activity(plain)
    with pytest.raises(NotRegistered, match=r"no activity 'plian' is registered with this worker.*'plain'"):
        registry.activity("plian")
    with pytest.raises(NotRegistered, match=r"no orchestrator 'plain'.*none"):
        registry.orchestrator("plain")

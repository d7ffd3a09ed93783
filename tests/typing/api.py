"""Valid uses of the public API, for mypy: `assert_type` says what each must be inferred as. Nothing here is run."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, assert_type

import perdure
from perdure import ActivityContext, AsyncClient, Client, OrchestrationContext, RetryPolicy, Task, Worker


@dataclass
class Order:
    item: str
    count: int


@perdure.activity
def price(ctx: ActivityContext, order: Order) -> float:
    return order.count * 1.5


@perdure.activity(name="today")
def weekday(ctx: ActivityContext) -> str:
    return ctx.name


@perdure.activity
async def reserve(ctx: ActivityContext, order: Order) -> list[str]:
    return [order.item]


async def ping(ctx: ActivityContext) -> int:
    return ctx.attempt


def greet(ctx: ActivityContext, name: str = "you") -> str:
    return name


@perdure.orchestrator
def generator(ctx: OrchestrationContext, order: Order) -> Generator[Any, Any, str]:
    result: float = yield ctx.call_activity(price, input=order)
    return str(result)


@perdure.orchestrator(name="tick")
def generator_without_input(ctx: OrchestrationContext) -> Generator[Task[Any], Any, int]:
    yield ctx.create_timer(ctx.current_utc_datetime)
    return 1


@perdure.orchestrator
async def coroutine(ctx: OrchestrationContext, order: Order) -> bytes:
    return order.item.encode()


async def coroutine_without_input(ctx: OrchestrationContext) -> float:
    return 1.5


def plain(ctx: OrchestrationContext, count: int) -> str:
    return str(count)


def plain_without_input(ctx: OrchestrationContext) -> bool:
    return ctx.is_replaying


async def with_default(ctx: OrchestrationContext, count: int = 3) -> int:
    return count


@perdure.orchestrator
def unannotated_orchestrator(ctx, input):  # type: ignore[no-untyped-def]
    yield ctx.call_activity("price", input=input)


@perdure.activity
def unannotated_activity(ctx, input):  # type: ignore[no-untyped-def]
    return input


async def activities(ctx: OrchestrationContext, order: Order, retry: RetryPolicy, unknown: Callable[..., Any]) -> None:
    assert_type(ctx.call_activity(price, input=order), Task[float])
    assert_type(await ctx.call_activity(price, input=order), float)
    assert_type(ctx.call_activity(weekday, retry_policy=retry), Task[str])
    assert_type(ctx.call_activity(reserve, input=order), Task[list[str]])
    assert_type(ctx.call_activity(ping), Task[int])
    assert_type(ctx.call_activity(greet), Task[str])
    assert_type(ctx.call_activity(greet, input="me"), Task[str])

    assert_type(ctx.call_activity("price", input=order), Task[Any])
    assert_type(ctx.call_activity("price", input=order, return_type=float), Task[float])
    assert_type(ctx.call_activity(price, input=order, return_type=int), Task[int])
    assert_type(ctx.call_activity(ping, return_type=float), Task[float])

    assert_type(ctx.call_activity(unannotated_activity, input=order), Task[Any])
    assert_type(ctx.call_activity(unannotated_activity, input=5, return_type=Order), Task[Order])
    assert_type(ctx.call_activity(unknown, input=5), Task[Any])


async def sub_orchestrations(
    ctx: OrchestrationContext, order: Order, retry: RetryPolicy, unknown: Callable[..., Any]
) -> None:
    assert_type(ctx.call_sub_orchestrator(generator, input=order), Task[str])
    assert_type(await ctx.call_sub_orchestrator(generator, input=order, instance_id="child"), str)
    assert_type(ctx.call_sub_orchestrator(generator_without_input, tags={"a": "b"}), Task[int])
    assert_type(ctx.call_sub_orchestrator(coroutine, input=order, version="2"), Task[bytes])
    assert_type(ctx.call_sub_orchestrator(coroutine_without_input, retry_policy=retry), Task[float])
    assert_type(ctx.call_sub_orchestrator(plain, input=3, return_type=str), Task[str])
    assert_type(ctx.call_sub_orchestrator(plain_without_input, return_type=bool), Task[bool])
    assert_type(ctx.call_sub_orchestrator(with_default), Task[int])
    assert_type(ctx.call_sub_orchestrator(with_default, input=4), Task[int])

    assert_type(ctx.call_sub_orchestrator("generator", input=order), Task[Any])
    assert_type(ctx.call_sub_orchestrator("generator", return_type=str), Task[str])
    assert_type(ctx.call_sub_orchestrator(generator, input=order, return_type=int), Task[int])
    assert_type(ctx.call_sub_orchestrator(coroutine_without_input, return_type=int), Task[int])

    assert_type(ctx.call_sub_orchestrator(unannotated_orchestrator, input=order), Task[Any])
    assert_type(ctx.call_sub_orchestrator(unknown, input=5), Task[Any])


def events(ctx: OrchestrationContext) -> None:
    assert_type(ctx.wait_for_external_event("go"), Task[Any])
    assert_type(ctx.wait_for_external_event("go", data_type=Order), Task[Order])
    assert_type(ctx.create_timer(ctx.current_utc_datetime), Task[None])


def starts(client: Client, order: Order, unknown: Callable[..., Any]) -> None:
    assert_type(client.schedule_new_orchestration(generator, input=order), str)
    assert_type(client.schedule_new_orchestration(generator_without_input, instance_id="a"), str)
    assert_type(client.schedule_new_orchestration(coroutine, input=order), str)
    assert_type(client.schedule_new_orchestration(coroutine_without_input), str)
    assert_type(client.schedule_new_orchestration(plain, input=3), str)
    assert_type(client.schedule_new_orchestration(with_default), str)
    assert_type(client.schedule_new_orchestration(with_default, input=4), str)
    assert_type(client.schedule_new_orchestration("generator", input=object()), str)
    assert_type(client.schedule_new_orchestration("generator"), str)
    assert_type(client.schedule_new_orchestration(unannotated_orchestrator, input=order), str)
    assert_type(client.schedule_new_orchestration(unannotated_orchestrator), str)
    assert_type(client.schedule_new_orchestration(unknown, input=5), str)


async def async_starts(client: AsyncClient, order: Order, unknown: Callable[..., Any]) -> None:
    assert_type(await client.schedule_new_orchestration(generator, input=order), str)
    assert_type(await client.schedule_new_orchestration(coroutine_without_input), str)
    assert_type(await client.schedule_new_orchestration(with_default, input=4), str)
    assert_type(await client.schedule_new_orchestration("generator", input=object()), str)
    assert_type(await client.schedule_new_orchestration(unannotated_orchestrator, input=order), str)
    assert_type(await client.schedule_new_orchestration(unknown, input=5), str)


def registrations(worker: Worker, unknown: Callable[..., Any]) -> None:
    assert_type(worker.add_orchestrator(generator), str)
    assert_type(worker.add_orchestrator(generator_without_input), str)
    assert_type(worker.add_orchestrator(coroutine, name="other"), str)
    assert_type(worker.add_orchestrator(with_default), str)
    assert_type(worker.add_orchestrator(unannotated_orchestrator), str)
    assert_type(worker.add_orchestrator(unknown), str)
    assert_type(worker.add_orchestrator(lambda ctx, name: ctx.call_activity(greet, input=name), name="shout"), str)
    assert_type(worker.add_activity(price), str)
    assert_type(worker.add_activity(weekday), str)
    assert_type(worker.add_activity(reserve), str)
    assert_type(worker.add_activity(unannotated_activity), str)
    assert_type(worker.add_activity(unknown), str)


def decorated_functions_keep_their_types(
    activity_ctx: ActivityContext, ctx: OrchestrationContext, order: Order
) -> None:
    assert_type(price(activity_ctx, order=order), float)
    assert_type(weekday(activity_ctx), str)
    assert_type(generator(ctx, order=order), Generator[Any, Any, str])
    assert_type(generator_without_input(ctx), Generator[Task[Any], Any, int])

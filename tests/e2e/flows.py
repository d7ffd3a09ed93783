"""Orchestrators for the tests of the command line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import perdure


@perdure.activity
def add_one(ctx: perdure.ActivityContext, number: int) -> int:
    print("working")  # noqa: T201 - to see where it goes
    return number + 1


@perdure.activity
def ring(ctx: perdure.ActivityContext) -> None:
    """Fail in a way that a terminal would act upon."""
    raise ValueError("no way \x1b[2J out")


@perdure.activity
def sleep_long(ctx: perdure.ActivityContext, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not ctx.is_cancelled:
        time.sleep(0.02)
    return "slept"


@perdure.activity
def die_once(ctx: perdure.ActivityContext) -> int:
    if ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return ctx.attempt


@perdure.orchestrator
def count_up(ctx: perdure.OrchestrationContext, number: int | None) -> Generator[Any, Any, int]:
    ctx.set_custom_status({"progress": 0.5, "message": "half-way\x1b[31m"})
    result: int = yield ctx.call_activity(add_one, input=number or 0)
    return result


@perdure.orchestrator
def fail(ctx: perdure.OrchestrationContext) -> Generator[Any, Any, None]:
    yield ctx.call_activity(ring)


@perdure.orchestrator
def wait(ctx: perdure.OrchestrationContext, question: Any) -> Generator[Any, Any, Any]:
    ctx.set_custom_status({"waiting": question})
    return (yield ctx.wait_for_external_event("answer"))


@perdure.orchestrator
def dawdle(ctx: perdure.OrchestrationContext, seconds: float) -> Generator[Any, Any, str]:
    ctx.set_custom_status("dawdling")
    result: str = yield ctx.call_activity(sleep_long, input=seconds)
    return result


@perdure.orchestrator
def crash(ctx: perdure.OrchestrationContext) -> Generator[Any, Any, int]:
    attempt: int = yield ctx.call_activity(die_once)
    return attempt


@perdure.orchestrator
def nap(ctx: perdure.OrchestrationContext) -> Generator[Any, Any, None]:
    yield ctx.create_timer(timedelta(days=30))


@perdure.orchestrator
def five(ctx: perdure.OrchestrationContext) -> Generator[Any, Any, None]:
    yield 5

"""Progress over a sequence: the custom status always names the last city done.

    perdure run examples/sequence.py

While it runs, anyone can read the status from another terminal:

    perdure list
    perdure watch ID
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import perdure

CITIES = ["Tokyo", "Seattle", "London"]
SECONDS_PER_CITY = 1.0


@perdure.activity
def say_hello(ctx: perdure.ActivityContext, city: str) -> str:
    time.sleep(SECONDS_PER_CITY)  # so that there is something to watch
    return f"Hello, {city}!"


@perdure.orchestrator
def sequence(ctx: perdure.OrchestrationContext, cities: list[str] | None) -> Generator[Any, Any, list[str]]:
    """Greet the cities one after the other; give a list of names as input for others than the three."""
    cities = cities or CITIES
    greetings = []
    for done, city in enumerate(cities, start=1):
        greeting = yield ctx.call_activity(say_hello, input=city)
        greetings.append(greeting)
        ctx.set_custom_status({"progress": done / len(cities), "message": city})
    return greetings

"""Structured data for the caller: recommendations that can be read while the details are still being worked out.

perdure run examples/city_recommender.py --input '{"likes": "food"}'
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import perdure

SECONDS_PER_CITY = 0.5


@dataclass(frozen=True)
class Wish:
    likes: Literal["coast", "mountains", "food"] = "coast"


@dataclass(frozen=True)
class Recommendation:
    """What the custom status holds; its field names are those that readers find in the JSON."""

    recommendedCities: list[str]  # noqa: N815 - a name in the JSON
    recommendedSeasons: list[str]  # noqa: N815


RECOMMENDATIONS = {
    "coast": Recommendation(["Lisbon", "San Diego", "Split"], ["Spring", "Autumn"]),
    "mountains": Recommendation(["Innsbruck", "Denver"], ["Summer", "Winter"]),
    "food": Recommendation(["Osaka", "Bologna", "Oaxaca"], ["Autumn"]),
}


@perdure.activity
def describe(ctx: perdure.ActivityContext, city: str) -> str:
    time.sleep(SECONDS_PER_CITY)  # stands for a call to a slow travel service
    return f"{city} is worth the journey."


@perdure.orchestrator
async def city_recommender(ctx: perdure.OrchestrationContext, wish: Wish | None) -> list[str]:
    """Recommend at once, by way of the custom status, and return a description of each city later."""
    recommendation = RECOMMENDATIONS[(wish or Wish()).likes]
    ctx.set_custom_status(recommendation)
    return await perdure.when_all(
        [ctx.call_activity(describe, input=city) for city in recommendation.recommendedCities]
    )

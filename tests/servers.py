"""What to do about a server or browser that a test needs and this machine doesn't have."""

import os
from typing import NoReturn

import pytest


def unavailable(name: str, reason: str) -> NoReturn:
    """Skip the calling test, or fail it where `PERDURE_REQUIRE` lists `name`.

    Args:
        name: "postgres", "mongodb" or "browser".
        reason: why it can't be had; printed at the end of the run.
    """
    required = {part.strip() for part in os.environ.get("PERDURE_REQUIRE", "").split(",")}
    if name in required:
        pytest.fail(f"PERDURE_REQUIRE asks for {name}, which can't be had: {reason}", pytrace=False)
    pytest.skip(f"{name} can't be had: {reason}")

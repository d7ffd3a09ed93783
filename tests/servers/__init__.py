"""Servers and browsers that tests need, and what to do where this machine doesn't have them."""

import os
from typing import NoReturn

import pytest


class Unavailable(Exception):
    """A server isn't installed here, or doesn't start; the text says why."""


def require(what: str, reason: str) -> NoReturn:
    """Skip the calling test, or fail it where `PERDURE_REQUIRE` lists `what`.

    Args:
        what: "postgres", "mongodb" or "browser"; a version that not every machine can have has a name of its own.
        reason: why it can't be had; printed at the end of the run.
    """
    required = {part.strip() for part in os.environ.get("PERDURE_REQUIRE", "").split(",")}
    if what in required:
        pytest.fail(f"PERDURE_REQUIRE asks for {what}, which can't be had: {reason}", pytrace=False)
    pytest.skip(f"{what} can't be had: {reason}")

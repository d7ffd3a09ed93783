"""Servers as fixtures: shared ones, and some of the test's own that it may restart or break.

With `@pytest.mark.parametrize("postgres_url", VERSIONS, indirect=True)`, a test runs on each version; in the same way
with `postgres_server`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from tests.servers import Unavailable, require
from tests.servers.postgres import WHEEL, PostgresServer

VERSIONS = ("15", "16", "18")
DEFAULT = "16"

StartPostgres = Callable[..., PostgresServer]


def start(version: str = DEFAULT, **settings: str | float) -> PostgresServer:
    """Start a server, or do what `require` says."""
    try:
        return PostgresServer(version, **settings)
    except Unavailable as error:
        reason = str(error)
    # Only what comes from PyPI can be had everywhere: 15 is required by its own name, `postgres15`.
    return require("postgres" if version in WHEEL else f"postgres{version}", reason)


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Callable[[str], str]]:
    """The URL of a server of this version, the same for all tests of this process."""
    urls: dict[str, str] = {}
    with ExitStack() as servers:

        def url(version: str) -> str:
            if version not in urls:
                urls[version] = servers.enter_context(start(version)).url
            return urls[version]

        yield url


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest, shared_postgres: Callable[[str], str]) -> str:
    """A database that tests share: that of `PERDURE_TEST_POSTGRES`, unless a version is asked for; else one of ours."""
    version = getattr(request, "param", None)
    given = os.environ.get("PERDURE_TEST_POSTGRES")
    return given if given and version is None else shared_postgres(version or DEFAULT)


@pytest.fixture
def start_postgres() -> Iterator[StartPostgres]:
    """Start servers of the test's own: `start_postgres("18", max_connections=5)`."""
    with ExitStack() as servers:
        yield lambda version=DEFAULT, **settings: servers.enter_context(start(version, **settings))


@pytest.fixture
def postgres_server(request: pytest.FixtureRequest, start_postgres: StartPostgres) -> PostgresServer:
    """A server of the test's own, to restart or break."""
    return start_postgres(getattr(request, "param", DEFAULT))

"""Which stores a benchmark runs on: those that it is given, or all that this machine has."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("16", "18")


@contextmanager
def database(version: str, **settings: str | float) -> Iterator[str]:
    """Start a Postgres server and return the URL of an empty database."""
    sys.path.insert(0, str(ROOT))
    from tests.servers.postgres import PostgresServer  # noqa: PLC0415

    with PostgresServer(version, **settings) as server:
        yield server.url


@contextmanager
def file(name: str = "benchmark") -> Iterator[str]:
    """Return the URL of a SQLite file that isn't there yet."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/{name}.db"


def labels(urls: Sequence[str], schemes: Sequence[str]) -> list[str]:
    """Return the URLs given; else what `opened` makes stores of."""
    return list(urls) or [*schemes, *(f"postgresql {version}" for version in VERSIONS)]


@contextmanager
def opened(label: str, **settings: str | float) -> Iterator[str]:
    """Return the URL of an item of `labels`.

    Args:
        label: a URL, "memory", "sqlite" or "postgresql 16".
        settings: of a Postgres server that is started.
    """
    kind, _, version = label.partition(" ")
    if version:
        with database(version, **settings) as url:
            yield url
    elif kind == "sqlite":
        with file() as url:
            yield url
    elif kind == "memory":
        yield "memory://benchmark"
    else:
        yield label

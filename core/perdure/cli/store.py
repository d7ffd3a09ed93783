"""The store that a command works on."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Iterator
from typing import Final

from perdure.client import Client
from perdure.plugins import ProviderRecord, connect, find_provider
from perdure.spi import Provider, ProviderUnavailable, ProviderURL, redact

__all__ = ["DEFAULT_URL", "VARIABLE", "describe", "open_client", "open_provider", "provider_option", "provider_url"]

DEFAULT_URL: Final = "sqlite:///perdure.db"
VARIABLE: Final = "PERDURE_PROVIDER"


def provider_url(arguments: argparse.Namespace) -> str:
    """Return the provider URL: the option's, else the environment's, else the default."""
    return arguments.provider or os.environ.get(VARIABLE) or DEFAULT_URL


def provider_option(arguments: argparse.Namespace) -> str:
    """Return the option, with a space before it, that names this provider in a later command; "" for the default.

    A password is never shown: with one the command has to be completed, or the environment variable set.
    """
    url = provider_url(arguments)
    if url == DEFAULT_URL or (not arguments.provider and redact(url) != url):
        return ""
    return f" --provider {shlex.quote(redact(url))}"


@contextlib.contextmanager
def open_provider(arguments: argparse.Namespace, *, create: bool) -> Iterator[Provider]:
    """Open the provider that the command line asks for, and close it in the end.

    Args:
        arguments: of the command.
        create: make the store if there is none. What only reads must not leave an empty database behind, in a
            directory where somebody looked by mistake.

    Raises:
        ProviderUnavailable: among much else, there is no store and `create` is not set.
    """
    url = ProviderURL.parse(provider_url(arguments))
    if not create:
        _require_store(url)
    provider = connect(url)
    try:
        yield provider
    finally:
        provider.close()


@contextlib.contextmanager
def open_client(arguments: argparse.Namespace, *, create: bool) -> Iterator[Client]:
    """Open a client on the store; arguments and errors as with `open_provider`."""
    with open_provider(arguments, create=create) as provider, Client(provider) as client:
        yield client


def describe(provider: Provider) -> str:
    """Return what a person wants to know of an open provider: its name, where it comes from, its URL."""
    record: ProviderRecord = find_provider(provider.url.scheme)[1]
    origin = f"{record.distribution} {record.version}" if record.distribution else "registered in this process"
    return f"{provider.name} ({origin}) at {provider.url}"


def _require_store(url: ProviderURL) -> None:
    factory, _ = find_provider(url.scheme)
    provider = factory(url)
    try:
        absent = provider.schema_status().state == "absent"
    finally:
        provider.close()
    if absent:
        raise ProviderUnavailable(
            f"there is no perdure store at {url} yet; `perdure run` and `perdure worker` create it, and --provider or "
            f"{VARIABLE} name another one"
        )

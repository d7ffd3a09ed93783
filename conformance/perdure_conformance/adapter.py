"""What the suite may do with a provider beyond the interface: a provider's author says how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Final, Literal, TypeAlias

from perdure.plugins import find_provider, installed_entry_points
from perdure.spi import Clock, Provider, ProviderUnavailable, ProviderURL

__all__ = ["ADAPTERS_GROUP", "Adapter", "Corruption", "find_adapter"]

ADAPTERS_GROUP: Final = "perdure.conformance"

Corruption: TypeAlias = Literal["gap", "undecodable"]


class Adapter:
    """A provider under test: its URL, and hooks that reach behind the interface.

    Derive from it in a provider's own distribution, and name the class as an entry point of the group
    `perdure.conformance` whose name is the URL scheme; then the command line finds it. Every hook is optional:
    without it the cases that need it are reported as not run, and the level that holds them is not granted.

    Args:
        url: the provider URL; by default the class's own `url`. Its store may hold other hubs: the suite makes
            hubs of its own, and deletes them.
    """

    HOOKS: ClassVar = frozenset({"intercept", "corrupt", "count_rows", "transaction"})

    url: str = ""
    scale: float = 0.1
    """What part of the large cases (over 1,000 operations) is run, unless the run is a full one."""
    patience: float = 120.0
    """Seconds after which a case that has not ended has failed."""

    def __init__(self, url: str | None = None) -> None:
        if url is not None:
            self.url = url
        if not self.url:
            raise TypeError(f"{type(self).__name__} needs the URL of the provider under test")

    def has(self, hook: str) -> bool:
        """Tell whether a hook is provided."""
        return hook in self.HOOKS and getattr(type(self), hook) is not getattr(Adapter, hook)

    def build(self, clock: Clock | None) -> Provider:
        """Return a new handle on the store, not open yet.

        Args:
            clock: the only clock that the handle reads; None: the store's own.
        """
        url = ProviderURL.parse(self.url)
        factory, _ = find_provider(url.scheme)
        return factory(url, clock=clock)

    def server_version(self, provider: Provider) -> str | None:
        """Return the version of what stands behind an open provider, for the report; None where there is none."""
        del provider
        return None

    def intercept(self, before_call: Callable[[], None]) -> AbstractContextManager[None]:
        """Return a context in which `before_call` is called before each call to the database driver.

        A call is a statement or a round trip, on any handle that is opened in the context. What `before_call` raises
        comes out of the driver call, which is not made.
        """
        raise NotImplementedError

    def corrupt(self, hub: str, instance: str, what: Corruption) -> None:
        """Spoil the stored history of an instance: take events out of its middle, or make them undecodable."""
        raise NotImplementedError

    def count_rows(self, hub: str) -> Mapping[str, int]:
        """Return how many rows each table (collection, key space) holds for a hub, those of all kinds.

        Rows that were left by a hub or an instance that is gone belong to nobody, and are counted for every hub.
        """
        raise NotImplementedError

    def transaction(self) -> AbstractContextManager[object]:
        """Return a context in which a transaction of a caller's own is open, with the connection that it is on.

        The connection is one as users of the database have it, with nothing of perdure about it. At the end of the
        context the transaction is committed; where an exception leaves it, it is rolled back.
        """
        raise NotImplementedError


def find_adapter(url: str) -> Adapter:
    """Return the adapter that a provider's distribution brings for its scheme, else one without hooks.

    Raises:
        ProviderUnavailable: the adapter can't be loaded.
    """
    scheme = ProviderURL.parse(url).scheme
    for name in dict.fromkeys((scheme, scheme.partition("+")[0])):
        for found in installed_entry_points(ADAPTERS_GROUP):
            if found.point.name != name:
                continue
            try:
                factory: Any = found.point.load()
                adapter = factory(url)
            except Exception as error:
                raise ProviderUnavailable(
                    f"the conformance adapter of {scheme}:// ({found}) can't be used: {type(error).__name__}: {error}"
                ) from error
            if not isinstance(adapter, Adapter):
                raise ProviderUnavailable(f"the conformance adapter of {scheme}:// ({found}) is no Adapter")
            return adapter
    return Adapter(url)

"""Finding providers and other plugins, and connecting to a store by its URL.

A provider is an entry point of the group `perdure.providers`: its name is the URL scheme, its value a `Provider` class
(or a function that takes the same arguments). It is loaded when its scheme is asked for, and at no other time.
Anything else that extends perdure is an entry point of the group `perdure`, loaded with the command line, whose hooks
are those of `Hooks`. One that is broken is reported and left out, and never in the way of another.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from perdure.errors import InvalidArgument, PerdureError, ProviderError, ProviderUnavailable
from perdure.spi.clock import Clock
from perdure.spi.provider import SPI_VERSION, Provider
from perdure.spi.records import Outcome
from perdure.spi.url import ProviderURL

# importlib.metadata, logging and pluggy are imported where they are used: `perdure --help` waits for every import.
if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pluggy import PluginManager

__all__ = [
    "PLUGINS_GROUP",
    "PROVIDERS_GROUP",
    "FoundEntryPoint",
    "Hooks",
    "ProviderFactory",
    "ProviderRecord",
    "available_providers",
    "connect",
    "find_provider",
    "installed_entry_points",
    "plugin_manager",
    "register_plugin_commands",
    "register_provider",
]

PROVIDERS_GROUP: Final = "perdure.providers"
PLUGINS_GROUP: Final = "perdure"

ProviderFactory: TypeAlias = Callable[..., Provider]
"""A `Provider` class, or a function called like one: `factory(url, clock=clock)`."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]*")
_EXTRAS: Final = {"postgres": "postgres", "postgresql": "postgres", "mongodb": "mongodb"}

_registered: dict[str, ProviderFactory] = {}
_reported: set[str] = set()


class Hooks:
    """What a plugin of the group `perdure` may implement, marked with `pluggy.HookimplMarker("perdure")`."""

    def perdure_register_commands(self, subparsers: Any) -> None:
        """Add commands to the command line.

        Args:
            subparsers: what `argparse.ArgumentParser.add_subparsers` returned.
        """


@dataclass(slots=True, kw_only=True, frozen=True)
class ProviderRecord:
    """A provider that a scheme leads to."""

    scheme: str
    distribution: str | None
    """Where it comes from; None where it was registered by `register_provider`."""
    version: str | None
    error: str | None = None
    """Why it can't be used."""


@dataclass(slots=True, kw_only=True, frozen=True)
class FoundEntryPoint:
    """An entry point and the distribution that it comes from."""

    point: EntryPoint
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


def connect(url_or_provider: str | ProviderURL | Provider, *, clock: Clock | None = None) -> Provider:
    """Open the store of a URL (or a provider that was built already), and create the URL's task hub if it is missing.

    Args:
        url_or_provider: `scheme://...`, as text or parsed, or a provider.
        clock: where to read the time; None: the store's own clock. Only with a URL.

    Returns:
        The open provider, to be closed by the caller. What was built here is closed again if anything fails.

    Raises:
        ProviderUnavailable: no provider has that scheme, it can't be loaded, or the store can't be reached.
        InvalidRequest: the URL is malformed, or has an `op_` parameter that the provider doesn't know.
        ProviderError: whatever else `Provider.open` and `Provider.create_hub` raise.
    """
    if isinstance(url_or_provider, Provider):
        if clock is not None:
            raise InvalidArgument("clock= goes with a URL; give it to the provider's own constructor instead")
        _open(url_or_provider)
        return url_or_provider
    url = url_or_provider if isinstance(url_or_provider, ProviderURL) else ProviderURL.parse(url_or_provider)
    provider = _build(url, clock)
    try:
        _open(provider)
    except BaseException:
        # What stopped us says more than what goes wrong with closing.
        with contextlib.suppress(Exception):
            provider.close()
        raise
    return provider


def register_provider(scheme: str, factory: ProviderFactory) -> None:
    """Make `scheme://` URLs lead to `factory` in this process, before any installed provider of that scheme.

    Raises:
        InvalidArgument: `scheme` is malformed, or registered with another factory.
    """
    if type(scheme) is not str or not _SCHEME.fullmatch(scheme):
        raise InvalidArgument(
            f"{scheme!r} is no URL scheme; use lower-case letters, digits and + . - and begin with a letter"
        )
    if not callable(factory):
        raise InvalidArgument(f"a provider factory is called with a URL; {factory!r} can't be; pass a Provider class")
    if _registered.setdefault(scheme, factory) is not factory:
        raise InvalidArgument(
            f"{scheme}:// is registered with {_registered[scheme]!r} already; choose another scheme for {factory!r}"
        )


def find_provider(scheme: str) -> tuple[ProviderFactory, ProviderRecord]:
    """Load the provider of a URL scheme. `a+b` is looked up whole, then as `a`.

    Raises:
        ProviderUnavailable: there is none, several distributions claim the scheme, or it can't be loaded.
    """
    installed = _installed_providers()
    for name in dict.fromkeys((scheme, scheme.partition("+")[0])):
        factory = _registered.get(name)
        if factory is not None:
            _check_spi(factory, name, "this process")
            return factory, ProviderRecord(scheme=name, distribution=None, version=None)
        if name in installed:
            found = _only_one(name, installed[name])
            return _load(name, found), ProviderRecord(
                scheme=name, distribution=found.distribution, version=found.version
            )
    raise ProviderUnavailable(_unknown(scheme, sorted({*installed, *_registered})))


def available_providers() -> list[ProviderRecord]:
    """Load every provider there is, and say of each what it is or why it can't be used. Sorted by scheme."""
    records = [ProviderRecord(scheme=scheme, distribution=None, version=None) for scheme in _registered]
    for scheme, claims in _installed_providers().items():
        for found in claims:
            error = None
            try:
                _only_one(scheme, claims)
                _load(scheme, found)
            except ProviderUnavailable as unavailable:
                error = str(unavailable)
            records.append(
                ProviderRecord(scheme=scheme, distribution=found.distribution, version=found.version, error=error)
            )
    return sorted(records, key=lambda record: (record.scheme, record.distribution or ""))


@functools.cache
def plugin_manager() -> PluginManager:
    """Return the manager of the plugins of the group `perdure`, all that can be loaded being loaded."""
    import pluggy  # noqa: PLC0415

    manager = pluggy.PluginManager("perdure")
    pluggy.HookspecMarker("perdure")(Hooks.perdure_register_commands)
    manager.add_hookspecs(Hooks)
    for found in installed_entry_points(PLUGINS_GROUP):
        try:
            manager.register(found.point.load(), f"{found.distribution}:{found.point.name}")
        # Somebody else's module may do anything while it is imported, exit included.
        except (Exception, SystemExit) as error:
            _report(f"plugin {found.point.name!r} of {found} can't be loaded and is left out: {_reason(error)}")
    return manager


def register_plugin_commands(subparsers: Any) -> None:
    """Let every plugin add its commands to the command line. One that fails is reported and skipped."""
    manager = plugin_manager()
    plugins = manager.get_plugins()
    for plugin in sorted(plugins, key=lambda plugin: manager.get_name(plugin) or ""):
        hook = manager.subset_hook_caller("perdure_register_commands", plugins - {plugin})
        try:
            hook(subparsers=subparsers)
        except (Exception, SystemExit) as error:
            _report(f"the commands of plugin {manager.get_name(plugin)} can't be added: {_reason(error)}")


def _open(provider: Provider) -> None:
    provider.open()
    hub = provider.url.hub
    outcome = provider.create_hub(hub)
    if outcome not in (Outcome.OK, Outcome.EXISTS):
        raise ProviderError(
            f"create_hub({hub!r}) of {provider!r} returned {outcome}; report it to the provider's author"
        )


def _build(url: ProviderURL, clock: Clock | None) -> Provider:
    factory, record = find_provider(url.scheme)
    origin = f"{record.distribution} {record.version}" if record.distribution else "this process"
    try:
        provider = factory(url, clock=clock)
    except PerdureError:
        raise
    except Exception as error:
        # Without its text, which may hold the URL and with it a password.
        raise ProviderUnavailable(
            f"the provider of {record.scheme}:// ({origin}) can't be built for {url}: {type(error).__name__}; "
            "update it, or report this to its author"
        ) from error
    if not isinstance(provider, Provider):
        raise ProviderUnavailable(
            f"the provider of {record.scheme}:// ({origin}) is a {type(provider).__qualname__} and no Provider; "
            "derive it from perdure.spi.Provider"
        )
    _check_spi(provider, record.scheme, origin)
    return provider


def _load(scheme: str, found: FoundEntryPoint) -> ProviderFactory:
    try:
        factory = found.point.load()
    except (Exception, SystemExit) as error:
        raise ProviderUnavailable(
            f"the provider of {scheme}:// ({found}) can't be loaded: {_reason(error)}; "
            f"run: pip install {_requirement(scheme, found.distribution)}"
        ) from error
    if not callable(factory):
        raise ProviderUnavailable(
            f"the provider of {scheme}:// ({found}) is {found.point.value}, which can't be called; "
            "its entry point must name a Provider class"
        )
    _check_spi(factory, scheme, str(found))
    return factory  # type: ignore[no-any-return]


def _check_spi(provider: object, scheme: str, origin: str) -> None:
    # A factory that is a function has no version; what it builds has.
    version = getattr(provider, "SPI", None)
    if version is None:
        return
    try:
        major, minor = (int(part) for part in version)
    except (TypeError, ValueError):
        raise ProviderUnavailable(
            f"the provider of {scheme}:// ({origin}) has SPI = {version!r}; it must be a tuple of two integers"
        ) from None
    if major != SPI_VERSION[0]:
        ours = ".".join(map(str, SPI_VERSION))
        older = "the provider" if major < SPI_VERSION[0] else "perdure"
        raise ProviderUnavailable(
            f"the provider of {scheme}:// ({origin}) was written for version {major}.{minor} of the provider "
            f"interface, and this perdure has {ours}; update {older}"
        )


def _installed_providers() -> dict[str, list[FoundEntryPoint]]:
    schemes: dict[str, list[FoundEntryPoint]] = {}
    for found in installed_entry_points(PROVIDERS_GROUP):
        schemes.setdefault(found.point.name.lower(), []).append(found)
    return schemes


def installed_entry_points(group: str) -> Iterator[FoundEntryPoint]:
    """Yield the entry points of a group, each distribution's once. What can't be read is reported and left out."""
    # Of a distribution that is there several times (an editable install besides a wheel) the first on sys.path is
    # the one that imports find, so the others are passed over.
    import importlib.metadata  # noqa: PLC0415

    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            points = [point for point in distribution.entry_points if point.group == group]
            if not points:
                continue
            name, version = distribution.metadata["Name"], distribution.version
            normalised = re.sub(r"[-_.]+", "-", name).lower()
        except Exception as error:
            _report(f"the metadata of an installed distribution can't be read, and it is left out: {_reason(error)}")
            continue
        if normalised in seen:
            continue
        seen.add(normalised)
        for point in points:
            yield FoundEntryPoint(point=point, distribution=name, version=version)


def _only_one(scheme: str, claims: list[FoundEntryPoint]) -> FoundEntryPoint:
    if len(claims) > 1:
        raise ProviderUnavailable(
            f"{scheme}:// is claimed by {' and by '.join(map(str, claims))}; uninstall all of them but one"
        )
    return claims[0]


def _unknown(scheme: str, known: list[str]) -> str:
    extra = _EXTRAS.get(scheme.partition("+")[0])
    if extra:
        remedy = f'run: pip install --upgrade "perdure[{extra}]"'
    elif known:
        remedy = "correct the scheme, or install the provider's distribution"
    else:
        remedy = "perdure itself is not installed in this environment, run: pip install perdure"
    return f"there is no provider for {scheme}:// (there are: {', '.join(known) or 'none'}); {remedy}"


def _requirement(scheme: str, distribution: str) -> str:
    extra = _EXTRAS.get(scheme.partition("+")[0])
    return f'"perdure[{extra}]"' if extra and distribution.lower() == "perdure" else f"--upgrade {distribution}"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _report(message: str) -> None:
    if message not in _reported:
        import logging  # noqa: PLC0415

        _reported.add(message)
        logging.getLogger(__name__).warning("%s", message)

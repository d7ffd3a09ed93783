"""Finding providers and plugins, and connecting."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import plugins
from perdure.errors import AuthFailed, InvalidArgument, InvalidRequest, ProviderError, ProviderUnavailable
from perdure.plugins import available_providers, connect, find_provider, register_provider
from perdure.spi import SPI_VERSION, Hub, ManualClock, Outcome, Provider, ProviderURL

Install = Callable[..., Path]

PROVIDER_SOURCE = """
from perdure.spi import Outcome, Provider

class {name}(Provider):
    {body}
    def open(self): pass
    def close(self): pass
    def create_hub(self, name): return Outcome.OK
    def delete_hub(self, name): return Outcome.OK
    def hub(self, name): raise NotImplementedError
    def list_hubs(self): return []
"""


class FakeProvider(Provider):
    """Records what is done to it."""

    def __init__(self, url: str | ProviderURL, *, clock: Any = None) -> None:
        super().__init__(url, clock=clock)
        self.calls: list[str] = []
        self.outcome: Outcome | Exception = Outcome.OK
        self.on_open: BaseException | None = None
        self.on_close: Exception | None = None

    def open(self) -> None:
        self.calls.append("open")
        if self.on_open:
            raise self.on_open

    def close(self) -> None:
        self.calls.append("close")
        if self.on_close:
            raise self.on_close

    def create_hub(self, name: str) -> Outcome:
        self.calls.append(f"create_hub {name}")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def delete_hub(self, name: str) -> Outcome:
        raise NotImplementedError

    def hub(self, name: str) -> Hub:
        raise NotImplementedError

    def list_hubs(self) -> list[str]:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is installed or registered but what a test installs or registers."""
    monkeypatch.setattr(plugins, "_registered", {})
    monkeypatch.setattr(plugins, "_reported", set())
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: iter(()))
    plugins.plugin_manager.cache_clear()
    yield
    plugins.plugin_manager.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that puts a distribution with entry points and modules into this environment."""
    distributions = importlib.metadata.Distribution.discover
    paths: list[str] = []
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: distributions(path=paths))

    def add(
        name: str,
        version: str = "1.0",
        *,
        providers: dict[str, str] | None = None,
        plugins: dict[str, str] | None = None,
        modules: dict[str, str] | None = None,
    ) -> Path:
        site = tmp_path / f"site{len(paths)}"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = ["[perdure.providers]", *(f"{k} = {v}" for k, v in (providers or {}).items())]
        lines += ["[perdure]", *(f"{k} = {v}" for k, v in (plugins or {}).items())]
        lines += ["[console_scripts]", "x = nowhere:main"]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for module, source in (modules or {}).items():
            (site / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)
        paths.append(str(site))
        monkeypatch.syspath_prepend(str(site))
        return info

    return add


def provider_module(name: str = "Fake", body: str = "") -> str:
    return PROVIDER_SOURCE.format(name=name, body=body)


def test_an_installed_provider_is_found_by_its_scheme_and_loaded_only_then(install: Install) -> None:
    install("perdure-alpha", "2.1", providers={"alpha": "fp_alpha:Fake"}, modules={"fp_alpha": provider_module()})
    install("perdure-beta", providers={"beta": "fp_beta:Fake"}, modules={"fp_beta": "raise SystemExit(3)"})
    assert "fp_alpha" not in sys.modules
    factory, record = find_provider("alpha")
    assert factory is sys.modules["fp_alpha"].Fake
    assert (record.scheme, record.distribution, record.version, record.error) == ("alpha", "perdure-alpha", "2.1", None)
    assert "fp_beta" not in sys.modules
    provider = connect("ALPHA://h?op_hub=x", clock=(clock := ManualClock()))
    assert provider.clock is clock
    assert provider.url.hub == "x"


def test_the_whole_scheme_is_tried_before_its_first_part(install: Install) -> None:
    source = provider_module("Plain") + provider_module("Srv")
    install("d", providers={"doc": "fp_doc:Plain", "doc+srv": "fp_doc:Srv"}, modules={"fp_doc": source})
    assert find_provider("doc+srv")[0].__name__ == "Srv"
    assert find_provider("doc+other")[0].__name__ == "Plain"
    assert find_provider("doc+other")[1].scheme == "doc"
    assert find_provider("doc")[0].__name__ == "Plain"


def test_an_unknown_scheme_lists_the_known_ones(install: Install) -> None:
    install("d", providers={"beta": "fp_b:Fake"}, modules={"fp_b": ""})
    register_provider("alpha", FakeProvider)
    with pytest.raises(ProviderUnavailable, match=r"no provider for gamma:// \(there are: alpha, beta\); "):
        connect("gamma://u:secret@h")


def test_an_environment_without_perdure_says_so() -> None:
    with pytest.raises(ProviderUnavailable, match=r"\(there are: none\); perdure itself is not installed"):
        connect("sqlite:///x.db")


@pytest.mark.parametrize(
    ("scheme", "extra"),
    [("postgres", "postgres"), ("postgresql+psycopg", "postgres"), ("mongodb", "mongodb"), ("mongodb+srv", "mongodb")],
)
def test_a_known_database_without_its_extra_says_what_to_install(scheme: str, extra: str) -> None:
    with pytest.raises(ProviderUnavailable, match=rf'pip install --upgrade "perdure\[{extra}\]"'):
        connect(f"{scheme}://h/db")


def test_a_provider_whose_import_fails_names_its_distribution_and_the_remedy(install: Install) -> None:
    install("perdure", "0.1.0", providers={"postgres": "fp_pg:Fake"}, modules={"fp_pg": "import no_such_driver"})
    install("acme-store", "3", providers={"acme": "fp_acme:Gone"}, modules={"fp_acme": ""})
    install("rude", providers={"rude": "fp_rude:Fake"}, modules={"fp_rude": "raise SystemExit(1)"})
    with pytest.raises(
        ProviderUnavailable, match=r"\(perdure 0\.1\.0\).*no_such_driver.*install \"perdure\[postgres\]\""
    ):
        find_provider("postgres")
    with pytest.raises(
        ProviderUnavailable, match=r"\(acme-store 3\).*Gone.*pip install --upgrade acme-store"
    ) as failed:
        find_provider("acme")
    assert isinstance(failed.value.__cause__, AttributeError)
    with pytest.raises(ProviderUnavailable, match="SystemExit"):
        find_provider("rude")


def test_two_distributions_that_claim_one_scheme_are_both_named(install: Install) -> None:
    install("one", "1", providers={"s": "fp_one:Fake"}, modules={"fp_one": provider_module()})
    install("two", "2", providers={"s": "fp_two:Fake", "t": "fp_two:Fake"}, modules={"fp_two": provider_module()})
    with pytest.raises(ProviderUnavailable, match=r"s:// is claimed by one 1 and by two 2; uninstall"):
        find_provider("s")
    assert find_provider("t")[1].distribution == "two"
    assert "fp_one" not in sys.modules
    errors = {(record.scheme, record.distribution): record.error for record in available_providers()}
    assert errors["t", "two"] is None
    assert "claimed by" in str(errors["s", "one"])
    assert "claimed by" in str(errors["s", "two"])


@pytest.mark.parametrize("again", ["Perdure_Store", "perdure.store", "perdure-store"])
def test_one_distribution_found_twice_counts_once(install: Install, again: str) -> None:
    install("perdure-store", "2", providers={"s": "fp_new:Fake"}, modules={"fp_new": provider_module()})
    install(again, "1", providers={"s": "fp_old:Fake"}, modules={"fp_old": provider_module()})
    assert find_provider("s")[1].version == "2"
    assert len(available_providers()) == 1


def test_another_major_of_the_interface_is_refused_with_both_versions(install: Install) -> None:
    major, minor = SPI_VERSION
    body = f"SPI = ({major + 1}, 4)"
    install("new", providers={"new": "fp_new:Fake"}, modules={"fp_new": provider_module(body=body)})
    body = f"SPI = ({major}, {minor + 5})"
    install("minor", providers={"minor": "fp_minor:Fake"}, modules={"fp_minor": provider_module(body=body)})
    install("odd", providers={"odd": "fp_odd:Fake"}, modules={"fp_odd": provider_module(body="SPI = 'one'")})
    with pytest.raises(ProviderUnavailable, match=rf"{major + 1}\.4 .* has {major}\.{minor}; update perdure"):
        find_provider("new")
    assert find_provider("minor")[0].__name__ == "Fake"
    with pytest.raises(ProviderUnavailable, match="must be a tuple of two integers"):
        find_provider("odd")


def test_another_major_shows_too_where_a_function_builds_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(FakeProvider):
        SPI = (SPI_VERSION[0] - 1, 0)

    register_provider("old", lambda url, clock: Old(url, clock=clock))
    with pytest.raises(ProviderUnavailable, match="update the provider"):
        connect("old://")


def test_metadata_that_cannot_be_read_hides_no_other(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    info = install("broken", providers={"s": "x:Y"})
    (info / "entry_points.txt").write_bytes(b"\xff\xfe[perdure.providers")
    (install("nameless", providers={"n": "x:Y"}) / "METADATA").write_text("")
    install("good", providers={"good": "fp_good:Fake"}, modules={"fp_good": provider_module()})
    assert find_provider("good")[1].distribution == "good"
    find_provider("good")
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(set(messages)) == 2
    assert all("can't be read" in message for message in messages)


def test_available_providers_lists_the_broken_ones_too(install: Install) -> None:
    install("b", "2", providers={"broken": "fp_broken:Fake"}, modules={"fp_broken": "import no_such_driver"})
    install("a", "1", providers={"alpha": "fp_a:Fake"}, modules={"fp_a": provider_module()})
    register_provider("mine", FakeProvider)
    records = available_providers()
    assert [(r.scheme, r.distribution, r.version) for r in records] == [
        ("alpha", "a", "1"),
        ("broken", "b", "2"),
        ("mine", None, None),
    ]
    assert [r.error is None for r in records] == [True, False, True]
    assert "no_such_driver" in str(records[1].error)


def test_an_entry_point_that_names_no_callable(install: Install) -> None:
    install("d", providers={"d": "fp_value:VALUE"}, modules={"fp_value": "VALUE = 5"})
    with pytest.raises(ProviderUnavailable, match=r"fp_value:VALUE, which can't be called"):
        find_provider("d")


def test_a_factory_that_builds_something_else_or_fails() -> None:
    def failing(url: ProviderURL, *, clock: Any) -> Provider:
        raise RuntimeError(url.driver_url())

    register_provider("odd", lambda url, clock: {"url": url, "clock": clock})  # type: ignore[arg-type, return-value]
    register_provider("failing", failing)
    with pytest.raises(ProviderUnavailable, match="is a dict and no Provider"):
        connect("odd://h")
    with pytest.raises(ProviderUnavailable, match=r"failing://u:\*\*\*@h: RuntimeError") as failed:
        connect("failing://u:secret@h")
    assert "secret" not in str(failed.value)
    register_provider("fake", FakeProvider)
    with pytest.raises(InvalidRequest, match="unknown parameter op_x"):
        connect("fake://h?op_x=1")


def test_register_provider_checks_the_scheme() -> None:
    for scheme in ("", "X", "1x", "a b", "a\n", "a://", "é", None, 5):
        with pytest.raises(InvalidArgument, match="is no URL scheme; use"):
            register_provider(scheme, FakeProvider)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="can't be; pass a Provider class"):
        register_provider("x", 5)  # type: ignore[arg-type]


def test_register_provider_refuses_a_second_factory() -> None:
    register_provider("my-db+x.1", FakeProvider)
    register_provider("my-db+x.1", FakeProvider)
    with pytest.raises(InvalidArgument, match=r"is registered with .*FakeProvider.* already"):
        register_provider("my-db+x.1", lambda url, clock: FakeProvider(url, clock=clock))
    assert isinstance(connect("my-db+x.1://h"), FakeProvider)


def test_what_is_registered_comes_before_what_is_installed(install: Install) -> None:
    install("d", providers={"d": "fp_d:Fake"}, modules={"fp_d": "raise SystemExit"})
    register_provider("d", FakeProvider)
    assert find_provider("d")[0] is FakeProvider


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.EXISTS])
def test_connect_opens_and_creates_the_hub_of_the_url(outcome: Outcome) -> None:
    def build(url: ProviderURL, clock: Any) -> Provider:
        provider = FakeProvider(url, clock=clock)
        provider.outcome = outcome
        return provider

    register_provider("fake", build)
    for given, hub in (
        ("fake://h?op_hub=blue", "blue"),
        ("fake://h", "default"),
        (ProviderURL.parse("fake://"), "default"),
    ):
        provider = connect(given)
        assert isinstance(provider, FakeProvider)
        assert provider.calls == ["open", f"create_hub {hub}"]


@pytest.mark.parametrize("stage", ["open", "interrupt", "hub", "outcome"])
def test_connect_closes_what_it_built_if_anything_fails(stage: str) -> None:
    built: list[FakeProvider] = []

    def build(url: ProviderURL, clock: Any) -> Provider:
        provider = FakeProvider(url, clock=clock)
        provider.on_close = RuntimeError("from close")
        if stage == "open":
            provider.on_open = AuthFailed()
        elif stage == "interrupt":
            provider.on_open = KeyboardInterrupt()
        else:
            provider.outcome = AuthFailed() if stage == "hub" else Outcome.LOST
        built.append(provider)
        return provider

    register_provider("fake", build)
    expected = {"interrupt": KeyboardInterrupt, "outcome": ProviderError}.get(stage, AuthFailed)
    with pytest.raises(expected) as failed:
        connect("fake://u:secret@h")
    assert type(failed.value) is expected
    assert "secret" not in str(failed.value)
    assert built[0].calls[-1] == "close"


def test_connect_takes_a_provider_and_leaves_it_to_its_owner() -> None:
    provider = FakeProvider("fake://h?op_hub=blue")
    assert connect(provider) is provider
    assert provider.calls == ["open", "create_hub blue"]
    provider.outcome = AuthFailed()
    with pytest.raises(AuthFailed):
        connect(provider)
    assert "close" not in provider.calls
    with pytest.raises(InvalidArgument, match="clock= goes with a URL"):
        connect(provider, clock=ManualClock())


COMMANDS = """
import pluggy
hookimpl = pluggy.HookimplMarker("perdure")

@hookimpl
def perdure_register_commands(subparsers):
    {body}
"""


def test_plugins_add_commands_and_a_broken_one_is_in_nobodys_way(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    def commands(body: str) -> str:
        return COMMANDS.format(body=body)

    install("a", plugins={"boom": "fp_boom"}, modules={"fp_boom": commands("raise RuntimeError('boom')")})
    install("b", plugins={"gone": "fp_gone"}, modules={"fp_gone": "import no_such_module"})
    install("c", plugins={"fine": "fp_fine"}, modules={"fp_fine": commands("subparsers.add_parser('fine')")})
    install("d", plugins={"exit": "fp_exit"}, modules={"fp_exit": "raise SystemExit(3)"})
    install("e", plugins={"bad": "fp_bad"}, modules={"fp_bad": commands("pass").replace("(subparsers)", "(nobody)")})
    install("f", plugins={"more": "fp_more"}, modules={"fp_more": commands("subparsers.add_parser('more')")})
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers(dest="command")
    plugins.register_plugin_commands(subparsers)
    assert parser.parse_args(["fine"]).command == "fine"
    assert parser.parse_args(["more"]).command == "more"
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == 4
    for name in ("boom", "gone", "exit", "bad"):
        assert sum(name in message for message in messages) == 1


def test_providers_are_not_loaded_as_plugins(install: Install) -> None:
    install("a", providers={"a": "fp_never:Fake"}, modules={"fp_never": "raise SystemExit"})
    assert plugins.plugin_manager().get_plugins() == set()
    assert "fp_never" not in sys.modules


@pytest.mark.parametrize(
    "module", ["codec", "conversion", "custom_status", "errors", "failures", "identifiers", "limits", "plugins"]
)
def test_importing_is_cheap(module: str) -> None:
    # Without perdure/__init__.py, which may import what it likes.
    script = (
        f"import sys, types, orjson; sys.modules['perdure'] = package = types.ModuleType('perdure');"
        f"package.__path__ = [{str(Path(plugins.__file__).parent)!r}]; before = set(sys.modules);"
        f"import perdure.{module};"
        "heavy = {'asyncio', 'importlib.metadata', 'sqlalchemy', 'pluggy', 'logging'};"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

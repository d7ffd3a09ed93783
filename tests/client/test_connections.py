"""Whose provider it is, which hub, and what closing means."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.client.conftest import provider_class

from perdure import connection, plugins
from perdure.async_client import AsyncClient
from perdure.client import Client
from perdure.errors import Closed, InvalidRequest, ProviderUnavailable, Transient
from perdure.spi import Provider


@pytest.fixture
def opened(url: str, monkeypatch: pytest.MonkeyPatch) -> list[Provider]:
    """The providers that were made for URLs."""
    made: list[Provider] = []
    scheme = url.partition(":")[0]
    kind = provider_class(scheme)

    def make(*args: Any, **kwargs: Any) -> Provider:
        made.append(kind(*args, **kwargs))
        return made[-1]

    monkeypatch.setitem(plugins._registered, scheme, make)
    return made


def is_closed(provider: Provider) -> bool:
    try:
        provider.list_hubs()
    except Closed:
        return True
    return False


class TestOwnership:
    def test_a_client_of_a_url_closes_its_provider(self, url: str, opened: list[Provider]) -> None:
        with Client(url) as client:
            client.schedule_new_orchestration("flow")
            (provider,) = opened
            assert not is_closed(provider)
        assert is_closed(provider)

    def test_an_opened_provider_stays_open(self, provider: Provider) -> None:
        with Client(provider) as client:
            client.schedule_new_orchestration("flow")
        assert not is_closed(provider)

    def test_async(self, url: str, opened: list[Provider]) -> None:
        async def run() -> None:
            async with AsyncClient(url) as client:
                assert len(opened) == 1
                await client.schedule_new_orchestration("flow")
            with pytest.raises(Closed):
                await client.schedule_new_orchestration("flow")

        asyncio.run(run())
        assert is_closed(opened[0])

    def test_an_async_client_connects_when_it_is_first_used(self, url: str, opened: list[Provider]) -> None:
        async def run() -> None:
            client = AsyncClient(url)
            assert opened == []
            await asyncio.gather(*(client.schedule_new_orchestration("flow") for _ in range(20)))
            assert len(await client.get_all_orchestration_states()) == 20
            await client.close()

        asyncio.run(run())
        assert len(opened) == 1
        assert is_closed(opened[0])

    def test_an_async_client_in_several_loops(self, url: str, opened: list[Provider]) -> None:
        client = AsyncClient(url)
        asyncio.run(client.schedule_new_orchestration("flow", instance_id="a"))
        for _ in range(2):
            with pytest.raises(TimeoutError):
                asyncio.run(client.wait_for_orchestration_start("a", timeout=0.01))
        asyncio.run(client.close())
        assert len(opened) == 1

    def test_what_was_never_used_closes(self, url: str, opened: list[Provider]) -> None:
        client = AsyncClient(url)
        asyncio.run(client.close())
        assert opened == []

    def test_a_provider_that_can_not_be_used_is_closed(
        self, url: str, opened: list[Provider], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(provider: Provider, name: str | None) -> Any:
            raise ProviderUnavailable

        monkeypatch.setattr(connection, "_hub_of", fail)
        with pytest.raises(ProviderUnavailable):
            Client(url)
        with pytest.raises(ProviderUnavailable):
            asyncio.run(AsyncClient(url).__aenter__())
        assert [is_closed(provider) for provider in opened] == [True, True]

    def test_a_connecting_that_is_cancelled_leaves_nothing_open(
        self, url: str, opened: list[Provider], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, is_connecting = connection._hub_of, threading.Event()

        def slow(provider: Provider, name: str | None) -> Any:
            is_connecting.set()
            time.sleep(0.1)
            return real(provider, name)

        async def run() -> None:
            entering = asyncio.ensure_future(AsyncClient(url).__aenter__())
            await asyncio.to_thread(is_connecting.wait)
            entering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await entering

        monkeypatch.setattr(connection, "_hub_of", slow)
        asyncio.run(run())
        assert [is_closed(provider) for provider in opened] == [True]


class TestClosing:
    def test_twice(self, provider: Provider) -> None:
        client = Client(provider)
        client.close()
        client.close()

    def test_a_closed_client_says_so(self, provider: Provider) -> None:
        client = Client(provider)
        client.close()
        calls: list[Callable[[], Any]] = [
            lambda: client.schedule_new_orchestration("flow"),
            lambda: client.get_orchestration_state("a"),
            lambda: client.wait_for_orchestration_completion("a"),
            lambda: client.raise_orchestration_event("a", "go"),
            lambda: list(client.read_history("a")),
        ]
        for call in calls:
            with pytest.raises(Closed, match="this client was closed; make a new one"):
                call()

    def test_no_thread_stays(self, provider: Provider) -> None:
        before = set(threading.enumerate())
        with Client(provider) as client:
            client.schedule_new_orchestration("flow", instance_id="a")
            with pytest.raises(TimeoutError):
                client.wait_for_orchestration_completion("a", timeout=0.01)
        assert set(threading.enumerate()) <= before

    def test_a_closed_provider(self, provider: Provider) -> None:
        with Client(provider) as client:
            provider.close()
            with pytest.raises(Closed):
                client.get_orchestration_state("a")


class TestHubs:
    def test_hubs_are_apart_and_made_when_missing(self, provider: Provider) -> None:
        with Client(provider) as one, Client(provider, hub="other") as two:
            one.schedule_new_orchestration("flow", instance_id="a")
            assert two.get_orchestration_state("a") is None
        assert provider.list_hubs() == ["default", "other"]

    def test_the_urls_hub(self, url: str, opened: list[Provider]) -> None:
        with Client(f"{url}?op_hub=blue") as client:
            client.schedule_new_orchestration("flow")
            assert opened[0].list_hubs() == ["blue"]
        with Client(f"{url}?op_hub=blue", hub="green") as client:
            assert client.get_all_orchestration_states() == []
            assert "green" in opened[1].list_hubs()


def test_bad_providers(provider: Provider) -> None:
    bad: Any = 5
    with pytest.raises(TypeError, match="a URL or an opened Provider, not int"):
        Client(bad)
    with pytest.raises(TypeError):
        AsyncClient(None)  # type: ignore[arg-type]
    with pytest.raises(ProviderUnavailable):
        Client("nosuch://db")
    with pytest.raises(InvalidRequest):
        Client("no url")


def test_connecting_is_tried_again(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = provider.create_hub, []

    def create_hub(name: str) -> Any:
        tries.append(name)
        if len(tries) < 3:
            raise Transient
        return real(name)

    monkeypatch.setattr(provider, "create_hub", create_hub)
    with Client(provider) as client:
        assert client.get_orchestration_state("a") is None
    assert len(tries) == 3


def test_both_clients_have_the_same_methods() -> None:
    def surface(client: type) -> dict[str, inspect.Signature]:
        return {
            name: inspect.signature(method).replace(return_annotation=None)
            for name, method in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert surface(Client) == surface(AsyncClient)


def test_importing_the_client_is_light() -> None:
    code = (
        "import sys, perdure.client; "
        "print(*{'asyncio', 'sqlalchemy', 'importlib.metadata', 'pluggy'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""

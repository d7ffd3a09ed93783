from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import pluggy
import pytest
from tests.cli.conftest import Invoke

from perdure.errors import InstanceNotFound
from perdure.plugins import plugin_manager


class Greeting:
    @pluggy.HookimplMarker("perdure")
    def perdure_register_commands(self, subparsers: Any) -> None:
        parser = subparsers.add_parser("greet")
        parser.add_argument("name")
        parser.set_defaults(run=self.greet)

    def greet(self, arguments: argparse.Namespace) -> int:
        if arguments.name == "nobody":
            raise InstanceNotFound(arguments.name)
        print("hello", arguments.name)  # noqa: T201
        return 7


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    plugin = Greeting()
    plugin_manager().register(plugin, "greeting")
    yield
    plugin_manager().unregister(plugin)


def test_a_plugin_adds_commands(invoke: Invoke) -> None:
    assert invoke("greet", "Ada", code=7).stdout == "hello Ada\n"
    assert invoke("--provider", "memory://x", "--json", "greet", "Ada", code=7).stdout == "hello Ada\n"


def test_its_errors_are_reported_like_ours(invoke: Invoke) -> None:
    assert invoke("greet", "nobody", code=4).stderr.startswith("error: there is no orchestration instance 'nobody'")


def test_a_wrong_command_names_those_of_plugins_too(invoke: Invoke) -> None:
    assert "'greet'" in invoke("nonsense", code=2).stderr

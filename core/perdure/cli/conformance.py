"""`perdure conformance`: what a provider keeps of its promises. The suite itself is a package of its own."""

from __future__ import annotations

import argparse
import importlib

from perdure.cli.problems import UsageProblem

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Run the conformance suite, or prove it on its own broken providers.

    Raises:
        UsageProblem: the suite's dependencies are not installed, or there is nothing to be tested.
    """
    try:
        command = importlib.import_module("perdure_conformance.command")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("perdure"):
            raise
        raise UsageProblem(
            f'the conformance suite needs {error.name}; run: pip install "perdure[conformance]"'
        ) from error
    if arguments.self_test:
        return int(command.run_self_test(arguments))
    if arguments.url is None:
        raise UsageProblem("say which provider is under test: perdure conformance URL")
    return int(command.run_suite(arguments))

"""`perdure worker`: run what others start."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys

from perdure.cli import exit_codes
from perdure.cli.output import print_json, printable
from perdure.cli.problems import report
from perdure.cli.script import load_source, register
from perdure.cli.signals import STOP_SECONDS, StopSignal, leave
from perdure.cli.store import describe, open_provider
from perdure.errors import ProviderUnavailable
from perdure.plugins import find_provider
from perdure.worker import Worker

__all__ = ["work"]


def work(arguments: argparse.Namespace) -> int:
    """Run a worker until a signal stops it."""
    module = load_source(arguments.source)
    registry = register(module, arguments.source)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with StopSignal() as stop, open_provider(arguments, create=True) as provider:
        worker = Worker(
            provider,
            lease_seconds=arguments.lease_seconds,
            max_concurrent_activities=arguments.max_activities,
            max_concurrent_turns=arguments.max_turns,
        )
        worker.add_module(module)
        worker.start()
        orchestrators, activities = sorted(registry.orchestrators), sorted(registry.activities)
        if arguments.json:
            record = find_provider(provider.url.scheme)[1]
            print_json(
                {
                    "provider": {
                        "name": provider.name,
                        "distribution": record.distribution,
                        "version": record.version,
                        "url": str(provider.url),
                    },
                    "orchestrators": orchestrators,
                    "activities": activities,
                },
                pretty=False,
            )
        else:
            print(f"provider:      {describe(provider)}")
            print(f"orchestrators: {printable(', '.join(orchestrators) or 'none')}")
            print(f"activities:    {printable(', '.join(activities) or 'none')}")
            print("working; Ctrl-C stops")
        sys.stdout.flush()
        # What activities print is no output of this command.
        with contextlib.redirect_stdout(sys.stderr):
            alive = stop.wait(lambda: worker.is_running)
            if alive:
                print(f"stopping: what runs has {STOP_SECONDS:g} s to finish", file=sys.stderr)
            worker.stop(STOP_SECONDS)
        if not alive:
            return report(ProviderUnavailable("the worker has given up, since the store can't be used any more"))
        return leave(exit_codes.OK)

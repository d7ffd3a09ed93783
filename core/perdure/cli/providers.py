"""`perdure provider`: which providers are installed."""

from __future__ import annotations

import argparse

from perdure.cli import exit_codes
from perdure.cli.output import print_json, print_table
from perdure.plugins import available_providers

__all__ = ["list_providers"]


def list_providers(arguments: argparse.Namespace) -> int:
    """List all providers, broken ones with what is wrong with them."""
    records = available_providers()
    if arguments.json:
        print_json(
            [
                {
                    "scheme": record.scheme,
                    "distribution": record.distribution,
                    "version": record.version,
                    "error": record.error,
                }
                for record in records
            ]
        )
        return exit_codes.OK
    rows = [
        (f"{record.scheme}://", record.distribution or "-", record.version or "-", record.error or "ok")
        for record in records
    ]
    print_table(("URL", "DISTRIBUTION", "VERSION", "STATE"), rows)
    return exit_codes.OK

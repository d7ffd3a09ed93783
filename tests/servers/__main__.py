"""Run a Postgres to try things on: `python -m tests.servers [16]`. It prints its URL, and ends with Ctrl-C."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from tests.servers.postgres import PostgresServer


def main() -> None:
    """Run a server until somebody interrupts."""
    version = sys.argv[1] if len(sys.argv) > 1 else "16"
    with suppress(KeyboardInterrupt), PostgresServer(version) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()

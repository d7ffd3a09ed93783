"""Does a step cost more the longer the history is?

Runs one orchestration of many sequential activities and compares the time per step at its end with that at its start,
as medians, within one run:

    python benchmarks/sequential.py [--steps 2000] [--runs 3] [URL ...]
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import perdure

WINDOW = 10
"""The first and the last tenth of the steps are compared."""


def run(url: str, steps: int) -> list[float]:
    """Return the seconds from each step to the next."""
    moments: list[float] = []

    def step(context: perdure.ActivityContext, number: int) -> int:
        moments.append(time.perf_counter())
        return number

    def sequence(context: perdure.OrchestrationContext) -> Generator[perdure.Task[int], int, int]:
        total = 0
        for number in range(steps):
            total += yield context.call_activity(step, input=number)
            context.set_custom_status({"progress": (number + 1) / steps})
        return total

    with perdure.connect(url) as provider:
        worker = perdure.Worker(provider)
        worker.add_orchestrator(sequence)
        worker.add_activity(step)
        with worker, perdure.Client(provider) as client:
            instance_id = client.schedule_new_orchestration(sequence)
            state = client.wait_for_orchestration_completion(instance_id, timeout=600)
        state.raise_if_failed()
        result: Any = state.get_output()
    if result != steps * (steps - 1) // 2 or len(moments) != steps:
        raise SystemExit(f"wrong result {result!r} after {len(moments)} activities")
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time per sequential step at the end of a history against its start.")
    parser.add_argument("urls", nargs="*", metavar="URL", help="by default the memory provider and a SQLite file")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        urls = options.urls or ["memory://benchmark", f"sqlite:///{Path(folder)}/benchmark.db"]
        print(f"{options.steps} sequential activities, medians of {options.runs} runs, ms per step")
        print(f"{'provider':<12}{'first tenth':>14}{'last tenth':>14}{'last / first':>14}")
        for url in urls:
            first, last, ratios = [], [], []
            for _ in range(options.runs):
                spent = run(url, options.steps)
                tenth = len(spent) // WINDOW
                first.append(statistics.median(spent[:tenth]))
                last.append(statistics.median(spent[-tenth:]))
                ratios.append(last[-1] / first[-1])
            print(
                f"{url.partition(':')[0]:<12}{statistics.median(first) * 1000:>14.3f}"
                f"{statistics.median(last) * 1000:>14.3f}{statistics.median(ratios):>14.2f}"
            )


if __name__ == "__main__":
    main()

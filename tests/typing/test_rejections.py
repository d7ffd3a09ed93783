"""What the types of the public API must not let through: mypy rejects the marked lines of rejected.txt."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
REJECTED = Path(__file__).with_name("rejected.txt")

_MARK = re.compile(r"# E: ([a-z-]+)$")
_ERROR = re.compile(r"rejected\.py:(\d+): error: .*\[([a-z-]+)\]$")


def test_mypy_rejects_the_marked_lines_and_no_others(tmp_path: Path) -> None:
    source = REJECTED.read_text("utf-8")
    (tmp_path / "rejected.py").write_text(source, "utf-8")
    expected = {(number, mark[1]) for number, line in enumerate(source.splitlines(), 1) if (mark := _MARK.search(line))}
    assert len(expected) == source.count("# E: ") - 1, "a mark is malformed"  # the head names one

    # With a cache of its own: another run may be writing that of the project.
    command = [sys.executable, "-m", "mypy", "--no-pretty", "--no-color-output", "--hide-error-context"]
    command += ["--cache-dir", str(tmp_path / "cache"), str(tmp_path / "rejected.py")]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (finished.returncode, finished.stderr) == (1, "")
    errors = [line for line in finished.stdout.splitlines() if ": error: " in line]
    matches = [_ERROR.search(error) for error in errors]
    assert None not in matches, errors
    assert {(int(match[1]), match[2]) for match in matches if match} == expected, finished.stdout

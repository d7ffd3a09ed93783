"""What the pages say of the suite."""

from __future__ import annotations

import re
from pathlib import Path

from perdure_conformance.adapter import Adapter
from perdure_conformance.invariants import INVARIANTS
from perdure_conformance.suite import canonical_cases

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/conformance.md").read_text()
CHANGES = (ROOT / "conformance/perdure_conformance/CHANGELOG.md").read_text()


def test_the_page_lists_the_invariants_as_reports_cite_them() -> None:
    for name, text in INVARIANTS.items():
        assert f"| {name} | {text} |" in PAGE


def test_the_page_names_every_hook() -> None:
    for hook in Adapter.HOOKS:
        assert f"| `{hook}(" in PAGE


def test_the_readme_counts_the_cases() -> None:
    (count,) = re.findall(r"It runs (\d+) cases", (ROOT / "README.md").read_text())
    assert int(count) == len(canonical_cases())


def test_every_case_that_the_changelog_says_there_is_is_there() -> None:
    added = CHANGES.partition("Cases beyond the plan:")[2]
    for area, first, last in re.findall(r"([A-Z]{3})-(\d\d)(?: to (\d\d))?", added):
        for number in range(int(first), int(last or first) + 1):
            assert f"{area}-{number:02}" in canonical_cases()

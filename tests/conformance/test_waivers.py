"""Waivers: a case may fail for a while, with a reason, and everybody sees it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.conftest import KEEP_REPORTS, SMALL, Project

from perdure_conformance.waivers import WaiverProblem, read_waivers

TODAY = datetime.datetime.now(datetime.UTC).date()
TOMORROW = TODAY + datetime.timedelta(days=1)
YESTERDAY = TODAY - datetime.timedelta(days=1)


def waiver(case: str, expires: datetime.date = TOMORROW) -> str:
    return f'[[waiver]]\ncase = "{case}"\nreason = "slow disk"\nissue = "#12"\nexpires = {expires}\n'


def test_a_waiver_lets_a_case_fail_and_nothing_else(project: Project, tmp_path: Path) -> None:
    project.write(
        conftest=SMALL + KEEP_REPORTS,
        test_p="""
from perdure_conformance import Adapter, ProviderConformance
from tests.conformance.broken import BrokenAdapter
class TestGood(ProviderConformance): adapter = Adapter("memory://good")
class TestBad(ProviderConformance): adapter = BrokenAdapter("broken://odd")
""",
    )
    waivers = waiver("LIF-01", TODAY) + waiver("SML-02[a]") + waiver("SML-06") + waiver("SML-03", YESTERDAY)
    (tmp_path / "waivers.toml").write_text(waivers)
    project.pytest("-q", "--provider-waivers", "waivers.toml", code=1)
    reports = project.reports()
    outcomes = {name: {case["id"]: case["outcome"] for case in report["cases"]} for name, report in reports.items()}
    assert outcomes["TestBad"] == {
        "LIF-01": "waived",
        "SML-02": "fail",
        "SML-03": "fail",
        "SML-04": "not-run",
        "SML-05": "fail",
        "SML-06": "waived",
    }
    assert outcomes["TestGood"]["LIF-01"] == "fail"
    assert outcomes["TestGood"]["SML-03"] == "pass"

    def results(name: str, case: str) -> list[Any]:
        (found,) = [entry["results"] for entry in reports[name]["cases"] if entry["id"] == case]
        return list(found)

    assert [result["outcome"] for result in results("TestBad", "SML-02")] == ["waived", "fail"]
    assert results("TestBad", "LIF-01")[0]["detail"] == f"slow disk (#12, until {TODAY})"
    assert results("TestBad", "SML-03")[0]["detail"] == f"its waiver expired on {YESTERDAY}"
    assert results("TestGood", "LIF-01")[0]["came"] == "it passes: take the waiver out"
    assert [waiver["case"] for waiver in reports["TestBad"]["waivers"]] == ["LIF-01", "SML-02[a]", "SML-06", "SML-03"]
    assert not reports["TestBad"]["conformant"]


def test_a_whole_case_is_waived_where_all_its_variants_fail(project: Project, tmp_path: Path) -> None:
    project.write(
        conftest=SMALL + KEEP_REPORTS,
        test_p="""
from perdure_conformance import Adapter, ProviderConformance
class TestGood(ProviderConformance): adapter = Adapter("memory://good")
""",
    )
    (tmp_path / "waivers.toml").write_text(waiver("SML-02"))
    done = project.pytest("-q", "--provider-waivers", "waivers.toml", code=1)
    assert "SML-02 is waived (#12), but it passes: waive only those variants that fail, as SML-02[name]" in done.stdout


def test_pytest_stays_green_and_the_verdict_does_not(project: Project, tmp_path: Path) -> None:
    project.install_broken()
    (tmp_path / "waivers.toml").write_text(waiver("LIF-01"))
    chosen = ("--provider-waivers", "waivers.toml", "-k", "LIF-01", "--provider-report", "report.json")
    done = project.pytest("--pyargs", "perdure_conformance", "--provider-url", "broken://odd", *chosen)
    assert "1 xfailed" in done.stdout
    assert "\nnot conformant\n" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["levels"][0]["waived"] == 1
    assert not report["levels"][0]["granted"]
    command = project.perdure("conformance", "broken://odd", "-k", "LIF-01", "--waivers", "waivers.toml", code=1)
    assert f"waived, slow disk (#12, until {TOMORROW}): LIF-01" in command.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[waiver]", "can't be read"),
        (waiver("XYZ-01"), "there is no case 'XYZ-01'"),
        (waiver("LIF-01") * 2, "LIF-01 is waived twice"),
        ('waiver = "LIF-01"', "tables"),
        ("[waivers]", "tables"),
        ('[[waiver]]\ncase = "LIF-01"', "exactly: case, reason, issue, expires"),
        (waiver("LIF-01") + "forever = true", "exactly: case, reason, issue, expires"),
        (waiver("LIF-01").replace("slow disk", " "), "reason is a text that says something"),
        (waiver("LIF-01").replace('"#12"', "12"), "issue is a text that says something"),
        (waiver("LIF-01").replace(str(TOMORROW), f'"{TOMORROW}"'), "a date without quotes"),
        (waiver("LIF-01").replace(str(TOMORROW), f"{TOMORROW}T00:00:00"), "a date without quotes"),
    ],
)
def test_a_waiver_is_complete(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "waivers.toml"
    path.write_text(text)
    with pytest.raises(WaiverProblem, match=message):
        read_waivers(path, {"LIF-01"})


def test_a_file_of_none() -> None:
    with pytest.raises(WaiverProblem, match="can't be read"):
        read_waivers(Path("/no/such/file"), set())

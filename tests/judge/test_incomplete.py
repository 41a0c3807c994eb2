"""What is missing of what was asked for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import harness.report.page as page
from harness.judge.comparison import compare
from harness.judge.incomplete import incomplete
from harness.records.run import RunResult
from harness.records.stored import write_json
from tests.cli import harness
from tests.invented import campaign


def test_a_whole_comparison_lacks_nothing(invented_runs: list[RunResult]) -> None:
    named = replace(campaign(), named=("alpha", "beta"))
    assert incomplete(compare(invented_runs, named)) is None


def test_who_was_named_is_missed_and_who_was_not_is_not(invented_runs: list[RunResult]) -> None:
    skipped = campaign(["alpha", "beta", "gamma"], {"gamma": "no GPU"})
    assert incomplete(compare(invented_runs, skipped)) is None
    named = replace(skipped, named=("alpha", "beta", "gamma"))
    assert incomplete(compare(invented_runs, named)) == "Not complete: gamma was not measured."


def test_one_that_died_after_its_first_run_is_missed_named_or_not(invented_runs: list[RunResult]) -> None:
    first = [run for run in invented_runs if run.manifest.candidate.name == "alpha"][:1]
    assert incomplete(compare(first, campaign(["alpha"]))) == "Not complete: Alpha has 1 of 9 runs."


@pytest.mark.parametrize("named", [(), ("alpha", "beta", "gamma")])
def test_report_ends_as_compare_did(folder: Path, monkeypatch: pytest.MonkeyPatch, named: tuple[str, ...]) -> None:
    monkeypatch.setattr(page, "write_charts", lambda *_: {})
    monkeypatch.setattr(page, "inline_svg", lambda *_: "")
    asked = campaign(["alpha", "beta", "gamma"], {"gamma": "no GPU"})
    write_json(folder / "campaign.json", replace(asked, named=named))
    assert harness("report", folder).returncode == bool(named)
    shutil.rmtree(folder / "runs" / "beta" / "c4" / "round-3")
    done = harness("report", folder)
    assert done.returncode == 1 and "Beta has 8 of 9 runs" in done.stdout

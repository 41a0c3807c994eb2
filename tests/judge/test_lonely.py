"""Nothing to compare with: said first, with what would give a second candidate."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from harness.judge.comparison import Comparison, compare
from harness.judge.lonely import lonely
from harness.records.run import RunResult
from harness.report.page import write_report
from harness.report.table import markdown
from harness.report.terminal import rich_table
from tests.invented import ALPHA, BETA, FOUR, campaign, write_comparison
from tests.invented_runs import Run

SKIPPED = {"beta": "out of memory: " + "a long story " * 40 + "the end", "gamma": "no GPU."}


def alone(run: Run, skipped: dict[str, str] | None = None) -> Comparison:
    return compare([run()], campaign(["alpha", *(skipped or {})], skipped))


def test_two_candidates_are_company(invented_runs: list[RunResult]) -> None:
    assert lonely(compare(invented_runs, campaign())) is None


def test_the_reasons_of_the_others_say_what_is_missing(run: Run) -> None:
    said = lonely(alone(run, SKIPPED))
    assert said is not None and "\n" not in said
    assert said.startswith("Nothing to compare with: only Alpha was measured.")
    assert "measured. To get a second one, fix this first: beta: out" in said
    assert said.endswith("; gamma: no GPU.") and "the end" not in said and len(said) < 400


def test_a_single_candidate_by_request(run: Run) -> None:
    assert "Name a second candidate" in str(lonely(alone(run)))


def test_a_null_engine_is_no_company(run: Run) -> None:
    runs = [run(), run(BETA, candidate__null=True)]
    assert "only Alpha was measured" in str(lonely(compare(runs, campaign())))
    assert "no engine was measured" in str(lonely(compare(runs[1:], campaign(["beta"]))))


def test_two_that_never_met(run: Run) -> None:
    runs = [run(), run(BETA, FOUR)]
    assert "Alpha and Beta were not measured at the same load" in str(lonely(compare(runs, campaign())))
    apart = [run(), run(BETA, machine__id="box-2")]
    assert lonely(compare(apart, campaign(), allow_machine=True)) is not None
    assert lonely(compare([run(), run(BETA)], campaign())) is None


@pytest.mark.slow
def test_it_stands_above_everything_else(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "made", [ALPHA], rounds=1, skipped={"gamma": "no GPU"})
    comparison = write_report(folder)
    said = "Nothing to compare with: only Alpha was measured."
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(rich_table(comparison))
    assert capture.get().startswith(said)
    text = markdown(comparison)
    assert text.index(said) < text.index("- Model")
    page = (folder / "report.html").read_text()
    assert page.index(said) < page.index("<li>Model")
    assert said in (folder / "charts" / "throughput.svg").read_text()

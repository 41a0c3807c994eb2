"""An engine whose figures say nothing of its speed has its own row, and no rank unless it was named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.judge.comparison import Comparison, compare
from harness.judge.incomplete import incomplete
from harness.judge.lonely import lonely
from harness.judge.ranking import rankings
from harness.records.run import RunResult
from harness.report.charts.charts import draw
from harness.report.rows import rows
from harness.report.table import markdown
from tests.invented import ALPHA, BETA, ONE, campaign
from tests.invented_runs import Run

GAMMA = replace(BETA, name="gamma", title="Gamma")
WHY = "it runs on PyTorch's kernels in place of its own"


@pytest.fixture
def runs(run: Run) -> list[RunResult]:
    """Gamma is first in the order and twice as fast as Alpha, on stand-ins, in one round."""
    of_alpha = [run(ALPHA, round_index=r) for r in (1, 2, 3)]
    of_beta = [run(replace(BETA, ttft_ms=90.0, tpot_ms=18.0), round_index=r) for r in (1, 2, 3)]
    return [*of_alpha, *of_beta, run(GAMMA, endpoint__no_speed=WHY)]


def judged(runs: list[RunResult], *named: str) -> Comparison:
    asked = replace(campaign(("gamma", "alpha", "beta")), loads=(ONE.name,), named=named)
    return compare(runs, asked)


def test_its_row_says_so_and_nobody_is_compared_with_it(runs: list[RunResult]) -> None:
    found = judged(runs)
    assert {(pair.candidate, pair.against) for pair in found.pairs} == {("beta", "alpha")}
    assert found.reference == "alpha"
    assert all("gamma" not in ranking.candidates for ranking in rankings(found, "c1", "tpot_p50"))
    (row,) = [row for row in rows(found, found.loads[0]) if row.candidate == "gamma"]
    assert (row.state, row.note) == ("not ranked", "says nothing of its speed")
    assert row.values[0].text != "–" and not any(value.mark for value in row.values)
    assert "not ranked: says nothing of its speed" in markdown(found)
    cell = found.cell("gamma", "c1")
    assert cell is not None
    (check,) = [check for check in cell.checks if check.code == "OWN_KERNELS"]
    assert check.verdict == "note" == cell.verdict and WHY in check.message
    told = " ".join(answer.text for answer in found.answers)
    assert f"Gamma's numbers say nothing of its speed: {WHY}." in told and "Gamma is" not in told
    assert incomplete(found) is None


def test_no_chart_shows_its_speed(runs: list[RunResult]) -> None:
    figure = draw("throughput", judged(runs), runs)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "Alpha" in legend and "Gamma" not in legend
    assert any("gamma (measured, and not drawn" in text.get_text() for text in figure.texts)


def test_named_it_is_ranked_with_a_doubt_at_its_numbers(runs: list[RunResult]) -> None:
    found = judged(runs, "gamma", "alpha", "beta")
    assert {pair.candidate for pair in found.pairs} | {pair.against for pair in found.pairs} == {
        "alpha",
        "beta",
        "gamma",
    }
    cell = found.cell("gamma", "c1")
    assert cell is not None and cell.verdict == "doubt"
    assert {check.code for check in cell.checks if check.verdict == "doubt"} == {"DRIFT", "OWN_KERNELS"}  # one round
    assert "Gamma has 1 of 3 runs" in str(incomplete(found))


def test_beside_it_one_candidate_is_alone(runs: list[RunResult]) -> None:
    assert "only Alpha was measured" in str(
        lonely(judged([one for one in runs if one.manifest.candidate.name != "beta"]))
    )
    only = judged([one for one in runs if one.manifest.candidate.name == "gamma"])
    assert "the speed of Gamma says nothing" in str(lonely(only))
    assert draw("throughput", only, runs).legends

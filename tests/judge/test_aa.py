"""A candidate against itself: who counts as the same, what is false, and how noisy the machine is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.judge.aa import AATest
from harness.judge.comparison import compare
from harness.records.run import RunResult
from tests.invented import ALPHA, ONE, campaign, records
from tests.invented_runs import Run

AGAIN = replace(ALPHA, name="alpha-again", title="Alpha again", engine="alpha")


def twice(run: Run, factors: tuple[float, ...], **changes: object) -> list[RunResult]:
    """Alpha, and the same again with its times multiplied by these factors."""
    runs = [run(round_index=r, rows=records(ALPHA, ONE)) for r in range(1, len(factors) + 1)]
    return runs + [
        run(AGAIN, round_index=r, rows=records(ALPHA, ONE, factor), **changes) for r, factor in enumerate(factors, 1)
    ]


def aa(runs: list[RunResult]) -> tuple[AATest, ...]:
    return compare(runs, campaign(["alpha", "alpha-again"])).aa


def test_what_is_the_same(run: Run) -> None:
    (found,) = aa(twice(run, (1.0, 1.0, 1.0)))
    assert found.candidates == ("alpha", "alpha-again")
    assert (found.questions, found.false_verdicts, found.equal) == (4, 0, 4)  # no p99 of 12 requests, no goodput


@pytest.mark.parametrize(
    "change", [{"candidate__given": {"args": ["--x"]}}, {"candidate__engine": "other"}, {"candidate__null": True}]
)
def test_what_is_not(run: Run, change: dict[str, object]) -> None:
    assert aa(twice(run, (1.0, 1.0, 1.0), **change)) == ()


def test_a_difference_that_is_called_is_a_false_verdict(run: Run) -> None:
    (found,) = aa(twice(run, (1.5, 1.51, 1.49)))
    assert found.false_verdicts == found.questions == 4


def test_the_noise_floor(run: Run) -> None:
    (found,) = aa(twice(run, (1.0, 1.1, 1.21)))
    (ttft,) = [one for one in found.noise if one.question == "ttft_p50"]
    assert ttft.pairs == 1 and [ttft.difference, ttft.largest_difference] == pytest.approx([0.1, 0.1])
    # log(1.1) / sqrt(3) times t of 2 degrees of freedom, as a factor
    assert ttft.half_width == pytest.approx(1.1 ** (4.302653 / 3**0.5) - 1, rel=1e-3)

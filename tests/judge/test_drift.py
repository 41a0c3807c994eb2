"""DRIFT: how often steady rounds are doubted, and how often a drift is seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from harness.judge.checks.drift import DRIFT_LEAST, DRIFT_P, line, prior_variance
from harness.records.latencies import Floats
from harness.records.run import RunResult
from tests.invented import ALPHA, BETA, records
from tests.invented_runs import Run
from tests.judge.checking import check
from tests.loads import load

ROUNDS, CELLS, TRIES = 5, 8, 400
LONG = load(200, 1)


def share_doubted(
    sd: float, drift: float = 0.0, spread: float = 0.0, rounds: int = ROUNDS, cells: int = CELLS
) -> float:
    """The share of simulated cells that are doubted. `sd`: of the log throughput from round to round; `drift`: from the
    first round to the last; `spread`: standard deviation of the logarithm of `sd` over cells; the place in the round is
    drawn."""
    draw = np.random.default_rng(7)
    doubted = 0
    for _ in range(TRIES):
        logs = draw.normal(0.0, 1.0, (cells, ROUNDS)) * (sd * draw.lognormal(0.0, spread, (cells, 1)))
        logs[0] += math.log1p(drift) * np.arange(ROUNDS) / (ROUNDS - 1)
        prior = prior_variance(list(logs[1:]))
        place = draw.permutation(np.arange(ROUNDS) % 2).astype(np.float64)
        tests = line(np.arange(ROUNDS, dtype=np.float64), logs[0], prior), line(place, logs[0], prior)
        doubted += any(one.p < DRIFT_P and abs(one.effect) >= DRIFT_LEAST for one in tests)
    return doubted / TRIES


@pytest.mark.parametrize(("sd", "spread"), [(0.02, 0.0), (0.08, 0.0), (0.02, 0.5), (0.08, 0.5)])
def test_steady_rounds_are_seldom_doubted(sd: float, spread: float) -> None:
    assert share_doubted(sd, spread=spread) <= 0.03


def test_a_cell_alone_is_seldom_doubted() -> None:
    assert share_doubted(0.08, cells=1) <= 0.03


@pytest.mark.parametrize(("drift", "seen"), [(0.10, 0.5), (-0.10, 0.5), (0.20, 0.95)])
def test_a_real_drift_is_seen(drift: float, seen: float) -> None:
    assert share_doubted(0.02, drift) >= seen


def rounds_of(run: Run, factor: Callable[[int], float], rounds: int = ROUNDS) -> list[RunResult]:
    return [run(round_index=r, load=LONG, rows=records(ALPHA, LONG, factor(r))) for r in range(1, rounds + 1)]


def wobble(r: int) -> float:
    return 1.01 if r % 2 else 0.99


def test_a_rise_from_round_to_round(run: Run) -> None:
    found = check(rounds_of(run, lambda r: wobble(r) / 1.05**r), "DRIFT")
    assert found.verdict == "doubt" and "rises by 2" in found.message
    assert found.numbers["slope"] == pytest.approx(1.05**4 - 1, rel=0.05)


def test_noise_without_a_trend(run: Run) -> None:
    assert check(rounds_of(run, wobble), "DRIFT").verdict == "ok"
    wide = [1.0, 1.3, 0.9, 1.25, 1.0]  # 37 % between the least and the most, and no trend
    assert check(rounds_of(run, lambda r: wide[r - 1]), "DRIFT").verdict == "ok"


def test_a_small_trend_is_not_worth_a_doubt(run: Run) -> None:
    found = check(rounds_of(run, lambda r: 1 / 1.01**r), "DRIFT")
    assert found.verdict == "ok" and found.numbers["slope_p"] < DRIFT_P


def test_the_order_within_the_round(run: Run) -> None:
    runs = []
    for r in range(1, 7):
        first = r in (1, 4, 5)
        mine, other = ("00", "10") if first else ("10", "00")
        rows = records(ALPHA, LONG, wobble(r) * (1.0 if first else 1.2))
        runs.append(run(load=LONG, round_index=r, rows=rows, started_at=f"2026-09-01T0{r}:{mine}:00Z"))
        runs.append(run(BETA, LONG, r, records(BETA, LONG, wobble(r)), started_at=f"2026-09-01T0{r}:{other}:00Z"))
    found = check(runs, "DRIFT")
    assert found.verdict == "doubt" and "slower when it runs last in a round" in found.message
    assert found.numbers["order"] == pytest.approx(1 / 1.2 - 1, rel=0.1)
    assert check(runs, "DRIFT", "beta").verdict == "ok"


@pytest.mark.parametrize(("rounds", "verdict"), [(1, "doubt"), (2, "note"), (3, "ok")])
def test_few_rounds(run: Run, rounds: int, verdict: str) -> None:
    assert check(rounds_of(run, wobble, rounds), "DRIFT").verdict == verdict


def test_a_line_through_a_single_place_has_no_slope() -> None:
    logs: Floats = np.array([0.0, 0.1, 0.2])
    assert line(np.ones(3), logs).p == 1.0
    assert line(np.arange(3.0), np.zeros(3)).p == 1.0
    assert line(np.arange(2.0), np.array([0.0, 1.0])).p == 1.0

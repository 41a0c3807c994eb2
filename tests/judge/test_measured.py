"""The numbers of cells: what is pooled, and who learns the spread from whom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.judge.measured import Measured, estimates_of, measured
from harness.judge.percentiles import POOLED
from harness.records.metrics import METRICS
from tests.invented import ALPHA, ONE, records
from tests.invented_runs import Run

NOISY = (1.0, 1.2, 0.9, 1.1, 0.8)


def cell(factors: tuple[float, ...], null: bool = False, metric: str = "ttft_p50") -> Measured:
    """A cell that has one metric, with these values."""
    per_round = {one.key: (None,) * len(factors) for one in METRICS}
    rounds = tuple(range(1, len(factors) + 1))
    return Measured(rounds=rounds, per_round={**per_round, metric: factors}, pooled={}, samples={}, null=null)


def test_a_null_engine_tells_nothing_about_the_spread_of_engines() -> None:
    clock = tuple(1 + factor * 1e-4 for factor in NOISY)
    engines = {("alpha", f"c{i}"): cell(NOISY[i:] + NOISY[:i]) for i in range(4)}
    alone = estimates_of(engines)["alpha", "c0"]["ttft_p50"]
    clocks = {("null", f"c{i}"): cell(clock, null=True) for i in range(4)}
    assert estimates_of({**engines, **clocks})["alpha", "c0"]["ttft_p50"] == alone


def test_another_metric_tells_nothing_about_the_level() -> None:
    engines = {("alpha", f"c{i}"): cell(NOISY[i:] + NOISY[:i]) for i in range(4)}
    calm = {("beta", f"c{i}"): cell((1.0, 1.002, 0.999, 1.001, 0.998), metric="tpot_p50") for i in range(4)}
    alone = estimates_of(engines)["alpha", "c0"]["ttft_p50"]
    beside = estimates_of({**engines, **calm})["alpha", "c0"]["ttft_p50"]
    assert alone.high is not None and beside.high == pytest.approx(alone.high, rel=0.02)


def test_high_percentiles_are_those_of_all_rounds_together(run: Run) -> None:
    rows = [
        replace(row, index=i) for i, row in enumerate(row for _ in range(92) for row in records(ALPHA, ONE))
    ]  # 368 requests
    found = measured([run(rows=rows, schedule__requests=368), run(round_index=2, rows=records(ALPHA, ONE, 3.0))])
    whole = np.concatenate(found.samples["ttft_p99"])
    assert found.pooled["ttft_p99"].value == pytest.approx(np.percentile(whole, 99))
    estimate = estimates_of({("alpha", "c1"): found})["alpha", "c1"]["ttft_p99"]
    assert estimate.mean == found.pooled["ttft_p99"].value and len(estimate.per_round) == 2
    assert found.pooled.keys() == POOLED.keys()


def test_no_interval_of_a_share_ends_above_all() -> None:
    share = (1.0, 0.9, 1.0, 0.95, 1.0)
    found = estimates_of({("alpha", "c4"): cell(share, metric="goodput_fraction")})["alpha", "c4"]["goodput_fraction"]
    assert found.high == 1.0
    assert found.low is not None and found.mean is not None and 0.8 < found.low < found.mean
    free = estimates_of({("alpha", "c4"): cell(share)})["alpha", "c4"]["ttft_p50"]
    assert free.high is not None and free.high > 1.0  # a latency has no largest value

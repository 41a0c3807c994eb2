"""Percentiles over pooled requests: what they need, and what their intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.judge.percentiles import POOLED, least_values, log_ratio, pooled_percentile


@pytest.mark.parametrize(("q", "need"), [(90, 36), (95, 72), (99, 368)])
def test_how_many_values_a_percentile_needs(q: int, need: int) -> None:
    assert least_values(q) == need
    assert (q / 100) ** need <= 0.025 < (q / 100) ** (need - 1)
    values = np.arange(need, dtype=np.float64)
    assert pooled_percentile([values[: need - 1]], q).reason == f"p{q} needs {need} requests, and there are {need - 1}"
    assert pooled_percentile([values[: need - 1]], q).value is None
    assert pooled_percentile([values[:20], values[20:]], q).value == pytest.approx(np.percentile(values, q))


def test_which_percentiles_are_pooled() -> None:
    assert {"ttft_p99", "tpot_p95", "itl_p99", "e2e_p90"} <= POOLED.keys()
    assert not {"ttft_p50", "dispatch_delay_p99", "client_lag_p99"} & POOLED.keys()


def test_one_round_has_no_interval() -> None:
    found = pooled_percentile([np.arange(400.0)], 99)
    assert found.value is not None and (found.low, found.high) == (None, None)


def test_rounds_that_agree_give_the_binomial_interval() -> None:
    each = np.arange(1000.0)
    found = pooled_percentile([each] * 5, 90)
    # Clopper-Pearson for 4,500 of 5,000: 0.8913 to 0.9082
    assert found.low == pytest.approx(891, abs=2) and found.high == pytest.approx(908, abs=2)


def test_a_round_apart_widens_the_interval() -> None:
    each = np.arange(1000.0)
    same = pooled_percentile([each] * 5, 90)
    apart = pooled_percentile([each] * 4 + [each * 1.5], 90)
    assert same.low and same.high and apart.low and apart.high
    assert apart.high - apart.low > 5 * (same.high - same.low)


def test_constant_values_have_a_constant_percentile() -> None:
    found = pooled_percentile([np.full(200, 0.05)] * 3, 99)
    assert (found.value, found.low, found.high) == (0.05, 0.05, 0.05)


def test_a_ratio_takes_out_what_the_rounds_share() -> None:
    each = np.arange(1.0, 201.0)
    rounds = [each, each * 10, each * 3]
    mean, variance = log_ratio([2 * one for one in rounds], rounds, 99)
    assert mean == pytest.approx(math.log(2)) and variance == pytest.approx(0.0, abs=1e-12)


def test_the_variance_of_a_ratio_is_no_less_than_that_of_its_rounds() -> None:
    each = np.arange(1.0, 201.0)
    factors = (1.0, 1.2, 0.9)
    _, variance = log_ratio([each * f for f in factors], [each] * 3, 99)
    assert variance >= np.var(np.log(factors), ddof=1) - 1e-12

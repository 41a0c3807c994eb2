"""Estimates of a cell against a t table."""

from __future__ import annotations

import math

import pytest

from harness.judge.stats import estimate, estimates

T2 = 4.302653  # t(0.975) with two degrees of freedom


def test_the_interval_of_a_positive_metric_is_multiplicative() -> None:
    found = estimate([math.exp(1.0), math.exp(2.0), math.exp(3.0)])  # s of the logs = 1
    half = T2 / math.sqrt(3)
    assert found.mean == pytest.approx(math.exp(2.0))
    assert (found.low, found.high) == pytest.approx((math.exp(2 - half), math.exp(2 + half)), rel=1e-6)


def test_a_rate_never_has_an_end_below_zero() -> None:
    found = estimate([100.0, 640.0, 1500.0])  # mean 747 +-1,758 as a plain t interval
    assert found.low is not None and found.low > 0


def test_a_metric_that_can_be_zero_has_an_arithmetic_mean() -> None:
    found = estimate([0.0, 0.1, 0.2])
    assert found.mean == pytest.approx(0.1)
    assert found.low == 0.0  # no negative share of failed requests
    assert found.high == pytest.approx(0.1 + T2 * 0.1 / math.sqrt(3), rel=1e-6)
    below = estimate([-1.0, 0.0, 1.0])  # what can be negative may have a negative end
    assert below.low == pytest.approx(-T2 / math.sqrt(3), rel=1e-6)


def test_one_round_has_no_bounds() -> None:
    found = estimate([5.0])
    assert found.mean == pytest.approx(5.0) and (found.low, found.high) == (None, None)


def test_a_round_without_a_value_is_kept_as_null_and_left_out_of_the_mean() -> None:
    found = estimate([4.0, None, 9.0])
    assert found.mean == pytest.approx(6.0)
    assert found.per_round == (4.0, None, 9.0)
    assert estimate([None, None]).mean is None


def test_cells_of_a_metric_learn_the_spread_from_each_other() -> None:
    calm = {i: (0, [100.0, 101.0 + 0.1 * i, 99.0]) for i in range(8)}
    lucky = [100.0, 100.0001, 100.0]  # as if this cell had no noise at all
    together = estimates({**calm, "lucky": (0, lucky)})["lucky"]
    alone = estimate(lucky)
    assert together.high is not None and alone.high is not None
    assert together.high - 100 > 10 * (alone.high - 100)
    apart = estimates({**calm, "lucky": (1, lucky)})["lucky"]  # another metric: it tells nothing
    assert apart.high == pytest.approx(alone.high)


def test_an_interval_that_ends_beyond_a_float_is_still_a_number() -> None:
    found = estimates({"a": (0, (1e-150, 1e150))})["a"]
    assert found.mean == pytest.approx(1.0) and found.low is not None and found.high is not None
    assert 0 < found.low < 1e-300 and 1e300 < found.high < float("inf")

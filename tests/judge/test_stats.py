"""Intervals against a t table."""

from __future__ import annotations

import math

import pytest

from harness.judge.stats import RatioInterval, estimate, paired_ratio, separation

T2 = 4.302653  # t(0.975) with two degrees of freedom


def test_interval_of_three_rounds() -> None:
    found = estimate([9.0, 10.0, 11.0])  # s = 1
    assert found.mean == 10.0
    assert found.low == pytest.approx(10 - T2 / math.sqrt(3), rel=1e-6)
    assert found.high == pytest.approx(10 + T2 / math.sqrt(3), rel=1e-6)


def test_one_round_has_no_bounds() -> None:
    found = estimate([5.0])
    assert (found.mean, found.low, found.high) == (5.0, None, None)


def test_a_round_without_a_value_is_kept_as_null_and_left_out_of_the_mean() -> None:
    found = estimate([4.0, None, 6.0])
    assert found.mean == 5.0
    assert found.per_round == (4.0, None, 6.0)
    assert estimate([None, None]).mean is None


def test_paired_ratio_takes_out_what_the_rounds_share() -> None:
    # Rounds differ tenfold, the ratio never: unpaired, this would say nothing.
    found = paired_ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert (found.ratio, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_log_ratio_interval_by_hand() -> None:
    found = paired_ratio([math.exp(0.1), math.exp(0.2), math.exp(0.3)], [1.0, 1.0, 1.0])
    half = T2 * 0.1 / math.sqrt(3)
    assert found.ratio == pytest.approx(math.exp(0.2))
    assert found.low == pytest.approx(math.exp(0.2 - half), rel=1e-6)
    assert found.high == pytest.approx(math.exp(0.2 + half), rel=1e-6)


def test_pairs_with_a_missing_or_zero_value_are_left_out() -> None:
    found = paired_ratio([2.0, None, 0.0], [1.0, 1.0, 1.0])
    assert (found.low, found.high, found.rounds) == (None, None, 1)
    assert found.ratio == pytest.approx(2.0)
    assert paired_ratio([None], [1.0]) == RatioInterval(None, None, None, 0)


def test_rounds_must_be_paired() -> None:
    with pytest.raises(ValueError, match="2 against 1"):
        paired_ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("low", "high", "larger_is_better", "said"),
    [
        (1.1, 1.3, True, "better"),
        (1.1, 1.3, False, "worse"),
        (0.7, 0.9, True, "worse"),
        (0.7, 0.9, False, "better"),
        (0.9, 1.1, True, "not separable"),
        (1.0, 1.2, True, "not separable"),
        (None, None, True, "unknown"),
    ],
)
def test_what_an_interval_says(low: float, high: float, larger_is_better: bool, said: str) -> None:
    assert separation(RatioInterval(1.0, low, high, 3), larger_is_better) == said

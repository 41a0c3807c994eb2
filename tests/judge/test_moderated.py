"""Moderated variances, and p-values against numbers made by hand or by another program."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma

from harness.judge.moderated import Moderated, adjusted, half_widths, moderate, p_different, p_equal

ALIKE = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.2, 0.85, 1.0, 0.97]


def test_alike_cells_share_up_to_the_cap() -> None:
    found = moderate(ALIKE, 4, [0] * 10)
    assert found.df == pytest.approx([8.0] * 10)
    # Half way between the cell's own and the common one. The latter is above the cells' mean of 1.0: a sample variance
    # of 4 degrees of freedom lies below the true one in most cases, by a factor of exp(psi(2)) / 2 in the mean of logs.
    common = math.exp(float(np.mean(np.log(ALIKE)))) * 2 / math.exp(digamma(2))
    assert found.variance[6] == pytest.approx((1.2 + common) / 2, rel=1e-3)


def test_the_others_add_no_more_than_four_degrees_of_freedom() -> None:
    assert moderate(ALIKE, 19, [0] * 10).df == pytest.approx([23.0] * 10)  # 20 rounds: 19 + 4


def test_the_prior_has_no_more_weight_than_the_cell_itself() -> None:
    assert moderate(ALIKE, 2, [0] * 10).df == pytest.approx([4.0] * 10)  # 3 rounds: 2 + 2, not 2 + 4
    assert moderate(ALIKE[:3], 4, [0] * 3).df == pytest.approx([5.0] * 3)  # two other cells: 1


def test_cells_that_differ_keep_their_own_variance() -> None:
    wild = [10.0**k for k in range(-5, 5)]
    found = moderate(wild, 4, [0] * 10)
    assert (found.df < 4.5).all()
    assert found.variance[3:] == pytest.approx(wild[3:], rel=0.2)


def test_each_group_has_its_own_level() -> None:
    found = moderate([1.0, 1.0, 1.0, 100.0, 100.0, 100.0], 4, [0, 0, 0, 1, 1, 1])
    assert found.variance[3] / found.variance[0] == pytest.approx(100.0)


def test_a_cell_alone_keeps_its_own_variance() -> None:
    found = moderate([2.0], 4, [0])
    assert (found.variance[0], found.df[0]) == (2.0, 4.0)
    mixed = moderate([*ALIKE, 7.0], 4, [0] * 10 + [1])
    assert (mixed.variance[-1], mixed.df[-1]) == (7.0, 4.0)


def test_no_spread_at_all_divides_by_nothing() -> None:
    found = moderate([0.0, 0.0, 0.0], 2, [0, 0, 0])
    assert np.isfinite(found.variance).all() and (found.variance > 0).all()
    assert p_different([0.7, 0.0, 0.0], found, 3)[0] < 1e-6


def test_many_comparisons_at_once_are_those_one_by_one() -> None:
    rng = np.random.default_rng(7)
    many = rng.chisquare(4, (5, 10)) / 4
    together = moderate(many, 4, [0] * 6 + [1] * 4)
    alone = [moderate(row, 4, [0] * 6 + [1] * 4) for row in many]
    assert together.variance == pytest.approx(np.array([one.variance for one in alone]))
    assert together.df == pytest.approx(np.array([one.df for one in alone]))


def test_the_fit_finds_the_prior_that_made_the_variances() -> None:
    rng = np.random.default_rng(3)
    d, d0, level = 9, 3.0, 0.25
    made = level * d0 / rng.chisquare(d0, 20_000) * rng.chisquare(d, 20_000) / d
    found = moderate(made, d, np.zeros(20_000))
    assert found.df[0] == pytest.approx(d + d0, abs=0.15)
    assert found.variance[0] * found.df[0] - d * made[0] == pytest.approx(d0 * level, rel=0.05)


def test_p_values_against_scipy() -> None:
    values = np.array([0.1, 0.2, 0.25, 0.05])
    own = Moderated(np.array([values.var(ddof=1)]), np.array([3.0]))
    assert p_different(values.mean(), own, 4) == pytest.approx([stats.ttest_1samp(values, 0).pvalue])
    low, high = stats.t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    assert half_widths(own, 4) == pytest.approx([(high - low) / 2])
    above = stats.ttest_1samp(values, -0.2, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 0.2, alternative="less").pvalue
    assert p_equal(values.mean(), 0.2, own, 4) == pytest.approx([max(above, below)])


def test_adjusted_by_hand_and_against_scipy() -> None:
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    p = np.random.default_rng(1).random((3, 40))
    assert adjusted(p) == pytest.approx(stats.false_discovery_control(p, axis=-1))
    assert math.isclose(float(adjusted([0.2])[0]), 0.2)

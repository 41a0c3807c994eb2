"""The ratio of two sets of rounds: against numbers from elsewhere, and its errors by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_ind

from harness.judge.moderated import Moderated, half_widths, p_different
from harness.judge.more import MOST_ROUNDS
from harness.judge.unpaired import Unpaired, needed_rounds, unpaired

NOW, THEN = (100.0, 104.0, 99.0, 103.0), (110.0, 118.0, 114.0)


def alone(found: Unpaired) -> Moderated:
    """Its spread without other changes to learn from."""
    return Moderated(np.array(found.variance), np.array(found.df))


def test_by_itself_it_is_students_t_of_two_samples_of_logs() -> None:
    found, expected = unpaired(NOW, THEN), ttest_ind(np.log(NOW), np.log(THEN))
    interval, half = expected.confidence_interval(0.95), half_widths(alone(found), found.rounds)
    assert [found.mean - half, found.mean + half] == pytest.approx([interval.low, interval.high])
    assert p_different(found.mean, alone(found), found.rounds) == pytest.approx(expected.pvalue)


def test_the_ratio_of_pooled_percentiles_has_the_spread_of_the_rounds() -> None:
    found, plain = unpaired(NOW, THEN, ratio=0.5), unpaired(NOW, THEN)
    assert found.mean == math.log(0.5)
    assert (found.variance, found.df, found.rounds) == (plain.variance, plain.df, plain.rounds)


@pytest.mark.parametrize(("worse", "lift"), [(0.10, 1.0), (0.10, 4.0), (0.01, 1.0), (-0.05, 1.0)])
def test_the_rounds_that_would_tell_are_enough_and_one_fewer_is_not(worse: float, lift: float) -> None:
    margin, spread, have = math.log(1.03), Moderated(np.array(0.08**2), np.array(8.0)), 5
    rounds = needed_rounds(worse, margin, spread, have, lift)
    assert rounds is not None and rounds > have + 1

    def told(each: int) -> bool:
        df = 8 + 2 * (each - have)
        error = 0.08 * math.sqrt(2 / each)
        if worse > margin:
            return bool(2 * t.sf(worse / error, df) * lift < 0.05)
        return bool(worse + t.ppf(0.975, df) * error < margin)

    assert told(rounds) and not told(rounds - 1)


def test_what_no_number_of_rounds_tells() -> None:
    spread = Moderated(np.array(0.08**2), np.array(8.0))
    assert needed_rounds(math.log(1.03), math.log(1.03), spread, 5, 1.0) is None
    assert needed_rounds(1.0, math.log(1.03), spread, MOST_ROUNDS, 1.0) is None
    assert needed_rounds(1.0, math.log(1.03), spread, 5, 1.0) == 6  # never fewer than there are


def test_its_interval_covers_with_unequal_numbers_of_rounds() -> None:
    rng = np.random.default_rng(7)
    inside = []
    for _ in range(4000):
        found = unpaired(np.exp(rng.normal(0, 0.08, 5)).tolist(), np.exp(rng.normal(0, 0.08, 3)).tolist())
        inside.append(abs(found.mean) < half_widths(alone(found), found.rounds))
    assert 0.94 < np.mean(inside) < 0.96

"""The ratio of two sets of rounds: against numbers from elsewhere, and its coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from harness.judge.unpaired import MOST_ROUNDS, adjusted, needed_rounds, unpaired

NOW, THEN = (100.0, 104.0, 99.0, 103.0), (110.0, 118.0, 114.0)


def test_it_is_welchs_t_on_the_logs() -> None:
    found, expected = unpaired(NOW, THEN), ttest_ind(np.log(NOW), np.log(THEN), equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.log_ratio - found.half == pytest.approx(interval.low)
    assert found.log_ratio + found.half == pytest.approx(interval.high)
    assert found.p_beyond(-1.0, 0.0) == pytest.approx(expected.pvalue)


def test_p_is_below_five_per_cent_just_if_the_interval_lies_beyond_the_margin() -> None:
    found = unpaired(NOW, THEN)
    upper = -(found.log_ratio + found.half)  # the least that it may be worse
    assert found.p_beyond(-1.0, upper) == pytest.approx(0.05)
    assert found.p_beyond(-1.0, upper - 0.001) < 0.05 < found.p_beyond(-1.0, upper + 0.001)
    assert found.p_beyond(1.0, 0.0) == 1.0


def test_equal_rounds_have_no_spread_and_are_told_at_once() -> None:
    found = unpaired((2.0, 2.0), (1.0, 1.0))
    assert (found.half, found.p_beyond(1.0, 0.03), found.p_beyond(-1.0, 0.03)) == (0.0, 0.0, 1.0)


def test_the_rounds_that_would_tell_are_enough_and_one_fewer_is_not() -> None:
    found = unpaired(NOW, THEN)
    distance = 0.02
    rounds = needed_rounds(found, distance, 3)
    assert rounds is not None and rounds > 4

    def half(count: int) -> float:
        from scipy.stats import t

        return float(t.ppf(0.975, 2 * count - 2)) * found.spread * math.sqrt(2 / count)

    assert half(rounds) < distance <= half(rounds - 1)
    assert needed_rounds(found, 1.0, 3) == 4  # never fewer than there are
    assert needed_rounds(found, half(MOST_ROUNDS), 3) is None


def test_the_false_discovery_rate_of_the_paper_that_defined_it() -> None:
    """Benjamini and Hochberg 1995, section 3.2: of 15 p values, the four smallest are significant at 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    found = adjusted(p[::-1])[::-1]  # in any order
    assert [one < 0.05 for one in found] == [True] * 4 + [False] * 11
    assert found[0] == pytest.approx(15 * 0.0001) and found[-1] == 1.0
    assert adjusted([]) == []


def test_its_interval_covers() -> None:
    rng = np.random.default_rng(7)
    logs = rng.normal(0.0, 0.08, (4000, 2, 5))
    covered = 0
    for now, then in np.exp(logs):
        found = unpaired(now, then)
        covered += abs(found.log_ratio) < found.half
    assert 0.945 < covered / 4000 < 0.965

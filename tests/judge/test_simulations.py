"""What verdicts and intervals promise, checked by simulation. `python -m tests.bench.statistics` has longer ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.judge.moderated import Moderated, p_different
from tests.judge.simulated import (
    ONE_QUESTION,
    World,
    found,
    judge,
    log_ratios,
    percentile_coverage,
    ratio_coverage,
    stopped,
)

MANY = 2000  # comparisons; 5 % of them has a standard error of 0.5 %
LIKE_HERE = World(unlike=0.3, of_start=0.3, of_load=0.4)


def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.mark.parametrize(
    "world",
    [
        ONE_QUESTION,
        LIKE_HERE,
        replace(LIKE_HERE, loads=3),
        replace(LIKE_HERE, loads=4, candidates=3),
        replace(LIKE_HERE, rounds=3),
        World(loads=1),
    ],
)
def test_false_verdicts(world: World) -> None:
    assert found(world, MANY, rng()).any_call <= 0.05


def test_without_moderation_and_adjustment_most_comparisons_have_a_false_verdict() -> None:
    values = log_ratios(ONE_QUESTION, MANY, rng())
    plain = Moderated(values.var(-1, ddof=1), np.asarray(values.shape[-1] - 1.0))
    p = p_different(values.mean(-1), plain, values.shape[-1])
    assert (p < 0.05).any(-1).mean() > 0.6


def test_power_at_a_difference_of_10_percent() -> None:
    true = replace(ONE_QUESTION, difference=float(np.log(1.1)))
    assert found(true, MANY, rng()).calls >= 0.45
    alone = replace(true, loads=1)  # nothing to borrow from, but one question only
    assert found(alone, MANY, rng()).calls >= 0.5


@pytest.mark.parametrize(
    "world", [ONE_QUESTION, LIKE_HERE, World(unlike=0.6), replace(LIKE_HERE, rounds=3), World(loads=2), World(loads=1)]
)
def test_coverage_of_intervals(world: World) -> None:
    assert 0.93 <= found(world, MANY, rng()).coverage <= 0.97


def test_each_question_has_its_own_level_of_noise() -> None:
    world = World()
    values = log_ratios(world, MANY, rng())
    for question in range(len(world.levels)):
        assert 0.93 <= _coverage_of(values, world, question) <= 0.97


def _coverage_of(values: np.ndarray, world: World, question: int) -> float:
    mine = world.group == question
    return float((np.abs(values.mean(-1)) <= judge(values, world).half)[:, mine].mean())


def test_a_true_difference_of_the_margin_is_seldom_called_equal() -> None:
    quiet = World(levels=(0.01,), loads=24, difference=float(np.log(1.03)))
    assert found(quiet, MANY, rng()).equal <= 0.05
    assert found(replace(quiet, difference=0.0), MANY, rng()).equal >= 0.9  # and the same is called equal


def test_stopping_by_width_keeps_false_verdicts_down() -> None:
    world = replace(LIKE_HERE, loads=4)
    assert stopped(world, 1000, rng(), 12, width=0.05) <= 0.05
    assert stopped(world, 1000, rng(), 12, width=None) > 0.08  # until something is separable: peeking


@pytest.mark.parametrize("q", [90, 99])
@pytest.mark.parametrize(("shift", "tail"), [(0.0, 0.0), (0.05, 0.0), (0.05, 0.02)])
def test_coverage_of_pooled_percentiles(q: int, shift: float, tail: float) -> None:
    assert percentile_coverage(q, 5, 200, shift, tail, 400, rng()) >= 0.93


@pytest.mark.parametrize("tails", [(0.0, 0.0), (0.0, 0.03)])
def test_coverage_of_ratios_of_percentiles(tails: tuple[float, float]) -> None:
    assert ratio_coverage(99, 5, 200, 0.05, tails, 400, rng()) >= 0.93
    # With few requests a round, the rounds' own ratios would cover 89 %.
    assert ratio_coverage(99, 5, 75, 0.0, tails, 400, rng()) >= 0.93

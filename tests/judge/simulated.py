"""Comparisons made of random numbers whose truth is known, thousands at once, judged by the harness's own code."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from harness.judge.moderated import Decided, decide
from harness.judge.percentiles import log_ratio, pooled_percentile

Floats = NDArray[np.float64]
MARGIN = float(np.log(1.03))
LEVELS = (0.02, 0.06, 0.20, 0.015, 0.03, 0.05)  # SD of the log ratio: throughput, TTFT, TTFT p99, TPOT, E2E, goodput


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How the log ratios of one comparison come about.

    `levels`: the SD of a log ratio in each question; `unlike`: SD of the log of a cell's own factor on it, so 0.3 means
    that one cell in three is noisier or calmer by a factor of more than 1.35; `of_start`: the share of a candidate's
    variance that all loads and questions of a round have in common, because they share a start; `of_load`: the share
    that the questions of one load have in common. Pairs share their candidates."""

    levels: tuple[float, ...] = LEVELS
    loads: int = 6
    candidates: int = 2
    rounds: int = 5
    difference: float = 0.0  # true log ratio, of every pair
    unlike: float = 0.0
    of_start: float = 0.0
    of_load: float = 0.0

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return list(combinations(range(self.candidates), 2))

    @property
    def group(self) -> NDArray[np.int64]:
        """The question of each cell: questions, then loads, then pairs."""
        return np.repeat(np.arange(len(self.levels)), self.loads * len(self.pairs))


ONE_QUESTION = World(levels=(0.08,), loads=24)  # 24 cells alike


def log_ratios(world: World, comparisons: int, rng: np.random.Generator, rounds: int | None = None) -> Floats:
    """Shape (comparisons, cells, rounds)."""
    n, normal = rounds or world.rounds, rng.standard_normal
    z = np.sqrt(1 - world.of_start - world.of_load) * normal(
        (comparisons, world.candidates, len(world.levels), world.loads, n)
    )
    z += np.sqrt(world.of_start) * normal((comparisons, world.candidates, 1, 1, n))
    z += np.sqrt(world.of_load) * normal((comparisons, world.candidates, 1, world.loads, n))
    factor = np.exp(world.unlike * normal((comparisons, world.candidates, len(world.levels), world.loads, 1)))
    logs = z * factor * np.asarray(world.levels)[:, None, None] / np.sqrt(2)
    ratios = np.stack([logs[:, b] - logs[:, a] for a, b in world.pairs], axis=3)
    return np.asarray(ratios.reshape(comparisons, -1, n) + world.difference)


def judge(values: Floats, world: World) -> Decided:
    """The verdicts of these comparisons."""
    return decide(values.mean(-1), values.var(-1, ddof=1), values.shape[-1], MARGIN, world.group)


@dataclass(frozen=True, slots=True)
class Found:
    """Fractions. `any_call`, `any_equal`: of comparisons with at least one; `calls`, `equal`: of cells; `coverage`: of
    intervals."""

    any_call: float
    calls: float
    any_equal: float
    equal: float
    coverage: float


def found(world: World, comparisons: int, rng: np.random.Generator) -> Found:
    values = log_ratios(world, comparisons, rng)
    decided = judge(values, world)
    inside = np.abs(values.mean(-1) - world.difference) <= decided.half
    return Found(
        float(decided.differs.any(-1).mean()),
        float(decided.differs.mean()),
        float(decided.equal.any(-1).mean()),
        float(decided.equal.mean()),
        float(inside.mean()),
    )


def stopped(world: World, comparisons: int, rng: np.random.Generator, most: int, width: float | None) -> float:
    """The share of comparisons with a false verdict if rounds are added, up to `most`, until every interval's half
    width is at most `width` (of the log ratio); None: until any cell gets a verdict, which is peeking."""
    values = log_ratios(world, comparisons, rng, most)
    running = np.ones(comparisons, dtype=np.bool_)
    false = np.zeros(comparisons, dtype=np.bool_)
    for rounds in range(world.rounds, most + 1):
        decided = judge(values[..., :rounds], world)
        called = decided.differs.any(-1)
        ends = called if width is None else (decided.half <= width).all(-1)
        ends = ends | (rounds == most)
        false |= running & ends & called
        running &= ~ends
    return float(false.mean())


# Requests: log latencies of one cell.


def latencies(rounds: int, requests: int, shift: float, tail: float, rng: np.random.Generator) -> Floats:
    """Shape (rounds, requests). `shift`: SD of what all requests of a round have in common; `tail`: the share of
    requests that take several times as long."""
    logs = shift * rng.standard_normal((rounds, 1)) + 0.3 * rng.standard_normal((rounds, requests))
    slow = rng.random((rounds, requests)) < tail
    return np.asarray(np.exp(np.where(slow, 1 + 2 * np.abs(logs), logs)))


def true_percentile(q: int, shift: float, tail: float) -> float:
    """Over all rounds that could have been."""
    rng = np.random.default_rng(99)
    return float(np.percentile(latencies(20_000, 50, shift, tail, rng), q))


def percentile_coverage(
    q: int, rounds: int, requests: int, shift: float, tail: float, times: int, rng: np.random.Generator
) -> float:
    """How often the interval of a pooled percentile holds the true one."""
    true, hits = true_percentile(q, shift, tail), 0
    for _ in range(times):
        one = pooled_percentile(list(latencies(rounds, requests, shift, tail, rng)), q)
        assert one.low is not None and one.high is not None
        hits += one.low <= true <= one.high
    return hits / times


def ratio_coverage(
    q: int, rounds: int, requests: int, shift: float, tails: tuple[float, float], times: int, rng: np.random.Generator
) -> float:
    """How often the interval of the ratio of two pooled percentiles holds the true ratio, with a plain t interval."""
    true = float(np.log(true_percentile(q, shift, tails[0]) / true_percentile(q, shift, tails[1])))
    drawn = [[list(latencies(rounds, requests, shift, tail, rng)) for tail in tails] for _ in range(times)]
    means, variances = np.array([log_ratio(mine, theirs, q) for mine, theirs in drawn]).T
    # One cell to a group: nothing to learn from others.
    decided = decide(means[:, None], variances[:, None], rounds, MARGIN, [0])
    return float((np.abs(means - true) <= decided.half[:, 0]).mean())

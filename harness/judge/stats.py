"""Student-t intervals over rounds, and whether two candidates can be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
Separation = Literal["better", "worse", "not separable", "unknown"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over rounds with its interval; the bounds are None with fewer than two rounds. `per_round` is in the order
    of the cell's rounds, None for a round without a value."""

    mean: float | None
    low: float | None
    high: float | None
    per_round: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class RatioInterval:
    """Geometric mean of per-round ratios with its interval; `rounds`: the number of pairs."""

    ratio: float | None
    low: float | None
    high: float | None
    rounds: int


def half_width(values: Sequence[float]) -> float | None:
    """t(0.975, n - 1) * s / sqrt(n), s the sample standard deviation (ddof 1); None when n < 2."""
    n = len(values)
    if n < 2:
        return None
    return float(stdtrit(n - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / math.sqrt(n))


def estimate(per_round: Sequence[float | None]) -> Estimate:
    """The mean over the rounds that have a value and its two-sided 95 % Student-t interval."""
    values = [value for value in per_round if value is not None]
    if not values:
        return Estimate(None, None, None, tuple(per_round))
    mean = float(np.mean(values))
    half = half_width(values)
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Estimate(mean, low, high, tuple(per_round))


def paired_ratio(candidate: Sequence[float | None], reference: Sequence[float | None]) -> RatioInterval:
    """candidate / reference over the same rounds: the 95 % t interval of the mean log-ratio, exponentiated.

    Pairing by round removes what affected both candidates in that round (a warm or a busy machine). Both sequences have
    one entry per round; a pair with a missing or non-positive value is left out."""
    if len(candidate) != len(reference):
        raise ValueError(f"paired by round: {len(candidate)} against {len(reference)} rounds")
    logs = [
        math.log(mine / theirs)
        for mine, theirs in zip(candidate, reference, strict=True)
        if mine is not None and theirs is not None and mine > 0 and theirs > 0
    ]
    if not logs:
        return RatioInterval(None, None, None, 0)
    mean = float(np.mean(logs))
    half = half_width(logs)
    if half is None:
        return RatioInterval(math.exp(mean), None, None, len(logs))
    return RatioInterval(math.exp(mean), math.exp(mean - half), math.exp(mean + half), len(logs))


def separation(interval: RatioInterval, larger_is_better: bool) -> Separation:
    """The verdict that the interval allows; "unknown" without an interval."""
    if interval.low is None or interval.high is None:
        return "unknown"
    if interval.low <= 1.0 <= interval.high:
        return "not separable"
    return "better" if (interval.low > 1.0) == larger_is_better else "worse"

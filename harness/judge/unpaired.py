"""The ratio of two sets of rounds that were measured at different times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
MOST_ROUNDS = 100  # more than that nobody measures


@dataclass(frozen=True, slots=True)
class Unpaired:
    """The difference of the mean logs, its standard error and degrees of freedom, and the pooled standard deviation of
    one round's log."""

    log_ratio: float
    error: float
    freedom: float
    spread: float

    @property
    def half(self) -> float:
        """Half the width of the two-sided 95 % interval of the log ratio."""
        return float(stdtrit(self.freedom, (1 + LEVEL) / 2)) * self.error

    def p_beyond(self, direction: float, log_margin: float) -> float:
        """Two-sided p of the log ratio being no further than the margin in this direction (1 or -1): below 0.05 just if
        the 95 % interval lies beyond it."""
        beyond = direction * self.log_ratio - log_margin
        if self.error == 0:
            return 0.0 if beyond > 0 else 1.0
        return min(1.0, 2 * float(stdtr(self.freedom, -beyond / self.error)))


def unpaired(now: Sequence[float], then: Sequence[float]) -> Unpaired:
    """now / then of positive values, two or more rounds each: Welch's t on their logs, degrees of freedom by Welch and
    Satterthwaite (Welch 1947, Biometrika 34)."""
    logs = [np.log(np.asarray(values, dtype=np.float64)) for values in (now, then)]
    shares = [float(np.var(one, ddof=1)) / one.size for one in logs]
    error = math.sqrt(sum(shares))
    within = sum(share**2 / (one.size - 1) for share, one in zip(shares, logs, strict=True))
    freedom = sum(shares) ** 2 / within if within > 0 else float(sum(one.size - 1 for one in logs))
    total = sum(float(np.var(one, ddof=1)) * (one.size - 1) for one in logs)
    spread = math.sqrt(total / sum(one.size - 1 for one in logs))
    return Unpaired(float(logs[0].mean() - logs[1].mean()), error, freedom, spread)


def needed_rounds(found: Unpaired, distance: float, rounds_now: int) -> int | None:
    """The rounds that each of the two needs, more than `rounds_now`, for an interval that ends before it reaches this
    distance (of logs), at the spread seen; None if that is more than MOST_ROUNDS."""
    for rounds in range(rounds_now + 1, MOST_ROUNDS + 1):
        half = float(stdtrit(2 * rounds - 2, (1 + LEVEL) / 2)) * found.spread * math.sqrt(2 / rounds)
        if half < abs(distance):
            return rounds
    return None


def adjusted(p: Sequence[float]) -> list[float]:
    """p adjusted for the false discovery rate, in the same order (Benjamini and Hochberg 1995, JRSS B 57)."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    ranked = values[order] * values.size / np.arange(1, values.size + 1)
    found = np.empty_like(values)
    found[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return [float(one) for one in found]

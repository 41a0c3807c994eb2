"""Numbers of a cell over its rounds, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from harness.judge.moderated import Moderated, half_widths, moderate

Key = TypeVar("Key")

_FARTHEST = 700.0  # math.exp overflows at 709.8


@dataclass(frozen=True, slots=True)
class Estimate:
    """One metric of one cell with its 95 % interval.

    `mean` is the geometric mean over rounds for what is always positive (rates, latencies), the arithmetic mean for
    what can be 0, and for p90 and above the percentile over the requests of all rounds. The interval of a positive
    metric is multiplicative: mean is not its middle, and neither end is ever below 0. The bounds are None with fewer
    than two rounds; if mean is None, `reason` may say why. `per_round` is in the order of the cell's rounds, None for a
    round without a value."""

    mean: float | None
    low: float | None
    high: float | None
    per_round: tuple[float | None, ...]
    reason: str | None = None


def estimate(per_round: Sequence[float | None]) -> Estimate:
    """The estimate of one metric by itself, without other cells to learn the spread from."""
    return estimates({0: (0, per_round)})[0]


def estimates(rows: Mapping[Key, tuple[int, Sequence[float | None]]]) -> dict[Key, Estimate]:
    """One estimate for each row. A row is its group (the same number: the same metric, whose cells are about as noisy)
    and the values of its rounds. Variances are moderated within the groups."""
    known = {key: [v for v in values if v is not None] for key, (_, values) in rows.items()}
    positive = {key: all(v > 0 for v in values) for key, values in known.items()}
    scaled = {key: np.log(v) if positive[key] else np.asarray(v, dtype=np.float64) for key, v in known.items()}
    several = [key for key, values in scaled.items() if values.size > 1]
    sizes = np.array([scaled[key].size for key in several])
    variance = np.array([np.var(scaled[key], ddof=1) for key in several])
    own = Moderated(variance, sizes - 1.0)
    halves = dict(zip(several, half_widths(own, sizes).tolist(), strict=True))
    logs = np.array([positive[key] for key in several], dtype=np.bool_)
    if logs.any():
        # Only logs: the spread of a share of failed requests says nothing about that of another cell.
        groups = np.array([rows[key][0] for key in several])[logs]
        found = moderate(variance[logs], sizes[logs] - 1, groups)
        of_logs = [key for key in several if positive[key]]
        halves |= dict(zip(of_logs, half_widths(found, sizes[logs]).tolist(), strict=True))
    return {key: _estimate(scaled[key], positive[key], halves.get(key), tuple(rows[key][1])) for key in rows}


def exp(logarithm: float) -> float:
    """e to that power, as far as a float goes: between rounds a million times apart an interval ends beyond it."""
    return math.exp(max(-_FARTHEST, min(_FARTHEST, logarithm)))


def _estimate(scaled: np.ndarray, positive: bool, half: float | None, per_round: tuple[float | None, ...]) -> Estimate:
    if not scaled.size:
        return Estimate(None, None, None, per_round)
    middle = float(scaled.mean())
    if positive:
        if half is None:
            return Estimate(exp(middle), None, None, per_round)
        return Estimate(exp(middle), exp(middle - half), exp(middle + half), per_round)
    if half is None:
        return Estimate(middle, None, None, per_round)
    low = middle - half
    # A share of failed requests below 0 cannot be.
    return Estimate(middle, max(low, 0.0) if scaled.min() >= 0 else low, middle + half, per_round)

"""A round in which one candidate was out of line with its other rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.judge.cells import Cell

if TYPE_CHECKING:  # that module builds the answers, which name such a round
    from harness.judge.comparison import Comparison

LEAST_ROUNDS = 4  # with three, one of them is far from the others' median too often
DEVIATIONS = 5.0  # robust standard deviations
LEAST_DEVIATION = 0.01  # of the logarithm: rounds that agree to 0.1 % do not make 0.6 % an outlier
LEAST_SHARE = 0.5  # of the candidate's loads: one load alone says nothing of the round
_NORMAL = 1.4826  # median absolute deviation -> standard deviation of a normal distribution


@dataclass(frozen=True, slots=True)
class OutlierRound:
    """The candidate's throughput in this round, divided by its median over rounds: the median of that over the loads at
    which it is out of line."""

    candidate: str
    round: int
    ratio: float
    loads: tuple[str, ...]


def outlier_round(comparison: Comparison) -> OutlierRound | None:
    """The round that is furthest out of line; None if there is none.

    Of each cell with at least 4 rounds: the logarithm of its throughput minus its median over rounds. A round of a
    candidate is an outlier if that is more than 5 standard deviations at half of the candidate's loads or more. The
    deviation is the median absolute deviation of all cells together (at least 1 %), which a few outliers do not
    inflate; each cell's own, from 5 rounds, would be too small by chance in many cells."""
    residuals = {(cell.candidate, cell.load): _residuals(cell) for cell in comparison.cells}
    residuals = {key: found for key, found in residuals.items() if len(found) >= LEAST_ROUNDS}
    if not residuals:
        return None
    rounds = np.mean([len(found) for found in residuals.values()])
    every = np.abs(np.concatenate([list(found.values()) for found in residuals.values()]))
    # The median itself is one of the rounds, at 0: without the factor, the deviation of 5 rounds would be too small.
    limit = DEVIATIONS * max(LEAST_DEVIATION, _NORMAL * float(np.median(every)) * float(rounds / (rounds - 1)))
    found = [
        one
        for candidate in dict.fromkeys(candidate for candidate, _ in residuals)
        for one in _of_candidate(candidate, {load: r for (c, load), r in residuals.items() if c == candidate}, limit)
    ]
    return max(found, key=lambda one: abs(np.log(one.ratio)), default=None)


def _residuals(cell: Cell) -> dict[int, float]:
    """Round -> logarithm of the cell's throughput in it, minus the median over rounds."""
    values = zip(cell.rounds, cell.metrics["output_throughput"].per_round, strict=True)
    logs = {r: float(np.log(value)) for r, value in values if value is not None and value > 0}
    middle = float(np.median(list(logs.values()))) if logs else 0.0
    return {r: log - middle for r, log in logs.items()}


def _of_candidate(candidate: str, by_load: dict[str, dict[int, float]], limit: float) -> list[OutlierRound]:
    found = []
    for r in sorted({r for residuals in by_load.values() for r in residuals}):
        there = {load: residuals[r] for load, residuals in by_load.items() if r in residuals}
        out = {load: residual for load, residual in there.items() if abs(residual) > limit}
        if out and len(out) >= LEAST_SHARE * len(there) and _one_way(list(out.values())):
            found.append(OutlierRound(candidate, r, float(np.exp(np.median(list(out.values())))), tuple(out)))
    return found


def _one_way(residuals: Sequence[float]) -> bool:
    """Whether all are slower, or all faster: what disturbs a round does not make one load faster and another slower."""
    return min(residuals) > 0 or max(residuals) < 0

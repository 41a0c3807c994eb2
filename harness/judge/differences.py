"""How two candidates differ in one metric at one load: the log of a ratio and its spread over rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.judge.measured import Measured
from harness.judge.more import MOST_ROUNDS
from harness.judge.percentiles import POOLED, least_values, log_ratio, too_few


@dataclass(frozen=True, slots=True)
class NoDifference:
    """Why there is none; `more_rounds`: how many more would give one, if they would."""

    reason: str
    more_rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """`mean`: log of candidate / against; `variance`: of one round's log ratio, so that of the mean is variance /
    rounds; 0 with one round."""

    mean: float
    variance: float
    rounds: int


def difference(mine: tuple[str, Measured], theirs: tuple[str, Measured], metric: str) -> Difference | NoDifference:
    """The difference over the rounds in which both have a value, or why there is none. Each side is the candidate's
    name and its numbers.

    Pairing by round removes what affected both candidates in that round (a warm or a busy machine)."""
    both = [_by_round(one, metric) for _, one in (mine, theirs)]
    common = sorted(set(both[0]) & set(both[1]))
    if not common:
        return NoDifference("no round in common has a value")
    if metric in POOLED:
        return _of_percentiles(mine, theirs, metric, common)
    ends = [[found[r] for r in common] for found in both]
    zero = [name for (name, _), values in zip((mine, theirs), ends, strict=True) if min(values) <= 0]
    if zero:
        return NoDifference(f"a ratio needs values above 0, and {' and '.join(zero)} had a round with 0")
    logs = np.log(ends[0]) - np.log(ends[1])
    return Difference(float(logs.mean()), float(np.var(logs, ddof=1)) if logs.size > 1 else 0.0, logs.size)


def _by_round(one: Measured, metric: str) -> dict[int, float]:
    found = zip(one.rounds, one.per_round[metric], strict=True)
    return {r: value for r, value in found if value is not None}


def _of_percentiles(
    mine: tuple[str, Measured], theirs: tuple[str, Measured], metric: str, common: list[int]
) -> Difference | NoDifference:
    q = POOLED[metric][1]
    samples = [[one.samples[metric][one.rounds.index(r)] for r in common] for _, one in (mine, theirs)]
    sizes = {name: [v.size for v in values] for (name, _), values in zip((mine, theirs), samples, strict=True)}
    name, fewest = min(sizes.items(), key=lambda item: sum(item[1]))
    reason = too_few(samples[list(sizes).index(name)], q)
    if reason is not None:
        have = sum(fewest)
        more = math.ceil((least_values(q) - have) * len(fewest) / have)
        return NoDifference(f"{name}: {reason}", more if more <= MOST_ROUNDS else None)
    if len(common) == 1:
        ends = [float(np.percentile(values[0], q)) for values in samples]
        return Difference(math.log(ends[0] / ends[1]), 0.0, 1)
    return Difference(*log_ratio(samples[0], samples[1], q), len(common))

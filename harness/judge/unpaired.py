"""The ratio of two sets of rounds that were measured at different times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.judge.moderated import ALPHA, Moderated, half_widths, p_different
from harness.judge.more import MOST_ROUNDS


@dataclass(frozen=True, slots=True)
class Unpaired:
    """`mean`: log of now / then; `variance`: of one round's log, pooled over both, with `df` degrees of freedom; that
    of the mean is variance / `rounds`."""

    mean: float
    variance: float
    df: float
    rounds: float


def unpaired(now: Sequence[float], then: Sequence[float], ratio: float | None = None) -> Unpaired:
    """now / then of positive values, two or more rounds each, as in Student's t test of two samples, on logs. `ratio`:
    the ratio itself where it is not that of the geometric means (percentiles of pooled requests).

    The variance is one for both: it is moderated with others afterwards, and Welch's, with 2 degrees of freedom for 3
    rounds each, would learn from nothing."""
    logs = [np.log(np.asarray(values, dtype=np.float64)) for values in (now, then)]
    df = logs[0].size + logs[1].size - 2
    variance = sum(float(np.var(one, ddof=1)) * (one.size - 1) for one in logs) / df
    mean = float(logs[0].mean() - logs[1].mean()) if ratio is None else math.log(ratio)
    return Unpaired(mean, variance, float(df), 1 / (1 / logs[0].size + 1 / logs[1].size))


def needed_rounds(worse: float, margin: float, spread: Moderated, have: int, lift: float) -> int | None:
    """The rounds that each of the two needs, more than `have`, until the change seen is called a regression or passes;
    None if that is more than MOST_ROUNDS.

    `worse`: log of how many times worse it is; `margin`: a log; `spread`: of one change, shapes (); `lift`: what the
    adjustment for many questions multiplies p by. Change and spread are taken to stay as they are."""
    each = np.arange(have + 1, MOST_ROUNDS + 1)
    then = Moderated(np.broadcast_to(spread.variance, each.shape), spread.df + 2 * (each - have))
    if worse > margin:
        told = p_different(worse, then, each / 2) * lift < ALPHA
    else:
        told = half_widths(then, each / 2) < margin - worse
    enough = np.flatnonzero(told)
    return int(each[enough[0]]) if enough.size else None

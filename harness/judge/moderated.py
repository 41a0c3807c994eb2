"""Tests and intervals of few rounds: variances that borrow from the other cells, and p-values of a whole family.

Every function takes arrays with the cells of one comparison on the last axis, so a simulation runs thousands of
comparisons through the very code that judges one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import polygamma, psi, stdtr, stdtrit

LEVEL = 0.95
ALPHA = 1 - LEVEL
PRIOR_CAP = 4.0  # degrees of freedom that the other cells may add to one cell's own
LEAST_VARIANCE = 1e-12  # of logs: a spread of 1 in 10^6, below the resolution of any clock here
_LEAST_SPREAD = 1e-3  # of log variances: at this spread the fit adds 2,000 degrees of freedom, far above the cap
_TINY = 1e-300

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moderated:
    """Variances with their degrees of freedom, shape (..., cells)."""

    variance: Floats
    df: Floats


def moderate(variance: ArrayLike, df: ArrayLike, group: ArrayLike) -> Moderated:
    """Sample variances, shape (..., cells), shrunk towards those of their group (Smyth 2004, section 6.2, doi
    10.2202/1544-6115.1027).

    A sample variance with d degrees of freedom is taken as s0^2 * F(d, d0). s0^2, the level of the noise, is fitted in
    each group (a metric: TTFT p99 is ten times noisier than TPOT); d0, how alike cells of one group are, in all groups
    together, because one group has too few cells for it. The result is (d0 s0^2 + d s^2) / (d0 + d) with d0 + d degrees
    of freedom. `df`: d of each cell, 1 or more; `group`: an integer for each cell.

    d0 is at most PRIOR_CAP, at most d, and at most half the number of the other cells in the group: beyond that, cells
    that differ in their noise would get intervals that are too short (docs/statistics.md has the simulation). A cell
    alone in its group keeps its own variance."""
    own = np.maximum(np.asarray(variance, dtype=np.float64), LEAST_VARIANCE)
    d = np.broadcast_to(np.asarray(df, dtype=np.float64), own.shape[-1:])
    member = np.unique(np.asarray(group), return_inverse=True)[1]
    count = np.bincount(member)[member] if member.size else np.empty(0)
    spare = int(member.size - (member.max(initial=-1) + 1))
    if spare < 1:
        return Moderated(own, np.broadcast_to(d, own.shape))
    in_group = np.eye(member.max() + 1)[member]
    logs = np.log(own) - psi(d / 2) + np.log(d / 2)
    level = (logs @ in_group / in_group.sum(0))[..., member]
    several = count > 1
    noise = float(polygamma(1, d[several] / 2).mean())  # the spread of log sample variances if all true ones are equal
    spread = np.maximum(((logs - level) ** 2).sum(-1) / spare - noise, _LEAST_SPREAD)
    fitted = 2 * _trigamma_inverse(spread)[..., None]
    prior = np.exp(level + psi(fitted / 2) - np.log(fitted / 2))
    weight = np.minimum(fitted, np.minimum(np.minimum(PRIOR_CAP, d), (count - 1) / 2))
    return Moderated((weight * prior + d * own) / (weight + d), weight + d)


def _trigamma_inverse(value: Floats) -> Floats:
    """x with trigamma(x) = value, by Newton's method from below (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(10):
        there = polygamma(1, x)
        x = x + there * (1 - there / value) / polygamma(2, x)
    return np.asarray(x)


def half_widths(found: Moderated, rounds: ArrayLike) -> Floats:
    """Half the two-sided 95 % t interval of a mean over `rounds`."""
    return np.asarray(stdtrit(found.df, (1 + LEVEL) / 2) * np.sqrt(found.variance / np.asarray(rounds)))


def p_different(mean: ArrayLike, found: Moderated, rounds: ArrayLike) -> Floats:
    """Two-sided p of a mean over `rounds` against 0."""
    return np.asarray(2 * stdtr(found.df, -np.abs(mean) / np.sqrt(found.variance / np.asarray(rounds))))


def p_equal(mean: ArrayLike, margin: ArrayLike, found: Moderated, rounds: ArrayLike) -> Floats:
    """The larger p of two one-sided tests against -margin and +margin (Schuirmann 1987, doi 10.1007/BF01068419): small
    if the mean surely lies between."""
    beyond = np.abs(mean) - np.asarray(margin)
    return np.asarray(stdtr(found.df, beyond / np.sqrt(found.variance / np.asarray(rounds))))


def adjusted(p: ArrayLike) -> Floats:
    """p-values of one family on the last axis, adjusted by Benjamini and Hochberg (1995): calling those below 0.05
    makes at most 5 % of the calls wrong; if nothing differs, any call is wrong, so at most 5 % of comparisons have
    one."""
    values = np.asarray(p, dtype=np.float64)
    size = values.shape[-1]
    order = np.argsort(values, axis=-1)
    ranked = np.take_along_axis(values, order, -1) * size / np.arange(1, size + 1)
    ranked = np.minimum(np.minimum.accumulate(ranked[..., ::-1], axis=-1)[..., ::-1], 1.0)
    out = np.empty_like(values)
    np.put_along_axis(out, order, ranked, -1)
    return out


@dataclass(frozen=True, slots=True)
class Decided:
    """What a whole comparison can tell, shape (..., questions). `half`: of the 95 % interval; `p` and `p_equal`:
    adjusted; `lift` and `lift_equal`: what the adjustment multiplied them by."""

    spread: Moderated
    half: Floats
    p: Floats
    p_equal: Floats
    lift: Floats
    lift_equal: Floats
    differs: NDArray[np.bool_]
    equal: NDArray[np.bool_]


def decide(mean: ArrayLike, variance: ArrayLike, rounds: ArrayLike, margin: ArrayLike, group: ArrayLike) -> Decided:
    """Which log ratios differ from 0 and which are equal to it within the margin; `variance`: of one round's log ratio,
    over `rounds` (2 or more).

    A ratio differs if its adjusted p is below 0.05 and it lies beyond the margin; it is equal if both one-sided tests
    against the margin, adjusted in a family of their own, are below 0.05. Never both."""
    n = np.asarray(rounds)
    spread = moderate(variance, n - 1, group)
    raw, raw_equal = p_different(mean, spread, n), p_equal(mean, margin, spread, n)
    p, equal = adjusted(raw), adjusted(raw_equal)
    beyond = np.abs(mean) > np.asarray(margin)
    return Decided(
        spread=spread,
        half=half_widths(spread, n),
        p=p,
        p_equal=equal,
        lift=np.maximum(p / np.maximum(raw, _TINY), 1.0),
        lift_equal=np.maximum(equal / np.maximum(raw_equal, _TINY), 1.0),
        differs=(p < ALPHA) & beyond,
        equal=(equal < ALPHA) & ~beyond,
    )

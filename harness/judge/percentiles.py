"""High percentiles over the pooled requests of all rounds, with intervals that respect rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, stdtrit

from harness.judge.moderated import ALPHA
from harness.records.latencies import Floats, percentile
from harness.records.metrics import LATENCIES, Latency

TAIL = 90  # percentiles from here on are taken over pooled requests
_CLIENT = ("dispatch_delay", "client_lag")  # the client's own, read by checks round by round
POOLED: dict[str, tuple[Latency, int]] = {
    f"{latency.key}_p{q}": (latency, q)
    for latency in LATENCIES
    for q in latency.percentiles
    if q >= TAIL and latency.key not in _CLIENT
}


@dataclass(frozen=True, slots=True)
class PooledPercentile:
    """Seconds. Without a value, `reason` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def least_values(q: int) -> int:
    """How many values a q-th percentile needs: with fewer, even the largest value lies below the true percentile in
    more than 2.5 % of cases (0.025 = (q / 100)^n), so a 95 % interval has no upper end."""
    return math.ceil(math.log(ALPHA / 2) / math.log(q / 100))


def too_few(per_round: Sequence[Floats], q: int, noun: str = "requests") -> str | None:
    """Why these rounds have no q-th percentile; None if they have one."""
    have, need = sum(values.size for values in per_round), least_values(q)
    return f"p{q} needs {need} {noun}, and there are {have}" if have < need else None


def pooled_percentile(per_round: Sequence[Floats], q: int, noun: str = "requests") -> PooledPercentile:
    """The q-th percentile of all rounds' values together, and its 95 % interval; none with one round. `noun`: what the
    values are, for the reason.

    The interval of the share below the percentile, read off the pooled values (Woodruff 1952, doi
    10.1080/01621459.1952.10483443). The share's variance is that between rounds, which holds what a start or a busy
    machine did to a whole round, but at least the binomial one; then Clopper-Pearson with the effective number of
    values, as Korn and Graubard (1998) have it for samples in clusters."""
    reason = too_few(per_round, q, noun)
    if reason is not None:
        return PooledPercentile(None, reason=reason)
    values = np.sort(np.concatenate(per_round))
    value = percentile(values, q)
    assert value is not None
    low, high = _share_interval([part for part in per_round if part.size], value, q / 100)
    if low is None or high is None:
        return PooledPercentile(value)
    last = values.size - 1
    return PooledPercentile(value, float(values[math.floor(low * last)]), float(values[math.ceil(high * last)]))


def _share_interval(per_round: Sequence[Floats], value: float, share: float) -> tuple[float | None, float | None]:
    """The 95 % interval of the share of values at or below `value`."""
    rounds, sizes = len(per_round), np.array([part.size for part in per_round])
    if rounds < 2:
        return None, None
    below = np.array([np.count_nonzero(part <= value) for part in per_round])
    total = sizes.sum()
    residuals = (below - sizes * below.sum() / total) / total
    between = float((residuals**2).sum()) * rounds / (rounds - 1)
    effective = float(total)
    if between > 0:
        few = (stdtrit(total - 1, 1 - ALPHA / 2) / stdtrit(rounds - 1, 1 - ALPHA / 2)) ** 2
        effective = min(effective, share * (1 - share) / between * few)
    hits = min(share * effective, effective - 1e-9)
    misses = effective - hits
    low = float(betaincinv(hits, misses + 1, ALPHA / 2))
    high = float(betaincinv(hits + 1, misses, 1 - ALPHA / 2))
    return low, high


def log_ratio(mine: Sequence[Floats], theirs: Sequence[Floats], q: int) -> tuple[float, float]:
    """The log ratio of two pooled percentiles, and the variance of one round's part in it (divided by the number of
    rounds, that of the log ratio). Both have the same rounds, 2 or more, each with values.

    The variance is the larger of two: of the jackknife that leaves out one round of both, and of the ratios round by
    round. By itself the former covers 87 to 95 % where tails differ in shape, the latter 85 to 96 %
    (docs/statistics.md)."""
    rounds = len(mine)

    def whole(left_out: int | None = None) -> float:
        parts = [np.concatenate([v for i, v in enumerate(one) if i != left_out]) for one in (mine, theirs)]
        top, bottom = (percentile(part, q) for part in parts)
        assert top is not None and bottom is not None
        return math.log(top / bottom)

    without = np.array([whole(i) for i in range(rounds)])
    each = [math.log(np.percentile(a, q) / np.percentile(b, q)) for a, b in zip(mine, theirs, strict=True)]
    return whole(), float(max(np.var((rounds - 1) * without, ddof=1), np.var(each, ddof=1)))

"""Which pairs are not known as precisely as was asked for."""

from __future__ import annotations

import math

from harness.judge.comparison import Comparison
from harness.judge.pairs import Pair

# What rounds are added for. The tails of latencies would want far more rounds than anyone waits for.
LOOKED_AT = ("output_throughput", "ttft_p50", "tpot_p50")


def wide_pairs(comparison: Comparison, precision: float) -> list[Pair]:
    """The pairs whose ratio is not yet known to within a factor of 1 + `precision`: half of the interval's width, as a
    logarithm, is more than log(1 + precision), or there is no interval yet.

    Only widths are looked at, never whether an interval holds 1: measuring until a difference shows finds differences
    between equals. Invalid pairs and questions without a value are left out: more rounds would not change them."""
    return [
        pair
        for pair in comparison.pairs
        if pair.question in LOOKED_AT and pair.verdict != "invalid" and pair.ratio is not None
        if not _known(pair, precision)
    ]


def _known(pair: Pair, precision: float) -> bool:
    if not pair.low or pair.high is None:
        return False
    return math.log(pair.high / pair.low) / 2 <= math.log1p(precision)

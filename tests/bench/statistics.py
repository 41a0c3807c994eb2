"""Coverage, false verdicts and power by simulation: `python -m tests.bench.statistics` prints the tables of
docs/statistics.md; takes about two minutes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from harness.judge.moderated import Moderated, adjusted, p_different
from tests.judge.simulated import (
    MARGIN,
    ONE_QUESTION,
    World,
    found,
    log_ratios,
    percentile_coverage,
    ratio_coverage,
    stopped,
)

COMPARISONS, CELLS, SEED = 5000, 2000, 1
SIX = World(loads=6)
SHARED = replace(SIX, of_start=0.3, of_load=0.4)
UNLIKE = replace(SHARED, unlike=0.3)
WORLDS: tuple[tuple[str, World], ...] = (
    ("24 cells alike, SD 8 %", ONE_QUESTION),
    ("6 questions, 6 loads, alike", SIX),
    ("the same, shared starts", SHARED),
    ("the same, cells unlike by 1.35", UNLIKE),
    ("the same, cells unlike by 1.8", replace(SHARED, unlike=0.6)),
    ("3 loads, unlike by 1.35", replace(UNLIKE, loads=3)),
    ("3 loads, unlike by 1.35, 3 rounds", replace(UNLIKE, loads=3, rounds=3)),
    (
        "3 candidates, 4 loads, unlike by 1.35",
        replace(UNLIKE, loads=4, candidates=3),
    ),
    ("1 load", replace(SIX, loads=1)),
)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def verdicts() -> str:
    rows = []
    for name, world in WORLDS:
        null = found(world, COMPARISONS, rng())
        true = [found(replace(world, difference=math.log1p(d)), 1000, rng()).calls for d in (0.05, 0.10, 0.20)]
        rows.append([name, percent(null.any_call), percent(null.coverage), *map(percent, true)])
    head = ["comparison", "any false verdict", "coverage", "power at 5 %", "at 10 %", "at 20 %"]
    return table(head, rows)


def other_methods() -> str:
    """The 24 cells alike by other methods, with the same margin: their false verdicts and power."""
    rows = []
    for name, called in METHODS:
        null = called(log_ratios(ONE_QUESTION, COMPARISONS, rng()))
        true = called(log_ratios(replace(ONE_QUESTION, difference=math.log(1.1)), COMPARISONS, rng()))
        rows.append([name, percent(null.any(-1).mean()), percent(true.mean())])
    harness = found(ONE_QUESTION, COMPARISONS, rng())
    power = found(replace(ONE_QUESTION, difference=math.log(1.1)), COMPARISONS, rng()).calls
    rows.append(["this harness", percent(harness.any_call), percent(power)])
    return table(["method", "any false verdict", "power at 10 %"], rows)


def _plain(values: np.ndarray) -> np.ndarray:
    spread = Moderated(values.var(-1, ddof=1), np.asarray(values.shape[-1] - 1.0))
    return p_different(values.mean(-1), spread, values.shape[-1])


def _holm(p: np.ndarray) -> np.ndarray:
    order = np.argsort(p, -1)
    ranked = np.maximum.accumulate(np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1), -1)
    out = np.empty_like(p)
    np.put_along_axis(out, order, ranked, -1)
    return out


def _beyond(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(values.mean(-1)) > MARGIN)


METHODS: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("t in each cell, no correction, no margin", lambda v: _plain(v) < 0.05),
    ("t in each cell, Holm", lambda v: (_holm(_plain(v)) < 0.05) & _beyond(v)),
    ("t in each cell, Benjamini-Hochberg", lambda v: (adjusted(_plain(v)) < 0.05) & _beyond(v)),
)


def bootstrap_coverage(rounds: int) -> float:
    """Of the percentile bootstrap of rounds."""
    random, hits = rng(), 0
    for _ in range(CELLS):
        values = random.standard_normal(rounds)
        means = values[random.integers(0, rounds, (1000, rounds))].mean(-1)
        low, high = np.percentile(means, (2.5, 97.5))
        hits += low <= 0 <= high
    return hits / CELLS


def equality() -> str:
    rows = []
    for sd in (0.005, 0.01, 0.02, 0.04):
        world = World(levels=(sd,), loads=24)
        called = [found(replace(world, difference=math.log1p(d)), 2000, rng()) for d in (0.0, 0.01, 0.02, 0.03)]
        rows.append([percent(sd), *(percent(one.equal) for one in called), percent(called[-1].any_equal)])
    return table(["SD", "true 0 %", "1 %", "2 %", "3 %", "3 %: any of 24 cells"], rows)


def stopping() -> str:
    world = replace(UNLIKE, loads=4)
    single = World(levels=(0.05,), loads=1)
    rows = []
    for name, width in (
        ("half width 10 %", 0.10),
        ("half width 5 %", 0.05),
        ("half width 3 %", 0.03),
        ("until one is called", None),
    ):
        rates = [stopped(one, 3000, rng(), 20, None if width is None else math.log1p(width)) for one in (world, single)]
        rows.append([name, *map(percent, rates)])
    return table(["rounds are added, 5 to 20, until", "6 questions, 4 loads", "one question"], rows)


PERCENTILES: tuple[tuple[int, int, float, float], ...] = (
    # rounds, requests a round, SD of a round's shift, share of slow requests
    (5, 75, 0.0, 0.0), (5, 75, 0.05, 0.02), (5, 200, 0.0, 0.0), (5, 200, 0.05, 0.0), (5, 200, 0.05, 0.02),
    (5, 200, 0.15, 0.02), (5, 1000, 0.05, 0.0), (5, 1000, 0.05, 0.02), (10, 100, 0.05, 0.02), (3, 200, 0.05, 0.02),
)  # fmt: skip


def percentiles() -> str:
    rows = []
    for rounds, requests, shift, tail in PERCENTILES:
        values = [percentile_coverage(q, rounds, requests, shift, tail, CELLS // 2, rng()) for q in (90, 95, 99)]
        ratios = [
            ratio_coverage(99, rounds, requests, shift, both, CELLS // 2, rng()) for both in ((tail, tail), (0.0, 0.03))
        ]
        rows.append([rounds, requests, percent(shift), percent(tail), *map(percent, values), *map(percent, ratios)])
    head = ["rounds", "requests", "shift of a round (SD)", "slow requests", "p90", "p95", "p99", "ratio of p99s"]
    return table([*head, "ratio, tails 0 and 3 %"], rows)


def main() -> None:
    print("False verdicts, coverage and power\n\n" + verdicts())
    print("\nOther methods\n\n" + other_methods())
    covered = [percent(bootstrap_coverage(rounds)) for rounds in (3, 5)]
    print(f"\nThe bootstrap of rounds covers {covered[0]} with 3 rounds and {covered[1]} with 5.")
    print("\nCalled equal\n\n" + equality())
    print("\nFalse verdicts by when one stops\n\n" + stopping())
    print("\nCoverage of percentiles\n\n" + percentiles())


if __name__ == "__main__":
    main()

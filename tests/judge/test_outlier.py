"""A round that is out of line is named, and rounds that merely differ are not."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.judge.comparison import Comparison, compare
from harness.judge.outlier import outlier_round
from harness.judge.pairs import Pair
from harness.judge.precision_reached import wide_pairs
from harness.judge.stats import Estimate
from harness.records.run import RunResult
from tests.invented import campaign


@pytest.fixture
def judged(invented_runs: list[RunResult]) -> Comparison:
    return compare(invented_runs, campaign())


def with_throughput(judged: Comparison, values: Mapping[tuple[str, str], Sequence[float | None]]) -> Comparison:
    """The comparison with these throughputs, a value for each round; of its three loads."""
    cells = []
    for cell in judged.cells:
        mine = tuple(values[cell.candidate, cell.load])
        metrics = {**cell.metrics, "output_throughput": Estimate(1.0, None, None, mine)}
        cells.append(replace(cell, rounds=tuple(range(1, len(mine) + 1)), metrics=metrics))
    return replace(judged, cells=tuple(cells))


def drawn(judged: Comparison, seed: int, rounds: int = 5, sd: float = 0.03) -> dict[tuple[str, str], list[float]]:
    """Rounds with this standard deviation, half of its variance shared by the loads of a round."""
    rng, found = random.Random(seed), {}
    start = {(cell.candidate, r): rng.gauss(0, sd * math.sqrt(0.5)) for cell in judged.cells for r in range(rounds)}
    for cell in judged.cells:
        own = [100 * math.exp(start[cell.candidate, r] + rng.gauss(0, sd * math.sqrt(0.5))) for r in range(rounds)]
        found[cell.candidate, cell.load] = own
    return found


def test_a_planted_outlier_is_named_with_how_far_it_is_off(judged: Comparison) -> None:
    for seed in range(50):
        values = drawn(judged, seed)
        for load in ("c1", "c4"):
            values["beta", load][2] *= 0.7
        found = outlier_round(with_throughput(judged, values))
        assert found is not None and (found.candidate, found.round) == ("beta", 3) and set(found.loads) >= {"c1", "c4"}
        assert 0.6 < found.ratio < 0.8


def test_clean_rounds_have_none(judged: Comparison) -> None:
    for sd in (0.002, 0.03, 0.1):
        named = [outlier_round(with_throughput(judged, drawn(judged, seed, sd=sd))) for seed in range(200)]
        assert sum(one is not None for one in named) <= 2  # 1 %


def test_one_load_three_rounds_or_two_directions_are_not_enough(judged: Comparison) -> None:
    one_load = drawn(judged, 1)
    one_load["beta", "c1"][2] *= 0.5
    three = drawn(judged, 1, rounds=3)
    both_ways = drawn(judged, 1)
    both_ways["beta", "c1"][2] *= 0.5
    both_ways["beta", "c4"][2] *= 2.0
    for load in ("c1", "c4", "offline"):
        three["beta", load][2] *= 0.5
    for values in (one_load, three, both_ways):
        assert outlier_round(with_throughput(judged, values)) is None


def test_a_difference_below_five_per_cent_is_none_even_if_all_else_agrees(judged: Comparison) -> None:
    values = {(cell.candidate, cell.load): [100.0] * 5 for cell in judged.cells}
    for load in ("c1", "c4", "offline"):
        values["alpha", load] = [100.0, 100.0, 95.3, 100.0, 100.0]
    assert outlier_round(with_throughput(judged, values)) is None
    for load in ("c1", "c4", "offline"):
        values["alpha", load] = [100.0, 100.0, 94.9, 100.0, 100.0]
    assert outlier_round(with_throughput(judged, values)) is not None


def test_a_round_without_a_value_is_not_counted(judged: Comparison) -> None:
    values: dict[tuple[str, str], list[float | None]] = {}
    for key, drawn_values in drawn(judged, 1).items():
        values[key] = [*drawn_values[:3], None, 0.0]
    assert outlier_round(with_throughput(judged, values)) is None


# -- whether pairs are known well enough ----------------------------------------------------------------------


def pair(low: float | None, high: float | None, question: str = "output_throughput", **changes: Any) -> Pair:
    made = Pair(
        candidate="beta", against="alpha", load="c1", question=question, ratio=1.0, low=low, high=high, rounds=5,
        verdict="not known",
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("one", "wide"),
    [
        (pair(1 / 1.049, 1.049), False),
        (pair(1 / 1.051, 1.051), True),
        (pair(2.0, 2.2), False),  # separable or not does not matter
        (pair(2.0, 2.21), True),
        (pair(None, None), True),  # no interval yet
        (pair(None, None, ratio=None), False),  # no value: rounds do not help
        (pair(0.5, 2.0, verdict="invalid"), False),
        (pair(0.5, 2.0, question="ttft_p50"), True),
        (pair(0.5, 2.0, question="tpot_p50"), True),
        (pair(0.5, 2.0, question="ttft_p99"), False),  # not waited for
    ],
)
def test_only_the_width_decides(judged: Comparison, one: Pair, wide: bool) -> None:
    assert wide_pairs(replace(judged, pairs=(one,)), 0.05) == ([one] if wide else [])

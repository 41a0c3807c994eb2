"""Ratios of candidates to their reference, load by load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.judge.cells import Cell
from harness.judge.stats import paired_ratio, separation
from harness.records.metrics import BY_KEY

RATIO_METRICS = ("output_throughput", "ttft_p50", "ttft_p99", "tpot_p50")


@dataclass(frozen=True, slots=True)
class Ratio:
    """candidate / reference for one metric at one load. The verdict is better, worse, not separable, unknown (too few
    rounds in common) or invalid (one of the cells is). If a number is None, `reason` says why."""

    candidate: str
    reference: str
    load: str
    metric: str
    ratio: float | None
    low: float | None
    high: float | None
    rounds: int
    verdict: str
    reason: str | None


def ratios(cells: Sequence[Cell], references: Mapping[str, str]) -> tuple[Ratio, ...]:
    """The ratios of all cells. `references`: candidate -> its reference, which has no ratio itself."""
    measured = {(cell.candidate, cell.load): cell for cell in cells}
    pairs = [(cell, measured.get((references.get(cell.candidate, ""), cell.load))) for cell in cells]
    return tuple(
        _ratio(cell, base, metric)
        for cell, base in pairs
        if base is not None and base is not cell
        for metric in RATIO_METRICS
    )


def _ratio(cell: Cell, base: Cell, metric: str) -> Ratio:
    names = (cell.candidate, base.candidate, cell.load, metric)
    invalid = [one for one in (cell, base) if one.verdict == "invalid"]
    if invalid:
        codes = sorted({check.code for one in invalid for check in one.checks if check.verdict == "invalid"})
        who = " and ".join(one.candidate for one in invalid)
        return Ratio(*names, None, None, None, 0, "invalid", f"{who}: {', '.join(codes)}")
    rounds = sorted(set(cell.rounds) & set(base.rounds))
    found = paired_ratio(*([_of_round(one, metric, r) for r in rounds] for one in (cell, base)))
    verdict = separation(found, bool(BY_KEY[metric].larger_is_better))
    few = f"{found.rounds} of the rounds in common have a value; 2 are needed"
    reason = few if verdict == "unknown" else None
    return Ratio(*names, found.ratio, found.low, found.high, found.rounds, verdict, reason)


def _of_round(cell: Cell, metric: str, round_index: int) -> float | None:
    return cell.metrics[metric].per_round[cell.rounds.index(round_index)]

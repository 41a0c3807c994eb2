"""The numbers of every cell, before any check: each metric over the rounds, percentiles over pooled requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.judge.percentiles import POOLED, PooledPercentile, pooled_percentile
from harness.judge.questions import QUESTIONS
from harness.judge.stats import Estimate, estimates
from harness.records.latencies import Floats
from harness.records.metrics import METRICS, Metric, measure
from harness.records.run import RunResult

CellKey = tuple[str, str]  # candidate, load
_ASKED = tuple(question.key for question in QUESTIONS if question.key in POOLED)


@dataclass(frozen=True, slots=True)
class Measured:
    """One candidate at one load, its rounds in order. `samples`: metric -> the values of each round, for the questions
    about a high percentile."""

    rounds: tuple[int, ...]
    per_round: Mapping[str, tuple[float | None, ...]]
    pooled: Mapping[str, PooledPercentile]
    samples: Mapping[str, tuple[Floats, ...]]
    null: bool = False


def measured(runs: Sequence[RunResult]) -> Measured:
    """The numbers of one cell from its runs."""
    numbers = [measure(run) for run in runs]
    pooled, samples = {}, {}
    for latency in {id(one): one for one, _ in POOLED.values()}.values():
        values = tuple(latency.values(run) for run in runs)
        for key, (one, q) in POOLED.items():
            if one is latency:
                pooled[key] = pooled_percentile(values, q, "gaps" if one.key == "itl" else "requests")
                if key in _ASKED:
                    samples[key] = values
    return Measured(
        rounds=tuple(run.manifest.round for run in runs),
        per_round={metric.key: tuple(one[metric.key] for one in numbers) for metric in METRICS},
        pooled=pooled,
        samples=samples,
        null=runs[0].manifest.candidate.null,
    )


def estimates_of(cells: Mapping[CellKey, Measured]) -> dict[CellKey, dict[str, Estimate]]:
    """Every metric of every cell, by key. The spread of each metric is moderated across the cells."""
    group = {metric.key: i for i, metric in enumerate(METRICS)}
    # A null engine is a clock: its spread says nothing about that of engines.
    rows = {
        (cell, key): (2 * group[key] + found.null, values)
        for cell, found in cells.items()
        for key, values in found.per_round.items()
    }
    by_row = estimates(rows)
    return {
        cell: {m.key: _bounded(m, _of_pooled(by_row[cell, m.key], found.pooled.get(m.key))) for m in METRICS}
        for cell, found in cells.items()
    }


def _bounded(metric: Metric, found: Estimate) -> Estimate:
    """A share of requests above 1 cannot be, wherever the formula of its interval ends."""
    if metric.most is None or found.high is None:
        return found
    return replace(found, high=min(found.high, metric.most))


def _of_pooled(over_rounds: Estimate, pooled: PooledPercentile | None) -> Estimate:
    if pooled is None:
        return over_rounds
    return replace(over_rounds, mean=pooled.value, low=pooled.low, high=pooled.high, reason=pooled.reason)

"""A single run: its metrics, the checks that need neither rounds nor other candidates, and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.judge.checks.evidence import SEVERITY, Check, Evidence
from harness.judge.checks.table import judge
from harness.judge.stats import estimate
from harness.records.calibration import Calibration
from harness.records.latencies import PERCENTILE_METHOD, Floats, ok_requests, rate_of
from harness.records.metrics import LATENCIES, RATES, Metric, measure
from harness.records.run import RunResult
from harness.report.columns import value_text
from harness.report.text import MISSING, milliseconds

QUANTILES = (50, 90, 99)
STYLES = {"ok": "", "note": "dim", "doubt": "yellow", "invalid": "bold red"}


def judge_run(run: RunResult, calibrated: Calibration | None = None) -> tuple[dict[str, float | None], list[Check]]:
    """Every metric by key, and the checks. `calibrated`: what is known of the client and its machine."""
    metrics = measure(run)
    evidence = Evidence(
        runs=[run],
        metrics={key: estimate([value]) for key, value in metrics.items()},
        floor=calibrated.floor(run.manifest.load.name, metrics["output_throughput"]) if calibrated else None,
        peaks=calibrated.peaks if calibrated else (),
    )
    return metrics, judge(evidence, rounds=False)


def single_table(run: RunResult, metrics: Mapping[str, float | None], checks: Sequence[Check]) -> RenderableType:
    """For a terminal of 80 columns: latencies, rates, and a line for each check that is not ok."""
    manifest = run.manifest
    load = manifest.load.words(manifest.schedule.requests, rate_of(run, "scheduled_s"))
    statuses = ", ".join(f"{count} {status}" for status, count in _statuses(run).items())
    rates = [_rate(metric, value) for metric in RATES if (value := metrics[metric.key]) is not None]
    # Two per line: more would not fit into 80 columns.
    lines = ["  ·  ".join(rates[i : i + 2]) for i in range(0, len(rates), 2)]
    parts: list[RenderableType] = [
        Text(f"{manifest.candidate.title} at {manifest.load.name}: {load}", style="bold"),
        *([Text(manifest.schedule.trace.words, style="dim")] if manifest.schedule.trace else []),
        Text(f"{statuses or 'no request was sent'}; percentiles by numpy's '{PERCENTILE_METHOD}' method", style="dim"),
        _latencies(run),
        Text(""),
        *map(Text, lines),
    ]
    found = sorted((c for c in checks if c.verdict != "ok"), key=lambda c: -SEVERITY[c.verdict])
    if not ok_requests(run).any():  # that there is nothing to judge is no second cause
        found = [c for c in found if c.verdict != "doubt"]
    parts += [Text(f"{c.verdict}: {c.code}: {c.message}", style=STYLES[c.verdict]) for c in found]
    return Group(*parts)


def _latencies(run: RunResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("ms", "mean", *(f"p{q}" for q in QUANTILES), "n"):
        table.add_column(name, justify="left" if name == "ms" else "right", no_wrap=True)
    for latency in LATENCIES:
        values = latency.values(run)
        if values.size or latency.always:
            table.add_row(latency.title, *_spread(values), f"{values.size:,}")
    return table


def _rate(metric: Metric, value: float) -> str:
    unit = "" if metric.unit == "fraction" else f" {metric.unit}"
    return f"{metric.title} {value_text(metric, value)}{unit}"


def _statuses(run: RunResult) -> dict[str, int]:
    ok = int(ok_requests(run).sum())
    others, counts = np.unique(run.requests["status"][~ok_requests(run)].astype(str), return_counts=True)
    return (
        {"ok": ok, **{str(name): int(count) for name, count in zip(others, counts, strict=True)}}
        if (ok or others.size)
        else {}
    )


def _spread(values: Floats) -> tuple[str, ...]:
    """Mean and percentiles in milliseconds."""
    if not values.size:
        return (MISSING,) * (1 + len(QUANTILES))
    found = np.percentile(values, QUANTILES, method=PERCENTILE_METHOD)
    return tuple(milliseconds(float(value)) for value in (values.mean(), *found))

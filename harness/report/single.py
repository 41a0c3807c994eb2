"""One run by itself: its metrics, the checks that need neither rounds nor other engines, and a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.judge.checks.cell import CELL_CHECKS, drift
from harness.judge.checks.evidence import SEVERITY, Check, Evidence
from harness.judge.loads import describe, kind_of
from harness.judge.stats import estimate
from harness.records.calibration import Floor
from harness.records.metrics import (
    PERCENTILE_METHOD,
    Floats,
    client_lag,
    dispatch_delay,
    e2e,
    e2e_scheduled,
    itl,
    measure,
    ok_requests,
    rate_of,
    tpot,
    ttft,
    ttft_after_upload,
    ttft_scheduled,
    upload,
)
from harness.records.run import RunResult
from harness.report.text import MISSING, milliseconds, number

RUN_CHECKS = tuple(check for check in CELL_CHECKS if check is not drift)  # how far rounds disagree needs rounds
QUANTILES = (50, 90, 99)
LATENCIES: tuple[tuple[str, Callable[[RunResult], Floats]], ...] = (
    ("TTFT", ttft),
    ("TTFT from schedule", ttft_scheduled),
    ("TTFT after upload", ttft_after_upload),
    ("TPOT", tpot),
    ("ITL", itl),
    ("E2E latency", e2e),
    ("E2E from schedule", e2e_scheduled),
    ("Dispatch delay", dispatch_delay),
    ("Upload", upload),
    ("Client lag", client_lag),
)
RATES = (
    ("output_throughput", "output tokens/s"),
    ("total_throughput", "total tokens/s"),
    ("request_throughput", "requests/s"),
    ("request_rate_offered", "requests/s offered"),
    ("concurrency_mean", "in flight on average"),
    ("tokens_per_chunk", "tokens per chunk"),
)
STYLES = {"ok": "", "doubt": "yellow", "invalid": "bold red"}


def judge_run(run: RunResult, floor: Floor | None = None) -> tuple[dict[str, float | None], list[Check]]:
    """Every metric by key, and the checks. `floor` is the client's own at this load."""
    metrics = measure(run)
    evidence = Evidence([run], {key: estimate([value]) for key, value in metrics.items()}, floor)
    return metrics, [check(evidence) for check in RUN_CHECKS]


def single_table(run: RunResult, metrics: Mapping[str, float | None], checks: Sequence[Check]) -> RenderableType:
    """For a terminal of 80 columns: latencies, rates, and a line for each check that is not ok."""
    manifest = run.manifest
    load = describe(manifest, kind_of(manifest), rate_of(run, "scheduled_s"))
    statuses = ", ".join(f"{count} {status}" for status, count in _statuses(run).items())
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("ms", "mean", *(f"p{q}" for q in QUANTILES), "n"):
        table.add_column(name, justify="left" if name == "ms" else "right", no_wrap=True)
    for name, of in LATENCIES:
        values = of(run)
        if values.size or name in ("TTFT", "TPOT", "ITL", "E2E latency"):
            table.add_row(name, *_spread(values), f"{values.size:,}")
    rates = [f"{number(metrics[key])} {unit}" for key, unit in RATES if metrics[key] is not None]
    # Two to a line: six would not fit into the width of a terminal.
    lines = ["  ·  ".join(rates[i : i + 3]) for i in range(0, len(rates), 3)]
    parts: list[RenderableType] = [
        Text(f"{manifest.candidate.title} at {manifest.load.name}: {load}", style="bold"),
        Text(f"{statuses or 'no request was sent'}; percentiles by numpy's '{PERCENTILE_METHOD}' method", style="dim"),
        table,
        Text(""),
        *map(Text, lines),
    ]
    found = sorted((c for c in checks if c.verdict != "ok"), key=lambda c: -SEVERITY[c.verdict])
    parts += [Text(f"{c.verdict}: {c.code}: {c.message}", style=STYLES[c.verdict]) for c in found]
    return Group(*parts)


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

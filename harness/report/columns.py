"""The columns of the result tables: which metrics they show, and how values are formatted."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judge.comparison import Comparison
from harness.judge.loads import LoadSummary
from harness.judge.stats import Estimate
from harness.records.metrics import BY_KEY, Metric
from harness.report.text import milliseconds, number

# Keys of the metrics in the order of their columns; add a key for a new column.
SHOWN = (
    "output_throughput",
    "output_throughput_per_gpu",
    "ttft_p50",
    "ttft_p99",
    "ttft_scheduled_p50",
    "ttft_scheduled_p99",
    "tpot_p50",
    "e2e_p50",
    "e2e_p99",
    "goodput",
    "goodput_fraction",
)
# The table of resources: what serving takes. Columns without any value are left out.
RESOURCES = (
    "roofline_share",
    "engine_cpu_cores",
    "engine_memory_peak",
    "gpu_memory_peak",
    "gpu_busy",
    "gpu_sm_clock",
    "gpu_temperature_peak",
    "power_w",
    "joules_per_output_token",
    "cost_per_million_output_tokens",
    "cost_per_million_input_tokens",
    "cost_per_million_tokens",
)
# Metrics of a cell that no single run has: they need what is known of its machine.
OF_CELLS = {
    "roofline_share": Metric(
        key="roofline_share",
        title="Share of the roofline",
        short="of roofline",
        unit="fraction",
        larger_is_better=True,
        formula="output throughput / the most that the machine's memory and arithmetic allow",
        help="How near the output throughput comes to what the machine allows.",
        of=lambda _: None,
    )
}
FIRST, CHECKS = "candidate", "checks"  # the other columns
CHECKS_HELP = (
    "ok: no check has anything against these numbers. doubt: read the check before relying on them. invalid: a number "
    "is wrong or not comparable, and nothing is ranked."
)


def columns(comparison: Comparison, loads: Sequence[LoadSummary]) -> tuple[Metric, ...]:
    """The metrics of a table of these loads: those from the schedule only if requests have scheduled times, those per
    GPU only if a candidate has several, goodput only with an SLO."""
    due = any(load.open_loop for load in loads)
    several = any((one.gpus or 0) > 1 for one in comparison.candidates)
    wanted = (BY_KEY[key] for key in SHOWN)
    return tuple(
        metric
        for metric in wanted
        if (due or not metric.needs_schedule)
        and (several or not metric.needs_gpus)
        and (comparison.slo is not None or not metric.needs_slo)
    )


def resources(comparison: Comparison) -> tuple[Metric, ...]:
    """The metrics of the table of resources that any cell has a value of."""
    every = {**OF_CELLS, **BY_KEY}
    known = (every[key] for key in RESOURCES if key in every)
    return tuple(
        metric
        for metric in known
        if any(metric.key in cell.metrics and cell.metrics[metric.key].mean is not None for cell in comparison.cells)
    )


def heading(metric: Metric) -> str:
    """The heading of a column: its short title, with the unit where the values would not show it."""
    return f"{metric.short} GB" if metric.unit == "bytes" else metric.short


def header(shown: Sequence[Metric]) -> tuple[str, ...]:
    """The headings of a table with these metrics."""
    return (FIRST, *map(heading, shown), CHECKS)


def helps(shown: Sequence[Metric]) -> dict[str, str]:
    """Heading -> its meaning, of these metrics."""
    return {heading(m): f"{m.help} {m.direction}".strip() for m in shown}


def align(shown: Sequence[Metric]) -> str:
    """`l` or `r` for each column."""
    return f"l{'r' * len(shown)}l"


def value_text(metric: Metric, value: float | None) -> str:
    """Latencies in ms, fractions in per cent, bytes in GB, without the unit."""
    if metric.unit == "s":
        return milliseconds(value)
    if metric.unit == "bytes":
        return number(None if value is None else value / 1e9)
    return f"{value:.1%}" if metric.unit == "fraction" and value is not None else number(value)


def interval_text(metric: Metric, found: Estimate) -> str:
    """`[480, 850]`; empty if there is no interval."""
    if found.mean is None or found.low is None or found.high is None:
        return ""
    return f"[{value_text(metric, found.low)}, {value_text(metric, found.high)}]"


def estimate_text(metric: Metric, found: Estimate) -> str:
    """`640 [480, 850]`: the mean with its interval."""
    return f"{value_text(metric, found.mean)} {interval_text(metric, found)}".rstrip()

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
)
FIRST, RATIO, VERDICT = "candidate", "tok/s ratio", "verdict"  # the other columns
OTHERS_HELP = {
    RATIO: "Output throughput divided by the reference's, round by round, with its 95 % interval.",
    VERDICT: "faster or slower: see the interval. equal: within the margin. not known: more rounds are needed. "
    "invalid: a check found that the number is wrong or not comparable.",
}


def columns(comparison: Comparison, loads: Sequence[LoadSummary]) -> tuple[Metric, ...]:
    """The metrics of a table of these loads: those from the schedule only if requests have scheduled times, those per
    GPU only if a candidate has several."""
    due = any(load.open_loop for load in loads)
    several = any((one.gpus or 0) > 1 for one in comparison.candidates)
    metrics = (BY_KEY[key] for key in SHOWN)
    return tuple(m for m in metrics if (due or not m.needs_schedule) and (several or not m.needs_gpus))


def header(shown: Sequence[Metric]) -> tuple[str, ...]:
    """The headings of a table with these metrics."""
    return (FIRST, *(metric.short for metric in shown), RATIO, VERDICT)


def helps(shown: Sequence[Metric]) -> dict[str, str]:
    """Heading -> its meaning, for all but the first column."""
    return {**{m.short: f"{m.help} {m.direction}".strip() for m in shown}, **OTHERS_HELP}


def align(shown: Sequence[Metric]) -> str:
    """`l` or `r` for each column."""
    return f"l{'r' * len(shown)}ll"


def value_text(metric: Metric, value: float | None) -> str:
    """Latencies in ms, fractions in per cent."""
    if metric.unit == "s":
        return milliseconds(value)
    return f"{value:.1%}" if metric.unit == "fraction" and value is not None else number(value)


def estimate_text(metric: Metric, found: Estimate) -> str:
    """`640 [480, 850]`: the mean with its interval; without brackets if there is none."""
    text = value_text(metric, found.mean)
    if found.mean is None or found.low is None or found.high is None:
        return text
    return f"{text} [{value_text(metric, found.low)}, {value_text(metric, found.high)}]"


def cell_text(metric: Metric, found: Estimate) -> str:
    """The mean; for output throughput also its interval."""
    return estimate_text(metric, found) if metric.key == SHOWN[0] else value_text(metric, found.mean)

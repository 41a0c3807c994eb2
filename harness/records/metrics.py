"""Every metric once: its titles, unit, direction, formula, help and the function that computes it.

Tables, pages and formats read these entries: a new metric needs only an entry here (a latency), in rates.py or in
resources.py and, to be shown, a place among the columns of a report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from harness.records.latencies import (
    Floats,
    client_lag,
    dispatch_delay,
    e2e,
    e2e_scheduled,
    itl,
    mean,
    percentile,
    tpot,
    ttft,
    ttft_after_upload,
    ttft_scheduled,
    upload,
)
from harness.records.metric import Latency, Metric
from harness.records.rates import RATES
from harness.records.resources import RESOURCES
from harness.records.run import RunResult

__all__ = ["BY_KEY", "LATENCIES", "METRICS", "RATES", "Latency", "Metric", "measure"]

LATENCIES: tuple[Latency, ...] = (
    Latency(
        key="ttft",
        title="TTFT",
        short="TTFT",
        formula="first token's arrival - send",
        help="Time to first token: from sending a request to its first token",
        values=ttft,
        always=True,
    ),
    Latency(
        key="tpot",
        title="TPOT",
        short="TPOT",
        formula="(last token - first token) / (output tokens - tokens in the first event), if that is 1 or more",
        help="Time per output token after the first",
        values=tpot,
        always=True,
    ),
    Latency(
        key="itl",
        title="ITL",
        short="ITL",
        formula="gaps between successive chunks of one request, all requests pooled (see tokens per chunk)",
        help="Inter-token latency: the gap between two chunks of one answer",
        values=itl,
        always=True,
    ),
    Latency(
        key="e2e",
        title="E2E latency",
        short="E2E",
        formula="last byte - send",
        help="From sending a request to its last byte",
        values=e2e,
        always=True,
    ),
    Latency(
        key="ttft_scheduled",
        title="TTFT from schedule",
        short="TTFT due",
        formula="first token's arrival - scheduled time; not known without a schedule",
        help="Time to first token from when the request was due: how long its user waited",
        values=ttft_scheduled,
        needs_schedule=True,
    ),
    Latency(
        key="e2e_scheduled",
        title="E2E latency from schedule",
        short="E2E due",
        formula="last byte - scheduled time; not known without a schedule",
        help="From when a request was due to its last byte: how long its user waited",
        values=e2e_scheduled,
        needs_schedule=True,
    ),
    Latency(
        key="dispatch_delay",
        title="Dispatch delay",
        short="delay",
        formula="send - scheduled time, over all requests sent; not known without a schedule",
        help="How late a request was sent",
        values=dispatch_delay,
        percentiles=(50, 99),
        needs_schedule=True,
    ),
    Latency(
        key="upload",
        title="Upload",
        short="upload",
        formula="last request byte handed to the kernel - send",
        help="How long the kernel took to accept a request",
        values=upload,
        percentiles=(50,),
    ),
    Latency(
        key="ttft_after_upload",
        title="TTFT after upload",
        short="TTFT upl.",
        formula="first token's arrival - last request byte handed to the kernel",
        help="Time to first token, from when the request had left the client",
        values=ttft_after_upload,
        percentiles=(50, 99),
    ),
    Latency(
        key="client_lag",
        title="Client lag",
        short="lag",
        formula="(read by the driver - arrived in the kernel), over chunks; metrics use the arrival",
        help="How long an answer's tokens waited in the kernel before the client read them",
        values=client_lag,
        percentiles=(99,),
    ),
)
_RANKS = {
    50: "the median",
    90: "the 90th percentile: 1 in 10 takes longer",
    95: "the 95th percentile: 1 in 20 takes longer",
    99: "the 99th percentile: 1 in 100 takes longer",
}


def _percentile_of(values: Callable[[RunResult], Floats], q: float, run: RunResult) -> float | None:
    return percentile(values(run), q)


def _percentile(of: Latency, q: int) -> Metric:
    return Metric(
        key=f"{of.key}_p{q}",
        title=f"{of.title} p{q}",
        short=f"{of.short} p{q}",
        unit="s",
        larger_is_better=False,
        formula=f"p{q} of {of.formula}",
        help=f"{of.help}, {_RANKS[q]}.",
        of=partial(_percentile_of, of.values, q),
        needs_schedule=of.needs_schedule,
    )


def _ttft_mean(run: RunResult) -> float | None:
    return mean(ttft(run))


TTFT_MEAN = Metric(
    key="ttft_mean",
    title="TTFT mean",
    short="TTFT mean",
    unit="s",
    larger_is_better=False,
    formula="mean of first token's arrival - send",
    help="Time to first token, the mean over requests.",
    of=_ttft_mean,
)
METRICS: tuple[Metric, ...] = (
    *(_percentile(latency, q) for latency in LATENCIES for q in latency.percentiles),
    TTFT_MEAN,
    *RATES,
    *RESOURCES,
)
BY_KEY = {metric.key: metric for metric in METRICS}


def measure(run: RunResult) -> dict[str, float | None]:
    """Every metric of one run by key."""
    # A latency has up to four percentiles, and ITL alone takes a pass over all chunks: its values are made once.
    values = {latency: latency.values(run) for latency in LATENCIES}
    percentiles = {f"{one.key}_p{q}": percentile(values[one], q) for one in LATENCIES for q in one.percentiles}
    return {one.key: percentiles[one.key] if one.key in percentiles else one.of(run) for one in METRICS}

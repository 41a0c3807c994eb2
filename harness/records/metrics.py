"""Every metric once: its titles, unit, direction, formula, help and the function that computes it.

Tables, pages and formats read these entries: a new metric needs only an entry here and, to be shown, a place among
the columns of a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from harness.records.latencies import (
    Floats,
    client_lag,
    column,
    dispatch_delay,
    e2e,
    e2e_scheduled,
    failed_requests,
    itl,
    mean,
    ok_requests,
    percentile,
    rate_of,
    rows_of_ok,
    tpot,
    ttft,
    ttft_after_upload,
    ttft_scheduled,
    upload,
    window_s,
)
from harness.records.metric import Metric as Metric
from harness.records.resources import RESOURCES
from harness.records.run import RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A latency: seconds, one value for each request, gap or chunk. Its percentiles are metrics."""

    key: str
    title: str
    short: str
    formula: str
    help: str  # one sentence, without the percentile
    values: Callable[[RunResult], Floats]
    percentiles: tuple[int, ...] = (50, 99)  # the ones that are metrics
    needs_schedule: bool = False
    always: bool = False  # has a row in the table of a single run even if it is not known


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
_T = "T = first send to last byte over ok requests"
_RANKS = {50: "the median", 99: "the 99th percentile: 1 in 100 takes longer"}


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


def _per_second(amount: Callable[[RunResult], float], run: RunResult) -> float | None:
    window = window_s(run)
    return None if window is None else amount(run) / window


def _output_tokens(run: RunResult) -> float:
    return float(column(run, "output_tokens").sum())


def _per_gpu(run: RunResult) -> float | None:
    gpus, rate = run.manifest.endpoint.gpus, _per_second(_output_tokens, run)
    return rate / gpus if gpus and rate is not None else None


def _all_tokens(run: RunResult) -> float:
    return _output_tokens(run) + float(column(run, "sent_tokens").sum())


def _completed(run: RunResult) -> float:
    return float(ok_requests(run).sum())


def _request_seconds(run: RunResult) -> float:
    return float(e2e(run).sum())


def _ttft_mean(run: RunResult) -> float | None:
    return mean(ttft(run))


def _tokens_per_chunk(run: RunResult) -> float | None:
    tokens = run.chunks["tokens"][rows_of_ok(run)]
    return float(tokens.mean()) if tokens.size else None


def _failed_fraction(run: RunResult) -> float | None:
    failed = failed_requests(run)
    return float(failed.mean()) if failed.size else None


def _offered(run: RunResult) -> float | None:
    return rate_of(run, "scheduled_s")


RATES: tuple[Metric, ...] = (
    Metric(
        key="output_throughput",
        title="Output throughput",
        short="output tok/s",
        unit="tokens/s",
        larger_is_better=True,
        formula=f"output tokens of ok requests / T; {_T}",
        help="Output tokens per second over the measured window, all requests.",
        of=partial(_per_second, _output_tokens),
    ),
    Metric(
        key="output_throughput_per_gpu",
        title="Output throughput per GPU",
        short="tok/s per GPU",
        unit="tokens/s",
        larger_is_better=True,
        formula=f"output tokens of ok requests / T / GPUs that serve the model; not known without a GPU; {_T}",
        help="Output tokens per second for each GPU that serves the model.",
        of=_per_gpu,
        needs_gpus=True,
    ),
    Metric(
        key="total_throughput",
        title="Total throughput",
        short="total tok/s",
        unit="tokens/s",
        larger_is_better=True,
        formula=f"(prompt + output tokens) of ok requests / T; {_T}",
        help="Prompt and output tokens per second over the measured window.",
        of=partial(_per_second, _all_tokens),
    ),
    Metric(
        key="request_throughput",
        title="Request throughput",
        short="requests/s",
        unit="requests/s",
        larger_is_better=True,
        formula=f"ok requests / T; {_T}",
        help="Requests answered per second over the measured window.",
        of=partial(_per_second, _completed),
    ),
    Metric(
        key="request_rate_offered",
        title="Offered request rate",
        short="offered/s",
        unit="requests/s",
        larger_is_better=None,
        formula="(requests issued - 1) / (last scheduled time - first); not known without a schedule",
        help="Requests per second according to the schedule, answered or not.",
        of=_offered,
        needs_schedule=True,
    ),
    Metric(
        key="concurrency_mean",
        title="Mean concurrency",
        short="in flight",
        unit="requests",
        larger_is_better=None,
        formula=f"sum of E2E latency / T (Little's law); {_T}",
        help="How many requests were in flight, on average.",
        of=partial(_per_second, _request_seconds),
    ),
    Metric(
        key="tokens_per_chunk",
        title="Tokens per chunk",
        short="tok/chunk",
        unit="tokens",
        larger_is_better=None,
        formula="output tokens / chunks that carried them",
        help="How many tokens arrived together; ITL is the gap between such chunks.",
        of=_tokens_per_chunk,
    ),
    Metric(
        key="failed_fraction",
        title="Failed requests",
        short="failed",
        unit="fraction",
        larger_is_better=False,
        formula="failed requests / requests issued; a request cancelled as planned is not failed",
        help="The share of requests that failed.",
        of=_failed_fraction,
    ),
)
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
    return {metric.key: metric.of(run) for metric in METRICS}

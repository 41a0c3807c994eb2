"""The metrics that are no percentile of a latency: rates, shares and means over a run's window."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from harness.records.latencies import (
    arrived_in,
    cancelled_requests,
    column,
    failed_requests,
    good_requests,
    in_flight_s,
    ok_requests,
    rate_of,
    rows_of_ok,
    times,
    tokens_in,
)
from harness.records.metric import Metric
from harness.records.run import RunResult
from harness.records.window import Window, window_of

_T = "T = the steady window: from all slots busy to the last send; of batches, from the first send to the last byte"


def _per_second(amount: Callable[[RunResult, Window], float], run: RunResult) -> float | None:
    window = window_of(run)
    return None if window is None else amount(run, window) / window.seconds


def _per_gpu(run: RunResult) -> float | None:
    gpus, rate = run.manifest.endpoint.gpus, _per_second(tokens_in, run)
    return rate / gpus if gpus and rate is not None else None


def _all_tokens(run: RunResult, window: Window) -> float:
    prefilled = arrived_in(run, "first_token_s", window)  # a prompt counts when its first token arrives
    return tokens_in(run, window) + float(column(run, "sent_tokens")[prefilled].sum())


def _completed(run: RunResult, window: Window) -> float:
    return float(arrived_in(run, "done_s", window).sum())


def _goodput(run: RunResult) -> float | None:
    window, slo = window_of(run), run.manifest.slo
    if window is None or slo is None:
        return None
    good = good_requests(run, slo)[ok_requests(run)]
    return float((good & arrived_in(run, "done_s", window)).sum()) / window.seconds


def _goodput_fraction(run: RunResult) -> float | None:
    window, slo = window_of(run), run.manifest.slo
    if slo is None:
        return None
    issued = np.isfinite(times(run, "sent_s")) & ~cancelled_requests(run)
    if window is not None and window.before:
        issued &= times(run, "sent_s") >= window.start_s
    return float(good_requests(run, slo)[issued].mean()) if issued.any() else None


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
        formula=f"output tokens of ok requests that arrived in T / T; {_T}",
        help="Output tokens per second over the measured window, all requests.",
        of=partial(_per_second, tokens_in),
    ),
    Metric(
        key="output_throughput_per_gpu",
        title="Output throughput per GPU",
        short="tok/s per GPU",
        unit="tokens/s",
        larger_is_better=True,
        formula="output throughput / GPUs that serve the model; not known without a GPU",
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
        formula=f"(output tokens that arrived in T + prompt tokens whose first output token did) / T; {_T}",
        help="Prompt and output tokens per second over the measured window.",
        of=partial(_per_second, _all_tokens),
    ),
    Metric(
        key="request_throughput",
        title="Request throughput",
        short="requests/s",
        unit="requests/s",
        larger_is_better=True,
        formula=f"ok requests that ended in T / T; {_T}",
        help="Requests answered per second over the measured window.",
        of=partial(_per_second, _completed),
    ),
    Metric(
        key="goodput",
        title="Goodput",
        short="goodput/s",
        unit="requests/s",
        larger_is_better=True,
        formula=f"ok requests that met every SLO and ended in T / T; not known without an SLO; {_T}",
        help="Requests per second that met every service level objective.",
        of=_goodput,
        needs_slo=True,
    ),
    Metric(
        key="goodput_fraction",
        title="Share within the SLO",
        short="within SLO",
        unit="fraction",
        larger_is_better=True,
        formula="requests that met every SLO / requests issued in T, failed ones included; not known without an SLO",
        help="The share of the requests issued that met every service level objective.",
        of=_goodput_fraction,
        most=1.0,
        needs_slo=True,
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
        formula=f"seconds that ok requests were in flight within T / T; {_T}",
        help="How many requests were in flight, on average.",
        of=partial(_per_second, in_flight_s),
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
        most=1.0,
    ),
)

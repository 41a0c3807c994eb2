"""Every metric once: its key, unit, direction, formula in words and the function that computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.records import RunResult

Floats = NDArray[np.float64]
PERCENTILE_METHOD: Literal["linear"] = (
    "linear"  # numpy's name; another one moves a p99 of few requests by several per cent
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of one run. `of` returns null where no request can say it; `larger_is_better` is null
    where neither direction is good."""

    key: str
    title: str
    unit: str  # s, tokens/s, requests/s, tokens, requests, fraction
    larger_is_better: bool | None
    formula: str
    of: Callable[[RunResult], float | None]


def ok_requests(run: RunResult) -> NDArray[np.bool_]:
    """Shape (requests,): true where the request came back whole. Failures carry no latency."""
    return np.asarray(run.requests["status"] == "ok", dtype=np.bool_)


def column(run: RunResult, name: str) -> Floats:
    """Shape (ok requests,): one column of the requests that came back whole, NaN for null."""
    return np.asarray(run.requests[name][ok_requests(run)], dtype=np.float64)


def ttft(run: RunResult) -> Floats:
    """Seconds from the send to the arrival of the first content token; shape (ok requests,)."""
    return _finite(column(run, "first_token_s") - column(run, "sent_s"))


def tpot(run: RunResult) -> Floats:
    """Seconds for each output token after the first event; shape (requests with two events or more,)."""
    # Tokens that came with the first event took no decode time of their own: counting them (the usual
    # n - 1) would flatter an engine that bundles several tokens into its first chunk.
    tokens = column(run, "output_tokens") - column(run, "first_event_tokens")
    decoding = tokens >= 1  # NaN compares false: a request that does not say its first event is left out
    span = column(run, "last_token_s") - column(run, "first_token_s")
    return _finite(span[decoding] / tokens[decoding])


def e2e(run: RunResult) -> Floats:
    """Seconds from the send to the last byte; shape (ok requests,)."""
    return _finite(column(run, "done_s") - column(run, "sent_s"))


def itl(run: RunResult) -> Floats:
    """Seconds between successive chunks of one request, all requests pooled; shape (gaps,)."""
    index, arrival = _ok_chunks(run, "index"), _ok_chunks(run, "arrival_ns")
    order = np.lexsort((arrival, index))
    index, arrival = index[order], arrival[order]
    gaps = np.diff(arrival) / 1e9
    # Without this line the pause between one request's last chunk and another's first would count.
    return np.asarray(gaps[index[1:] == index[:-1]], dtype=np.float64)


def client_lag(run: RunResult) -> Floats:
    """Seconds that each chunk lay in the kernel before the driver read it; shape (chunks of ok requests,)."""
    return np.asarray((_ok_chunks(run, "read_ns") - _ok_chunks(run, "arrival_ns")) / 1e9, dtype=np.float64)


def slot_time_lost(run: RunResult) -> tuple[float, float]:
    """Seconds that the last chunks of ok requests lay unread, and seconds that those requests were in flight.

    Until the last chunk is read, the slot of a closed loop stays taken."""
    last: dict[int, float] = {}
    for index, lag in zip(_ok_chunks(run, "index"), client_lag(run), strict=True):
        last[int(index)] = float(lag)  # chunks are stored in the order of their arrival
    return sum(last.values()), float(np.sum(e2e(run)))


def window_s(run: RunResult) -> float | None:
    """Seconds from the first send to the last byte over ok requests: the T of every throughput."""
    sent, done = column(run, "sent_s"), column(run, "done_s")
    if not sent.size:
        return None
    window = float(np.nanmax(done) - np.nanmin(sent))
    return window if window > 0 else None


def percentile(values: Floats, q: float) -> float | None:
    """The q-th percentile, null of nothing."""
    return float(np.percentile(values, q, method=PERCENTILE_METHOD)) if values.size else None


def _finite(values: Floats) -> Floats:
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


def _ok_chunks(run: RunResult, name: str) -> NDArray[Any]:
    mine = np.isin(run.chunks["index"], run.requests["index"][ok_requests(run)])
    return np.asarray(run.chunks[name][mine])


def _percentile_of(values: Callable[[RunResult], Floats], q: float, run: RunResult) -> float | None:
    return percentile(values(run), q)


def _mean_of(values: Callable[[RunResult], Floats], run: RunResult) -> float | None:
    found = values(run)
    return float(found.mean()) if found.size else None


def _per_second(amount: Callable[[RunResult], float], run: RunResult) -> float | None:
    window = window_s(run)
    return None if window is None else amount(run) / window


def _output_tokens(run: RunResult) -> float:
    return float(column(run, "output_tokens").sum())


def _all_tokens(run: RunResult) -> float:
    return _output_tokens(run) + float(column(run, "sent_tokens").sum())


def _completed(run: RunResult) -> float:
    return float(ok_requests(run).sum())


def _request_seconds(run: RunResult) -> float:
    return float(e2e(run).sum())


def _tokens_per_chunk(run: RunResult) -> float | None:
    tokens = _ok_chunks(run, "tokens")
    return float(tokens.mean()) if tokens.size else None


def _failed_fraction(run: RunResult) -> float | None:
    ok = ok_requests(run)
    return float(1.0 - ok.mean()) if ok.size else None


_TTFT = "first token's arrival - send"
_TPOT = "(last token - first token) / (output tokens - tokens in the first event), where that is 1 or more"
_ITL = "gaps between successive chunks of one request, all requests pooled (see tokens per chunk)"
_E2E = "last byte - send"
_T = "T = first send to last byte over ok requests"


def _p(key: str, name: str, q: int, formula: str, values: Callable[[RunResult], Floats]) -> Metric:
    return Metric(f"{key}_p{q}", f"{name} p{q}", "s", False, f"p{q} of {formula}", partial(_percentile_of, values, q))


METRICS: tuple[Metric, ...] = (
    _p("ttft", "TTFT", 50, _TTFT, ttft),
    _p("ttft", "TTFT", 99, _TTFT, ttft),
    Metric("ttft_mean", "TTFT mean", "s", False, f"mean of {_TTFT}", partial(_mean_of, ttft)),
    _p("tpot", "TPOT", 50, _TPOT, tpot),
    _p("tpot", "TPOT", 99, _TPOT, tpot),
    _p("itl", "ITL", 50, _ITL, itl),
    _p("itl", "ITL", 99, _ITL, itl),
    _p("e2e", "E2E latency", 50, _E2E, e2e),
    _p("e2e", "E2E latency", 99, _E2E, e2e),
    Metric(
        "output_throughput",
        "Output throughput",
        "tokens/s",
        True,
        f"output tokens of ok requests / T; {_T}",
        partial(_per_second, _output_tokens),
    ),
    Metric(
        "total_throughput",
        "Total throughput",
        "tokens/s",
        True,
        f"(prompt + output tokens) of ok requests / T; {_T}",
        partial(_per_second, _all_tokens),
    ),
    Metric(
        "request_throughput",
        "Request throughput",
        "requests/s",
        True,
        f"ok requests / T; {_T}",
        partial(_per_second, _completed),
    ),
    Metric(
        "concurrency_mean",
        "Mean concurrency",
        "requests",
        None,
        f"sum of E2E latency / T (Little's law); {_T}",
        partial(_per_second, _request_seconds),
    ),
    Metric(
        "tokens_per_chunk",
        "Tokens per chunk",
        "tokens",
        None,
        "output tokens / chunks that carried them",
        _tokens_per_chunk,
    ),
    Metric(
        "failed_fraction", "Failed requests", "fraction", False, "failed requests / requests issued", _failed_fraction
    ),
    Metric(
        "client_lag_p99",
        "Client lag p99",
        "s",
        False,
        "p99 of (read by the driver - arrived in the kernel), over chunks; metrics use the arrival",
        partial(_percentile_of, client_lag, 99),
    ),
)
BY_KEY = {metric.key: metric for metric in METRICS}


def measure(run: RunResult) -> dict[str, float | None]:
    """Every metric of one run by key."""
    return {metric.key: metric.of(run) for metric in METRICS}

"""Every metric once: its key, unit, direction, formula in words and the function that computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.records.chunks import Groups, gaps, group
from harness.records.run import RunResult

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


def cancelled_requests(run: RunResult) -> NDArray[np.bool_]:
    """Shape (requests,): true where the user gave the request up as the schedule said: neither ok nor failed."""
    return np.asarray(run.requests["status"] == "cancelled", dtype=np.bool_)


def failed_requests(run: RunResult) -> NDArray[np.bool_]:
    """Shape (requests,): true where a request that was meant to come back did not."""
    return ~(ok_requests(run) | cancelled_requests(run))


def column(run: RunResult, name: str) -> Floats:
    """Shape (ok requests,): one column of the requests that came back whole, NaN for null."""
    return np.asarray(run.requests[name][ok_requests(run)], dtype=np.float64)


def times(run: RunResult, name: str) -> Floats:
    """Shape (requests issued,): one column of all of them, NaN for null."""
    return np.asarray(run.requests[name], dtype=np.float64)


def between(run: RunResult, start: str, end: str) -> Floats:
    """Seconds from one column of times to another, where a request has both; shape (at most ok requests,)."""
    return _finite(column(run, end) - column(run, start))


def ttft(run: RunResult) -> Floats:
    """Seconds from the send to the arrival of the first content token; shape (ok requests,)."""
    return between(run, "sent_s", "first_token_s")


def ttft_scheduled(run: RunResult) -> Floats:
    """The same from the scheduled time; empty where the load had no times. From the send alone, a request
    that was sent late because earlier ones were slow would hide its wait (coordinated omission)."""
    return between(run, "scheduled_s", "first_token_s")


def ttft_after_upload(run: RunResult) -> Floats:
    """Seconds from the last request byte handed to the kernel to the first content token."""
    return between(run, "uploaded_s", "first_token_s")


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
    return between(run, "sent_s", "done_s")


def e2e_scheduled(run: RunResult) -> Floats:
    """Seconds from the scheduled time to the last byte; empty where the load had no times."""
    return between(run, "scheduled_s", "done_s")


def upload(run: RunResult) -> Floats:
    """Seconds from the send until the kernel had the last request byte; shape (ok requests,)."""
    return between(run, "sent_s", "uploaded_s")


def dispatch_delay(run: RunResult) -> Floats:
    """Seconds from the scheduled time to the send, of every request that was sent, whatever became of it."""
    return _finite(times(run, "sent_s") - times(run, "scheduled_s"))


def itl(run: RunResult) -> Floats:
    """Seconds between successive chunks of one request, all requests pooled; shape (gaps,)."""
    groups = group(run.chunks)
    return gaps(run.chunks, groups, _of_ok(run, groups))


def client_lag(run: RunResult) -> Floats:
    """Seconds that each chunk lay in the kernel before the driver read it; shape (chunks of ok requests,)."""
    lag = run.chunks["read_ns"] - run.chunks["arrival_ns"]
    return np.asarray(lag[_rows_of_ok(run)] / 1e9, dtype=np.float64)


def slot_time_lost(run: RunResult) -> tuple[float, float]:
    """Seconds that the last chunks of ok requests lay unread, and seconds that those requests were in flight.

    Until the last chunk is read, the slot of a closed loop stays taken."""
    groups = group(run.chunks)
    last = groups.stop[_of_ok(run, groups)] - 1
    lost_ns = run.chunks["read_ns"][last] - run.chunks["arrival_ns"][last]
    return float(lost_ns.sum()) / 1e9, float(np.sum(e2e(run)))


def rate_of(run: RunResult, name: str) -> float | None:
    """Requests/s by one column of times: (n - 1) / (last - first), over all requests that have it.

    n intervals would need the time at which the next request came, which the run does not have."""
    found = _finite(times(run, name))
    span = float(np.ptp(found)) if found.size > 1 else 0.0
    return (found.size - 1) / span if span > 0 else None


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


def _of_ok(run: RunResult, groups: Groups) -> NDArray[np.bool_]:
    """Shape (groups,): true where the chunks are those of an ok request."""
    return np.isin(groups.index, run.requests["index"][ok_requests(run)])


def _rows_of_ok(run: RunResult) -> NDArray[np.bool_]:
    """Shape (chunks,)."""
    groups = group(run.chunks)
    return np.repeat(_of_ok(run, groups), groups.stop - groups.start)


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
    tokens = run.chunks["tokens"][_rows_of_ok(run)]
    return float(tokens.mean()) if tokens.size else None


def _failed_fraction(run: RunResult) -> float | None:
    failed = failed_requests(run)
    return float(failed.mean()) if failed.size else None


def _offered(run: RunResult) -> float | None:
    return rate_of(run, "scheduled_s")


_TTFT = "first token's arrival - send"
_TTFT_SCHEDULED = "first token's arrival - scheduled time; null where nothing was scheduled"
_AFTER_UPLOAD = "first token's arrival - last request byte handed to the kernel"
_TPOT = "(last token - first token) / (output tokens - tokens in the first event), where that is 1 or more"
_ITL = "gaps between successive chunks of one request, all requests pooled (see tokens per chunk)"
_E2E = "last byte - send"
_E2E_SCHEDULED = "last byte - scheduled time; null where nothing was scheduled"
_DELAY = "send - scheduled time, over all requests sent; null where nothing was scheduled"
_UPLOAD = "last request byte handed to the kernel - send"
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
    _p("ttft_scheduled", "TTFT from schedule", 50, _TTFT_SCHEDULED, ttft_scheduled),
    _p("ttft_scheduled", "TTFT from schedule", 99, _TTFT_SCHEDULED, ttft_scheduled),
    _p("e2e_scheduled", "E2E latency from schedule", 50, _E2E_SCHEDULED, e2e_scheduled),
    _p("e2e_scheduled", "E2E latency from schedule", 99, _E2E_SCHEDULED, e2e_scheduled),
    _p("dispatch_delay", "Dispatch delay", 50, _DELAY, dispatch_delay),
    _p("dispatch_delay", "Dispatch delay", 99, _DELAY, dispatch_delay),
    _p("upload", "Upload", 50, _UPLOAD, upload),
    _p("ttft_after_upload", "TTFT after upload", 50, _AFTER_UPLOAD, ttft_after_upload),
    _p("ttft_after_upload", "TTFT after upload", 99, _AFTER_UPLOAD, ttft_after_upload),
    Metric(
        "request_rate_offered",
        "Offered request rate",
        "requests/s",
        None,
        "(requests issued - 1) / (last scheduled time - first); null where nothing was scheduled",
        _offered,
    ),
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
        "failed_fraction",
        "Failed requests",
        "fraction",
        False,
        "failed requests / requests issued; given up by their user as planned is not failed",
        _failed_fraction,
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

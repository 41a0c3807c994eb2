"""Latencies as arrays of seconds. Every latency is defined here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.records.chunks import Groups, gaps, group
from harness.records.run import RunResult

Floats = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]  # of requests.parquet, one entry per request
PERCENTILE_METHOD: Literal["linear"] = (
    "linear"  # numpy's name; another one moves a p99 of few requests by several per cent
)
# From one column of times to another.
TTFT = ("sent_s", "first_token_s")
TTFT_SCHEDULED = ("scheduled_s", "first_token_s")
TTFT_AFTER_UPLOAD = ("uploaded_s", "first_token_s")
E2E = ("sent_s", "done_s")
E2E_SCHEDULED = ("scheduled_s", "done_s")
DISPATCH_DELAY = ("scheduled_s", "sent_s")
UPLOAD = ("sent_s", "uploaded_s")


def seconds(columns: Columns, start: str, end: str) -> Floats:
    """From one column of times to another, shape (requests,); NaN if a request lacks one of them."""
    return floats(columns[end]) - floats(columns[start])


def tpot_s(first_token_s: Any, last_token_s: Any, output_tokens: Any, first_event_tokens: Any) -> Floats:
    """Seconds for each output token after the first event, (last - first) / (output tokens - tokens in the first
    event), of arrays of one shape; NaN if no token came after the first event."""
    # The tokens of the first event took no decode time: with the usual n - 1 instead, TPOT would be too low for an
    # engine that bundles several tokens into its first chunk.
    tokens = floats(output_tokens) - floats(first_event_tokens)
    span = floats(last_token_s) - floats(first_token_s)
    # NaN compares false: a request whose first event is not known is left out.
    return np.asarray(np.divide(span, tokens, out=np.full(span.shape, np.nan), where=tokens >= 1))


def tpot_of(columns: Columns) -> Floats:
    """TPOT of every request, shape (requests,); NaN if it has none."""
    return tpot_s(*(columns[n] for n in ("first_token_s", "last_token_s", "output_tokens", "first_event_tokens")))


def ok_requests(run: RunResult) -> NDArray[np.bool_]:
    """Shape (requests,): true if the request succeeded. Failed requests have no latency."""
    return np.asarray(run.requests["status"] == "ok", dtype=np.bool_)


def cancelled_requests(run: RunResult) -> NDArray[np.bool_]:
    """Shape (requests,): true if its user cancelled it as planned: neither ok nor failed."""
    return np.asarray(run.requests["status"] == "cancelled", dtype=np.bool_)


def failed_requests(run: RunResult) -> NDArray[np.bool_]:
    """Shape (requests,): true if it neither succeeded nor was cancelled as planned."""
    return ~(ok_requests(run) | cancelled_requests(run))


def column(run: RunResult, name: str) -> Floats:
    """Shape (ok requests,): one column of the requests that succeeded, NaN if missing."""
    return floats(run.requests[name][ok_requests(run)])


def times(run: RunResult, name: str) -> Floats:
    """Shape (requests issued,): one column of all of them, NaN if missing."""
    return floats(run.requests[name])


def _between(run: RunResult, span: tuple[str, str]) -> Floats:
    return known(seconds(run.requests, *span)[ok_requests(run)])


def ttft(run: RunResult) -> Floats:
    """Seconds from the send to the arrival of the first content token; shape (ok requests,)."""
    return _between(run, TTFT)


def ttft_scheduled(run: RunResult) -> Floats:
    """The same from the scheduled time; empty if the load has no times. Counted from the send, a request that was sent
    late because earlier ones were slow would hide its wait (coordinated omission)."""
    return _between(run, TTFT_SCHEDULED)


def ttft_after_upload(run: RunResult) -> Floats:
    """Seconds from the last request byte handed to the kernel to the first content token."""
    return _between(run, TTFT_AFTER_UPLOAD)


def tpot(run: RunResult) -> Floats:
    """Seconds for each output token after the first event; shape (ok requests with two events or more,)."""
    return known(tpot_of(run.requests)[ok_requests(run)])


def e2e(run: RunResult) -> Floats:
    """Seconds from the send to the last byte; shape (ok requests,)."""
    return _between(run, E2E)


def e2e_scheduled(run: RunResult) -> Floats:
    """Seconds from the scheduled time to the last byte; empty if the load has no times."""
    return _between(run, E2E_SCHEDULED)


def upload(run: RunResult) -> Floats:
    """Seconds from the send until the kernel had the last request byte; shape (ok requests,)."""
    return _between(run, UPLOAD)


def dispatch_delay(run: RunResult) -> Floats:
    """Seconds from the scheduled time to the send, of every request that was sent, successful or not."""
    return known(seconds(run.requests, *DISPATCH_DELAY))


def itl(run: RunResult) -> Floats:
    """Seconds between successive chunks of one request, all requests pooled; shape (gaps,)."""
    groups = group(run.chunks)
    return gaps(run.chunks, groups, _of_ok(run, groups))


def client_lag(run: RunResult) -> Floats:
    """Seconds that each chunk waited in the kernel until the driver read it; shape (chunks of ok requests,)."""
    lag = run.chunks["read_ns"] - run.chunks["arrival_ns"]
    return np.asarray(lag[rows_of_ok(run)] / 1e9, dtype=np.float64)


def slot_time_lost(run: RunResult) -> tuple[float, float]:
    """Seconds that the last chunks of ok requests waited to be read, and seconds that those requests were in flight.

    Until the last chunk is read, the slot of a closed loop stays taken, and throughput is lost."""
    groups = group(run.chunks)
    last = groups.stop[_of_ok(run, groups)] - 1
    lost_ns = run.chunks["read_ns"][last] - run.chunks["arrival_ns"][last]
    return float(lost_ns.sum()) / 1e9, float(np.sum(e2e(run)))


def rate_of(run: RunResult, name: str) -> float | None:
    """Requests/s by one column of times: (n - 1) / (last - first), over all requests that have it.

    For n intervals one would need the time of the next request, which the run does not have."""
    found = known(times(run, name))
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
    """The q-th percentile; None for an empty array."""
    return float(np.percentile(values, q, method=PERCENTILE_METHOD)) if values.size else None


def mean(values: Floats) -> float | None:
    """The mean; None for an empty array."""
    return float(values.mean()) if values.size else None


def floats(values: Any) -> Floats:
    """As float64, NaN if missing."""
    return np.asarray(values, dtype=np.float64)


def known(values: Floats) -> Floats:
    """Without NaN and infinities."""
    return floats(values[np.isfinite(values)])


def _of_ok(run: RunResult, groups: Groups) -> NDArray[np.bool_]:
    """Shape (groups,): true if the group belongs to an ok request."""
    return np.isin(groups.index, run.requests["index"][ok_requests(run)])


def rows_of_ok(run: RunResult) -> NDArray[np.bool_]:
    """Shape (chunks,): true if the chunk belongs to an ok request."""
    groups = group(run.chunks)
    return np.repeat(_of_ok(run, groups), groups.stop - groups.start)

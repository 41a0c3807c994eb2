"""Latencies as arrays of seconds. Every latency is defined here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.records.chunks import Groups, gaps, group
from harness.records.run import RunResult
from harness.records.window import Window, window_of
from harness.workload.slo import Slo

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


def measured_requests(run: RunResult) -> NDArray[np.bool_]:
    """Shape (requests,): true if the request succeeded and was sent in the run's window: its latency counts. Sent in
    the ramp, it met fewer others than the load has."""
    ok, window = ok_requests(run), window_of(run)
    return np.asarray(ok & (times(run, "sent_s") >= window.start_s)) if window and window.before else ok


def column(run: RunResult, name: str) -> Floats:
    """Shape (ok requests,): one column of the requests that succeeded, NaN if missing."""
    return floats(run.requests[name][ok_requests(run)])


def times(run: RunResult, name: str) -> Floats:
    """Shape (requests issued,): one column of all of them, NaN if missing."""
    return floats(run.requests[name])


def _between(run: RunResult, span: tuple[str, str]) -> Floats:
    return known(seconds(run.requests, *span)[measured_requests(run)])


def ttft(run: RunResult) -> Floats:
    """Seconds from the send to the arrival of the first content token; shape (measured requests,)."""
    return _between(run, TTFT)


def ttft_scheduled(run: RunResult) -> Floats:
    """The same from the scheduled time; empty if the load has no times. Counted from the send, a request that was sent
    late because earlier ones were slow would hide its wait (coordinated omission)."""
    return _between(run, TTFT_SCHEDULED)


def ttft_after_upload(run: RunResult) -> Floats:
    """Seconds from the last request byte handed to the kernel to the first content token."""
    return _between(run, TTFT_AFTER_UPLOAD)


def tpot(run: RunResult) -> Floats:
    """Seconds for each output token after the first event; shape (measured requests with two events or more,)."""
    return known(tpot_of(run.requests)[measured_requests(run)])


def e2e(run: RunResult) -> Floats:
    """Seconds from the send to the last byte; shape (measured requests,)."""
    return _between(run, E2E)


def e2e_scheduled(run: RunResult) -> Floats:
    """Seconds from the scheduled time to the last byte; empty if the load has no times."""
    return _between(run, E2E_SCHEDULED)


def upload(run: RunResult) -> Floats:
    """Seconds from the send until the kernel had the last request byte; shape (measured requests,)."""
    return _between(run, UPLOAD)


def dispatch_delay(run: RunResult) -> Floats:
    """Seconds from the scheduled time to the send, of every request that was sent, successful or not."""
    return known(seconds(run.requests, *DISPATCH_DELAY))


def itl(run: RunResult) -> Floats:
    """Seconds between successive chunks of one request, all requests pooled; shape (gaps,)."""
    groups = group(run.chunks)
    return gaps(run.chunks, groups, _of(run, groups, measured_requests(run)))


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
    return float(lost_ns.sum()) / 1e9, float(known(seconds(run.requests, *E2E)[ok_requests(run)]).sum())


def rate_of(run: RunResult, name: str) -> float | None:
    """Requests/s by one column of times: (n - 1) / (last - first), over all requests that have it.

    For n intervals one would need the time of the next request, which the run does not have."""
    found = known(times(run, name))
    span = float(np.ptp(found)) if found.size > 1 else 0.0
    return (found.size - 1) / span if span > 0 else None


def tokens_in(run: RunResult, window: Window) -> float:
    """Output tokens of ok requests that arrived in the window."""
    if not window.steady:
        return float(column(run, "output_tokens").sum())
    arrival_s = run.chunks["arrival_ns"] / 1e9
    inside = (arrival_s > window.start_s) & (arrival_s <= window.end_s) & rows_of_ok(run)
    return float(run.chunks["tokens"][inside].sum())


def arrived_in(run: RunResult, name: str, window: Window) -> NDArray[np.bool_]:
    """Shape (ok requests,): true if the time in this column is in the window."""
    at = column(run, name)
    return np.asarray((at > window.start_s) & (at <= window.end_s)) if window.steady else np.isfinite(at)


def in_flight_s(run: RunResult, window: Window) -> float:
    """Seconds that ok requests were in flight within the window, summed over requests."""
    start = np.maximum(column(run, "sent_s"), window.start_s)
    return float(known(np.maximum(np.minimum(column(run, "done_s"), window.end_s) - start, 0.0)).sum())


def good_requests(run: RunResult, slo: Slo) -> NDArray[np.bool_]:
    """Shape (requests issued,): true if the request succeeded and met every limit. TTFT and E2E latency count from the
    scheduled time where there is one: that is how long its user waited. An answer of one event has no TPOT to miss."""
    begun = times(run, "scheduled_s")
    begun = np.where(np.isfinite(begun), begun, times(run, "sent_s"))
    good = ok_requests(run)
    for limit, values in (
        (slo.ttft_s, times(run, "first_token_s") - begun),
        (slo.tpot_s, np.nan_to_num(tpot_of(run.requests))),
        (slo.e2e_s, times(run, "done_s") - begun),
    ):
        if limit is not None:
            good = good & (values <= limit)  # NaN compares false: no first token, no good request
    return np.asarray(good, dtype=np.bool_)


def whole_s(run: RunResult) -> float | None:
    """Seconds from the first send to the last byte over ok requests, ramp and tail included."""
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
    return _of(run, groups, ok_requests(run))


def _of(run: RunResult, groups: Groups, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.isin(groups.index, run.requests["index"][wanted])


def rows_of_ok(run: RunResult) -> NDArray[np.bool_]:
    """Shape (chunks,): true if the chunk belongs to an ok request."""
    groups = group(run.chunks)
    return np.repeat(_of_ok(run, groups), groups.stop - groups.start)

"""Whether the times of each request are possible: TIMELINE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.judge.checks.evidence import Evidence, Outcome
from harness.records.chunks import group
from harness.records.latencies import ok_requests, times
from harness.records.run import RunResult

# Sends are timed by the driver, arrivals by the kernel, whose clock is converted: less than this is no contradiction.
TOLERANCE_S = 0.0001
SHOWN = 3  # requests named in the message


@dataclass(frozen=True, slots=True)
class _Order:
    """`later` cannot be before `earlier`."""

    text: str
    earlier: str
    later: str


ORDERS = (
    _Order("first token before the send", "sent_s", "first_token_s"),
    _Order("last token before the first", "first_token_s", "last_token_s"),
    _Order("ended before the last token", "last_token_s", "done_s"),
    _Order("ended before the send", "sent_s", "done_s"),
    _Order("uploaded before the send", "sent_s", "uploaded_s"),
    _Order("sent before it was due", "due_s", "sent_s"),
)
NEEDED = ("sent_s", "first_token_s", "last_token_s", "done_s")  # of an ok request with output
Bad = NDArray[np.bool_]  # shape (requests,)


def timeline(evidence: Evidence) -> Outcome:
    """Times that contradict each other make every latency of the run doubtful, not only of that request: a negative
    TTFT lowers the median and nobody sees why."""
    faults: dict[str, list[str]] = {}
    checked = 0
    for run in evidence.runs:
        checked += len(run.requests["status"])
        for text, bad in _faults(run):
            found = [f"round {run.manifest.round}, request {int(one)}" for one in run.requests["index"][bad]]
            if found:
                faults.setdefault(text, []).extend(found)
    numbers: dict[str, Any] = {"requests": checked, "faults": {text: len(found) for text, found in faults.items()}}
    if not faults:
        return Outcome("ok", f"The times of all {checked} requests are in order.", numbers)
    return Outcome(
        "invalid",
        f"Impossible times: {'; '.join(_named(text, found) for text, found in faults.items())}.",
        numbers,
        "Look at these rows of requests.parquet and chunks.parquet; the clock was set during the run, or the files "
        "were changed.",
    )


def _named(text: str, found: Sequence[str]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{text} ({'; '.join(found[:SHOWN])}{more})"


def _faults(run: RunResult) -> list[tuple[str, Bad]]:
    """Every kind of fault with the requests that have it."""
    found = [(one.text, times(run, one.later) < times(run, one.earlier) - TOLERANCE_S) for one in ORDERS]
    answered = ok_requests(run) & (times(run, "output_tokens") > 0)
    lacking = np.any([~np.isfinite(times(run, name)) for name in NEEDED], axis=0)
    found.append(("a time is missing of an answered request", answered & lacking))
    return [*found, *_chunk_faults(run, answered)]


def _chunk_faults(run: RunResult, answered: Bad) -> list[tuple[str, Bad]]:
    """Faults of the chunks, as faults of their requests."""
    groups = group(run.chunks)
    if not groups.index.size:
        return [("no chunk of an answered request", answered)]
    arrival, read = run.chunks["arrival_ns"], run.chunks["read_ns"]
    unread = np.add.reduceat((read < arrival - TOLERANCE_S * 1e9).astype(np.int64), groups.start) > 0
    first_s = arrival[groups.start] / 1e9
    order = np.argsort(groups.index, kind="stable")  # chunks are in the order in which the requests ended
    at = order[np.minimum(np.searchsorted(groups.index[order], run.requests["index"]), order.size - 1)]
    has = groups.index[at] == run.requests["index"]
    return [
        ("no chunk of an answered request", answered & ~has),
        ("a chunk read before it arrived", has & unread[at]),
        ("a chunk before the send", has & (first_s[at] < times(run, "sent_s") - TOLERANCE_S)),
    ]

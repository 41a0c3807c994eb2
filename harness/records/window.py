"""The part of a run that counts: without the ramp, in which slots open, and the tail, in which they drain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.records.run import RunResult
from harness.workload.loads import ClosedLoop, OpenLoop

LEAST_WAVES = 2  # requests for each slot; with fewer, most of the run is ramp and tail


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds since the start of the run. `steady`: ramp and tail are cut; otherwise it is the whole run, from the
    first send to the last byte. `before`: requests of a closed loop sent before it, which are in no latency; `after`:
    requests that had not ended when it did."""

    start_s: float
    end_s: float
    steady: bool
    before: int = 0
    after: int = 0

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


def window_of(run: RunResult) -> Window | None:
    """The window of a run; None if no request succeeded.

    A closed loop is steady from the send that fills its last slot until the last send, after which slots stay empty; an
    open loop from its first finished answer, before which fewer requests are in flight than later, until its last send.
    Batches have no steady part: theirs is the whole run, as for any run too short to have one."""
    columns = run.requests
    ok = columns["status"] == "ok"
    sent, done = (np.asarray(columns[name], dtype=np.float64) for name in ("sent_s", "done_s"))
    if not (ok & np.isfinite(sent)).any() or not (ok & np.isfinite(done)).any():
        return None
    whole = Window(float(np.nanmin(sent[ok])), float(np.nanmax(done[ok])), steady=False)
    start = _start(run, sent, done)
    end = float(np.nanmax(sent))
    if start is None or not start < end:
        return whole if whole.seconds > 0 else None
    # In an open loop the first requests are users like any other, and their latencies count.
    before = 0 if run.manifest.load.open_loop else int((sent < start).sum())
    return Window(start, end, True, before, int((ok & ~(done <= end)).sum()))


def _start(run: RunResult, sent: NDArray[np.float64], done: NDArray[np.float64]) -> float | None:
    load = run.manifest.load
    if isinstance(load, OpenLoop):
        return float(np.nanmin(done)) if np.isfinite(done).any() else None
    slots = run.manifest.schedule.in_flight
    if not isinstance(load, ClosedLoop) or np.isfinite(sent).sum() < LEAST_WAVES * slots:
        return None
    # A request that failed has no end: counted as ended at once, it never holds a slot.
    ended = np.sort(np.where(np.isnan(done), sent, done))
    sends = np.sort(sent[np.isfinite(sent)])
    in_flight = np.arange(1, sends.size + 1) - np.searchsorted(ended, sends, side="right")
    full = np.flatnonzero(in_flight >= slots)
    return float(sends[full[0]]) if full.size else None

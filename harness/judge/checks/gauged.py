"""The engine's own gauges against what the client had in flight, for LITTLE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.records.latencies import Floats, floats, known, times
from harness.records.run import RunResult
from harness.records.samples import series_of
from harness.records.window import window_of

RUNNING, WAITING = "engine_running", "engine_waiting"
LEAST_READINGS = 5  # in the windows of all rounds


@dataclass(frozen=True, slots=True)
class InFlight:
    """Means over the same moments: requests that the client had in flight, and those that the engine said were running
    or waiting."""

    client: float
    engine: float
    readings: int


def in_flight_by_gauges(runs: Sequence[RunResult]) -> InFlight | None:
    """Both means over all readings in the steady windows; None with fewer than five.

    The client is counted at the moments of the readings and not over the whole window: where the number in flight
    changes, as in an open loop, the mean of few moments is not that of the window. Batches, which have no steady
    window, are left out."""
    client, engine = [], []
    for run in runs:
        window = window_of(run)
        at, total = readings(run)
        # While a batch drains, a reading that is 50 ms old is off by many requests.
        if window is None or not window.steady or not at.size:
            continue
        inside = (at >= window.start_s) & (at <= window.end_s)
        sent, done = times(run, "sent_s"), times(run, "done_s")
        # A failed request has no end; it counts as ended when it was sent.
        ended = np.sort(known(np.where(np.isnan(done), sent, done)))
        client.append(np.searchsorted(np.sort(known(sent)), at[inside]) - np.searchsorted(ended, at[inside]))
        engine.append(total[inside])
    if sum(one.size for one in engine) < LEAST_READINGS:
        return None
    mine, theirs = np.concatenate(client), np.concatenate(engine)
    return InFlight(float(mine.mean()), float(theirs.mean()), int(theirs.size))


def readings(run: RunResult) -> tuple[Floats, Floats]:
    """When the engine's gauges were read, in seconds since the start of the run, and running + waiting at that time.
    Empty if it has none, or if its samples cannot be read."""
    series = series_of(run.folder)
    running, waiting = series.get(RUNNING), series.get(WAITING)
    if running is None:  # those that wait, alone, say nothing about those in flight
        return np.empty(0), np.empty(0)
    if waiting is None:
        return running.t_s, running.values
    both, mine, theirs = np.intersect1d(running.t_s, waiting.t_s, return_indices=True)  # of one page
    return floats(both), floats(running.values[mine] + waiting.values[theirs])

"""The speed of the second half of a run against the first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from harness.judge.stats import exp
from harness.records.latencies import Floats, known, ok_requests, times, tpot_of
from harness.records.run import RunResult
from harness.records.window import Window
from harness.workload.loads import OpenLoop

BLOCKS = 5  # of each half
LEAST_WAVES = 4  # requests for each slot: in fewer, one half may hold one more prefill than the other
LEAST_REQUESTS = 20  # of a run
BINS = 2000  # of the window, in which arrivals are counted
REPLICATES = 3  # rounds from which on their own spread is used


@dataclass(frozen=True, slots=True)
class Change:
    """`ratio`: speed of the second half / the first, the geometric mean over rounds; `p`: of a change at least as
    clear by chance; `of`: whose speed."""

    ratio: float
    p: float
    of: str
    rounds: int

    @property
    def change(self) -> float:
        return self.ratio - 1


def half_change(runs: Sequence[RunResult], windows: Sequence[Window]) -> Change | None:
    """The change within a run; None if the runs are too short to tell.

    Each half is five blocks: of equal work in a closed loop, where speed is tokens/s; of equally many requests in an
    open loop, where the rate of tokens is that of the arrivals and speed is 1/TPOT. With three rounds or more it is a
    paired t test over rounds of the log ratio; its variance is never taken as smaller than the blocks' own, which stand
    alone with fewer rounds. A stop of some seconds makes one block slow and is no change: STALL names it."""
    open_loop = isinstance(runs[0].manifest.load, OpenLoop)
    of = _request_speeds if open_loop else _token_speeds
    measured = (of(run, window) for run, window in zip(runs, windows, strict=True))
    logs = [np.log(speeds) for speeds in measured if speeds is not None]
    if not logs:
        return None
    halves = [(log[:BLOCKS], log[BLOCKS:]) for log in logs]
    ratios = np.array([second.mean() - first.mean() for first, second in halves])
    within = float(np.mean([(np.var(a, ddof=1) + np.var(b, ddof=1)) / BLOCKS for a, b in halves]))
    rounds = len(logs)
    many = rounds >= REPLICATES
    variance = max(within, float(np.var(ratios, ddof=1)) if rounds > 1 else 0.0)
    freedom = rounds - 1 if many else 2 * (BLOCKS - 1)
    mean = float(ratios.mean())
    if variance == 0.0:
        p = 0.0 if mean else 1.0
    else:
        p = 2 * float(stdtr(freedom, -abs(mean) / math.sqrt(variance / rounds)))
    return Change(exp(mean), p, "1/TPOT" if open_loop else "output tokens/s", rounds)


def _token_speeds(run: RunResult, window: Window) -> Floats | None:
    """Tokens/s of ten parts of the window with equally many tokens; None if the run is too short."""
    slots = run.manifest.schedule.in_flight
    if len(run.requests["status"]) < max(LEAST_WAVES * slots, LEAST_REQUESTS):
        return None
    place = (run.chunks["arrival_ns"] / 1e9 - window.start_s) * (BINS / window.seconds)
    inside = (place >= 0) & (place < BINS)
    counts = np.bincount(place[inside].astype(np.int64), run.chunks["tokens"][inside], BINS)
    edges = np.linspace(window.start_s, window.end_s, BINS + 1)
    done = np.concatenate([[0.0], np.cumsum(counts)])
    at = np.interp(np.linspace(0.0, done[-1], 2 * BLOCKS + 1), done, edges)
    took = np.diff(at)
    return done[-1] / (2 * BLOCKS) / took if done[-1] > 0 and (took > 0).all() else None


def _request_speeds(run: RunResult, window: Window) -> Floats | None:
    """1/TPOT, the medians of ten groups of requests in the order of their sends; None if the run is too short."""
    sent, tpot = times(run, "sent_s"), tpot_of(run.requests)
    counts = ok_requests(run) & np.isfinite(tpot) & (sent >= window.start_s)
    if counts.sum() < LEAST_REQUESTS:
        return None
    in_order = tpot[counts][np.argsort(sent[counts], kind="stable")]
    medians = np.array([np.median(part) for part in np.array_split(in_order, 2 * BLOCKS)])
    return 1.0 / medians if (medians > 0).all() else None


def backlog(run: RunResult) -> tuple[float, float] | None:
    """Requests in flight just before a send: the means over the second quarter of the sends and over the last tenth;
    None for a run that is too short."""
    sent = np.sort(known(times(run, "sent_s")))
    if sent.size < LEAST_REQUESTS:
        return None
    done = np.sort(known(times(run, "done_s")))
    in_flight = np.arange(sent.size) - np.searchsorted(done, sent, side="right")
    quarter = sent.size // 4
    return float(in_flight[quarter : 2 * quarter].mean()), float(in_flight[-max(sent.size // 10, 1) :].mean())

"""Whether the engine stood still in the middle of a run: STALL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.judge.checks.evidence import Evidence, Outcome
from harness.records.chunks import group
from harness.records.latencies import Floats, known, ok_requests, percentile, seconds, times, ttft
from harness.records.run import RunResult

LEAST_S = 1.0
OVER_ITL, OVER_TTFT = 20.0, 5.0  # times the median ITL and the p10 of TTFT: a prefill may interrupt an answer
OVER_MEDIAN_TTFT = 20.0  # of a wait for a first token while nothing arrived at all
PATTERN = 4  # as many pauses, each at least half as long as the longest, are how this engine works and no accident
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing came for `requests` answers in this time. Seconds since the start of the run. `whole`: for no answer at
    all."""

    round: int
    start_s: float
    end_s: float
    requests: int
    whole: bool

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s

    @property
    def text(self) -> str:
        who = "of the whole engine" if self.whole else f"in {self.requests} answer{'s' * (self.requests > 1)}"
        return f"{self.seconds:.3g} s at {self.start_s:.3g} s in round {self.round}, {who}"


def stall(evidence: Evidence) -> Outcome | None:
    """A stop of the engine is in the throughput of its round and in the latency of few requests: a p99 hides it.

    Pauses are gaps within an answer, and waits for a first token while nothing at all arrived. A slow prefill is no
    stall, whether it delays its own first token or the other answers: a pause counts if it is out of proportion to the
    TTFT too, and if it is not one of many."""
    found: list[Pause] = []
    many: list[Pause] = []
    for run in evidence.runs:
        pauses = sorted(pauses_of(run), key=lambda one: -one.seconds)
        alike = [one for one in pauses if one.seconds >= pauses[0].seconds / 2]
        (many if len(alike) >= PATTERN else found).extend(alike)
    if not any(run.chunks["arrival_ns"].size for run in evidence.runs):
        return None
    numbers: dict[str, Any] = {
        "stalls": [_numbers(one) for one in found],
        "pauses": len(many),
        "longest_s": max((one.seconds for one in (*found, *many)), default=None),
    }
    if found:
        text = "; ".join(one.text for one in found[:SHOWN])
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return Outcome(
            "doubt",
            f"No token came for {text}{more}.",
            numbers,
            "Read the engine's log at that time, and look for other work on the machine; measure that round again.",
        )
    if many:
        return Outcome(
            "note", f"{len(many)} pauses of up to {numbers['longest_s']:.3g} s: too many for an accident.", numbers
        )
    return Outcome("ok", "Tokens came without a gap out of proportion.", numbers)


def _numbers(pause: Pause) -> dict[str, Any]:
    return {
        "round": pause.round,
        "start_s": round(pause.start_s, 3),
        "seconds": round(pause.seconds, 3),
        "requests": pause.requests,
        "whole": pause.whole,
    }


def pauses_of(run: RunResult) -> list[Pause]:
    """The pauses of one run that are out of proportion, in the order of time."""
    groups = group(run.chunks)
    arrival = run.chunks["arrival_ns"]
    if arrival.size < 2:
        return []
    gap_s = np.diff(arrival) / 1e9
    gap_s[groups.start[1:] - 1] = 0.0  # from one request's last chunk to the next request's first: no gap
    waits = _silent_waits(run)
    if not waits.size and float(gap_s.max()) <= LEAST_S:
        return []
    within = gap_s[gap_s > 0]
    typical, prefill = percentile(within, 50) or 0.0, percentile(ttft(run), 10) or 0.0
    least = max(LEAST_S, OVER_ITL * typical, OVER_TTFT * prefill)
    at = np.flatnonzero(gap_s > least)
    spans = np.stack([arrival[at] / 1e9, arrival[at + 1] / 1e9], axis=1)
    return _merged(np.concatenate([spans, waits]), run, arrival)


def _silent_waits(run: RunResult) -> Floats:
    """Waits for a first token in which nothing else arrived, shape (waits, 2): from the last arrival or the send."""
    sent, first = times(run, "sent_s"), times(run, "first_token_s")
    wait = seconds(run.requests, "sent_s", "first_token_s")
    least = max(LEAST_S, OVER_MEDIAN_TTFT * (percentile(known(wait[ok_requests(run)]), 50) or 0.0))
    long = np.flatnonzero(wait > least)
    if not long.size:
        return np.empty((0, 2))
    arrivals = np.sort(run.chunks["arrival_ns"]) / 1e9
    before = arrivals[np.maximum(np.searchsorted(arrivals, first[long] - 1e-6) - 1, 0)]
    start = np.maximum(sent[long], np.where(before < first[long] - 1e-6, before, -np.inf))
    spans = np.stack([start, first[long]], axis=1)
    return np.asarray(spans[spans[:, 1] - spans[:, 0] > least], dtype=np.float64)


def _merged(spans: Floats, run: RunResult, arrival: NDArray[np.int64]) -> list[Pause]:
    """Overlapping spans are one pause: the time that all of them share."""
    found: list[list[float]] = []  # start, end, requests
    for start, end in sorted(map(tuple, spans.tolist())):
        if found and start < found[-1][1]:
            found[-1] = [max(start, found[-1][0]), min(end, found[-1][1]), found[-1][2] + 1]
        else:
            found.append([start, end, 1])
    return [
        Pause(run.manifest.round, start, end, int(count), not _any_between(arrival, start, end))
        for start, end, count in found
    ]


def _any_between(arrival: NDArray[np.int64], start_s: float, end_s: float) -> bool:
    """Whether any token arrived in between; 1 ms at each end belongs to the tokens around the pause."""
    return bool(np.any((arrival > (start_s + 0.001) * 1e9) & (arrival < (end_s - 0.001) * 1e9)))

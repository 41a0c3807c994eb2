"""Whether the first requests of a run were slower than the rest: WARMUP."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.judge.checks.evidence import Evidence, Outcome
from harness.records.latencies import Floats, known, ok_requests, percentile, seconds, times, tpot_of
from harness.records.run import RunResult
from harness.records.window import window_of
from harness.workload.loads import AllAtOnce, Batches, ClosedLoop, OpenLoop

LEAST = 4  # requests that are first, and requests that are the rest
SLOWER = 2.0  # times the rest's median
STAGGERED = 0.5  # of the median E2E latency, over which the first sends of a closed loop are spread


def warmup(evidence: Evidence) -> Outcome | None:
    """Every load is preceded by warm-up requests; if the first measured ones are slow all the same, the engine still
    compiles, fills caches or wakes up, and the run's numbers depend on how many requests follow.

    The first requests are one for each slot, at least four. TPOT is always compared. TTFT is compared only of like with
    like: where the first requests of a closed loop did not arrive together, which would make their own queue, and of
    batches, which all do. An offline batch has no first requests."""
    if isinstance(evidence.manifest.load, AllAtOnce):
        return None
    tpot = [ratio for run in evidence.runs if (ratio := _first_over_rest(run, tpot_of(run.requests))) is not None]
    apart = [run for run in evidence.runs if _apart(run)]
    first_token = [
        ratio
        for run in apart
        if (ratio := _first_over_rest(run, seconds(run.requests, "sent_s", "first_token_s"))) is not None
    ]
    if not tpot and not first_token:
        return None
    numbers: dict[str, Any] = {"tpot_first_over_rest": tpot, "ttft_first_over_rest": first_token}
    slow = [(name, ratios) for name, ratios in (("TPOT", tpot), ("TTFT", first_token)) if _mostly(ratios)]
    if not slow:
        return Outcome("ok", "The first requests were not slower than the rest.", numbers)
    text = " and ".join(f"{name} is {float(np.median(ratios)):.2g} times the rest's" for name, ratios in slow)
    count = _first(evidence.runs[0])
    windows = [window_of(run) for run in evidence.runs]
    # Requests before the window are in no latency, and their tokens not in the throughput. The one that fills the last
    # slot begins it.
    cut = all(window is not None and window.before >= count - 1 for window in windows)
    return Outcome(
        "note" if cut else "doubt",
        f"The first {count} requests of a run are slow: their {text}, in most rounds."
        + (" They are before the steady window, so no number contains them." if cut else ""),
        numbers,
        "" if cut else "Send more warm-up requests, or use more requests at this load.",
    )


def _first(run: RunResult) -> int:
    load = run.manifest.load
    return max(LEAST, load.batch if isinstance(load, Batches) else load.slots or 1)


def _mostly(ratios: list[float]) -> bool:
    """Whether more than half of the rounds are slow at first, and the typical one is."""
    return sum(ratio >= SLOWER for ratio in ratios) * 2 > len(ratios) and float(np.median(ratios)) >= SLOWER


def _first_over_rest(run: RunResult, values: Floats) -> float | None:
    """The median of the first requests over that of the rest; None if either has fewer than four values."""
    order = np.argsort(times(run, "sent_s"), kind="stable")  # requests without a send are last, and have no value
    in_order = np.where(ok_requests(run), values, np.nan)[order]
    first, rest = known(in_order[: _first(run)]), known(in_order[_first(run) :])
    if min(first.size, rest.size) < LEAST:
        return None
    below = percentile(rest, 50)
    return float(np.median(first)) / below if below and below > 0 else None


def _apart(run: RunResult) -> bool:
    """Whether the first requests came as the later ones did."""
    load = run.manifest.load
    if isinstance(load, OpenLoop):
        return load.ramp_to is None
    if not isinstance(load, ClosedLoop) or load.concurrency == 1:
        return True
    sends = np.sort(known(times(run, "sent_s")))[: load.concurrency]
    whole = percentile(known(seconds(run.requests, "sent_s", "done_s")), 50)
    return bool(whole and float(np.ptp(sends)) >= STAGGERED * whole)

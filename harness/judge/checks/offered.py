"""Whether scheduled requests were sent when they were due: RATE."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.judge.checks.evidence import Evidence, Outcome, Verdict, pooled
from harness.records.latencies import dispatch_delay, percentile, rate_of, times

# Limits of the dispatch delay at p99: a time, or a share of the median TTFT, whichever is more.
LATE_DOUBT_S, LATE_DOUBT = 0.002, 0.02
LATE_INVALID_S, LATE_INVALID = 0.010, 0.20
RATE_DOUBT, RATE_INVALID = 0.005, 0.05  # of the offered rate


def scheduled(evidence: Evidence) -> bool:
    """Whether any request has a scheduled time."""
    return any(np.isfinite(times(run, "scheduled_s")).any() for run in evidence.runs)


def rate(evidence: Evidence) -> Outcome | None:
    """An open loop sends by the clock: was each request sent when it was due, and at the offered rate?

    A late send lowers the load just when the engine is slow, and latencies from the send do not show it. The p99 of the
    dispatch delay decides: above 2 ms or 2 % of the median TTFT, whichever is more, is a doubt (it would show in the
    TTFT from the schedule), above 10 ms or 20 % invalid: another load. The rate is (n - 1) / (last - first), of the
    sends compared with the schedule. A cap on the requests in flight makes requests wait by design: never more than a
    doubt."""
    if not scheduled(evidence):
        return None
    delay_p99 = percentile(pooled(evidence.runs, dispatch_delay), 99)
    off = _rate_off(evidence)
    cap = evidence.manifest.load.slots
    offered_mean = evidence.metrics["request_rate_offered"].mean
    numbers: dict[str, Any] = {
        "dispatch_delay_p99_s": delay_p99,
        "rate_offered": offered_mean,
        "rate_off": off,
        "cap": cap,
    }
    if delay_p99 is None:
        return Outcome("doubt", "No scheduled request was sent: there is no rate to check.", numbers)
    verdict = _lateness(delay_p99, off or 0.0, evidence.metrics["ttft_p50"].mean or 0.0)
    text = f"{delay_p99 * 1e3:.3g} ms after their scheduled time at p99"
    if off is not None and offered_mean is not None:
        text += f", and at a rate {off:.2%} off the offered {offered_mean:.4g} requests/s"
    if verdict == "ok":
        return Outcome("ok", f"Requests were sent {text}.", numbers)
    if cap is not None:
        return Outcome(
            "doubt",
            f"Requests waited for one of {cap} slots and were sent {text}. Only latencies from the schedule include "
            "that wait.",
            numbers,
            "Use the latencies from the schedule, or remove the cap.",
        )
    return Outcome(
        verdict,
        f"Requests were not sent when they were due: {text}.",
        numbers,
        "Give the driver its own core, more worker processes, or a lower rate; latencies from the schedule include "
        "the delay.",
    )


def _rate_off(evidence: Evidence) -> float | None:
    """The largest relative difference of a round's send rate from the schedule's."""
    ratios = [
        sent / offered
        for run in evidence.runs
        if (offered := rate_of(run, "scheduled_s")) and (sent := rate_of(run, "sent_s"))
    ]
    return max((abs(ratio - 1) for ratio in ratios), default=None)


def _lateness(delay_s: float, off: float, ttft_s: float) -> Verdict:
    if delay_s > max(LATE_INVALID_S, LATE_INVALID * ttft_s) or off > RATE_INVALID:
        return "invalid"
    return "doubt" if delay_s > max(LATE_DOUBT_S, LATE_DOUBT * ttft_s) or off > RATE_DOUBT else "ok"

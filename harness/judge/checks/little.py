"""Whether as many requests were in flight as the load and the engine's own gauges say: LITTLE."""

from __future__ import annotations

from dataclasses import replace

from harness.judge.checks.evidence import Evidence, Outcome, worst
from harness.judge.checks.gauged import InFlight, in_flight_by_gauges
from harness.judge.checks.offered import scheduled
from harness.workload.loads import ClosedLoop

LITTLE_OVER, LITTLE_UNDER = 1.01, 0.5  # of the slots
GAUGES_OFF, GAUGES_LEAST = 0.15, 1.0  # of the client's mean, and requests: both must be exceeded


def little(evidence: Evidence) -> Outcome | None:
    """Mean concurrency = rate x mean latency (Little's law). Two numbers can show that the client is wrong about it:
    the slots that the load has, and the gauges of the engine, which are read during the run."""
    by_slots, gauged = _by_slots(evidence), in_flight_by_gauges(evidence.runs)
    if gauged is None:
        return by_slots
    by_gauges = _by_gauges(gauged)
    if by_slots is None:
        return by_gauges
    numbers = {**by_slots.numbers, **by_gauges.numbers}
    if by_slots.verdict == "ok" and by_gauges.verdict != "ok":
        return replace(by_gauges, numbers=numbers)
    verdict = worst((by_slots.verdict, by_gauges.verdict))
    advice = " ".join(one for one in (by_slots.advice, by_gauges.advice) if one)
    return Outcome(verdict, f"{by_slots.message} {by_gauges.message}", numbers, advice)


def _by_gauges(seen: InFlight) -> Outcome:
    off = abs(seen.engine - seen.client)
    numbers = {"client_in_flight": seen.client, "engine_in_flight": seen.engine, "readings": seen.readings}
    text = f"{seen.engine:.3g} running or waiting by the engine's own gauges, {seen.client:.3g} in flight by the client"
    if off <= max(GAUGES_OFF * seen.client, GAUGES_LEAST):
        return Outcome("ok", f"{text}.", numbers)
    if seen.engine > seen.client:
        why = "other clients use this server, or requests went on in it after the client saw their end."
    else:
        why = "requests wait before the engine's scheduler sees them, in its front end or on the way."
    return Outcome("doubt", f"{text}: {why}", numbers, "Look at the engine's log and at its front end's CPU time.")


def _by_slots(evidence: Evidence) -> Outcome | None:
    """A closed loop must fill its slots, and no load has more requests in flight than it allows."""
    if scheduled(evidence):
        return None
    load = evidence.manifest.load
    slots, mean = evidence.manifest.schedule.in_flight, evidence.metrics["concurrency_mean"].mean
    numbers = {"concurrency_mean": mean, "in_flight": slots}
    if mean is None:
        return Outcome("doubt", "No request succeeded: there is no concurrency to check.", numbers)
    text = f"{mean:.2f} requests were in flight on average with {slots} slots"
    if mean > slots * LITTLE_OVER:
        return Outcome(
            "doubt",
            f"{text}: more than the load allows.",
            numbers,
            "The times contradict each other; look at sent_s and done_s in requests.parquet.",
        )
    # A batch drains from its first answer on, a ramp fills its slots one by one, and cancelled requests are not in the
    # mean: these loads have a low mean by design.
    full = isinstance(load, ClosedLoop) and not load.ramp_s and not load.cancel_fraction
    if full and mean < slots * LITTLE_UNDER:
        return Outcome(
            "doubt",
            f"{text}: the slots were not kept full.",
            numbers,
            "Use more requests at this load, or find out why the driver sent late.",
        )
    return Outcome("ok", f"{text}.", numbers)

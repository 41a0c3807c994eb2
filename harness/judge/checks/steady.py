"""Whether each run measured one steady state: STEADY_STATE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.judge.checks.evidence import Evidence, Outcome, Verdict, worst
from harness.judge.checks.halves import Change, backlog, half_change
from harness.judge.checks.lockstep import synchrony
from harness.records.latencies import known, times
from harness.records.run import RunResult
from harness.records.window import Window, window_of
from harness.workload.loads import AllAtOnce, Batches, OpenLoop

WAVES = 10  # requests for each slot, from which on the first wave no longer decides the percentiles
CHANGE_DOUBT, CHANGE_INVALID = 0.10, 0.30  # second half against the first
CHANGE_P = 0.01  # of a change at least as clear by chance
# Of the largest possible variance: 1 if all slots send together; independent slots have about 1/slots.
SYNCHRONY_DOUBT = 0.5
# Requests in flight at the end of an open loop against those in the second quarter of its sends.
GROWN, GROWN_LEAST = 2.0, 10.0
LEAST_SLOTS = 4  # fewer slots are too often together by chance


@dataclass(frozen=True, slots=True)
class _Found:
    verdict: Verdict
    text: str
    advice: str = ""


def steady_state(evidence: Evidence) -> Outcome:
    """A mean over a run describes the engine only if the run is the same from its start to its end.

    Three things are looked at: the speed of the second half of the steady window against the first, with the rounds
    as replicates; whether the slots of a closed loop send together, so that TTFT is that of a queue that the load
    itself made; and how much of the run is left without ramp and tail."""
    load = evidence.manifest.load
    held = [(run, window) for run in evidence.runs if (window := window_of(run)) is not None]
    runs, windows = [run for run, _ in held], [window for _, window in held]
    if not held:
        return Outcome("doubt", "No request succeeded: there is no window to judge.")
    numbers: dict[str, Any] = _cut(runs, windows)
    if isinstance(load, AllAtOnce | Batches):
        return Outcome("ok", "A batch fills and drains by design: its window is the whole run.", numbers)
    if not all(window.steady for window in windows):
        return Outcome(
            "doubt",
            f"There is no steady window: {_requests_text(evidence.runs)} are all ramp and tail.",
            numbers,
            "Use more requests at this load, at least 10 for each slot.",
        )
    found = [_waves(evidence, windows, numbers)]
    shaped = isinstance(load, OpenLoop) and (load.ramp_to is not None or load.arrivals == "trace")
    if not shaped:  # the load itself changes
        found += [_halves(runs, windows, numbers), _together(evidence, numbers), _queue(evidence, numbers)]
    said = [one for one in found if one is not None]
    verdict = worst(one.verdict for one in said)
    if verdict == "ok":
        said.append(_Found("ok", "No change within the run was found."))
    advice = " ".join(dict.fromkeys(one.advice for one in said if one.advice))
    return Outcome(verdict, " ".join([*(one.text for one in said), _cut_text(numbers)]), numbers, advice)


def _cut(runs: Sequence[RunResult], windows: Sequence[Window]) -> dict[str, Any]:
    """What is left of the runs, per run: means over the rounds."""
    sent = [int(np.isfinite(times(run, "sent_s")).sum()) for run in runs]
    return {
        "window_s": float(np.mean([window.seconds for window in windows])),
        "run_s": float(np.mean([_span_s(run) for run in runs])),
        "requests": float(np.mean(sent)),
        "before": float(np.mean([window.before for window in windows])),
        "after": float(np.mean([window.after for window in windows])),
    }


def _span_s(run: RunResult) -> float:
    sent, done = known(times(run, "sent_s")), known(times(run, "done_s"))
    return float(done.max() - sent.min()) if sent.size and done.size else 0.0


def _requests_text(runs: Sequence[RunResult]) -> str:
    slots = runs[0].manifest.schedule.in_flight
    return f"{len(runs[0].requests['status'])} requests for {slots} slots"


def _cut_text(numbers: dict[str, Any]) -> str:
    return (
        f"Measured: {numbers['window_s']:.3g} of {numbers['run_s']:.3g} s a run; the ramp ({numbers['before']:.3g} "
        f"requests) and the tail ({numbers['after']:.3g}) are cut."
    )


def _waves(evidence: Evidence, windows: Sequence[Window], numbers: dict[str, Any]) -> _Found | None:
    """Few requests for each slot: the first and the last wave are a large part of what is left."""
    if isinstance(evidence.manifest.load, OpenLoop):
        return None
    slots = evidence.manifest.schedule.in_flight
    waves = min(len(run.requests["status"]) / slots for run in evidence.runs)
    numbers["waves"] = waves
    if waves >= WAVES:
        return None
    return _Found("note", f"{waves:.2g} requests for each slot; {WAVES} are advised.", "Use more requests.")


def _halves(runs: Sequence[RunResult], windows: Sequence[Window], numbers: dict[str, Any]) -> _Found | None:
    change = half_change(runs, windows)
    if change is None:
        numbers["change"] = None
        return None
    numbers |= {"change": change.change, "change_p": change.p, "change_of": change.of}
    size = abs(change.change)
    if change.p >= CHANGE_P or size < CHANGE_DOUBT:
        return None
    return _Found("invalid" if size >= CHANGE_INVALID else "doubt", _change_text(change), _CHANGE_ADVICE)


_CHANGE_ADVICE = (
    "The mean of a run that changes depends on how long it is. Look for thermal limits, other work on the machine, "
    "caches that fill, or an engine that was not warm."
)


def _change_text(change: Change) -> str:
    faster = "faster" if change.change > 0 else "slower"
    return (
        f"The second half of a run is {abs(change.change):.0%} {faster} than the first ({change.of}, "
        f"{change.rounds} {'rounds' if change.rounds > 1 else 'round'}, p = {change.p:.2g})."
    )


def _queue(evidence: Evidence, numbers: dict[str, Any]) -> _Found | None:
    """An open loop above what the engine serves has a queue that grows as long as the run lasts."""
    if not isinstance(evidence.manifest.load, OpenLoop) or evidence.manifest.load.cap is not None:
        return None
    grown = [value for run in evidence.runs if (value := backlog(run)) is not None]
    if not grown:
        return None
    early, late = (float(np.median(values)) for values in zip(*grown, strict=True))
    numbers |= {"in_flight_early": early, "in_flight_late": late}
    if late < GROWN * early or late - early < GROWN_LEAST:
        return None
    return _Found(
        "doubt",
        f"Requests pile up: {early:.3g} in flight in the second quarter of a run, {late:.3g} at its end. The rate is "
        "above what the engine serves, so latencies depend on how long the run is.",
        "Use a lower rate; throughput at this one is what the engine can serve at most.",
    )


def _together(evidence: Evidence, numbers: dict[str, Any]) -> _Found | None:
    slots = evidence.manifest.schedule.in_flight
    if isinstance(evidence.manifest.load, OpenLoop) or slots < LEAST_SLOTS:
        return None
    per_run = [value for run in evidence.runs if (value := synchrony(times(run, "sent_s"), slots)) is not None]
    if not per_run:
        return None
    value = float(np.median(per_run))
    numbers["synchrony"] = value
    if value < SYNCHRONY_DOUBT:
        return None
    return _Found(
        "doubt",
        f"The slots send in lock-step ({value:.0%} of the largest possible synchrony, {1 / slots:.0%} if they were "
        "independent): TTFT is that of prompts that always arrive together.",
        "Draw the lengths from a distribution and open the slots one after the other.",
    )

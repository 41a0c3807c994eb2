"""Whether a candidate got faster or slower from round to round: DRIFT."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr

from harness.judge.checks.evidence import Evidence, Outcome
from harness.judge.stats import exp
from harness.records.latencies import Floats, column
from harness.records.run import RunResult

DRIFT_P = 0.01  # each of the two tests: at most 2 % of steady cells are doubted
DRIFT_LEAST = 0.05  # smaller changes are not worth a doubt
PRIOR_FREEDOM = 4  # the most degrees of freedom that the other cells' spread counts for
LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through the logarithms of some numbers: `effect` is its change from the least to the greatest x,
    as a fraction; `p` of a line at least as steep by chance."""

    effect: float
    p: float


def drift(evidence: Evidence) -> Outcome:
    """All rounds have the same amount of work, so their throughput differs by noise only, unless the machine or the
    engine changed. Looks for a trend over the rounds, and for an effect of the place within the round: the candidate
    that always runs on a machine that another one has just warmed."""
    run_of = {run.manifest.round: run for run in evidence.runs}
    values = evidence.metrics["output_throughput"].per_round
    known = {r: value for r, value in zip(run_of, values, strict=True) if value is not None and value > 0}
    numbers: dict[str, Any] = {"rounds": len(known), "last_over_first": None}
    if len(known) < 2:
        return Outcome(
            "note" if evidence.once else "doubt",
            f"{len(known)} round: it is not known how much rounds differ.",
            numbers,
            "Measure three rounds or more.",
        )
    rounds, logs = np.array(list(known), dtype=np.float64), np.log(list(known.values()))
    numbers["last_over_first"] = exp(logs[-1] - logs[0])
    if len(known) < LEAST_ROUNDS:
        return Outcome("note", "Two rounds are too few to see a drift.", numbers)
    prior = prior_variance(_other_cells(evidence))
    trend = line(rounds, logs, prior)
    places = _places(evidence)
    place = line(np.array([places[r] for r in known]), logs, prior) if places else None
    numbers |= {"slope": trend.effect, "slope_p": trend.p, "prior_sd": math.sqrt(prior) if prior else None}
    if place is not None:
        numbers |= {"order": place.effect, "order_p": place.p}
    said = []
    if _clear(trend):
        said.append(
            f"Output throughput {'rises' if trend.effect > 0 else 'falls'} by {abs(trend.effect):.0%} from the first "
            f"round to the last (p = {trend.p:.2g})."
        )
    if place is not None and _clear(place):
        said.append(
            f"It is {abs(place.effect):.0%} {'faster' if place.effect > 0 else 'slower'} when it runs last in a round "
            f"than when it runs first (p = {place.p:.2g})."
        )
    if said:
        advice = "Look for other work on the machine, thermal limits or an engine that was not warm."
        return Outcome("doubt", " ".join(said), numbers, advice)
    return Outcome("ok", f"No trend over {len(known)} rounds, and none by the order in them.", numbers)


def _clear(trend: Trend) -> bool:
    return trend.p < DRIFT_P and abs(trend.effect) >= DRIFT_LEAST


def line(x: Floats, logs: Floats, prior: float | None = None) -> Trend:
    """The least-squares line of `logs` over `x` and a t test of its slope. `prior`: the variance that other cells have;
    the residual variance is moderated with it, as of PRIOR_FREEDOM degrees of freedom (Smyth 2004, doi:10.2202/
    1544-6115.1027). An `x` that does not vary has no line: effect 0, p 1."""
    centred = x - x.mean()
    spread = float(np.sum(centred**2))
    if spread == 0.0:
        return Trend(0.0, 1.0)
    slope = float(np.sum(centred * logs)) / spread
    freedom = float(logs.size - 2)
    squares = float(np.sum((logs - logs.mean() - slope * centred) ** 2))
    if prior is not None:
        freedom, squares = freedom + PRIOR_FREEDOM, squares + PRIOR_FREEDOM * prior
    effect = math.expm1(slope * float(np.ptp(x)))
    if freedom <= 0:
        return Trend(effect, 1.0)
    if squares == 0.0:
        return Trend(effect, 0.0 if slope else 1.0)
    return Trend(effect, 2 * float(stdtr(freedom, -abs(slope) / math.sqrt(squares / freedom / spread))))


def prior_variance(cells: Sequence[Floats]) -> float | None:
    """What the variance of the logs is in other cells, about the line of each: the mean over cells. None if no cell has
    three rounds. (The median would see more drifts, but where cells differ in their spread 8 % of steady ones.)"""
    found = []
    for logs in cells:
        freedom = logs.size - 2
        if freedom >= 1:
            x = np.arange(logs.size, dtype=np.float64)
            squares = float(np.sum((logs - np.polyval(np.polyfit(x, logs, 1), x)) ** 2))
            found.append(squares / freedom)
    return float(np.mean(found)) if found else None


def _other_cells(evidence: Evidence) -> list[Floats]:
    """Logs of the throughput of each round, of this candidate at other loads and of the others at this load."""
    cells: dict[tuple[str, str], dict[int, float]] = {}
    others = [run for runs in (evidence.peers.runs.values() if evidence.peers else ()) for run in runs]
    for run in (*evidence.everywhere, *others):
        of, load = run.manifest.candidate.name, run.manifest.load.name
        if (of, load) != (evidence.name, evidence.manifest.load.name) and (rate := _rate(run)):
            cells.setdefault((of, load), {})[run.manifest.round] = math.log(rate)
    return [np.array([by_round[r] for r in sorted(by_round)]) for by_round in cells.values()]


def _rate(run: RunResult) -> float | None:
    """Output tokens/s from first send to last byte: good enough for a spread, and without reading any chunk."""
    sent, done = column(run, "sent_s"), column(run, "done_s")
    if not np.isfinite(sent).any() or not np.isfinite(done).any():
        return None
    span = float(np.nanmax(done) - np.nanmin(sent))
    return float(column(run, "output_tokens").sum()) / span if span > 0 else None


def _places(evidence: Evidence) -> Mapping[int, int]:
    """Round -> how many candidates ran before this one in it, at this load; empty if it ran alone."""
    peers = evidence.peers.runs if evidence.peers else {}
    if len(peers) < 2:
        return {}
    started: dict[int, list[str]] = {}
    for run in (run for runs in peers.values() for run in runs):
        started.setdefault(run.manifest.round, []).append(run.manifest.started_at)
    return {
        run.manifest.round: sum(at < run.manifest.started_at for at in started.get(run.manifest.round, ()))
        for run in evidence.runs
    }

"""Whether the candidates did the same work: LENGTH_PARITY, and how far their answers to the probe agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from harness.judge.checks.declared import answer_of
from harness.judge.checks.evidence import Evidence, Outcome, pooled_column
from harness.records.latencies import column
from harness.records.run import RunResult


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two greedy answers to the same probe agree, as fractions of the longer answer: `leading` up to the first
    difference, `positions` position by position. `tokens` is the longer length."""

    leading: float
    positions: float
    tokens: int


def length_parity(evidence: Evidence) -> Outcome | None:
    """Invalid for candidates whose answers have another length than asked, if the candidates differ: their throughput
    is that of another load."""
    if evidence.peers is None:
        return None
    runs_of, titles = evidence.peers.runs, evidence.peers.titles
    mean = {name: _mean_tokens(runs) for name, runs in runs_of.items()}
    # A candidate that answered nothing has no length, and must not make the others invalid.
    lengths = {name: found for name, runs in runs_of.items() if (found := _lengths(runs)).request.size}
    if evidence.name not in lengths:
        return Outcome("doubt", "No request succeeded: there is no length to compare.")
    common = reduce(np.intersect1d, (found.request for found in lengths.values()))
    seen = np.array([found.seen[np.searchsorted(found.request, common)] for found in lengths.values()])
    differ = int((seen != seen[0]).any(axis=0).sum())
    numbers = {"requests_in_common": len(common), "differ": differ, "mean_output_tokens": mean}
    if not differ:
        return Outcome("ok", "All candidates answered with the same lengths.", numbers)
    text = (
        f"Output lengths differ between candidates in {differ} of {len(common)} requests: "
        + ", ".join(f"{titles[name]} {value:.4g}" for name, value in mean.items() if value is not None)
        + " tokens on average"
    )
    if (lengths[evidence.name].seen == lengths[evidence.name].asked).all():
        return Outcome("ok", f"{text}; this one answered as asked.", numbers)
    return Outcome(
        "invalid",
        f"{text}.",
        numbers,
        "Make the engine file force the length; throughput at other lengths is another load.",
    )


def agreement(mine: Sequence[RunResult], theirs: Sequence[RunResult]) -> Agreement | None:
    """The worst agreement over the rounds that both have a probe answer for; None without one."""
    reference = {run.manifest.round: answer_of(run) for run in theirs}
    found = [
        greedy_agreement(ids, other)
        for run in mine
        if (ids := answer_of(run)) and (other := reference.get(run.manifest.round))
    ]
    return min(found, key=lambda one: (one.leading, one.positions), default=None)


def greedy_agreement(mine: Sequence[int], theirs: Sequence[int]) -> Agreement:
    """The agreement of two non-empty answers. Positions that the shorter one lacks count as different."""
    tokens = max(len(mine), len(theirs))
    equal = [a == b for a, b in zip(mine, theirs, strict=False)]
    leading = equal.index(False) if False in equal else len(equal)
    return Agreement(leading / tokens, sum(equal) / tokens, tokens)


@dataclass(frozen=True, slots=True)
class _Lengths:
    """The ok requests of a candidate, ascending by `request`, which is round and index in one number. Output
    tokens seen and asked. Shapes (ok requests,)."""

    request: NDArray[np.int64]
    seen: NDArray[np.int64]
    asked: NDArray[np.int64]


def _lengths(runs: Sequence[RunResult]) -> _Lengths:
    request = np.concatenate([(run.manifest.round << 32) + column(run, "index").astype(np.int64) for run in runs])
    order = np.argsort(request)
    seen, asked = (pooled_column(runs, name).astype(np.int64) for name in ("output_tokens", "asked_tokens"))
    return _Lengths(request[order], seen[order], asked[order])


def _mean_tokens(runs: Sequence[RunResult]) -> float | None:
    tokens = pooled_column(runs, "output_tokens")
    return float(np.mean(tokens)) if tokens.size else None

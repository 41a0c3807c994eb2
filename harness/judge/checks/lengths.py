"""Whether the candidates did the same work: LENGTH_PARITY, and how far their answers to the probe agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.judge.checks.declared import answer_of, by_chat, declares_weights
from harness.judge.checks.evidence import Evidence, Outcome, is_attached, pooled, pooled_column
from harness.judge.words import listed
from harness.records.latencies import Floats, column, floats, ok_requests
from harness.records.manifest import Manifest
from harness.records.run import RunResult

STOPPED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn")  # finish reasons of an answer that ended by itself
LENGTHS_APART = 0.20  # of the longer mean: beyond it tokens/s are not those of one load


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two greedy answers to the same probe agree, as fractions of the longer answer: `leading` up to the first
    difference, `positions` position by position. `tokens` is the longer length."""

    leading: float
    positions: float
    tokens: int


def length_parity(evidence: Evidence) -> Outcome:
    """Whether answers are as long as asked for. An engine that was started to force the length and does not is
    invalid. A server that already ran may end answers where the model does: then what holds per token still holds, and
    what holds per request (E2E latency, request rate, goodput) is that of other work. Invalid where the candidates'
    lengths are far apart."""
    mine = _lengths(evidence.runs)
    runs_of = evidence.peers.runs if evidence.peers else {evidence.name: evidence.runs}
    numbers: dict[str, Any] = {"mean_output_tokens": {name: _mean_tokens(runs) for name, runs in runs_of.items()}}
    if not mine.request.size:
        return Outcome("doubt", "No request succeeded: there is no length to compare.", numbers)
    beside = _beside(evidence, mine)
    numbers |= {"early": mine.early, "longer": mine.longer, "asked_tokens": int(mine.asked.sum())}
    numbers |= {"requests_in_common": beside.common, "differ": beside.differ}
    if evidence.manifest.schedule.ends == "natural" and not mine.longer:
        return _natural(evidence, mine, beside, numbers)
    if not mine.early and not mine.longer:
        if beside.differ:
            return Outcome("ok", f"{beside.text}; this one answered as asked.", numbers)
        return Outcome(
            "ok", f"Answers are as long as asked for{', by all candidates' if evidence.peers else ''}.", numbers
        )
    text = mine.words(evidence.runs)
    if mine.early and (ends := evidence.manifest.endpoint.declared.get("end of sequence")):
        text += f" End of sequence: {ends}."
    if not evidence.attached:
        advice = "Make the engine file force the length; throughput at other lengths is another load."
        return Outcome("invalid", f"{text}{f' {beside.text}.' if beside.differ else ''}", numbers, advice)
    force = "If the server has a field that forces the length, add it (fields, --field), for example ignore_eos=true."
    if beside.apart > LENGTHS_APART:
        return Outcome("invalid", f"{text} {beside.text}: throughput at other lengths is another load.", numbers, force)
    if beside.others and not beside.differ:
        return Outcome("note", f"{text} All candidates ended at the same lengths.", numbers, force)
    return Outcome(
        "doubt",
        f"{text} TTFT, TPOT and tokens/s hold; E2E latency, request rate and goodput are those of these lengths.",
        numbers,
        force,
    )


def _natural(evidence: Evidence, mine: _Lengths, beside: _Beside, numbers: dict[str, Any]) -> Outcome:
    """Answers that ended by themselves, as the workload says. What holds per token holds; what holds per request is
    compared only between candidates whose answers are of about one length (judge/pairs.py)."""
    numbers |= {"ends": "natural"}
    text = f"{mine.early} of {mine.seen.size} answers ended by themselves, {mine.seen.mean():.4g} tokens on average."
    if mine.cut:
        reasons = {str(one) for run in evidence.runs for one in _finish_of_early(run)} - set(STOPPED)
        text += f" {mine.cut} of them do not say so (finish reason {listed(sorted(reasons))})."
        if "length" in reasons:
            advice = "Look for a limit of its own: a context, or a most number of tokens, below what was asked."
            return Outcome("invalid", text, numbers, advice)
        return Outcome("doubt", text, numbers, "Find out why they ended: an answer that was cut is no whole answer.")
    if not beside.differ:
        return Outcome("ok", f"{text}{' All candidates ended at the same lengths.' if beside.others else ''}", numbers)
    text = f"{text} {beside.text}."
    if beside.apart > LENGTHS_APART:
        return Outcome(
            "doubt",
            f"{text} TTFT and TPOT hold; tokens/s, E2E latency and goodput are those of other answers.",
            numbers,
            'Look at the answers beside each other, or force the length: ends = "exact".',
        )
    return Outcome("note", text, numbers)


def cut_at_length(run: RunResult) -> Floats:
    """Shape (ok requests,): 1 for an answer that was counted by events and ended at the length asked for, so that it
    has as many tokens as asked, in however many events."""
    ok = ok_requests(run)
    events, at_length = run.requests["count_source"][ok] == "events", run.requests["finish_reason"][ok] == "length"
    return floats(events & at_length)


def agreement(mine: Sequence[RunResult], theirs: Sequence[RunResult]) -> Agreement | None:
    """The worst agreement over the rounds that both have a probe answer for; None without one, and where only one of
    them was asked by chat: those are other prompts."""
    if mine and theirs and by_chat(mine[0].manifest) != by_chat(theirs[0].manifest):
        return None
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
    cut: int  # of those that are too short, how many do not say that they stopped

    @property
    def early(self) -> int:
        return int((self.seen < self.asked).sum())

    @property
    def longer(self) -> int:
        return int((self.seen > self.asked).sum())

    def words(self, runs: Sequence[RunResult]) -> str:
        """How many answers are not as long as asked for, and why they ended."""
        parts = []
        if self.early:
            stopped = Counter(str(one or "not said") for run in runs for one in _finish_of_early(run))
            why = ", ".join(f"{name} {count}" if len(stopped) > 1 else name for name, count in stopped.most_common())
            parts.append(f"{self.early} of {self.seen.size} answers stopped early (finish reason: {why})")
        if self.longer:
            parts.append(
                f"{self.longer} of {self.seen.size} answers are longer than asked for "
                f"(the server may take the length in another field: --length-field)"
            )
        mean = f"{self.seen.mean():.4g} tokens on average, {self.asked.mean():.4g} asked for"
        return f"{' and '.join(parts)}: {mean}."


@dataclass(frozen=True, slots=True)
class _Beside:
    """A candidate's lengths beside those of the others. `apart`: by how much its mean differs from the other mean that
    is farthest from it, as a fraction of the longer one, over the requests in common."""

    others: int
    common: int
    differ: int
    apart: float
    text: str


def _beside(evidence: Evidence, mine: _Lengths) -> _Beside:
    runs_of, titles = (evidence.peers.runs, evidence.peers.titles) if evidence.peers else ({}, {})
    # A candidate that answered nothing has no length, and must not make the others invalid.
    lengths = {name: found for name, runs in runs_of.items() if (found := _lengths(runs)).request.size}
    lengths[evidence.name] = mine
    common = reduce(np.intersect1d, (found.request for found in lengths.values()))
    seen = {name: found.seen[np.searchsorted(found.request, common)] for name, found in lengths.items()}
    here = seen[evidence.name]
    differ = int(np.any([other != here for other in seen.values()], axis=0).sum()) if len(seen) > 1 else 0
    # One that was started to force the length and did not is invalid by itself, and says nothing against the others.
    # Nor do other prompts or other weights, where answers end by themselves.
    natural = evidence.manifest.schedule.ends == "natural"
    fair = [
        seen[name]
        for name, found in lengths.items()
        if name != evidence.name
        and (
            _alike(evidence.manifest, runs_of[name][0].manifest)
            if natural
            else is_attached(runs_of[name][0].manifest) or not (found.early or found.longer)
        )
    ]
    means = [float(one.mean()) for one in fair] if len(common) else []
    mean = float(here.mean()) if len(common) else 0.0
    apart = max((abs(mean - other) / max(mean, other, 1.0) for other in means), default=0.0)
    listed = ", ".join(f"{titles.get(name, name)} {values.mean():.4g}" for name, values in seen.items() if len(common))
    text = f"Output lengths differ between candidates in {differ} of {len(common)} requests: {listed} tokens on average"
    return _Beside(len(seen) - 1, len(common), differ, apart, text)


def _alike(one: Manifest, other: Manifest) -> bool:
    return by_chat(one) == by_chat(other) and not (declares_weights(one) or declares_weights(other))


def _finish_of_early(run: RunResult) -> list[Any]:
    early = (column(run, "output_tokens") < column(run, "asked_tokens")) & ~(cut_at_length(run) > 0)
    return list(run.requests["finish_reason"][ok_requests(run)][early])


def _lengths(runs: Sequence[RunResult]) -> _Lengths:
    request = np.concatenate([(run.manifest.round << 32) + column(run, "index").astype(np.int64) for run in runs])
    order = np.argsort(request)
    seen, asked = (pooled_column(runs, name).astype(np.int64) for name in ("output_tokens", "asked_tokens"))
    # Of events that hold several tokens the number of tokens is not known: TOKEN_COUNT doubts it.
    unknown = (pooled(runs, cut_at_length) > 0) & (seen < asked)
    cut = sum(str(one) not in STOPPED for run in runs for one in _finish_of_early(run))
    return _Lengths(request[order], np.where(unknown, asked, seen)[order], asked[order], cut)


def _mean_tokens(runs: Sequence[RunResult]) -> float | None:
    tokens = pooled_column(runs, "output_tokens")
    return float(np.mean(tokens)) if tokens.size else None

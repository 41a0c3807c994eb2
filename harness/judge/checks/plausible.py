"""Whether the machine could have done what was measured: PLAUSIBLE."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.judge.checks.evidence import Evidence, Outcome, pooled_column
from harness.judge.roofline import (
    KV_BYTES,
    Costs,
    Limits,
    least_tpot_s,
    least_ttft_s,
    most_tokens_per_s,
    peak_for,
)
from harness.judge.stats import Estimate, estimate
from harness.records.calibration import Peak
from harness.records.latencies import Floats
from harness.records.manifest import Manifest
from harness.records.run import RunResult

ROOFLINE_SHARE = "roofline_share"  # a metric of cells whose machine was measured
DOUBT = 1.10  # times the bound
SPECULATES = re.compile(r"specul|draft|eagle|medusa|lookahead|ngram|\bmtp\b", re.IGNORECASE)
ADVICE = (
    "An engine cannot be faster than memory allows: check that the answers are real, how tokens are counted, that no "
    "prompt came from a cache, and that nothing else ran on the machine while its memory was measured."
)


@dataclass(frozen=True, slots=True)
class Bound:
    """What a cell could reach at most, and the peak that says so."""

    tokens_per_s: float
    tpot_s: float
    ttft_s: float | None
    peak: Peak


def plausible(evidence: Evidence) -> Outcome | None:
    """Compares a cell with the roofline of the machine: output tokens/s with the most that its mean number of requests
    in flight allows, TPOT with the time to read the weights once, TTFT with the time to multiply the prompt."""
    if evidence.manifest.candidate.null:
        return None  # it has no model
    known, why = bound_of(evidence.runs, evidence.peaks, _mean(evidence, "concurrency_mean"))
    if known is None:
        return Outcome("ok", f"Not known: {why}.", {ROOFLINE_SHARE: None})
    rate, tpot, ttft = (_mean(evidence, key) for key in ("output_throughput", "tpot_p50", "ttft_p50"))
    shares = {
        "output throughput": None if rate is None else rate / known.tokens_per_s,
        "TPOT": known.tpot_s / tpot if tpot else None,
        "TTFT": known.ttft_s / ttft if ttft and known.ttft_s else None,
    }
    numbers = _numbers(known, shares)
    over = {name: share for name, share in shares.items() if share is not None and share > DOUBT}
    if not over:
        share = shares["output throughput"]
        text = "is not known" if share is None else f"is {share:.0%} of what memory and arithmetic allow"
        return Outcome("ok", f"Its output throughput {text}.", numbers)
    text = " and ".join(f"{name} is {share:.3g} times better" for name, share in over.items())
    text = f"Its {text} than this machine allows ({known.peak.bytes_per_s / 1e9:.3g} GB/s; {known.peak.how})."
    if _speculates(evidence.manifest):
        return Outcome("note", f"{text} It speculates, so one step may give several tokens.", numbers)
    bad = max(over.values()) > 1 + known.peak.uncertainty
    return Outcome("invalid" if bad else "doubt", text, numbers, ADVICE)


def with_roofline(
    metrics: Mapping[str, Estimate], runs: Sequence[RunResult], peaks: Sequence[Peak]
) -> Mapping[str, Estimate]:
    """The metrics of a cell with ROOFLINE_SHARE: output throughput over the most that the machine allows. Unchanged if
    that is not known of any round."""
    shares = [_share_of(run, metrics, i, peaks) for i, run in enumerate(runs)]
    return metrics if all(share is None for share in shares) else {**metrics, ROOFLINE_SHARE: estimate(shares)}


def _share_of(run: RunResult, metrics: Mapping[str, Estimate], index: int, peaks: Sequence[Peak]) -> float | None:
    rate, in_flight = (metrics[key].per_round[index] for key in ("output_throughput", "concurrency_mean"))
    known, _ = bound_of([run], peaks, in_flight)
    return None if known is None or rate is None else rate / known.tokens_per_s


def bound_of(runs: Sequence[RunResult], peaks: Sequence[Peak], in_flight: float | None) -> tuple[Bound | None, str]:
    """The bound for these runs of one candidate at one load; without one, why it is not known."""
    manifest = runs[0].manifest
    endpoint, model = manifest.endpoint, manifest.model
    if not endpoint.same_machine or endpoint.device is None:
        return None, "the machine that serves it was not measured"
    if not model.decode_bytes:
        return None, "how many bytes of weights a token needs"
    peak = peak_for(peaks, endpoint.device, model.decode_bytes)
    if peak is None:
        return None, "how fast this machine reads memory was not measured"
    if not in_flight:
        return None, "no request succeeded"
    width = KV_BYTES.get(str(model.kv_dtype))
    kv_bytes = model.kv_values_per_token * width if model.kv_values_per_token and width else 0.0
    costs = Costs(model.decode_bytes, kv_bytes, model.flops_per_token or 0.0)
    gpus = max(1, endpoint.gpus or 1)
    limits = Limits(peak.bytes_per_s * gpus, None if peak.flops_per_s is None else peak.flops_per_s * gpus)
    prompts, outputs = _or_zero(runs, "prompt_tokens"), _or_zero(runs, "output_tokens")
    context = float(np.mean(prompts + outputs / 2)) if prompts.size else 0.0
    fresh = prompts - _or_zero(runs, "cached_tokens")
    ttft = least_ttft_s(costs, limits, float(np.median(fresh))) if fresh.size and _cache_known(runs) else None
    return (
        Bound(most_tokens_per_s(costs, limits, in_flight, context), least_tpot_s(costs, limits, context), ttft, peak),
        "",
    )


def _cache_known(runs: Sequence[RunResult]) -> bool:
    """Whether it is known how much of each prompt came from a cache: it needs no arithmetic."""
    off = all(run.manifest.endpoint.settings.get("prefix_cache") is False for run in runs)
    return off or not np.isnan(pooled_column(runs, "cached_tokens")).any()


def _or_zero(runs: Sequence[RunResult], name: str) -> Floats:
    return np.nan_to_num(pooled_column(runs, name))


def _mean(evidence: Evidence, key: str) -> float | None:
    return evidence.metrics[key].mean


def _speculates(manifest: Manifest) -> bool:
    given = manifest.candidate.given
    words = [*manifest.endpoint.launch_line, *map(str, given.get("args") or ()), *map(str, given.get("env") or ())]
    return any(SPECULATES.search(word) for word in words)


def _numbers(known: Bound, shares: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        ROOFLINE_SHARE: shares["output throughput"],
        "roofline_share_of_tpot": shares["TPOT"],
        "roofline_share_of_ttft": shares["TTFT"],
        "most_tokens_per_s": known.tokens_per_s,
        "least_tpot_s": known.tpot_s,
        "least_ttft_s": known.ttft_s,
        "bytes_per_s": known.peak.bytes_per_s,
        "flops_per_s": known.peak.flops_per_s,
    }

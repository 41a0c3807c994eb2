"""What could make a cell's numbers wrong, decided from the stored runs of that cell alone.

Each check is a function from the cell's evidence to a Check. The checks that need the other engines of the
same load point are in parity.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from harness.judge.checks.client import client_lag_share, cpu_contention
from harness.judge.checks.evidence import Check, Evidence, Verdict, pooled, pooled_column
from harness.records.metrics import (
    cancelled_requests,
    dispatch_delay,
    failed_requests,
    ok_requests,
    percentile,
    rate_of,
    times,
)
from harness.records.run import RunResult

FAILED_INVALID = 0.01  # of the requests
LITTLE_OVER, LITTLE_UNDER = 1.01, 0.5  # of the slots
# Sends later than this at p99, whichever is more: a time, or a share of the median TTFT.
LATE_DOUBT_S, LATE_DOUBT = 0.002, 0.02
LATE_INVALID_S, LATE_INVALID = 0.010, 0.20
RATE_DOUBT, RATE_INVALID = 0.005, 0.05  # of the offered rate
DRIFT_DOUBT = 0.20  # (max - min) / mean over rounds


def error_rate(evidence: Evidence) -> Check:
    """Latency is taken over survivors only: an engine that drops the slow requests would look fast."""
    issued = sum(len(run.requests["status"]) for run in evidence.runs)
    failed = sum(int(failed_requests(run).sum()) for run in evidence.runs)
    cancelled = sum(int(cancelled_requests(run).sum()) for run in evidence.runs)
    errors = sorted({str(e) for run in evidence.runs for e in run.requests["error"][failed_requests(run)] if e})
    numbers = {"issued": issued, "failed": failed, "cancelled": cancelled, "errors": errors[:5]}
    given_up = f" {cancelled} of {issued} were given up by their user, as planned." if cancelled else ""
    if not failed:
        return Check("ERROR_RATE", "ok", numbers, f"No request failed.{given_up}", "")
    verdict: Verdict = "doubt" if failed <= FAILED_INVALID * issued else "invalid"
    first = f" First error: {errors[0]}." if errors else ""
    return Check(
        "ERROR_RATE",
        verdict,
        numbers,
        f"{failed} of {issued} requests failed ({failed / issued:.1%}).{given_up}{first}",
        "Read the engine's log for that round; latencies cover only the requests that came back.",
    )


def token_count(evidence: Evidence) -> Check:
    """Throughput counts tokens: what was seen, what the engine reports and what was asked must agree."""
    seen = pooled_column(evidence.runs, "output_tokens")
    reported = pooled_column(evidence.runs, "reported_tokens")
    asked = pooled_column(evidence.runs, "asked_tokens")
    sources = _count_sources(evidence.runs)
    silent = np.isnan(reported)
    wrong = int(np.sum((seen != asked) | (~silent & (reported != seen))))
    numbers = {
        "requests": int(seen.size),
        "differ": wrong,
        "not_reported": int(silent.sum()),
        "seen_tokens": int(seen.sum()),
        "reported_tokens": None if silent.any() else int(reported.sum()),
        "asked_tokens": int(asked.sum()),
        "count_sources": sources,
    }
    guessed = sources.get("events", 0)
    by_events = f" In {guessed} of them each event of the stream was counted as one token." if guessed else ""
    if wrong:
        return Check(
            "TOKEN_COUNT",
            "invalid",
            numbers,
            f"In {wrong} of {seen.size} requests the tokens seen ({int(seen.sum())} in all), reported "
            f"({int(np.nansum(reported))}) and asked ({int(asked.sum())}) are not the same.{by_events}",
            "Check the dialect's length fields and how its stream is counted.",
        )
    if silent.any():
        return Check(
            "TOKEN_COUNT",
            "doubt",
            numbers,
            f"{int(silent.sum())} of {seen.size} requests came back without the engine's own count.{by_events}",
            "Make the dialect ask for usage in the stream.",
        )
    if guessed:
        return Check(
            "TOKEN_COUNT",
            "doubt",
            numbers,
            f"{guessed} of {seen.size} requests were counted by events, one token each: the stream told no count.",
            "Make the dialect ask for token ids or for usage in the stream.",
        )
    spread = ""
    if sources.get("final usage"):
        spread = " The count came at the end: how many tokens came with each chunk (TPOT, ITL) is spread, not seen."
    return Check("TOKEN_COUNT", "ok", numbers, f"Tokens seen, reported and asked are the same.{spread}", "")


def _count_sources(runs: Sequence[RunResult]) -> dict[str, int]:
    """How many ok requests were counted by what; nothing of runs that do not say."""
    told = [run.requests["count_source"][ok_requests(run)] for run in runs if "count_source" in run.requests]
    names, counts = np.unique(np.concatenate([np.empty(0, dtype=object), *told]).astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def prompt_parity(evidence: Evidence) -> Check:
    """An engine that adds or cuts prompt tokens does other work than was asked."""
    counted = pooled_column(evidence.runs, "prompt_tokens")
    sent = pooled_column(evidence.runs, "sent_tokens")
    silent = np.isnan(counted)
    wrong = int(np.sum(~silent & (counted != sent)))
    numbers = {"requests": int(sent.size), "differ": wrong, "not_reported": int(silent.sum())}
    if wrong:
        difference = counted[~silent & (counted != sent)] - sent[~silent & (counted != sent)]
        numbers |= {"least": int(difference.min()), "most": int(difference.max())}
        return Check(
            "PROMPT_PARITY",
            "invalid",
            numbers,
            f"In {wrong} of {sent.size} requests the engine counted another prompt than was sent "
            f"({int(difference.min()):+d} to {int(difference.max()):+d} tokens).",
            "Send token ids, switch off the engine's own BOS token or chat template.",
        )
    if silent.any():
        return Check(
            "PROMPT_PARITY",
            "doubt",
            numbers,
            f"{int(silent.sum())} of {sent.size} requests came back without a prompt count.",
            "Make the dialect ask for usage in the stream.",
        )
    return Check("PROMPT_PARITY", "ok", numbers, "The engine counted the prompts that were sent.", "")


def prefix_cache(evidence: Evidence) -> Check:
    """A prompt answered from the cache costs no prefill: its TTFT is another quantity.

    Taken from what each request reports; where one reports nothing, from the engine's own counter."""
    declared = {run.manifest.settings.get("prefix_cache") for run in evidence.runs}
    cached = pooled_column(evidence.runs, "cached_tokens")
    counted = [run.manifest.counters.get("cached_tokens") for run in evidence.runs]
    sent = float(pooled_column(evidence.runs, "sent_tokens").sum())
    silent = int(np.isnan(cached).sum())
    known = [count for count in counted if count is not None]
    from_counter = bool(silent) and bool(known) and len(known) == len(counted)
    hits = max(float(np.nansum(cached)), sum(known))
    numbers = {
        "declared": sorted(map(str, declared)),
        "not_reported": silent,
        "counter": sum(known) if known else None,
        "cached_tokens": None if silent and not from_counter else int(hits),
        "cached_fraction": None if (silent and not from_counter) or not sent else hits / sent,
    }
    if len(declared) != 1 or declared == {None}:
        return Check(
            "PREFIX_CACHE",
            "doubt",
            numbers,
            "The settings do not say whether the prefix cache is on.",
            "State prefix_cache in the normalised settings.",
        )
    if declared == {False} and hits > 0:
        return Check(
            "PREFIX_CACHE",
            "invalid",
            numbers,
            f"Declared off, yet {int(hits)} of {int(sent)} prompt tokens came from the cache.",
            "Switch the engine's prefix cache off in its launch line, or declare it on for all engines.",
        )
    if silent and not from_counter:
        return Check(
            "PREFIX_CACHE",
            "doubt",
            numbers,
            "Cached tokens are not reported: that the cache stayed as declared cannot be seen.",
            "Enable the engine's report of cached tokens, or name its counter in the engine file.",
        )
    source = " by the engine's counter" if from_counter else ""
    if declared == {False}:
        text = f"Declared off; no prompt token came from the cache{source}."
        return Check("PREFIX_CACHE", "ok", numbers, text, "")
    text = f"Declared on; {int(hits)} of {int(sent)} prompt tokens came from the cache{source}."
    return Check("PREFIX_CACHE", "ok", numbers, text, "")


def offered_load(evidence: Evidence) -> Check:
    """Was the load the one asked for? RATE where requests had a time to be sent at, LITTLE elsewhere."""
    if any(np.isfinite(times(run, "scheduled_s")).any() for run in evidence.runs):
        return rate(evidence)
    return little(evidence)


def rate(evidence: Evidence) -> Check:
    """An open loop sends by the clock: was each request sent when it was due, and at the offered rate?

    A late send lightens the load just when the engine is slow, and a latency from the send does not show it.
    Late is what the p99 of the dispatch delay says: above 2 ms or 2 % of the median TTFT, whichever is more,
    is a doubt (it would show in the TTFT from the schedule), above 10 ms or 20 % another load. The rate is
    (n - 1) / (last - first), of the sends against the schedule's. A cap on the requests in flight makes
    requests wait by design: never more than a doubt."""
    delay_p99 = percentile(pooled(evidence.runs, dispatch_delay), 99)
    ratios = [
        sent / offered
        for run in evidence.runs
        if (offered := rate_of(run, "scheduled_s")) and (sent := rate_of(run, "sent_s"))
    ]
    off = max((abs(ratio - 1) for ratio in ratios), default=None)
    ttft = evidence.metrics["ttft_p50"].mean or 0.0
    cap = evidence.runs[0].manifest.concurrency
    offered_mean = evidence.metrics["request_rate_offered"].mean
    numbers = {
        "dispatch_delay_p99_s": delay_p99,
        "rate_offered": offered_mean,
        "rate_off": off,
        "cap": cap,
    }
    if delay_p99 is None:
        return Check("RATE", "doubt", numbers, "No scheduled request was sent: there is no rate to check.", "")
    verdict: Verdict = "ok"
    if delay_p99 > max(LATE_DOUBT_S, LATE_DOUBT * ttft) or (off or 0.0) > RATE_DOUBT:
        verdict = "doubt"
    if delay_p99 > max(LATE_INVALID_S, LATE_INVALID * ttft) or (off or 0.0) > RATE_INVALID:
        verdict = "invalid"
    text = f"{delay_p99 * 1e3:.3g} ms after their scheduled time at p99"
    if off is not None and offered_mean is not None:
        text += f", and at a rate {off:.2%} off the offered {offered_mean:.4g} requests/s"
    if verdict == "ok":
        return Check("RATE", "ok", numbers, f"Requests were sent {text}.", "")
    if cap is not None:
        return Check(
            "RATE",
            "doubt",
            numbers,
            f"Requests waited for one of {cap} slots: sent {text}. That is the load's cap; latency from the "
            "schedule is the honest one.",
            "Read the latencies from the schedule, or take the cap away.",
        )
    return Check(
        "RATE",
        verdict,
        numbers,
        f"Requests were not sent as they were due: {text}.",
        "Give the driver a core of its own, spread it over more worker processes, or offer less; latency from "
        "the schedule contains the delay.",
    )


def little(evidence: Evidence) -> Check:
    """Mean concurrency = rate x mean latency (Little); a closed loop must fill its slots, no more."""
    manifest = evidence.runs[0].manifest
    slots, mean = manifest.in_flight, evidence.metrics["concurrency_mean"].mean
    numbers = {"concurrency_mean": mean, "in_flight": slots}
    if mean is None:
        return Check("LITTLE", "doubt", numbers, "No request came back: no concurrency to check.", "")
    text = f"{mean:.2f} requests were in flight on average with {slots} slots"
    if mean > slots * LITTLE_OVER:
        return Check(
            "LITTLE",
            "doubt",
            numbers,
            f"{text}: more than the load point allows.",
            "The times do not fit together; look at sent_s and done_s in requests.parquet.",
        )
    # A batch drains from its first answer on, a ramp fills its slots one by one, and the time of a request that
    # was given up is in no mean: a low mean is their nature, not a fault.
    load = manifest.load
    full = manifest.concurrency is not None and not (load.get("ramp_s") or load.get("cancel_fraction"))
    if full and mean < slots * LITTLE_UNDER:
        return Check(
            "LITTLE",
            "doubt",
            numbers,
            f"{text}: the load was not held.",
            "Ask more requests of this load point, or look for a driver that was late to send.",
        )
    return Check("LITTLE", "ok", numbers, f"{text}.", "")


def drift(evidence: Evidence) -> Check:
    """Rounds ask the same amount of work: where they disagree, no mean stands for them."""
    values = [value for value in evidence.metrics["output_throughput"].per_round if value is not None]
    numbers: dict[str, Any] = {"rounds": len(values), "spread": None, "last_over_first": None}
    if len(values) < 2:
        return Check(
            "DRIFT",
            "doubt",
            numbers,
            f"{len(values)} round: how far rounds disagree is not known.",
            "Measure three rounds or more.",
        )
    spread = (max(values) - min(values)) / float(np.mean(values))
    numbers |= {"spread": spread, "last_over_first": values[-1] / values[0]}
    if spread <= DRIFT_DOUBT:
        return Check("DRIFT", "ok", numbers, f"Rounds agree within {spread:.1%} of their mean.", "")
    steady = all(b > a for a, b in pairwise(values)) or all(b < a for a, b in pairwise(values))
    trend = f", {'rising' if values[-1] > values[0] else 'falling'} from round to round" if steady else ""
    return Check(
        "DRIFT",
        "doubt",
        numbers,
        f"Output throughput of the rounds differs by {spread:.0%} of its mean{trend}.",
        "Look for other work on the machine, thermal limits or an engine that was not warm.",
    )


CELL_CHECKS: tuple[Callable[[Evidence], Check], ...] = (
    error_rate,
    token_count,
    prompt_parity,
    prefix_cache,
    client_lag_share,
    offered_load,
    drift,
    cpu_contention,
)

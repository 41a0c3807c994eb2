"""What could make a cell's numbers wrong, decided from the stored runs of that cell alone.

Each check is a function from the cell's evidence to a Check. The checks that need the other engines of the
same load point are in parity.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from harness.judge.metrics import Floats, client_lag, column, ok_requests, percentile, slot_time_lost
from harness.judge.stats import Estimate
from harness.records import RunResult

Verdict = Literal["ok", "doubt", "invalid"]
SEVERITY: Mapping[Verdict, int] = {"ok": 0, "doubt": 1, "invalid": 2}

FAILED_INVALID = 0.01  # of the requests
LAG_DOUBT, LAG_INVALID = 0.02, 0.10  # of the time in flight
LITTLE_OVER, LITTLE_UNDER = 1.01, 0.5  # of the slots
STAMPED_DOUBT = 0.99  # of the reads
DRIFT_DOUBT = 0.20  # (max - min) / mean over rounds
CLIENT_CPU_DOUBT = 0.10  # of one core


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict on one cell, with the numbers that it rests on and what to do about it."""

    code: str
    verdict: Verdict
    numbers: Mapping[str, Any]
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All rounds of one engine at one load point, and the metrics taken from them."""

    runs: Sequence[RunResult]
    metrics: Mapping[str, Estimate]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of them; "ok" of none."""
    return max(verdicts, key=SEVERITY.__getitem__, default="ok")


def pooled(runs: Sequence[RunResult], values: Callable[[RunResult], Floats]) -> Floats:
    """One array over all rounds."""
    return np.concatenate([values(run) for run in runs])


def pooled_column(runs: Sequence[RunResult], name: str) -> Floats:
    """One column over all rounds' ok requests, NaN for null."""
    return pooled(runs, lambda run: column(run, name))


def error_rate(evidence: Evidence) -> Check:
    """Latency is taken over survivors only: an engine that drops the slow requests would look fast."""
    issued = sum(len(run.requests["status"]) for run in evidence.runs)
    failed = issued - sum(int(ok_requests(run).sum()) for run in evidence.runs)
    errors = sorted({str(e) for run in evidence.runs for e in run.requests["error"][~ok_requests(run)] if e})
    numbers = {"issued": issued, "failed": failed, "errors": errors[:5]}
    if not failed:
        return Check("ERROR_RATE", "ok", numbers, "No request failed.", "")
    verdict: Verdict = "doubt" if failed <= FAILED_INVALID * issued else "invalid"
    first = f" First error: {errors[0]}." if errors else ""
    return Check(
        "ERROR_RATE",
        verdict,
        numbers,
        f"{failed} of {issued} requests failed ({failed / issued:.1%}).{first}",
        "Read the engine's log for that round; latencies cover only the requests that came back.",
    )


def token_count(evidence: Evidence) -> Check:
    """Throughput counts tokens: what was seen, what the engine reports and what was asked must agree."""
    seen = pooled_column(evidence.runs, "output_tokens")
    reported = pooled_column(evidence.runs, "reported_tokens")
    asked = pooled_column(evidence.runs, "asked_tokens")
    silent = np.isnan(reported)
    wrong = int(np.sum((seen != asked) | (~silent & (reported != seen))))
    numbers = {
        "requests": int(seen.size),
        "differ": wrong,
        "not_reported": int(silent.sum()),
        "seen_tokens": int(seen.sum()),
        "reported_tokens": None if silent.any() else int(reported.sum()),
        "asked_tokens": int(asked.sum()),
    }
    if wrong:
        return Check(
            "TOKEN_COUNT",
            "invalid",
            numbers,
            f"In {wrong} of {seen.size} requests the tokens seen ({int(seen.sum())} in all), reported "
            f"({int(np.nansum(reported))}) and asked ({int(asked.sum())}) are not the same.",
            "Check the dialect's length fields and how its stream is counted.",
        )
    if silent.any():
        return Check(
            "TOKEN_COUNT",
            "doubt",
            numbers,
            f"{int(silent.sum())} of {seen.size} requests came back without the engine's own count.",
            "Make the dialect ask for usage in the stream.",
        )
    return Check("TOKEN_COUNT", "ok", numbers, "Tokens seen, reported and asked are the same.", "")


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


def client_lag_share(evidence: Evidence) -> Check:
    """Which part of the requests' time in flight was the driver's own.

    Latencies use the kernel's arrival times, so a late read bends none of them. What it bends is throughput:
    a slot whose last token waits to be read sends its next request that much later."""
    lag = pooled(evidence.runs, client_lag)
    p99 = percentile(lag, 99)
    lost, flight = (sum(part) for part in zip(*map(slot_time_lost, evidence.runs), strict=True))
    told = [run.manifest.client.get("kernel_stamped_fraction") for run in evidence.runs]
    # Chunks without a kernel stamp count as arrived when read: their lag would pass for none.
    stamped = min((share for share in told if share is not None), default=float(lag.any()))
    share = lost / flight if flight else None
    numbers = {"lag_p99_s": p99, "slot_time_lost": share, "kernel_stamped_fraction": stamped}
    if p99 is None or share is None:
        return Check("CLIENT_LAG", "doubt", numbers, "There is no chunk to take the lag from.", "")
    if stamped < STAMPED_DOUBT:
        return Check(
            "CLIENT_LAG",
            "doubt",
            numbers,
            f"The kernel stamped {stamped:.0%} of the arrivals: for the rest the client's own lag is inside "
            "the latency, unseen.",
            "Run on a system with SO_TIMESTAMPING, or compare with a run of the null engine at this load.",
        )
    text = (
        f"{p99 * 1e3:.3g} ms late at p99; {share:.1%} of the time in flight was the driver's. "
        "Latencies use the kernel's arrival."
    )
    advice = "Give the driver a core of its own, or spread it over more worker processes."
    if share > LAG_DOUBT:
        verdict: Verdict = "invalid" if share > LAG_INVALID else "doubt"
        return Check("CLIENT_LAG", verdict, numbers, f"The driver read {text}", advice)
    return Check("CLIENT_LAG", "ok", numbers, f"The driver kept up: {text}", "")


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
    # An offline batch drains from its first answer on: a low mean is its nature, not a fault.
    if manifest.concurrency is not None and mean < slots * LITTLE_UNDER:
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


def cpu_contention(evidence: Evidence) -> Check:
    """A client that takes the engine's cores slows what it measures."""
    shares: list[float | None] = []
    shared = False
    for run in evidence.runs:
        manifest = run.manifest
        cpu_s = manifest.client.get("cpu_s")
        shares.append(cpu_s / manifest.duration_s if cpu_s is not None and manifest.duration_s > 0 else None)
        cores, threads = manifest.machine.get("cores"), manifest.settings.get("threads")
        # Threads null or 0: the engine takes every core that it may.
        full = not threads or cores is None or threads >= cores
        shared |= bool(manifest.client.get("same_machine")) and full
    known = [share for share in shares if share is not None]
    numbers = {"shared_cores": shared, "client_cores": max(known, default=None)}
    if not shared:
        return Check("CPU_CONTENTION", "ok", numbers, "The client has a core that the engine leaves free.", "")
    if len(known) < len(shares):
        return Check(
            "CPU_CONTENTION",
            "doubt",
            numbers,
            "Client and engine share the cores, and the client's CPU time is not recorded.",
            "Leave the engine one thread less than there are cores.",
        )
    text = f"client and engine share the cores; the client took {max(known):.1%} of one core"
    if max(known) < CLIENT_CPU_DOUBT:
        return Check("CPU_CONTENTION", "ok", numbers, f"Little contention: {text}.", "")
    return Check(
        "CPU_CONTENTION",
        "doubt",
        numbers,
        f"Contention: {text}.",
        "Leave the engine one thread less than there are cores.",
    )


CELL_CHECKS: tuple[Callable[[Evidence], Check], ...] = (
    error_rate,
    token_count,
    prompt_parity,
    prefix_cache,
    client_lag_share,
    little,
    drift,
    cpu_contention,
)

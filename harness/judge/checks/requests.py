"""Whether requests succeeded and tokens add up: ERROR_RATE, TOKEN_COUNT."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.judge.checks.evidence import Evidence, Outcome, pooled, pooled_column, worst
from harness.judge.checks.lengths import cut_at_length
from harness.records.latencies import cancelled_requests, failed_requests, floats, ok_requests
from harness.records.refused import advice
from harness.records.run import RunResult

FAILED_INVALID = 0.01  # of the requests
MISSING_INVALID = 0.01  # of the requests of a schedule
FEWER = 0.6  # of the requests up to the last one that was sent, where a load ends by time
ERRORS_SHOWN = 5  # different ones
COUNTER_DOUBT, COUNTER_INVALID = 0.01, 0.10  # of the tokens received


def error_rate(evidence: Evidence) -> Outcome:
    """Latencies cover successful requests only: an engine that drops slow requests would look fast."""
    issued = sum(len(run.requests["status"]) for run in evidence.runs)
    failed = sum(int(failed_requests(run).sum()) for run in evidence.runs)
    cancelled = sum(int(cancelled_requests(run).sum()) for run in evidence.runs)
    if (lost := _missing(evidence)) is not None:
        return lost
    errors = errors_by_time(evidence.runs)
    numbers = {
        "issued": issued,
        "failed": failed,
        "cancelled": cancelled,
        "errors": list(errors)[:ERRORS_SHOWN],
        "error_counts": list(errors.values())[:ERRORS_SHOWN],
    }
    given_up = f" {cancelled} of {issued} were cancelled by their user, as planned." if cancelled else ""
    if not failed:
        return Outcome("ok", f"No request failed.{given_up}", numbers)
    help_ = ""
    if failed == issued and errors:
        probe = evidence.manifest.probe
        help_ = advice(next(iter(errors)), probe, evidence.manifest.endpoint.url)
    return Outcome(
        "doubt" if failed <= FAILED_INVALID * issued else "invalid",
        f"{failed} of {issued} requests failed ({failed / issued:.1%}).{given_up}{_first(errors)}"
        f"{f' {help_}' if help_ else ''}",
        numbers,
        "Read the engine's log of that round; latencies cover only the requests that succeeded.",
    )


def errors_by_time(runs: Sequence[RunResult]) -> dict[str, int]:
    """Every error -> how many requests have it, in the order in which each was first seen: a cause comes before its
    consequences."""
    found: list[tuple[int, float, str]] = []
    for run in sorted(runs, key=lambda one: one.manifest.round):
        failed = failed_requests(run)
        ended = floats(run.requests["done_s"])
        ended = np.where(np.isfinite(ended), ended, floats(run.requests["sent_s"]))[failed]
        errors = run.requests["error"][failed]
        found += [
            (run.manifest.round, at, str(error)) for at, error in zip(ended.tolist(), errors, strict=True) if error
        ]
    # One that was never sent has no time: NaN is in no order, so it comes last.
    found.sort(key=lambda one: (one[0], math.inf if math.isnan(one[1]) else one[1]))
    return dict(Counter(error for _, _, error in found))


def _first(errors: Mapping[str, int]) -> str:
    """The first error, and how often each came if there are several."""
    if not errors:
        return ""
    (first, count), *others = errors.items()
    if not others:
        return f" First error: {first.rstrip('.')}."
    shown = [f"{error.rstrip('.')} ({times})" for error, times in others[: ERRORS_SHOWN - 1]]
    more = len(others) - len(shown)
    shown += [f"{more} other{'s' if more > 1 else ''}"] if more else []
    return f" First error: {first.rstrip('.')} ({count}). Then: {'; '.join(shown)}."


def _missing(evidence: Evidence) -> Outcome | None:
    """Requests of the schedule that have no record; None if none is missing. Of a load that ends by time the schedule
    holds more than are sent, and sends them in order: there only many gaps in that order show it."""
    least: tuple[float, RunResult, int] | None = None
    for run in evidence.runs:
        index, load = run.requests["index"], run.manifest.load
        by_time = load.timed or getattr(load, "duration_s", None) is not None
        expected = (int(index.max()) + 1 if index.size else 0) if by_time else run.manifest.schedule.requests
        share = index.size / expected if expected else 1.0
        # The last turns of sessions are gaps too, but few.
        if share < (FEWER if by_time else 1.0) and (least is None or share < least[0]):
            least = (share, run, expected)
    if least is None:
        return None
    share, run, expected = least
    count = len(run.requests["status"])
    return Outcome(
        "invalid" if share < 1 - MISSING_INVALID else "doubt",
        f"In round {run.manifest.round} only {count} of {expected} requests have a record.",
        {"round": run.manifest.round, "records": count, "expected": expected},
        "The files of that round are not complete; measure it again.",
    )


def token_count(evidence: Evidence) -> Outcome:
    """Throughput counts tokens: those received, those that the engine reports and those asked for must agree, and the
    engine's own counter must have risen by as many."""
    by_request, by_counter = _by_request(evidence), _by_counter(evidence)
    if by_counter is None:
        return by_request
    numbers = {**by_request.numbers, **by_counter.numbers}
    if by_counter.verdict == "ok":
        return replace(by_request, numbers=numbers)
    if by_request.verdict == "ok":
        return replace(by_counter, numbers=numbers)
    return Outcome(
        worst((by_request.verdict, by_counter.verdict)),
        f"{by_request.message} {by_counter.message}",
        numbers,
        f"{by_request.advice} {by_counter.advice}".strip(),
    )


def _by_counter(evidence: Evidence) -> Outcome | None:
    """The rise of the engine's counter against all tokens received, of the round that differs most; None without a
    counter. It is read outside the clock, after the warm-up, so it covers these requests alone. One request's tokens
    may not be counted yet; of cancelled and failed requests it is not known how many were generated. A server that
    already ran may have other clients, or be one of several behind a gateway: no fault of what was received."""
    found = []
    for run in evidence.runs:
        if (counted := run.manifest.counters.get("output_tokens")) is None or not len(run.requests["status"]):
            continue
        seen, asked = floats(run.requests["output_tokens"]), floats(run.requests["asked_tokens"])
        unsure = float(np.nansum(np.maximum(asked - seen, 0.0)[~ok_requests(run)]))
        total = float(np.nansum(seen))
        off = counted - total
        beyond = max(off - unsure, 0.0) if off > 0 else -off
        found.append((0.0 if beyond <= float(np.nanmax(seen)) else beyond / max(total, 1.0), counted, total, run))
    if not found:
        return None
    off, counted, total, run = max(found, key=lambda one: one[0])
    numbers = {"counter_tokens": counted, "received_tokens": total, "counter_off": off}
    if off <= COUNTER_DOUBT:
        return Outcome("ok", "", numbers)
    if counted == 0:  # a counter that does not count says nothing about the tokens
        text = f"The engine's counter of generated tokens did not rise in round {run.manifest.round}."
        return Outcome("doubt", text, numbers, "Check the name of the counter in the engine file.")
    return Outcome(
        "invalid" if off > COUNTER_INVALID and not evidence.attached else "doubt",
        f"The engine counted {counted:.0f} generated tokens in round {run.manifest.round}, the client received "
        f"{total:.0f} ({counted / max(total, 1.0):.3g} times as many).",
        numbers,
        "Other clients use this server, or tokens are counted wrongly: look at both counts for a single request.",
    )


def _by_request(evidence: Evidence) -> Outcome:
    """Tokens received and reported, request by request."""
    seen, reported = (pooled_column(evidence.runs, name) for name in ("output_tokens", "reported_tokens"))
    sources = _count_sources(evidence.runs)
    silent = np.isnan(reported)
    wrong = int(np.sum(~silent & (reported != seen)))
    numbers = {
        "requests": int(seen.size),
        "differ": wrong,
        "not_reported": int(silent.sum()),
        "seen_tokens": int(seen.sum()),
        "reported_tokens": None if silent.any() else int(reported.sum()),
        "count_sources": sources,
    }
    guessed = sources.get("events", 0)
    by_events = f" In {guessed} of them each event of the stream was counted as one token." if guessed else ""
    if wrong:
        return Outcome(
            "invalid",
            f"In {wrong} of {seen.size} requests the tokens received ({int(seen[~silent].sum())} in all) and those "
            f"that the engine reports ({int(np.nansum(reported))}) are not the same.{by_events}",
            numbers,
            "Check how the engine file counts the stream's tokens.",
        )
    if guessed:
        return Outcome(
            "doubt",
            f"{guessed} of {seen.size} requests were counted by events, one token each: the stream has no count."
            f"{_merged(evidence.runs)}",
            numbers,
            "Ask for token ids or for usage in the stream.",
        )
    if silent.any():
        return Outcome(
            "note" if evidence.attached else "doubt",
            f"For {int(silent.sum())} of {seen.size} requests the engine reported no count of its own.",
            numbers,
            "Make the engine file ask for usage in the stream.",
        )
    spread = ""
    if sources.get("final usage"):
        spread = " The count came at the end, so the tokens of each chunk (TPOT, ITL) are estimated."
    return Outcome("ok", f"Tokens received and reported are the same.{spread}", numbers)


def _merged(runs: Sequence[RunResult]) -> str:
    """What is known of events that hold several tokens: an answer that ended at its length has as many as asked."""
    whole = pooled(runs, cut_at_length) > 0
    seen, asked = pooled_column(runs, "output_tokens")[whole], pooled_column(runs, "asked_tokens")[whole]
    if not (seen < asked).any():
        return ""
    factor = float(asked.sum() / max(seen.sum(), 1.0))
    return (
        f" {int((seen < asked).sum())} ended at the length asked for with fewer events: events hold several tokens, "
        f"so throughput is too low and TPOT too high, by about {factor:.2g}."
    )


def _count_sources(runs: Sequence[RunResult]) -> dict[str, int]:
    """How ok requests were counted -> how many; empty for runs that do not say."""
    sources = np.concatenate([run.requests["count_source"][ok_requests(run)] for run in runs])
    names, counts = np.unique([str(one) for one in sources if one is not None], return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}

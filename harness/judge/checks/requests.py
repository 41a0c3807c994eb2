"""Whether requests succeeded and tokens add up: ERROR_RATE, TOKEN_COUNT, PROMPT_PARITY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.judge.checks.evidence import Evidence, Outcome, pooled, pooled_column
from harness.records.latencies import Floats, cancelled_requests, column, failed_requests, ok_requests
from harness.records.run import RunResult

FAILED_INVALID = 0.01  # of the requests


def error_rate(evidence: Evidence) -> Outcome:
    """Latencies cover successful requests only: an engine that drops slow requests would look fast."""
    issued = sum(len(run.requests["status"]) for run in evidence.runs)
    failed = sum(int(failed_requests(run).sum()) for run in evidence.runs)
    cancelled = sum(int(cancelled_requests(run).sum()) for run in evidence.runs)
    errors = sorted({str(e) for run in evidence.runs for e in run.requests["error"][failed_requests(run)] if e})
    numbers = {"issued": issued, "failed": failed, "cancelled": cancelled, "errors": errors[:5]}
    given_up = f" {cancelled} of {issued} were cancelled by their user, as planned." if cancelled else ""
    if not failed:
        return Outcome("ok", f"No request failed.{given_up}", numbers)
    first = f" First error: {errors[0]}." if errors else ""
    return Outcome(
        "doubt" if failed <= FAILED_INVALID * issued else "invalid",
        f"{failed} of {issued} requests failed ({failed / issued:.1%}).{given_up}{first}",
        numbers,
        "Read the engine's log of that round; latencies cover only the requests that succeeded.",
    )


def token_count(evidence: Evidence) -> Outcome:
    """Throughput counts tokens: those received, those that the engine reports and those asked for must agree."""
    seen, reported, asked = (
        pooled_column(evidence.runs, name) for name in ("output_tokens", "reported_tokens", "asked_tokens")
    )
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
        return Outcome(
            "invalid",
            f"In {wrong} of {seen.size} requests the tokens received ({int(seen.sum())} in all), reported "
            f"({int(np.nansum(reported))}) and asked for ({int(asked.sum())}) are not the same.{by_events}",
            numbers,
            "Check the length fields in the engine file, and how it counts the stream's tokens.",
        )
    if silent.any():
        return Outcome(
            "note" if evidence.attached else "doubt",  # CONFIG_PARITY already doubts a server that already ran
            f"For {int(silent.sum())} of {seen.size} requests the engine reported no count of its own.{by_events}",
            numbers,
            "Make the engine file ask for usage in the stream.",
        )
    if guessed:
        return Outcome(
            "doubt",
            f"{guessed} of {seen.size} requests were counted by events, one token each: the stream has no count.",
            numbers,
            "Make the engine file ask for token ids or for usage in the stream.",
        )
    spread = ""
    if sources.get("final usage"):
        spread = " The count came at the end, so the tokens of each chunk (TPOT, ITL) are estimated."
    return Outcome("ok", f"Tokens received, reported and asked for are the same.{spread}", numbers)


def _count_sources(runs: Sequence[RunResult]) -> dict[str, int]:
    """How ok requests were counted -> how many; empty for runs that do not say."""
    sources = np.concatenate([run.requests["count_source"][ok_requests(run)] for run in runs])
    names, counts = np.unique([str(one) for one in sources if one is not None], return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def prompt_parity(evidence: Evidence) -> Outcome:
    """An engine that adds or cuts prompt tokens does more or less work than was asked. A chat template adds the same
    number to each prompt, which the probe has measured; nothing else may differ."""
    over = pooled(evidence.runs, _beyond_the_template)
    offsets = sorted({offset for run in evidence.runs if (offset := _offset(run)) is not None})
    silent = np.isnan(over)
    wrong = over[~silent & (over != 0)]
    numbers: dict[str, Any] = {
        "requests": int(over.size),
        "differ": int(wrong.size),
        "not_reported": int(silent.sum()),
        "offsets": offsets,
    }
    template = " and ".join(str(offset) for offset in offsets)
    beside = f" besides the {template} of its chat template" if any(offsets) else ""
    if wrong.size:
        numbers |= {"least": int(wrong.min()), "most": int(wrong.max())}
        return Outcome(
            "invalid",
            f"In {wrong.size} of {over.size} requests the engine counted more or fewer prompt tokens than were sent "
            f"({int(wrong.min()):+d} to {int(wrong.max()):+d} tokens{beside}).",
            numbers,
            "Send token ids, or switch off the engine's own BOS token or chat template.",
        )
    if silent.any():
        return Outcome(
            "note" if evidence.attached else "doubt",
            f"For {int(silent.sum())} of {over.size} requests the engine reported no prompt count.",
            numbers,
            "Make the engine file ask for usage in the stream.",
        )
    if any(offsets):
        return Outcome("note", f"Prompts are as sent; a chat template adds +{template} tokens to each.", numbers)
    return Outcome("ok", "The engine counted as many prompt tokens as were sent.", numbers)


def _offset(run: RunResult) -> int | None:
    return None if run.manifest.probe is None else run.manifest.probe.prompt_offset


def _beyond_the_template(run: RunResult) -> Floats:
    """Prompt tokens counted minus those sent and those of the template; shape (ok requests,), NaN if not counted."""
    return column(run, "prompt_tokens") - column(run, "sent_tokens") - (_offset(run) or 0)

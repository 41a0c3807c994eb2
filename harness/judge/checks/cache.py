"""Whether prompts were answered from a cache: PREFIX_CACHE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.judge.checks.declared import by_chat
from harness.judge.checks.evidence import Evidence, Outcome, pooled_column

BLOCK = 16  # tokens: the smallest block that paged caches share


@dataclass(frozen=True, slots=True)
class _Hits:
    tokens: int  # from the cache
    sent: int
    seen: bool  # whether the engine reports it, per request or by its counter
    by_counter: bool
    numbers: dict[str, Any]

    @property
    def text(self) -> str:
        source = " by the engine's counter" if self.by_counter else ""
        return f"{self.tokens} of {self.sent} prompt tokens came from the cache{source}"


def prefix_cache(evidence: Evidence) -> Outcome | None:
    """Prompt tokens from the cache need no prefill, so TTFT would be too low. None where a server that already ran
    reports neither its setting nor cached tokens: CONFIG_PARITY says what is not known of it."""
    declared = {run.manifest.endpoint.settings.get("prefix_cache") for run in evidence.runs}
    hits = _hits(evidence)
    numbers = {"declared": sorted(map(str, declared)), **hits.numbers}
    if len(declared) != 1 or declared == {None}:
        return _undeclared(evidence, hits, numbers)
    if declared == {False} and hits.tokens > 0:
        return Outcome(
            "invalid",
            f"The prefix cache is declared off, but {hits.text}.",
            numbers,
            "Switch the engine's prefix cache off in its launch line, or declare it on for all candidates.",
        )
    if not hits.seen and (shared := _shared(evidence)) is not None:
        numbers["shared_prefix"] = shared
        return Outcome(
            "note",
            f"The engine does not report cached tokens; no two prompts begin with more than {shared} tokens in common, "
            "so that at most as many can have come from a cache.",
            numbers,
        )
    if not hits.seen:
        return Outcome(
            "note" if evidence.attached else "doubt",
            "The engine does not report cached tokens, so it is not known whether the cache was really as declared.",
            numbers,
            "Make the engine report cached tokens, or name its counter in the engine file.",
        )
    if declared == {False}:
        source = " by the engine's counter" if hits.by_counter else ""
        return Outcome("ok", f"The prefix cache is off: no prompt token came from it{source}.", numbers)
    return Outcome("ok", f"The prefix cache is on: {hits.text}.", numbers)


def _shared(evidence: Evidence) -> int | None:
    """The most tokens that two prompts of any round begin with together, if that is less than a block of a cache; None
    if it is more, or not known."""
    texts = any(run.manifest.schedule.texts for run in evidence.runs)
    if any(by_chat(run.manifest) for run in evidence.runs) or (evidence.attached and texts):
        return None  # a template begins every prompt, and a server that is not restarted keeps those of earlier rounds
    found = [run.manifest.schedule.shared_prefix for run in evidence.runs]
    known = [one for one in found if one is not None]
    return max(known) if len(known) == len(found) and max(known) < BLOCK else None


def _undeclared(evidence: Evidence, hits: _Hits, numbers: dict[str, Any]) -> Outcome | None:
    """Without a declared setting, a server that already ran is judged by what it reports; others must declare it."""
    if not evidence.attached:
        return Outcome(
            "doubt",
            "The settings do not say whether the prefix cache is on.",
            numbers,
            "Set prefix_cache in the profile.",
        )
    if not hits.seen:
        return None
    if hits.tokens:
        share = hits.tokens / hits.sent if hits.sent else 1.0
        return Outcome(
            "doubt",
            f"{hits.text} ({share:.1%}): these needed no prefill.",
            numbers,
            "Switch the server's prefix cache off, or compare it with candidates whose cache is on.",
        )
    return Outcome("ok", "The server reports that no prompt token came from the cache.", numbers)


def _hits(evidence: Evidence) -> _Hits:
    """Cached tokens as reported per request; if a request reports nothing, from the engine's own counter."""
    cached = pooled_column(evidence.runs, "cached_tokens")
    counted = [run.manifest.counters.get("cached_tokens") for run in evidence.runs]
    sent = int(pooled_column(evidence.runs, "sent_tokens").sum())
    silent = int(np.isnan(cached).sum())
    known = [count for count in counted if count is not None]
    by_counter = bool(silent) and bool(known) and len(known) == len(counted)
    tokens = int(max(float(np.nansum(cached)), sum(known)))
    seen = not silent or by_counter
    numbers = {
        "not_reported": silent,
        "counter": sum(known) if known else None,
        "cached_tokens": tokens if seen else None,
        "cached_fraction": tokens / sent if seen and sent else None,
    }
    return _Hits(tokens, sent, seen, by_counter, numbers)

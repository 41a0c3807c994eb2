"""Whether prompts reached the engine as they were sent: PROMPT_PARITY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.judge.checks.evidence import Evidence, Outcome, is_attached, pooled, pooled_column
from harness.records.latencies import Floats, column, known
from harness.records.run import RunResult

LOST = 2  # tokens: a server that adds no BOS, or does not count it
OTHER_TOKENIZER = 0.10  # of a prompt: as far as two tokenizers count the same text
LONGER = 1.0  # of the prompt that was sent: with more than that added, TTFT is that of another prompt
APART = 0.50  # of the longer mean: how far the prompts of two candidates may differ


def prompt_parity(evidence: Evidence) -> Outcome:
    """An engine that adds or cuts prompt tokens does more or less work than was asked. What a chat template or a
    tokenizer's BOS adds to each prompt alike is learned; nothing else may differ."""
    over = pooled(evidence.runs, _beyond_the_offset)
    offsets = sorted({offset for run in evidence.runs if (offset := offset_of(run)) is not None})
    silent = np.isnan(over)
    wrong = over[~silent & (over != 0)]
    numbers: dict[str, Any] = {
        "requests": int(over.size),
        "differ": int(wrong.size),
        "not_reported": int(silent.sum()),
        "offsets": offsets,
    }
    if wrong.size:
        numbers |= {"least": int(wrong.min()), "most": int(wrong.max())}
        return _differing(evidence, wrong, offsets, numbers)
    if silent.any():
        return Outcome(
            "note" if evidence.attached else "doubt",
            f"For {int(silent.sum())} of {over.size} requests the engine reported no prompt count.",
            numbers,
            "Make the engine file ask for usage in the stream.",
        )
    if not any(offsets):
        return Outcome("ok", "The engine counted as many prompt tokens as were sent.", numbers)
    return _with_offset(evidence, offsets, numbers)


def offset_of(run: RunResult) -> int | None:
    """How many tokens the server adds to every prompt: as the probe has measured it, else, of a server that already
    ran, what all requests of the run have alike. None if that is not known, or differs between prompts."""
    probe = run.manifest.probe
    if probe is not None and probe.prompt_offset is not None:
        return probe.prompt_offset
    varies = probe is not None and probe.prompt_tokens is not None  # counted by the probe, and without one offset
    over = known(_counted(run) - column(run, "sent_tokens"))
    if varies or not is_attached(run.manifest) or not over.size or np.ptp(over):
        return None
    offset = int(over[0])
    # A prompt that was cut to the server's context lacks the same number of tokens, too, if all have one length.
    same_length = not np.ptp(column(run, "sent_tokens"))
    return None if offset < -LOST and same_length else offset


def _with_offset(evidence: Evidence, offsets: Sequence[int], numbers: dict[str, Any]) -> Outcome:
    """All prompts have the same tokens more or fewer."""
    text = f"Prompts are as sent; {_added(evidence, offsets)} each."
    if not evidence.attached and evidence.manifest.candidate.given.get("prompt") == "chat":
        text += " Asked for: prompt is chat."
    sent = float(pooled_column(evidence.runs, "sent_tokens").mean())
    mine = _mean_prompt(evidence.runs)
    apart = []
    for name, runs in (evidence.peers.runs if evidence.peers else {}).items():
        other = _mean_prompt(runs)
        if mine and other and abs(mine - other) > APART * max(mine, other):
            apart.append(f"{evidence.peers.titles[name]} {other:.4g}" if evidence.peers else "")
    if apart:
        text += f" Its prompts have {mine:.4g} tokens on average, {' and '.join(apart)}: TTFT is of other prompts."
        return Outcome("doubt", text, numbers, "Compare candidates whose prompts are of about one length.")
    if max(offsets) > LONGER * sent:
        text += f" {sent:.4g} were sent: TTFT is that of prompts more than twice as long."
        return Outcome("doubt", text, numbers, "Send longer prompts, or leave out the server's own system prompt.")
    return Outcome("note", text, numbers)


def _differing(evidence: Evidence, wrong: Floats, offsets: Sequence[int], numbers: dict[str, Any]) -> Outcome:
    """Prompts have more or fewer tokens than were sent, and not all alike."""
    count = len(pooled_column(evidence.runs, "sent_tokens"))
    beside = f" besides the {_amount(offsets)} that each has" if any(offsets) else ""
    text = (
        f"In {wrong.size} of {count} requests the engine counted more or fewer prompt tokens than were sent "
        f"({int(wrong.min()):+d} to {int(wrong.max()):+d} tokens{beside})"
    )
    counted = known(pooled(evidence.runs, _counted))
    if counted.size > 1 and not np.ptp(counted) and wrong.max() < 0:
        text += f", all as {int(counted[0])}: they may have been cut to a context of that length"
    elif evidence.attached and _as_text(evidence) and _by_another_tokenizer(evidence.runs):
        return Outcome(
            "doubt",
            f"{text}: the server's tokenizer is not the one that made the prompts.",
            numbers,
            "Give the tokenizer of the model that is served (--tokenizer).",
        )
    return Outcome(
        "invalid",
        f"{text}.",
        numbers,
        "Send token ids, or switch off the engine's own BOS token or chat template; a server may also cut prompts to "
        "its context.",
    )


def _by_another_tokenizer(runs: Sequence[RunResult]) -> bool:
    """Whether the counts differ by no more than those of two tokenizers, beside what is added to each prompt alike."""
    over = pooled(runs, lambda run: _counted(run) - column(run, "sent_tokens"))
    sent = pooled_column(runs, "sent_tokens")[~np.isnan(over)]
    over = over[~np.isnan(over)]
    alike = max(float(np.median(over)), 0.0)
    return bool((np.abs(over - alike) <= np.maximum(OTHER_TOKENIZER * sent, LOST)).all())


def _as_text(evidence: Evidence) -> bool:
    probe = evidence.manifest.probe
    return probe is not None and probe.prompt_as in ("text", "chat")


def _added(evidence: Evidence, offsets: Sequence[int]) -> str:
    """`a chat template adds +11 tokens to`: what every prompt has more or fewer."""
    probe = evidence.manifest.probe
    chat = probe is None or probe.prompt_as in ("", "chat")
    amount = _amount(offsets)
    unit = "token" if amount in ("+1", "-1") else "tokens"
    if chat:
        return f"a chat template adds {amount} {unit} to"
    if max(offsets) < 0:
        return f"the server counts {amount} {unit}{' (no BOS of its own)' if min(offsets) >= -LOST else ''} of"
    return f"the server adds {amount} {unit} (its BOS or a template) to"


def _amount(offsets: Sequence[int]) -> str:
    return " and ".join(f"{offset:+d}" for offset in offsets)


def _mean_prompt(runs: Sequence[RunResult]) -> float | None:
    counted = known(pooled(runs, _counted))
    return float(counted.mean()) if counted.size else None


def _beyond_the_offset(run: RunResult) -> Floats:
    """Prompt tokens counted minus those sent and those added to each; shape (ok requests,), NaN if not counted."""
    return _counted(run) - column(run, "sent_tokens") - (offset_of(run) or 0)


def _counted(run: RunResult) -> Floats:
    """Prompt tokens by the engine's count, NaN if it has none; shape (ok requests,). A server that does not count says
    0, which would look like a prompt that was cut."""
    counted = column(run, "prompt_tokens")
    return np.where(counted > 0, counted, np.nan)

"""What differs between the candidates beside speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from harness.judge.said import Said
from harness.judge.words import listed, number, percent, value_words
from harness.records.metrics import BY_KEY

if TYPE_CHECKING:
    from harness.judge.candidates import CandidateSummary
    from harness.judge.comparison import Comparison

# Metrics of a candidate's cost, where they are known: a peak as the largest of its loads, a price as their range.
COSTS = (
    ("engine_cpu_cores", "CPU"),
    ("engine_memory_peak", "Peak memory"),
    ("gpu_memory_peak", "Peak GPU memory"),
    ("cost_per_million_output_tokens", "Price per million output tokens"),
)


def differences(comparison: Comparison) -> Said | None:
    """Precision, answers, cold start, CPU, memory and price, as far as they are known; None with fewer than two
    candidates."""
    real = [one for one in comparison.candidates if not one.null]
    if len(real) < 2:
        return None
    parts = [_precision(real), _answers(real), _cold_start(real)]
    parts += [_cost(comparison, real, key, title) for key, title in COSTS]
    said = [part for part in parts if part]
    return Said(" ".join(said), tuple(one.name for one in real)) if said else None


def _precision(real: list[CandidateSummary]) -> str:
    found: dict[str, list[str]] = {}
    for one in real:
        words = f"weights {one.weight_dtype or 'not known'}, KV cache {one.kv_dtype or 'not known'}"
        found.setdefault(words, []).append(one.title)
    if len(found) == 1:
        return f"Precision is the same: {next(iter(found))}." if "not known" not in next(iter(found)) else ""
    return f"Precision: {'; '.join(f'{words} ({listed(titles)})' for words, titles in found.items())}."


def _answers(real: list[CandidateSummary]) -> str:
    parts = []
    titles = {one.name: one.title for one in real}
    for one in real:
        if one.answers is not None and one.reference is not None:
            share = "all" if one.answers.positions == 1 else percent(one.answers.positions)
            parts.append(f"{one.title} gives {share} of {titles.get(one.reference, one.reference)}'s probe tokens")
    return f"Answers: {', '.join(parts)}." if parts else ""


def _cold_start(real: list[CandidateSummary]) -> str:
    taken = {one.title: sum(one.cold_start_s.values()) for one in real if one.cold_start_s}
    return _spread(
        "Cold start", {title: (seconds, seconds) for title, seconds in taken.items()}, lambda s: f"{number(s)} s"
    )


def _cost(comparison: Comparison, real: list[CandidateSummary], key: str, title: str) -> str:
    """The range of a metric over a candidate's loads; of a peak the largest."""
    if key not in BY_KEY:
        return ""
    unit = BY_KEY[key].unit
    found = {}
    for one in real:
        cells = [cell for cell in comparison.cells if cell.candidate == one.name and key in cell.metrics]
        values = [mean for cell in cells if (mean := cell.metrics[key].mean) is not None]
        if values:
            peak = key.endswith("_peak")  # the most that a machine must have, not what each load took
            found[one.title] = (max(values) if peak else min(values)), max(values)
    return _spread(title, found, lambda value: value_words(value, unit))


def _spread(what: str, found: Mapping[str, tuple[float, float]], words: Callable[[float], str]) -> str:
    if not found:
        return ""
    texts = {title: _range(words(low), words(high)) for title, (low, high) in found.items()}
    return f"{what}: {', '.join(f'{title} {text}' for title, text in texts.items())}."


def _range(low: str, high: str) -> str:
    """`0.5 to 0.7 USD`: the unit once."""
    value, _, unit = low.rpartition(" ")
    if low == high:
        return high
    return f"{value if value and high.endswith(f' {unit}') else low} to {high}"

"""Numbers and names as readers see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.judge.comparison import CandidateSummary, Comparison
from harness.judge.loads import LoadSummary
from harness.judge.stats import Estimate

MISSING = "–"


def number(value: float | None) -> str:
    """Three significant digits, thousands in full: 1,234 · 123 · 12.3 · 1.23 · 0.0123."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.9995 else f"{value:.3g}"


def milliseconds(seconds: float | None) -> str:
    """Seconds shown in milliseconds, without the unit."""
    return number(None if seconds is None else seconds * 1e3)


def half(estimate: Estimate, scale: float = 1.0) -> str:
    """`± x`, half the interval's width; empty without an interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"±{number((estimate.high - estimate.low) / 2 * scale)}"


def short_name(point: LoadSummary) -> str:
    """`4`, `2.5` or `offline`: how a load is called on an axis. What does not lie on the axis has its
    own name."""
    if point.kind == "closed" and point.name == f"c{point.concurrency}":
        return str(point.concurrency)
    if point.kind == "open" and point.rate is not None and not point.variant:
        return f"{point.rate:g}"
    return point.name


def lengths_line(points: Sequence[LoadSummary]) -> str:
    """Prompt and output tokens of a request, or that each has its own."""
    known = {(point.input_tokens, point.output_tokens) for point in points}
    first, last = next(iter(known))
    if len(known) > 1 or first is None or last is None:
        return "each request has the lengths of the trace"
    return f"{first} input and {last} output tokens per request"


def precision_line(comparison: Comparison) -> str:
    """Weights and KV precision, by engine where they differ."""
    found: dict[tuple[str | None, str | None], list[str]] = {}
    for engine in comparison.candidates:
        if not engine.null:
            found.setdefault((engine.weight_dtype, engine.kv_dtype), []).append(engine.title)
    parts = []
    for (weights, kv), titles in found.items():
        who = f" ({', '.join(titles)})" if len(found) > 1 else ""
        parts.append(f"weights {weights or 'not stated'}, KV cache {kv or 'not stated'}{who}")
    return "; ".join(parts)


def candidates_line(comparison: Comparison) -> str:
    """Versions, and how each was started: a container's network is another one than a process's."""
    return " · ".join(f"{engine.title} {engine.version} ({_started(engine)})" for engine in comparison.candidates)


def _started(engine: CandidateSummary) -> str:
    how = engine.launch.partition(",")[0]  # without the image
    return f"{how}; no engine: a schedule of tokens" if engine.null else how


def machine_line(machine: Mapping[str, Any]) -> str:
    """CPU model, cores and GPU in one line."""
    parts = [str(machine.get("cpu") or "CPU not stated")]
    if machine.get("cores"):
        parts.append(f"{machine['cores']} cores")
    gpu = machine.get("gpu") or machine.get("gpus")
    gpus = gpu if isinstance(gpu, list | tuple) else [gpu] if gpu else []
    names = [str(one.get("name", one)) if isinstance(one, Mapping) else str(one) for one in gpus]
    counted = [f"{names.count(name)} × {name}" if names.count(name) > 1 else name for name in dict.fromkeys(names)]
    return ", ".join([*parts, " + ".join(counted) or "no GPU"])


def rounds_line(comparison: Comparison, pooled: bool = False) -> str:
    """How many rounds there are and what an error bar is, or that a chart pools the rounds."""
    counts = sorted({len(cell.rounds) for cell in comparison.cells})
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if pooled:
        return f"requests of {span} round{'s' if counts[-1] > 1 else ''}, pooled"
    if counts[-1] < 2:
        return "1 round, so no error bars"
    return f"{span} rounds; points are means over rounds, error bars their 95 % Student-t intervals"

"""Formats numbers and names for readers."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judge.candidates import CandidateSummary
from harness.judge.comparison import Comparison
from harness.judge.loads import LoadSummary
from harness.judge.words import MISSING, milliseconds, number
from harness.records.manifest import MachineFacts
from harness.visible import visible
from harness.workload.lengths import Lengths
from harness.workload.loads import ClosedLoop, OpenLoop

__all__ = ["MISSING", "milliseconds", "number"]


def short_name(load: LoadSummary) -> str:
    """`4`, `2.5` or `offline`: the label of a load on an axis; its full name if it is not on the axis."""
    asked = load.load
    if isinstance(asked, ClosedLoop) and load.name == f"c{asked.concurrency}":
        return str(asked.concurrency)
    if isinstance(asked, OpenLoop) and asked.arrivals != "trace" and load.rate is not None and not load.variant:
        return f"{load.rate:g}"
    return load.name


def lengths_line(loads: Sequence[LoadSummary]) -> str:
    """Prompt and output tokens of a request, or where its lengths come from."""
    inputs = {load.input_lengths or load.input_tokens for load in loads}
    outputs = {load.output_lengths or load.output_tokens for load in loads}
    most = "at most " if loads[0].ends == "natural" else ""
    if (texts := loads[0].texts) is not None and len(outputs) == 1:
        return (
            f"prompts are real text ({visible(texts.name, 60)}), {most}{_lengths(*outputs)} output tokens per request"
        )
    if len(inputs) > 1 or len(outputs) > 1 or None in inputs | outputs:
        return "each request has the lengths of the trace"
    return f"{_lengths(*inputs)} input and {most}{_lengths(*outputs)} output tokens per request"


def _lengths(given: int | Lengths | None) -> str:
    return given.words if isinstance(given, Lengths) else str(given)


def precision_line(comparison: Comparison) -> str:
    """Weights and KV precision, by candidate if they differ."""
    found: dict[tuple[str | None, str | None], list[str]] = {}
    for one in comparison.candidates:
        if not one.null:
            found.setdefault((one.weight_dtype, one.kv_dtype), []).append(one.title)
    parts = []
    for (weights, kv), titles in found.items():
        who = f" ({', '.join(titles)})" if len(found) > 1 else ""
        parts.append(f"weights {weights or 'not known'}, KV cache {kv or 'not known'}{who}")
    return "; ".join(parts)


def candidates_line(comparison: Comparison) -> str:
    """Versions, and how each was started: a container adds a network layer that a process does not have."""
    return " · ".join(f"{one.title} {one.version} ({_started(one)})" for one in comparison.candidates)


def _started(one: CandidateSummary) -> str:
    how = one.launch.partition(",")[0]  # without the image
    return f"{how}; not an engine: emits tokens on a schedule" if one.null else how


def machines_line(comparison: Comparison) -> str:
    """The machine in one line; several machines with their ids."""
    if len(comparison.machines) == 1:
        return machine_line(comparison.machines[0])
    return " · ".join(f"{one.id}: {machine_line(one)}" for one in comparison.machines)


def machine_line(machine: MachineFacts) -> str:
    """CPU model, cores and GPU in one line."""
    parts = [machine.cpu or "CPU not known"]
    if machine.cores:
        parts.append(f"{machine.cores} cores")
    names = machine.gpus
    counted = [f"{names.count(name)} × {name}" if names.count(name) > 1 else name for name in dict.fromkeys(names)]
    return ", ".join([*parts, " + ".join(counted) or "no GPU"])


def rounds_line(comparison: Comparison, pooled: bool = False, ratios: bool = False) -> str:
    """The number of rounds and what an error bar is, or that a chart pools the rounds."""
    counts = sorted({len(cell.rounds) for cell in comparison.cells})
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if pooled:
        return f"requests of {span} round{'s' if counts[-1] > 1 else ''}, pooled"
    if counts[-1] < 2:
        return "1 round, so no error bars"
    points = "geometric means of each round's ratio" if ratios else "means over rounds"
    return f"{span} rounds; points are {points}, error bars their 95 % intervals"

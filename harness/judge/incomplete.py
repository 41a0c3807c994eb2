"""Whether a comparison has all that was asked for."""

from __future__ import annotations

from harness.judge.comparison import Comparison
from harness.judge.words import counted


def incomplete(comparison: Comparison) -> str | None:
    """What is missing, in one line: a candidate that the user named, runs of one that was measured, files that cannot
    be read; None if nothing is. A candidate that nobody named and that could not start is not missed."""
    parts = []
    measured = {one.name for one in comparison.candidates}
    for name in comparison.named:
        if name not in measured:
            parts.append(f"{name} was not measured")
    loads = len({*comparison.asked_loads, *(load.name for load in comparison.loads)})
    for one in comparison.candidates:
        have = sum(len(cell.rounds) for cell in comparison.cells if cell.candidate == one.name)
        whole = loads * (1 if one.once else comparison.rounds)
        if have < whole:
            parts.append(f"{one.title} has {have} of {whole} runs")
    if comparison.unread:
        parts.append(f"{counted(len(comparison.unread), 'file')} could not be read")
    return f"Not complete: {'; '.join(parts)}." if parts else None

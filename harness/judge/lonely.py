"""Whether there is anything to compare with."""

from __future__ import annotations

import textwrap
from collections import Counter

from harness.judge.comparison import Comparison
from harness.judge.words import listed

REASON_LENGTH = 160  # of a skipped candidate's reason here; the report has the full text below


def lonely(comparison: Comparison) -> str | None:
    """Why nothing can be compared, and how to get a second candidate; None if two real candidates were measured from
    one machine at any load."""
    machines = {one.name: one.machine for one in comparison.candidates if one.ranked}
    beside = Counter((machines[cell.candidate], cell.load) for cell in comparison.cells if cell.candidate in machines)
    if any(count > 1 for count in beside.values()):
        return None
    titles = [one.title for one in comparison.candidates if one.ranked]
    if not titles:
        others = listed([one.title for one in comparison.candidates if not one.null])
        why = f"the speed of {others} says nothing" if others else "no engine was measured, only the null server"
    elif len(titles) == 1:
        why = f"only {titles[0]} was measured"
    else:
        why = f"{' and '.join(titles)} were not measured at the same load from the same machine"
    return f"Nothing to compare with: {why}. {_way_out(comparison)}"


def _way_out(comparison: Comparison) -> str:
    missing = {name: why for name, why in comparison.skipped.items() if name not in _measured(comparison)}
    if not missing:
        return "Name a second candidate in the comparison file (engines = [...] or [[candidate]])."
    reasons = (
        f"{name}: {textwrap.shorten(why.rstrip('.'), REASON_LENGTH, placeholder=' ...')}"
        for name, why in missing.items()
    )
    return f"To get a second one, fix this first: {'; '.join(reasons)}."


def _measured(comparison: Comparison) -> set[str]:
    return {one.name for one in comparison.candidates}

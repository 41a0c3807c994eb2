"""Which load each candidate holds within the service level objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.judge.ladder import Ladder, ladders
from harness.judge.said import Said
from harness.judge.words import counted, listed, percent, value_words

if TYPE_CHECKING:
    from harness.judge.cells import Cell
    from harness.judge.comparison import Comparison
    from harness.workload.slo import Slo

SHARE = "goodput_fraction"


def slo_words(comparison: Comparison) -> Said | None:
    """The largest load measured that each candidate held: in every round, at least the SLO's share of the requests
    issued were good. Without an SLO, how to name one."""
    slo = comparison.slo
    if slo is None:
        return Said(
            "No SLO was given, so nothing here says which load is held. Name one in the comparison file: "
            'slo = "llama3.1-8b-server", or slo = {ttft_s = 2.0, tpot_s = 0.1}.'
        )
    real = [one.name for one in comparison.candidates if one.ranked]
    where = f"Within {slo.name + ': ' if slo.name else ''}{slo.words}, for {percent(slo.share)} of the requests issued"
    sentences, best_first, used = [], dict[str, None](), list[str]()
    for ladder in ladders(comparison.loads):
        held = {name: found for name in real if (found := _held(comparison, name, ladder, slo)) is not None}
        if held:
            sentences.append(f"{where}, by {ladder.kind}: {_words(comparison, ladder, held, slo)}.")
            best_first.update(dict.fromkeys(sorted(held, key=lambda name: -held[name])))
            used += [load.name for load in ladder.loads]
    if not sentences:
        return Said(f"{where}: no load has a share of good requests, so nothing says which one is held.")
    return Said(" ".join(sentences), tuple(best_first), tuple(used))


def _held(comparison: Comparison, name: str, ladder: Ladder, slo: Slo) -> int | None:
    """How far up the ladder the candidate holds: the number of its highest load that was held, 0 if none; None if it
    has no valid share anywhere."""
    found = [(i, cell) for i, load in enumerate(ladder.loads, 1) if (cell := _valid(comparison, name, load.name))]
    return max((i for i, cell in found if _met(cell, slo) == len(_shares(cell))), default=0) if found else None


def _valid(comparison: Comparison, name: str, load: str) -> Cell | None:
    cell = comparison.cell(name, load)
    return cell if cell is not None and cell.verdict != "invalid" and _shares(cell) else None


def _shares(cell: Cell) -> list[float]:
    estimate = cell.metrics.get(SHARE)
    return [share for share in estimate.per_round if share is not None] if estimate else []


def _met(cell: Cell, slo: Slo) -> int:
    """In how many rounds."""
    return sum(share >= slo.share for share in _shares(cell))


def _words(comparison: Comparison, ladder: Ladder, held: dict[str, int], slo: Slo) -> str:
    most = max(held.values())
    title = {one.name: one.title for one in comparison.candidates}
    if most == 0:
        return f"no candidate held even {ladder.loads[0].name} ({_nearest(comparison, ladder, held, slo)})"
    best = [name for name, place in held.items() if place == most]
    whole = most == len(ladder.loads)
    verb = "holds" if len(best) == 1 else "hold"
    lead = " most" if len(best) < len(held) else ""
    parts = [
        f"{listed([title[name] for name in best])} {verb}{lead}: {_load_words(comparison, ladder, best, most, slo)}"
    ]
    if whole:
        parts.append("that is the highest load measured, so the limit is not known")
    for name, place in held.items():
        if place != most:
            at = f"holds {ladder.loads[place - 1].name}" if place else f"does not hold even {ladder.loads[0].name}"
            next_load = _above(comparison, ladder, name, place, slo)
            parts.append(f"{title[name]} {at}" + (f" ({next_load})" if next_load else ""))
    return "; ".join(parts)


def _load_words(comparison: Comparison, ladder: Ladder, names: Sequence[str], place: int, slo: Slo) -> str:
    load = ladder.loads[place - 1]
    cells = [cell for name in names if (cell := comparison.cell(name, load.name))]
    shares = [share for cell in cells for share in _shares(cell)]
    said = [f"{value_words(min(shares), 'fraction')} good or more in each round"]
    if len(names) == 1 and (next_load := _above(comparison, ladder, names[0], place, slo)):
        said.append(next_load)
    return f"{load.name} ({'; '.join(said)})"


def _above(comparison: Comparison, ladder: Ladder, name: str, place: int, slo: Slo) -> str:
    """What happened at the next higher load."""
    cell = _valid(comparison, name, ladder.loads[place].name) if place < len(ladder.loads) else None
    if cell is None:
        return ""
    shares = _shares(cell)
    met = _met(cell, slo)
    some = f", met in {met} of {counted(len(shares), 'round')}" if met else ""
    return f"{value_words(min(shares), 'fraction')} good in the worst round at {cell.load}{some}"


def _nearest(comparison: Comparison, ladder: Ladder, held: dict[str, int], slo: Slo) -> str:
    title = {one.name: one.title for one in comparison.candidates}
    return listed([f"{title[name]}: {_above(comparison, ladder, name, 0, slo)}" for name in held])

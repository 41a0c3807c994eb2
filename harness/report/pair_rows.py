"""Every two candidates as rows of text."""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge.comparison import Comparison, Pair
from harness.judge.questions import QUESTIONS, Question
from harness.report.rows import MARKS, ratio_text


@dataclass(frozen=True, slots=True)
class PairRow:
    """All questions about two candidates at one load, in the order of the table's questions."""

    load: str
    candidate: str
    against: str
    pairs: tuple[Pair, ...]


def asked(comparison: Comparison) -> list[Question]:
    """The questions that any pair has a ratio for."""
    keys = {pair.question for pair in comparison.pairs if pair.ratio is not None or pair.verdict == "invalid"}
    return [question for question in QUESTIONS if question.key in keys]


def pair_rows(comparison: Comparison, candidate: str, against: str) -> list[PairRow]:
    """One row per load at which both were measured, seen from the first."""
    titles = {one.name: one.title for one in comparison.candidates}
    found = []
    for load in comparison.loads:
        mine = [comparison.pair(candidate, against, load.name, question.key) for question in asked(comparison)]
        if known := tuple(pair for pair in mine if pair is not None):
            found.append(PairRow(load.name, titles[candidate], titles[against], known))
    return found


def references(comparison: Comparison) -> list[tuple[str, list[PairRow]]]:
    """Every candidate that others were compared with, the comparison's reference first, and the rows of all others
    against it, load by load."""
    found = []
    for one in comparison.candidates:
        others = [other.name for other in comparison.candidates if other.name != one.name]
        mine = [row for other in others for row in pair_rows(comparison, other, one.name)]
        order = {load.name: i for i, load in enumerate(comparison.loads)}
        if mine:
            found.append((one.name, sorted(mine, key=lambda row: order[row.load])))
    return found


def compared(comparison: Comparison) -> list[tuple[str, str]]:
    """Every two candidates that were compared, in report order: (candidate, against), the reference first."""
    return list(dict.fromkeys((pair.candidate, pair.against) for pair in comparison.pairs))


def pair_text(pair: Pair) -> str:
    """`1.50 [1.19, 1.90] ▼`; without a ratio the verdict and why."""
    if pair.ratio is None:
        return f"{pair.verdict}: {pair.reason}" if pair.reason else pair.verdict
    return f"{ratio_text(pair)} {MARKS[pair.verdict]}"

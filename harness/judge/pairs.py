"""Every pair of candidates at every load: for each question a ratio, its interval and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from harness.judge.cells import Cell
from harness.judge.questions import QUESTIONS
from harness.judge.stats import paired_ratio, separation
from harness.records.metrics import BY_KEY

MARGIN = 0.03  # a smaller difference is never called one
PairVerdict = Literal["faster", "slower", "equal", "not known", "invalid"]
_TURNED: Mapping[PairVerdict, PairVerdict] = {"faster": "slower", "slower": "faster"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One question about two candidates at one load.

    `ratio` is candidate / against with its 95 % interval. The verdict is about the candidate: faster or slower than the
    other (also for rates: more is faster), equal within the margin, not known (`more_rounds` and `more_s` say what
    would tell, at the spread seen), or invalid (a check of one of the cells is). `p` is adjusted for the number of
    questions in the comparison. If a number is None, `reason` says why."""

    candidate: str
    against: str
    load: str
    question: str  # key of the metric
    ratio: float | None
    low: float | None
    high: float | None
    rounds: int
    verdict: PairVerdict
    p: float | None = None
    margin: float = MARGIN
    more_rounds: int | None = None
    more_s: float | None = None
    reason: str | None = None

    def turned(self) -> Pair:
        """The same answer, seen from the other candidate."""
        return replace(
            self,
            candidate=self.against,
            against=self.candidate,
            ratio=None if self.ratio is None else 1 / self.ratio,
            low=None if self.high is None else 1 / self.high,
            high=None if self.low is None else 1 / self.low,
            verdict=_TURNED.get(self.verdict, self.verdict),
        )


def pairs(cells: Sequence[Cell], machines: Mapping[str, str | None]) -> tuple[Pair, ...]:
    """Every two candidates at every load where both were measured, each pair once. `machines`: candidate -> the machine
    it was measured from, without null engines; pairs are within one machine."""
    found = []
    for load in dict.fromkeys(cell.load for cell in cells):
        here = [cell for cell in cells if cell.load == load and cell.candidate in machines]
        for one, other in combinations(here, 2):
            if machines[one.candidate] == machines[other.candidate]:
                found += [_pair(other, one, question.key) for question in QUESTIONS if question.key in one.metrics]
    return tuple(found)


def _pair(cell: Cell, base: Cell, metric: str) -> Pair:
    invalid = [one for one in (cell, base) if one.verdict == "invalid"]
    rounds = sorted(set(cell.rounds) & set(base.rounds))
    found = paired_ratio(*([_of_round(one, metric, r) for r in rounds] for one in (cell, base)))
    separated = separation(found, bool(BY_KEY[metric].larger_is_better))
    verdict: PairVerdict = {"better": "faster", "worse": "slower"}.get(separated, "not known")  # type: ignore[assignment]
    reason = None
    if invalid:
        codes = sorted({check.code for one in invalid for check in one.checks if check.verdict == "invalid"})
        reason = f"{' and '.join(one.candidate for one in invalid)}: {', '.join(codes)}"
        return Pair(
            candidate=cell.candidate, against=base.candidate, load=cell.load, question=metric,
            ratio=None, low=None, high=None, rounds=0, verdict="invalid", reason=reason,
        )  # fmt: skip
    if found.low is None:
        reason = f"{found.rounds} of the rounds in common have a value; 2 are needed"
    return Pair(
        candidate=cell.candidate, against=base.candidate, load=cell.load, question=metric,
        ratio=found.ratio, low=found.low, high=found.high, rounds=found.rounds, verdict=verdict, reason=reason,
    )  # fmt: skip


def _of_round(cell: Cell, metric: str, round_index: int) -> float | None:
    return cell.metrics[metric].per_round[cell.rounds.index(round_index)]

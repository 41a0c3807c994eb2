"""Every pair of candidates at every load: for each question a ratio, its interval and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from harness.judge.cells import Cell
from harness.judge.checks.evidence import AGAINST
from harness.judge.checks.lengths import LENGTHS_APART
from harness.judge.differences import Difference, NoDifference, difference
from harness.judge.margins import MARGIN, margin_of
from harness.judge.measured import CellKey, Measured
from harness.judge.moderated import Decided, Moderated, decide
from harness.judge.more import more_rounds
from harness.judge.questions import QUESTIONS
from harness.judge.stats import exp
from harness.records.calibration import Floor
from harness.records.metrics import BY_KEY

PairVerdict = Literal["faster", "slower", "equal", "not known", "invalid"]
OF_WHOLE_ANSWERS = ("e2e_p50", "goodput")  # questions whose answer depends on how long answers are
OF_ALL_TOKENS = ("output_throughput",)  # and on how much of the time is prefill
OTHER_LENGTHS = "answers ended by themselves at other lengths"
SAME_ANSWERS = 0.05  # of the longer mean: as far as answers that end by themselves may differ for those questions
_TURNED: Mapping[PairVerdict, PairVerdict] = {"faster": "slower", "slower": "faster"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One question about two candidates at one load.

    `ratio` is candidate / against with its 95 % interval. The verdict is about the candidate: faster or slower than the
    other (also for rates: more is faster), equal within the margin, not known (`more_rounds` and `more_s` say what
    would tell, at the spread seen), or invalid (a check of one of the cells is). `p` is that of a difference, `p_equal`
    that of equality within `margin` (0.03: 3 %); both are adjusted for the number of questions in the comparison. If a
    number is None, `reason` says why.

    `starts`: independent starts of the engines behind it. With 1 (a server that already ran), the interval does not
    hold how much another start would differ."""

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
    p_equal: float | None = None
    margin: float = MARGIN
    more_rounds: int | None = None
    more_s: float | None = None
    starts: int = 0
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


def pairs(
    cells: Sequence[Cell],
    machines: Mapping[str, str | None],
    numbers: Mapping[CellKey, Measured],
    floors: Mapping[str, Floor] | None = None,
    round_s: float | None = None,
) -> tuple[Pair, ...]:
    """Every two candidates at every load where both were measured, each pair once.

    `machines`: candidate -> the machine it was measured from, without null engines; pairs are within one machine.
    `numbers`: of each cell (a question that no cell has a value for is not asked); `floors`: the client's own floor by
    load; `round_s`: seconds that one more round takes.
    Variances are moderated, and p-values adjusted, over all that is returned."""
    answerable = [q.key for q in QUESTIONS if any(v is not None for m in numbers.values() for v in m.per_round[q.key])]
    asked = [
        _asked(other, one, metric, numbers, (floors or {}).get(load))
        for load in dict.fromkeys(cell.load for cell in cells)
        for one, other in combinations([c for c in cells if c.load == load and c.candidate in machines], 2)
        if machines[one.candidate] == machines[other.candidate]
        for metric in answerable
    ]
    several = [i for i, (_, found) in enumerate(asked) if found is not None and found.rounds > 1]
    judged = _judged([asked[i] for i in several]) if several else []
    answered = dict(zip(several, judged, strict=True))
    return tuple(_in_time(answered.get(i, pair), round_s) for i, (pair, _) in enumerate(asked))


def _asked(
    cell: Cell, base: Cell, metric: str, numbers: Mapping[CellKey, Measured], floor: Floor | None
) -> tuple[Pair, Difference | None]:
    """The pair without a verdict, and the difference to judge; None if there is nothing to judge."""
    pair = Pair(
        candidate=cell.candidate, against=base.candidate, load=cell.load, question=metric,
        ratio=None, low=None, high=None, rounds=0, verdict="not known", starts=min(cell.starts, base.starts),
    )  # fmt: skip
    invalid = [one for one in (cell, base) if one.verdict == "invalid"]
    if invalid:
        codes = sorted({check.code for one in invalid for check in one.checks if check.verdict == "invalid"})
        reason = f"{' and '.join(one.candidate for one in invalid)}: {', '.join(codes)}"
        return replace(pair, verdict="invalid", reason=reason), None
    if metric in OF_WHOLE_ANSWERS and (apart := [one.candidate for one in (cell, base) if _other_lengths(one)]):
        return replace(pair, reason=f"{' and '.join(apart)}: answers are not as long as asked for"), None
    if why := _other_work(cell, base, metric):
        return replace(pair, reason=why), None
    found = difference(_named(cell, numbers), _named(base, numbers), metric)
    if isinstance(found, NoDifference):
        return replace(pair, reason=found.reason, more_rounds=found.more_rounds), None
    margin = margin_of(metric, [cell.metrics, base.metrics], floor)
    pair = replace(pair, ratio=exp(found.mean), rounds=found.rounds, margin=margin)
    if found.rounds < 2:
        reason = "one round in common has a value, and an interval needs 2"
        return replace(pair, reason=reason), found
    return pair, found


def _other_lengths(cell: Cell) -> bool:
    checks = [check for check in cell.checks if check.code == "LENGTH_PARITY" and check.verdict in AGAINST]
    return any(check.numbers.get("ends") != "natural" for check in checks)  # those are held against each other


def _other_work(cell: Cell, base: Cell, metric: str) -> str:
    """Why answers that ended by themselves are too different in length for this question; empty if they are not."""
    most = SAME_ANSWERS if metric in OF_WHOLE_ANSWERS else LENGTHS_APART if metric in OF_ALL_TOKENS else 1.0
    means = [_natural_mean(one) for one in (cell, base)]
    if None in means or most == 1.0:
        return ""
    mine, theirs = (mean or 0.0 for mean in means)
    if abs(mine - theirs) <= most * max(mine, theirs):
        return ""
    return f"{OTHER_LENGTHS}: {mine:.4g} and {theirs:.4g} tokens on average"


def _natural_mean(cell: Cell) -> float | None:
    """Tokens of an answer where answers end by themselves, on average; None elsewhere."""
    numbers = next((check.numbers for check in cell.checks if check.code == "LENGTH_PARITY"), {})
    if numbers.get("ends") != "natural":
        return None
    mean = numbers.get("mean_output_tokens", {}).get(cell.candidate)
    return None if mean is None else float(mean)


def _named(cell: Cell, numbers: Mapping[CellKey, Measured]) -> tuple[str, Measured]:
    return cell.candidate, numbers[cell.candidate, cell.load]


def _judged(asked: Sequence[tuple[Pair, Difference | None]]) -> list[Pair]:
    """The pairs with intervals and verdicts; each has a difference over 2 rounds or more."""
    differences = [found for _, found in asked if found is not None]
    order = {question.key: i for i, question in enumerate(QUESTIONS)}
    means = np.array([found.mean for found in differences])
    rounds = np.array([found.rounds for found in differences])
    margins = np.log1p([pair.margin for pair, _ in asked])
    groups = [order[pair.question] for pair, _ in asked]
    decided = decide(means, [found.variance for found in differences], rounds, margins, groups)
    return [_with_verdict(pair, float(means[i]), float(margins[i]), decided, i) for i, (pair, _) in enumerate(asked)]


def _with_verdict(pair: Pair, mean: float, margin: float, decided: Decided, i: int) -> Pair:
    """The pair with the interval and the verdict of entry i; `mean` and `margin` are logs."""
    half = float(decided.half[i])
    made = replace(
        pair,
        low=exp(mean - half),
        high=exp(mean + half),
        p=float(decided.p[i]),
        p_equal=float(decided.p_equal[i]),
    )
    if decided.differs[i]:
        better = (mean > 0) == bool(BY_KEY[pair.question].larger_is_better)
        return replace(made, verdict="faster" if better else "slower")
    if decided.equal[i]:
        return replace(made, verdict="equal")
    spread = Moderated(decided.spread.variance[i], decided.spread.df[i])
    # What the adjustment makes of a p is taken to stay when rounds are added.
    lift = float((decided.lift if abs(mean) > margin else decided.lift_equal)[i])
    return _with_more(made, more_rounds(mean, margin, spread, pair.rounds, lift))


def _with_more(pair: Pair, more: int | None) -> Pair:
    if more is None:
        return replace(pair, reason="more rounds would not tell: at the spread seen it would take hundreds")
    return replace(pair, more_rounds=more)


def _in_time(pair: Pair, round_s: float | None) -> Pair:
    if pair.more_rounds is None or round_s is None:
        return pair
    return replace(pair, more_s=pair.more_rounds * round_s)

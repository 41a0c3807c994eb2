"""The order of the candidates at one load, as far as the verdicts of their pairs carry it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from harness.judge.cells import Cell
from harness.judge.pairs import Pair
from harness.judge.questions import BY_KEY as QUESTIONS
from harness.judge.words import interval_words, listed, percent, value_words
from harness.records.metrics import BY_KEY

if TYPE_CHECKING:  # that module builds the answers at its end
    from harness.judge.comparison import Comparison

MOST_NAMED = 4  # candidates of a group of which every two are named


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates of one machine at one load for one question.

    `groups`: best first; every candidate of a group is faster than every one of the groups after it, and within a group
    that is not so. `pairs` are seen from their first candidate: (candidate, against) -> pair. `invalid`: measured, but
    not ranked."""

    load: str
    question: str
    groups: tuple[tuple[str, ...], ...]
    pairs: dict[tuple[str, str], Pair]
    cells: dict[str, Cell]
    titles: dict[str, str]
    invalid: tuple[str, ...] = ()

    @property
    def candidates(self) -> tuple[str, ...]:
        """All that are ranked, the best first."""
        return tuple(name for group in self.groups for name in group)

    @property
    def alone(self) -> bool:
        """Whether there is nobody to compare with."""
        return len(self.candidates) < 2

    @property
    def first(self) -> tuple[str, ...]:
        """Who leads: one candidate, or several that are all equal within the margin; empty if that is not known."""
        group = self.groups[0] if self.groups and not self.alone else ()
        return group if all(self.pairs[two].verdict == "equal" for two in combinations(group, 2)) else ()

    def top_words(self) -> str:
        """The best value, and the ratio of the best candidate to each other one: `TPOT 7.26 ms, 0.67 [0.55, 0.81] of
        B's`. A pair that is not told apart says so, unless `tie_words` says it of all of them."""
        best, *others = self.candidates
        metric = BY_KEY[self.question]
        value = value_words(self.cells[best].metrics[self.question].mean, metric.unit)
        if not (len(self.first) == 1 or self.alone):
            value += f" ({self.titles[best]})"  # the sentence names several
        said = []
        for other in others:
            pair = self.pairs[best, other]
            if pair.ratio is not None:
                times = "times" if metric.larger_is_better else "of"
                ratio = interval_words(pair.ratio, pair.low, pair.high)
                beside = "" if self._one_tie else verdict_words(pair)
                said.append(f"{ratio} {times} {self.titles[other]}'s{beside}")
        return ", ".join([f"{QUESTIONS[self.question].title} {value}", *([listed(said)] if said else [])])

    @property
    def _one_tie(self) -> bool:
        """Whether all candidates are tied in the same way."""
        return len(self.groups) == 1 and len({pair.verdict for pair in self.pairs.values()}) == 1

    def tie_words(self) -> str:
        """How the candidates of the first group stand to each other: `A and B are equal within 3 %`."""
        return group_words(self.groups[0], self.pairs, self.titles)


def rankings(comparison: Comparison, load: str, question: str) -> list[Ranking]:
    """One ranking per machine, since candidates of different machines are never ranked; without candidates that
    are not ranked or have no value there."""
    machines = dict.fromkeys(one.machine for one in comparison.candidates if one.ranked)
    found = (_ranking(comparison, load, question, machine) for machine in machines)
    return [ranking for ranking in found if ranking.groups or ranking.invalid]


def _ranking(comparison: Comparison, load: str, question: str, machine: str | None) -> Ranking:
    here = {}
    for one in comparison.candidates:
        cell = comparison.cell(one.name, load)
        if one.ranked and one.machine == machine and cell is not None and _has(cell, question):
            here[one.name] = cell
    valid = [name for name, cell in here.items() if cell.verdict != "invalid"]
    asked = (p for p in comparison.pairs if (p.load, p.question) == (load, question))
    pairs = {key: pair for p in asked for key, pair in _both_ways(p) if key[0] in valid and key[1] in valid}
    known = [name for name in valid if all((name, other) in pairs for other in valid if other != name)]
    return Ranking(
        load=load,
        question=question,
        groups=_groups(known, pairs, here, question),
        pairs=pairs,
        cells=here,
        titles={one.name: one.title for one in comparison.candidates},
        invalid=tuple(name for name in here if name not in valid),
    )


def _has(cell: Cell, question: str) -> bool:
    return question in cell.metrics and cell.metrics[question].mean is not None


def _both_ways(pair: Pair) -> list[tuple[tuple[str, str], Pair]]:
    return [((pair.candidate, pair.against), pair), ((pair.against, pair.candidate), pair.turned())]


def _groups(
    names: Sequence[str], pairs: dict[tuple[str, str], Pair], cells: dict[str, Cell], question: str
) -> tuple[tuple[str, ...], ...]:
    """The names in groups, cut wherever everyone before the cut is faster than everyone after it."""
    sign = -1 if BY_KEY[question].larger_is_better else 1

    def place(name: str) -> tuple[int, float]:
        verdicts = [pairs[name, other].verdict for other in names if other != name]
        return verdicts.count("slower") - verdicts.count("faster"), sign * (cells[name].metrics[question].mean or 0.0)

    ordered = sorted(names, key=place)
    groups: list[list[str]] = []
    for i, name in enumerate(ordered):
        apart = all(pairs[before, after].verdict == "faster" for before in ordered[:i] for after in ordered[i:])
        if i == 0 or apart:
            groups.append([])
        groups[-1].append(name)
    return tuple(map(tuple, groups))


def verdict_words(pair: Pair) -> str:
    """What must be said beside a ratio that is no difference; empty for faster and slower."""
    return {"equal": f" (equal within {percent(pair.margin)})", "not known": " (not known apart)"}.get(pair.verdict, "")


def group_words(group: Sequence[str], pairs: dict[tuple[str, str], Pair], titles: dict[str, str]) -> str:
    """`A and B are equal within 3 %`, `A, B and C are not known apart`, or what is true of each two of them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for one, other in combinations(group, 2):
        pair = pairs[one, other]
        words = f"are equal within {percent(pair.margin)}" if pair.verdict == "equal" else "are not known apart"
        found.setdefault("apart" if pair.verdict in ("faster", "slower") else words, []).append((one, other))
    if len(found) == 1 and "apart" not in found:
        return f"{listed([titles[name] for name in group])} {next(iter(found))}"
    if len(group) > MOST_NAMED:  # every two of many would be a page of names
        return f"{listed([titles[name] for name in group])} are not all told apart"
    parts = []
    for words, twos in found.items():
        if words == "apart":
            ordered = [two if pairs[two].verdict == "faster" else two[::-1] for two in twos]
            parts += [f"{titles[one]} is ahead of {titles[other]}" for one, other in ordered]
        else:
            parts.append(f"{', '.join(f'{titles[one]} and {titles[other]}' for one, other in twos)} {words}")
    return ", ".join(parts)

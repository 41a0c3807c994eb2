"""Several comparisons read side by side, never mixed: which verdicts agree, and which turn round.

Each comparison keeps its own intervals and verdicts. Nothing is computed across machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from string import ascii_uppercase
from typing import Literal

from harness.errors import HarnessError, NotComparable
from harness.judge.comparison import Comparison
from harness.judge.pairs import Pair
from harness.judge.questions import QUESTIONS
from harness.records.manifest import MachineFacts

# agree: the same verdict everywhere; turned: faster on one, slower on another; apart: told on one, equal or not known
# on another; open: told on none.
Agreement = Literal["agree", "turned", "apart", "open"]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the comparisons: its letter, its folder, and what was found."""

    letter: str
    folder: Path
    comparison: Comparison

    @property
    def machine(self) -> str:
        """The machine in a few words."""
        return " and ".join(_machine(one) for one in self.comparison.machines)


@dataclass(frozen=True, slots=True)
class Beside:
    """One question about two candidates at one load, on every side; None where it was not asked."""

    load: str
    question: str
    candidate: str
    against: str
    pairs: tuple[Pair | None, ...]
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact with its value on every side."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether two sides have different values."""
        return len(set(self.values)) > 1


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Everything that is shown of several comparisons. `doubts`: what stands between them beside the machine."""

    sides: tuple[Side, ...]
    rows: tuple[Beside, ...]
    facts: tuple[Fact, ...]
    doubts: tuple[str, ...]
    titles: Mapping[str, str]


def side_by_side(folders: Sequence[Path], comparisons: Sequence[Comparison]) -> SideBySide:
    """Two or more comparisons, in the order given. Pure.

    Raises NotComparable if they are not of the same model, or have no two candidates at one load in common."""
    letters = zip(ascii_uppercase, folders, comparisons, strict=False)
    sides = tuple(Side(letter, folder, comparison) for letter, folder, comparison in letters)
    if len(sides) < 2:
        raise HarnessError("name two or more folders to read side by side.")
    _refuse_other_models(sides)
    rows = tuple(_rows(sides))
    if not rows:
        names = " and ".join(str(side.folder) for side in sides)
        raise NotComparable(f"{names} have no two candidates at one load in common; nothing can be read side by side.")
    titles = {one.name: one.title for side in reversed(sides) for one in side.comparison.candidates}
    return SideBySide(sides, rows, tuple(_facts(sides)), tuple(_doubts(sides)), titles)


def _refuse_other_models(sides: Sequence[Side]) -> None:
    first = sides[0]
    for side in sides:
        if not side.comparison.model.get("digest"):
            raise NotComparable(f"{side.folder}: the model's digest is not known, so it cannot be read beside another.")
        if side.comparison.model["digest"] != first.comparison.model["digest"]:
            one, other = (
                f"{s.comparison.model.get('name')} ({s.comparison.model['digest'][:12]})" for s in (first, side)
            )
            raise NotComparable(f"{first.folder} and {side.folder} are of different models: {one} and {other}.")


def _rows(sides: Sequence[Side]) -> list[Beside]:
    """The questions that two sides or more have an answer to, by load, then question."""
    loads = dict.fromkeys(load.name for side in sides for load in side.comparison.loads)
    names = dict.fromkeys(one.name for side in sides for one in side.comparison.candidates)
    found = []
    for load in loads:
        for question in QUESTIONS:
            for against, candidate in combinations(names, 2):
                pairs = tuple(side.comparison.pair(candidate, against, load, question.key) for side in sides)
                if sum(pair is not None and pair.ratio is not None for pair in pairs) > 1:
                    found.append(Beside(load, question.key, candidate, against, pairs, _agreement(pairs)))
    return found


def _agreement(pairs: Sequence[Pair | None]) -> Agreement:
    verdicts = {pair.verdict for pair in pairs if pair is not None}
    if {"faster", "slower"} <= verdicts:
        return "turned"
    if verdicts & {"not known", "invalid"}:
        return "apart" if verdicts & {"faster", "slower", "equal"} else "open"
    return "agree" if len(verdicts) == 1 else "apart"


def _facts(sides: Sequence[Side]) -> list[Fact]:
    def of(name: str, values: Sequence[object]) -> Fact:
        return Fact(name, tuple("not known" if value in (None, "") else str(value) for value in values))

    every = [side.comparison for side in sides]
    found = [
        of("machine", [side.machine for side in sides]),
        of("machine's id", [", ".join(one.id or "not known" for one in c.machines) for c in every]),
        of("system", [", ".join(one.system or "not known" for one in c.machines) for c in every]),
        of("model", [c.model.get("name") for c in every]),
        of("model digest", [str(c.model.get("digest"))[:12] for c in every]),
        of("schedule digest", [c.schedules_digest[:12] for c in every]),
        of("rounds", [c.rounds for c in every]),
        of("started", [c.started_at for c in every]),
        of("harness", [c.harness for c in every]),
    ]
    for name in dict.fromkeys(one.name for c in every for one in c.candidates):
        mine = [next((one for one in c.candidates if one.name == name), None) for c in every]
        title = next(one.title for one in mine if one is not None)
        found.append(of(f"{title}, version", [one.version if one else "not measured" for one in mine]))
        found.append(
            of(f"{title}, precision", [_precision(one.weight_dtype, one.kv_dtype) if one else "" for one in mine])
        )
    return found


def _precision(weights: str | None, kv: str | None) -> str:
    return f"weights {weights or 'not known'}, KV cache {kv or 'not known'}"


def _doubts(sides: Sequence[Side]) -> list[str]:
    """What beside the machine could turn a verdict round."""
    found = []
    every = [side.comparison for side in sides]
    if len({c.schedules_digest for c in every}) > 1:
        found.append(
            "The schedules are not the same (their digests differ): other lengths, seeds or loads could explain a "
            "difference as well as the machine."
        )
    for fact in _facts(sides):
        if fact.differs and fact.name.endswith((", version", ", precision")) and "not measured" not in fact.values:
            values = "; ".join(f"{side.letter} {value}" for side, value in zip(sides, fact.values, strict=True))
            found.append(f"{fact.name} differs: {values}.")
    found += [f"{side.letter} was interrupted: results so far." for side in sides if not side.comparison.finished]
    return found


def _machine(one: MachineFacts) -> str:
    parts = [one.cpu or "CPU not known", *([f"{one.cores} cores"] if one.cores else []), *dict.fromkeys(one.gpus)]
    return ", ".join(parts)

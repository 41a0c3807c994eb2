"""A candidate measured against itself (an A/A test): every difference that is called is a false one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.judge.pairs import Pair
from harness.judge.questions import QUESTIONS
from harness.records.run import RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """How far a candidate seems to differ from itself in one question on this machine, over all loads. Each is a
    factor above 1 minus 1: 0.04 is 4 %. `half_width`: of the ratio's interval; `difference`: of the ratio from 1."""

    question: str  # key of the metric
    pairs: int
    half_width: float  # the median
    largest_half_width: float
    difference: float  # the median
    largest_difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AATest:
    """Candidates that are the same thing. `questions`: pairs with an interval; `false_verdicts`: those of them that
    were called faster or slower; `equal`: those called equal."""

    candidates: tuple[str, ...]
    questions: int
    false_verdicts: int
    equal: int
    noise: tuple[NoiseFloor, ...]


def aa_tests(runs_of: Mapping[str, Sequence[RunResult]], pairs: Sequence[Pair]) -> tuple[AATest, ...]:
    """One A/A test for each group of candidates with the same engine and the same table in the comparison file (but for
    the name), measured from one machine."""
    alike: dict[tuple[str, str, str | None], list[str]] = {}
    for name, runs in runs_of.items():
        facts, machine = runs[0].manifest.candidate, runs[0].manifest.machine.id
        given = repr(sorted((key, repr(value)) for key, value in facts.given.items()))
        if not facts.null:
            alike.setdefault((facts.engine, given, machine), []).append(name)
    return tuple(_test(names, pairs) for names in alike.values() if len(names) > 1)


def _test(names: Sequence[str], pairs: Sequence[Pair]) -> AATest:
    same = {frozenset(two) for two in combinations(names, 2)}
    mine = [pair for pair in pairs if frozenset((pair.candidate, pair.against)) in same and pair.low is not None]
    return AATest(
        candidates=tuple(names),
        questions=len(mine),
        false_verdicts=sum(pair.verdict in ("faster", "slower") for pair in mine),
        equal=sum(pair.verdict == "equal" for pair in mine),
        noise=tuple(
            _noise(question.key, found)
            for question in QUESTIONS
            if (found := [pair for pair in mine if pair.question == question.key])
        ),
    )


def _noise(question: str, pairs: Sequence[Pair]) -> NoiseFloor:
    halves, differences = [], []
    for pair in pairs:
        assert pair.ratio and pair.low and pair.high
        halves.append(math.log(pair.high / pair.low) / 2)
        differences.append(abs(math.log(pair.ratio)))
    return NoiseFloor(
        question=question,
        pairs=len(pairs),
        half_width=math.expm1(float(np.median(halves))),
        largest_half_width=math.expm1(max(halves)),
        difference=math.expm1(float(np.median(differences))),
        largest_difference=math.expm1(max(differences)),
    )

"""Planted faults in answers: garbage against one late flip."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.records.manifest import ProbeFacts
from harness.records.run import RunResult
from harness.workload.kept import KEPT
from tests.invented import ALPHA, BETA, Invented
from tests.judge.planting import C8, ROUNDS, Make, Planted
from tests.judge.serving import serve, write_rounds

Ids = tuple[int, ...]
Steps = tuple[tuple[tuple[int, float], ...], ...]


def text(key: object, tokens: int = 48, low: int = 0) -> Ids:
    """Ids that depend on the key alone."""
    return tuple(random.Random(str(key)).choices(range(low, low + 1000), k=tokens))


def parted(ids: Ids, at: int, to: int = 5000) -> Ids:
    """Another token at one place, and another text after it."""
    return (*ids[:at], to, *text((at, to), len(ids) - at - 1, 1000))


def sure(ids: Ids, nats: float, second: Sequence[int] | int = 5000) -> Steps:
    """The likelier token of each step and the next one, so many nats behind."""
    seconds = [second] * len(ids) if isinstance(second, int) else second
    return tuple(((a, -0.1), (b, -0.1 - nats)) for a, b in zip(ids, seconds, strict=True))


PROBE = text("probe")


def candidate(folder: Path, engine: Invented, probe: ProbeFacts, wrong: str = "") -> list[RunResult]:
    """All rounds of one at c8 with this answer to the probe. `wrong`: how its answers under load are."""
    rounds = []
    for r in range(1, ROUNDS + 1):
        kept = [text((r, i)) for i in range(KEPT)]
        kept = [text((r, i), low=3000) for i in range(KEPT)] if wrong == "garbage" else kept
        kept = [(ids[0],) * len(ids) for ids in kept] if wrong == "constant" else kept
        kept = [parted(ids, 20) for ids in kept] if wrong == "late" else kept
        rows = serve(C8, r)
        rounds.append([replace(row, output_ids=kept[i]) if i < KEPT else row for i, row in enumerate(rows)])
    return write_rounds(folder, C8, rounds, engine, probe=probe)


def beside(probe: ProbeFacts, wrong: str = "") -> Make:
    """BETA with these answers beside ALPHA, whose answers are right."""

    def make(folder: Path) -> list[RunResult]:
        right = ProbeFacts(answer_ids=PROBE, answer_likely=sure(PROBE, 0.1))
        return [*candidate(folder, ALPHA, right), *candidate(folder, BETA, probe, wrong)]

    return make


def said(ids: Ids, nats: float | None = None) -> ProbeFacts:
    return ProbeFacts(answer_ids=ids, answer_likely=() if nats is None else sure(ids, nats, PROBE))


GARBAGE, LATE = text("garbage", low=3000), parted(PROBE, 5)
ANSWERS: tuple[Planted, ...] = (
    Planted(
        "ANSWERS",
        "garbage",
        "invalid",
        beside(said(GARBAGE, 6.0), "garbage"),
        "a flip after 5 tokens, both about as likely",
        beside(said(LATE, 0.1), "late"),
        name="beta",
        silent="note",
    ),
    Planted(
        "ANSWERS",
        "garbage under load, a right answer to the probe",
        "invalid",
        beside(said(PROBE), "garbage"),
        "answers under load that part after 20 tokens",
        beside(said(PROBE), "late"),
        name="beta",
    ),
    Planted(
        "ANSWERS",
        "one token again and again under load",
        "invalid",
        beside(said(PROBE), "constant"),
        "the same answers",
        beside(said(PROBE)),
        name="beta",
    ),
    Planted(
        "ANSWERS",
        "a flip after 5 tokens at which the engine was sure",
        "doubt",
        beside(said(LATE, 3.0)),
        "one whose probabilities are not known",
        beside(said(LATE)),
        name="beta",
        silent="note",
    ),
)

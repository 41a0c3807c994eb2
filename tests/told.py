"""Comparisons with verdicts made up for a test, without runs: what answers and reports say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from harness.judge.candidates import CandidateSummary
from harness.judge.cells import Cell
from harness.judge.checks.evidence import Check, Verdict
from harness.judge.comparison import Comparison
from harness.judge.loads import LoadSummary
from harness.judge.pairs import Pair, PairVerdict
from harness.judge.questions import QUESTIONS
from harness.judge.stats import Estimate
from harness.records.manifest import MachineFacts
from harness.records.metrics import BY_KEY, METRICS
from harness.workload.loads import Load
from tests.loads import load

NAMES = {"alpha": "Alpha", "beta": "Beta", "gamma": "Gamma"}
COLORS = ("#1f6feb", "#d4582a", "#2da44e")
C1, C4, C16, OFFLINE = load(4, 1), load(8, 4), load(16, 16), load(6)
Values = Mapping[str, float]
Verdicts = Mapping[tuple[str, str, str, str], PairVerdict]  # (candidate, against, load, question)


def values(speed: float = 1.0, **others: float) -> dict[str, float]:
    """Throughput 100, TTFT 100 ms, TPOT 10 ms, E2E 500 ms of a candidate of speed 1."""
    made = {"output_throughput": 100 * speed, "ttft_p50": 0.1 / speed, "tpot_p50": 0.01 / speed, "e2e_p50": 0.5 / speed}
    return made | others


def told(
    measured: Mapping[str, Mapping[Load, Values]],
    verdicts: Verdicts | None = None,
    against: Mapping[tuple[str, str], Sequence[tuple[str, Verdict]]] | None = None,
    **changes: Any,
) -> Comparison:
    """A comparison of these values by candidate and load. A pair is faster or slower by its values, and equal where
    they are, unless `verdicts` says otherwise; its interval reaches from ratio / 1.1 to ratio x 1.1. `against`: codes
    and verdicts of checks at (candidate, load)."""
    names = list(measured)
    loads = list(dict.fromkeys(one for by_load in measured.values() for one in by_load))
    cells = [
        _cell(name, one, measured[name][one], (against or {}).get((name, one.name), ()))
        for one in loads
        for name in names
        if one in measured[name]
    ]
    null = changes.pop("null", ())
    made = Comparison(
        harness="0.1.0",
        name="invented",
        started_at="2026-09-01T00:00:00Z",
        finished=True,
        reference=names[0],
        rounds=3,
        schedules_digest="5c" * 32,
        model={"name": "tiny-llama", "digest": "m" * 64},
        machines=(MachineFacts(id="box-1", cpu="Invented CPU 3000", cores=8),),
        candidates=tuple(
            _candidate(name, color, names[0], name in null) for name, color in zip(names, COLORS, strict=False)
        ),
        loads=tuple(_load(one) for one in loads),
        cells=tuple(cells),
        pairs=tuple(_pairs([cell for cell in cells if cell.candidate not in null], verdicts or {})),
        skipped={},
        formulas={metric.key: metric.formula for metric in METRICS},
        percentile_method="linear",
    )
    return replace(made, **changes)


def _candidate(name: str, color: str, reference: str, null: bool) -> CandidateSummary:
    return CandidateSummary(
        name=name,
        engine=name,
        title=NAMES.get(name, name),
        color=color,
        version="1.2.3",
        launch="process",
        null=null,
        machine="box-1",
        reference=None if null else reference,
        gpus=0,
        cold_start_s={"start": 2.0, "ready": 3.0},
        settings={},
        unverified=(),
        unknown={},
        declared={},
        launch_line=(),
        env={},
        weight_dtype="bfloat16",
        kv_dtype="bfloat16",
        answers=None,
    )


def _load(one: Load) -> LoadSummary:
    return LoadSummary(
        name=one.name,
        description=one.words(one.count()),
        load=one,
        in_flight=one.most_in_flight(),
        requests=one.count(),
        input_tokens=16,
        output_tokens=5,
        rate=getattr(one, "rate", None),
    )


def estimate_of(value: float | None, rounds: Sequence[float | None] = ()) -> Estimate:
    """An interval from value / 1.1 to value x 1.1 over three rounds of this value."""
    if value is None:
        return Estimate(mean=None, low=None, high=None, per_round=(None,) * 3)
    return Estimate(mean=value, low=value / 1.1, high=value * 1.1, per_round=tuple(rounds) or (value,) * 3)


def _cell(name: str, one: Load, numbers: Values, against: Sequence[tuple[str, Verdict]]) -> Cell:
    verdicts = [verdict for _, verdict in against]
    return Cell(
        candidate=name,
        load=one.name,
        rounds=(1, 2, 3),
        metrics={key: estimate_of(numbers.get(key)) for key in BY_KEY},
        checks=tuple(Check(code, verdict, {}, f"{code} found something", "look") for code, verdict in against),
        verdict="invalid" if "invalid" in verdicts else "doubt" if verdicts else "ok",
        requests_ok=30,
        requests_failed=0,
        schedule_digests=("a", "b", "c"),
        output_tokens_per_request=(5,),
    )


def _pairs(cells: Sequence[Cell], verdicts: Verdicts) -> list[Pair]:
    found = []
    for one in dict.fromkeys(cell.load for cell in cells):
        for base, cell in combinations([cell for cell in cells if cell.load == one], 2):
            found += [_pair(cell, base, question.key, verdicts) for question in QUESTIONS]
    return found


def _pair(cell: Cell, base: Cell, question: str, verdicts: Verdicts) -> Pair:
    mine, theirs = cell.metrics[question].mean, base.metrics[question].mean
    ratio = mine / theirs if mine and theirs else None
    verdict: PairVerdict = "not known"
    if ratio is not None:
        better = (ratio > 1) == bool(BY_KEY[question].larger_is_better)
        verdict = "equal" if ratio == 1 else "faster" if better else "slower"
    if "invalid" in (cell.verdict, base.verdict):
        verdict, ratio = "invalid", None
    made = Pair(
        candidate=cell.candidate,
        against=base.candidate,
        load=cell.load,
        question=question,
        ratio=ratio,
        low=ratio and ratio / 1.1,
        high=ratio and ratio * 1.1,
        rounds=3,
        verdict=verdict,
    )
    asked = verdicts.get((cell.candidate, base.candidate, cell.load, question))
    turned = verdicts.get((base.candidate, cell.candidate, cell.load, question))
    if turned is not None:
        return replace(made.turned(), verdict=turned)
    return made if asked is None else replace(made, verdict=asked)

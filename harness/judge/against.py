"""A comparison held against an earlier one of the same file and machine: what changed between the two versions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from harness.judge.candidates import CandidateSummary
from harness.judge.cells import Cell
from harness.judge.comparison import Comparison
from harness.judge.margins import MARGIN, margin_of
from harness.judge.moderated import ALPHA, Moderated, adjusted, half_widths, moderate, p_different
from harness.judge.more import MOST_ROUNDS
from harness.judge.questions import QUESTIONS
from harness.judge.stats import exp
from harness.judge.unpaired import Unpaired, needed_rounds, unpaired
from harness.judge.versions import asked_in, refuse_other_question, same_machine
from harness.records.calibration import Floor
from harness.records.metrics import BY_KEY

ChangeVerdict = Literal["pass", "regression", "not known"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One question about one candidate at one load. `ratio` is now / then with its 95 % interval, the two measured at
    different times. pass: the interval excludes that it is worse by more than `margin`; regression: it is worse by more
    than that, and `p`, of no change at all, is below 0.05, adjusted for the number of questions. `rounds_needed`: in
    each of the two, at the spread seen. If a number is None, `reason` says why."""

    candidate: str
    load: str
    question: str  # key of the metric
    now: float | None
    then: float | None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    rounds_now: int = 0
    rounds_then: int = 0
    verdict: ChangeVerdict = "not known"
    p: float | None = None
    margin: float = MARGIN
    rounds_needed: int | None = None
    reason: str | None = None
    doubts: tuple[str, ...] = ()  # codes of checks that doubt one of the two cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A candidate now and then. `differences`: what else than speed differs, one line each."""

    candidate: str
    title: str
    now: str
    then: str
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """Everything that `against.json` and `against.md` hold. `judged`: false if the machines differ, which
    `--allow machine` shows and nobody can judge; `left_out`: what only one of the two has, one line each."""

    schema: int = 1
    name: str
    where_now: str
    where_then: str
    started_now: str
    started_then: str
    harness_now: str
    harness_then: str
    machine_now: Mapping[str, object]
    machine_then: Mapping[str, object]
    judged: bool
    verdict: ChangeVerdict
    versions: tuple[Version, ...]
    changes: tuple[Change, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A comparison with the name of its folder."""

    comparison: Comparison
    where: str


def against(now: Held, then: Held, allow_machine: bool = False) -> Against:
    """Holds one comparison against an earlier one. Pure. Raises NotComparable if they did not ask the same of the same
    model from the same machine."""
    asked, before = asked_in(now.comparison, now.where), asked_in(then.comparison, then.where)
    refuse_other_question(asked, before, allow_machine)
    names = [
        one.name for one in now.comparison.candidates if one.name in asked.machines and one.name in before.machines
    ]
    judged = all(same_machine(asked.machines[name], before.machines[name]) for name in names)
    changes = _changes(now, then, names, judged)
    return Against(
        name=now.comparison.name,
        where_now=now.where,
        where_then=then.where,
        started_now=now.comparison.started_at,
        started_then=then.comparison.started_at,
        harness_now=now.comparison.harness,
        harness_then=then.comparison.harness,
        machine_now=asdict(asked.machines[names[0]]),
        machine_then=asdict(before.machines[names[0]]),
        judged=judged,
        verdict=_overall(changes, judged),
        versions=tuple(_version(now.comparison.candidate(n), then.comparison.candidate(n)) for n in names),
        changes=changes,
        left_out=_left_out(now.comparison, then.comparison),
    )


def _changes(now: Held, then: Held, names: Sequence[str], judged: bool) -> tuple[Change, ...]:
    """Every question about every candidate at every load that both have; with verdicts if `judged`."""
    asked = [
        _asked(now, then, cells, question.key)
        for load in now.comparison.loads
        for name in names
        if (cells := _cells(now, then, name, load.name)) is not None
        for question in QUESTIONS
        if any(_has_value(cell, question.key) for cell in cells)
    ]
    told = [i for i, (_, found) in enumerate(asked) if found is not None]
    nulls = {one.name for one in now.comparison.candidates if one.null}
    made = _with_numbers([asked[i] for i in told], nulls, judged) if told else []
    by_index = dict(zip(told, made, strict=True))
    return tuple(by_index.get(i, change) for i, (change, _) in enumerate(asked))


def _cells(now: Held, then: Held, name: str, load: str) -> tuple[Cell, Cell] | None:
    cells = now.comparison.cell(name, load), then.comparison.cell(name, load)
    return None if cells[0] is None or cells[1] is None else (cells[0], cells[1])


def _has_value(cell: Cell, key: str) -> bool:
    """Whether the cell has one: no goodput without objectives, no p99 of few requests."""
    return key in cell.metrics and cell.metrics[key].mean is not None


def _asked(now: Held, then: Held, cells: tuple[Cell, Cell], key: str) -> tuple[Change, Unpaired | None]:
    """The question without an answer, and the ratio to judge; None if there is none."""
    metrics = [cell.metrics[key] for cell in cells]
    values = [[v for v in metric.per_round if v is not None] for metric in metrics]
    doubts = {check.code for cell in cells for check in cell.checks if check.verdict == "doubt"}
    change = Change(
        candidate=cells[0].candidate, load=cells[0].load, question=key,
        now=metrics[0].mean, then=metrics[1].mean, rounds_now=len(values[0]), rounds_then=len(values[1]),
        margin=max(margin_of(key, [c.metrics for c in cells], _floor(one, cells[0].load)) for one in (now, then)),
        doubts=tuple(sorted(doubts)),
    )  # fmt: skip
    if key.startswith("goodput") and now.comparison.slo != then.comparison.slo:
        return replace(change, reason="the objectives (slo) are not the same"), None
    if reason := _no_ratio(cells, key, values):
        return replace(change, reason=reason), None
    assert change.now is not None and change.then is not None
    return change, unpaired(values[0], values[1], ratio=change.now / change.then)


def _no_ratio(cells: Sequence[Cell], key: str, values: Sequence[Sequence[float]]) -> str | None:
    """Why there is no ratio; None if there is one."""
    for cell, rounds, when in zip(cells, values, ("now", "then"), strict=True):
        invalid = [check.code for check in cell.checks if check.verdict == "invalid"]
        if invalid:
            return f"invalid {when}: {', '.join(invalid)}"
        if len(rounds) < 2:
            return f"{len(rounds)} round{'' if len(rounds) == 1 else 's'} {when} with a value; 2 are needed"
        if min(rounds) <= 0:
            return f"a round {when} has the value 0, which has no ratio"
        if cell.metrics[key].mean is None:
            return f"{when}: {cell.metrics[key].reason or 'not known'}"
    return None


def _floor(held: Held, load: str) -> Floor | None:
    made = held.comparison.calibration
    return next((floor for floor in made.floors if floor.load == load), None) if made else None


def _with_numbers(
    asked: Sequence[tuple[Change, Unpaired | None]], nulls: Collection[str], judged: bool
) -> list[Change]:
    """The changes, each with a ratio, with their intervals, and with verdicts if `judged`. Variances are moderated, and
    p is adjusted, over all of them. That everything passes needs no adjustment: each question alone has to."""
    found = [ratio for _, ratio in asked if ratio is not None]
    order = {question.key: i for i, question in enumerate(QUESTIONS)}
    # A null engine is a clock: its spread says nothing about that of engines.
    groups = [2 * order[change.question] + (change.candidate in nulls) for change, _ in asked]
    spread = moderate([one.variance for one in found], [one.df for one in found], groups)
    means, rounds = np.array([one.mean for one in found]), np.array([one.rounds for one in found])
    halves, raw = half_widths(spread, rounds), p_different(means, spread, rounds)
    p = adjusted(raw)
    made = []
    for i, (change, _) in enumerate(asked):
        mean, half = float(means[i]), float(halves[i])
        one = replace(change, ratio=exp(mean), low=exp(mean - half), high=exp(mean + half))
        if judged:
            lift = max(float(p[i] / max(raw[i], 1e-300)), 1.0)
            one = _judged(replace(one, p=float(p[i])), half, Moderated(spread.variance[i], spread.df[i]), lift)
        made.append(one)
    return made


def _judged(change: Change, half: float, spread: Moderated, lift: float) -> Change:
    assert change.ratio is not None and change.p is not None
    worse = math.log(change.ratio) * (-1 if BY_KEY[change.question].larger_is_better else 1)
    margin = math.log1p(change.margin)
    if worse + half <= margin:
        return replace(change, verdict="pass")
    if worse > margin and change.p < ALPHA:
        return replace(change, verdict="regression")
    needed = needed_rounds(worse, margin, spread, min(change.rounds_now, change.rounds_then), lift)
    reason = f"at the spread seen, more than {MOST_ROUNDS} rounds would be needed" if needed is None else None
    return replace(change, rounds_needed=needed, reason=reason)


def _overall(changes: Sequence[Change], judged: bool) -> ChangeVerdict:
    verdicts = {change.verdict for change in changes}
    if judged and "regression" in verdicts:
        return "regression"
    return "pass" if judged and verdicts == {"pass"} else "not known"


def _version(now: CandidateSummary, then: CandidateSummary) -> Version:
    return Version(
        candidate=now.name, title=now.title, now=now.version, then=then.version, differences=_differences(now, then)
    )


def _differences(now: CandidateSummary, then: CandidateSummary) -> tuple[str, ...]:
    found = []
    for what in ("engine", "launch", "gpus", "weight_dtype", "kv_dtype"):
        mine, theirs = getattr(now, what), getattr(then, what)
        if mine != theirs:
            found.append(f"{what.replace('_', ' ')}: {theirs} then, {mine} now")
    for what, mine, theirs in (("setting", now.settings, then.settings), ("variable", now.env, then.env)):
        for key in dict.fromkeys([*theirs, *mine]):
            if mine.get(key) != theirs.get(key):
                found.append(f"{what} {key}: {theirs.get(key, 'not set')} then, {mine.get(key, 'not set')} now")
    if now.launch_line != then.launch_line:
        found.append(f"command: {' '.join(then.launch_line)} then, {' '.join(now.launch_line)} now")
    return tuple(found)


def _left_out(now: Comparison, then: Comparison) -> tuple[str, ...]:
    """What only one of the two has."""
    found = [f"{one.title}: its numbers say nothing of its speed" for one in now.candidates if one.once]
    for one, other, when in ((then, now, "then"), (now, then, "now")):
        candidates = {c.name for c in other.candidates}
        for candidate in one.candidates:
            if candidate.name not in candidates:
                why = other.skipped.get(candidate.name)
                found.append(f"{candidate.title}: measured only {when}" + (f" ({why})" if why else ""))
        loads = {load.name for load in other.loads}
        found += [f"load {load.name}: measured only {when}" for load in one.loads if load.name not in loads]
        for cell in one.cells:
            if cell.candidate in candidates and cell.load in loads and not other.cell(cell.candidate, cell.load):
                found.append(f"{cell.candidate} at {cell.load}: measured only {when}")
    return tuple(found)

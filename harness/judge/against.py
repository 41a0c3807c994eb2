"""A comparison held against an earlier one of the same file and machine: what changed between the two versions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from harness.judge.candidates import CandidateSummary
from harness.judge.cells import Cell
from harness.judge.comparison import Comparison
from harness.judge.pairs import MARGIN
from harness.judge.questions import QUESTIONS
from harness.judge.unpaired import MOST_ROUNDS, adjusted, needed_rounds, unpaired
from harness.judge.versions import asked_in, refuse_other_question, same_machine
from harness.records.metrics import BY_KEY
from harness.workload.slo import Slo

FALSE_ALARMS = 0.05  # of the regressions that are called: the false discovery rate
ChangeVerdict = Literal["pass", "regression", "not known"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One question about one candidate at one load. `ratio` is now / then with its 95 % interval, the two measured at
    different times. pass: that it is worse by more than the margin is excluded; regression: it is worse by more than
    the margin, significantly so among all questions (`p`, adjusted). `rounds_needed`: in each of the two, at the spread
    seen. If a number is None, `reason` says why."""

    candidate: str
    load: str
    question: str  # key of the metric
    now: float | None  # geometric means over rounds
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
    """A comparison with the name of its folder and the objectives that its goodput counts."""

    comparison: Comparison
    where: str
    slo: Slo | None = None


def against(now: Held, then: Held, allow_machine: bool = False) -> Against:
    """Holds one comparison against an earlier one. Pure. Raises NotComparable if they did not ask the same of the same
    model from the same machine."""
    asked, before = asked_in(now.comparison, now.where), asked_in(then.comparison, then.where)
    refuse_other_question(asked, before, allow_machine)
    names = [one.name for one in now.comparison.candidates if one.name in before.machines]
    judged = all(same_machine(asked.machines[name], before.machines[name]) for name in names)
    changes = _judged(_changes(now, then, names)) if judged else _changes(now, then, names)
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


def _changes(now: Held, then: Held, names: Sequence[str]) -> tuple[Change, ...]:
    """Every question about every candidate at every load that both have, without verdicts."""
    same_goals = now.slo == then.slo
    found = []
    for load in now.comparison.loads:
        for name in names:
            cells = now.comparison.cell(name, load.name), then.comparison.cell(name, load.name)
            if cells[0] is not None and cells[1] is not None:
                found += [_change(cells[0], cells[1], q.key, same_goals) for q in QUESTIONS if _asked(cells, q.key)]
    return tuple(found)


def _asked(cells: Sequence[Cell | None], key: str) -> bool:
    """Whether any of the two has an answer; there is no goodput without objectives."""
    return any(cell is not None and key in cell.metrics and cell.metrics[key].mean is not None for cell in cells)


def _change(now: Cell, then: Cell, key: str, same_goals: bool) -> Change:
    values = [[v for v in cell.metrics[key].per_round if v is not None] for cell in (now, then)]
    doubts = {check.code for cell in (now, then) for check in cell.checks if check.verdict == "doubt"}
    plain = Change(
        candidate=now.candidate, load=now.load, question=key,
        now=_geometric(values[0]), then=_geometric(values[1]),
        rounds_now=len(values[0]), rounds_then=len(values[1]), doubts=tuple(sorted(doubts)),
    )  # fmt: skip
    if reason := _not_told(now, then, key, values, same_goals):
        return replace(plain, reason=reason)
    found, fewest = unpaired(*values), min(map(len, values))
    worse = -1.0 if BY_KEY[key].larger_is_better else 1.0
    return replace(
        plain,
        ratio=math.exp(found.log_ratio),
        low=math.exp(found.log_ratio - found.half),
        high=math.exp(found.log_ratio + found.half),
        p=found.p_beyond(worse, math.log1p(MARGIN)),
        rounds_needed=needed_rounds(found, worse * found.log_ratio - math.log1p(MARGIN), fewest),
    )


def _not_told(now: Cell, then: Cell, key: str, values: Sequence[Sequence[float]], same_goals: bool) -> str | None:
    """Why there is no ratio; None if there is one."""
    for cell, when in ((now, "now"), (then, "then")):
        invalid = [check.code for check in cell.checks if check.verdict == "invalid"]
        if invalid:
            return f"invalid {when}: {', '.join(invalid)}"
    if key.startswith("goodput") and not same_goals:
        return "the objectives (slo) are not the same"
    for rounds, when in zip(values, ("now", "then"), strict=True):
        if len(rounds) < 2:
            return f"{len(rounds)} round{'' if len(rounds) == 1 else 's'} {when} with a value; 2 are needed"
        if min(rounds) <= 0:
            return f"a round {when} has the value 0, which has no ratio"
    return None


def _judged(changes: Sequence[Change]) -> tuple[Change, ...]:
    """The same with verdicts. p is adjusted over all of them: of the regressions that are called, at most FALSE_ALARMS
    are false on average. That everything passes needs no adjustment: each question alone had to."""
    known = [i for i, change in enumerate(changes) if change.p is not None]
    p_of = dict(zip(known, adjusted([changes[i].p or 0.0 for i in known]), strict=True))
    return tuple(_with_verdict(change, p_of.get(i)) for i, change in enumerate(changes))


def _with_verdict(change: Change, p: float | None) -> Change:
    if p is None or change.low is None or change.high is None:
        return change
    fine = 1 / (1 + change.margin) <= change.low if BY_KEY[change.question].larger_is_better else None
    fine = change.high <= 1 + change.margin if fine is None else fine
    verdict: ChangeVerdict = "pass" if fine else "regression" if p < FALSE_ALARMS else "not known"
    reason = change.reason
    if verdict == "not known" and change.rounds_needed is None:
        reason = f"at the spread seen, more than {MOST_ROUNDS} rounds would be needed"
    needed = change.rounds_needed if verdict == "not known" else None
    return replace(change, p=p, verdict=verdict, rounds_needed=needed, reason=reason)


def _overall(changes: Sequence[Change], judged: bool) -> ChangeVerdict:
    verdicts = {change.verdict for change in changes}
    if judged and "regression" in verdicts:
        return "regression"
    return "pass" if judged and verdicts == {"pass"} else "not known"


def _geometric(values: Sequence[float]) -> float | None:
    if not values or min(values) <= 0:
        return None
    return float(np.exp(np.mean(np.log(values))))


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
        found.append(f"command: `{' '.join(then.launch_line)}` then, `{' '.join(now.launch_line)}` now")
    return tuple(found)


def _left_out(now: Comparison, then: Comparison) -> tuple[str, ...]:
    """What only one of the two has."""
    found = []
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

"""Runs one comparison: every candidate, every load, several rounds, one candidate at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from harness.campaign.contender import Contender
from harness.campaign.order import candidate_order
from harness.campaign.session import Runs, Setting, measure_endpoint
from harness.errors import CannotStart, HarnessError, Stopped, fault_text
from harness.launch.endpoint import Endpoint
from harness.records.campaign import CAMPAIGN, Campaign, finished_runs, round_of, run_folder
from harness.records.manifest import MANIFEST, Manifest
from harness.records.stored import write_json
from harness.steps import Say
from harness.workload.loads import Load
from harness.workload.plan import MOST_ROUNDS

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
Serve = Callable[[Contender, Path], contextlib.AbstractContextManager[Endpoint]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """What is measured. `candidates`: all names asked for, in the order of the reports; `named`: those of them that the
    user named; `contenders`: those that can take part; `skipped`: why the others cannot.

    `rounds`: measured in any case. After them, with a `budget_s`, further ones as long as a pair is not known to the
    wanted precision and the budget has room for another round. `measured_s`: of the budget, already used before this
    comparison was continued; `repeated`: rounds that were set aside and are measured again.

    `once`: contenders that are measured in the first round only, since their speed is not ranked. `later`: those that
    must be installed first -> how long that takes, as a rank: in the first round they come after the others."""

    name: str
    folder: Path
    started_at: str
    rounds: int
    candidates: Sequence[str]
    named: Sequence[str] = ()
    contenders: Mapping[str, Contender]
    skipped: Mapping[str, str]
    setting: Setting
    budget_s: float = 0.0
    measured_s: float = 0.0
    repeated: tuple[int, ...] = ()
    once: tuple[str, ...] = ()
    later: Mapping[str, int] = field(default_factory=dict)

    def missing(self, name: str, round_index: int) -> list[tuple[Load, Path]]:
        """The loads of one candidate in one round that have no finished run yet, and their folders."""
        if name in self.once and round_index > 1:
            return []
        places = [(load, run_folder(self.folder, name, load.name, round_index)) for load in self.setting.workload.load]
        return [(load, folder) for load, folder in places if not (folder / MANIFEST).is_file()]

    def order(self, round_index: int) -> list[str]:
        """The order of one round. In the first, what is ready comes first: nobody waits for a build to see a number."""
        ranked = [name for name in self.contenders if name not in self.once]
        names = candidate_order(ranked, self.setting.workload.seed, round_index)
        names += [name for name in self.contenders if name in self.once]
        return sorted(names, key=lambda name: self.later.get(name, 0)) if round_index == 1 else names

    @property
    def least(self) -> int:
        """The rounds that are measured in any case: those asked for, and those begun or repeated."""
        begun = (round_of(folder) for folder in finished_runs(self.folder))
        return max([self.rounds, *self.repeated, *begun])


@dataclass(frozen=True, slots=True)
class Watch:
    """Callbacks for progress: `say` gets what is being done, `ran` each run (candidate, load, its manifest), `left_out`
    each candidate that is left out, with the reason.

    `wide` gets each complete round in which something was measured, and returns how many pairs are not known to the
    wanted precision; it may look at the widths of intervals only. Stopping when a difference shows would show
    differences that are none. `further` gets each round beyond those asked for, before it begins; `fault` each
    candidate that a fault of the harness left out.

    `prepare` gets each candidate before it starts, and installs it where that was put off; it raises CannotStart. The
    time that it takes is none of measuring."""

    say: Callable[[Contender], Say]
    ran: Callable[[Contender, Load, Manifest], None]
    left_out: Callable[[Contender, str], None] = field(default=lambda contender, why: None)
    wide: Callable[[int], int] = field(default=lambda round_index: 0)
    further: Callable[[int], None] = field(default=lambda round_index: None)
    fault: Callable[[Contender], None] = field(default=lambda contender: None)
    prepare: Callable[[Contender], None] = field(default=lambda contender: None)


@dataclass(slots=True)
class _SoFar:
    """What a campaign has come to: who was left out and why, the seconds spent measuring, the rounds that are complete,
    and the pairs that are not known well enough after the last one (None: not looked at yet)."""

    skipped: dict[str, str]
    measured_s: float
    complete: int = 0
    wide: int | None = None


def run_campaign(asked: Rounds, serve: Serve, watch: Watch) -> Campaign:
    """Runs what is not on disk yet. A candidate that fails is left out from then on, with the reason.

    `campaign.json` is written at the start, after each failure and each round, and at the end, so that an interrupted
    comparison can be reported and resumed. KeyboardInterrupt and Stopped pass through; a run folder with a manifest is
    complete."""
    so_far = _SoFar(dict(asked.skipped), asked.measured_s)
    _write(asked, so_far)
    least = asked.least
    try:
        while True:
            round_index = so_far.complete + 1
            if round_index > least:
                if (ended := _why_ended(asked, so_far, watch)) is not None:
                    return _write(asked, so_far, ended)
                watch.further(round_index)
            # Where every candidate failed there is nothing to judge, and why each failed has been said.
            if _round(asked, so_far, round_index, serve, watch) and finished_runs(asked.folder):
                so_far.wide = watch.wide(round_index)
    except (KeyboardInterrupt, Stopped):
        _write(asked, so_far)
        raise


def _round(asked: Rounds, so_far: _SoFar, round_index: int, serve: Serve, watch: Watch) -> bool:
    """Measures what one round lacks. Returns whether that was anything."""
    began, any_measured, prepared_s = time.monotonic(), False, 0.0
    try:
        for name in asked.order(round_index):
            missing = asked.missing(name, round_index)
            if name in so_far.skipped or not missing:
                continue
            contender, any_measured = asked.contenders[name], True
            runs = Runs(round_index, missing, partial(watch.ran, contender))
            before = time.monotonic()
            try:
                why = _guarded(asked, contender, round_index, watch, partial(watch.prepare, contender))
            finally:  # also at Ctrl-C: a long build is none of the budget
                prepared_s += time.monotonic() - before
            if why := why or _measure(asked, contender, runs, serve, watch):
                so_far.skipped[name] = f"round {round_index}: {why}" if round_index > 1 else why
                watch.left_out(contender, why)
                _write(asked, so_far)
    finally:
        so_far.measured_s += time.monotonic() - began - prepared_s
    so_far.complete = round_index
    _write(asked, so_far)
    return any_measured


def _why_ended(asked: Rounds, so_far: _SoFar, watch: Watch) -> str | None:
    """Why no further round is measured; None if one is."""
    done = so_far.complete
    if not asked.budget_s:
        return f"all {done} rounds are measured"
    if sum(name not in (*so_far.skipped, *asked.once) for name in asked.contenders) < 2:
        return "fewer than two candidates can be measured"
    if so_far.wide is None:
        so_far.wide = watch.wide(done)
    if not so_far.wide:
        return f"every pair is known to the wanted precision after {done} rounds"
    if done >= MOST_ROUNDS:
        return f"{MOST_ROUNDS} rounds are measured"
    if so_far.measured_s + so_far.measured_s / done > asked.budget_s:
        return (
            f"the budget of {asked.budget_s / 60:g} min has no room for a round more; {so_far.wide} questions are not "
            f"answered to the wanted precision after {done} rounds"
        )
    return None


def _measure(asked: Rounds, contender: Contender, runs: Runs, serve: Serve, watch: Watch) -> str | None:
    """Measures one candidate in one round. Returns why it failed, else None."""

    def measure() -> None:
        with serve(contender, _log(asked, contender, runs.round)) as endpoint:
            watch.say(contender)("verifying")
            measure_endpoint(asked.setting, contender, endpoint, runs)

    return _guarded(asked, contender, runs.round, watch, measure)


def _log(asked: Rounds, contender: Contender, round_index: int) -> Path:
    return asked.folder / "launches" / f"{contender.name}-round-{round_index}.log"


def _guarded(
    asked: Rounds, contender: Contender, round_index: int, watch: Watch, step: Callable[[], None]
) -> str | None:
    """Does one step of one candidate. Returns why it failed, else None. What an engine sends can end no more than its
    own run, also where this software has a fault; a disk that takes nothing more ends them all."""
    try:
        step()
    except CannotStart as problem:
        return str(problem)
    except Stopped:
        raise
    except HarnessError as problem:
        return str(problem)
    except Exception as problem:  # a fault of ours at one candidate: the others' measurements are worth more
        if _of_the_disk(problem, asked.folder):
            raise
        log = _log(asked, contender, round_index)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="replace") as file:
            file.write(traceback.format_exc())
        watch.fault(contender)
        what = fault_text(problem)
        return f"a fault of the harness: {what}; where it happened stands in {log}"
    return None


def _of_the_disk(problem: Exception, folder: Path) -> bool:
    """Whether results cannot be written: then no candidate can be measured."""
    if not isinstance(problem, OSError):
        return False
    ours = str(problem.filename).startswith(str(folder)) or not folder.is_dir()
    return ours or any(code == problem.errno or os.strerror(code) in str(problem) for code in _DISK)


def _write(asked: Rounds, so_far: _SoFar, ended: str = "") -> Campaign:
    campaign = Campaign(
        name=asked.name,
        started_at=asked.started_at,
        candidates=tuple(asked.candidates),
        named=tuple(asked.named),
        skipped=dict(so_far.skipped),
        loads=tuple(load.name for load in asked.setting.workload.load),
        rounds=asked.rounds,
        schedules_digest=asked.setting.schedules.whole,
        finished=bool(ended),
        rounds_measured=so_far.complete,
        ended=ended,
        measured_s=so_far.measured_s,
        repeated=asked.repeated,
    )
    write_json(asked.folder / CAMPAIGN, campaign)
    return campaign

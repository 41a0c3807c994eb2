"""Runs one comparison: every candidate, every load, several rounds, one candidate at a time."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from harness.campaign.contender import Contender
from harness.campaign.session import Runs, Setting, measure_endpoint
from harness.errors import CannotStart
from harness.launch.endpoint import Endpoint
from harness.launch.steps import Say
from harness.records.campaign import CAMPAIGN, Campaign, run_folder
from harness.records.manifest import MANIFEST, Manifest
from harness.records.stored import write_json
from harness.workload.loads import Load

Serve = Callable[[Contender, Path], contextlib.AbstractContextManager[Endpoint]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """What is measured. `candidates`: all names asked for, in the order of the reports; `contenders`: those that can
    take part; `skipped`: why the others cannot."""

    name: str
    folder: Path
    started_at: str
    rounds: int
    candidates: Sequence[str]
    contenders: Mapping[str, Contender]
    skipped: Mapping[str, str]
    setting: Setting

    def missing(self, name: str, round_index: int) -> list[tuple[Load, Path]]:
        """The loads of one candidate in one round that have no finished run yet, and their folders."""
        places = [(load, run_folder(self.folder, name, load.name, round_index)) for load in self.setting.workload.load]
        return [(load, folder) for load, folder in places if not (folder / MANIFEST).is_file()]


@dataclass(frozen=True, slots=True)
class Watch:
    """Callbacks for progress: `say` gets what is being done, `ran` each run (candidate, load, its manifest), `left_out`
    each candidate that is left out, with the reason."""

    say: Callable[[Contender], Say]
    ran: Callable[[Contender, Load, Manifest], None]
    left_out: Callable[[Contender, str], None] = field(default=lambda contender, why: None)


def candidate_order(names: Sequence[str], seed: int, round_index: int) -> list[str]:
    """The order of one round. Shuffled: a candidate that always ran second would always run on a warmer machine."""
    order = list(names)
    random.Random(f"{seed}/order/{round_index}").shuffle(order)
    return order


def run_campaign(asked: Rounds, serve: Serve, watch: Watch) -> Campaign:
    """Runs what is not on disk yet. A candidate that fails is left out from then on, with the reason.

    `campaign.json` is written at the start, after each failure and at the end, so that an interrupted comparison can
    be reported and resumed. KeyboardInterrupt and Stopped pass through; a run folder with a manifest is complete."""
    skipped = dict(asked.skipped)
    _write(asked, skipped, finished=False)
    for round_index in range(1, asked.rounds + 1):
        for name in candidate_order(list(asked.contenders), asked.setting.workload.seed, round_index):
            missing = asked.missing(name, round_index)
            if name in skipped or not missing:
                continue
            contender = asked.contenders[name]
            runs = Runs(round_index, missing, partial(watch.ran, contender))
            if why := _measure(asked, contender, runs, serve, watch):
                skipped[name] = f"round {round_index}: {why}" if round_index > 1 else why
                watch.left_out(contender, why)
                _write(asked, skipped, finished=False)
    return _write(asked, skipped, finished=True)


def _measure(asked: Rounds, contender: Contender, runs: Runs, serve: Serve, watch: Watch) -> str | None:
    """Measures one candidate in one round. Returns why it failed, else None."""
    log = asked.folder / "launches" / f"{contender.name}-round-{runs.round}.log"
    try:
        with serve(contender, log) as endpoint:
            watch.say(contender)("verifying")
            measure_endpoint(asked.setting, contender, endpoint, runs)
    except CannotStart as problem:
        return str(problem)
    return None


def _write(asked: Rounds, skipped: Mapping[str, str], finished: bool) -> Campaign:
    campaign = Campaign(
        name=asked.name,
        started_at=asked.started_at,
        candidates=tuple(asked.candidates),
        skipped=dict(skipped),
        loads=tuple(load.name for load in asked.setting.workload.load),
        rounds=asked.rounds,
        schedules_digest=asked.setting.schedules.whole,
        finished=finished,
    )
    write_json(asked.folder / CAMPAIGN, campaign)
    return campaign

"""The comparison: every cell with its intervals and checks, and the ratios to the reference."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.judge.aa import AATest, aa_tests
from harness.judge.answers import Answer, answers
from harness.judge.candidates import CandidateSummary, candidate_summary, is_null, joined, measured_once, title_of
from harness.judge.cells import Cell, cell_of
from harness.judge.checks.evidence import Evidence, Peers
from harness.judge.checks.plausible import with_roofline
from harness.judge.comparable import refuse_unlike
from harness.judge.loads import LoadSummary, load_summary
from harness.judge.measured import CellKey, Measured, estimates_of, measured
from harness.judge.more import seconds_of_round
from harness.judge.pairs import Pair, pairs
from harness.judge.stats import Estimate
from harness.judge.texts import AnswersTo, answers_beside
from harness.records.calibration import Calibration, Floor
from harness.records.campaign import Campaign
from harness.records.latencies import PERCENTILE_METHOD
from harness.records.manifest import MachineFacts
from harness.records.metrics import METRICS
from harness.records.run import RunResult
from harness.records.stored import read_stored
from harness.workload.slo import Slo

COMPARISON = "comparison.json"
SCHEMA = 3
__all__ = ["COMPARISON", "Cell", "Comparison", "Pair", "compare", "stored_comparison"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that charts, tables and reports show. `candidates` and `loads` are in report order."""

    schema: int = SCHEMA
    harness: str
    name: str
    started_at: str
    finished: bool
    reference: str  # the first real candidate; with several machines, each has its own reference
    rounds: int  # asked for, or measured if that is more; a cell says which it has
    ended: str = ""  # why no further round was measured
    repeated: tuple[int, ...] = ()  # rounds that the user had measured again
    schedules_digest: str
    model: Mapping[str, Any]  # what is known and the same for every candidate
    machines: tuple[MachineFacts, ...]  # of the clients; several only with --allow machine
    candidates: tuple[CandidateSummary, ...]
    loads: tuple[LoadSummary, ...]
    cells: tuple[Cell, ...]
    pairs: tuple[Pair, ...]
    answers: tuple[Answer, ...] = ()
    aa: tuple[AATest, ...] = ()  # of candidates that are the same thing
    asked_loads: tuple[str, ...] = ()  # all that were asked for, measured or not
    named: tuple[str, ...] = ()  # candidates that the user named; without names every engine is tried
    skipped: Mapping[str, str]
    unread: tuple[str, ...] = ()  # files of the folder that could not be read, what is missing for it, and why
    formulas: Mapping[str, str]
    percentile_method: str
    calibration: Calibration | None = None  # the client's own floor; None if it was not measured
    slo: Slo | None = None  # what an answer must meet to be good
    texts: tuple[AnswersTo, ...] = ()  # answers to the same prompts; empty unless prompts are real text

    def candidate(self, name: str) -> CandidateSummary:
        """The candidate of that name. Raises StopIteration if it was not measured."""
        return next(one for one in self.candidates if one.name == name)

    def cell(self, candidate: str, load: str) -> Cell | None:
        """The cell of one candidate at one load; None if it was not measured."""
        found = (cell for cell in self.cells if cell.candidate == candidate and cell.load == load)
        return next(found, None)

    def pair(self, candidate: str, against: str, load: str, question: str) -> Pair | None:
        """One question about two candidates, seen from the first; None if they were not both measured there."""
        for pair in self.pairs:
            if (pair.load, pair.question) == (load, question):
                if (pair.candidate, pair.against) == (candidate, against):
                    return pair
                if (pair.against, pair.candidate) == (candidate, against):
                    return pair.turned()
        return None

    def to_reference(self, candidate: str, load: str, question: str) -> Pair | None:
        """The pair of a candidate with its reference; None for the reference itself and for unmeasured cells."""
        reference = self.candidate(candidate).reference
        return None if reference is None else self.pair(candidate, reference, load, question)

    @property
    def invalid_cells(self) -> tuple[Cell, ...]:
        """The cells that are drawn hollow and never ranked."""
        return tuple(cell for cell in self.cells if cell.verdict == "invalid")


def stored_comparison(folder: Path) -> Comparison:
    """Reads `comparison.json` in the folder of a comparison. Raises FileNotFoundError if there is none, and
    HarnessError if it cannot be read or has an older schema."""
    return read_stored(folder / COMPARISON, Comparison)


def compare(
    runs: Sequence[RunResult],
    campaign: Campaign,
    calibration: Calibration | None = None,
    *,
    allow_machine: bool = False,
) -> Comparison:
    """Judges the runs of one comparison. Pure; the order of `runs` does not matter. A calibration is used for the
    loads that it names. With `allow_machine` the candidates may come from different machines; ratios are then between
    candidates of one machine only.

    Raises NotComparable, with the names of two runs, if their workload, model or machine differ, or their schedules for
    the same load and round."""
    if not runs:
        raise HarnessError(f"{campaign.name}: there is no finished run to compare")
    runs = sorted(runs, key=lambda r: (r.manifest.candidate.name, r.manifest.load.name, r.manifest.round))
    refuse_unlike(runs, allow_machine)
    names = _in_order(campaign.candidates, (run.manifest.candidate.name for run in runs))
    loads = _in_order(campaign.loads, (run.manifest.load.name for run in runs))
    runs_of = {name: [run for run in runs if run.manifest.candidate.name == name] for name in names}
    once = {name for name, mine in runs_of.items() if measured_once(mine, campaign.named)}
    references = _references(runs_of, once)
    machines = list({run.manifest.machine.id: run.manifest.machine for run in reversed(runs)}.values())[::-1]
    titles = {name: _title(mine, len(machines) > 1) for name, mine in runs_of.items()}
    numbers = _numbers(loads, runs_of)
    whole = _Whole(runs_of, references, titles, once, estimates_of(numbers), calibration)
    cells = [cell_of(evidence) for load in loads for evidence in _evidence_at(load, whole)]
    # Without null engines, and without engines on stand-ins for their kernels: a ratio to those would mean nothing.
    compared = {name: runs_of[name][0].manifest.machine.id for name in references if name not in once}
    found = Comparison(
        harness=joined(run.manifest.harness for run in runs),
        name=campaign.name,
        started_at=campaign.started_at,
        finished=campaign.finished,
        ended=campaign.ended,
        repeated=campaign.repeated,
        reference=next(iter(references.values()), names[0]),
        rounds=max(campaign.rounds, campaign.rounds_measured or 0),
        schedules_digest=runs[0].manifest.schedule.whole,
        model=_common([_model(run) for run in runs]),
        machines=tuple(machines),
        candidates=tuple(
            candidate_summary(runs_of[name], runs_of.get(references.get(name, "")), titles[name], campaign.named)
            for name in names
        ),
        loads=tuple(load_summary(load, runs) for load in loads),
        cells=tuple(cells),
        pairs=pairs(cells, compared, numbers, _floors(calibration, runs, cells), seconds_of_round(runs)),
        skipped=_skipped(campaign, names),
        asked_loads=campaign.loads,
        named=campaign.named,
        unread=campaign.unread,
        formulas={metric.key: metric.formula for metric in METRICS},
        percentile_method=PERCENTILE_METHOD,
        calibration=calibration,
        slo=next((run.manifest.slo for run in runs if run.manifest.slo), None),
        texts=answers_beside({name: runs_of[name] for name in references}, loads),
    )
    found = replace(found, aa=aa_tests(runs_of, found.pairs))
    return replace(found, answers=answers(found))


def _references(runs_of: Mapping[str, Sequence[RunResult]], once: Collection[str]) -> dict[str, str]:
    """Candidate -> the first one that was measured from the same machine, a ranked one if there is one; without null
    engines."""
    first: dict[str | None, str] = {}
    real = {name: runs[0].manifest.machine.id for name, runs in runs_of.items() if not is_null(runs)}
    for name in sorted(real, key=lambda name: name in once):
        first.setdefault(real[name], name)
    return {name: first[machine] for name, machine in real.items()}


def _title(runs: Sequence[RunResult], with_machine: bool) -> str:
    title = title_of(runs)
    return f"{title} @ {runs[0].manifest.machine.id}" if with_machine else title


def _numbers(loads: Sequence[str], runs_of: Mapping[str, Sequence[RunResult]]) -> dict[CellKey, Measured]:
    """The numbers of every cell that was measured, by candidate and load."""
    at = {(name, load): _at(load, runs) for load in loads for name, runs in runs_of.items()}
    return {key: measured(runs) for key, runs in at.items() if runs}


def _at(load: str, runs: Sequence[RunResult]) -> list[RunResult]:
    return [run for run in runs if run.manifest.load.name == load]


@dataclass(frozen=True, slots=True)
class _Whole:
    """What the cells of all loads are judged with. `runs_of`, `references`, `titles`: by candidate."""

    runs_of: Mapping[str, Sequence[RunResult]]
    references: Mapping[str, str]
    titles: Mapping[str, str]
    once: Collection[str]
    metrics: Mapping[CellKey, Mapping[str, Estimate]]
    calibration: Calibration | None


def _evidence_at(load: str, whole: _Whole) -> list[Evidence]:
    """The evidence for each cell of one load, in the order of the candidates."""
    here = {name: _at(load, runs) for name, runs in whole.runs_of.items()}
    measured = {name: runs for name, runs in here.items() if runs}
    found = []
    for name, runs in measured.items():
        reference = whole.references.get(name)
        # Not for the null server itself: the floor is the error against it, and it has no model.
        known = whole.calibration if reference and _calibrated_here(whole.calibration, runs) else None
        mine = with_roofline(whole.metrics[name, load], runs, known.peaks if known else ())
        beside = {one: other for one, other in measured.items() if reference and whole.references.get(one) == reference}
        found.append(
            Evidence(
                runs=runs,
                metrics=mine,
                floor=known.floor(load, mine["output_throughput"].mean) if known else None,
                peaks=known.peaks if known else (),
                everywhere=whole.runs_of[name],
                peers=Peers(beside, whole.titles, reference) if reference else None,
                once=name in whole.once,
            )
        )
    return found


def _calibrated_here(calibration: Calibration | None, runs: Sequence[RunResult]) -> bool:
    """Whether the client was calibrated on the machine that these runs were measured from. Older results do not name
    the machine: they are one comparison on one machine."""
    if calibration is None or calibration.machine.id is None:
        return True
    return all(run.manifest.machine.id in (None, calibration.machine.id) for run in runs)


def _floors(calibration: Calibration | None, runs: Sequence[RunResult], cells: Sequence[Cell]) -> dict[str, Floor]:
    """The client's own floor by load, at the rate of the fastest candidate there; empty if the client was not
    calibrated where these runs were measured."""
    if calibration is None or not _calibrated_here(calibration, runs):
        return {}
    rates: dict[str, float] = {}
    for cell in cells:
        rates[cell.load] = max(rates.get(cell.load, 0.0), cell.metrics["output_throughput"].mean or 0.0)
    return {load: floor for load, rate in rates.items() if (floor := calibration.floor(load, rate)) is not None}


def _model(run: RunResult) -> dict[str, Any]:
    """What is known of the comparison's model, without the weights that candidates served instead."""
    own = ("weights", "weights_digest", "shown")
    return {key: value for key, value in asdict(run.manifest.model).items() if value is not None and key not in own}


def _skipped(campaign: Campaign, measured: Sequence[str]) -> dict[str, str]:
    silent = "no finished run" if campaign.finished else "interrupted before its first run was finished"
    missing = {name: silent for name in campaign.candidates if name not in measured}
    return {**missing, **campaign.skipped}


def _in_order(wanted: Iterable[str], present: Iterable[str]) -> list[str]:
    """The present names: the wanted ones in that order, then the others sorted."""
    found = set(present)
    first = [name for name in wanted if name in found]
    return first + sorted(found.difference(first))


def _common(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries that all tables have with the same value."""
    return {k: v for k, v in tables[0].items() if all(k in table and table[k] == v for table in tables)}

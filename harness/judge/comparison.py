"""The comparison: every cell with its interval and its doubts, and what can be said against the reference."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import HarnessError, NotComparable
from harness.judge.checks.cell import CELL_CHECKS
from harness.judge.checks.evidence import Check, Evidence, Verdict, pooled_column, worst
from harness.judge.checks.parity import PARITY_CHECKS, Agreement, Peers, agreement, settings_of
from harness.judge.load_points import LoadPointSummary, load_point_summary
from harness.judge.stats import Estimate, estimate, paired_ratio, separation
from harness.records.metrics import (
    BY_KEY,
    METRICS,
    PERCENTILE_METHOD,
    cancelled_requests,
    failed_requests,
    measure,
    ok_requests,
)
from harness.records.run import Calibration, Campaign, Floor, Manifest, RunResult

SCHEMA = 1
RATIO_METRICS = ("output_throughput", "ttft_p50", "ttft_p99", "tpot_p50")


@dataclass(frozen=True, slots=True)
class Cell:
    """One engine at one load point over all its rounds. `schedule_digests` is in the order of `rounds`;
    request counts are sums over rounds."""

    engine: str
    load_point: str
    rounds: tuple[int, ...]
    metrics: Mapping[str, Estimate]
    checks: tuple[Check, ...]
    verdict: Verdict
    requests_ok: int
    requests_failed: int
    schedule_digests: tuple[str, ...]
    output_tokens_per_request: tuple[int, ...]  # every length that occurred
    requests_cancelled: int = 0  # given up by their user as planned


@dataclass(frozen=True, slots=True)
class Ratio:
    """engine / reference for one metric at one load point. Verdict better, worse, not separable, unknown
    (too few rounds in common) or invalid (a cell is, and nothing is ranked): null numbers have a reason."""

    engine: str
    reference: str
    load_point: str
    metric: str
    ratio: float | None
    low: float | None
    high: float | None
    rounds: int
    verdict: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class EngineSummary:
    """What is the same for an engine at every load point."""

    name: str
    title: str
    color: str
    version: str
    launch: str
    null_engine: bool
    cold_start_s: Mapping[str, float]  # phase -> mean over rounds
    settings: Mapping[str, str]
    declared: Mapping[str, str]
    weight_dtype: str | None
    kv_dtype: str | None
    answers: Agreement | None  # with the reference; null for the reference and without a probe


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that charts, tables and reports show. `engines` and `load_points` are in report order."""

    schema: int
    harness: str
    name: str
    started_at: str
    finished: bool
    reference: str
    rounds: int  # asked for; a cell says which it has
    schedules_digest: str
    model: Mapping[str, Any]  # what is the same for every engine
    machine: Mapping[str, Any]
    engines: tuple[EngineSummary, ...]
    load_points: tuple[LoadPointSummary, ...]
    cells: tuple[Cell, ...]
    ratios: tuple[Ratio, ...]
    skipped: Mapping[str, str]
    formulas: Mapping[str, str]
    percentile_method: str
    calibration: Calibration | None = None  # the client's own floor; null where none was measured

    def cell(self, engine: str, load_point: str) -> Cell | None:
        """The cell of one engine at one load point; null where it was not measured."""
        found = (c for c in self.cells if c.engine == engine and c.load_point == load_point)
        return next(found, None)

    def ratio(self, engine: str, load_point: str, metric: str) -> Ratio | None:
        """The ratio to the reference; null for the reference itself and for unmeasured cells."""
        wanted = (engine, load_point, metric)
        return next((r for r in self.ratios if (r.engine, r.load_point, r.metric) == wanted), None)

    @property
    def invalid_cells(self) -> tuple[Cell, ...]:
        """The cells that are drawn hollow and never ranked."""
        return tuple(cell for cell in self.cells if cell.verdict == "invalid")


def compare(runs: Sequence[RunResult], campaign: Campaign, calibration: Calibration | None = None) -> Comparison:
    """Judges the runs of one comparison. Pure; the order of `runs` does not matter. A calibration counts for
    the load points that it names.

    Raises NotComparable, naming two runs, where they did not answer the same question: another workload,
    model or machine anywhere, or another schedule for the same load point and round."""
    if not runs:
        raise HarnessError(f"{campaign.name}: there is no finished run to compare")
    runs = sorted(runs, key=lambda r: (r.manifest.engine, r.manifest.load_point, r.manifest.round))
    refuse_unlike(runs)
    engines = _in_order(campaign.engines, (run.manifest.engine for run in runs))
    points = _in_order(campaign.load_points, (run.manifest.load_point for run in runs))
    by_cell: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        by_cell.setdefault((run.manifest.engine, run.manifest.load_point), []).append(run)
    by_engine = {name: [run for run in runs if run.manifest.engine == name] for name in engines}
    real = [name for name in engines if not _null_engine(by_engine[name])]
    reference = (real or engines)[0]

    floors = {floor.load_point: floor for floor in calibration.floors} if calibration else {}
    cells: list[Cell] = []
    for point in points:
        peers = {name: by_cell[name, point] for name in engines if (name, point) in by_cell}
        cells += _cells_at(point, peers, reference, floors.get(point))
    return Comparison(
        schema=SCHEMA,
        harness=_joined(run.manifest.harness for run in runs),
        name=campaign.name,
        started_at=campaign.started_at,
        finished=campaign.finished,
        reference=reference,
        rounds=campaign.rounds,
        schedules_digest=runs[0].manifest.schedules_digest,
        model=_common([run.manifest.model for run in runs]),
        machine=_common([run.manifest.machine for run in runs]),
        engines=tuple(_engine_summary(by_engine[name], by_engine[reference]) for name in engines),
        load_points=tuple(load_point_summary(point, runs) for point in points),
        cells=tuple(cells),
        # A null engine is a schedule of tokens: a ratio to it would rank nothing.
        ratios=_ratios(cells, real or engines, reference),
        skipped=_skipped(campaign, engines),
        formulas={metric.key: metric.formula for metric in METRICS},
        percentile_method=PERCENTILE_METHOD,
        calibration=calibration,
    )


def refuse_unlike(runs: Sequence[RunResult]) -> None:
    """Raises NotComparable for the first two runs that cannot stand side by side."""
    _same(runs, "are the same run twice", lambda r: (r.manifest.engine, *_slot(r)), lambda r: r.folder)
    _same(runs, "answer different workloads", lambda r: None, lambda r: r.manifest.schedules_digest)
    for key in ("name", "digest"):
        _same(runs, f"served different models ({key})", lambda r: None, _reader("model", key))
    _same(runs, "ran on different machines", lambda r: None, _reader("machine", "id"))
    _same(runs, "replayed different schedules", _slot, lambda r: r.manifest.schedule_digest)


def _same(
    runs: Sequence[RunResult],
    complaint: str,
    group: Callable[[RunResult], Hashable],
    value: Callable[[RunResult], object],
) -> None:
    """Every run of a group must have the value that the group's first run has."""
    first: dict[Hashable, RunResult] = {}
    for run in runs:
        other = first.setdefault(group(run), run)
        if value(run) != value(other):
            raise NotComparable(
                f"{other.folder} and {run.folder} {complaint}: {str(value(other))[:24]} and "
                f"{str(value(run))[:24]}. Measure them again in one comparison."
            )


def _slot(run: RunResult) -> tuple[str, int]:
    return run.manifest.load_point, run.manifest.round


def _reader(table: str, key: str) -> Callable[[RunResult], object]:
    return lambda run: getattr(run.manifest, table).get(key)


def _cells_at(point: str, peers: Mapping[str, Sequence[RunResult]], reference: str, floor: Floor | None) -> list[Cell]:
    """The cells of one load point, in the order of `peers`."""
    real = Peers({e: runs for e, runs in peers.items() if not _null_engine(runs)}, reference)
    cells = []
    for engine, runs in peers.items():
        rounds = [measure(run) for run in runs]
        metrics = {m.key: estimate([values[m.key] for values in rounds]) for m in METRICS}
        # The floor is an error against the null server: as a share of the null server's own times it says nothing.
        evidence = Evidence(runs, metrics, floor if engine in real.runs else None)
        checks = [check(evidence) for check in CELL_CHECKS]
        if engine in real.runs:
            checks += [check(real, engine) for check in PARITY_CHECKS]
        lengths = np.unique(pooled_column(runs, "output_tokens"))
        ok = sum(int(ok_requests(run).sum()) for run in runs)
        cells.append(
            Cell(
                engine=engine,
                load_point=point,
                rounds=tuple(run.manifest.round for run in runs),
                metrics=metrics,
                checks=tuple(checks),
                verdict=worst(check.verdict for check in checks),
                requests_ok=ok,
                requests_failed=sum(int(failed_requests(run).sum()) for run in runs),
                schedule_digests=tuple(run.manifest.schedule_digest for run in runs),
                output_tokens_per_request=tuple(int(length) for length in lengths),
                requests_cancelled=sum(int(cancelled_requests(run).sum()) for run in runs),
            )
        )
    return cells


def _ratios(cells: Sequence[Cell], engines: Sequence[str], reference: str) -> tuple[Ratio, ...]:
    bases = {cell.load_point: cell for cell in cells if cell.engine == reference}
    return tuple(
        _ratio(cell, bases[cell.load_point], metric)
        for cell in cells
        if cell.engine in engines and cell.engine != reference and cell.load_point in bases
        for metric in RATIO_METRICS
    )


def _ratio(cell: Cell, base: Cell, metric: str) -> Ratio:
    names = (cell.engine, base.engine, cell.load_point, metric)
    invalid = [c for c in (cell, base) if c.verdict == "invalid"]
    if invalid:
        codes = sorted({check.code for c in invalid for check in c.checks if check.verdict == "invalid"})
        who = " and ".join(c.engine for c in invalid)
        return Ratio(*names, None, None, None, 0, "invalid", f"{who}: {', '.join(codes)}")
    rounds = sorted(set(cell.rounds) & set(base.rounds))
    found = paired_ratio(*([_of_round(c, metric, r) for r in rounds] for c in (cell, base)))
    verdict = separation(found, bool(BY_KEY[metric].larger_is_better))
    few = f"{found.rounds} of the rounds in common have a value; 2 are needed"
    reason = few if verdict == "unknown" else None
    return Ratio(*names, found.ratio, found.low, found.high, found.rounds, verdict, reason)


def _of_round(cell: Cell, metric: str, round_index: int) -> float | None:
    return cell.metrics[metric].per_round[cell.rounds.index(round_index)]


def _engine_summary(runs: Sequence[RunResult], reference: Sequence[RunResult]) -> EngineSummary:
    first = runs[0].manifest
    declared = first.settings.get("declared") or {}
    texts = declared if isinstance(declared, Mapping) else {"declared": declared}
    compared = first.engine != reference[0].manifest.engine and not _null_engine(runs)
    return EngineSummary(
        name=first.engine,
        title=first.engine_title,
        color=first.engine_color,
        version=_joined(run.manifest.engine_version for run in runs),
        launch=_joined(_launch(run.manifest) for run in runs),
        null_engine=_null_engine(runs),
        cold_start_s=_cold_start(runs),
        settings=settings_of(runs),
        declared={str(key): str(text) for key, text in texts.items()},
        weight_dtype=first.model.get("weight_dtype"),
        kv_dtype=first.model.get("kv_dtype"),
        answers=agreement(_one_per_round(runs), _one_per_round(reference)) if compared else None,
    )


def _launch(manifest: Manifest) -> str:
    image = manifest.image
    return f"{manifest.launch}, {image['name']} ({image['digest'][:19]})" if image else manifest.launch


def _cold_start(runs: Sequence[RunResult]) -> dict[str, float]:
    """Mean seconds per phase. An engine starts once a round and every run of the round repeats the times:
    without taking one run per round, a round with more load points would weigh more."""
    phases: dict[str, list[float]] = {}
    for run in _one_per_round(runs):
        for phase, seconds in run.manifest.cold_start_s.items():
            phases.setdefault(phase, []).append(seconds)
    return {phase: float(np.mean(seconds)) for phase, seconds in phases.items()}


def _one_per_round(runs: Sequence[RunResult]) -> list[RunResult]:
    return list({run.manifest.round: run for run in reversed(runs)}.values())[::-1]


def _skipped(campaign: Campaign, measured: Sequence[str]) -> dict[str, str]:
    silent = "no finished run" if campaign.finished else "interrupted before its first run was finished"
    missing = {name: silent for name in campaign.engines if name not in measured}
    return {**missing, **campaign.skipped}


def _null_engine(runs: Sequence[RunResult]) -> bool:
    return bool(runs[0].manifest.model.get("null_engine"))


def _in_order(wanted: Iterable[str], present: Iterable[str]) -> list[str]:
    """The present names: first in the wanted order, then any others by name."""
    found = set(present)
    first = [name for name in wanted if name in found]
    return first + sorted(found.difference(first))


def _joined(values: Iterable[str]) -> str:
    return " / ".join(sorted(set(values)))


def _common(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries that all tables have with the same value."""
    return {k: v for k, v in tables[0].items() if all(k in table and table[k] == v for table in tables)}

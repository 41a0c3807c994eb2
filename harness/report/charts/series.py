"""What the engines took over the time of a run, beside what the client saw: a row of panels for each series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.judge.comparison import Comparison
from harness.judge.loads import LoadSummary
from harness.records.resources import energy_source
from harness.records.run import RunResult
from harness.records.samples import Floats, Series, series_of
from harness.report.charts.frame import INK, Chart, Frame, framed, plain_number, styles

PANEL_HEIGHT = 0.95  # inches
MOST_COLUMNS = 3
BINS = 60  # of the client's series, over the run
Read = Callable[[RunResult], Series | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of panels. `of` returns None if a run does not have the series; `stepped`: it holds until it changes."""

    label: str
    of: Read
    stepped: bool = False


def _named(name: str, scale: float = 1.0) -> Read:
    def read(run: RunResult) -> Series | None:
        found = series_of(run.folder).get(name)
        return None if found is None else Series(found.t_s, found.values * scale)

    return read


def _slope(found: Series | None) -> Series | None:
    """The increase per second of a counter, at the middle of each two samples."""
    if found is None:
        return None
    apart = np.diff(found.t_s)
    known = apart > 0
    middle = (found.t_s[1:] + found.t_s[:-1])[known] / 2
    return Series(middle, np.diff(found.values)[known] / apart[known]) if known.any() else None


def _power(run: RunResult) -> Series | None:
    source = energy_source(run)
    if source is None:
        return None
    found = series_of(run.folder)[source.series]
    return _slope(found) if source.counts else found


def _bins(run: RunResult, last_s: float) -> Floats:
    return np.linspace(0.0, max(run.manifest.duration_s, last_s), BINS + 1)


def _tokens(run: RunResult) -> Series | None:
    """Output tokens per second that the client received, of all requests."""
    at, tokens = run.chunks["arrival_ns"] / 1e9, run.chunks["tokens"]
    if not at.size:
        return None
    counts, edges = np.histogram(at, bins=_bins(run, float(at.max())), weights=tokens)
    return Series((edges[1:] + edges[:-1]) / 2, counts / np.diff(edges))


def _in_flight(run: RunResult) -> Series | None:
    """Requests that were sent and had not ended, the mean over each bin: between two requests of one slot there are a
    few microseconds without one, and drawn as they are they would be all that one sees."""
    sent, done = (np.asarray(run.requests[name], dtype=np.float64) for name in ("sent_s", "done_s"))
    whole = np.isfinite(sent) & np.isfinite(done)
    sent, done = sent[whole], done[whole]
    if not sent.size:
        return None
    at = np.concatenate([sent, done])
    order = np.argsort(at, kind="stable")
    at, change = at[order], np.concatenate([np.ones(sent.size), -np.ones(done.size)])[order]
    area = np.concatenate([[0.0], np.cumsum(np.cumsum(change)[:-1] * np.diff(at))])
    edges = _bins(run, float(at[-1]))
    return Series((edges[1:] + edges[:-1]) / 2, np.diff(np.interp(edges, at, area)) / np.diff(edges))


ROWS: tuple[Row, ...] = (
    Row("tokens/s", _tokens),
    Row("in flight", _in_flight),
    Row("running,\nby the engine", _named("engine_running"), stepped=True),
    Row("waiting,\nby the engine", _named("engine_waiting"), stepped=True),
    Row("KV cache\nin use (%)", _named("engine_kv_used", 100)),
    Row("CPU cores", lambda run: _slope(series_of(run.folder).get("engine_cpu_s"))),
    Row("memory (GB)", _named("engine_rss_bytes", 1e-9)),
    Row("GPU busy (%)", _named("gpu_busy_percent")),
    Row("GPU memory\n(GB)", _named("gpu_memory_bytes", 1e-9)),
    Row("GPU clock\n(MHz)", _named("gpu_sm_clock_mhz")),
    Row("power (W)", _power),
)


def series_over_time(chart: Chart, comparison: Comparison, runs: Sequence[RunResult]) -> Figure:
    """Every series that any of the runs has, over the seconds of one run: a row for each, a column for each of up to
    three loads (the first, the middle, the last), a line for each candidate."""
    loads = _shown(comparison.loads)
    of = {load.name: _first_runs(comparison, runs, load) for load in loads}
    every = [run for mine in of.values() for run in mine]
    rows = [row for row in ROWS if any(_drawable(row.of(run)) for run in every)]
    rounds = sorted({run.manifest.round for run in every})
    one = f"round {' or '.join(map(str, rounds))} of {comparison.rounds}"
    cue = f"{one[0].upper()}{one[1:]} at each load; seconds since the start of the run"
    shape = (max(1, len(rows)), max(1, len(loads)))
    frame = Frame(chart.title, chart.above(cue), shape, PANEL_HEIGHT, gap=0.22, pooled=True, rounds=one)
    figure, panels = framed(comparison, frame)
    for i, row in enumerate(rows):
        for j, load in enumerate(loads):
            axes = panels[i * len(loads) + j]
            _panel(axes, comparison, row, of[load.name])
            _label(axes, row if j == 0 else None, load if i == 0 else None, last=i == len(rows) - 1)
    return figure


def _shown(loads: Sequence[LoadSummary]) -> list[LoadSummary]:
    if len(loads) <= MOST_COLUMNS:
        return list(loads)
    return [loads[0], loads[len(loads) // 2], loads[-1]]


def _first_runs(comparison: Comparison, runs: Sequence[RunResult], load: LoadSummary) -> list[RunResult]:
    """The first round of each candidate at this load, in the order of the report."""
    found: dict[str, RunResult] = {}
    for run in sorted(runs, key=lambda one: one.manifest.round):
        if run.manifest.load.name == load.name:
            found.setdefault(run.manifest.candidate.name, run)
    return [found[one.name] for one in comparison.candidates if one.name in found]


def _drawable(found: Series | None) -> bool:
    return found is not None and found.t_s.size > 1


def _panel(axes: Axes, comparison: Comparison, row: Row, runs: Sequence[RunResult]) -> None:
    style, top = styles(comparison), 0.0
    for run in runs:
        found = row.of(run)
        if found is not None and _drawable(found):
            manifest = run.manifest
            one, cell = style[manifest.candidate.name], comparison.cell(manifest.candidate.name, manifest.load.name)
            line = ":" if cell is not None and cell.verdict == "invalid" else one.bare
            where = "steps-post" if row.stepped else "default"
            axes.plot(found.t_s, found.values, color=one.color, linewidth=1.3, linestyle=line, drawstyle=where)
            top = max(top, float(found.values.max()))
    axes.set_xlim(0, max((run.manifest.duration_s for run in runs), default=1.0))
    axes.set_ylim(0, 1.12 * top if top > 0 else 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))


def _label(axes: Axes, row: Row | None, load: LoadSummary | None, last: bool) -> None:
    if row is not None:
        axes.set_ylabel(row.label, color=INK, fontsize=8.5)
    if load is not None:
        axes.set_title(load.name, fontsize=10, color=INK, loc="left")
    if last:
        axes.set_xlabel("seconds", color=INK, fontsize=9)
    else:
        axes.set_xticklabels([])

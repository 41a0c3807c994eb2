"""Draws each chart: functions from its entry in the table and the comparison to a Figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from harness.judge.checks.evidence import pooled
from harness.judge.comparison import Comparison
from harness.judge.loads import LoadSummary
from harness.records.latencies import ttft
from harness.records.run import RunResult
from harness.report.charts.frame import INK, Chart, Frame, Style, framed, plain_number, styles, value_axis
from harness.report.charts.labels import Named, name_points
from harness.report.charts.panel import (
    DASHED,
    Panel,
    error_bar,
    is_trace,
    load_axis,
    load_panel,
    marker_of,
    mean_of,
    measured,
    open_loop,
    span_of,
)
from harness.report.text import short_name
from harness.workload.loads import AllAtOnce, ClosedLoop

AXES_HEIGHT = 3.4  # inches
VISIBLY = 1.02  # times the TTFT from the send; a smaller difference is within the width of the line
TAILS = (99, 95, 90)  # the first of those that are known in the most cells
SCHEDULED = "dashed: from the scheduled time"


def against_load(panel: Panel, allow_log: bool) -> Callable[[Chart, Comparison, Sequence[RunResult]], Figure]:
    """A chart of one metric against the load."""

    def draw(chart: Chart, comparison: Comparison, runs: Sequence[RunResult]) -> Figure:
        figure, (axes,) = framed(comparison, Frame(chart.title, chart.above(), height=AXES_HEIGHT))
        value_axis(axes, load_panel(axes, comparison, panel), allow_log=allow_log)
        return figure

    return draw


def first_token(chart: Chart, comparison: Comparison, runs: Sequence[RunResult]) -> Figure:
    """TTFT p50 and the highest percentile that the requests suffice for (ms) against the load, one panel each; also
    from the schedule, if that differs visibly."""
    late = _sent_late(comparison)
    also = [Line2D([], [], color=INK, linewidth=1, linestyle=DASHED, marker="x", markersize=5, label=SCHEDULED)]
    q = tail(comparison)
    panels = [("p50", "median (p50)"), *([(f"p{q}", f"{q}th percentile (p{q})")] if q else [])]
    # One above the other if many loads are off the axis: side by side their names would overlap.
    apart = len(comparison.loads) - len(load_axis(comparison.loads))
    shape, height = ((1, len(panels)), AXES_HEIGHT) if apart <= 2 else ((len(panels), 1), 0.75 * AXES_HEIGHT)
    cue = chart.above(f"{chart.cue} and from when it was due" if late else "")
    cue += "; both panels have the same scale" if q else "; no higher percentile: too few requests"
    figure, drawn = framed(comparison, Frame(chart.title, cue, shape, height, also=also if late else ()))
    tops: list[float] = []
    for axes, (name, title) in zip(drawn, panels, strict=True):
        beside = f"ttft_scheduled_{name}" if late else None
        tops += load_panel(axes, comparison, Panel(f"ttft_{name}", "TTFT (ms)", 1e3, beside))
        axes.set_title(title, fontsize=10, color=INK, loc="left")
    for axes in drawn:
        value_axis(axes, tops, allow_log=True)
    return figure


def tail(comparison: Comparison) -> int | None:
    """The percentile that shows the tail of TTFT: 99, or a lower one that is known in more cells, because a high
    percentile of few requests is withheld. None if none is known."""

    def known(q: int) -> int:
        found = (cell.metrics.get(f"ttft_p{q}") for cell in comparison.cells)
        return sum(one is not None and one.mean is not None for one in found)

    best = max(TAILS, key=known)
    return best if known(best) else None


def _sent_late(comparison: Comparison) -> bool:
    """Whether the TTFT from the schedule differs visibly anywhere."""
    for cell in comparison.cells:
        for q in ("p50", "p99"):
            sent, due = (cell.metrics.get(f"{key}_{q}") for key in ("ttft", "ttft_scheduled"))
            if sent and due and sent.mean and due.mean and due.mean > VISIBLY * sent.mean:
                return True
    return False


def trade_off(chart: Chart, comparison: Comparison, runs: Sequence[RunResult]) -> Figure:
    """E2E latency p50 (ms) against output throughput, joined in the order of load, named by the load."""
    load = "rate in requests/s" if open_loop(comparison) else "concurrency"
    cue = chart.above(f"Each point is one {load} (its number), joined as load rises")
    figure, (axes,) = framed(comparison, Frame(chart.title, cue, height=3.9))
    drawn: list[Named] = []
    highs: list[float] = []
    for name, style in styles(comparison).items():
        found = _trade_off_of(axes, comparison, name, style)
        drawn += found
        highs += [top for one in found for top in (one.y_span[1], one.y)]
    value_axis(axes, highs, allow_log=True)
    axes.set_xlim(0, 1.1 * max((one.x_span[1] for one in drawn), default=1.0))
    axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.set_xlabel("output tokens per second", color=INK, fontsize=10)
    axes.set_ylabel("E2E latency p50 (ms)", color=INK, fontsize=10)
    name_points(axes, drawn)
    return figure


def _trade_off_of(axes: Axes, comparison: Comparison, name: str, style: Style) -> list[Named]:
    """Draws the line of one candidate; returns its points, whose names are written later."""
    x_key, y_key = "output_throughput", "e2e_p50"
    on_axis = load_axis(comparison.loads)
    cells = measured(comparison, name, x_key, y_key)
    line = [cell for load, cell in cells if load.name in on_axis]
    axes.plot(
        [mean_of(cell, x_key) for cell in line],
        [mean_of(cell, y_key) * 1e3 for cell in line],
        color=style.color,
        linewidth=1.6,
        linestyle=style.line,
        zorder=2,
    )
    drawn = []
    for load, cell in cells:
        x, y = mean_of(cell, x_key), mean_of(cell, y_key) * 1e3
        bars = error_bar(cell.metrics[x_key], 1.0), error_bar(cell.metrics[y_key], 1e3)
        axes.errorbar(x, y, xerr=bars[0], yerr=bars[1], **marker_of(style, cell))
        spans = (span_of(cell.metrics[x_key], 1.0), span_of(cell.metrics[y_key], 1e3))
        drawn.append(Named(x, y, *spans, short_name(load), style.color))
    return drawn


def first_token_distribution(chart: Chart, comparison: Comparison, runs: Sequence[RunResult]) -> Figure:
    """Share of requests whose first token had arrived after t ms: a panel per load, rounds pooled."""
    loads = comparison.loads
    columns = min(3, len(loads))
    shape = (-(-len(loads) // columns), columns)
    figure, panels = framed(comparison, Frame(chart.title, chart.above(), shape, 2.3, pooled=True))
    for axes, load in zip(panels, loads, strict=False):
        end = max((_share(axes, comparison, runs, load, name) for name in styles(comparison)), default=0.0)
        axes.set_xlim(0, 1.05 * (end or 1.0))
        axes.set_ylim(0, 102)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_title(_panel_title(load), fontsize=10, color=INK, loc="left")
        axes.set_xlabel("TTFT (ms)", color=INK, fontsize=9.5)
    for axes in panels[::columns]:
        axes.set_ylabel("requests (%)", color=INK, fontsize=9.5)
    for axes in panels[len(loads) :]:
        axes.set_visible(False)
    return figure


def _share(axes: Axes, comparison: Comparison, runs: Sequence[RunResult], load: LoadSummary, name: str) -> float:
    """Draws the line of one candidate; returns its largest TTFT in ms, 0 if nothing was drawn."""
    cell = comparison.cell(name, load.name)
    mine = [run for run in runs if (run.manifest.candidate.name, run.manifest.load.name) == (name, load.name)]
    values = np.sort(pooled(mine, ttft)) * 1e3 if mine else np.empty(0)
    if cell is None or not values.size:
        return 0.0
    style = styles(comparison)[name]
    share = np.arange(1, values.size + 1) / values.size
    axes.step(
        np.concatenate([[0.0], values]),
        np.concatenate([[0.0], share]) * 100,
        where="post",
        color=style.color,
        linewidth=1.7,
        linestyle=":" if cell.verdict == "invalid" else style.bare,
    )
    return float(values[-1])


def _panel_title(load: LoadSummary) -> str:
    if isinstance(load.load, ClosedLoop) and load.name == f"c{load.load.concurrency}":
        return f"concurrency {load.load.concurrency}"
    if isinstance(load.load, AllAtOnce):
        return "offline batch"
    if load.rate is not None and not is_trace(load) and not load.variant:
        return f"{load.rate:g} requests/s"
    return load.name

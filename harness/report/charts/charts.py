"""The charts: each a function from the comparison to a Figure, and one that writes them all."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.judge.checks.evidence import pooled
from harness.judge.comparison import Comparison
from harness.judge.loads import LoadSummary
from harness.records.metrics import ttft
from harness.records.run import RunResult
from harness.report.charts.frame import INK, framed, styles, value_axis
from harness.report.charts.labels import Named, name_points
from harness.report.charts.panel import (
    DASHED,
    error_bar,
    load_axis,
    load_panel,
    marker_of,
    mean_of,
    measured,
    open_loop,
    span_of,
    top_of,
)
from harness.report.text import short_name

PNG_DPI = 160
AXES_HEIGHT = 3.4  # inches
VISIBLY = 1.02  # times the TTFT from the send: less is the width of the line
SCHEDULED = "dashed: from the scheduled time"
LOWER, HIGHER = "lower is better", "higher is better"


def throughput(comparison: Comparison) -> Figure:
    """Output throughput (tokens/s, linear from 0) against the load."""
    title = "How many tokens each engine generates per second"
    cue = f"Output throughput over the measured window; {HIGHER}"
    figure, (axes,) = framed(comparison, title, cue, height=AXES_HEIGHT)
    value_axis(axes, load_panel(axes, comparison, "output_throughput", 1.0, "output tokens per second"))
    return figure


def first_token(comparison: Comparison) -> Figure:
    """TTFT p50 and p99 (ms) against the load, a panel each; from the schedule too where that differs."""
    title = "How long until the first token"
    late = _sent_late(comparison)
    since = "from sending the request" + (" and from when it was due" if late else "")
    cue = f"Time to first token (TTFT), {since}; {LOWER}; both panels have one scale"
    also = [Line2D([], [], color=INK, linewidth=1, linestyle=DASHED, marker="x", markersize=5, label=SCHEDULED)]
    # Side by side, the names of many loads beside the axis would run into each other.
    apart = len(comparison.loads) - len(load_axis(comparison.loads))
    shape, height = ((1, 2), AXES_HEIGHT) if apart <= 2 else ((2, 1), 0.75 * AXES_HEIGHT)
    figure, (left, right) = framed(comparison, title, cue, shape, height, also=also if late else ())
    tops: list[float] = []
    for axes, q, name in ((left, "p50", "median (p50)"), (right, "p99", "99th percentile (p99)")):
        beside = f"ttft_scheduled_{q}" if late else None
        tops += load_panel(axes, comparison, f"ttft_{q}", 1e3, "TTFT (ms)", dashed=beside)
        axes.set_title(name, fontsize=10, color=INK, loc="left")
    for axes in (left, right):
        value_axis(axes, tops, allow_log=True)
    return figure


def _sent_late(comparison: Comparison) -> bool:
    """Whether the TTFT from the schedule differs anywhere so that a reader could see it."""
    for cell in comparison.cells:
        for q in ("p50", "p99"):
            sent, due = (cell.metrics.get(f"{key}_{q}") for key in ("ttft", "ttft_scheduled"))
            if sent and due and sent.mean and due.mean and due.mean > VISIBLY * sent.mean:
                return True
    return False


def per_token(comparison: Comparison) -> Figure:
    """TPOT p50 (ms) against the load."""
    title = "How long each further token takes"
    cue = f"Time per output token (TPOT) after the first, median; {LOWER}"
    figure, (axes,) = framed(comparison, title, cue, height=AXES_HEIGHT)
    value_axis(axes, load_panel(axes, comparison, "tpot_p50", 1e3, "TPOT p50 (ms)"), allow_log=True)
    return figure


def trade_off(comparison: Comparison) -> Figure:
    """E2E latency p50 (ms) against output throughput, joined in the order of load, named by the load."""
    title = "What more throughput costs in latency"
    load = "rate in requests/s" if open_loop(comparison) else "concurrency"
    cue = f"Each point is one {load} (its number), joined as load rises; lower right is better"
    on_axis = load_axis(comparison.loads)
    figure, (axes,) = framed(comparison, title, cue, height=3.9)
    x_key, y_key = "output_throughput", "e2e_p50"
    drawn: list[Named] = []
    highs: list[float] = []
    for name, style in styles(comparison).items():
        cells = measured(comparison, name, x_key, y_key)
        line = [cell for point, cell in cells if point.name in on_axis]
        axes.plot(
            [mean_of(cell, x_key) for cell in line],
            [mean_of(cell, y_key) * 1e3 for cell in line],
            color=style.color,
            linewidth=1.6,
            zorder=2,
        )
        for point, cell in cells:
            x, y = mean_of(cell, x_key), mean_of(cell, y_key) * 1e3
            axes.errorbar(
                x,
                y,
                xerr=error_bar(cell.metrics[x_key], 1.0),
                yerr=error_bar(cell.metrics[y_key], 1e3),
                **marker_of(style, cell),
            )
            spans = (span_of(cell.metrics[x_key], 1.0), span_of(cell.metrics[y_key], 1e3))
            drawn.append(Named(x, y, *spans, short_name(point), style.color))
            highs += [top_of(cell.metrics[y_key]) * 1e3, y]
    value_axis(axes, highs, allow_log=True)
    axes.set_xlim(0, 1.1 * max((one.x_span[1] for one in drawn), default=1.0))
    axes.set_xlabel("output tokens per second", color=INK, fontsize=10)
    axes.set_ylabel("E2E latency p50 (ms)", color=INK, fontsize=10)
    name_points(axes, drawn)
    return figure


def first_token_distribution(comparison: Comparison, runs: Sequence[RunResult]) -> Figure:
    """Share of requests whose first token had arrived after t ms: a panel per load, rounds pooled."""
    points = comparison.loads
    columns = min(3, len(points))
    title = "How the time to first token is spread over requests"
    cue = (
        "Share of requests that had their first token by then, all rounds pooled; further left is better; "
        "each panel has its own time axis"
    )
    figure, panels = framed(comparison, title, cue, (-(-len(points) // columns), columns), 2.3, pooled=True)
    for axes, point in zip(panels, points, strict=False):
        end = 0.0
        for name, style in styles(comparison).items():
            cell = comparison.cell(name, point.name)
            mine = [r for r in runs if (r.manifest.candidate.name, r.manifest.load.name) == (name, point.name)]
            values = np.sort(pooled(mine, ttft)) * 1e3 if mine else np.empty(0)
            if cell is None or not values.size:
                continue
            share = np.arange(1, values.size + 1) / values.size
            dashes = ":" if cell.verdict == "invalid" else "-"
            axes.step(
                np.concatenate([[0.0], values]),
                np.concatenate([[0.0], share]) * 100,
                where="post",
                color=style.color,
                linewidth=1.7,
                linestyle=dashes,
            )
            end = max(end, float(values[-1]))
        axes.set_xlim(0, 1.05 * (end or 1.0))
        axes.set_ylim(0, 102)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_title(_panel_title(point), fontsize=10, color=INK, loc="left")
        axes.set_xlabel("TTFT (ms)", color=INK, fontsize=9.5)
    for axes in panels[::columns]:
        axes.set_ylabel("requests (%)", color=INK, fontsize=9.5)
    for axes in panels[len(points) :]:
        axes.set_visible(False)
    return figure


def _panel_title(point: LoadSummary) -> str:
    if point.kind == "closed" and point.name == f"c{point.concurrency}":
        return f"concurrency {point.concurrency}"
    if point.kind == "offline":
        return "offline batch"
    if point.kind == "open" and not point.variant:
        return f"{point.rate:g} requests/s"
    return point.name


CHARTS: tuple[tuple[str, Callable[[Comparison], Figure]], ...] = (
    ("throughput", throughput),
    ("ttft", first_token),
    ("tpot", per_token),
    ("latency-vs-throughput", trade_off),
)
DISTRIBUTION = "ttft-distribution"
RATE = "-rate"  # ends the names of the charts against the offered rate


def parts_of(comparison: Comparison) -> list[tuple[str, Comparison]]:
    """The comparison by what its charts have on their axis: the end of their names, and the loads that
    belong there. "" is the concurrency, "-rate" the offered rate; what has no load is left out."""
    parts = []
    for ending in ("", RATE):
        points = tuple(point for point in comparison.loads if point.open_loop == (ending == RATE))
        names = {point.name for point in points}
        cells = tuple(cell for cell in comparison.cells if cell.load in names)
        if points:
            parts.append((ending, replace(comparison, loads=points, cells=cells)))
    return parts


def chart_names(comparison: Comparison) -> list[str]:
    """The charts that a comparison has, in the order in which they are shown."""
    return [f"{name}{ending}" for ending, _ in parts_of(comparison) for name in (*dict(CHARTS), DISTRIBUTION)]


def write_charts(comparison: Comparison, runs: Sequence[RunResult], folder: Path) -> list[Path]:
    """Writes each chart as SVG and PNG into `folder`, the same bytes for the same records."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for ending, part in parts_of(comparison):
        figures += [(f"{name}{ending}", draw(part)) for name, draw in CHARTS]
        figures.append((f"{DISTRIBUTION}{ending}", first_token_distribution(part, runs)))
    return [path for name, figure in figures for path in _save(figure, folder / name)]


def _save(figure: Figure, stem: Path) -> list[Path]:
    paths = []
    # Without a fixed salt and date, rendering the same results twice would give other bytes. Text stays text:
    # readable by screen readers and searches, and a tenth of the size.
    with matplotlib.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "none"}):
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], dpi=PNG_DPI, metadata=metadata)
            path = stem.with_suffix(suffix)
            part = path.with_name(path.name + ".part")
            part.write_bytes(buffer.getvalue())
            part.replace(path)
            paths.append(path)
    return paths

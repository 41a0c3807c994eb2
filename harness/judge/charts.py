"""The charts: each a function from the comparison to a Figure, and one that writes them all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from harness.judge.comparison import Cell, Comparison, LoadPointSummary
from harness.judge.evidence import pooled
from harness.judge.frame import INK, PAPER, Style, category_ticks, framed, styles, value_axis
from harness.judge.metrics import ttft
from harness.judge.stats import Estimate
from harness.judge.text import short_name
from harness.records import RunResult

PNG_DPI = 160
AXES_HEIGHT = 3.4  # inches
OFFLINE_GAP, OFFLINE_SHARE = 1.15, 0.2  # least room left of the batch: doublings, share of the axis
VISIBLY = 1.02  # times the TTFT from the send: less is the width of the line
DASHED = (0, (4, 2))
SCHEDULED = "dashed: from the scheduled time"
OFFERED = "offered rate (requests per second)"
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
    apart = len(comparison.load_points) - len(load_axis(comparison.load_points))
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
    load = "rate in requests/s" if _open_loop(comparison) else "concurrency"
    cue = f"Each point is one {load} (its number), joined as load rises; lower right is better"
    on_axis = load_axis(comparison.load_points)
    figure, (axes,) = framed(comparison, title, cue, height=3.9)
    x_key, y_key = "output_throughput", "e2e_p50"
    drawn: list[Named] = []
    highs: list[float] = []
    for name, style in styles(comparison).items():
        cells = _measured(comparison, name, x_key, y_key)
        line = [cell for point, cell in cells if point.name in on_axis]
        axes.plot(
            [_mean(cell, x_key) for cell in line],
            [_mean(cell, y_key) * 1e3 for cell in line],
            color=style.color,
            linewidth=1.6,
            zorder=2,
        )
        for point, cell in cells:
            x, y = _mean(cell, x_key), _mean(cell, y_key) * 1e3
            axes.errorbar(
                x,
                y,
                xerr=_bar(cell.metrics[x_key], 1.0),
                yerr=_bar(cell.metrics[y_key], 1e3),
                **_point(style, cell),
            )
            spans = (_span(cell.metrics[x_key], 1.0), _span(cell.metrics[y_key], 1e3))
            drawn.append(Named(x, y, *spans, short_name(point), style.color))
            highs += [_top(cell.metrics[y_key]) * 1e3, y]
    value_axis(axes, highs, allow_log=True)
    axes.set_xlim(0, 1.1 * max((one.x_span[1] for one in drawn), default=1.0))
    axes.set_xlabel("output tokens per second", color=INK, fontsize=10)
    axes.set_ylabel("E2E latency p50 (ms)", color=INK, fontsize=10)
    _label_points(axes, drawn)
    return figure


def first_token_distribution(comparison: Comparison, runs: Sequence[RunResult]) -> Figure:
    """Share of requests whose first token had arrived after t ms: a panel per load point, rounds pooled."""
    points = comparison.load_points
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
            mine = [r for r in runs if (r.manifest.engine, r.manifest.load_point) == (name, point.name)]
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


def _panel_title(point: LoadPointSummary) -> str:
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
    """The comparison by what its charts have on their axis: the end of their names, and the load points that
    belong there. "" is the concurrency, "-rate" the offered rate; what has no load point is left out."""
    parts = []
    for ending in ("", RATE):
        points = tuple(point for point in comparison.load_points if point.open_loop == (ending == RATE))
        names = {point.name for point in points}
        cells = tuple(cell for cell in comparison.cells if cell.load_point in names)
        if points:
            parts.append((ending, replace(comparison, load_points=points, cells=cells)))
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


def load_panel(
    axes: Axes,
    comparison: Comparison,
    key: str,
    scale: float,
    label: str,
    dashed: str | None = None,
) -> list[float]:
    """One metric against the load (log2); what has no place on that axis is a category of its own on the
    right. `dashed` is a second metric, drawn beside the first without its error bars. Returns the highest
    values drawn, which the value axis is still to be fitted to."""
    positions = load_positions(comparison.load_points)
    on_axis = load_axis(comparison.load_points)
    tops: list[float] = []

    # A category has no neighbour to be mistaken for: engines stand further apart there.
    def place(point: LoadPointSummary, style: Style) -> float:
        return positions[point.name] + style.offset * (1 if point.name in on_axis else 2.2)

    for name, style in styles(comparison).items():
        cells = _measured(comparison, name, key)
        line = [(p, cell) for p, cell in cells if p.name in on_axis]
        axes.plot(
            [place(p, style) for p, _ in line],
            [_mean(cell, key) * scale for _, cell in line],
            color=style.color,
            linewidth=1.6,
            zorder=2,
        )
        for point, cell in cells:
            y = _mean(cell, key) * scale
            axes.errorbar(place(point, style), y, yerr=_bar(cell.metrics[key], scale), **_point(style, cell))
            tops += [_top(cell.metrics[key]) * scale, y]
        if dashed:
            tops += _dashed(axes, _measured(comparison, name, dashed), dashed, scale, on_axis, style, place)
    places = [positions[p.name] for p in comparison.load_points]
    category_ticks(axes, places, [_tick_name(p) for p in comparison.load_points])
    axes.set_xlim(min(places) - 0.5, max(places) + 0.5)
    axes.grid(False, axis="x")
    _set_apart(axes, comparison, positions, on_axis)
    axes.set_ylabel(label, color=INK, fontsize=10)
    return tops


def _dashed(
    axes: Axes,
    cells: Sequence[tuple[LoadPointSummary, Cell]],
    key: str,
    scale: float,
    on_axis: Mapping[str, float],
    style: Style,
    place: Callable[[LoadPointSummary, Style], float],
) -> list[float]:
    """The second metric of one engine: a thin dashed line and small crosses. Returns the values drawn."""
    for joined in (True, False):
        mine = [(p, cell) for p, cell in cells if (p.name in on_axis) == joined]
        axes.plot(
            [place(p, style) for p, _ in mine],
            [_mean(cell, key) * scale for _, cell in mine],
            color=style.color,
            linewidth=1,
            linestyle=DASHED if joined else "none",
            marker="x",
            markersize=5,
            zorder=2.5,
        )
    return [_mean(cell, key) * scale for _, cell in cells]


def load_axis(points: Sequence[LoadPointSummary]) -> dict[str, float]:
    """Load point -> its value on the axis: the concurrency of the closed loops, or the rate of the open loops
    with Poisson arrivals (where none is, that arrive like the first of them). Without the others: a line
    through them would join what differs in more than the load. Of two with one value the first."""
    closed = [p for p in points if p.kind == "closed" and p.concurrency is not None]
    loops = closed or [p for p in points if p.kind == "open" and p.rate is not None]
    variant = min((p.variant for p in loops), key=bool, default="")
    placed: dict[str, float] = {}
    for point in loops:
        value = float(point.concurrency or 0) if closed else point.rate or 0.0
        if value > 0 and value not in placed.values() and point.variant == variant:
            placed[point.name] = value
    return placed


def load_positions(points: Sequence[LoadPointSummary]) -> dict[str, float]:
    """Load point -> x: the binary logarithm of its value on the axis; all others to the right of them."""
    placed = {name: float(np.log2(value)) for name, value in load_axis(points).items()}
    low, high = min(placed.values(), default=0.0), max(placed.values(), default=0.0)
    gap = max(OFFLINE_GAP, OFFLINE_SHARE * (high - low))
    others = [p.name for p in points if p.name not in placed]
    return placed | {name: high + gap * (i + 1) for i, name in enumerate(others)}


def _tick_name(point: LoadPointSummary) -> str:
    if point.kind == "offline":
        return f"offline\n{point.requests} at once"
    if point.kind == "batches":
        return f"batches\nof {point.in_flight}"
    if point.kind == "trace":
        return f"{point.name}\n({point.rate:.3g})" if point.rate else point.name
    if point.variant:
        lines = point.variant.split(", ")
        return "\n".join(lines if " to " in lines[0] else [f"{point.rate:g}", *lines])
    return short_name(point)


def _open_loop(comparison: Comparison) -> bool:
    return comparison.load_points[0].open_loop


def _set_apart(
    axes: Axes, comparison: Comparison, positions: Mapping[str, float], on_axis: Mapping[str, float]
) -> None:
    """Names the axis under its own ticks and draws a border where it ends."""
    placed = [x for name, x in positions.items() if name in on_axis]
    others = [x for name, x in positions.items() if name not in on_axis]
    if not placed:
        if _open_loop(comparison):
            axes.set_xlabel(OFFERED, color=INK, fontsize=9.5)
        return
    if others:
        border = (max(placed) + min(others)) / 2
        axes.axvline(border, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
    label = OFFERED if _open_loop(comparison) else "concurrency (requests in flight)"
    axes.set_xlabel(label, color=INK, fontsize=9.5)
    low, high = axes.get_xlim()
    axes.xaxis.set_label_coords(((min(placed) + max(placed)) / 2 - low) / (high - low), -0.36 / _height(axes))


def _height(axes: Axes) -> float:
    """Inches."""
    return float(axes.bbox.height / axes.figure.dpi)


def _measured(comparison: Comparison, engine: str, *keys: str) -> list[tuple[LoadPointSummary, Cell]]:
    """The cells of an engine that have every one of these metrics, in the order of load."""
    on_axis = load_axis(comparison.load_points)
    ordered = sorted(comparison.load_points, key=lambda p: (p.name not in on_axis, on_axis.get(p.name, p.in_flight)))
    found = ((point, comparison.cell(engine, point.name)) for point in ordered)
    return [
        (point, cell)
        for point, cell in found
        if cell is not None and all(key in cell.metrics and cell.metrics[key].mean is not None for key in keys)
    ]


def _mean(cell: Cell, key: str) -> float:
    mean = cell.metrics[key].mean
    assert mean is not None  # _measured left the others out
    return mean


def _top(estimate: Estimate) -> float:
    return estimate.high if estimate.high is not None else estimate.mean or 0.0


def _span(estimate: Estimate, scale: float) -> tuple[float, float]:
    """Where the error bar goes from and to; the point itself without one."""
    mean = (estimate.mean or 0.0) * scale
    low = mean if estimate.low is None else max(estimate.low, 0.0) * scale
    return low, mean if estimate.high is None else estimate.high * scale


def _bar(estimate: Estimate, scale: float) -> Any:
    """Lengths below and above the mean, shape (2, 1); null without an interval. No bar goes below 0:
    neither a latency nor a rate can."""
    if estimate.mean is None or estimate.low is None or estimate.high is None:
        return None
    below, above = estimate.mean - max(estimate.low, 0.0), estimate.high - estimate.mean
    return [[below * scale], [above * scale]]


def _point(style: Style, cell: Cell) -> dict[str, Any]:
    return {
        "fmt": style.marker,
        "markersize": 6.5,
        "color": style.color,
        "markerfacecolor": PAPER if cell.verdict == "invalid" else style.color,
        "markeredgewidth": 1.5,
        "elinewidth": 1.3,
        "capsize": 3,
        "zorder": 3,
    }


@dataclass(frozen=True, slots=True)
class Named:
    """A drawn point with its error bars (data units) and the name to write beside it."""

    x: float
    y: float
    x_span: tuple[float, float]
    y_span: tuple[float, float]
    name: str
    color: str


Box = tuple[float, float, float, float]  # left, bottom, right, top in points


def _label_points(axes: Axes, drawn: Sequence[Named]) -> None:
    """Names each point where no other point, bar or name is yet; in points, once the limits are fixed."""
    per_point = axes.figure.dpi / 72

    def place(x: float, y: float) -> tuple[float, float]:
        left, bottom = axes.transData.transform((x, y)) / per_point
        return float(left), float(bottom)

    taken: list[Box] = []
    for one in drawn:
        (x, y), low = place(one.x, one.y), place(one.x_span[0], one.y_span[0])
        high = place(one.x_span[1], one.y_span[1])
        taken += [(x - 4, y - 4, x + 4, y + 4), (low[0], y - 3, high[0], y + 3), (x - 3, low[1], x + 3, high[1])]
    for one in drawn:
        x, y = place(one.x, one.y)
        boxes = list(_around(x, y, 6.2 * len(one.name), 9.0))
        box = min(boxes, key=lambda b: (sum(_overlap(b, other) for other in taken), boxes.index(b)))
        taken.append(box)
        text = axes.annotate(
            one.name,
            (one.x, one.y),
            xytext=((box[0] + box[2]) / 2 - x, box[1] - y),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
            color=one.color,
            fontweight="bold",
            annotation_clip=False,
        )
        text.set_path_effects([withStroke(linewidth=2.5, foreground=PAPER)])


def _around(x: float, y: float, width: float, height: float) -> Iterator[Box]:
    """Places for a name of this size, the nearest to the point first."""
    for gap in (6.0, 14.0, 22.0, 30.0):
        for dx, dy in ((0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0)):
            left = x - width / 2 + dx * (width / 2 + gap)
            bottom = y - height / 2 + dy * (height / 2 + gap * (1 if dx == 0 else 0.6))
            yield left, bottom, left + width, bottom + height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

"""One metric against the load: the axis of loads, and how a cell is drawn on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from harness.judge.comparison import Cell, Comparison
from harness.judge.loads import LoadSummary
from harness.judge.stats import Estimate
from harness.report.charts.frame import INK, PAPER, Style, category_ticks, styles
from harness.report.text import short_name

OFFLINE_GAP, OFFLINE_SHARE = 1.15, 0.2  # least room left of the batch: doublings, share of the axis
DASHED = (0, (4, 2))
OFFERED = "offered rate (requests per second)"


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
    positions = load_positions(comparison.loads)
    on_axis = load_axis(comparison.loads)
    tops: list[float] = []

    # A category has no neighbour to be mistaken for: engines stand further apart there.
    def place(point: LoadSummary, style: Style) -> float:
        return positions[point.name] + style.offset * (1 if point.name in on_axis else 2.2)

    for name, style in styles(comparison).items():
        cells = measured(comparison, name, key)
        line = [(p, cell) for p, cell in cells if p.name in on_axis]
        axes.plot(
            [place(p, style) for p, _ in line],
            [mean_of(cell, key) * scale for _, cell in line],
            color=style.color,
            linewidth=1.6,
            zorder=2,
        )
        for point, cell in cells:
            y = mean_of(cell, key) * scale
            axes.errorbar(place(point, style), y, yerr=error_bar(cell.metrics[key], scale), **marker_of(style, cell))
            tops += [top_of(cell.metrics[key]) * scale, y]
        if dashed:
            tops += _dashed(axes, measured(comparison, name, dashed), dashed, scale, on_axis, style, place)
    places = [positions[p.name] for p in comparison.loads]
    category_ticks(axes, places, [_tick_name(p) for p in comparison.loads])
    axes.set_xlim(min(places) - 0.5, max(places) + 0.5)
    axes.grid(False, axis="x")
    _set_apart(axes, comparison, positions, on_axis)
    axes.set_ylabel(label, color=INK, fontsize=10)
    return tops


def _dashed(
    axes: Axes,
    cells: Sequence[tuple[LoadSummary, Cell]],
    key: str,
    scale: float,
    on_axis: Mapping[str, float],
    style: Style,
    place: Callable[[LoadSummary, Style], float],
) -> list[float]:
    """The second metric of one engine: a thin dashed line and small crosses. Returns the values drawn."""
    for joined in (True, False):
        mine = [(p, cell) for p, cell in cells if (p.name in on_axis) == joined]
        axes.plot(
            [place(p, style) for p, _ in mine],
            [mean_of(cell, key) * scale for _, cell in mine],
            color=style.color,
            linewidth=1,
            linestyle=DASHED if joined else "none",
            marker="x",
            markersize=5,
            zorder=2.5,
        )
    return [mean_of(cell, key) * scale for _, cell in cells]


def load_axis(points: Sequence[LoadSummary]) -> dict[str, float]:
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


def load_positions(points: Sequence[LoadSummary]) -> dict[str, float]:
    """Load point -> x: the binary logarithm of its value on the axis; all others to the right of them."""
    placed = {name: float(np.log2(value)) for name, value in load_axis(points).items()}
    low, high = min(placed.values(), default=0.0), max(placed.values(), default=0.0)
    gap = max(OFFLINE_GAP, OFFLINE_SHARE * (high - low))
    others = [p.name for p in points if p.name not in placed]
    return placed | {name: high + gap * (i + 1) for i, name in enumerate(others)}


def _tick_name(point: LoadSummary) -> str:
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


def open_loop(comparison: Comparison) -> bool:
    return comparison.loads[0].open_loop


def _set_apart(
    axes: Axes, comparison: Comparison, positions: Mapping[str, float], on_axis: Mapping[str, float]
) -> None:
    """Names the axis under its own ticks and draws a border where it ends."""
    placed = [x for name, x in positions.items() if name in on_axis]
    others = [x for name, x in positions.items() if name not in on_axis]
    if not placed:
        if open_loop(comparison):
            axes.set_xlabel(OFFERED, color=INK, fontsize=9.5)
        return
    if others:
        border = (max(placed) + min(others)) / 2
        axes.axvline(border, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
    label = OFFERED if open_loop(comparison) else "concurrency (requests in flight)"
    axes.set_xlabel(label, color=INK, fontsize=9.5)
    low, high = axes.get_xlim()
    axes.xaxis.set_label_coords(((min(placed) + max(placed)) / 2 - low) / (high - low), -0.36 / _height(axes))


def _height(axes: Axes) -> float:
    """Inches."""
    return float(axes.bbox.height / axes.figure.dpi)


def measured(comparison: Comparison, engine: str, *keys: str) -> list[tuple[LoadSummary, Cell]]:
    """The cells of an engine that have every one of these metrics, in the order of load."""
    on_axis = load_axis(comparison.loads)
    ordered = sorted(comparison.loads, key=lambda p: (p.name not in on_axis, on_axis.get(p.name, p.in_flight)))
    found = ((point, comparison.cell(engine, point.name)) for point in ordered)
    return [
        (point, cell)
        for point, cell in found
        if cell is not None and all(key in cell.metrics and cell.metrics[key].mean is not None for key in keys)
    ]


def mean_of(cell: Cell, key: str) -> float:
    mean = cell.metrics[key].mean
    assert mean is not None  # measured left the others out
    return mean


def top_of(estimate: Estimate) -> float:
    return estimate.high if estimate.high is not None else estimate.mean or 0.0


def span_of(estimate: Estimate, scale: float) -> tuple[float, float]:
    """Where the error bar goes from and to; the point itself without one."""
    mean = (estimate.mean or 0.0) * scale
    low = mean if estimate.low is None else max(estimate.low, 0.0) * scale
    return low, mean if estimate.high is None else estimate.high * scale


def error_bar(estimate: Estimate, scale: float) -> Any:
    """Lengths below and above the mean, shape (2, 1); null without an interval. No bar goes below 0:
    neither a latency nor a rate can."""
    if estimate.mean is None or estimate.low is None or estimate.high is None:
        return None
    below, above = estimate.mean - max(estimate.low, 0.0), estimate.high - estimate.mean
    return [[below * scale], [above * scale]]


def marker_of(style: Style, cell: Cell) -> dict[str, Any]:
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

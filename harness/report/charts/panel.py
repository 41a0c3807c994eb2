"""One metric against the load: the axis of loads, and how a cell is drawn on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from harness.judge.comparison import Cell, Comparison
from harness.judge.loads import LoadSummary
from harness.judge.stats import Estimate
from harness.report.charts.frame import INK, PAPER, Style, category_ticks, styles
from harness.report.text import short_name
from harness.workload.loads import AllAtOnce, Batches, ClosedLoop, OpenLoop

OFFLINE_GAP, OFFLINE_SHARE = 1.15, 0.2  # minimum gap left of the offline batch: in doublings, as a share of the axis
DASHED = (0, (4, 2))
OFFERED = "offered rate (requests per second)"


@dataclass(frozen=True, slots=True)
class Panel:
    """One metric against the load. `dashed` is a second metric, drawn beside the first without its error bars."""

    key: str
    label: str
    scale: float = 1.0
    dashed: str | None = None


def load_panel(axes: Axes, comparison: Comparison, panel: Panel) -> list[float]:
    """Draws one metric against the load (log2); a load without a place on that axis is a category on the right.
    Returns the highest values drawn, so that the value axis can be fitted to them."""
    positions = load_positions(comparison.loads)
    on_axis = load_axis(comparison.loads)
    key, scale = panel.key, panel.scale
    tops: list[float] = []

    # A category has room on both sides, so its candidates are drawn further apart.
    def place(load: LoadSummary, style: Style) -> float:
        return positions[load.name] + style.offset * (1 if load.name in on_axis else 2.2)

    for name, style in styles(comparison).items():
        cells = measured(comparison, name, key)
        line = [(load, cell) for load, cell in cells if load.name in on_axis]
        axes.plot(
            [place(load, style) for load, _ in line],
            [mean_of(cell, key) * scale for _, cell in line],
            color=style.color,
            linewidth=1.6,
            linestyle=style.line,
            zorder=2,
        )
        for load, cell in cells:
            y = mean_of(cell, key) * scale
            axes.errorbar(place(load, style), y, yerr=error_bar(cell.metrics[key], scale), **marker_of(style, cell))
            tops += [top_of(cell.metrics[key]) * scale, y]
        if panel.dashed:
            for joined in (True, False):
                beside = measured(comparison, name, panel.dashed)
                mine = [(place(load, style), cell) for load, cell in beside if (load.name in on_axis) == joined]
                tops += _dashed(axes, mine, panel, style.color, joined)
    places = [positions[load.name] for load in comparison.loads]
    category_ticks(axes, places, [_tick_name(load) for load in comparison.loads])
    axes.set_xlim(min(places) - 0.5, max(places) + 0.5)
    axes.grid(False, axis="x")
    _set_apart(axes, comparison, positions, on_axis)
    axes.set_ylabel(panel.label, color=INK, fontsize=10)
    return tops


def _dashed(axes: Axes, cells: Sequence[tuple[float, Cell]], panel: Panel, color: str, joined: bool) -> list[float]:
    """Draws the second metric of one candidate: a thin dashed line and small crosses. Returns the values drawn."""
    values = [mean_of(cell, panel.dashed or "") * panel.scale for _, cell in cells]
    axes.plot(
        [x for x, _ in cells],
        values,
        color=color,
        linewidth=1,
        linestyle=DASHED if joined else "none",
        marker="x",
        markersize=5,
        zorder=2.5,
    )
    return values


def load_axis(loads: Sequence[LoadSummary]) -> dict[str, float]:
    """Load -> its value on the axis: the concurrency of closed loops, or the rate of open loops with Poisson arrivals
    (if there are none, with the arrivals of the first). Others are left out: a line through them would join loads that
    differ in more than the axis shows. If two loads have the same value, the first."""
    closed = [(load, float(load.load.concurrency)) for load in loads if isinstance(load.load, ClosedLoop)]
    rated = [(load, load.rate) for load in loads if load.rate is not None and not is_trace(load)]
    found = closed or rated
    variant = min((load.variant for load, _ in found), key=bool, default="")
    placed: dict[str, float] = {}
    for load, value in found:
        if value > 0 and value not in placed.values() and load.variant == variant:
            placed[load.name] = value
    return placed


def is_trace(load: LoadSummary) -> bool:
    """Whether the load is sent at the times of a trace."""
    return isinstance(load.load, OpenLoop) and load.load.arrivals == "trace"


def load_positions(loads: Sequence[LoadSummary]) -> dict[str, float]:
    """Load -> x: the binary logarithm of its value on the axis; loads off the axis follow on the right."""
    placed = {name: float(np.log2(value)) for name, value in load_axis(loads).items()}
    low, high = min(placed.values(), default=0.0), max(placed.values(), default=0.0)
    gap = max(OFFLINE_GAP, OFFLINE_SHARE * (high - low))
    others = [load.name for load in loads if load.name not in placed]
    return placed | {name: high + gap * (i + 1) for i, name in enumerate(others)}


def _tick_name(load: LoadSummary) -> str:
    if isinstance(load.load, AllAtOnce):
        return f"offline\n{load.requests} at once"
    if isinstance(load.load, Batches):
        return f"batches\nof {load.in_flight}"
    if is_trace(load):
        return f"{load.name}\n({load.rate:.3g})" if load.rate else load.name
    if load.variant:
        lines = load.variant.split(", ")
        return "\n".join(lines if " to " in lines[0] else [f"{load.rate:g}", *lines])
    return short_name(load)


def open_loop(comparison: Comparison) -> bool:
    return comparison.loads[0].open_loop


def _set_apart(
    axes: Axes, comparison: Comparison, positions: Mapping[str, float], on_axis: Mapping[str, float]
) -> None:
    """Labels the axis under its own ticks and draws a line where it ends."""
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
    """The height of the axes in inches."""
    return float(axes.bbox.height / axes.figure.dpi)


def measured(comparison: Comparison, candidate: str, *keys: str) -> list[tuple[LoadSummary, Cell]]:
    """The cells of a candidate that have all of these metrics, in the order of the load."""
    on_axis = load_axis(comparison.loads)
    ordered = sorted(comparison.loads, key=lambda one: (one.name not in on_axis, on_axis.get(one.name, one.in_flight)))
    found = ((load, comparison.cell(candidate, load.name)) for load in ordered)
    return [
        (load, cell)
        for load, cell in found
        if cell is not None and all(key in cell.metrics and cell.metrics[key].mean is not None for key in keys)
    ]


def mean_of(cell: Cell, key: str) -> float:
    mean = cell.metrics[key].mean
    assert mean is not None  # `measured` leaves out the others
    return mean


def top_of(estimate: Estimate) -> float:
    return estimate.high if estimate.high is not None else estimate.mean or 0.0


def span_of(estimate: Estimate, scale: float) -> tuple[float, float]:
    """The ends of the error bar; the point itself if there is no interval."""
    mean = (estimate.mean or 0.0) * scale
    low = mean if estimate.low is None else max(estimate.low, 0.0) * scale
    return low, mean if estimate.high is None else estimate.high * scale


def error_bar(estimate: Estimate, scale: float) -> Any:
    """Lengths below and above the mean, shape (2, 1); None without an interval. No bar goes below 0, since no latency
    or rate does."""
    if estimate.mean is None or estimate.low is None or estimate.high is None:
        return None
    # A mean below 0 (a first token before its send) has no room for a bar; its cell is drawn as invalid.
    below, above = max(estimate.mean - max(estimate.low, 0.0), 0.0), max(estimate.high - estimate.mean, 0.0)
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

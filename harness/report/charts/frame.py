"""The frame around every chart: title, cue, legend above the data, a footer that says what was measured."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from harness.judge.comparison import Comparison
from harness.report.text import candidates_line, lengths_line, machine_line, precision_line, rounds_line

# report.html replaces these three by its own variables, so that the inline charts follow the dark mode.
PAPER, INK, GRID = "#ffffff", "#26282c", "#dcdfe4"
MARKERS = "osD^vPX"
WIDTH = 9.6  # inches, as all lengths below
LEFT, RIGHT = 0.85, 0.3
FOOT_LINE, LEGEND_LINE = 0.145, 0.25
LEGEND_COLUMNS = 4
LOG_SPAN = 40.0  # a linear axis shows nothing of a point forty times smaller than the largest


@dataclass(frozen=True, slots=True)
class Style:
    """How one engine is drawn: its own colour, a marker that also tells it apart without colour."""

    color: str
    marker: str
    offset: float  # in axis units, so that error bars of engines at the same load do not hide each other


def styles(comparison: Comparison) -> dict[str, Style]:
    """Engine name -> style."""
    last = len(comparison.candidates) - 1
    return {
        engine.name: Style(engine.color, MARKERS[i % len(MARKERS)], (i - last / 2) * 0.07)
        for i, engine in enumerate(comparison.candidates)
    }


def framed(
    comparison: Comparison,
    title: str,
    cue: str,
    panels: tuple[int, int] = (1, 1),
    height: float = 3.4,
    pooled: bool = False,
    also: Sequence[Line2D] = (),
) -> tuple[Figure, list[Axes]]:
    """A figure with rows x columns of axes, each row `height` inches, inside the frame. `pooled` charts
    show requests of all rounds as lines; the others means over rounds as points with error bars. `also`
    stands at the end of the legend."""
    legend = [*legend_handles(comparison, pooled), *also]
    legend_rows = -(-len(legend) // LEGEND_COLUMNS)
    legend_columns = -(-len(legend) // legend_rows)
    foot = footer(comparison, pooled)
    rows, columns = panels
    bottom = 0.15 + FOOT_LINE * len(foot) + 0.6
    top = 0.85 + LEGEND_LINE * legend_rows + (0.25 if rows * columns > 1 or pooled else 0)  # a title on each panel
    row_gap, column_gap = 0.85, 0.75
    total = bottom + rows * height + (rows - 1) * row_gap + top
    figure = Figure(figsize=(WIDTH, total), facecolor=PAPER)
    figure.text(LEFT / WIDTH, 1 - 0.34 / total, title, fontsize=13, fontweight="bold", color=INK)
    figure.text(LEFT / WIDTH, 1 - 0.6 / total, cue, fontsize=9.5, color=INK)
    figure.legend(
        handles=legend,
        loc="upper left",
        bbox_to_anchor=(LEFT / WIDTH, 1 - 0.68 / total),
        ncols=legend_columns,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
        borderaxespad=0,
        borderpad=0.2,
        handletextpad=0.5,
        columnspacing=1.6,
    )
    for line, text in enumerate(reversed(foot)):
        y = (0.15 + FOOT_LINE * line) / total
        figure.text(LEFT / WIDTH, y, text, fontsize=7, color=INK, alpha=0.8)
    width = (WIDTH - LEFT - RIGHT - (columns - 1) * column_gap) / columns
    axes = []
    for row in range(rows):
        y = bottom + (rows - 1 - row) * (height + row_gap)
        for col in range(columns):
            x = LEFT + col * (width + column_gap)
            axes.append(plain(figure.add_axes((x / WIDTH, y / total, width / WIDTH, height / total))))
    return figure, axes


def plain(axes: Axes) -> Axes:
    """Axes with two spines and a quiet grid."""
    axes.set_facecolor(PAPER)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return axes


def legend_handles(comparison: Comparison, pooled: bool) -> list[Line2D]:
    """One entry per engine, and one for what is invalid where something is."""
    style = styles(comparison)
    handles = [
        Line2D(
            [],
            [],
            color=style[e.name].color,
            marker="" if pooled else style[e.name].marker,
            markersize=6,
            label=e.title,
        )
        for e in comparison.candidates
    ]
    if comparison.invalid_cells and pooled:
        handles.append(Line2D([], [], color=INK, linestyle=":", label="dotted: invalid, not ranked"))
    elif comparison.invalid_cells:
        handles.append(
            Line2D(
                [],
                [],
                color=INK,
                marker="o",
                markersize=6,
                markerfacecolor=PAPER,
                linestyle="none",
                label="hollow: invalid, not ranked",
            )
        )
    return handles


def footer(comparison: Comparison, pooled: bool) -> list[str]:
    """What every chart must say about itself, wrapped to the width of the figure."""
    model = str(comparison.model.get("name") or "model not stated")
    parts = [
        f"Model: {model}, {precision_line(comparison)}" if precision_line(comparison) else f"Model: {model}",
        f"Machine: {machine_line(comparison.machine)}",
        f"Engines: {candidates_line(comparison)}",
        f"Schedule {comparison.schedules_digest[:12]}: {lengths_line(comparison.loads)}"
        f" · {rounds_line(comparison, pooled)}",
    ]
    if comparison.skipped:
        told = (f"{name} ({textwrap.shorten(why, 110)})" for name, why in comparison.skipped.items())
        parts.append("Not measured, or not fully: " + "; ".join(told))
    if not comparison.finished:
        parts.append("Interrupted: this is what was measured until then")
    return [line for part in parts for line in textwrap.wrap(part, 160)]


def value_axis(axes: Axes, values: Sequence[float], allow_log: bool = False) -> None:
    """A y axis that starts at 0, or a log axis with plain numbers where 0 would flatten the small ones."""
    positive = [value for value in values if value > 0]
    if allow_log and positive and max(positive) > LOG_SPAN * min(positive):
        log_axis(axes, min(positive), max(positive))
        return
    axes.set_ylim(0, 1.08 * max(positive, default=1.0))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))


def log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic y axis whose ticks read 1, 2, 5, 10 ... as plain decimals."""
    axes.set_yscale("log")
    axes.set_ylim(low / 1.5, high * 1.5)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def category_ticks(axes: Axes, positions: Sequence[float], labels: Sequence[str]) -> None:
    """Ticks exactly at the measured points, named as measured."""
    axes.xaxis.set_major_locator(FixedLocator(list(positions)))
    axes.set_xticks(list(positions), list(labels))
    axes.xaxis.set_minor_locator(NullLocator())


def _tick(value: float, position: int | None) -> str:
    """A plain decimal without trailing zeros, thousands separated."""
    return f"{value:,.6f}".rstrip("0").rstrip(".") if value else "0"

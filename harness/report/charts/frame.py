"""The frame around every chart: title, cue, legend above the data, a footer that says what was measured."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from harness.judge.comparison import Comparison
from harness.judge.lonely import lonely
from harness.records.run import RunResult
from harness.report.colors import colors
from harness.report.text import candidates_line, lengths_line, machines_line, precision_line, rounds_line

# report.html replaces these three with CSS variables, so that the inline charts follow the dark mode.
PAPER, INK, GRID = "#ffffff", "#26282c", "#dcdfe4"
MARKERS = "osD^vPX"
WIDTH = 9.6  # inches, as all lengths below
LEFT, RIGHT = 0.85, 0.3
ROW_GAP, COLUMN_GAP = 0.85, 0.75
FOOT_LINE, LEGEND_LINE, CUE_LINE = 0.145, 0.25, 0.17
CUE_WIDTH = 135  # letters
LEGEND_COLUMNS = 4
LOG_SPAN = 40.0  # on a linear axis a point forty times smaller than the largest cannot be read


# Line styles: for candidates beyond the number of markers, and for an engine's further candidates without markers.
LINES: tuple[Any, ...] = ("-", (0, (7, 2)), (0, (7, 2, 1.5, 2)), (0, (2, 1.2)))


@dataclass(frozen=True, slots=True)
class Style:
    """How one candidate is drawn: its own colour, a marker that also tells it apart without colour."""

    color: str
    marker: str
    line: Any  # line style with markers
    bare: Any  # line style without markers
    offset: float  # in axis units, so that error bars at the same load do not overlap


def styles(comparison: Comparison) -> dict[str, Style]:
    """Candidate -> style."""
    last = len(comparison.candidates) - 1
    step = min(0.07, 0.3 / max(last, 1))
    color = colors(comparison)
    engines: dict[str, int] = {}
    found = {}
    for i, one in enumerate(comparison.candidates):
        nth = engines[one.engine] = engines.get(one.engine, -1) + 1
        line = LINES[i // len(MARKERS) % len(LINES)]
        bare = LINES[nth % len(LINES)]
        found[one.name] = Style(color[one.name], MARKERS[i % len(MARKERS)], line, bare, (i - last / 2) * step)
    return found


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart. `cue` says what is drawn, `direction` which side is better; both are shown above the data."""

    name: str  # of its files
    title: str
    cue: str
    direction: str
    draw: Callable[[Chart, Comparison, Sequence[RunResult]], Figure]
    needs: str = ""  # a metric without which it is left out
    needs_pairs: bool = False  # left out where no two candidates were measured

    def above(self, cue: str = "") -> str:
        """The line under the title; `cue` replaces the one of the entry."""
        return f"{cue or self.cue}; {self.direction}"


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds the data. `panels` are rows x columns of axes, each row `height` inches. `pooled` charts show
    requests of all rounds as lines; `ratios` ones show the candidates that have a reference; the others show means over
    rounds as points with error bars. `beside`: inches kept free at the right of each
    panel. `also` is added to the end of the legend."""

    title: str
    cue: str
    panels: tuple[int, int] = (1, 1)
    height: float = 3.4
    pooled: bool = False
    ratios: bool = False
    beside: float = 0.0
    gap: float = ROW_GAP  # inches between two rows
    rounds: str = ""  # instead of what the footer says about rounds
    also: Sequence[Artist] = field(default_factory=tuple)


def framed(comparison: Comparison, frame: Frame) -> tuple[Figure, list[Axes]]:
    """A figure with axes inside the frame."""
    legend: list[Artist] = [*legend_handles(comparison, frame), *frame.also]
    columns = _legend_columns(legend)
    legend_rows = -(-len(legend) // columns)
    foot = footer(comparison, frame)
    rows, _ = frame.panels
    bottom = 0.15 + FOOT_LINE * len(foot) + 0.6
    titled = rows * frame.panels[1] > 1 or frame.pooled  # a title on each panel
    cue = textwrap.wrap(frame.cue, CUE_WIDTH)
    top = 0.85 + CUE_LINE * (len(cue) - 1) + LEGEND_LINE * legend_rows + (0.25 if titled else 0)
    total = bottom + rows * frame.height + (rows - 1) * frame.gap + top
    figure = Figure(figsize=(WIDTH, total), facecolor=PAPER)
    figure.text(LEFT / WIDTH, 1 - 0.34 / total, frame.title, fontsize=13, fontweight="bold", color=INK)
    for line, text in enumerate(cue):
        figure.text(LEFT / WIDTH, 1 - (0.6 + CUE_LINE * line) / total, text, fontsize=9.5, color=INK)
    _legend(figure, legend, columns, 1 - (0.68 + CUE_LINE * (len(cue) - 1)) / total)
    for line, text in enumerate(reversed(foot)):
        y = (0.15 + FOOT_LINE * line) / total
        figure.text(LEFT / WIDTH, y, text, fontsize=7, color=INK, alpha=0.8)
    return figure, _axes(figure, frame, bottom, total)


def _axes(figure: Figure, frame: Frame, bottom: float, total: float) -> list[Axes]:
    rows, columns = frame.panels
    pitch = (WIDTH - LEFT - RIGHT + COLUMN_GAP) / columns
    width = pitch - COLUMN_GAP - frame.beside
    axes = []
    for row in range(rows):
        y = bottom + (rows - 1 - row) * (frame.height + frame.gap)
        for col in range(columns):
            x = LEFT + col * pitch
            axes.append(plain(figure.add_axes((x / WIDTH, y / total, width / WIDTH, frame.height / total))))
    return axes


def _legend_columns(handles: Sequence[Artist]) -> int:
    """As many columns as fit."""
    sizes = [0.075 * len(str(handle.get_label())) + 0.6 for handle in handles]  # inches
    for most in range(LEGEND_COLUMNS, 1, -1):
        rows = -(-len(sizes) // most)
        columns = [max(sizes[i : i + rows]) for i in range(0, len(sizes), rows)]  # filled from top to bottom
        if sum(columns) <= WIDTH - LEFT - RIGHT:
            return len(columns)
    return 1


def _legend(figure: Figure, handles: Sequence[Artist], columns: int, top: float) -> None:
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(LEFT / WIDTH, top),
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
        borderaxespad=0,
        borderpad=0.2,
        handlelength=2.6,
        handletextpad=0.5,
        columnspacing=1.6,
    )


def plain(axes: Axes) -> Axes:
    """Axes with two spines and a light grid."""
    axes.set_facecolor(PAPER)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return axes


def legend_handles(comparison: Comparison, frame: Frame) -> list[Line2D]:
    """One entry per candidate, and one for invalid cells if there are any."""
    style, pooled = styles(comparison), frame.pooled
    handles = [
        Line2D(
            [],
            [],
            color=style[one.name].color,
            marker="" if pooled else style[one.name].marker,
            linestyle=style[one.name].bare if pooled else "none" if frame.ratios else style[one.name].line,
            markersize=6,
            label=one.title,
        )
        for one in comparison.candidates
        if not frame.ratios or one.reference not in (None, one.name)
    ]
    if frame.ratios:
        return handles
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


def footer(comparison: Comparison, frame: Frame) -> list[str]:
    """The conditions of the measurement, shown under every chart, wrapped to the width of the figure."""
    model = str(comparison.model.get("name") or "model not stated")
    alone = lonely(comparison)
    parts = [
        *([alone] if alone else []),
        f"Model: {model}, {precision_line(comparison)}" if precision_line(comparison) else f"Model: {model}",
        f"Machine: {machines_line(comparison)}",
        f"Candidates: {candidates_line(comparison)}",
        f"Schedule {comparison.schedules_digest[:12]}: {lengths_line(comparison.loads)}"
        f" · {frame.rounds or rounds_line(comparison, frame.pooled, frame.ratios)}",
    ]
    if comparison.skipped:
        skipped = (f"{name} ({textwrap.shorten(why, 110)})" for name, why in comparison.skipped.items())
        parts.append("Not measured, or not fully: " + "; ".join(skipped))
    if not comparison.finished:
        parts.append("Interrupted: results so far")
    return [line for part in parts for line in textwrap.wrap(part, 160)]


def value_axis(axes: Axes, values: Sequence[float], allow_log: bool = False) -> None:
    """A y axis from 0, or a log axis with plain numbers if small values could not be read on it."""
    positive = [value for value in values if value > 0]
    if allow_log and positive and max(positive) > LOG_SPAN * min(positive):
        log_axis(axes, min(positive), max(positive))
        return
    axes.set_ylim(0, 1.08 * max(positive, default=1.0))
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))


def log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic y axis whose ticks read 1, 2, 5, 10 ... as plain decimals."""
    axes.set_yscale("log")
    axes.set_ylim(low / 1.5, high * 1.5)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def category_ticks(axes: Axes, positions: Sequence[float], labels: Sequence[str]) -> None:
    """Ticks exactly at the measured points, named as measured."""
    axes.xaxis.set_major_locator(FixedLocator(list(positions)))
    axes.set_xticks(list(positions), list(labels))
    axes.xaxis.set_minor_locator(NullLocator())


def plain_number(value: float, position: int | None = None) -> str:
    """A plain decimal without trailing zeros, thousands separated."""
    return f"{value:,.6f}".rstrip("0").rstrip(".") if value else "0"

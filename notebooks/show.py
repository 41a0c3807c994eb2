"""What the notebooks draw and write with; the numbers come from the notebook's own cells."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from IPython.display import Image, Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from harness.judge.comparison import Comparison
from harness.judge.loads import LoadSummary
from harness.judge.stats import Estimate
from harness.records.run import RunResult
from harness.report.charts.frame import (
    INK,
    PAPER,
    WIDTH,
    Frame,
    Style,
    category_ticks,
    framed,
    plain,
    styles,
    value_axis,
)
from harness.report.charts.panel import load_positions
from harness.report.rows import reference_title
from harness.report.text import number, short_name

DPI = 100
SHARPNESS = 2  # stored pixels per pixel of the page: blurred on most screens otherwise
WAITING = "#c6cbd3"
LEFT_IN, RIGHT_IN = 1.0, 0.3  # inches
MOST_ROWS = 64  # requests in one panel; more would be thinner than a tick can be seen

Relative = Sequence[tuple[LoadSummary, Estimate]]  # multiples of another load


def say(text: str) -> None:
    """Markdown with numbers in it."""
    display(Markdown(text))


def safe(text: object) -> str:
    """A text from the records (a title, an engine's error) that no reader takes for Markdown or HTML."""
    flat = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", flat)


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list; the lines are Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table, first column left, the others right; the texts are Markdown."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    say("\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows)))


def picture(figure: Figure, alt: str) -> None:
    """The figure as it is, whatever the reader's matplotlib settings; `alt` is for who cannot see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI * SHARPNESS)
    width, _ = figure.get_size_inches()
    display(Image(buffer.getvalue(), width=round(width * DPI), alt=alt))


def one_request(run: RunResult, index: int, title: str, cue: str) -> Figure:
    """The life of one request in milliseconds since it was sent: what was seen, and the spans named after it."""
    row = {name: column[run.requests["index"] == index][0] for name, column in run.requests.items()}
    sent = row["sent_s"]
    first, last, done = ((row[key] - sent) * 1e3 for key in ("first_token_s", "last_token_s", "done_s"))
    color = run.manifest.candidate.color
    figure, (axes,) = _timeline(title, cue, [2.1], legend_rows=1)
    _ticks(axes, _arrivals_s(run.chunks, index) * 1e3 - sent * 1e3, 3, color, 0.32)
    axes.plot(0.0, 3, marker=">", color=INK, markersize=7, clip_on=False, zorder=4)
    axes.plot(done, 3, marker="s", color=INK, markersize=7, clip_on=False, zorder=4)
    if np.isfinite(row["uploaded_s"]):
        axes.plot((row["uploaded_s"] - sent) * 1e3, 3, "o", color=INK, markerfacecolor="none", markersize=13)
    for y, start, end, shade in ((2, 0.0, first, WAITING), (1, first, last, color), (0, 0.0, done, INK)):
        axes.barh(y, end - start, left=start, height=0.42, color=shade)
        _length(axes, y, start, end, done, INK if shade == WAITING else PAPER)
    axes.set_xlim(-0.012 * done, 1.03 * done)
    axes.set_ylim(-0.6, 3.6)
    axes.set_yticks([3, 2, 1, 0], ["seen", "TTFT", "decoding", "E2E"])
    axes.set_xlabel("milliseconds since the request was sent", color=INK, fontsize=9.5)
    handles = [
        Line2D([], [], marker=">", color=INK, linestyle="none", label="sent"),
        Line2D([], [], marker="o", color=INK, markerfacecolor="none", linestyle="none", label="request uploaded"),
        Line2D([], [], marker="|", color=color, linestyle="none", markersize=11, label="a chunk of tokens arrives"),
        Line2D([], [], marker="s", color=INK, linestyle="none", label="last byte"),
    ]
    _legend(figure, handles)
    return figure


def _length(axes: Axes, y: float, start: float, end: float, whole: float, inside: str) -> None:
    """The length of a bar: behind it where there is room, otherwise inside."""
    text = f"{number(end - start)} ms"
    if end < 0.85 * whole:
        axes.annotate(text, (end, y), (5, 0), textcoords="offset points", va="center", fontsize=9, color=INK)
    else:
        axes.text((start + end) / 2, y, text, va="center", ha="center", fontsize=9, color=inside, fontweight="bold")


def many_requests(panels: Sequence[tuple[str, RunResult]], end_s: float, title: str, cue: str) -> Figure:
    """One row per request in sending order, every panel on the same time axis from 0 to `end_s` seconds."""
    unit, scale = ("seconds", 1.0) if end_s >= 1 else ("milliseconds", 1e3)
    rows = [_visible(run, end_s) for _, run in panels]
    figure, all_axes = _timeline(title, cue, [max(0.6, 0.105 * len(shown)) for shown in rows], legend_rows=1)
    for axes, (name, run), shown in zip(all_axes, panels, rows, strict=True):
        start, color = float(np.nanmin(run.requests["sent_s"])), run.manifest.candidate.color
        # Read once: of a long run each use of a column reads the file.
        chunks = {key: run.chunks[key] for key in ("index", "arrival_ns")}
        for y, i in enumerate(shown):
            sent, first, done = (run.requests[key][i] - start for key in ("sent_s", "first_token_s", "done_s"))
            wait_end = first if np.isfinite(first) else end_s
            axes.plot([sent * scale, wait_end * scale], [y, y], color=WAITING, linewidth=4.5, solid_capstyle="butt")
            axes.plot(
                [first * scale, done * scale], [y, y], color=run.manifest.candidate.color, linewidth=0.7, alpha=0.4
            )
            arrivals = _arrivals_s(chunks, run.requests["index"][i]) - start
            _ticks(axes, arrivals[arrivals <= end_s] * scale, y, color, 0.38)
        axes.set_xlim(-0.006 * end_s * scale, end_s * scale)
        axes.set_ylim(len(shown) - 0.3, -0.7)
        axes.set_yticks([])
        axes.set_ylabel("requests", color=INK, fontsize=9.5)
        axes.set_title(name, fontsize=10, color=INK, loc="left")
        axes.tick_params(labelbottom=True)
    all_axes[-1].set_xlabel(f"{unit} since the first request of the run was sent", color=INK, fontsize=9.5)
    color = panels[0][1].manifest.candidate.color
    handles = [
        Line2D([], [], color=WAITING, linewidth=4.5, label="sent, no token yet"),
        Line2D([], [], marker="|", color=color, linestyle="none", markersize=10, label="a chunk of tokens arrives"),
    ]
    _legend(figure, handles)
    return figure


def _visible(run: RunResult, end_s: float) -> list[int]:
    """Positions of the requests that were sent within the picture, in sending order."""
    sent = run.requests["sent_s"]
    order = [int(i) for i in np.argsort(sent, kind="stable") if np.isfinite(sent[i])]
    return [i for i in order if sent[i] - np.nanmin(sent) < end_s][:MOST_ROWS]


def _arrivals_s(chunks: Mapping[str, np.ndarray], index: int) -> np.ndarray:
    return np.asarray(np.sort(chunks["arrival_ns"][chunks["index"] == index]) / 1e9)


def _ticks(axes: Axes, x: np.ndarray, y: float, color: str, half: float) -> None:
    axes.vlines(x, y - half, y + half, color=color, linewidth=0.9)


def _timeline(title: str, cue: str, heights: Sequence[float], legend_rows: int) -> tuple[Figure, list[Axes]]:
    """Panels of these heights (inches) above each other, with the same left and right edge."""
    top, gap, bottom = 0.9 + 0.25 * legend_rows, 0.65, 0.6
    total = top + sum(heights) + gap * (len(heights) - 1) + bottom
    figure = Figure(figsize=(WIDTH, total), facecolor=PAPER)
    figure.text(0.3 / WIDTH, 1 - 0.34 / total, title, fontsize=13, fontweight="bold", color=INK)
    figure.text(0.3 / WIDTH, 1 - 0.6 / total, cue, fontsize=9.5, color=INK)
    width = WIDTH - LEFT_IN - RIGHT_IN
    made, y = [], total - top
    for height in heights:
        y -= height
        axes = plain(figure.add_axes((LEFT_IN / WIDTH, y / total, width / WIDTH, height / total)))
        axes.grid(False, axis="y")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6f}".rstrip("0").rstrip(".")))
        made.append(axes)
        y -= gap
    return figure, made


def _legend(figure: Figure, handles: list[Line2D]) -> None:
    height = figure.get_size_inches()[1]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.3 / WIDTH, 1 - 0.68 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        borderaxespad=0,
        borderpad=0.2,
        handletextpad=0.6,
    )


@dataclass(frozen=True, slots=True)
class Spread:
    """One column of `spreads`: whose, what of, and the three numbers, seconds."""

    candidate: str
    name: str
    p50: float
    p99: float
    most: float


def spreads(comparison: Comparison, load: str, columns: Sequence[Spread], title: str, cue: str) -> Figure:
    """A column for each spread: a thick bar from p50 to p99, a thin line on to the largest."""
    figure, (axes,) = framed(comparison, Frame(title, cue, height=3.4, pooled=True))
    names = list(dict.fromkeys(column.candidate for column in columns))
    places = []
    for i, column in enumerate(columns):
        x = i + 0.9 * names.index(column.candidate)
        color = styles(comparison)[column.candidate].color
        p50, p99, most = (value * 1e3 for value in (column.p50, column.p99, column.most))
        dashes = ":" if _invalid(comparison, column.candidate, load) else "-"
        axes.plot([x, x], [p99, most], color=color, linewidth=1.4, linestyle=dashes)
        axes.plot([x, x], [p50, p99], color=color, linewidth=9, alpha=0.45, linestyle=dashes, solid_capstyle="butt")
        for y, marker, size in ((p50, "o", 8), (p99, "_", 15), (most, "^", 6)):
            axes.plot(x, y, marker=marker, color=color, markersize=size, markeredgewidth=2 if marker == "_" else 1)
        places.append(x)
    value_axis(axes, [v * 1e3 for c in columns for v in (c.p50, c.p99, c.most)], allow_log=True)
    category_ticks(axes, places, [column.name for column in columns])
    axes.grid(False, axis="x")
    _at_least_wide(axes, min(places) - 0.8, max(places) + 0.8, 5.0)
    axes.set_ylabel("milliseconds", color=INK, fontsize=10)
    return figure


def _invalid(comparison: Comparison, candidate: str, load: str) -> bool:
    cell = comparison.cell(candidate, load)
    return cell is not None and cell.verdict == "invalid"


def _at_least_wide(axes: Axes, left: float, right: float, width: float) -> None:
    """Few columns stay together in the middle, instead of at the two ends of the picture."""
    spare = max(0.0, width - (right - left)) / 2
    axes.set_xlim(left - spare, right + spare)


def gains(
    comparison: Comparison,
    panels: Sequence[tuple[str, Mapping[str, Relative]]],
    ideal: Mapping[str, float],
    title: str,
    cue: str,
) -> Figure:
    """Two metrics at each concurrency as multiples of the lowest one's; the first panel with the ideal line."""
    figure, all_axes = framed(comparison, Frame(title, cue, (1, 2), 3.2))
    loads = [load for load in comparison.loads if load.name in ideal]
    positions = load_positions(loads)
    places = [positions[load.name] for load in loads]
    for i, (axes, (heading, lines)) in enumerate(zip(all_axes, panels, strict=True)):
        tops = [1.0]
        for name, style in styles(comparison).items():
            measured = lines.get(name, [])
            found = [(positions[load.name] + style.offset, interval) for load, interval in measured]
            if not found:
                continue
            ratios = [np.nan if interval.mean is None else interval.mean for _, interval in found]
            axes.plot([x for x, _ in found], ratios, color=style.color, linewidth=1.6)
            for (x, interval), (load, _) in zip(found, measured, strict=True):
                hollow = _invalid(comparison, name, load.name)
                _interval(axes, x, interval.mean, interval.low, interval.high, style, hollow)
                tops.append(max(v for v in (interval.mean, interval.high) if v is not None))
        if i == 0:
            axes.plot(places, [ideal[load.name] for load in loads], color=INK, linewidth=1, linestyle=(0, (4, 3)))
            tops.append(max(ideal.values()))
        value_axis(axes, tops)
        category_ticks(axes, places, [short_name(load) for load in loads])
        axes.set_xlim(min(places) - 0.4, max(places) + 0.4)
        axes.set_title(heading, fontsize=10, color=INK, loc="left")
        axes.set_xlabel("concurrency (requests in flight)", color=INK, fontsize=9.5)
    all_axes[0].set_ylabel(f"times the value at concurrency {short_name(loads[0])}", color=INK, fontsize=10)
    return figure


def rounds(comparison: Comparison, load: str, estimates: Mapping[str, Estimate], title: str, cue: str) -> Figure:
    """Left: the value of each round and the interval of their mean. Right: the ratios to the reference."""
    ratios = [ratio for ratio in comparison.pairs if ratio.question == "output_throughput" and ratio.ratio]
    figure, all_axes = framed(comparison, Frame(title, cue, (1, 2 if ratios else 1), 3.2))
    axes, tops = all_axes[0], []
    style = styles(comparison)
    for i, (name, found) in enumerate(estimates.items()):
        values = [value for value in found.per_round if value is not None]
        spots = i - 0.16 + np.linspace(-0.1, 0.1, len(values)) if len(values) > 1 else [i - 0.16]
        axes.plot(spots, values, "o", color=style[name].color, markersize=5, alpha=0.6)
        hollow = _invalid(comparison, name, load)
        _interval(axes, i + 0.16, found.mean, found.low, found.high, style[name], hollow)
        tops += [*values, found.high or 0.0]
    value_axis(axes, tops)
    category_ticks(axes, [], [])
    _at_least_wide(axes, -0.6, len(estimates) - 0.4, 2.0 if ratios else 4.0)
    axes.grid(False, axis="x")
    axes.set_ylabel("output tokens per second", color=INK, fontsize=10)
    if ratios:
        axes.set_title(f"{load}: each round, and their mean", fontsize=10, color=INK, loc="left")
        _ratio_panel(all_axes[1], comparison)
    return figure


def _ratio_panel(axes: Axes, comparison: Comparison) -> None:
    names = [load.name for load in comparison.loads]
    axes.axhline(1.0, color=INK, linewidth=1)
    for candidate, style in styles(comparison).items():
        for place, name in enumerate(names):
            ratio = comparison.to_reference(candidate, name, "output_throughput")
            if ratio is not None and ratio.ratio is not None:
                _interval(axes, place + 2.2 * style.offset, ratio.ratio, ratio.low, ratio.high, style, False)
    category_ticks(axes, range(len(names)), [short_name(load) for load in comparison.loads])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.grid(False, axis="x")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4f}".rstrip("0").rstrip(".")))
    reference = reference_title(comparison)
    axes.set_title(f"each load: ratio to {reference}", fontsize=10, color=INK, loc="left")
    axes.set_xlabel("concurrency (requests in flight)", color=INK, fontsize=9.5)


def _interval(
    axes: Axes, x: float, mean: float | None, low: float | None, high: float | None, style: Style, hollow: bool
) -> None:
    """A mean with its interval, hollow where the cell is invalid."""
    if mean is None:
        return
    bar = None if low is None or high is None else [[mean - max(low, 0.0)], [high - mean]]
    axes.errorbar(
        x,
        mean,
        yerr=bar,
        fmt=style.marker,
        color=style.color,
        markerfacecolor=PAPER if hollow else style.color,
        markersize=6.5,
        capsize=3,
        elinewidth=1.3,
        zorder=3,
    )

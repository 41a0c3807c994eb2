"""The answer at a glance: every candidate against the reference, per question and load."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.judge.comparison import Comparison, Pair
from harness.judge.questions import QUESTIONS, Question
from harness.judge.words import interval_words, percent
from harness.records.metrics import BY_KEY
from harness.records.run import RunResult
from harness.report.charts.frame import GRID, INK, PAPER, Chart, Frame, framed, plain_number, styles
from harness.report.rows import MARKS, reference_title

ROW, EDGE = 0.19, 0.12  # inches: a candidate at a load; above the first and below the last
BESIDE = 0.55  # inches: the marks at the right of a panel
LEAST_SPAN = math.log(1.25)  # of the axis on each side: a difference of 2 % must not fill it
MOST_SPAN = math.log(100)
TICKS = (1, 2, 0.5, 5, 0.2, 10, 0.1, 1.5, 0.7, 1.2, 0.8, 3, 0.3, 20, 0.05, 50, 0.02, 1.1, 0.9)  # by importance
MOST_TICKS = 8
NAME_WIDTH = 11  # letters of a load's name on one line
LEFT_OUT = ("ttft_p99",)  # a tail beside its median would take the room of a question


def at_a_glance(chart: Chart, comparison: Comparison, runs: Sequence[RunResult]) -> Figure:
    """How many times as fast as the reference each candidate is, with its interval, on a log axis: a panel for each
    question, a row for each load and candidate. The mark at the right is the verdict. Only of loads with pairs."""
    asked = [question for question in QUESTIONS if _known(comparison, question)]
    rows = _rows(comparison)
    columns = min(2, max(1, len(asked)))
    shape = (max(1, -(-len(asked) // columns)), columns)
    height = 2 * EDGE + ROW * max(4, len(rows))
    margin = max((pair.margin for pair in comparison.pairs), default=0.0)
    band = Patch(facecolor=GRID, label=f"no difference: within {percent(margin)}")
    marks = Line2D([], [], linestyle="none", label=_legend())
    frame = Frame(chart.title, _cue(chart, comparison), shape, height, ratios=True, beside=BESIDE, also=(band, marks))
    figure, panels = framed(comparison, frame)
    for axes, question in zip(panels, asked, strict=False):
        _panel(axes, comparison, question, rows, height)
    for axes in panels[len(asked) :]:
        axes.set_visible(False)
    if not asked:
        figure.text(0.5, 0.5, "No pair has a ratio: see the checks.", ha="center", color=INK, fontsize=11)
    return figure


def _cue(chart: Chart, comparison: Comparison) -> str:
    return chart.above(
        f"How many times as fast as {reference_title(comparison)}, with the 95 % interval (of latencies the inverse "
        "ratio); filled: faster or slower"
    )


def _legend() -> str:
    return ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())


def _rows(comparison: Comparison) -> list[tuple[str, str]]:
    """(load, candidate) from top to bottom, of the candidates that have a reference other than themselves."""
    return [
        (load.name, one.name)
        for load in comparison.loads
        for one in comparison.candidates
        if any(comparison.to_reference(one.name, load.name, question.key) for question in QUESTIONS)
    ]


def _known(comparison: Comparison, question: Question) -> bool:
    loads = {load.name for load in comparison.loads}
    return question.key not in LEFT_OUT and any(
        pair.question == question.key and pair.ratio is not None and pair.load in loads for pair in comparison.pairs
    )


def _speed(pair: Pair) -> Pair:
    """The pair as a ratio of speeds: for latencies seen from the other side."""
    return pair if BY_KEY[pair.question].larger_is_better else pair.turned()


def _panel(
    axes: Axes, comparison: Comparison, question: Question, rows: Sequence[tuple[str, str]], height: float
) -> None:
    pairs = [comparison.to_reference(name, load, question.key) for load, name in rows]
    low, high = _span([_speed(pair) for pair in pairs if pair is not None])
    margin = max((pair.margin for pair in pairs if pair), default=0.0)
    axes.axvspan(1 / (1 + margin), 1 + margin, color=GRID, alpha=0.8, linewidth=0)
    axes.axvline(1.0, color=INK, linewidth=0.9)
    for y, ((_, name), pair) in enumerate(zip(rows, pairs, strict=True)):
        if pair is not None:
            _point(axes, comparison, name, pair, y)
    axes.set_xscale("log")
    axes.set_xlim(math.exp(low), math.exp(high))
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(len(rows) - 0.5 + EDGE / ROW, -0.5 - EDGE / ROW)
    _name_rows(axes, rows)
    axes.set_title(question.title[:1].upper() + question.title[1:], fontsize=10, color=INK, loc="left")


def _span(speeds: Sequence[Pair]) -> tuple[float, float]:
    """The ends of the axis as logarithms, with 1 well inside."""
    logs = [math.log(value) for one in speeds for value in (one.low, one.ratio, one.high) if value]
    low = min([-LEAST_SPAN, *(1.08 * log for log in logs)])
    high = max([LEAST_SPAN, *(1.08 * log for log in logs)])
    return max(low, -MOST_SPAN), min(high, MOST_SPAN)


def _ticks(low: float, high: float) -> list[float]:
    """The most important ticks that have room beside each other."""
    found: list[float] = []
    for tick in TICKS:
        place = math.log(tick)
        if low <= place <= high and all(abs(place - math.log(other)) > (high - low) / MOST_TICKS for other in found):
            found.append(tick)
    return sorted(found)


def _name_rows(axes: Axes, rows: Sequence[tuple[str, str]]) -> None:
    """One label for each load, at the middle of its rows, and a line between loads."""
    loads = [load for load, _ in rows]
    names = list(dict.fromkeys(loads))
    middles = [loads.index(name) + (loads.count(name) - 1) / 2 for name in names]
    axes.set_yticks(middles, [textwrap.fill(name, NAME_WIDTH) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    for name in names[1:]:
        axes.axhline(loads.index(name) - 0.5, color=GRID, linewidth=0.7)


def _point(axes: Axes, comparison: Comparison, name: str, pair: Pair, y: int) -> None:
    style, speed = styles(comparison)[name], _speed(pair)
    label = "–" if speed.ratio is None else interval_words(speed.ratio, None, None)
    axes.annotate(
        f"{MARKS[pair.verdict]} {label}", (1.0, y), xycoords=("axes fraction", "data"), xytext=(6, 0),
        textcoords="offset points", va="center", fontsize=8, color=INK, annotation_clip=False,
    )  # fmt: skip
    if speed.ratio is None:
        return
    bars = None if speed.low is None or speed.high is None else [[speed.ratio - speed.low], [speed.high - speed.ratio]]
    told = pair.verdict in ("faster", "slower")
    axes.errorbar(
        speed.ratio, y, xerr=bars, fmt=style.marker, markersize=5.5, color=style.color, elinewidth=1.4, capsize=2.5,
        markerfacecolor=style.color if told else PAPER, markeredgewidth=1.3, zorder=3,
    )  # fmt: skip

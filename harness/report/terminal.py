"""The comparison for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.judge.comparison import Comparison
from harness.judge.loads import LoadSummary
from harness.judge.lonely import lonely
from harness.records.metrics import Metric
from harness.report.columns import align, columns, header
from harness.report.rows import (
    doubt_lines,
    head_lines,
    not_measured_lines,
    note_lines,
    reading_lines,
    rows,
)

STYLES = {"faster": "green", "slower": "red", "invalid": "bold red", "reference": "dim", "not known": "yellow"}
WIDTH = 100
DOUBT = " ?"  # after the verdict: a check doubts the number
NUMBER = 6  # width of a value: 10,508
# Minimum and preferred widths of the other columns; the first ones are widened first.
OTHERS = {"ratio": (14, 20), "throughput": (7, 13), "candidate": (10, 15), "verdict": (9, 13)}


def rich_table(comparison: Comparison) -> RenderableType:
    """One table per load, then doubts, notes and skipped candidates; first of all, whether there is nothing to compare
    with."""
    parts: list[RenderableType] = []
    if why := lonely(comparison):
        parts += [Text(why, style="bold red"), Text("")]
    parts.append(Text(comparison.name, style="bold"))
    parts += [Text(line, style="dim") for line in head_lines(comparison)]
    if not comparison.finished:
        parts.append(Text("Interrupted: results so far.", style="yellow"))
    parts += [_load_table(comparison, load) for load in comparison.loads]
    for title, lines in (
        ("Doubts (? after a verdict)", doubt_lines(comparison)),
        ("Notes: declared and harmless", note_lines(comparison)),
        ("Not measured, or not fully", not_measured_lines(comparison)),
    ):
        if lines:
            parts += [Text(title, style="bold"), *(Padding(Text(line), (0, 0, 0, 2)) for line in lines), Text("")]
    parts += [Text(line, style="dim") for line in reading_lines(comparison)]
    return Group(*parts)


def _load_table(comparison: Comparison, load: LoadSummary) -> RenderableType:
    # Columns are separated by the border only, which is a space.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    every = columns(comparison, [load])
    shown = fitting(every)
    for name, width, side in zip(header(shown), widths(shown), align(shown), strict=True):
        table.add_column(
            name, width=width, justify="right" if side == "r" else "left", overflow="fold", vertical="bottom"
        )
    for row in rows(comparison, load, shown):
        texts = (row.title, *row.values, row.ratio)
        table.add_row(
            *(Text(text, style="dim" if row.verdict == "invalid" else "") for text in texts),
            Text(f"{row.verdict}{DOUBT}" if row.codes("doubt") else row.verdict, style=STYLES.get(row.verdict, "")),
        )
    title = Text(f"{load.name}: {load.description} (latencies in ms)", style="bold")
    left_out = ", ".join(metric.short for metric in every[len(shown) :])
    more = [Text(f"In table.md and report.html: {left_out}.", style="dim")] if left_out else []
    return Group(Text(""), title, table, *more, Text(""))


def widths(shown: Sequence[Metric]) -> list[int]:
    """The width of each column, in order; the first metric includes its ±."""
    # The same for all loads with these metrics, so that their tables line up.
    room = WIDTH - _least(shown)
    found = {}
    for name, (least, best) in OTHERS.items():
        more = max(0, min(room, best - least))
        found[name], room = least + more, room - more
    numbers = [_number(metric) for metric in shown[1:]]
    return [found["candidate"], found["throughput"], *numbers, found["ratio"], found["verdict"]]


def fitting(shown: Sequence[Metric]) -> Sequence[Metric]:
    """The first metrics, as many as fit into the terminal."""
    return next(shown[:count] for count in range(len(shown), 0, -1) if count == 1 or _least(shown[:count]) <= WIDTH)


def _least(shown: Sequence[Metric]) -> int:
    borders = len(OTHERS) + len(shown) - 2
    return sum(least for least, _ in OTHERS.values()) + sum(_number(metric) for metric in shown[1:]) + borders


def _number(metric: Metric) -> int:
    return max(NUMBER, *(len(word) for word in metric.short.split()))

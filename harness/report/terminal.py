"""The comparison for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.judge.answers import Answer
from harness.judge.comparison import Comparison
from harness.judge.incomplete import incomplete
from harness.judge.loads import LoadSummary
from harness.judge.lonely import lonely
from harness.judge.questions import BY_KEY as QUESTIONS
from harness.records.metrics import Metric
from harness.report.columns import align, columns, header, heading
from harness.report.rows import (
    NOT_RANKED,
    Row,
    doubt_lines,
    head_lines,
    legend,
    not_measured_lines,
    note_lines,
    rows,
    withheld_lines,
)

STYLES = {"faster": "green", "slower": "red", "invalid": "bold red", "not known": "yellow", "doubt": "yellow"}
WIDTH = 100
NUMBER = 6  # width of a value: 10,508
MARK = 2  # a verdict's mark after the value
# Minimum and preferred widths of the other columns; the first ones are widened first.
OTHERS = {"throughput": (15, 25), "candidate": (10, 16), "checks": (7, 12)}


def rich_table(comparison: Comparison, width: int = WIDTH) -> RenderableType:
    """The answers, one table per load, then doubts, notes and skipped candidates; first of all, whether there is
    nothing to compare with. `width`: of the terminal, in columns."""
    parts: list[RenderableType] = []
    for why in (lonely(comparison), incomplete(comparison)):
        parts += [Text(why, style="bold red"), Text("")] if why else []
    parts.append(Text(comparison.name, style="bold"))
    parts += [Text(line, style="dim") for line in head_lines(comparison)]
    if not comparison.finished:
        parts.append(Text("Interrupted: results so far.", style="yellow"))
    parts += [Text(""), *answer_texts(comparison.answers)]
    parts += [_load_table(comparison, load, min(width, WIDTH)) for load in comparison.loads]
    if legend(comparison):
        parts += [Text(legend(comparison), style="dim"), Text("")]
    for title, lines in (
        ("Doubts", doubt_lines(comparison)),
        ("Notes: declared and harmless", note_lines(comparison)),
        ("Not shown, and why", withheld_lines(comparison)),
        ("Not measured, or not fully", not_measured_lines(comparison)),
    ):
        if lines:
            parts += [Text(title, style="bold"), *(Padding(Text(line), (0, 0, 0, 2)) for line in lines), Text("")]
    parts.append(Text("How every number is computed stands in report.html and table.md.", style="dim"))
    return Group(*parts)


def answer_texts(answers: Sequence[Answer]) -> list[RenderableType]:
    """Each answer under its question, with the checks that weaken it."""
    texts: list[RenderableType] = []
    for one in answers:
        text = Text(one.text)
        if one.weakened_by:
            text.append(f" Weakened by {', '.join(one.weakened_by)}.", style="yellow")
        texts += [Text(one.title, style="bold"), Padding(text, (0, 0, 0, 2))]
    return texts


def _load_table(comparison: Comparison, load: LoadSummary, width: int) -> RenderableType:
    # Columns are separated by the border only, which is a space.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    every = columns(comparison, [load])
    shown = fitting(every, width)
    for name, room, side in zip(header(shown), widths(shown, width), align(shown), strict=True):
        table.add_column(
            name, width=room, justify="right" if side == "r" else "left", overflow="fold", vertical="bottom"
        )
    for row in rows(comparison, load, shown):
        table.add_row(
            Text(row.title),
            *(_value(row, i, metric) for i, metric in enumerate(shown)),
            Text(row.state, style=STYLES.get(row.state, "")),
        )
    title = Text(f"{load.name}: {load.description} (latencies in ms)", style="bold")
    left_out = ", ".join(metric.short for metric in every[len(shown) :])
    more = [Text(f"In table.md and report.html: {left_out}.", style="dim")] if left_out else []
    return Group(Text(""), title, table, *more, Text(""))


def _value(row: Row, i: int, metric: Metric) -> Text:
    """The first value with its interval; all with their mark in the verdict's colour."""
    value = row.values[i]
    text = Text(f"{value.text} {value.interval}".rstrip() if i == 0 else value.text)
    if row.state in ("invalid", NOT_RANKED):
        text.stylize("dim")
    if metric.key in QUESTIONS:  # the digits of a column stay under each other
        text.append(f" {value.mark or ' '}", style=STYLES.get(value.verdict, ""))
    return text


def widths(shown: Sequence[Metric], width: int = WIDTH) -> list[int]:
    """The width of each column, in order; the first metric includes its interval."""
    # The same for all loads with these metrics, so that their tables line up.
    room = width - _least(shown)
    found = {}
    for name, (least, best) in OTHERS.items():
        more = max(0, min(room, best - least))
        found[name], room = least + more, room - more
    numbers = [_number(metric) for metric in shown[1:]]
    return [found["candidate"], found["throughput"], *numbers, found["checks"]]


def fitting(shown: Sequence[Metric], width: int = WIDTH) -> Sequence[Metric]:
    """The first metrics, as many as fit into the terminal."""
    return next(shown[:count] for count in range(len(shown), 0, -1) if count == 1 or _least(shown[:count]) <= width)


def _least(shown: Sequence[Metric]) -> int:
    borders = len(OTHERS) + len(shown) - 2
    return sum(least for least, _ in OTHERS.values()) + sum(_number(metric) for metric in shown[1:]) + borders


def _number(metric: Metric) -> int:
    """The width of a column of values: of the values with their mark, and of the heading's longest word."""
    mark = MARK if metric.key in QUESTIONS else 0
    name = heading(metric)
    whole = len(name) if len(name) <= NUMBER + 1 else 0  # on one line if that costs one letter
    return max(NUMBER + mark, whole, *(len(word) for word in name.split()))

"""The comparison as Markdown: table.md."""

from __future__ import annotations

from harness.judge.comparison import Comparison
from harness.judge.incomplete import incomplete
from harness.judge.loads import LoadSummary
from harness.judge.lonely import lonely
from harness.report.columns import FIRST, align, columns, header, heading, resources
from harness.report.markdown import bullets, escaped, table
from harness.report.pair_rows import asked, compared, pair_rows, pair_text
from harness.report.resource_lines import resource_lines
from harness.report.rows import (
    FLOOR_HEADER,
    NOT_RANKED,
    Row,
    doubt_lines,
    floor_line,
    floor_rows,
    head_lines,
    legend,
    not_measured_lines,
    note_lines,
    reading_lines,
    rows,
    withheld_lines,
)
from harness.report.said import texts_parts
from harness.report.variants import variants


def markdown(comparison: Comparison) -> str:
    """The whole of table.md."""
    parts = [f"# {escaped(comparison.name)}"]
    parts += [f"**{escaped(why)}**" for why in (lonely(comparison), incomplete(comparison)) if why]
    parts.append(bullets(head_lines(comparison)))
    if not comparison.finished:
        parts.append("**Interrupted: results so far.**")
    parts += ["## Answers", _answers(comparison)]
    parts += texts_parts(comparison)
    parts += [part for load in comparison.loads for part in _load_parts(comparison, load)]
    if legend(comparison):
        parts.append(escaped(legend(comparison)))
    parts += _pair_parts(comparison)
    parts += _resource_parts(comparison)
    for found in variants(comparison):
        parts += [
            f"## {escaped(found.title)}",
            table(list(map(escaped, found.header)), found.rows, "l" * len(found.header)),
        ]
    if comparison.calibration:
        parts += ["## The client's own floor", escaped(floor_line(comparison))]
        parts.append(table(FLOOR_HEADER, floor_rows(comparison), "lrrrrrr"))
    for title, lines in (
        ("Doubts", doubt_lines(comparison)),
        ("Notes: declared and harmless", note_lines(comparison)),
        ("Not shown, and why", withheld_lines(comparison)),
        ("Not measured, or not fully", not_measured_lines(comparison)),
        ("How to read this", reading_lines(comparison)),
    ):
        if lines:
            parts += [f"## {title}", bullets(lines)]
    return "\n\n".join(parts) + "\n"


def _answers(comparison: Comparison) -> str:
    lines = []
    for one in comparison.answers:
        weak = f" *Weakened by {escaped(', '.join(one.weakened_by))}.*" if one.weakened_by else ""
        lines.append(f"- **{escaped(one.title)}** {escaped(one.text)}{weak}")
    return "\n".join(lines)


def _load_parts(comparison: Comparison, load: LoadSummary) -> list[str]:
    shown = columns(comparison, [load])
    cells = [_cells(row) for row in rows(comparison, load, shown)]
    return [f"## {load.name}: {load.description}", table(header(shown), cells, align(shown))]


def _cells(row: Row) -> tuple[str, ...]:
    """The texts of one row: the first value with its interval, the others with their mark alone."""
    first, *others = row.values
    return (row.title, first.whole, *(value.marked for value in others), _with_codes(row))


def _with_codes(row: Row) -> str:
    """What the checks say, with the codes of those that make the cell invalid or cast doubt on it."""
    said = [f"{verdict}: {', '.join(codes)}" for verdict in ("invalid", "doubt") if (codes := row.codes(verdict))]
    if row.state == NOT_RANKED:
        return "; ".join([f"{row.state}: {row.note}", *said])
    return "; ".join(said) or row.state


def _pair_parts(comparison: Comparison) -> list[str]:
    """A table for every two candidates."""
    titles = {one.name: one.title for one in comparison.candidates}
    head = ("load", *(question.title for question in asked(comparison)))
    parts = []
    for candidate, against in compared(comparison):
        found = [(row.load, *map(pair_text, row.pairs)) for row in pair_rows(comparison, candidate, against)]
        parts += [f"### {escaped(titles[candidate])} / {escaped(titles[against])}", table(head, found, "l" * len(head))]
    return ["## Ratios of every two candidates", *parts] if parts else []


def _resource_parts(comparison: Comparison) -> list[str]:
    shown = resources(comparison)
    if not shown:
        return []
    head = ("load", FIRST, *map(heading, shown))
    found = [
        (load.name, row.title, *(value.text for value in row.values))
        for load in comparison.loads
        for row in rows(comparison, load, shown)
        if row.cell is not None
    ]
    parts = ["## What serving takes", table(head, found, "ll" + "r" * len(shown))]
    lines = resource_lines(comparison)
    return [*parts, bullets(lines)] if lines else parts

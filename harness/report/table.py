"""The comparison as Markdown: table.md."""

from __future__ import annotations

from harness.judge.comparison import Comparison
from harness.judge.loads import LoadSummary
from harness.judge.lonely import lonely
from harness.judge.questions import QUESTIONS
from harness.report.columns import align, columns, header
from harness.report.markdown import bullets as _bullets
from harness.report.markdown import escaped as _escaped
from harness.report.markdown import table as _table
from harness.report.rows import (
    FLOOR_HEADER,
    Row,
    doubt_lines,
    floor_line,
    floor_rows,
    head_lines,
    not_measured_lines,
    note_lines,
    ratio_rows,
    ratio_text,
    ratio_titles,
    reading_lines,
    reference_title,
    rows,
)
from harness.report.variants import variants


def markdown(comparison: Comparison) -> str:
    """The whole of table.md."""
    parts = [f"# {_escaped(comparison.name)}"]
    if why := lonely(comparison):
        parts.append(f"**{_escaped(why)}**")
    parts.append(_bullets(head_lines(comparison)))
    if not comparison.finished:
        parts.append("**Interrupted: results so far.**")
    parts += [part for load in comparison.loads for part in _load_parts(comparison, load)]
    if comparison.pairs:
        parts += [f"## Ratios to {_escaped(reference_title(comparison))}", _ratio_table(comparison)]
    for found in variants(comparison):
        parts += [f"## {_escaped(found.title)}", _table(found.header, found.rows, "l" * len(found.header))]
    if comparison.calibration:
        parts += ["## The client's own floor", floor_line(comparison)]
        parts.append(_table(FLOOR_HEADER, floor_rows(comparison), "lrrrrr"))
    for title, lines in (
        ("Doubts", doubt_lines(comparison)),
        ("Notes: declared and harmless", note_lines(comparison)),
        ("Not measured, or not fully", not_measured_lines(comparison)),
        ("How to read this", reading_lines(comparison)),
    ):
        if lines:
            parts += [f"## {title}", _bullets(lines)]
    return "\n\n".join(parts) + "\n"


def _load_parts(comparison: Comparison, load: LoadSummary) -> list[str]:
    shown = columns(comparison, [load])
    cells = [(row.title, *row.values, row.ratio, _with_codes(row)) for row in rows(comparison, load, shown)]
    return [f"## {load.name}: {load.description}", _table(header(shown), cells, align(shown))]


def _with_codes(row: Row) -> str:
    """The verdict, with the codes of the checks that make it invalid or cast doubt on the number."""
    invalid, doubts = row.codes("invalid"), row.codes("doubt")
    text = f"{row.verdict}: {', '.join(invalid)}" if invalid else row.verdict
    return f"{text}; doubt: {', '.join(doubts)}" if doubts else text


def _ratio_table(comparison: Comparison) -> str:
    cells = [
        (
            load,
            title,
            *(f"{ratio_text(r)} {r.verdict}" if r.ratio is not None else f"{r.verdict} ({r.reason})" for r in ratios),
        )
        for load, title, ratios in ratio_rows(comparison)
    ]
    return _table(("load", "candidate", *ratio_titles()), cells, "ll" + "l" * len(QUESTIONS))

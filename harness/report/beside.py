"""Several comparisons side by side: for the terminal, as Markdown, and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.judge.pairs import Pair
from harness.judge.questions import BY_KEY
from harness.judge.side_by_side import Agreement, Beside, SideBySide
from harness.judge.turns import turn_words
from harness.judge.words import MISSING
from harness.records.stored import write_whole
from harness.report.markdown import bullets, escaped, table
from harness.report.pair_rows import pair_text
from harness.report.rows import MARKS

TEMPLATE = Path(__file__).with_name("beside.html.jinja")
STEM = "side-by-side"  # of the files
SHOWN: dict[Agreement, str] = {"agree": "same", "turned": "turned round", "apart": "differ", "open": "not known"}
STYLES: dict[Agreement, str] = {"agree": "", "turned": "bold red", "apart": "yellow", "open": "dim"}
LEGEND = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())
READING = (
    "Each ratio is the first candidate's value divided by the other's on that machine, with its own 95 % interval and "
    f"verdict: {LEGEND}. Nothing is computed across machines."
)


@dataclass(frozen=True, slots=True)
class _Line:
    """One question about two candidates at one load, as text; an empty load or question is that of the line before."""

    load: str
    question: str
    pair: str
    sides: tuple[str, ...]
    agreement: Agreement


def heads(found: SideBySide) -> list[str]:
    """One line per side: its letter, folder and machine."""
    return [f"{side.letter}: {side.folder}, {side.machine}" for side in found.sides]


def terminal(found: SideBySide) -> RenderableType:
    """The sentences, the table and what differs, for a terminal of 100 columns."""
    parts: list[RenderableType] = [Text(line, style="dim") for line in heads(found)]
    parts += [Text(""), *(Text(line) for line in turn_words(found)), Text("")]
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("load", "question", "candidates", *(side.letter for side in found.sides), "verdicts"):
        shown.add_column(name, overflow="fold")
    for line in _lines(found.rows, found):
        shown.add_row(
            line.load, line.question, line.pair, *line.sides,
            Text(SHOWN[line.agreement], style=STYLES[line.agreement]),
        )  # fmt: skip
    parts += [shown, Text(""), Text(READING, style="dim")]
    parts += [Text(f"doubt: {text}", style="yellow") for text in found.doubts]
    parts += [Text(f"{fact.name}: {_values(found, fact.values)}", style="dim") for fact in found.facts if fact.differs]
    return Group(*parts)


def markdown(found: SideBySide) -> str:
    """The same as Markdown."""
    letters = [side.letter for side in found.sides]
    lines = [
        (line.load, line.question, line.pair, *line.sides, SHOWN[line.agreement]) for line in _lines(found.rows, found)
    ]
    parts = [
        "# Side by side",
        bullets(heads(found)),
        "\n\n".join(escaped(text) for text in turn_words(found)),
        table(("load", "question", "candidates", *letters, "verdicts"), lines, "l" * (4 + len(letters))),
        escaped(READING),
        *(["## Doubts", bullets(found.doubts)] if found.doubts else []),
        "## What differs",
        table(
            ("", *letters),
            [(fact.name, *fact.values) for fact in found.facts if fact.differs],
            "l" * (1 + len(letters)),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def html(found: SideBySide) -> str:
    """The same as a page that needs nothing else."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        found=found,
        heads=heads(found),
        sentences=turn_words(found),
        lines=_lines(found.rows, found),
        shown=SHOWN,
        reading=READING,
    )


def write(found: SideBySide, folder: Path) -> list[Path]:
    """Writes side-by-side.html and side-by-side.md into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, text in ((".html", html(found)), (".md", markdown(found))):
        path = folder / f"{STEM}{suffix}"
        write_whole(path, text.encode())
        paths.append(path)
    return paths


def _lines(rows: Sequence[Beside], found: SideBySide) -> list[_Line]:
    lines = []
    for before, row in zip([None, *rows], rows, strict=False):
        same = before is not None and before.load == row.load
        lines.append(
            _Line(
                "" if same else row.load,
                "" if same and before is not None and before.question == row.question else BY_KEY[row.question].title,
                f"{found.titles[row.candidate]} / {found.titles[row.against]}",
                tuple(_text(pair) for pair in row.pairs),
                row.agreement,
            )
        )
    return lines


def _text(pair: Pair | None) -> str:
    return MISSING if pair is None else pair_text(pair)


def _values(found: SideBySide, values: Sequence[str]) -> str:
    return "; ".join(f"{side.letter} {value}" for side, value in zip(found.sides, values, strict=True))

"""`harness report`, and what every command shows in the same way."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.errors import DONE, INVALID_CELLS


def terminal() -> Console:
    """Standard output; where that is no terminal, as wide as the tables need. Brackets are text: `[[candidate]]`, a
    pip extra or a folder would else be taken for markup and left out."""
    console = Console(markup=False)
    return console if console.is_terminal else Console(width=110, markup=False)


def show(folder: Path, console: Console, allow_machine: bool = False) -> int:
    """Writes the report and prints its table and where the charts are; returns the exit status."""
    # Drawing takes a second to load: what is wrong with a comparison file is said without it.
    from harness.judge.lonely import lonely
    from harness.report.page import write_report
    from harness.report.terminal import rich_table

    comparison = write_report(folder, allow_machine)
    console.print(rich_table(comparison))
    for chart in sorted((folder / "charts").glob("*.png")):
        console.print(f"chart   {chart}", soft_wrap=True)
    console.print(f"report  {folder / 'report.html'}", soft_wrap=True)
    console.print(f"data    {folder / 'comparison.json'}", soft_wrap=True)
    if alone := lonely(comparison):  # the last line on the screen as well: the first may have scrolled away
        console.print(alone, style="bold", soft_wrap=True)
    invalid = any(cell.verdict == "invalid" for cell in comparison.cells)
    return INVALID_CELLS if invalid or alone else DONE


def report(folder: Path, allow_machine: bool = False) -> int:
    """Redraws everything from stored results."""
    return show(folder, terminal(), allow_machine)

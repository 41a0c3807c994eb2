"""`harness report`, and what every command shows in the same way."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.errors import DONE, INVALID_CELLS


def terminal() -> Console:
    """Standard output; where that is no terminal, as wide as the tables need."""
    console = Console()
    return console if console.is_terminal else Console(width=110)


def show(folder: Path, console: Console) -> int:
    """Writes the report and prints its table and where the charts are; returns the exit status."""
    # Drawing takes a second to load: what is wrong with a comparison file is said without it.
    from harness.report.page import write_report
    from harness.report.table import rich_table

    comparison = write_report(folder)
    console.print(rich_table(comparison))
    for chart in sorted((folder / "charts").glob("*.png")):
        console.print(f"chart   {chart}", soft_wrap=True)
    console.print(f"report  {folder / 'report.html'}", soft_wrap=True)
    console.print(f"data    {folder / 'comparison.json'}", soft_wrap=True)
    return INVALID_CELLS if any(cell.verdict == "invalid" for cell in comparison.cells) else DONE


def report(folder: Path) -> int:
    """Redraws everything from stored results."""
    return show(folder, terminal())

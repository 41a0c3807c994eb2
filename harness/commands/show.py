"""`harness report` and `harness engines`, and what every command shows in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.adapter import Engine
from harness.errors import DONE, INVALID_CELLS
from harness.judge.report import write_report
from harness.judge.table import rich_table
from harness.launch.install import cannot_install, is_installed
from harness.paths import cache_folder


def terminal() -> Console:
    """Standard output; where that is no terminal, as wide as the tables need."""
    console = Console()
    return console if console.is_terminal else Console(width=110)


def show(folder: Path, console: Console) -> int:
    """Writes the report and prints its table and where the charts are; returns the exit status."""
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


def list_engines(known: Mapping[str, Engine]) -> int:
    """Prints what can start here; for each that cannot, why."""
    cache = cache_folder()
    table = Table(box=None, pad_edge=False)
    for column in ("name", "engine", "version", "here", "because"):
        table.add_column(column)
    for engine in known.values():
        reason = cannot_install(engine, cache)
        installed = is_installed(engine, cache)
        because = reason or ("installed" if installed else "will be installed by the first comparison")
        if engine.native.install is None and not engine.attach_only:
            because = "part of this software"
        table.add_row(engine.name, engine.title, engine.version, "no" if reason else "yes", because)
    terminal().print(table)
    return DONE

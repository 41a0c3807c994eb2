"""`harness report`, and the output that all commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from harness.errors import DONE, INVALID_CELLS


def terminal() -> Console:
    """Standard output; off a terminal, as wide as the tables need. Without markup: rich would drop `[[candidate]]` or
    a pip extra as if it were a tag."""
    console = Console(markup=False)
    return console if console.is_terminal else Console(width=110, markup=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowOptions:
    """How a comparison is shown. `then`: the folder of an earlier one that it is held against; `prices`: a price
    file."""

    allow_machine: bool = False
    then: Path | None = None
    prices: Path | None = None


def show(folder: Path, console: Console, options: ShowOptions) -> int:
    """Writes the report and prints its table and where the charts are; returns the exit status."""
    # Drawing takes a second to import: an error in the comparison file should not wait for it.
    from harness.judge.lonely import lonely
    from harness.report.page import write_report
    from harness.report.terminal import rich_table

    comparison = write_report(folder, options.allow_machine, options.prices)
    console.print(rich_table(comparison))
    for chart in sorted((folder / "charts").glob("*.png")):
        console.print(f"chart   {chart}", soft_wrap=True)
    console.print(f"report  {folder / 'report.html'}", soft_wrap=True)
    console.print(f"data    {folder / 'comparison.json'}", soft_wrap=True)
    invalid = INVALID_CELLS if comparison.invalid_cells else DONE
    if options.then is not None:  # one candidate alone is enough
        from harness.commands.against import show_against

        return show_against(comparison, folder, options.then, console, options.allow_machine) or invalid
    if alone := lonely(comparison):  # again at the end: the first line may have scrolled away
        console.print(alone, style="bold", soft_wrap=True)
    return INVALID_CELLS if alone else invalid


def report(folder: Path, options: ShowOptions) -> int:
    """Redraws everything from stored results."""
    return show(folder, terminal(), options)

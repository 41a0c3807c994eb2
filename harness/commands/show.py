"""`harness report`, and the output that all commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands.alone import Taken, alone_in
from harness.errors import DONE, INVALID_CELLS, OUR_FAULT
from harness.progress import SafeConsole
from harness.records.campaign import CAMPAIGN

BESIDE = Path("results") / "side-by-side"  # where comparisons side by side are written

if TYPE_CHECKING:
    from harness.judge.comparison import Comparison


def terminal() -> Console:
    """Standard output; off a terminal, as wide as the tables need."""
    return SafeConsole()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowOptions:
    """How a comparison is shown. `file`: the comparison file, if it is known; `then`: the folder of an earlier
    comparison that it is held against; `prices`: a price file."""

    allow_machine: bool = False
    file: Path | None = None
    then: Path | None = None
    prices: Path | None = None


def show(folder: Path, console: Console, options: ShowOptions) -> int:
    """Writes the report and prints its table and where the charts are; returns the exit status."""
    # Drawing takes a second to import: an error in the comparison file should not wait for it.
    from harness.judge.incomplete import incomplete
    from harness.judge.lonely import lonely
    from harness.report.page import write_report
    from harness.report.terminal import rich_table

    undrawn: dict[str, str] = {}
    comparison = write_report(folder, options.allow_machine, options.prices, undrawn.__setitem__)
    console.print(rich_table(comparison, console.width))
    for chart in sorted((folder / "charts").glob("*.png")):
        console.print(f"chart   {chart}", soft_wrap=True)
    console.print(f"report  {folder / 'report.html'}", soft_wrap=True)
    console.print(f"data    {folder / 'comparison.json'}", soft_wrap=True)
    for name, why in undrawn.items():
        console.print(f"chart   {name} could not be drawn, a fault of the harness: {why}", style="bold", soft_wrap=True)
    if line := outlier_line(comparison, folder, options.file):
        console.print(line, style="bold", soft_wrap=True)
    missing = incomplete(comparison)
    status = OUR_FAULT if undrawn else INVALID_CELLS if comparison.invalid_cells or missing else DONE
    if missing:  # again at the end: the first line may have scrolled away
        console.print(missing, style="bold", soft_wrap=True)
    if options.then is not None:  # one candidate alone is enough
        from harness.commands.against import show_against

        return max(show_against(comparison, folder, options.then, console, options.allow_machine), status)
    if alone := lonely(comparison):
        console.print(alone, style="bold", soft_wrap=True)
    return max(INVALID_CELLS, status) if alone else status


def outlier_line(comparison: Comparison, folder: Path, file: Path | None) -> str | None:
    """The round that is out of line, and the command that measures it again; None if there is none."""
    from harness.judge.outlier import outlier_round

    found = outlier_round(comparison)
    if found is None:
        return None
    title = comparison.candidate(found.candidate).title
    line = (
        f"Round {found.round} is out of line: {title} reached {found.ratio:.2f}x its usual throughput there, at "
        f"{', '.join(found.loads)}."
    )
    if found.round in comparison.repeated:  # repeating it until it fits would make the numbers what one likes
        return f"{line} It was measured again before and stays."
    return (
        f"{line} To measure this round again: harness compare {file or 'FILE'} --resume {folder} --again {found.round}"
    )


def report(folder: Path, options: ShowOptions) -> int:
    """Redraws everything from stored results. While another harness writes in the folder, it is shown and nothing is
    written: its own report follows."""
    from harness.commands.so_far import judged
    from harness.judge.incomplete import incomplete
    from harness.report.terminal import rich_table

    if not (folder / CAMPAIGN).is_file():
        judged(
            folder, options.allow_machine
        )  # says what is missing, and leaves no lock in a folder that is none of ours
    console = terminal()
    try:
        with alone_in(folder):
            return show(folder, console, options)
    except Taken as problem:
        comparison = judged(folder, options.allow_machine)
        console.print(rich_table(comparison, console.width))
        console.print(f"{problem} Nothing was written.", style="bold", soft_wrap=True)
        return INVALID_CELLS if comparison.invalid_cells or incomplete(comparison) else DONE


def report_beside(folders: Sequence[Path], out: Path | None = None, allow_machine: bool = False) -> int:
    """Shows several comparisons side by side and writes side-by-side.html and .md into `out` (default: BESIDE);
    their own folders are not touched. Raises NotComparable if they are of different models."""
    from harness.judge.comparison import compare
    from harness.judge.side_by_side import side_by_side
    from harness.records.comparison_folder import read_folder
    from harness.report.beside import terminal as shown
    from harness.report.beside import write

    comparisons = []
    for folder in folders:
        campaign, runs, calibration = read_folder(folder)
        comparisons.append(compare(runs, campaign, calibration, allow_machine=allow_machine))
    found = side_by_side(folders, comparisons)
    console = terminal()
    console.print(shown(found))
    for path in write(found, out or BESIDE):
        console.print(f"written {path}", soft_wrap=True)
    unread = [line for one in comparisons for line in one.unread]
    for line in unread:
        console.print(line, style="bold", soft_wrap=True)
    return INVALID_CELLS if unread else DONE

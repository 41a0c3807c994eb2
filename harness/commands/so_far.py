"""What is known while a comparison still runs: the table after each round, and whether it is precise enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.campaign.rounds import Rounds
from harness.errors import HarnessError, fault_text
from harness.progress import Display

if TYPE_CHECKING:
    from harness.judge.comparison import Comparison


def show_round(rounds: Rounds, round_index: int, display: Display, precision: float, allow_machine: bool) -> int:
    """Shows what is known after a round. Returns how many questions are not answered to the wanted precision: half the
    width of a ratio's interval. What cannot be judged now is said, and is judged again at the end."""
    display.say("judging")
    # Only now: a second of imports before the first start would be waited for.
    from harness.judge.precision_reached import wide_pairs
    from harness.report.preliminary import preliminary_table, told_line

    last = max(rounds.least, round_index)
    try:
        comparison = judged(rounds.folder, allow_machine)
    except HarnessError as problem:
        display.keep(f"round {round_index}: {problem}")
        return 0
    except Exception as problem:  # what was measured is worth more than a table in between
        why = fault_text(problem)
        display.keep(f"round {round_index} cannot be judged, a fault of the harness: {why}")
        return 0
    wide = wide_pairs(comparison, precision)
    if round_index < last or rounds.budget_s:  # else the whole report follows at once
        display.show(preliminary_table(comparison, f"After round {round_index} of {last}, preliminary"))
        display.keep(told_line(comparison))
    return len(wide)


def show_first(folder: Path, next_title: str, display: Display, allow_machine: bool) -> None:
    """Shows what is known before the next candidate is installed, which may take minutes."""
    from harness.report.preliminary import preliminary_table

    try:
        table = preliminary_table(judged(folder, allow_machine), f"So far, before {next_title} is installed")
    except HarnessError as problem:
        display.keep(f"what was measured so far cannot be shown yet: {problem}")
    except Exception as problem:  # the next candidate is measured all the same; it is judged again at the end
        display.keep(f"what was measured so far cannot be shown, a fault of the harness: {fault_text(problem)}")
    else:
        display.show(table)


def judged(folder: Path, allow_machine: bool) -> Comparison:
    """The comparison of the runs that are finished."""
    from harness.judge.comparison import compare
    from harness.records.comparison_folder import read_folder

    campaign, runs, calibration = read_folder(folder)
    return compare(runs, campaign, calibration, allow_machine=allow_machine)

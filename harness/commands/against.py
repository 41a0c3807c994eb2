"""Holds a comparison against an earlier one: before measuring, whether it can be; afterwards, what changed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.campaign.facts import machine_facts
from harness.campaign.rounds import Rounds
from harness.errors import DONE, REGRESSION
from harness.judge.comparison import Comparison, compare
from harness.judge.versions import Asked, asked_in, refuse_other_question
from harness.records.comparison_folder import read_folder
from harness.records.stored import write_json, write_whole

AGAINST_JSON, AGAINST_MD = "against.json", "against.md"


def judged_again(folder: Path, allow_machine: bool = False) -> Comparison:
    """The comparison in a folder, judged by this version from its runs: a stored judgement may have used other
    definitions. Raises HarnessError if the folder has no comparison."""
    campaign, runs, calibration = read_folder(folder)
    return compare(runs, campaign, calibration, allow_machine=allow_machine)


def refuse_before_measuring(then: Comparison, where: Path, rounds: Rounds, model: str, allow_machine: bool) -> None:
    """Raises NotComparable if what is about to be measured cannot be held against `then`: said now, and not after the
    measurement."""
    machine = machine_facts()
    schedules, loads = rounds.setting.schedules, rounds.setting.workload.load
    asked = Asked(
        where="this comparison",
        model=model,
        machines=dict.fromkeys(rounds.contenders, machine),
        loads={load.name: load for load in loads},
        requests={(load.name, 1): schedules.get(load, 1).digest for load in loads},
    )
    refuse_other_question(asked, asked_in(then, str(where)), allow_machine)


def show_against(now: Comparison, folder: Path, then: Path, console: Console, allow_machine: bool = False) -> int:
    """Writes against.md and against.json into `folder` and prints the table; returns the exit status. Raises
    NotComparable if the two cannot be held against each other."""
    from harness.judge.against import Held, against
    from harness.report.against import markdown, terminal_table

    before = Held(judged_again(then, allow_machine), str(then))
    found = against(Held(now, str(folder)), before, allow_machine)
    write_whole(folder / AGAINST_MD, markdown(found).encode())
    write_json(folder / AGAINST_JSON, found)
    console.print(terminal_table(found))
    console.print(f"summary {folder / AGAINST_MD}", soft_wrap=True)
    for line in before.comparison.unread:
        console.print(line, style="bold", soft_wrap=True)
    return REGRESSION if found.verdict == "regression" or before.comparison.unread else DONE

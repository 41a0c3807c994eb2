"""The table after each round, and what the report says of the rounds."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from harness.judge.comparison import compare
from harness.records.run import RunResult
from harness.report.preliminary import preliminary_table
from harness.report.rows import head_lines
from tests.invented import campaign


def shown(runs: list[RunResult]) -> list[str]:
    console = Console(width=100, file=io.StringIO())
    console.print(preliminary_table(compare(runs, campaign(finished=False)), "After round 3 of 5, preliminary"))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_a_row_for_each_load_and_candidate_with_intervals(invented_runs: list[RunResult]) -> None:
    title, heads, _, *rows = shown(invented_runs)
    assert title == "After round 3 of 5, preliminary"
    assert heads.split() == ["load", "candidate", "output", "tok/s", "TTFT", "p50,", "ms", "TPOT", "p50,", "ms"]
    assert [row.split()[:2] for row in rows[::2]] == [["c1", "Alpha"], ["c4", "Alpha"], ["offline", "Alpha"]]
    assert [row.split()[0] for row in rows[1::2]] == ["Beta"] * 3
    assert all(row.count("[") == 3 for row in rows)


def test_one_round_has_no_intervals(invented_runs: list[RunResult]) -> None:
    rows = shown([run for run in invented_runs if run.manifest.round == 1])[3:]
    assert len(rows) == 6 and not any("[" in row for row in rows)


def test_the_report_says_why_it_ended_and_what_was_measured_again(invented_runs: list[RunResult]) -> None:
    plain = head_lines(compare(invented_runs, campaign()))
    asked = replace(campaign(), ended="all 3 rounds are measured", repeated=(3, 2, 3), rounds_measured=3)
    assert head_lines(compare(invented_runs, asked)) == [
        *plain,
        "Rounds: all 3 rounds are measured.",
        "Measured again because the user asked for it: round 2, 3. What it was is in set-aside/.",
    ]

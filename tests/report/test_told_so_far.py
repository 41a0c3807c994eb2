"""How much is told after a round, and that the table fits a terminal."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from harness.report.preliminary import preliminary_table, told_line
from tests.told import C1, C4, told, values


def test_how_much_is_told() -> None:
    made = told(
        {"alpha": {C1: values()}, "beta": {C1: values(2.0)}}, {("beta", "alpha", "c1", "ttft_p50"): "not known"}
    )
    assert told_line(made).startswith("3 of 4 questions about two candidates told so far")
    nothing = tuple(replace(pair, verdict="not known") for pair in made.pairs)
    assert told_line(replace(made, pairs=nothing)).startswith("0 of 4 questions")
    assert told_line(told({"alpha": {C1: values()}})).startswith("No two candidates")


def test_the_table_fits_80_columns_with_long_names_and_large_numbers() -> None:
    long = told({"a-very-long-candidates-name": {C1: values(99.0), C4: values(0.01)}, "beta": {C1: values()}})
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(preliminary_table(long, "After round 1 of 5"))
    lines = capture.get().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80 and not any("…" in line for line in lines)

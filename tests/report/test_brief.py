"""The short table after a round."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from harness.judge.comparison import Comparison
from harness.report.brief import brief
from tests.told import C1, C4, told, values


def printed(comparison: Comparison, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(brief(comparison, "after round 1 of 5"))
    return capture.get()


def test_each_cell_with_its_intervals_and_how_much_is_told() -> None:
    verdicts = {("beta", "alpha", "c1", "ttft_p50"): "not known"}
    text = printed(told({"alpha": {C1: values()}, "beta": {C1: values(2.0)}}, verdicts))  # type: ignore[arg-type]
    assert text.startswith("after round 1 of 5\n")
    lines = [line.split() for line in text.splitlines()]
    assert ["c1", "Alpha", "100", "[90.9,", "110]", "100", "[90.9,", "110]", "10.0", "[9.09,", "11.0]"] in lines
    assert ["Beta", "200", "[182,", "220]", "50.0", "[45.5,", "55.0]", "5.00", "[4.55,", "5.50]"] in lines
    assert "3 of 4 questions about two candidates told so far" in text


def test_one_round_has_no_intervals() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values(2.0)}})
    cells = tuple(
        replace(c, metrics={k: replace(e, low=None, high=None) for k, e in c.metrics.items()}) for c in made.cells
    )
    pairs = tuple(replace(pair, verdict="not known") for pair in made.pairs)
    text = printed(replace(made, cells=cells, pairs=pairs))
    assert "[" not in text and "0 of 4 questions" in text


def test_one_candidate_has_nothing_to_tell_yet() -> None:
    assert "No two candidates" in printed(told({"alpha": {C1: values()}}))


def test_it_fits_80_columns_with_long_names_and_large_numbers() -> None:
    long = told({"a-very-long-candidates-name": {C1: values(99.0), C4: values(0.01)}, "beta": {C1: values()}})
    lines = printed(long).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80 and not any("…" in line for line in lines)

"""An engine against itself through the front door: the null engine twice, as if it were a real one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.judge.cells import Cell
from harness.judge.comparison import compare
from harness.judge.measured import CellKey, Measured, measured
from harness.judge.pairs import pairs
from harness.records.comparison_folder import read_comparison
from tests.compare_parts import SMALL, harness, with_engines

pytestmark = [pytest.mark.live, pytest.mark.slow]
ROUNDS = 6
RELABELLED = 200  # comparisons


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("aa")
    file = where / "aa.toml"
    file.write_text(SMALL.replace("rounds = 2", f"rounds = {ROUNDS}"))
    env = with_engines(where, even="")
    done = harness("compare", file, "--engines", "even,even", "--results", where / "results", env=env)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return where / "results"


def test_the_comparison_says_how_often_it_was_wrong(folder: Path) -> None:
    (found,) = json.loads((folder / "comparison.json").read_text())["aa"]
    assert found["candidates"] == ["even", "even-again"]
    assert found["questions"] >= 8  # 4 questions at 3 loads, less those that the check of the client's lag took out
    assert found["false_verdicts"] <= 1
    assert {one["question"] for one in found["noise"]} >= {"output_throughput", "ttft_p50"}


def test_false_verdicts_in_at_most_5_percent_of_comparisons(folder: Path) -> None:
    """Nobody can tell which of two equal engines was called which in a round: every relabelling is as good a comparison
    as the measured one."""
    campaign, runs = read_comparison(folder)
    cells = [replace(cell, verdict="ok") for cell in compare(runs, campaign).cells]
    rng = np.random.default_rng(4)
    loads = {cell.load for cell in cells}
    numbers = {
        (cell.candidate, cell.load): measured(
            [r for r in runs if (r.manifest.candidate.name, r.manifest.load.name) == (cell.candidate, cell.load)]
        )
        for cell in cells
    }
    false = 0
    for _ in range(RELABELLED):
        kept = sorted(rng.choice(ROUNDS, 5, replace=False))
        swapped = rng.random(ROUNDS) < 0.5  # a start is one draw: all loads of the round go with it
        false += _has_verdict(cells, _relabelled(numbers, loads, swapped, kept))
    assert false / RELABELLED <= 0.05


def _has_verdict(cells: list[Cell], numbers: dict[CellKey, Measured]) -> bool:
    machines = {"even": "here", "even-again": "here"}
    return any(pair.verdict in ("faster", "slower") for pair in pairs(cells, machines, numbers))


def _relabelled(
    numbers: dict[CellKey, Measured], loads: set[str], swapped: np.ndarray, kept: list[int]
) -> dict[CellKey, Measured]:
    found = {}
    for load in loads:
        two = numbers["even", load], numbers["even-again", load]
        for i, name in enumerate(("even", "even-again")):
            found[name, load] = replace(
                two[i],
                rounds=tuple(two[i].rounds[r] for r in kept),
                per_round={k: tuple(two[i ^ swapped[r]].per_round[k][r] for r in kept) for k in two[i].per_round},
                samples={k: tuple(two[i ^ swapped[r]].samples[k][r] for r in kept) for k in two[i].samples},
            )
    return found

"""Every planted fault is found, and its clean twin is not blamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.judge.checking import check
from tests.judge.planted import PLANTED
from tests.judge.planting import Planted

NAMES = [f"{one.code}: {one.fault}" for one in PLANTED]


@pytest.mark.parametrize("planted", PLANTED, ids=NAMES)
def test_a_planted_fault_is_found(planted: Planted, tmp_path: Path) -> None:
    found = check(planted.make(tmp_path), planted.code, planted.name, planted.calibrated)
    assert found.verdict == planted.verdict, found.message
    assert found.message


@pytest.mark.parametrize("planted", PLANTED, ids=NAMES)
def test_its_clean_twin_is_not_blamed(planted: Planted, tmp_path: Path) -> None:
    found = check(planted.clean(tmp_path), planted.code, planted.name, planted.calibrated)
    assert found.verdict == planted.silent, found.message


def test_the_documentation_has_the_same_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text()
    for one in PLANTED:
        row = f"| {one.code} | {one.fault} | {one.verdict} | {one.twin} | {one.silent} |"
        assert row in text, f"write it again: python -m tests.bench.faults\n{row}"

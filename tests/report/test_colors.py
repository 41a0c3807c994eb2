"""Shades of an engine's colour, told apart in print and without colours."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from harness.judge.comparison import Comparison, compare
from harness.report.charts.frame import styles
from harness.report.colors import colors, lightness, on_dark, shade
from tests.invented import ALPHA, BETA, campaign
from tests.invented_runs import Run


def several(run: Run, count: int) -> Comparison:
    made = [replace(ALPHA, name=f"alpha-{i}", engine="alpha") for i in range(count)]
    names = [*(one.name for one in made), "beta"]
    return compare([*(run(one) for one in made), run(BETA)], campaign(names))


@pytest.mark.parametrize(("count", "apart"), [(2, 20), (3, 15), (4, 8)])
def test_shades_of_one_hue_differ_in_lightness(run: Run, count: int, apart: float) -> None:
    found = colors(several(run, count))
    assert (found["alpha-0"], found["beta"]) == (ALPHA.color, BETA.color)
    mine = [lightness(found[f"alpha-{i}"]) for i in range(count)]
    assert min(abs(a - b) for a, b in combinations(mine, 2)) >= apart
    assert all(25 < level < 80 for level in mine)  # to be seen on white
    dark = [lightness(on_dark(color)) for color in found.values()]
    assert min(dark) > 50  # to be seen on the dark page
    assert sorted(range(count), key=lambda i: mine[i]) == sorted(range(count), key=lambda i: dark[i])


def test_a_shade_has_the_lightness_asked_for() -> None:
    for color in ("#2f6fde", "#f5b301", "#4b5563"):
        for level in (30.0, 50.0, 75.0):
            assert lightness(shade(color, level)) == pytest.approx(level, abs=0.7)


def test_lightness_by_hand() -> None:
    assert (lightness("#000000"), lightness("#ffffff")) == pytest.approx((0.0, 100.0))
    assert lightness("#777777") == pytest.approx(50.0, abs=0.2)


def test_every_candidate_has_its_own_look(run: Run) -> None:
    found = styles(several(run, 9))
    looks = {(style.marker, str(style.line)) for style in found.values()}
    assert len(looks) == len(found) == 10
    mine = [str(found[f"alpha-{i}"].bare) for i in range(3)]
    assert len(set(mine)) == 3  # where there are no markers

"""Charts: what is drawn where. How they look was judged by eye."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from harness.judge.charts import (
    CHARTS,
    first_token,
    first_token_distribution,
    load_positions,
    per_token,
    throughput,
    trade_off,
)
from harness.judge.comparison import compare
from harness.judge.frame import PAPER
from harness.records import RunResult
from tests.judge.conftest import Run
from tests.judge.invented import ALPHA, BETA, WORKLOAD, campaign, failed, records

ONE, FOUR, OFFLINE = WORKLOAD.load


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def tick_labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def lines_of(axes: Axes, color: str) -> list[int]:
    """How many points each plain line of an engine joins."""
    found = [line for line in axes.lines if to_hex(line.get_color()) == color and line.get_linestyle() == "-"]
    return [np.asarray(line.get_xdata()).size for line in found if line.get_marker() == "None"]


def test_the_batch_stands_right_of_the_axis_and_is_joined_with_nothing(invented_runs: list[RunResult]) -> None:
    comparison = compare(invented_runs, campaign())
    positions = load_positions(comparison.load_points)
    assert (positions["c1"], positions["c4"]) == (0.0, 2.0)
    assert positions["offline"] > 3
    (axes,) = throughput(comparison).axes
    assert tick_labels(axes) == ["1", "4", "offline\n6 at once"]
    assert 2 in lines_of(axes, ALPHA.color) and 3 not in lines_of(axes, ALPHA.color)
    assert axes.get_ylim()[0] == 0


def test_the_footer_says_what_was_measured(invented_runs: list[RunResult]) -> None:
    comparison = compare(invented_runs, campaign(["alpha", "beta", "gamma"], {"gamma": "no GPU"}))
    for _, draw in CHARTS:
        said = texts(draw(comparison))
        for part in (
            "tiny-llama",
            "bfloat16",
            "Invented CPU 3000, 8 cores, no GPU",
            "Alpha 1.2.3",
            "Beta 1.2.3",
            invented_runs[0].manifest.schedules_digest[:12],
            "3 rounds",
            "Student-t",
            "gamma (no GPU)",
            "better",
        ):
            assert part in said


def test_every_label_lies_inside_the_figure(invented_runs: list[RunResult]) -> None:
    long = [
        replace(r, manifest=replace(r.manifest, machine={"id": "x", "cpu": "A very long processor name " * 9}))
        for r in invented_runs
    ]
    comparison = compare(long, campaign(["alpha", "beta", "gamma"], {"gamma": "a long reason " * 30}))
    for figure in (*(draw(comparison) for _, draw in CHARTS), first_token_distribution(comparison, long)):
        figure.draw_without_rendering()
        outer = figure.bbox
        for box in [t.get_window_extent() for t in figure.texts] + [b for a in figure.axes if (b := a.get_tightbbox())]:
            assert outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1


def test_an_invalid_cell_is_hollow(run: Run) -> None:
    rows = [failed(row) if row.index == 0 else row for row in records(BETA, ONE)]
    figure = throughput(compare([run(), run(BETA, rows=rows)], campaign()))
    faces = {
        to_hex(line.get_markeredgecolor()): to_hex(line.get_markerfacecolor())
        for line in figure.axes[0].lines
        if line.get_marker() not in ("None", "_", "")
    }
    assert faces[BETA.color] == PAPER
    assert faces[ALPHA.color] == ALPHA.color


def test_ticks_stay_plain_on_a_logarithmic_axis(run: Run) -> None:
    slow = replace(ALPHA, tpot_ms=3000.0)
    figure = per_token(compare([run(), run(point=FOUR, rows=records(slow, FOUR))], campaign()))
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    figure.draw_without_rendering()
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert {"50", "1,000"} <= set(shown)
    assert tick_labels(axes) == ["1", "4"]


@pytest.mark.parametrize("points", [[ONE], [OFFLINE]])
def test_one_engine_one_point_one_round(run: Run, points: list[object]) -> None:
    runs = [run(point=points[0])]
    comparison = compare(runs, campaign(["alpha"]))
    for draw in (throughput, first_token, per_token, trade_off):
        assert "no error bars" in texts(draw(comparison))
    assert "pooled" in texts(first_token_distribution(comparison, runs))


def test_nothing_came_back_and_still_a_chart(run: Run) -> None:
    runs = [run(rows=[failed(row) for row in records(ALPHA, ONE)])]
    comparison = compare(runs, campaign(["alpha"]))
    for _, draw in CHARTS:
        draw(comparison)
    first_token_distribution(comparison, runs)

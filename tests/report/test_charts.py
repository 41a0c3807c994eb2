"""Charts: what is drawn where. How they look was judged by eye."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from harness.judge.comparison import compare
from harness.judge.pairs import PairVerdict
from harness.records.calibration import Peak
from harness.records.run import RunResult
from harness.report.charts.charts import CHARTS, chart_names, charts_of, draw, parts_of, write_charts
from harness.report.charts.frame import PAPER
from harness.report.charts.panel import load_axis, load_positions
from harness.report.page import write_report
from harness.workload.loads import Load
from tests.cli import harness
from tests.invented import (
    ALPHA,
    BETA,
    FOUR,
    OFFLINE,
    ONE,
    calibration,
    campaign,
    changed,
    failed,
    open_records,
    records,
)
from tests.invented_runs import Run
from tests.loads import load
from tests.told import C1, C4, told, values


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
    positions = load_positions(comparison.loads)
    assert (positions["c1"], positions["c4"]) == (0.0, 2.0)
    assert positions["offline"] > 3
    (axes,) = draw("throughput", comparison).axes
    assert tick_labels(axes) == ["1", "4", "offline\n6 at once"]
    assert 2 in lines_of(axes, ALPHA.color) and 3 not in lines_of(axes, ALPHA.color)
    assert axes.get_ylim()[0] == 0


def open_runs(run: Run, *points: Load, late_ms: float = 0.0) -> list[RunResult]:
    return [
        run(engine, point, rows=open_records(engine, getattr(point, "rate", None) or 3.0, 5, [late_ms] * 5))
        for engine in (ALPHA, BETA)
        for point in points
    ]


def dashed(axes: Axes) -> list[int]:
    found = [line for line in axes.lines if line.get_marker() == "x" and line.get_linestyle() == "--"]
    return [np.asarray(line.get_xdata()).size for line in found]


RATES = (load(5, rate=1.0), load(5, rate=4.0))
OTHERS = (
    load(5, rate=4.0, arrivals="constant"),
    load(5, rate=4.0, arrivals="gamma", burstiness=0.5),
    load(5, rate=2.0, ramp_to=20.0),
    load(5, arrivals="trace"),
)


def test_rates_have_an_axis_of_their_own_and_other_arrivals_stand_beside_it(run: Run) -> None:
    order = tuple(point.name for point in (*RATES, *OTHERS))
    comparison = compare(open_runs(run, *RATES, *OTHERS), replace(campaign(), loads=order))
    assert load_axis(comparison.loads) == {"r1": 1.0, "r4": 4.0}
    (axes,) = draw("throughput", comparison).axes
    assert tick_labels(axes) == ["1", "4", "4\nconstant", "4\ngamma 0.5", "2 to 20", "trace\n(3)"]
    assert axes.get_xlabel() == "offered rate (requests per second)"
    assert max(lines_of(axes, ALPHA.color)) == 2


@pytest.mark.parametrize(("late_ms", "drawn"), [(0.0, False), (0.9, False), (5.0, True)])
def test_ttft_from_the_schedule_is_drawn_where_it_differs(run: Run, late_ms: float, drawn: bool) -> None:
    figure = draw("ttft", compare(open_runs(run, *RATES, late_ms=late_ms), campaign()))
    for axes in figure.axes:
        assert (2 in dashed(axes)) == drawn
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("dashed: from the scheduled time" in legend) == drawn


@pytest.mark.slow
def test_each_kind_of_load_has_its_own_charts(run: Run, tmp_path: Path) -> None:
    both = [*open_runs(run, *RATES), run(), run(BETA), run(load=load(8, batch=4))]
    names = ["answers", "throughput", "ttft", "tpot", "latency-vs-throughput", "ttft-distribution"]
    rated = [f"{name}-rate" for name in names]
    comparison = compare(both, campaign())
    assert chart_names(comparison) == names + rated
    write_charts(comparison, both, tmp_path / "charts")
    assert {path.stem for path in (tmp_path / "charts").iterdir()} == {*names, *rated}
    assert chart_names(compare(both[:4], campaign())) == rated
    (axes,) = draw("throughput", dict(parts_of(comparison))[""]).axes
    assert tick_labels(axes) == ["1", "batches\nof 4"]


def test_two_loops_of_one_concurrency_do_not_share_a_place(run: Run) -> None:
    slow = load(8, 4, ramp_s=2.0)
    comparison = compare([run(load=FOUR), run(load=slow)], campaign(["alpha"]))
    assert list(load_axis(comparison.loads)) == ["c4"]
    assert tick_labels(draw("throughput", comparison).axes[0]) == ["4", slow.name]


def test_names_of_many_loads_do_not_run_into_each_other(run: Run) -> None:
    runs = open_runs(run, *RATES, *OTHERS, late_ms=50.0)
    comparison = compare(runs, campaign())
    for figure in (draw(chart.name, comparison) for chart in CHARTS[1:4]):
        figure.draw_without_rendering()
        for axes in figure.axes:
            boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
            assert all(a.x1 < b.x0 for a, b in pairwise(sorted(boxes, key=lambda box: float(box.x0))))


def test_the_footer_says_that_a_trace_has_its_own_lengths(run: Run) -> None:
    runs = [
        run(load=OTHERS[3], rows=open_records(ALPHA, 3.0, 5), schedule__input_tokens=None, schedule__output_tokens=None)
    ]
    assert "lengths of the trace" in texts(draw("throughput", compare(runs, campaign())))


def test_the_footer_says_what_was_measured(invented_runs: list[RunResult]) -> None:
    comparison = compare(invented_runs, campaign(["alpha", "beta", "gamma"], {"gamma": "no GPU"}))
    for chart in charts_of(comparison)[1:-1]:  # the last one has no error bars
        said = texts(draw(chart.name, comparison))
        assert chart.title in said and chart.direction in said
        for part in (
            "tiny-llama",
            "bfloat16",
            "Invented CPU 3000, 8 cores, no GPU",
            "Alpha 1.2.3",
            "Beta 1.2.3",
            invented_runs[0].manifest.schedule.whole[:12],
            "3 rounds",
            "95 % intervals",
            "gamma (no GPU)",
            "better",
        ):
            assert part in said


def test_every_label_lies_inside_the_figure(invented_runs: list[RunResult]) -> None:
    long = [
        replace(r, manifest=changed(r.manifest, machine__cpu="A very long processor name " * 9)) for r in invented_runs
    ]
    comparison = compare(long, campaign(["alpha", "beta", "gamma"], {"gamma": "a long reason " * 30}))
    for figure in [draw(chart.name, comparison, long) for chart in charts_of(comparison)]:
        figure.draw_without_rendering()
        outer = figure.bbox
        for box in [t.get_window_extent() for t in figure.texts] + [b for a in figure.axes if (b := a.get_tightbbox())]:
            assert outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1


def test_an_invalid_cell_is_hollow(run: Run) -> None:
    rows = [failed(row) if row.index == 0 else row for row in records(BETA, ONE)]
    figure = draw("throughput", compare([run(), run(BETA, rows=rows)], campaign()))
    faces = {
        to_hex(line.get_markeredgecolor()): to_hex(line.get_markerfacecolor())
        for line in figure.axes[0].lines
        if line.get_marker() not in ("None", "_", "")
    }
    assert faces[BETA.color] == PAPER
    assert faces[ALPHA.color] == ALPHA.color


def test_ticks_stay_plain_on_a_logarithmic_axis(run: Run) -> None:
    slow = replace(ALPHA, tpot_ms=3000.0)
    figure = draw("tpot", compare([run(), run(load=FOUR, rows=records(slow, FOUR))], campaign()))
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    figure.draw_without_rendering()
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert {"50", "1,000"} <= set(shown)
    assert tick_labels(axes) == ["1", "4"]


@pytest.mark.parametrize("asked", [ONE, OFFLINE])
def test_one_candidate_one_load_one_round(run: Run, asked: Load) -> None:
    runs = [run(load=asked)]
    comparison = compare(runs, campaign(["alpha"]))
    for chart in CHARTS[1:5]:
        assert "no error bars" in texts(draw(chart.name, comparison))
    assert "pooled" in texts(draw("ttft-distribution", comparison, runs))


def test_nothing_came_back_and_still_a_chart(run: Run) -> None:
    runs = [run(rows=[failed(row) for row in records(ALPHA, ONE)])]
    comparison = compare(runs, campaign(["alpha"]))
    for chart in charts_of(comparison):
        draw(chart.name, comparison, runs)


def test_the_share_of_the_roofline_is_drawn_where_the_machine_was_measured(run: Run) -> None:
    runs = [run(engine, load, model__decode_bytes=10**8) for engine in (ALPHA, BETA) for load in (ONE, FOUR)]
    assert "roofline" not in chart_names(compare(runs, campaign()))
    peaks = (Peak("cpu", 20e9, None, "measured", 1.0),)
    comparison = compare(runs, campaign(), replace(calibration(), peaks=peaks))
    assert "roofline" in chart_names(comparison)
    (axes,) = draw("roofline", comparison).axes
    shares = [cell.metrics["roofline_share"].mean for cell in comparison.cells if cell.candidate == "alpha"]
    drawn = [np.asarray(one.get_ydata()) for one in axes.lines if to_hex(one.get_color()) == ALPHA.color]
    (line,) = [values for values in drawn if values.size == 2]
    assert line.tolist() == pytest.approx([100 * (share or 0) for share in shares])
    assert 0 < line.min() < line.max() < 100


def test_the_glance_has_a_panel_for_each_question_and_a_mark_for_each_verdict() -> None:
    verdicts: dict[tuple[str, str, str, str], PairVerdict] = {("beta", "alpha", "c1", "tpot_p50"): "not known"}
    measured = {"alpha": {C1: values(), C4: values()}, "beta": {C1: values(2.0), C4: values(2.0, ttft_p50=0.1)}}
    comparison = told(measured, verdicts, {("beta", "c4"): [("RATE", "doubt")]})
    figure = draw("answers", comparison)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Throughput", "TTFT", "TPOT", "E2E latency"]
    marks = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert marks == [["▲ 2.00", "▲ 2.00"], ["▲ 2.00", "= 1.00"], ["? 2.00", "▲ 2.00"], ["▲ 2.00", "▲ 2.00"]]
    faces = [
        [to_hex(line.get_markerfacecolor()) for line in axes.lines if line.get_marker() == "s"] for axes in figure.axes
    ]
    assert faces[2][0] == PAPER != faces[2][1]  # hollow: not told
    assert "How many times as fast as Alpha" in texts(figure)
    low, high = figure.axes[0].get_xlim()
    assert low < 1 / 1.2 and high > 2.2


def test_an_invalid_cell_has_a_mark_and_no_point_at_a_glance() -> None:
    measured = {"alpha": {C1: values(), C4: values()}, "beta": {C1: values(2.0), C4: values(2.0)}}
    figure = draw("answers", told(measured, against={("beta", "c4"): [("RATE", "invalid")]}))
    assert [text.get_text() for text in figure.axes[0].texts] == ["▲ 2.00", "× –"]
    everything = told(measured, against={("beta", at): [("RATE", "invalid")] for at in ("c1", "c4")})
    assert "No pair has a ratio" in texts(draw("answers", everything))


def test_a_candidate_alone_has_no_glance() -> None:
    assert "answers" not in chart_names(told({"alpha": {C1: values()}}))
    assert chart_names(told({"alpha": {C1: values()}, "beta": {C1: values()}}))[0] == "answers"


@pytest.mark.parametrize(("known", "panels"), [((90, 95, 99), "p99"), ((90,), "p90"), ((), None)])
def test_the_tail_of_ttft_is_the_highest_percentile_that_is_known(known: tuple[int, ...], panels: str | None) -> None:
    made = told({"alpha": {C1: values(**{f"ttft_p{q}": 0.2 for q in known})}})
    titles = [axes.get_title(loc="left") for axes in draw("ttft", made).axes]
    assert len(titles) == (2 if panels else 1) and (panels or "p50") in titles[-1]


ODD_TITLES = ("$PATH_{x", "a $ b", "\\frac{", "🚀 中文", "<b>&amp;", "_hidden", "%s {x}", "x" * 200)


@pytest.mark.parametrize("odd", ODD_TITLES)
def test_any_name_and_any_reason_can_be_drawn(run: Run, tmp_path: Path, odd: str) -> None:
    """`$PATH_{x` would be a formula with a fault in it."""
    runs = [run(), run(BETA, candidate__title=odd, model__weight_dtype="$q_{4")]
    skipped = {"gamma": f"exited: $PATH_{{x {odd}"}
    comparison = replace(compare(runs, campaign(skipped=skipped)), name=odd)
    assert write_charts(comparison, runs, tmp_path) == {}
    drawn = (tmp_path / "throughput.svg").read_text()
    assert escape(odd) in drawn and "$PATH_{x" in drawn


def test_a_chart_that_cannot_be_drawn_costs_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(folder)

    def broken(*_: object) -> Figure:
        raise ZeroDivisionError("no <width>")

    changed_charts = [replace(chart, draw=broken) if chart.name == "tpot" else chart for chart in CHARTS]
    monkeypatch.setattr("harness.report.charts.charts.CHARTS", tuple(changed_charts))
    done = harness("report", folder)
    assert done.returncode == 70 and "Traceback" not in done.stderr
    assert "tpot could not be drawn, a fault of the harness: ZeroDivisionError: no <width>" in done.stdout
    assert not (folder / "charts" / "tpot.svg").exists() and (folder / "charts" / "ttft.svg").is_file()
    assert (
        "The chart tpot could not be drawn: ZeroDivisionError: no &lt;width&gt;" in (folder / "report.html").read_text()
    )

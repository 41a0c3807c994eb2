"""The chart of series over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.judge.comparison import compare
from harness.records.comparison_folder import read_comparison
from harness.records.run import RunResult
from harness.records.samples import write_samples
from harness.report.charts.charts import chart_names, draw
from harness.report.charts.series import ROWS
from tests.invented import ALPHA, FOUR, write_comparison
from tests.invented_runs import Run

BY_LABEL = {row.label: row for row in ROWS}


def sampled(folder: Path, *names: str) -> Path:
    made = write_comparison(folder)
    for path in made.glob("runs/*/*/*/manifest.json"):
        rows = [(t, name, 10.0 * t) for t in (0.0, 0.5, 1.0) for name in names]
        write_samples(path.parent, rows)
    return made


def test_it_is_left_out_where_nothing_was_sampled(tmp_path: Path) -> None:
    campaign, runs = read_comparison(write_comparison(tmp_path / "without"))
    assert "series" not in chart_names(compare(runs, campaign))
    campaign, runs = read_comparison(sampled(tmp_path / "with", "engine_rss_bytes"))
    assert chart_names(compare(runs, campaign))[-1] == "series"


def test_a_row_for_each_series_that_is_there_and_a_column_for_each_load(tmp_path: Path) -> None:
    campaign, runs = read_comparison(sampled(tmp_path / "with", "engine_cpu_s", "engine_rss_bytes", "engine_waiting"))
    figure = draw("series", compare(runs, campaign), runs)
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == ["tokens/s", "in flight", "waiting,\nby the engine", "CPU cores", "memory (GB)"]
    assert len(figure.axes) == 3 * len(labels)
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["c1", "c4", "offline"]
    cores = figure.axes[3 * 3].get_lines()
    assert len(cores) == 2  # one for each candidate
    assert np.asarray(cores[0].get_ydata()).tolist() == [10.0, 10.0]  # CPU seconds per second
    assert "round 1 of 3" in " ".join(text.get_text() for text in figure.texts)


@pytest.fixture
def four(run: Run) -> RunResult:
    """8 requests of 5 tokens by 4 slots: 2 waves of 180 ms."""
    return run(ALPHA, FOUR, duration_s=0.36)


def test_what_the_client_saw_adds_up(four: RunResult) -> None:
    for label, total in (("tokens/s", 40.0), ("in flight", 8 * 0.18)):
        found = BY_LABEL[label].of(four)
        assert found is not None
        width = found.t_s[1] - found.t_s[0]
        assert float(np.sum(found.values * width)) == pytest.approx(total)
    in_flight = BY_LABEL["in flight"].of(four)
    assert in_flight is not None and in_flight.values.max() == pytest.approx(4.0)


def test_a_counter_of_energy_becomes_a_power(four: RunResult) -> None:
    write_samples(
        four.folder, [(0.0, "cpu_energy_j", 100.0), (0.2, "cpu_energy_j", 110.0), (0.2, "cpu_energy_j", 110.0)]
    )
    found = BY_LABEL["power (W)"].of(four)
    assert found is not None and found.values.tolist() == [50.0] and found.t_s.tolist() == [0.1]

"""Columns: one entry is enough for table, page, help and terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape
from rich.console import Console

from harness.judge.comparison import Comparison, compare
from harness.records.metrics import BY_KEY, METRICS
from harness.records.run import RunResult
from harness.report import columns
from harness.report.charts.charts import write_charts
from harness.report.page import html
from harness.report.table import markdown
from harness.report.terminal import WIDTH, fitting, rich_table, widths
from tests.invented import ALPHA, BETA, campaign, open_records
from tests.invented_runs import Run
from tests.loads import load

OPEN_LOOP = load(5, rate=10.0)


def printed(comparison: Comparison) -> str:
    console = Console(width=WIDTH, force_terminal=False)
    with console.capture() as capture:
        console.print(rich_table(comparison))
    return capture.get()


@pytest.fixture
def open_loop(run: Run) -> tuple[Comparison, list[RunResult]]:
    runs = [run(e, OPEN_LOOP, r, rows=open_records(e, 10.0, 5)) for e in (ALPHA, BETA) for r in (1, 2)]
    return compare(runs, campaign()), runs


@pytest.mark.parametrize("key", [metric.key for metric in METRICS if metric.key not in columns.SHOWN])
def test_any_metric_can_be_a_column(
    monkeypatch: pytest.MonkeyPatch, open_loop: tuple[Comparison, list[RunResult]], tmp_path: Path, key: str
) -> None:
    comparison, _ = open_loop
    monkeypatch.setattr(columns, "SHOWN", (*columns.SHOWN[:1], key))
    metric = BY_KEY[key]
    assert f" {columns.heading(metric)} |" in markdown(comparison)
    text = printed(comparison)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH and metric.short.split()[0] in text
    (tmp_path / "charts").mkdir()
    for name in ("answers", "throughput", "ttft", "tpot", "latency-vs-throughput", "ttft-distribution"):
        (tmp_path / "charts" / f"{name}-rate.svg").write_text("<svg></svg>")
    page = html(comparison, tmp_path / "charts")
    assert f">{columns.heading(metric)}</abbr>" in page and str(escape(metric.help)) in page


@pytest.mark.slow
def test_a_column_more_in_the_widest_table(
    monkeypatch: pytest.MonkeyPatch, open_loop: tuple[Comparison, list[RunResult]], tmp_path: Path
) -> None:
    comparison, runs = open_loop
    write_charts(comparison, runs, tmp_path)
    monkeypatch.setattr(columns, "SHOWN", (*columns.SHOWN, "itl_p99", "e2e_scheduled_p99"))
    assert "| E2E p99 | ITL p99 | E2E due p99 |" in markdown(comparison)
    text = printed(comparison)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    assert "In table.md and report.html: " in text and "E2E due p99." in text
    assert "ITL p99</abbr>" in html(comparison, tmp_path)


def test_the_tail_of_e2e_is_shown(invented_runs: list[RunResult]) -> None:
    assert "| E2E p50 | E2E p99 |" in markdown(compare(invented_runs, campaign()))


@pytest.mark.parametrize("count", range(1, len(METRICS)))
def test_the_terminals_columns_fill_its_width_at_most(count: int) -> None:
    shown = fitting(METRICS[:count])
    found = widths(shown)
    assert sum(found) + len(found) - 1 <= WIDTH
    assert found[-1] >= len("invalid")
    assert len(shown) == count or count > 8


def test_throughput_per_gpu_is_a_column_where_a_candidate_has_several(run: Run) -> None:
    alone = compare([run(endpoint__gpus=1), run(BETA, endpoint__gpus=1)], campaign())
    assert "per GPU" not in markdown(alone)
    several = compare([run(endpoint__gpus=1), run(BETA, endpoint__gpus=2)], campaign())
    text = markdown(several)
    assert "| output tok/s | tok/s per GPU |" in text
    assert "| Alpha | 27.8 | 27.8 |" in text and "| Beta | 55.6 ? | 27.8 |" in text


def test_it_is_null_where_there_is_no_gpu(run: Run) -> None:
    for gpus in (0, None):
        found = compare([run(endpoint__gpus=gpus)], campaign()).cells[0].metrics["output_throughput_per_gpu"]
        assert found.mean is None


def test_every_metric_says_what_it_is() -> None:
    for metric in METRICS:
        assert metric.help.endswith(".") and metric.formula and metric.short
    assert len({metric.short for metric in METRICS}) == len(METRICS) == len(BY_KEY)
    assert replace(METRICS[0], larger_is_better=None).direction == ""

"""A short table after each round, while more are measured."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.judge.comparison import Comparison
from harness.judge.words import counted
from harness.records.metrics import BY_KEY, Metric
from harness.report.columns import estimate_text

SHOWN = ("output_throughput", "ttft_p50", "tpot_p50")


def brief(comparison: Comparison, title: str) -> RenderableType:
    """Throughput, TTFT and TPOT of each cell with their intervals, and how many
    of the questions about two candidates are told. For a terminal of 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    metrics = [BY_KEY[key] for key in SHOWN]
    table.add_column("load", max_width=9, overflow="fold")
    table.add_column("candidate", max_width=16, overflow="fold")
    for metric in metrics:
        table.add_column(_heading(metric), justify="right", max_width=17, overflow="fold")
    for load in comparison.loads:
        name = load.name
        for one in comparison.candidates:
            cell = comparison.cell(one.name, load.name)
            if cell is None:
                continue
            hollow = cell.verdict == "invalid"
            values = [estimate_text(metric, cell.metrics[metric.key]) for metric in metrics]
            table.add_row(name, one.title, *values, style="dim" if hollow else "")
            name = ""
    return Group(Text(title, style="bold"), table, Text(_told(comparison), style="dim"))


def _heading(metric: Metric) -> str:
    return f"{metric.short} ms" if metric.unit == "s" else metric.short


def _told(comparison: Comparison) -> str:
    asked = [pair for pair in comparison.pairs if pair.ratio is not None]
    if not asked:
        return "No two candidates have been measured at the same load yet."
    told = sum(pair.verdict in ("faster", "slower", "equal") for pair in asked)
    return f"{told} of {counted(len(asked), 'question')} about two candidates told so far; brackets: 95 % intervals."

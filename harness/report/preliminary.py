"""What is known after each round, while a comparison still runs."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.judge.comparison import Comparison
from harness.judge.stats import Estimate
from harness.judge.words import counted
from harness.records.metrics import BY_KEY
from harness.report.text import milliseconds, number

SHOWN = ("output_throughput", "ttft_p50", "tpot_p50")


def preliminary_table(comparison: Comparison, title: str) -> RenderableType:
    """A row for each load and candidate: throughput, TTFT and TPOT with their intervals. Without checks' texts, charts
    or verdicts: those are for all rounds together."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("load", overflow="fold")
    table.add_column("candidate", overflow="fold")
    for key in SHOWN:
        metric = BY_KEY[key]
        table.add_column(metric.short + (", ms" if metric.unit == "s" else ""), justify="right", overflow="fold")
    titles = {one.name: one.title for one in comparison.candidates}
    once = {one.name for one in comparison.candidates if one.once}
    for load in comparison.loads:
        here = [cell for cell in comparison.cells if cell.load == load.name]
        for i, cell in enumerate(here):
            values = (_text(cell.metrics[key], BY_KEY[key].unit == "s") for key in SHOWN)
            mark = " (invalid)" if cell.verdict == "invalid" else ""
            mark += " (not ranked)" if cell.candidate in once else ""
            table.add_row("" if i else load.name, titles[cell.candidate] + mark, *values)
    return Group(Text(""), Text(title, style="bold"), table, Text(""))


def told_line(comparison: Comparison) -> str:
    """How many of the questions about two candidates have an answer so far."""
    asked = [pair for pair in comparison.pairs if pair.ratio is not None]
    if not asked:
        return "No two candidates have been measured at the same load yet."
    told = sum(pair.verdict in ("faster", "slower", "equal") for pair in asked)
    return f"{told} of {counted(len(asked), 'question')} about two candidates told so far; brackets: 95 % intervals."


def _text(estimate: Estimate, as_ms: bool) -> str:
    show = milliseconds if as_ms else number
    if estimate.low is None or estimate.high is None:
        return show(estimate.mean)
    return f"{show(estimate.mean)} [{show(estimate.low)}, {show(estimate.high)}]"

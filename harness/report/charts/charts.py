"""Every chart once, in the order of the report; and the function that writes them all."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from harness.errors import fault_text
from harness.judge.comparison import Comparison
from harness.records.run import RunResult
from harness.records.stored import write_whole
from harness.report.charts.draw import against_load, first_token, first_token_distribution, trade_off
from harness.report.charts.frame import Chart
from harness.report.charts.glance import at_a_glance
from harness.report.charts.panel import Panel
from harness.report.charts.series import series_over_time

PNG_DPI = 160
GLANCE = "answers"
# Names and reasons come from outside: `$PATH_{x` in one of them would be read as a formula with a fault in it.
PLAIN_TEXT: dict[Any, Any] = {"text.parse_math": False}
RATE = "-rate"  # suffix of the charts against the offered rate

CHARTS: tuple[Chart, ...] = (
    Chart(
        GLANCE,
        "The answer at a glance",
        "How many times as fast as the reference",
        "right is faster",
        at_a_glance,
        needs_pairs=True,
    ),
    Chart(
        "throughput",
        "How many tokens are generated per second",
        "Output throughput over the measured window",
        "higher is better",
        against_load(Panel("output_throughput", "output tokens per second"), allow_log=False),
    ),
    Chart(
        "ttft",
        "Time to the first token",
        "Time to first token (TTFT), from sending the request",
        "lower is better",
        first_token,
    ),
    Chart(
        "tpot",
        "Time per further token",
        "Time per output token (TPOT) after the first, median",
        "lower is better",
        against_load(Panel("tpot_p50", "TPOT p50 (ms)", 1e3), allow_log=True),
    ),
    Chart(
        "latency-vs-throughput",
        "What more throughput costs in latency",
        "Each point is one load, joined as load rises",
        "lower right is better",
        trade_off,
    ),
    Chart(
        "ttft-distribution",
        "How the time to first token is spread over requests",
        "Share of requests with a first token by that time, all rounds pooled; each panel has its own time axis",
        "further left is better",
        first_token_distribution,
    ),
    Chart(
        "series",
        "What the engines took, second by second",
        "One round of each load; seconds since the start of the run",
        "tokens/s and in flight are the client's own",
        series_over_time,
        needs="engine_memory_peak",  # of whose processes samples were taken
    ),
    Chart(
        "roofline",
        "How near each comes to what the machine allows",
        "Output throughput as a share of the roofline: what memory and arithmetic allow with this many in flight",
        "higher is better",
        against_load(Panel("roofline_share", "share of the roofline (%)", 100.0), allow_log=False),
        needs="roofline_share",
    ),
)


def draw(name: str, comparison: Comparison, runs: Sequence[RunResult] = ()) -> Figure:
    """The chart of this name; `runs` is needed for charts that show single requests."""
    return _drawn(next(one for one in CHARTS if one.name == name), comparison, runs)


def _drawn(chart: Chart, comparison: Comparison, runs: Sequence[RunResult]) -> Figure:
    with matplotlib.rc_context(PLAIN_TEXT):
        return chart.draw(chart, _compared(comparison), runs)


NOT_DRAWN = "measured, and not drawn: its numbers say nothing of its speed"


def _compared(comparison: Comparison) -> Comparison:
    """Without engines that say nothing of their speed: a bar beside the others' would say something. All of them if
    there is nothing else."""
    kept = tuple(one for one in comparison.candidates if not one.once)
    names = {one.name for one in kept}
    if not kept:
        return comparison
    return replace(
        comparison,
        candidates=kept,
        cells=tuple(cell for cell in comparison.cells if cell.candidate in names),
        skipped={one.name: NOT_DRAWN for one in comparison.candidates if one.once} | dict(comparison.skipped),
    )


def parts_of(comparison: Comparison) -> list[tuple[str, Comparison]]:
    """Splits the comparison by the axis of its charts: (suffix of their names, comparison with those loads). "" is the
    concurrency, "-rate" the offered rate; a part without loads is left out."""
    parts = []
    for ending in ("", RATE):
        loads = tuple(load for load in comparison.loads if load.open_loop == (ending == RATE))
        names = {load.name for load in loads}
        cells = tuple(cell for cell in comparison.cells if cell.load in names)
        if loads:
            parts.append((ending, replace(comparison, loads=loads, cells=cells)))
    return parts


def chart_names(comparison: Comparison) -> list[str]:
    """The names of a comparison's charts, in the order of the report."""
    return [f"{chart.name}{ending}" for ending, part in parts_of(comparison) for chart in charts_of(part)]


def charts_of(part: Comparison) -> list[Chart]:
    """The charts of one part of a comparison that have something to show."""
    loads = {load.name for load in part.loads}
    several = any(pair.load in loads for pair in part.pairs)
    known = {key for cell in part.cells for key, found in cell.metrics.items() if found.mean is not None}
    shown = [chart for chart in CHARTS if not chart.needs or chart.needs in known]
    return [chart for chart in shown if several or not chart.needs_pairs]


def write_charts(comparison: Comparison, runs: Sequence[RunResult], folder: Path) -> dict[str, str]:
    """Writes each chart as SVG and PNG into `folder`, the same bytes for the same records. Returns the charts that
    could not be drawn, each with the reason: a fault in one must not cost the others, nor the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = {}
    for ending, part in parts_of(comparison):
        for chart in charts_of(part):
            name = f"{chart.name}{ending}"
            try:
                _save(_drawn(chart, part, runs), folder / name)
            except (OSError, MemoryError):  # a full disk, not a fault of this chart
                raise
            except Exception as problem:  # the page names the chart that is missing, and shows the others
                for suffix in (".svg", ".png"):  # of an earlier report
                    (folder / name).with_suffix(suffix).unlink(missing_ok=True)
                failed[name] = fault_text(problem)
    return failed


def _save(figure: Figure, stem: Path) -> None:
    # A fixed salt and no date: the same results give the same bytes. Text stays text, for screen readers and searches,
    # at a tenth of the size.
    style: dict[Any, Any] = {"svg.hashsalt": stem.name, "svg.fonttype": "none", **PLAIN_TEXT}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # drawn as a box; the page has the character
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], dpi=PNG_DPI, metadata=metadata)
            write_whole(stem.with_suffix(suffix), buffer.getvalue())

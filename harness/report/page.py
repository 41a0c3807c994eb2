"""A comparison folder's report: comparison.json, charts/, table.md and report.html from its stored runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from jinja2 import Environment
from markupsafe import Markup

from harness.errors import HarnessError
from harness.judge.comparison import RATIO_METRICS, Comparison, compare
from harness.judge.findings import candidates_text, findings, where_text
from harness.records.calibration import CALIBRATION, Calibration, read_calibration
from harness.records.campaign import Campaign, read_campaign
from harness.records.manifest import MANIFEST
from harness.records.metrics import BY_KEY, METRICS
from harness.records.run import RunResult, read_run
from harness.records.stored import write_json
from harness.report.charts.charts import chart_names, write_charts
from harness.report.charts.frame import GRID, INK, PAPER
from harness.report.table import (
    FLOOR_HEADER,
    floor_line,
    floor_rows,
    head_lines,
    header,
    latency_keys,
    markdown,
    not_measured_lines,
    ratio_rows,
    ratio_text,
    reading_lines,
    reference_title,
    rows,
)
from harness.report.text import number

TEMPLATE = Path(__file__).with_name("page.html.jinja")
HELP = {  # of the columns, by their headings
    "output tok/s": "Output tokens per second over the measured window, all requests. Higher is better.",
    "TTFT p50": "Time to first token, the median: from sending to the first token. Lower is better.",
    "TTFT p99": "Time to first token, the 99th percentile: 1 request in 100 waits longer. Lower is better.",
    "TTFT due p50": "The same median from when the request was due: what its user waited.",
    "TTFT due p99": "The same 99th percentile from when the request was due.",
    "TPOT p50": "Time per output token after the first, the median over requests. Lower is better.",
    "E2E p50": "From sending a request to its last byte, the median. Lower is better.",
    "tok/s ratio": "Output throughput divided by the reference engine's, round by round, with its 95 % interval.",
    "verdict": "better or worse: the interval does not contain 1. not separable: it does. unknown: fewer than "
    "two rounds in common. invalid: a check says that the number does not mean what it seems to.",
}
# The charts' three neutral colours become the page's, so that they follow the dark mode.
CHART_COLORS = {PAPER: "var(--paper)", INK: "var(--ink)", GRID: "var(--grid)"}


def write_report(folder: Path) -> Comparison:
    """Reads the finished runs under `folder`/runs and writes what is concluded from them beside it.

    The same runs give the same bytes; nothing under runs/ is touched. Raises HarnessError where `folder`
    is no comparison or has no finished run, NotComparable where its runs cannot stand side by side."""
    campaign, runs = read_comparison(folder)
    comparison = compare(runs, campaign, _calibration(folder))
    write_charts(comparison, runs, folder / "charts")
    _write_text(folder / "table.md", markdown(comparison))
    _write_text(folder / "report.html", html(comparison, folder / "charts"))
    # Last, so that a full disk leaves no comparison that looks finished.
    write_json(folder / "comparison.json", comparison)
    return comparison


def read_comparison(folder: Path) -> tuple[Campaign, list[RunResult]]:
    """The campaign and every finished run of a comparison folder, ordered by path."""
    try:
        campaign = read_campaign(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise HarnessError(f"{folder}: not a comparison (there is no campaign.json)") from None
    except msgspec.DecodeError as error:
        raise HarnessError(f"{folder / 'campaign.json'}: cannot be read: {error}") from None
    found = sorted((folder / "runs").glob(f"*/*/*/{MANIFEST}"))
    if not found:
        raise HarnessError(f"{folder}: no finished run (no {MANIFEST} under runs/)")
    return campaign, [_read(path.parent) for path in found]


def _read(folder: Path) -> RunResult:
    try:
        return read_run(folder)
    except (msgspec.DecodeError, OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HarnessError(f"{folder}: a finished run that cannot be read: {first}") from None


def _calibration(folder: Path) -> Calibration | None:
    try:
        return read_calibration(folder)
    except msgspec.DecodeError as error:
        raise HarnessError(f"{folder / CALIBRATION}: cannot be read: {error}") from None


def html(comparison: Comparison, charts: Path) -> str:
    """report.html: one page that needs nothing else, with the SVG charts of the folder `charts` in it."""
    # Every text of a run (an engine's error, a model's name) is escaped: only the charts are markup.
    keys = latency_keys(comparison.loads)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        c=comparison,
        head=head_lines(comparison),
        reference=reference_title(comparison),
        charts=[(name, inline_svg(charts / f"{name}.svg")) for name in chart_names(comparison)],
        points=[(point, rows(comparison, point, keys)) for point in comparison.loads],
        help={name: HELP[name] for name in header(keys)[1:]},
        floor_header=FLOOR_HEADER,
        floor_rows=floor_rows(comparison),
        floor_line=floor_line(comparison),
        ratio_metrics=[BY_KEY[key] for key in RATIO_METRICS],
        ratio_rows=ratio_rows(comparison),
        ratio_text=ratio_text,
        findings=findings(comparison),
        candidates_text=candidates_text,
        where_text=where_text,
        settings=_side_by_side({e.name: e.settings for e in comparison.candidates}),
        declared=_side_by_side({e.name: e.declared for e in comparison.candidates}),
        cold_start=_side_by_side(
            {e.name: {k: number(v) for k, v in e.cold_start_s.items()} for e in comparison.candidates}
        ),
        not_measured=not_measured_lines(comparison),
        reading=reading_lines(comparison),
        metrics=METRICS,
    )


def inline_svg(path: Path) -> Markup:
    """The chart as an element of the page: ids made its own, neutral colours made the page's."""
    svg = path.read_text(encoding="utf-8")
    body = svg[svg.index("<svg") :]
    # Two charts on one page with the same ids would draw with each other's markers and clips.
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{path.stem}-", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    for attribute in ("width", "height"):  # the page's width rules, the viewBox keeps the proportions
        body = re.sub(rf'(<svg\b[^>]*?) {attribute}="[^"]*"', r"\1", body, count=1)
    for color, variable in CHART_COLORS.items():
        body = body.replace(color, variable)
    return Markup(body)


def _side_by_side(tables: Mapping[str, Mapping[str, str]]) -> list[tuple[str, list[str], bool]]:
    """(key, the value of each engine, whether they differ), by key."""
    keys = dict.fromkeys(key for table in tables.values() for key in table)
    found = []
    for key in keys:
        values = [table.get(key, "not stated") for table in tables.values()]
        found.append((key, values, len(set(values)) > 1))
    return found


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)

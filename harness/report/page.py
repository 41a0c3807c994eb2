"""Writes the report of a comparison folder: comparison.json, charts/, table.md and report.html from its runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from harness.judge.candidates import CandidateSummary
from harness.judge.checks.table import RULES
from harness.judge.comparison import COMPARISON, Comparison, compare
from harness.judge.findings import candidates_text, doubts, findings, notes, where_text
from harness.judge.incomplete import incomplete
from harness.judge.lonely import lonely
from harness.records.comparison_folder import read_folder
from harness.records.metrics import METRICS
from harness.records.prices import priced, read_prices
from harness.records.stored import write_json, write_whole
from harness.report.charts.charts import GLANCE, chart_names, write_charts
from harness.report.charts.frame import GRID, INK, PAPER
from harness.report.colors import colors, on_dark
from harness.report.columns import CHECKS_HELP, columns, helps, resources
from harness.report.pair_rows import asked, pair_text, references
from harness.report.resource_lines import resource_lines
from harness.report.rows import (
    FLOOR_HEADER,
    floor_line,
    floor_rows,
    head_lines,
    legend,
    not_measured_lines,
    pair_words,
    reading_lines,
    reference_title,
    rows,
    withheld_lines,
)
from harness.report.said import cut, parted, texts_intro
from harness.report.table import markdown
from harness.report.text import MISSING, machine_line, number
from harness.report.variants import variants

TEMPLATE = Path(__file__).with_name("page.html.jinja")
# The charts' neutral colours, and those of candidates, become CSS variables, so that charts follow the dark mode.
CHART_COLORS = {PAPER: "var(--paper)", INK: "var(--ink)", GRID: "var(--grid)"}


def write_report(
    folder: Path,
    allow_machine: bool = False,
    prices: Path | None = None,
    undrawn: Callable[[str, str], None] = lambda chart, why: None,
) -> Comparison:
    """Reads the finished runs under `folder`/runs and writes the report into `folder`. `prices`: a price file;
    `undrawn` gets each chart that could not be drawn, and why.

    The same runs give the same bytes; nothing under runs/ is changed. Raises HarnessError if `folder` is not a
    comparison or has no finished run, NotComparable if its runs cannot be compared."""
    campaign, runs, calibration = read_folder(folder)
    if prices is not None:
        runs = priced(runs, read_prices(prices), str(prices))
    comparison = compare(runs, campaign, calibration, allow_machine=allow_machine)
    failed = write_charts(comparison, runs, folder / "charts")
    write_whole(folder / "table.md", markdown(comparison).encode())
    write_whole(folder / "report.html", html(comparison, folder / "charts", failed).encode())
    for name, why in failed.items():
        undrawn(name, why)
    # Last, so that a full disk leaves no comparison that looks finished.
    write_json(folder / COMPARISON, comparison)
    return comparison


def html(comparison: Comparison, charts: Path, failed: Mapping[str, str] = MappingProxyType({})) -> str:
    """report.html: one self-contained page, with the SVG charts of the folder `charts` in it. `failed`: charts that
    could not be drawn, and why."""
    # Every text from a run (an engine's error, a model's name) is escaped; only the charts are markup.
    shades = colors(comparison)
    variables = {color: f"var(--c{i})" for i, color in enumerate(dict.fromkeys(shades.values()))}
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cut": cut, "parted": parted}
    names = chart_names(comparison)
    glance = [name for name in names if name.startswith(GLANCE)]  # beside the answers

    def chart(name: str) -> str:
        if name in failed:
            return f"The chart {name} could not be drawn: {failed[name]}"
        return inline_svg(charts / f"{name}.svg", variables)

    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        c=comparison,
        charts=[(name, chart(name)) for name in names if name not in glance],
        glance=[(name, chart(name)) for name in glance],
        palette=[(variable[4:-1], color, on_dark(color)) for color, variable in variables.items()],
        metrics=METRICS,
        rules=RULES,
        colors={name: variables[color] for name, color in shades.items()},
        texts_intro=texts_intro(comparison),
        **_results(comparison),
        **_findings(comparison),
        **_configuration(comparison),
    )


def _results(comparison: Comparison) -> dict[str, Any]:
    shown = columns(comparison, comparison.loads)
    taken = resources(comparison)
    return {
        "warnings": [why for why in (lonely(comparison), incomplete(comparison)) if why],
        "head": head_lines(comparison),
        "legend": legend(comparison),
        "loads": [(load, rows(comparison, load, shown)) for load in comparison.loads],
        "help": helps(shown),
        "checks_help": CHECKS_HELP,
        "resource_help": helps(taken),
        "resources": [(load, rows(comparison, load, taken)) for load in comparison.loads] if taken else [],
        "resource_lines": resource_lines(comparison),
        "asked": asked(comparison),
        "references": references(comparison),
        "titles": {one.name: one.title for one in comparison.candidates},
        "pair_text": pair_text,
        "pair_words": partial(pair_words, comparison),
        "reference": reference_title(comparison),
        "withheld": withheld_lines(comparison),
        "not_measured": not_measured_lines(comparison),
        "reading": reading_lines(comparison),
    }


def _findings(comparison: Comparison) -> dict[str, Any]:
    return {
        "doubts": doubts(comparison),
        "notes": notes(comparison),
        "clean": [one for one in findings(comparison) if one.verdict == "ok"],
        "helps": {rule.code: f"{rule.title}: {rule.help}" for rule in RULES},
        "candidates_text": candidates_text,
        "where_text": where_text,
        "floor_header": FLOOR_HEADER,
        "floor_rows": floor_rows(comparison),
        "floor_line": floor_line(comparison),
    }


def _configuration(comparison: Comparison) -> dict[str, Any]:
    every = comparison.candidates
    return {
        "variants": variants(comparison),
        "settings": _side_by_side({one.name: one.settings for one in every}),
        "declared": _side_by_side({one.name: _in_words(one) for one in every}),
        "cold_start": _side_by_side({one.name: {k: number(v) for k, v in one.cold_start_s.items()} for one in every}),
        "machines": [(one.id or MISSING, machine_line(one), one.system or MISSING) for one in comparison.machines],
    }


def _in_words(one: CandidateSummary) -> dict[str, str]:
    """Declared differences, and which of the settings above are not verified or not known."""
    asked = {"not verified, assumed as asked": ", ".join(one.unverified)} if one.unverified else {}
    unknown = {f"not known: {name}": why for name, why in one.unknown.items()}
    return {**one.declared, **asked, **unknown}


def inline_svg(path: Path, candidates: Mapping[str, str]) -> Markup:
    """The chart as an element of the page, with unique ids, and colours replaced by CSS variables. `candidates`:
    colour -> its variable."""
    svg = path.read_text(encoding="utf-8")
    body = svg[svg.index("<svg") :]
    # If two charts had the same ids, one would be drawn with the other's markers and clips.
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{path.stem}-", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    for attribute in ("width", "height"):  # the page's width rules, the viewBox keeps the proportions
        body = re.sub(rf'(<svg\b[^>]*?) {attribute}="[^"]*"', r"\1", body, count=1)
    for color, variable in {**CHART_COLORS, **candidates}.items():
        body = body.replace(color, variable)
    return Markup(body)


def _side_by_side(tables: Mapping[str, Mapping[str, str]]) -> list[tuple[str, list[str], bool]]:
    """(key, the value of each candidate, whether they differ), by key."""
    keys = dict.fromkeys(key for table in tables.values() for key in table)
    found = []
    for key in keys:
        values = [table.get(key, "not stated") for table in tables.values()]
        found.append((key, values, len(set(values)) > 1))
    return found

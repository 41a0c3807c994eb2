"""The comparison as a table: Markdown for table.md, rich for the terminal, rows for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.judge.comparison import RATIO_METRICS, Cell, Comparison, Ratio
from harness.judge.findings import findings, summary
from harness.judge.loads import LoadSummary
from harness.records.metrics import BY_KEY
from harness.report.text import MISSING, candidates_line, half, machine_line, milliseconds, number, precision_line

# Column -> metric. The TTFT from the schedule stands only where requests were due at a time.
LATENCIES = {
    "TTFT p50": "ttft_p50",
    "TTFT p99": "ttft_p99",
    "TTFT due p50": "ttft_scheduled_p50",
    "TTFT due p99": "ttft_scheduled_p99",
    "TPOT p50": "tpot_p50",
    "E2E p50": "e2e_p50",
}
FLOOR_HEADER = ("load", "TTFT error p50 (ms)", "p99 (ms)", "TPOT error p99 (ms)", "tokens/s reached", "CPU/token (µs)")
STYLES = {"better": "green", "worse": "red", "invalid": "bold red", "reference": "dim", "not separable": "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """One engine at one load, ready to print: latencies in ms, the ratio is of output throughput.
    `cell` is null where the engine was not measured; `note` then says why."""

    engine: str
    title: str
    throughput: str
    latencies: tuple[str, ...]
    ratio: str
    verdict: str
    note: str
    cell: Cell | None


def latency_keys(points: Sequence[LoadSummary]) -> tuple[str, ...]:
    """The latencies that a table of these loads shows, in the order of its columns."""
    due = any(point.open_loop for point in points)
    return tuple(key for key in LATENCIES.values() if due or "scheduled" not in key)


def header(keys: Sequence[str]) -> tuple[str, ...]:
    """The headings of a table with these latencies."""
    names = (name for name, key in LATENCIES.items() if key in keys)
    return ("engine", "output tok/s", *names, "tok/s ratio", "verdict")


def rows(comparison: Comparison, point: LoadSummary, keys: Sequence[str] | None = None) -> list[Row]:
    """A row per engine, in report order, with these latencies (default: those of the load)."""
    keys = latency_keys([point]) if keys is None else keys
    return [_row(comparison, point.name, engine.name, engine.title, keys) for engine in comparison.candidates]


def _row(comparison: Comparison, point: str, engine: str, title: str, keys: Sequence[str]) -> Row:
    cell = comparison.cell(engine, point)
    if cell is None:
        why = comparison.skipped.get(engine, "no finished run at this load")
        return Row(engine, title, MISSING, (MISSING,) * len(keys), MISSING, "not measured", why, None)
    tokens = cell.metrics["output_throughput"]
    ratio = comparison.ratio(engine, point, "output_throughput")
    rounds = len(cell.rounds)
    note = "" if rounds == comparison.rounds else f"{rounds} of {comparison.rounds} rounds"
    return Row(
        engine,
        title,
        f"{number(tokens.mean)} {half(tokens)}".strip(),
        tuple(milliseconds(cell.metrics[key].mean) for key in keys),
        ratio_text(ratio),
        _verdict(comparison, cell, ratio),
        note,
        cell,
    )


def _verdict(comparison: Comparison, cell: Cell, ratio: Ratio | None) -> str:
    if cell.verdict == "invalid":
        return "invalid"
    if ratio is not None:
        return "reference invalid" if ratio.verdict == "invalid" else ratio.verdict
    if cell.candidate == comparison.reference:
        return "reference"
    null = any(engine.null for engine in comparison.candidates if engine.name == cell.candidate)
    return "not an engine" if null else "reference not measured"


def ratio_text(ratio: Ratio | None) -> str:
    """`1.23 [1.10, 1.38]`; without brackets where there is no interval."""
    if ratio is None or ratio.ratio is None:
        return MISSING
    if ratio.low is None or ratio.high is None:
        return f"{ratio.ratio:.2f}"
    # A bound that reads 1.00 beside "better" or "worse" would look like a contradiction.
    digits = 3 if "1.00" in (f"{ratio.low:.2f}", f"{ratio.high:.2f}") else 2
    return f"{ratio.ratio:.{digits}f} [{ratio.low:.{digits}f}, {ratio.high:.{digits}f}]"


def reference_title(comparison: Comparison) -> str:
    """The title of the engine that ratios are against."""
    return next(engine.title for engine in comparison.candidates if engine.name == comparison.reference)


def head_lines(comparison: Comparison) -> list[str]:
    """Model, machine and versions, one line each."""
    model = str(comparison.model.get("name") or "model not stated")
    return [
        ", ".join(part for part in (f"Model: {model}", precision_line(comparison)) if part),
        f"Machine: {machine_line(comparison.machine)}",
        f"Engines: {candidates_line(comparison)}",
        f"Schedule digest: {comparison.schedules_digest[:12]}",
    ]


def reading_lines(comparison: Comparison) -> list[str]:
    """How the numbers above came about: n, percentile method, intervals, formulas."""
    asked = ", ".join(f"{p.name} {p.requests}" for p in comparison.loads)
    lines = [
        f"n: requests per round and engine: {asked}; {comparison.rounds} rounds asked for. Percentiles within a "
        f"round by numpy's '{comparison.percentile_method}' method, then the mean over rounds; the p99 of fewer than "
        "101 requests lies between the two largest.",
        "±: half the 95 % Student-t interval of the mean over rounds; missing with fewer than two rounds.",
        f"Ratio: output throughput against {reference_title(comparison)}, geometric mean over rounds with its "
        "95 % interval (paired by round); 'not separable' where that contains 1.",
        "Latencies in milliseconds. Failed requests are in no latency and no throughput.",
    ]
    cancelled = sum(cell.requests_cancelled for cell in comparison.cells)
    if cancelled:
        lines.append(f"{cancelled} requests were given up by their user as planned: neither failed nor in any latency.")
    if any(point.open_loop for point in comparison.loads):
        lines.append("due: from the scheduled time, not from the send; it contains what the client was late.")
    shown = ("output_throughput", *latency_keys(comparison.loads))
    return lines + [f"{BY_KEY[key].title} = {comparison.formulas[key]}." for key in shown]


def floor_line(comparison: Comparison) -> str:
    """What the floor is and when it was measured; empty where it was not."""
    made = comparison.calibration
    if made is None:
        return ""
    workers = f"{made.workers} worker{'s' if made.workers > 1 else ''}"
    return (
        f"The client's own floor on this machine: what it reported of the null server less what that server's own "
        f"log says, with {workers}, {made.measured_at}."
    )


def floor_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The calibration under FLOOR_HEADER, a row per load."""
    floors = comparison.calibration.floors if comparison.calibration else ()
    return [
        (
            floor.load,
            milliseconds(floor.ttft_error_p50_s),
            milliseconds(floor.ttft_error_p99_s),
            milliseconds(floor.tpot_error_p99_s),
            number(floor.tokens_per_s),
            number(None if floor.client_cpu_s_per_token is None else floor.client_cpu_s_per_token * 1e6),
        )
        for floor in floors
    ]


def doubt_lines(comparison: Comparison) -> list[str]:
    """One line per finding that is not ok."""
    return [f"{f.verdict}: {summary(f, comparison)}" for f in findings(comparison) if f.verdict != "ok"]


def not_measured_lines(comparison: Comparison) -> list[str]:
    """Engine and reason, a line each; then engines that miss rounds or loads."""
    lines = [f"{name}: {reason}" for name, reason in comparison.skipped.items()]
    for point in comparison.loads:
        lines += [
            f"{row.title}, {point.name}: {row.note}"
            for row in rows(comparison, point)
            if row.note and row.candidate not in comparison.skipped
        ]
    return lines


def markdown(comparison: Comparison) -> str:
    """The whole of table.md."""
    parts = [f"# {_escaped(comparison.name)}", "\n".join(f"- {_escaped(line)}" for line in head_lines(comparison))]
    if not comparison.finished:
        parts.append("**Interrupted: this is what was measured until then.**")
    for point in comparison.loads:
        keys = latency_keys([point])
        cells = [_markdown_row(row) for row in rows(comparison, point)]
        table = _markdown_table(header(keys), cells, f"lr{'r' * len(keys)}ll")
        parts += [f"## {point.name}: {point.description}", table]
    if comparison.ratios:
        parts += [f"## Ratios to {_escaped(reference_title(comparison))}", _ratio_table(comparison)]
    if comparison.calibration:
        table = _markdown_table(FLOOR_HEADER, floor_rows(comparison), "lrrrrr")
        parts += ["## The client's own floor", floor_line(comparison), table]
    for title, lines in (
        ("Doubts", doubt_lines(comparison)),
        ("Not measured, or not fully", not_measured_lines(comparison)),
        ("How to read this", reading_lines(comparison)),
    ):
        if lines:
            parts += [f"## {title}", "\n".join(f"- {_escaped(line)}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def _markdown_row(row: Row) -> tuple[str, ...]:
    return row.title, row.throughput, *row.latencies, row.ratio, _with_codes(row)


def _with_codes(row: Row) -> str:
    """The verdict, and the codes of the checks that are not ok."""
    codes = [check.code for check in row.cell.checks if check.verdict == "invalid"] if row.cell else []
    return f"{row.verdict}: {', '.join(codes)}" if codes else row.verdict


def ratio_rows(comparison: Comparison) -> list[tuple[str, str, tuple[Ratio, ...]]]:
    """(load, engine title, its ratios in the order of RATIO_METRICS), in report order."""
    found = []
    for point in comparison.loads:
        for engine in comparison.candidates:
            mine = [comparison.ratio(engine.name, point.name, metric) for metric in RATIO_METRICS]
            if all(mine):
                found.append((point.name, engine.title, tuple(ratio for ratio in mine if ratio is not None)))
    return found


def _ratio_table(comparison: Comparison) -> str:
    header = ("load", "engine", *(BY_KEY[metric].title for metric in RATIO_METRICS))
    cells = [
        (
            point,
            title,
            *(f"{ratio_text(r)} {r.verdict}" if r.ratio is not None else f"{r.verdict} ({r.reason})" for r in ratios),
        )
        for point, title, ratios in ratio_rows(comparison)
    ]
    return _markdown_table(header, cells, "llllll")


def _markdown_table(header: tuple[str, ...], cells: list[tuple[str, ...]], align: str) -> str:
    rule = ["---:" if side == "r" else "---" for side in align]
    lines = [header, rule, *[[_escaped(text) for text in row] for row in cells]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escaped(text: str) -> str:
    """Keeps a reason or an engine's error from being read as table, HTML or emphasis."""
    flat = " ".join(text.split())
    for mark in "\\|<*`_":
        flat = flat.replace(mark, "\\" + mark)
    return flat


def rich_table(comparison: Comparison) -> RenderableType:
    """For a terminal of 100 columns: a table per load, doubts and reasons below."""
    parts: list[RenderableType] = [Text(comparison.name, style="bold")]
    parts += [Text(line, style="dim") for line in head_lines(comparison)]
    if not comparison.finished:
        parts.append(Text("Interrupted: this is what was measured until then.", style="yellow"))
    parts += [_rich_point(comparison, point) for point in comparison.loads]
    for title, lines in (
        ("Doubts", doubt_lines(comparison)),
        ("Not measured, or not fully", not_measured_lines(comparison)),
    ):
        if lines:
            parts += [Text(title, style="bold"), *(Padding(Text(line), (0, 0, 0, 2)) for line in lines), Text("")]
    parts += [Text(line, style="dim") for line in reading_lines(comparison)]
    return Group(*parts)


def _rich_point(comparison: Comparison, point: LoadSummary) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    # The same widths at every load, or the columns of the tables would not line up.
    keys = latency_keys([point])
    widths = (15, 13, *(6,) * 4, 20, 13) if len(keys) == 4 else (12, 12, *(6,) * 6, 20, 10)
    for name, width, side in zip(header(keys), widths, f"lr{'r' * len(keys)}ll", strict=True):
        table.add_column(
            name, width=width, justify="right" if side == "r" else "left", overflow="fold", vertical="bottom"
        )
    for row in rows(comparison, point):
        style = STYLES.get(row.verdict, "")
        texts = (row.title, row.throughput, *row.latencies, row.ratio)
        table.add_row(
            *(Text(text, style="dim" if row.verdict == "invalid" else "") for text in texts),
            Text(row.verdict, style=style),
        )
    title = Text(f"{point.name}: {point.description} (latencies in ms)", style="bold")
    return Group(Text(""), title, table, Text(""))

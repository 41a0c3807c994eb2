"""The comparison as rows of text, for table.md, the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.judge.candidates import CandidateSummary
from harness.judge.checks.evidence import Verdict
from harness.judge.comparison import Cell, Comparison, Pair
from harness.judge.findings import doubts, notes, summary
from harness.judge.loads import LoadSummary
from harness.judge.questions import QUESTIONS
from harness.judge.words import interval_words
from harness.records.metrics import BY_KEY, Metric
from harness.report.columns import cell_text, columns
from harness.report.text import MISSING, candidates_line, machines_line, milliseconds, number, precision_line

FLOOR_HEADER = ("load", "TTFT error p50 (ms)", "p99 (ms)", "TPOT error p99 (ms)", "tokens/s reached", "CPU/token (µs)")


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate at one load, as text: a value for each metric shown; the ratio is of output throughput. `cell` is
    None if the candidate was not measured; `note` then says why."""

    candidate: str
    title: str
    values: tuple[str, ...]
    ratio: str
    verdict: str
    note: str
    cell: Cell | None

    def codes(self, verdict: Verdict) -> tuple[str, ...]:
        """The codes of the checks with this verdict."""
        return tuple(check.code for check in self.cell.checks if check.verdict == verdict) if self.cell else ()


def rows(comparison: Comparison, load: LoadSummary, shown: Sequence[Metric] | None = None) -> list[Row]:
    """One row per candidate, in report order, with these metrics (default: those of the load)."""
    shown = columns(comparison, [load]) if shown is None else shown
    return [_row(comparison, load.name, one, shown) for one in comparison.candidates]


def _row(comparison: Comparison, load: str, one: CandidateSummary, shown: Sequence[Metric]) -> Row:
    cell = comparison.cell(one.name, load)
    if cell is None:
        why = comparison.skipped.get(one.name, "no finished run at this load")
        return Row(one.name, one.title, (MISSING,) * len(shown), MISSING, "not measured", why, None)
    ratio = comparison.to_reference(one.name, load, "output_throughput")
    rounds = len(cell.rounds)
    return Row(
        one.name,
        one.title,
        tuple(cell_text(metric, cell.metrics[metric.key]) for metric in shown),
        ratio_text(ratio),
        _verdict(one, cell, ratio),
        "" if rounds == comparison.rounds else f"{rounds} of {comparison.rounds} rounds",
        cell,
    )


def _verdict(one: CandidateSummary, cell: Cell, ratio: Pair | None) -> str:
    if cell.verdict == "invalid":
        return "invalid"
    if ratio is not None:
        return "reference invalid" if ratio.verdict == "invalid" else ratio.verdict
    if one.reference == one.name:
        return "reference"
    return "not an engine" if one.null else "reference not measured"


def ratio_text(ratio: Pair | None) -> str:
    """`1.23 [1.10, 1.38]`; without brackets where there is no interval."""
    return MISSING if ratio is None else interval_words(ratio.ratio, ratio.low, ratio.high)


def reference_title(comparison: Comparison) -> str:
    """The title of the reference candidate; several if each machine has its own."""
    references = dict.fromkeys(one.reference or comparison.reference for one in comparison.candidates if not one.null)
    return " and ".join(comparison.candidate(name).title for name in references or [comparison.reference])


def head_lines(comparison: Comparison) -> list[str]:
    """Model, machine and versions, one line each."""
    model = str(comparison.model.get("name") or "model not stated")
    return [
        ", ".join(part for part in (f"Model: {model}", precision_line(comparison)) if part),
        f"Machine: {machines_line(comparison)}",
        f"Candidates: {candidates_line(comparison)}",
        f"Schedule digest: {comparison.schedules_digest[:12]}",
    ]


def reading_lines(comparison: Comparison) -> list[str]:
    """How the numbers were computed: n, percentile method, intervals, formulas."""
    asked = ", ".join(f"{load.name} {load.requests}" for load in comparison.loads)
    lines = [
        f"n, the requests per round and candidate: {asked}; {comparison.rounds} rounds asked for. Percentiles within "
        f"a round by numpy's '{comparison.percentile_method}' method, then the mean over rounds; the p99 of fewer than "
        "101 requests is between the two largest values.",
        "±: half the 95 % Student-t interval of the mean over rounds; missing with fewer than two rounds.",
        "Latencies in milliseconds. Failed requests count in no latency and no throughput.",
    ]
    if comparison.pairs:
        lines.append(
            f"Ratio: output throughput divided by that of {reference_title(comparison)}, geometric mean over rounds "
            "with its 95 % interval (paired by round); 'not known' if the interval contains 1."
        )
    cancelled = sum(cell.requests_cancelled for cell in comparison.cells)
    if cancelled:
        lines.append(
            f"{cancelled} requests were cancelled by their user as planned: neither failed nor in any latency."
        )
    if any(load.open_loop for load in comparison.loads):
        lines.append("due: from the scheduled time, not from the send; this includes the client's dispatch delay.")
    shown = columns(comparison, comparison.loads)
    return lines + [f"{metric.title} = {comparison.formulas[metric.key]}." for metric in shown]


def floor_line(comparison: Comparison) -> str:
    """What the floor is and when it was measured; empty if it was not measured."""
    made = comparison.calibration
    if made is None:
        return ""
    workers = f"{made.workers} worker{'s' if made.workers > 1 else ''}"
    return (
        f"The client's own floor on this machine: the times that it measured against the null server minus the times "
        f"in that server's log, with {workers}, {made.measured_at}."
    )


def floor_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The rows of the calibration under FLOOR_HEADER, one per load."""
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
    """One line per doubt or invalid finding."""
    return [f"{one.verdict}: {summary(one, comparison)}" for one in doubts(comparison)]


def note_lines(comparison: Comparison) -> list[str]:
    """One line per note."""
    return [summary(one, comparison) for one in notes(comparison)]


def not_measured_lines(comparison: Comparison) -> list[str]:
    """One line per skipped candidate with its reason, then per candidate that lacks rounds or loads."""
    lines = [f"{name}: {reason}" for name, reason in comparison.skipped.items()]
    for load in comparison.loads:
        lines += [
            f"{row.title}, {load.name}: {row.note}"
            for row in rows(comparison, load)
            if row.note and row.candidate not in comparison.skipped
        ]
    return lines


def ratio_rows(comparison: Comparison) -> list[tuple[str, str, tuple[Pair, ...]]]:
    """(load, candidate's title, its ratios in the order of QUESTIONS), in report order."""
    found = []
    for load in comparison.loads:
        for one in comparison.candidates:
            mine = [comparison.to_reference(one.name, load.name, question.key) for question in QUESTIONS]
            if all(mine):
                found.append((load.name, one.title, tuple(ratio for ratio in mine if ratio is not None)))
    return found


def ratio_titles() -> list[str]:
    """The headings of the ratios' columns."""
    return [BY_KEY[question.key].title for question in QUESTIONS]

"""The comparison as rows of text, for table.md, the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.judge.candidates import CandidateSummary
from harness.judge.checks.evidence import Verdict
from harness.judge.comparison import Cell, Comparison, Pair
from harness.judge.findings import doubts, notes, summary
from harness.judge.loads import LoadSummary
from harness.judge.words import counted, interval_words, listed, percent
from harness.records.metrics import Metric
from harness.report.columns import columns, interval_text, value_text
from harness.report.text import MISSING, candidates_line, machines_line, milliseconds, number, precision_line

FLOOR_HEADER = (
    "load",
    "pace (ms)",
    "TTFT error p50 (ms)",
    "p99 (ms)",
    "TPOT error p99 (ms)",
    "tokens/s reached",
    "CPU/token (µs)",
)


NOT_RANKED, SAYS_NOTHING = "not ranked", "says nothing of its speed"
MARKS: Mapping[str, str] = {"faster": "▲", "slower": "▼", "equal": "=", "not known": "?", "invalid": "×"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One value in a table. `mark` is the verdict against the reference, as in MARKS, and `about` the same in words;
    both are empty for the reference and for metrics that no pair is asked about. A value that is missing says why in
    `about`."""

    text: str
    interval: str
    mark: str
    verdict: str
    about: str

    @property
    def marked(self) -> str:
        """`57.4 ▲`."""
        return f"{self.text} {self.mark}".rstrip()

    @property
    def whole(self) -> str:
        """`640 [480, 850] ▲`."""
        return " ".join(part for part in (self.text, self.interval, self.mark) if part)


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate at one load, as text: a value for each metric shown. `state` is what the checks say of the cell, or
    that it was not measured; `note` says why, or how many rounds it has. `cell` is None if it was not measured."""

    candidate: str
    title: str
    values: tuple[Shown, ...]
    state: str
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
        nothing = Shown(MISSING, "", "", "", why)
        return Row(one.name, one.title, (nothing,) * len(shown), "not measured", why, None)
    rounds = len(cell.rounds)
    return Row(
        one.name,
        one.title,
        tuple(_shown(comparison, cell, metric) for metric in shown),
        "not an engine" if one.null else NOT_RANKED if one.once else "ok" if cell.verdict == "note" else cell.verdict,
        SAYS_NOTHING if one.once else "" if rounds == comparison.rounds else f"{rounds} of {comparison.rounds} rounds",
        cell,
    )


def _shown(comparison: Comparison, cell: Cell, metric: Metric) -> Shown:
    found = cell.metrics.get(metric.key)
    if found is None or found.mean is None:
        return Shown(MISSING, "", "", "", withheld(cell, metric) or "not known")
    text, interval = value_text(metric, found.mean), interval_text(metric, found)
    pair = comparison.to_reference(cell.candidate, cell.load, metric.key)
    if pair is None:
        return Shown(text, interval, "", "", "")
    return Shown(text, interval, MARKS[pair.verdict], pair.verdict, pair_words(comparison, pair))


def withheld(cell: Cell, metric: Metric) -> str:
    """Why a value is not shown; empty if that is not said."""
    found = cell.metrics.get(metric.key)
    return (found.reason or "") if found is not None and found.mean is None else ""


def pair_words(comparison: Comparison, pair: Pair) -> str:
    """`slower than Alpha: 1.50 [1.19, 1.90] times its TPOT`, for a tooltip."""
    against = comparison.candidate(pair.against).title
    if pair.verdict == "invalid" or pair.ratio is None:
        return f"{pair.verdict}: {pair.reason or 'no ratio'}"
    words = {"equal": f"equal within {percent(pair.margin)} to", "not known": "not known apart from"}
    ratio = interval_words(pair.ratio, pair.low, pair.high)
    said = f"{words.get(pair.verdict, f'{pair.verdict} than')} {against}: {ratio} times"
    if pair.verdict == "not known" and pair.more_rounds is not None:
        said += f"; {counted(pair.more_rounds, 'more round')} would tell"
    return said


def legend(comparison: Comparison) -> str:
    """What the marks mean; empty if nothing is compared."""
    if not comparison.pairs:
        return ""
    margin = percent(max(pair.margin for pair in comparison.pairs))
    return (
        f"Against {reference_title(comparison)}: ▲ faster, ▼ slower, = equal within {margin}, ? not known apart, "
        "× invalid."
    )


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
        *dict.fromkeys(f"Requests: {load.trace.words}." for load in comparison.loads if load.trace),
        *rounds_lines(comparison),
    ]


def rounds_lines(comparison: Comparison) -> list[str]:
    """Why there are as many rounds as there are, and which were measured again, as far as that is stored."""
    lines = [f"Rounds: {comparison.ended}."] if comparison.ended else []
    if comparison.repeated:
        which = ", ".join(map(str, sorted(set(comparison.repeated))))
        lines.append(f"Measured again because the user asked for it: round {which}. What it was is in set-aside/.")
    return lines


def reading_lines(comparison: Comparison) -> list[str]:
    """How the numbers were computed: n, percentile method, intervals, formulas."""
    asked = ", ".join(f"{load.name} {load.requests}" for load in comparison.loads)
    lines = [
        f"n, the requests per round and candidate: {asked}; {comparison.rounds} rounds asked for. Percentiles within "
        f"a round by numpy's '{comparison.percentile_method}' method, then the mean over rounds; the p99 of fewer than "
        "101 requests is between the two largest values.",
        "[low, high]: the 95 % interval over rounds; missing with fewer than two rounds.",
        "Latencies in milliseconds. Failed requests count in no latency and no throughput.",
    ]
    if comparison.pairs:
        lines.append(
            "Ratios: the first candidate's value divided by the other's, geometric mean over rounds with its 95 % "
            "interval (paired by round). " + legend(comparison)
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
    """The rows of the calibration under FLOOR_HEADER, one per load and pace."""
    floors = comparison.calibration.floors if comparison.calibration else ()
    return [
        (
            floor.load,
            number(None if floor.interval_s is None else floor.interval_s * 1e3),
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
    """One line per file that could not be read, per skipped candidate with its reason, then per candidate that lacks
    rounds or loads."""
    lines = [*comparison.unread, *(f"{name}: {reason}" for name, reason in comparison.skipped.items())]
    for load in comparison.loads:
        lines += [
            f"{row.title}, {load.name}: {row.note}"
            for row in rows(comparison, load)
            if row.note and row.candidate not in comparison.skipped
        ]
    return lines


def withheld_lines(comparison: Comparison) -> list[str]:
    """Which percentiles are not shown, and why; those that lack at the same loads for the same reasons in one line."""
    titles: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for metric in columns(comparison, comparison.loads):
        found = [(why, cell.load) for cell in comparison.cells if (why := withheld(cell, metric))]
        if found:
            titles.setdefault(tuple(dict.fromkeys(found)), []).append(metric.title)
    lines = []
    for places, names in titles.items():
        loads: dict[str, list[str]] = {}
        for why, load in places:
            loads.setdefault(why, []).append(load)
        lines.append(f"{listed(names)}: {'; '.join(f'{why} ({listed(at)})' for why, at in loads.items())}")
    return lines

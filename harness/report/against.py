"""What changed between two versions: against.md, and the same for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.judge.against import Against, Change
from harness.judge.margins import MARGIN
from harness.judge.questions import BY_KEY as QUESTIONS
from harness.records.metrics import BY_KEY
from harness.report.columns import value_text
from harness.report.markdown import bullets, escaped, table
from harness.report.text import MISSING, number

HEADER = ("load", "candidate", "question", "then", "now", "now / then [95 %]", "verdict")
WORDS = {"pass": "PASS", "regression": "REGRESSION", "not known": "NOT KNOWN"}
STYLES = {"pass": "green", "regression": "bold red", "not known": "yellow"}
ADVICE = (
    "The two were measured at different times: what the machine itself changed in between (heat, clocks, other work, "
    "a new kernel) is in this ratio. Where it matters, measure both versions in one comparison, interleaved, with "
    "[[candidate]] twice."
)


def headline(found: Against) -> str:
    """The verdict in one sentence."""
    of = {verdict: [one for one in found.changes if one.verdict == verdict] for verdict in WORDS}
    if not found.judged:
        return "NOT JUDGED: the two were measured from different machines, whose difference is in every ratio."
    if found.verdict == "regression":
        return f"REGRESSION: {_some(of['regression'], found)}"
    if found.verdict == "pass":
        return f"PASS: nothing is worse by more than {_margin(found)}, at {_count(found.changes, 'question')}."
    return f"NOT KNOWN: {_unknown(of['not known'])}; {_count(of['pass'], 'question')} passed."


def _some(changes: Sequence[Change], found: Against) -> str:
    """The regressions, the worst first."""
    titles = {one.candidate: one.title for one in found.versions}
    ordered = sorted(changes, key=lambda one: -_worse(one))
    parts = [
        f"{titles[one.candidate]} at {one.load}: {QUESTIONS[one.question].title} {_ratio(one)}" for one in ordered[:3]
    ]
    more = f", and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return f"{'; '.join(parts)}{more} (now / then, with its 95 % interval; margin {_margin(found)})."


def _unknown(changes: Sequence[Change]) -> str:
    if not changes:
        return "no question could be asked"
    needed = [one.rounds_needed for one in changes if one.rounds_needed is not None]
    rounds = f"; at the spread seen, {max(needed)} rounds in each of the two would tell {len(needed)}" if needed else ""
    return f"{_count(changes, 'question')} could not be told{rounds}"


def _worse(one: Change) -> float:
    """How many times worse; 1 if it is not known."""
    if one.ratio is None:
        return 1.0
    return 1 / one.ratio if BY_KEY[one.question].larger_is_better else one.ratio


def _margin(found: Against) -> str:
    return f"{max((one.margin for one in found.changes), default=0.0):.0%}"


def _count(changes: Sequence[Change], noun: str) -> str:
    return f"{len(changes)} {noun}{'' if len(changes) == 1 else 's'}"


def markdown(found: Against) -> str:
    """The whole of against.md: a CI job can show it as its summary."""
    parts = [f"# {escaped(found.name)}: {WORDS[found.verdict] if found.judged else 'NOT JUDGED'}"]
    parts += [escaped(headline(found)), table(HEADER, _rows(found), "lllrrll")]
    parts += ["## The two", table(("", "then", "now"), _sides(found), "lll")]
    lines = [f"{one.title}: {text}" for one in found.versions for text in one.differences]
    for title, texts in (
        ("What else differs", lines),
        ("Only one of them has", found.left_out),
        ("Not known", _reasons(found)),
        ("How to read this", _reading(found)),
    ):
        if texts:
            parts += [f"## {title}", bullets(texts)]
    return "\n\n".join(parts) + "\n"


def terminal_table(found: Against) -> RenderableType:
    """For a terminal: the verdict, a row for each question, and the advice."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, side in zip(HEADER, "lllrrll", strict=True):
        shown.add_column(name, justify="right" if side == "r" else "left", no_wrap="/" in name)
    for one, row in zip(found.changes, _rows(found), strict=True):
        style = STYLES[one.verdict] if found.judged else ""
        shown.add_row(*map(Text, row[:-1]), Text(row[-1], style=style))
    parts = [Text(f"Against {found.where_then} ({found.started_then})", style="bold")]
    parts += [Text(f"{one.title}: {one.then} then, {one.now} now") for one in found.versions]
    parts += [Text(line, style="yellow") for line in (*found.left_out, *_reasons(found))]
    head = Text(headline(found), style=STYLES[found.verdict] if found.judged else "bold red")
    return Group(Text(""), *parts, Text(""), shown, Text(""), Text(ADVICE, style="dim"), head)


def _rows(found: Against) -> list[tuple[str, ...]]:
    titles = {one.candidate: one.title for one in found.versions}
    return [
        (
            one.load, titles[one.candidate], QUESTIONS[one.question].title,
            _value(one, one.then), _value(one, one.now), _ratio(one), _verdict(one, found.judged),
        )
        for one in found.changes
    ]  # fmt: skip


def _value(one: Change, value: float | None) -> str:
    metric = BY_KEY[one.question]
    if value is None:
        return MISSING
    return f"{value_text(metric, value)} {'ms' if metric.unit == 's' else metric.unit}"


def _ratio(one: Change) -> str:
    if one.ratio is None or one.low is None or one.high is None:
        return MISSING
    return f"{number(one.ratio)} [{number(one.low)}, {number(one.high)}]"


def _verdict(one: Change, judged: bool) -> str:
    if not judged:
        return "not judged"
    wider = f" (margin {one.margin:.0%}: the client's own error)" if one.margin > MARGIN else ""
    needed = f" ({one.rounds_needed} rounds would tell)" if one.rounds_needed is not None else ""
    doubts = f"; doubt: {', '.join(one.doubts)}" if one.doubts else ""
    return f"{WORDS[one.verdict]}{wider}{needed}{doubts}"


def _reasons(found: Against) -> list[str]:
    """Why questions have no answer, each reason once."""
    by_reason: dict[str, list[str]] = {}
    titles = {one.candidate: one.title for one in found.versions}
    for one in found.changes:
        if one.reason:
            question = QUESTIONS[one.question].title
            by_reason.setdefault(one.reason, []).append(f"{titles[one.candidate]} {question} at {one.load}")
    return [f"{reason}: {', '.join(where)}" for reason, where in by_reason.items()]


def _sides(found: Against) -> list[tuple[str, str, str]]:
    rows = [("measured", found.started_then, found.started_now), ("folder", found.where_then, found.where_now)]
    rows += [(one.title, one.then, one.now) for one in found.versions]
    rows.append(("harness", found.harness_then, found.harness_now))
    for key in ("cpu", "cores", "gpus", "memory_bytes", "system", "python", "id"):
        rows.append(
            (f"machine: {key.removesuffix('_bytes')}", _fact(found.machine_then, key), _fact(found.machine_now, key))
        )
    return rows


def _fact(machine: Mapping[str, object], key: str) -> str:
    value = machine.get(key)
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    if key == "memory_bytes" and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    return MISSING if value is None else str(value)


def _reading(found: Against) -> list[str]:
    margin = _margin(found)
    return [
        f"PASS: the 95 % interval excludes that it is worse by more than {margin}.",
        f"REGRESSION: it is worse by more than {margin}, and significantly so: p below 0.05, adjusted for all "
        f"{_count(found.changes, 'question')} (Benjamini and Hochberg).",
        "NOT KNOWN: neither; the number of rounds is what each of the two would need at the spread seen.",
        "The interval is Student's for two samples, on the logs of the rounds, with moderated variances. The margin is "
        "3 %, or the client's own error where that is larger.",
        ADVICE,
    ]

"""The checks of all cells, deduplicated: equal findings are merged over loads and candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.judge.checks.evidence import AGAINST, SEVERITY, Check, Verdict
from harness.judge.comparison import Comparison


@dataclass(frozen=True, slots=True)
class Finding:
    """One check with one verdict for these candidates (titles) at these loads. `messages`: each distinct text with its
    loads."""

    code: str
    verdict: Verdict
    candidates: tuple[str, ...]
    loads: tuple[str, ...]
    messages: tuple[tuple[str, tuple[str, ...]], ...]
    advice: str


def findings(comparison: Comparison) -> tuple[Finding, ...]:
    """The most severe first, then in the order of the checks; candidates with the same messages share a finding."""
    by_check: dict[tuple[str, Verdict, str], list[tuple[str, Check]]] = {}
    for cell in comparison.cells:
        for check in cell.checks:
            by_check.setdefault((check.code, check.verdict, cell.candidate), []).append((cell.load, check))
    titles = {one.name: one.title for one in comparison.candidates}
    merged: dict[object, Finding] = {}
    for (code, verdict, name), entries in by_check.items():
        loads = tuple(load for load, _ in entries)
        one = Finding(code, verdict, (titles[name],), loads, _messages(entries), entries[0][1].advice)
        key = (code, verdict, loads, one.messages)
        before = merged.get(key)
        candidates = one.candidates if before is None else before.candidates + one.candidates
        merged[key] = Finding(code, verdict, candidates, loads, one.messages, one.advice)
    order = {code: i for i, code in enumerate(dict.fromkeys(code for code, _, _ in by_check))}
    return tuple(sorted(merged.values(), key=lambda f: (-SEVERITY[f.verdict], order[f.code])))


def doubts(comparison: Comparison) -> tuple[Finding, ...]:
    """The findings against numbers: doubt and invalid."""
    return tuple(one for one in findings(comparison) if one.verdict in AGAINST)


def notes(comparison: Comparison) -> tuple[Finding, ...]:
    """The notes: declared and harmless."""
    return tuple(one for one in findings(comparison) if one.verdict == "note")


def summary(finding: Finding, comparison: Comparison) -> str:
    """One line: the candidates, the first message with its loads, and the loads with similar messages."""
    text, loads = finding.messages[0]
    rest = [load for load in finding.loads if load not in loads]
    likewise = f"; similar at {', '.join(rest)}" if rest else ""
    who = candidates_text(finding, comparison)
    return f"{finding.code}, {who}: {text} ({where_text(loads, comparison)}{likewise})"


def candidates_text(finding: Finding, comparison: Comparison) -> str:
    """The candidates' titles, or "all candidates"."""
    everyone = len(finding.candidates) == len(comparison.candidates) > 1
    return "all candidates" if everyone else ", ".join(finding.candidates)


def where_text(loads: Sequence[str], comparison: Comparison) -> str:
    """The loads' names, or "all loads"."""
    everywhere = {load.name for load in comparison.loads}
    return "all loads" if len(everywhere) > 1 and set(loads) == everywhere else ", ".join(loads)


def _messages(entries: Sequence[tuple[str, Check]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = {}
    for load, check in entries:
        found.setdefault(check.message, []).append(load)
    return tuple((message, tuple(loads)) for message, loads in found.items())

"""The checks of all cells, told once: equal findings collapsed over load points and engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.judge.checks.evidence import SEVERITY, Check, Verdict
from harness.judge.comparison import Comparison


@dataclass(frozen=True, slots=True)
class Finding:
    """One check with one verdict for these engines (titles) at these load points. `messages` has each
    different text once, with the load points that it is about."""

    code: str
    verdict: Verdict
    engines: tuple[str, ...]
    load_points: tuple[str, ...]
    messages: tuple[tuple[str, tuple[str, ...]], ...]
    advice: str


def findings(comparison: Comparison) -> tuple[Finding, ...]:
    """Gravest first, then in the order of the checks; engines that share every word share a finding."""
    told: dict[tuple[str, Verdict, str], list[tuple[str, Check]]] = {}
    for cell in comparison.cells:
        for check in cell.checks:
            told.setdefault((check.code, check.verdict, cell.engine), []).append((cell.load_point, check))
    titles = {engine.name: engine.title for engine in comparison.engines}
    merged: dict[object, Finding] = {}
    for (code, verdict, engine), entries in told.items():
        points = tuple(point for point, _ in entries)
        one = Finding(code, verdict, (titles[engine],), points, _messages(entries), entries[0][1].advice)
        key = (code, verdict, points, one.messages)
        before = merged.get(key)
        engines = one.engines if before is None else before.engines + one.engines
        merged[key] = Finding(code, verdict, engines, points, one.messages, one.advice)
    order = {code: i for i, code in enumerate(dict.fromkeys(code for code, _, _ in told))}
    return tuple(sorted(merged.values(), key=lambda f: (-SEVERITY[f.verdict], order[f.code])))


def summary(finding: Finding, comparison: Comparison) -> str:
    """One line: who, the first message with its load points, and where else it is alike."""
    text, points = finding.messages[0]
    rest = [point for point in finding.load_points if point not in points]
    likewise = f"; likewise at {', '.join(rest)}" if rest else ""
    who = engines_text(finding, comparison)
    return f"{finding.code}, {who}: {text} ({where_text(points, comparison)}{likewise})"


def engines_text(finding: Finding, comparison: Comparison) -> str:
    """The engines by title, or that it is all of them."""
    everyone = len(finding.engines) == len(comparison.engines) > 1
    return "all engines" if everyone else ", ".join(finding.engines)


def where_text(points: Sequence[str], comparison: Comparison) -> str:
    """The load points by name, or that it is all of them."""
    everywhere = {point.name for point in comparison.load_points}
    return "all load points" if len(everywhere) > 1 and set(points) == everywhere else ", ".join(points)


def _messages(entries: Sequence[tuple[str, Check]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = {}
    for point, check in entries:
        found.setdefault(check.message, []).append(point)
    return tuple((message, tuple(points)) for message, points in found.items())

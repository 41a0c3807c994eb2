"""How the candidates of one engine differ in launch line, environment and settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from harness.judge.candidates import CandidateSummary
from harness.judge.comparison import Comparison
from harness.report.text import MISSING

_FLAG = re.compile(r"--?[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Variants:
    """One table: each difference with the value of each candidate."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def variants(comparison: Comparison) -> list[Variants]:
    """A table for each engine with several candidates; a row for each difference."""
    by_engine: dict[str, list[CandidateSummary]] = {}
    for one in comparison.candidates:
        by_engine.setdefault(one.engine, []).append(one)
    return [_table(engine, several) for engine, several in by_engine.items() if len(several) > 1]


def _table(engine: str, several: Sequence[CandidateSummary]) -> Variants:
    titles = tuple(one.title for one in several)
    parts: list[tuple[str, list[Mapping[str, str]]]] = [
        ("", [_about(one) for one in several]),
        ("", [_flags(one.launch_line) for one in several]),
        ("env ", [one.env for one in several]),
        ("", [one.settings for one in several]),
    ]
    started = [bool(one.launch_line) for one in several]
    found = [row for prefix, tables in parts for row in _differing(prefix, tables, started)]
    nothing = ("launch line, environment, settings", *("the same",) * len(several))
    title = next((one.title for one in several if one.name == engine), _shared(titles) or engine)
    return Variants(f"How the candidates of {title} differ", ("", *titles), tuple(found) or (nothing,))


def _about(one: CandidateSummary) -> dict[str, str]:
    facts = {"version": one.version, "launch": one.launch, "weights": one.weight_dtype, "KV cache": one.kv_dtype}
    return {name: value for name, value in facts.items() if value is not None}


def _differing(prefix: str, tables: Sequence[Mapping[str, str]], started: Sequence[bool]) -> list[tuple[str, ...]]:
    """Rows of which two values differ. What a server that was not started here does not show is no difference."""
    rows = []
    for name in dict.fromkeys(name for table in tables for name in table):
        values = tuple(table.get(name, MISSING) for table in tables)
        known = {value for value, ours in zip(values, started, strict=True) if ours or value != MISSING}
        if len(known) > 1:
            rows.append((f"{prefix}{name}", *values))
    return rows


def _flags(words: Sequence[str]) -> dict[str, str]:
    """Flag -> its values as one text; the words before the first flag are the program."""
    found: dict[str, list[str]] = {}
    name = "program"
    for word in words:
        if _FLAG.match(word):
            name, _, value = word.partition("=")
            if name in found:  # said twice: engines take the last one
                found[name].append("then")
            found.setdefault(name, []).extend([value] if value else [])
        else:
            found.setdefault(name, []).append(word)
    return {flag: " ".join(values) or "given" for flag, values in found.items()}


def _shared(titles: Sequence[str]) -> str:
    """The words that all titles begin with: the engine's title."""
    words = zip(*(title.replace("(", " ").split() for title in titles), strict=False)
    return " ".join(first for first, *rest in takewhile(lambda same: len(set(same)) == 1, words))

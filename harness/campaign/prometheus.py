"""Reads some series of a page in Prometheus's text format, whatever else is on it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from prometheus_client.parser import text_string_to_metric_families

_LINE = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*(?:\{.*\})?\s+\S")
_MOST_LINES = 20_000  # of the wanted series; each takes about 30 microseconds


def series_in(text: str, wanted: Collection[str]) -> dict[str, list[float] | None]:
    """The values of each wanted series, one for each combination of its labels; None for one with a line that cannot be
    read or is not a finite number; without those that the page lacks."""
    found: dict[str, list[float] | None] = {}
    # Only these lines: parsing a whole page of some engines takes a core for 10 ms or more.
    starts = tuple(wanted)
    lines = [line for line in text.splitlines() if line.startswith(starts)]
    for line in lines[:_MOST_LINES]:
        name = max((start for start in starts if line.startswith(start)), key=len)
        if line[len(name) : len(name) + 1] not in ("{", " ", "\t", ""):
            continue  # a longer name that begins like a wanted one
        values = found.setdefault(name, [])
        try:
            families = text_string_to_metric_families(line + "\n")
            read = [float(sample.value) for family in families for sample in family.samples]
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):  # the parser's for odd lines
            read = []
        if values is not None and read and all(map(math.isfinite, read)):
            values += read
        else:
            found[name] = None
    return dict.fromkeys(wanted) if len(lines) > _MOST_LINES else found


def has_series(text: str) -> bool:
    """Whether a page has anything but comments."""
    return _first(text) is not None


def is_metrics(text: str) -> bool:
    """Whether a page is in this format, with whatever series, or empty: not HTML, not JSON."""
    first = _first(text)
    return first is None or _LINE.match(first) is not None


def _first(text: str) -> str | None:
    return next((line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")), None)

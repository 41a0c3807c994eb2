"""Reads facts and counters from a running engine, outside the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.adapter import Engine, Reading
from harness.campaign.prometheus import has_series, is_metrics, series_in
from harness.errors import CannotStart
from harness.launch.endpoint import Endpoint
from harness.launch.pages import NoPage, Page, Pages, success

Counters = Mapping[str, float | None]


MOST = 2.0**53  # beyond it a count is not exact, and no column can hold it


def get(endpoint: Endpoint, path: str) -> Page:
    """A page of the server. Raises NoPage if the server does not answer with success."""
    with Pages(endpoint.pages, endpoint.key) as pages:
        return success(pages.get(endpoint.pages.path + path))


def read_fact(endpoint: Endpoint, reading: Reading, what: str) -> Any:
    """The value that `reading` leads to. Raises CannotStart if the engine does not show it."""
    try:
        value: Any = get(endpoint, reading.path).json()
        for key in reading.keys:
            value = value[key]
        return value
    except NoPage as problem:
        raise CannotStart(f"does not show its {what} at {reading.path} ({problem})") from None
    except (LookupError, TypeError):
        keys = ".".join(map(str, reading.keys))
        raise CannotStart(f"does not show its {what} at {reading.path} (there is no {keys})") from None


def whole_number(value: object) -> int | None:
    """A count or a size that an engine shows, as a number or in digits; None for anything else: it would be stored."""
    if isinstance(value, str):
        digits = value.replace(",", "")
        value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST else None


def read_counters(endpoint: Endpoint, engine: Engine) -> Counters:
    """Our names of the engine's counters -> value summed over labels; None if its page cannot be read, and for a series
    that cannot be read. A series that is not on the page yet counts as 0: some appear only with their first increase.
    Empty if the page has series, but none of the engine's: other software's, or none of them has increased yet."""
    if not engine.series:
        return {}
    try:
        text = get(endpoint, engine.metrics).text
    except NoPage:  # a missing page must not stop the measurement
        return dict.fromkeys(engine.series)
    shown = series_in(text, set(engine.series.values()))
    if not shown and has_series(text):
        return {} if is_metrics(text) else dict.fromkeys(engine.series)
    return {ours: _total(shown.get(theirs, [])) for ours, theirs in engine.series.items()}


def _total(values: Sequence[float] | None) -> float | None:
    total = None if values is None else float(sum(values))
    return total if total is not None and abs(total) < MOST else None


def increase(before: Counters, after: Counters) -> dict[str, float | None]:
    """How much each counter increased; None if either reading is missing, or if it is lower than before."""
    return {name: _increase(before.get(name, 0.0), after.get(name)) for name in before.keys() | after.keys()}


def _increase(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or after < before else after - before


def why_unknown(before: Counters, after: Counters, engine: Engine) -> str:
    """Why not all counters of a run are known; empty if they are."""
    if not engine.series:
        return ""
    if None in (*before.values(), *after.values()):
        return f"its page {engine.metrics} could not be read"
    if not after:
        return f"its page {engine.metrics} has none of this engine's counters"
    if any(value < (before.get(name) or 0.0) for name, value in after.items() if value is not None):
        return "a counter was lower after the run than before: the server was restarted, or several share its address"
    return ""

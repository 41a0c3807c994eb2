"""Reads facts and counters from a running engine, outside the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from harness.adapter import Engine, Reading
from harness.errors import CannotStart
from harness.launch.endpoint import Endpoint
from harness.launch.running import page_client

Counters = Mapping[str, float | None]


def get(endpoint: Endpoint, path: str) -> httpx.Response:
    """A page of the server. Raises httpx.HTTPError if the server does not answer with success."""
    with page_client(endpoint.pages, endpoint.key) as client:
        response = client.get(endpoint.pages.path + path)
        response.raise_for_status()
        return response


def read_fact(endpoint: Endpoint, reading: Reading, what: str) -> Any:
    """The value that `reading` leads to. Raises CannotStart if the engine does not show it."""
    try:
        value: Any = get(endpoint, reading.path).json()
        for key in reading.keys:
            value = value[key]
        return value
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as problem:
        raise CannotStart(f"does not show its {what} at {reading.path} ({reason_of(problem)})") from None


def reason_of(problem: Exception) -> str:
    """Why a page could not be read, in one line."""
    if isinstance(problem, httpx.HTTPStatusError):  # its own message is two lines with a link
        return f"HTTP {problem.response.status_code}"
    return f"{type(problem).__name__}: {problem}".splitlines()[0]


def read_counters(endpoint: Endpoint, engine: Engine) -> Counters:
    """Our names of the engine's counters -> value summed over labels; None if its page cannot be read, or belongs to
    other software. A series that is not on the page yet counts as 0: some appear only with their first increase."""
    if not engine.series:
        return {}
    totals: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(get(endpoint, engine.metrics).text):
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    except (httpx.HTTPError, ValueError):  # a missing page must not stop the measurement
        return dict.fromkeys(engine.series)
    if totals and not totals.keys() & set(engine.series.values()):
        return dict.fromkeys(engine.series)
    return {ours: totals.get(theirs, 0.0) for ours, theirs in engine.series.items()}


def increase(before: Counters, after: Counters) -> dict[str, float | None]:
    """How much each counter increased; None if either reading is missing."""
    return {
        name: None if value is None or before.get(name) is None else value - (before[name] or 0.0)
        for name, value in after.items()
    }

"""Reads facts and counters from a running engine, outside the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from harness.adapter import Engine, Reading
from harness.driver.address import Address
from harness.errors import CannotStart


def _get(endpoint: Address, path: str) -> httpx.Response:
    return httpx.get(endpoint.url + path, timeout=10.0, trust_env=False, verify=False)


def read_fact(endpoint: Address, reading: Reading, what: str) -> Any:
    """The value that `reading` leads to. Raises CannotStart where the engine does not show it."""
    try:
        response = _get(endpoint, reading.path)
        response.raise_for_status()
        value: Any = response.json()
        for key in reading.keys:
            value = value[key]
        return value
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as problem:
        raise CannotStart(f"does not tell its {what} at {reading.path} ({type(problem).__name__}: {problem})") from None


def read_counters(endpoint: Address, engine: Engine) -> dict[str, float | None]:
    """Our names for the engine's counters -> value summed over labels; null where it has no such series."""
    totals: dict[str, float] = {}
    try:
        response = _get(endpoint, engine.metrics)
        response.raise_for_status()
        for family in text_string_to_metric_families(response.text):
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    except (httpx.HTTPError, ValueError):
        totals = {}  # the page is evidence beside the measurement, not a condition of it
    return {ours: totals.get(theirs) for ours, theirs in engine.series.items()}


def increase(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> dict[str, float | None]:
    """How far each counter went; null where either reading is missing."""
    return {
        name: None if value is None or before.get(name) is None else value - (before[name] or 0.0)
        for name, value in after.items()
    }

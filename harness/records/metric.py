"""The types of the table of metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.records.latencies import Floats
from harness.records.run import RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number of one run. `of` returns None if the number is not known; `larger_is_better` is None if neither
    direction is good."""

    key: str
    title: str
    short: str  # heads a column
    unit: str  # s, tokens/s, requests/s, tokens, requests, fraction, cores, bytes, W, J, USD, MHz, °C
    larger_is_better: bool | None
    formula: str
    help: str  # one sentence for readers
    of: Callable[[RunResult], float | None]
    most: float | None = None  # no value is larger: 1 for a share of requests
    needs_schedule: bool = False  # not known if requests have no scheduled times
    needs_slo: bool = False  # not known without service level objectives
    needs_gpus: bool = False  # shown only if a candidate has several GPUs

    @property
    def direction(self) -> str:
        """`Higher is better.`, `Lower is better.` or nothing."""
        return {True: "Higher is better.", False: "Lower is better.", None: ""}[self.larger_is_better]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A latency: seconds, one value for each request, gap or chunk. Its percentiles are metrics."""

    key: str
    title: str
    short: str
    formula: str
    help: str  # one sentence, without the percentile
    values: Callable[[RunResult], Floats]
    percentiles: tuple[int, ...] = (50, 90, 95, 99)  # the ones that are metrics
    needs_schedule: bool = False
    always: bool = False  # has a row in the table of a single run even if it is not known

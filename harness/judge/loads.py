"""The loads of a comparison, as values for the axis of a chart and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.records.latencies import rate_of
from harness.records.run import RunResult
from harness.workload.lengths import Lengths
from harness.workload.loads import Load, OpenLoop
from harness.workload.texts import TextFacts
from harness.workload.traces import TraceFacts


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """One load. `rate` in requests/s: the mean asked for, or that of a trace's own times; None unless requests are sent
    by the clock. `requests`: in a run; of a load by time, the fewest that were sent in one. Token counts are None if
    they differ between requests; then `input_lengths` and `output_lengths` are the ranges that they were drawn from,
    None for a trace."""

    name: str
    description: str
    load: Load
    in_flight: int
    requests: int
    input_tokens: int | None
    output_tokens: int | None
    rate: float | None = None
    input_lengths: Lengths | None = None
    output_lengths: Lengths | None = None
    trace: TraceFacts | None = None  # what was read of the trace, if there is one
    texts: TextFacts | None = None  # where prompts of real text come from; None for others
    ends: Literal["exact", "natural"] = "exact"

    @property
    def open_loop(self) -> bool:
        """Whether requests were sent by the clock, answered or not."""
        return self.load.open_loop

    @property
    def variant(self) -> str:
        """How an open loop differs from plain Poisson arrivals; empty if it does not."""
        return self.load.variant if isinstance(self.load, OpenLoop) else ""


def load_summary(name: str, runs: Sequence[RunResult]) -> LoadSummary:
    """The summary of a load from its runs."""
    mine = [run for run in runs if run.manifest.load.name == name]
    load, schedule = mine[0].manifest.load, mine[0].manifest.schedule
    rates = [rate for run in mine if (rate := rate_of(run, "scheduled_s"))]
    offered = float(np.mean(rates)) if rates else None
    return LoadSummary(
        name=name,
        description=load.words(schedule.requests, offered),
        load=load,
        in_flight=schedule.in_flight,
        requests=min(len(run.requests["index"]) for run in mine) if load.timed else schedule.requests,
        input_tokens=schedule.input_tokens,
        output_tokens=schedule.output_tokens,
        input_lengths=schedule.input_lengths,
        output_lengths=schedule.output_lengths,
        trace=schedule.trace,
        texts=schedule.texts,
        ends=schedule.ends,
        rate=(load.mean_rate or offered) if isinstance(load, OpenLoop) else None,
    )

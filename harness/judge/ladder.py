"""The loads of a comparison from the lowest to the highest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.judge.loads import LoadSummary
from harness.workload.loads import AllAtOnce, Batches, ClosedLoop


@dataclass(frozen=True, slots=True)
class Ladder:
    """Loads of one kind, the lowest first."""

    kind: str  # "concurrency" or "rate"
    loads: tuple[LoadSummary, ...]


def ladders(loads: Sequence[LoadSummary]) -> list[Ladder]:
    """Closed loops by concurrency, open loops by rate; a kind without loads is left out."""
    closed = [(load.load.concurrency, load) for load in loads if isinstance(load.load, ClosedLoop)]
    rated = [(load.rate, load) for load in loads if load.open_loop and load.rate is not None]
    found = []
    for kind, valued in (("concurrency", closed), ("rate", rated)):
        if valued:
            found.append(Ladder(kind, tuple(load for _, load in sorted(valued, key=lambda one: one[0]))))
    return found


def in_order(loads: Sequence[LoadSummary]) -> list[LoadSummary]:
    """All loads: closed loops by concurrency, open loops by rate, then the others as they stand."""
    placed = [load for ladder in ladders(loads) for load in ladder.loads]
    return placed + [load for load in loads if load not in placed]


def lowest_load(loads: Sequence[LoadSummary]) -> LoadSummary | None:
    """The load nearest to a single user: the lowest concurrency, else the lowest rate; None if there is neither."""
    return next((ladder.loads[0] for ladder in ladders(loads)), None)


def batch_load(loads: Sequence[LoadSummary]) -> LoadSummary | None:
    """The load nearest to a batch: the largest one that is sent at once, else the largest static batch, else the
    highest concurrency, else the highest rate; None without loads."""
    at_once = [load for load in loads if isinstance(load.load, AllAtOnce)]
    batches = [load for load in loads if isinstance(load.load, Batches)]
    for kind in (at_once, batches):
        if kind:
            return max(kind, key=lambda load: load.in_flight)
    return next((ladder.loads[-1] for ladder in ladders(loads)), None)

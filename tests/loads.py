"""Loads as a comparison file writes them."""

from collections.abc import Sequence
from typing import Any

from harness.workload.load_keys import LoadKeys, load_of
from harness.workload.loads import Load
from harness.workload.schedule import build_schedule, combined_digest
from harness.workload.spec import Workload


def load(requests: int | None = None, concurrency: int | None = None, **keys: Any) -> Load:
    """The load that these keys of `[[workload.load]]` mean."""
    return load_of(LoadKeys(requests, concurrency, **keys), "test", str)


def whole_digest(workload: Workload, rounds: int, vocabulary: Sequence[int]) -> str:
    """The digest over every schedule of a comparison."""
    every = ((load, r) for r in range(1, rounds + 1) for load in workload.load)
    return combined_digest([build_schedule(workload, load, r, vocabulary).digest for load, r in every])

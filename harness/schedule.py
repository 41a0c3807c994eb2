"""The exact requests of one run, decided before the clock starts. Same seed, same bytes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from harness.workload import LoadPoint, Workload


@dataclass(frozen=True, slots=True)
class Request:
    """One request: prompt as token ids, forced output length, and when it may be sent at the earliest.

    `scheduled_s` counts seconds from the start of the run; null means as soon as a slot is free. A request
    is held back until every request of an earlier `batch` has ended."""

    index: int
    prompt_ids: tuple[int, ...]
    output_tokens: int
    scheduled_s: float | None = None
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Requests in sending order and the number of slots (null: no limit)."""

    requests: tuple[Request, ...]
    slots: int | None

    @property
    def digest(self) -> str:
        """SHA-256 over every id, length, time and limit. Two runs with one digest were asked the same."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()

    @property
    def in_flight(self) -> int:
        """The most requests that can be in flight together."""
        return len(self.requests) if self.slots is None else min(self.slots, len(self.requests))


def build_schedule(workload: Workload, point: LoadPoint, round_index: int, vocabulary: Sequence[int]) -> Schedule:
    """The requests of one load point in one round; prompts are drawn uniformly from `vocabulary`.

    Each round and load point has prompts of its own: were they repeated, an engine's prefix cache would
    answer from memory and its TTFT would be that of a look-up."""
    rng = random.Random(f"{workload.seed}/{point.name}/{round_index}")
    requests = tuple(
        Request(i, tuple(rng.choices(vocabulary, k=workload.input_tokens)), workload.output_tokens)
        for i in range(point.requests)
    )
    return Schedule(requests, point.concurrency)


def warmup_schedule(workload: Workload, point: LoadPoint, round_index: int, vocabulary: Sequence[int]) -> Schedule:
    """Full-length prompts, short outputs, at the load point's own concurrency; never counted."""
    length = min(workload.warmup_output_tokens, workload.output_tokens)  # what fits the run fits the warm-up
    shape = replace(workload, output_tokens=length, seed=-1 - workload.seed)
    return build_schedule(shape, replace(point, requests=point.in_flight), round_index, vocabulary)


def schedules_digest(workload: Workload, rounds: int, vocabulary: Sequence[int]) -> str:
    """SHA-256 over the digests of every schedule of a comparison: equal ones asked the same throughout."""
    whole = hashlib.sha256()
    for round_index in range(1, rounds + 1):
        for point in workload.load:
            whole.update(build_schedule(workload, point, round_index, vocabulary).digest.encode())
    return whole.hexdigest()

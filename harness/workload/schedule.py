"""The exact requests of one run, decided before the clock starts. Same seed, same bytes."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import msgspec

from harness.workload.traces import BLOCK_TOKENS
from harness.workload.workload import OPEN_LOOP_CONNECTIONS, LoadPoint, Workload

WARMUP_OPEN_LOOP = 32  # requests: how many an open loop will have in flight is known only afterwards


@dataclass(frozen=True, slots=True)
class Request:
    """One request: prompt as token ids, forced output length, and when it may be sent at the earliest.

    `scheduled_s` counts seconds from the start of the run; null means as soon as a slot is free. A request
    is held back until every request of an earlier `batch` has ended. `cancel_after_s` after it was sent its
    user gives it up: the connection is closed, which tells the engine to stop."""

    index: int
    prompt_ids: tuple[int, ...]
    output_tokens: int
    scheduled_s: float | None = None
    batch: int = 0
    cancel_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Requests in sending order, the number of slots (null: no limit), after how many seconds sending stops
    (null: when all are sent), and over how many the slots open one after the other."""

    requests: tuple[Request, ...]
    slots: int | None
    duration_s: float | None = None
    ramp_s: float = 0.0

    @property
    def digest(self) -> str:
        """SHA-256 over every id, length, time and limit. Two runs with one digest were asked the same."""
        text = msgspec.json.encode(self)
        # Fields younger than the first results are left out where they are null: the requests of those
        # results are still the same, and a digest over the nulls would say that they are not.
        for absent in (b',"cancel_after_s":null', b',"duration_s":null', b',"ramp_s":0.0'):
            text = text.replace(absent, b"")
        return hashlib.sha256(text).hexdigest()

    @property
    def in_flight(self) -> int:
        """The most requests that can be in flight together."""
        largest_batch = max(Counter(request.batch for request in self.requests).values(), default=0)
        return largest_batch if self.slots is None else min(self.slots, largest_batch)

    @property
    def connections(self) -> int:
        """Connections that the driver opens before the clock."""
        by_the_clock = self.slots is None and any(request.scheduled_s is not None for request in self.requests)
        return min(self.in_flight, OPEN_LOOP_CONNECTIONS) if by_the_clock else self.in_flight


def build_schedule(
    workload: Workload, point: LoadPoint, round_index: int, vocabulary: Sequence[int], lead: Sequence[int] = ()
) -> Schedule:
    """The requests of one load point in one round; prompts are drawn uniformly from `vocabulary`, after `lead`.

    Each round and load point has prompts of its own: were they repeated, an engine's prefix cache would
    answer from memory and its TTFT would be that of a look-up. Within a run, prompts share what a trace says
    that they share. Prompts, times and cancellations are drawn from streams of their own."""
    return _build(workload, point, f"{workload.seed}/{point.name}/{round_index}", vocabulary, lead)


def warmup_schedule(
    workload: Workload, point: LoadPoint, round_index: int, vocabulary: Sequence[int], lead: Sequence[int] = ()
) -> Schedule:
    """Full-length prompts, short outputs, sent together: as many as the load point has in flight, 32 at most
    where its arrivals do not tell; never counted."""
    requests = workload.in_flight(point)
    if point.open_loop:
        requests = min(requests, WARMUP_OPEN_LOOP)
    key = f"{-1 - workload.seed}/{point.name}/{round_index}"
    schedule = _build(workload, LoadPoint(requests, point.concurrency), key, vocabulary, lead)
    most = workload.warmup_output_tokens  # and no more than the run's own: what fits the run fits the warm-up
    shorter = tuple(replace(r, output_tokens=min(most, r.output_tokens)) for r in schedule.requests)
    return replace(schedule, requests=shorter)


def schedules_digest(workload: Workload, rounds: int, vocabulary: Sequence[int], lead: Sequence[int] = ()) -> str:
    """SHA-256 over the digests of every schedule of a comparison: equal ones asked the same throughout."""
    whole = hashlib.sha256()
    for round_index in range(1, rounds + 1):
        for point in workload.load:
            whole.update(build_schedule(workload, point, round_index, vocabulary, lead).digest.encode())
    return whole.hexdigest()


def _build(workload: Workload, point: LoadPoint, key: str, vocabulary: Sequence[int], lead: Sequence[int]) -> Schedule:
    count = workload.count(point)
    lengths = workload.lengths(count)
    prompts = _prompts(workload, [length for length, _ in lengths], key, vocabulary, lead)
    times = _times(workload, point, count, key)
    given_up = _cancellations(workload, point, count, key)
    size = point.batch or max(1, count)
    requests = tuple(Request(i, prompts[i], lengths[i][1], times[i], i // size, given_up[i]) for i in range(count))
    return Schedule(requests, point.concurrency, point.duration_s, point.ramp_s)


# -- prompts --------------------------------------------------------------------------------------------------


def draw(rng: random.Random, vocabulary: Sequence[int], length: int, lead: Sequence[int] = ()) -> tuple[int, ...]:
    """A prompt of `length` ids that begins with `lead`: what a tokenizer puts before every text by itself."""
    return (*lead[:length], *rng.choices(vocabulary, k=max(0, length - len(lead))))


def _prompts(
    workload: Workload, lengths: Sequence[int], key: str, vocabulary: Sequence[int], lead: Sequence[int]
) -> list[tuple[int, ...]]:
    """Token ids of the given lengths."""
    rng = random.Random(key)
    if not workload.shares_blocks:
        return [draw(rng, vocabulary, length, lead) for length in lengths]
    blocks: dict[str, list[int]] = {}

    def block(block_key: str) -> list[int]:
        if block_key not in blocks:
            blocks[block_key] = random.Random(f"{key}/block/{block_key}").choices(vocabulary, k=BLOCK_TOKENS)
        return blocks[block_key]

    prompts = []
    for i, length in enumerate(lengths):
        # A second pass through the trace has blocks of its own, or every one of its prompts would be cached.
        again, at = divmod(i, len(workload.traced))
        ids = list(lead) + [token for name in workload.traced[at].blocks for token in block(f"{again}/{name}")]
        ids += rng.choices(vocabulary, k=max(0, length - len(ids)))
        prompts.append(tuple(ids[:length]))
    return prompts


# -- times ----------------------------------------------------------------------------------------------------


def _times(workload: Workload, point: LoadPoint, count: int, key: str) -> Sequence[float | None]:
    """When each request may be sent, in seconds; null: as soon as a slot is free."""
    if point.arrivals == "trace" and point.rate is None:
        return [request.at_s for request in workload.traced[:count]]
    if point.rate is not None:
        return _warped(_arrivals(workload, point, count, key), point, count)
    return [None] * count


def _arrivals(workload: Workload, point: LoadPoint, count: int, key: str) -> Sequence[float]:
    """Arrivals at 1 request/s: the first at 0, the last at count - 1, between them as the kind has it.

    The gaps of the random kinds are drawn at a mean of 1 and then scaled to it: the sum of n of them strays
    by 1/sqrt(n), 10 % at 100 requests, and a load that is 10 % higher than its name is another load, on which
    all engines would be ranked near saturation. (`vllm bench serve` scales for the same reason.) The first
    arrives at 0, so that n requests have n - 1 gaps and constant and random arrivals have one end."""
    rng = random.Random(f"{key}/arrivals")
    match point.arrivals:
        case "constant":
            return range(count)
        case "trace":
            raw = [request.at_s for request in workload.traced[:count]]
        case "poisson":
            raw = _summed(count, lambda: -math.log(1 - rng.random()))
        case "gamma":
            shape = point.burstiness
            raw = _summed(count, lambda: rng.gammavariate(shape, 1 / shape))
    last = raw[-1] if raw else 0.0
    return [at / last * (count - 1) for at in raw] if last else raw


def _summed(count: int, gap: Callable[[], float]) -> list[float]:
    """Arrivals with the gaps that `gap` draws; drawn again while they are too small for a float, as all of
    very few gaps of a very bursty kind can be."""
    while True:
        times = list(accumulate((gap() for _ in range(count - 1)), initial=0.0))
        if count < 2 or times[-1] > 1e-300:
            return times[:count]


def _warped(unit: Sequence[float], point: LoadPoint, count: int) -> list[float]:
    """Arrivals at 1 request/s moved to where the point's own rate has let as many arrive.

    At rate a, rising linearly to b over T seconds, a t + s t^2 / 2 have arrived by t, where s = (b - a) / T.
    That is u at t = 2 u / (a + sqrt(a^2 + 2 s u)), the form of the root that holds for s = 0 too: u / a.
    T is the duration, or that in which the mean rate (a + b) / 2 lets all of the requests arrive."""
    a, mean = point.rate, point.mean_rate
    assert a is not None and mean is not None
    if point.ramp_to is None:
        return [u / a for u in unit]
    whole = point.duration_s if point.duration_s is not None else count / mean
    slope = (point.ramp_to - a) / whole
    return [2 * u / (a + math.sqrt(a * a + 2 * slope * u)) for u in unit]


# -- cancellations --------------------------------------------------------------------------------------------


def _cancellations(workload: Workload, point: LoadPoint, count: int, key: str) -> Sequence[float | None]:
    """After how many seconds each request is given up; null: never. A trace's own go with its times."""
    if point.arrivals == "trace" and not point.cancel_fraction:
        return [request.cancel_after_s for request in workload.traced[:count]]
    cancelled = random.Random(f"{key}/cancel").sample(range(count), k=round(point.cancel_fraction * count))
    given_up: list[float | None] = [None] * count
    for i in cancelled:
        given_up[i] = point.cancel_after_s
    return given_up

"""Invented serving with the noise of a real engine: runs on which checks of whole runs and rounds can be tried."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.records.campaign import run_folder
from harness.records.request import Chunk, RequestRecord
from harness.records.run import RunResult, read_run
from harness.workload.loads import ClosedLoop, Load, OpenLoop
from tests.invented import ALPHA, Invented, manifest, write_run

TTFT_S, TPOT_S = 0.05, 0.01
NOISE = 0.05  # standard deviation of the logarithm of every time
Records = list[RequestRecord]


def answer(index: int, sent_s: float, first_s: float, gaps_s: Sequence[float]) -> RequestRecord:
    """An ok request: one token in each chunk, the first `first_s` after the send, then one after each gap."""
    arrivals = sent_s + first_s + np.concatenate([[0.0], np.cumsum(gaps_s)])
    stamps = (arrivals * 1e9).astype(np.int64).tolist()
    return RequestRecord(
        index=index,
        scheduled_s=None,
        sent_s=sent_s,
        first_token_s=float(arrivals[0]),
        last_token_s=float(arrivals[-1]),
        done_s=float(arrivals[-1]),
        prompt_tokens=16,
        output_tokens=len(stamps),
        finish_reason="length",
        status="ok",
        error=None,
        http_status=200,
        uploaded_s=sent_s + 0.0001,
        connect_s=0.001,
        sent_tokens=16,
        asked_tokens=len(stamps),
        reported_tokens=len(stamps),
        first_event_tokens=1,
        cached_tokens=0,
        chunks=tuple(Chunk(at, at + 20_000, 1) for at in stamps),
    )


def serve(
    load: Load,
    seed: int = 1,
    *,
    lengths: tuple[int, int] = (16, 48),
    staggered: bool = True,
    noise: float = NOISE,
    factor: float = 1.0,
    ttft_s: float = TTFT_S,
) -> Records:
    """The records of one run by an engine whose slots are independent. `lengths`: of the answers, least and most;
    `factor`: of all times; without `staggered` a closed loop's slots open at once."""
    draw = np.random.default_rng(seed)
    count, slots = load.count(), load.most_in_flight() or 1
    tokens = draw.integers(lengths[0], lengths[1] + 1, count)
    due = draw.exponential(1.0 / load.rate, count).cumsum() if isinstance(load, OpenLoop) and load.rate else None
    mean_s = ttft_s + TPOT_S * sum(lengths) / 2
    spread_s = mean_s / slots if staggered and isinstance(load, ClosedLoop) else 0.0
    free = [slot * spread_s for slot in range(slots)]
    made = []
    for index in range(count):
        sent = float(heapq.heappop(free) if due is None else due[index])
        first = factor * ttft_s * draw.lognormal(0.0, noise)
        gaps = factor * TPOT_S * draw.lognormal(0.0, noise, tokens[index] - 1)
        row = answer(index, sent, first, gaps)
        made.append(row if due is None else replace(row, scheduled_s=sent, due_s=sent))
        heapq.heappush(free, row.done_s or 0.0)
    return made


def warped(rows: Sequence[RequestRecord], clock: Callable[[float], float]) -> Records:
    """The same run, with every time t at clock(t): an engine that slows down or stops."""

    def at(seconds: float | None) -> float | None:
        return None if seconds is None else clock(seconds)

    def chunk(one: Chunk) -> Chunk:
        arrival = round(clock(one.arrival_ns / 1e9) * 1e9)
        return Chunk(arrival, arrival + one.read_ns - one.arrival_ns, one.tokens)

    return [
        replace(
            row,
            sent_s=at(row.sent_s),
            uploaded_s=at(row.uploaded_s),
            first_token_s=at(row.first_token_s),
            last_token_s=at(row.last_token_s),
            done_s=at(row.done_s),
            chunks=tuple(map(chunk, row.chunks)),
        )
        for row in rows
    ]


def length_s(rows: Sequence[RequestRecord]) -> float:
    """Seconds from the start of the run to its last byte."""
    return max(row.done_s or 0.0 for row in rows)


def write_rounds(
    folder: Path,
    load: Load,
    rounds: Sequence[Sequence[RequestRecord]],
    engine: Invented = ALPHA,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    **same: Any,
) -> list[RunResult]:
    """Writes the rounds of one candidate at one load and reads them back. `changes`: of the manifest, by round;
    `same`: those of every round."""
    made = []
    for number, rows in enumerate(rounds, 1):
        place = run_folder(folder, engine.name, load.name, number)
        own = {**same, **(changes or {}).get(number, {})}
        write_run(place, manifest(engine, load, number, **own), rows)
        made.append(read_run(place))
    return made

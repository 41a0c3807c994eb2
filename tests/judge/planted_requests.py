"""Planted faults of requests, settings and of the load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.records.request import Chunk, RequestRecord
from harness.records.run import RunResult
from harness.records.samples import write_samples
from tests.invented import BETA, failed
from tests.judge.planting import C8, CLEAN, RATE, ROUNDS, Fault, Make, Planted, made, runs_of, two_candidates
from tests.judge.serving import Records, length_s, serve, write_rounds


def some_failed(share: float) -> Fault:
    """The first requests of a run are refused."""

    def fault(rows: Records) -> Records:
        count = round(share * len(rows))
        return [failed(row) if row.index < count else row for row in rows]

    return fault


def every(**changes: Any) -> Fault:
    return lambda rows: [replace(row, **changes) for row in rows]


def held_back(of: int, tokens: float = 1.0) -> Fault:
    """Every `of`-th answer is held back until that share of its tokens is there."""

    def held(row: RequestRecord) -> RequestRecord:
        count = round(tokens * len(row.chunks))
        first = Chunk(*row.chunks[count - 1][:2], sum(chunk.tokens for chunk in row.chunks[:count]))
        chunks = (first, *row.chunks[count:])
        return replace(row, chunks=chunks, first_token_s=first.arrival_ns / 1e9, first_event_tokens=first.tokens)

    return lambda rows: [row if row.index % of else held(row) for row in rows]


def late(seconds: float) -> Fault:
    """Every request was due so long before it was sent."""
    return lambda rows: [replace(row, scheduled_s=(row.sent_s or 0.0) - seconds) for row in rows]


def beside(fault: Fault = list, **changes: Any) -> Make:
    """Beside a clean candidate, another one with a fault, or with another manifest."""

    def make(folder: Path) -> Sequence[RunResult]:
        other = [fault(serve(C8, seed)) for seed in range(1, ROUNDS + 1)]
        return [*runs_of(folder), *write_rounds(folder, C8, other, BETA, **changes)]

    return make


def shorter(rows: Records) -> Records:
    """The engine stops one token early, and says so."""

    def cut(row: RequestRecord) -> RequestRecord:
        tokens, chunks = row.output_tokens - 1, row.chunks[:-1]
        last = chunks[-1].arrival_ns / 1e9
        return replace(row, output_tokens=tokens, reported_tokens=tokens, chunks=chunks, last_token_s=last)

    return [cut(row) for row in rows]


def gauged(folder: Path, share: float) -> list[RunResult]:
    """The engine's gauge shows `share` times as many running requests as the client has in flight."""
    runs = runs_of(folder)
    for seed, run in enumerate(runs, 1):
        end = length_s(serve(C8, seed))
        write_samples(run.folder, [(at / 2, "engine_running", 8 * share) for at in range(int(2 * end))])
    return runs


SETTINGS = {"prefix_cache": False, "context_tokens": 1024, "threads": 8}
ATTACHED: dict[str, Any] = {"endpoint__launch": "attach", "endpoint__url": "http://server.example", "probe": None}
REQUESTS: tuple[Planted, ...] = (
    Planted(
        "ERROR_RATE",
        "2 % of the requests refused",
        "invalid",
        made(fault=some_failed(0.02)),
        "none refused",
        CLEAN,
    ),
    Planted(
        "TOKEN_COUNT",
        "the engine reports one token fewer than it sent",
        "invalid",
        made(fault=lambda rows: [replace(row, reported_tokens=row.output_tokens - 1) for row in rows]),
        "as many",
        CLEAN,
    ),
    Planted(
        "PROMPT_PARITY",
        "one prompt token more than was sent",
        "invalid",
        made(fault=every(prompt_tokens=17)),
        "as many",
        CLEAN,
    ),
    Planted(
        "PROMPT_PARITY",
        "a server that already ran cuts every prompt by a quarter",
        "invalid",
        made(fault=every(prompt_tokens=12), **ATTACHED),
        "its chat template adds 11 tokens to each",
        made(fault=every(prompt_tokens=27), **ATTACHED),
        silent="note",
    ),
    Planted(
        "PREFIX_CACHE",
        "8 cached tokens a request, with the cache declared off",
        "invalid",
        made(fault=every(cached_tokens=8)),
        "the same, declared on",
        made(fault=every(cached_tokens=8), endpoint__settings={**SETTINGS, "prefix_cache": True}),
    ),
    Planted(
        "RATE",
        "every request sent 50 ms after it was due",
        "invalid",
        made(point=RATE, fault=late(0.05)),
        "0.1 ms",
        made(point=RATE, fault=late(0.0001)),
    ),
    Planted(
        "LITTLE",
        "the engine's gauges show half as many requests again as the client",
        "doubt",
        partial(gauged, share=1.5),
        "as many",
        partial(gauged, share=1.0),
    ),
    Planted(
        "STREAMED",
        "every tenth answer came in one piece",
        "doubt",
        made(fault=held_back(10)),
        "one answer of 160 in one round",
        made(fault=held_back(160), only=[1]),
        silent="note",
    ),
    Planted(
        "STREAMED",
        "a third of each answer in its first piece",
        "doubt",
        made(fault=held_back(1, 1 / 3)),
        "a fifth",
        made(fault=held_back(1, 1 / 5)),
    ),
    Planted(
        "LENGTH_PARITY",
        "one candidate answers one token short",
        "invalid",
        beside(shorter),
        "both as asked",
        two_candidates,
        "beta",
    ),
    Planted(
        "LENGTH_PARITY",
        "a server that already ran stops one token early",
        "doubt",
        beside(shorter, **ATTACHED),
        "as asked",
        beside(**ATTACHED),
        "beta",
    ),
    Planted(
        "CONFIG_PARITY",
        "one candidate with twice the context",
        "doubt",
        beside(endpoint__settings={**SETTINGS, "context_tokens": 2048}),
        "the same settings",
        two_candidates,
        "beta",
    ),
    Planted(
        "PRECISION",
        "one candidate with an int8 KV cache, not declared",
        "doubt",
        beside(model__kv_dtype="int8"),
        "float16 beside bfloat16: as many bits",
        beside(model__kv_dtype="float16"),
        "beta",
        silent="note",
    ),
    Planted(
        "GPUS",
        "one candidate on two GPUs",
        "doubt",
        beside(endpoint__gpus=2),
        "both on none",
        two_candidates,
        "beta",
    ),
)

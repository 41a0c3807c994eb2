"""Time and memory to judge a large comparison: `python -m tests.bench.judging [FOLDER]` prints a Markdown table.

6 candidates, 8 loads, 5 rounds, 1,000 requests of 48 chunks: 240 runs, 11.5 million chunks. The folder is made if it is
not there."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.judge.comparison import compare
from harness.records.campaign import CAMPAIGN, Campaign, run_folder
from harness.records.columns import CHUNK_SCHEMA, REQUEST_SCHEMA
from harness.records.comparison_folder import read_comparison
from harness.records.manifest import MANIFEST
from harness.records.stored import write_json
from harness.report.charts.charts import write_charts
from harness.workload.loads import ClosedLoop
from tests.invented import ALPHA, Invented, campaign, manifest

CANDIDATES, ROUNDS, REQUESTS, CHUNKS = 6, 5, 1000, 48
SLOTS = (1, 2, 4, 8, 16, 32, 64, 128)
LIMIT_S, LIMIT_BYTES = 15.0, 1_000_000_000
T = TypeVar("T")


def make(
    folder: Path,
    candidates: int = CANDIDATES,
    slots: tuple[int, ...] = SLOTS,
    rounds: int = ROUNDS,
    requests: int = REQUESTS,
    chunks: int = CHUNKS,
) -> Path:
    """A comparison folder of this size with random times."""
    rng = np.random.default_rng(1)
    engines = [
        Invented(f"engine{i}", f"Engine {i}", ALPHA.color, 50.0 * (1 + 0.05 * i), 10.0 * (1 + 0.05 * i))
        for i in range(candidates)
    ]
    for engine in engines:
        for one in slots:
            for round_index in range(1, rounds + 1):
                where = run_folder(folder, engine.name, f"c{one}", round_index)
                _write(where, engine, ClosedLoop(requests=requests, concurrency=one), round_index, chunks, rng)
    loads = tuple(f"c{one}" for one in slots)
    asked: Campaign = replace(campaign([one.name for one in engines], rounds=rounds), loads=loads)
    write_json(folder / CAMPAIGN, asked)
    return folder


def _write(
    folder: Path, engine: Invented, load: ClosedLoop, round_index: int, chunks: int, rng: np.random.Generator
) -> None:
    slots, requests = load.concurrency, load.requests
    assert slots is not None and requests is not None
    round_factor = np.exp(0.02 * rng.standard_normal())
    first = engine.ttft_ms / 1e3 * round_factor * np.exp(0.2 * rng.standard_normal(requests))
    gaps = engine.tpot_ms / 1e3 * round_factor * np.exp(0.2 * rng.standard_normal((requests, chunks - 1)))
    offsets = np.concatenate([first[:, None], first[:, None] + np.cumsum(gaps, axis=1)], axis=1)
    taken = offsets[:, -1] + 0.0002
    sent = np.empty(requests)
    for slot in range(slots):  # each slot sends its next request when the last one is done
        mine = taken[slot::slots]
        sent[slot::slots] = 0.001 * slot + np.concatenate([[0.0], np.cumsum(mine)[:-1]])
    arrivals = sent[:, None] + offsets
    same = {
        "index": np.arange(requests), "scheduled_s": np.full(requests, np.nan), "sent_s": sent,
        "first_token_s": arrivals[:, 0], "last_token_s": arrivals[:, -1], "done_s": arrivals[:, -1],
        "prompt_tokens": np.full(requests, 16), "output_tokens": np.full(requests, chunks),
        "finish_reason": ["length"] * requests, "status": ["ok"] * requests, "error": [None] * requests,
        "http_status": np.full(requests, 200), "uploaded_s": sent + 1e-5, "connect_s": np.full(requests, 0.001),
        "sent_tokens": np.full(requests, 16), "asked_tokens": np.full(requests, chunks),
        "reported_tokens": np.full(requests, chunks), "first_event_tokens": np.full(requests, 1),
        "cached_tokens": np.zeros(requests), "due_s": np.full(requests, np.nan),
        "count_source": ["ids"] * requests, "output_ids": [None] * requests,
        "output_text": [None] * requests, "reads": np.full(requests, chunks),
        "stamped_reads": np.full(requests, chunks),
    }  # fmt: skip
    table = pa.table([pa.array(same[f.name], from_pandas=True).cast(f.type) for f in REQUEST_SCHEMA], REQUEST_SCHEMA)
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "requests.parquet")
    at = np.round(arrivals.ravel() * 1e9).astype(np.int64)
    columns = [np.repeat(np.arange(requests), chunks), at, at + 20_000, np.ones(at.size)]
    parts = [pa.array(c).cast(f.type) for c, f in zip(columns, CHUNK_SCHEMA, strict=True)]
    pq.write_table(pa.table(parts, CHUNK_SCHEMA), folder / "chunks.parquet")
    made = manifest(engine, load, round_index, duration_s=float(arrivals.max()))
    write_json(folder / MANIFEST, replace(made, schedule=replace(made.schedule, output_tokens=chunks)))


def timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def peak_bytes() -> int:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "large"
        if not (folder / CAMPAIGN).is_file():
            make(folder)
        (asked, runs), read_s = timed(lambda: read_comparison(folder))
        comparison, judge_s = timed(lambda: compare(runs, asked))
        judged_bytes = peak_bytes()
        _, charts_s = timed(lambda: write_charts(comparison, runs, Path(scratch) / "charts"))
        print(f"{len(comparison.cells)} cells, {len(runs)} runs, {len(comparison.pairs)} questions\n")
        print("| step | s | peak memory so far, MB |\n| --- | --- | --- |")
        print(f"| read | {read_s:.1f} | |\n| judge | {judge_s:.1f} | {judged_bytes / 1e6:.0f} |")
        print(f"| charts | {charts_s:.1f} | {peak_bytes() / 1e6:.0f} |")
        good = read_s + judge_s < LIMIT_S and judged_bytes < LIMIT_BYTES
        print(f"\nRead and judge: {read_s + judge_s:.1f} s ({LIMIT_S:.0f} allowed).")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Invented runs of two invented engines with times that a reader can add up by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.records.calibration import Calibration, Floor
from harness.records.campaign import Campaign, run_folder
from harness.records.manifest import Manifest
from harness.records.request import Chunk, RequestRecord
from harness.records.run import write_run
from harness.records.stored import write_json
from harness.workload.spec import LoadPoint, Workload

WORKLOAD = Workload(input_tokens=16, output_tokens=5, load=(LoadPoint(4, 1), LoadPoint(8, 4), LoadPoint(6)))
MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Invented:
    """An engine: first token after `ttft_ms`, then one every `tpot_ms`, both times the round's factor.
    A closed loop of c slots runs in lockstep: slot k's next request goes out when its last one is done."""

    name: str
    title: str
    color: str
    ttft_ms: float
    tpot_ms: float


ALPHA = Invented("alpha", "Alpha", "#1f6feb", 100.0, 20.0)
BETA = Invented("beta", "Beta", "#d4582a", 50.0, 10.0)
FACTORS = (1.0, 1.01, 0.99)  # of the rounds


def records(engine: Invented, point: LoadPoint, factor: float = 1.0, tokens: int = 5) -> list[RequestRecord]:
    """One token per chunk, read 0.1 ms after it arrived; the last chunk is the last byte."""
    assert point.requests is not None
    ttft, gap = engine.ttft_ms * factor, engine.tpot_ms * factor
    e2e = ttft + gap * (tokens - 1)
    made = []
    for index in range(point.requests):
        sent = e2e * (index // point.in_flight)
        arrivals = [sent + ttft + gap * i for i in range(tokens)]
        made.append(
            RequestRecord(
                index=index,
                scheduled_s=None,
                sent_s=sent / 1e3,
                first_token_s=arrivals[0] / 1e3,
                last_token_s=arrivals[-1] / 1e3,
                done_s=arrivals[-1] / 1e3,
                prompt_tokens=16,
                output_tokens=tokens,
                finish_reason="length",
                status="ok",
                error=None,
                http_status=200,
                uploaded_s=sent / 1e3,
                connect_s=0.001,
                sent_tokens=16,
                asked_tokens=5,
                reported_tokens=tokens,
                first_event_tokens=1,
                cached_tokens=0,
                chunks=tuple(Chunk(round(a * MS), round(a * MS) + 100_000, 1) for a in arrivals),
            )
        )
    return made


def open_records(
    engine: Invented, rate: float, requests: int, late_ms: Sequence[float] = (), factor: float = 1.0
) -> list[RequestRecord]:
    """An open loop of even arrivals: request i is due at i / rate and sent `late_ms[i]` later (in time by
    default); the upload takes 1 ms, the answer as long as in `records`."""
    made = records(engine, LoadPoint(requests=requests), factor)  # as an offline batch: all sent at 0
    return [
        moved(row, row.index / rate, row.index / rate + (late_ms[row.index] if late_ms else 0.0) / 1e3) for row in made
    ]


def moved(record: RequestRecord, due: float, sent: float) -> RequestRecord:
    """A request that was sent at 0, now due and sent at these seconds."""
    assert record.first_token_s is not None and record.last_token_s is not None and record.done_s is not None
    by = round(sent * 1e9)
    return replace(
        record,
        scheduled_s=due,
        sent_s=sent,
        uploaded_s=sent + 0.001,
        first_token_s=record.first_token_s + sent,
        last_token_s=record.last_token_s + sent,
        done_s=record.done_s + sent,
        chunks=tuple(Chunk(c.arrival_ns + by, c.read_ns + by, c.tokens) for c in record.chunks),
    )


def floor(load_point: str = "c1", **changes: Any) -> Floor:
    """A client that errs by 0.1 ms in TTFT and by 0.04 ms in TPOT, far above the rates of these engines."""
    made = Floor(load_point, 100, 0, 10_000.0, None, 0.0001, 0.0002, 0.00001, 0.00004, 0.0001, None, 0.000012)
    return replace(made, **changes)


def calibration(*floors: Floor) -> Calibration:
    return Calibration(1, "0.1.0", {"id": "box-1"}, "2026-09-01T00:00:00Z", 1, 0.05, 0.005, floors)


def cancelled(record: RequestRecord) -> RequestRecord:
    """The same request, given up by its user after the second token."""
    return replace(
        record, status="cancelled", done_s=None, output_tokens=2, reported_tokens=None, chunks=record.chunks[:2]
    )


def failed(record: RequestRecord) -> RequestRecord:
    """The same request, refused."""
    return replace(
        record,
        first_token_s=None,
        last_token_s=None,
        done_s=None,
        prompt_tokens=None,
        output_tokens=0,
        finish_reason=None,
        status="failed",
        error="HTTP 500: out of slots",
        http_status=500,
        reported_tokens=None,
        first_event_tokens=None,
        cached_tokens=None,
        chunks=(),
    )


def manifest(engine: Invented, point: LoadPoint, round_index: int = 1, **changes: Any) -> Manifest:
    """A complete manifest; `changes` replace its fields."""
    assert point.requests is not None
    made = Manifest(
        schema=1,
        harness="0.1.0",
        engine=engine.name,
        engine_title=engine.title,
        engine_color=engine.color,
        engine_version="1.2.3",
        launch="process",
        model={"name": "tiny-llama", "digest": "m" * 64, "weight_dtype": "bfloat16", "kv_dtype": "bfloat16"},
        load_point=point.name,
        concurrency=point.concurrency,
        in_flight=point.requests if point.arrivals == "trace" else point.in_flight,
        requests=point.requests,
        input_tokens=16,
        output_tokens=5,
        round=round_index,
        seed=round_index,
        schedule_digest=f"{point.name}-{round_index}",
        schedules_digest="5c" * 32,
        machine={"id": "box-1", "cpu": "Invented CPU 3000", "cores": 8, "gpu": None},
        settings={
            "prefix_cache": False,
            "context_tokens": 1024,
            "threads": 8,
            "declared": {"scheduler": f"{engine.title}'s own"},
        },
        probe={"answer_ids": [5, 6, 7, 8]},
        cold_start_s={"load": 2.0, "ready": 3.0},
        counters={},
        client={"same_machine": True, "cpu_s": 0.01},
        started_at="2026-09-01T00:00:00Z",
        duration_s=1.0,
        load={field.name: getattr(point, field.name) for field in fields(point)},
    )
    return replace(made, **changes)


def campaign(
    engines: Sequence[str] = ("alpha", "beta"),
    skipped: Mapping[str, str] | None = None,
    rounds: int = 3,
    finished: bool = True,
) -> Campaign:
    return Campaign(
        schema=1,
        name="invented",
        started_at="2026-09-01T00:00:00Z",
        engines=tuple(engines),
        skipped=skipped or {},
        load_points=tuple(p.name for p in WORKLOAD.load),
        rounds=rounds,
        schedules_digest="5c" * 32,
        finished=finished,
    )


def write_comparison(
    folder: Path, engines: Sequence[Invented] = (ALPHA, BETA), rounds: int = 3, skipped: Mapping[str, str] | None = None
) -> Path:
    """A whole comparison folder as the measuring side leaves it."""
    names = [*(engine.name for engine in engines), *(skipped or {})]
    for engine in engines:
        for point in WORKLOAD.load:
            for r in range(1, rounds + 1):
                rows = records(engine, point, FACTORS[r - 1])
                write_run(run_folder(folder, engine.name, point.name, r), manifest(engine, point, r), rows)
    write_json(folder / "campaign.json", campaign(names, skipped, rounds))
    return folder

"""Invented runs of two invented engines with times that a reader can add up by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.records.calibration import Calibration, Floor
from harness.records.campaign import Campaign, run_folder
from harness.records.manifest import (
    MANIFEST,
    CandidateFacts,
    ClientFacts,
    EndpointFacts,
    MachineFacts,
    Manifest,
    ModelFacts,
    ProbeFacts,
    ScheduleFacts,
)
from harness.records.request import Chunk, RequestRecord
from harness.records.run import write_records
from harness.records.stored import write_json
from harness.workload.loads import Load
from tests import loads

LOADS = ONE, FOUR, OFFLINE = (loads.load(4, 1), loads.load(8, 4), loads.load(6))
MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Invented:
    """A candidate: first token after `ttft_ms`, then one every `tpot_ms`, both times the round's factor.
    A closed loop of c slots runs in lockstep: slot k's next request goes out when its last one is done."""

    name: str
    title: str
    color: str
    ttft_ms: float
    tpot_ms: float
    engine: str = ""  # default: as the candidate


ALPHA = Invented("alpha", "Alpha", "#1f6feb", 100.0, 20.0)
BETA = Invented("beta", "Beta", "#d4582a", 50.0, 10.0)
FACTORS = (1.0, 1.01, 0.99)  # of the rounds


def records(engine: Invented, load: Load, factor: float = 1.0, tokens: int = 5) -> list[RequestRecord]:
    """One token per chunk, read 0.1 ms after it arrived; the last chunk is the last byte."""
    ttft, gap = engine.ttft_ms * factor, engine.tpot_ms * factor
    e2e = ttft + gap * (tokens - 1)
    made = []
    slots = load.most_in_flight() or 1
    for index in range(load.count()):
        sent = e2e * (index // slots)
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
    made = records(engine, loads.load(requests), factor)  # as an offline batch: all sent at 0
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


def floor(load: str = "c1", **changes: Any) -> Floor:
    """A client that errs by 0.1 ms in TTFT and by 0.04 ms in TPOT, far above the rates of these engines."""
    made = Floor(load, 100, 0, 10_000.0, None, 0.0001, 0.0002, 0.00001, 0.00004, 0.0001, None, 0.000012)
    return replace(made, **changes)


def calibration(*floors: Floor) -> Calibration:
    return Calibration(2, "0.1.0", MachineFacts(id="box-1"), "2026-09-01T00:00:00Z", 1, 0.05, 0.005, floors)


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


def manifest(engine: Invented, load: Load = ONE, round_index: int = 1, **changes: Any) -> Manifest:
    """A complete manifest; `changes` replace its fields, and those named by a part and a field: endpoint__gpus=2."""
    requests = load.count() or 5  # of a trace
    made = Manifest(
        harness="0.1.0",
        candidate=CandidateFacts(
            name=engine.name, engine=engine.engine or engine.name, title=engine.title, color=engine.color
        ),
        endpoint=EndpointFacts(
            launch="process",
            device="cpu",
            gpus=0,
            same_machine=True,
            version="1.2.3",
            tested_version="1.2.3",
            settings={"prefix_cache": False, "context_tokens": 1024, "threads": 8},
            declared={"scheduler": f"{engine.title}'s own"},
            cold_start_s={"load": 2.0, "ready": 3.0},
        ),
        model=ModelFacts(name="tiny-llama", digest="m" * 64, weight_dtype="bfloat16", kv_dtype="bfloat16"),
        load=load,
        schedule=ScheduleFacts(
            digest=f"{load.name}-{round_index}",
            whole="5c" * 32,
            seed=round_index,
            requests=requests,
            in_flight=load.most_in_flight() or requests,
            input_tokens=16,
            output_tokens=5,
        ),
        machine=MachineFacts(id="box-1", cpu="Invented CPU 3000", cores=8),
        client=ClientFacts(cpu_s=0.01, kernel_stamped_fraction=1.0),
        probe=ProbeFacts(answer_ids=(5, 6, 7, 8)),
        round=round_index,
        started_at="2026-09-01T00:00:00Z",
        duration_s=1.0,
    )
    return changed(made, **changes)


def changed(made: Manifest, **changes: Any) -> Manifest:
    """The same manifest with other fields, as `manifest` takes them."""
    for name, value in changes.items():
        part, _, field = name.partition("__")
        made = replace(made, **{part: replace(getattr(made, part), **{field: value}) if field else value})
    return made


def campaign(
    candidates: Sequence[str] = ("alpha", "beta"),
    skipped: Mapping[str, str] | None = None,
    rounds: int = 3,
    finished: bool = True,
) -> Campaign:
    return Campaign(
        name="invented",
        started_at="2026-09-01T00:00:00Z",
        candidates=tuple(candidates),
        skipped=skipped or {},
        loads=tuple(one.name for one in LOADS),
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
        for one in LOADS:
            for r in range(1, rounds + 1):
                rows = records(engine, one, FACTORS[r - 1])
                write_run(run_folder(folder, engine.name, one.name, r), manifest(engine, one, r), rows)
    write_json(folder / "campaign.json", campaign(names, skipped, rounds))
    return folder


def write_run(folder: Path, manifest: Manifest, records: Sequence[RequestRecord]) -> None:
    """A finished run, the manifest last."""
    write_records(folder, records)
    write_json(folder / MANIFEST, manifest)

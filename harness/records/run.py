"""Where measuring and judging meet: the records of one run, and the folder that holds them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.records.chunks import read_chunks

SCHEMA = 1
MANIFEST = "manifest.json"
CALIBRATION = "calibration.json"
CHUNKS_HELD = 200_000  # rows of chunks.parquet kept in memory before they are written


class Chunk(NamedTuple):
    """One read of the socket that carried output tokens. Nanoseconds since the start of the run.

    `arrival_ns` is when the kernel received it (the read time where the kernel gave none), `read_ns` when
    the driver got round to it; their difference is the client's own lag."""

    arrival_ns: int
    read_ns: int
    tokens: int


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What happened to one request. Times are seconds since the start of the run; null: did not happen.

    prompt_tokens, reported_tokens and cached_tokens are what the engine said; output_tokens is what the
    driver saw; asked_tokens is what the schedule wanted."""

    index: int
    scheduled_s: float | None
    sent_s: float | None
    first_token_s: float | None
    last_token_s: float | None
    done_s: float | None
    prompt_tokens: int | None
    output_tokens: int
    finish_reason: str | None
    status: str  # "ok", "failed", or "cancelled": given up by its user as the schedule said
    error: str | None
    http_status: int | None
    uploaded_s: float | None  # the last request byte was handed to the kernel
    connect_s: float | None  # seconds that setting up the connection took; not part of any latency
    sent_tokens: int  # prompt ids in the request
    asked_tokens: int
    reported_tokens: int | None
    first_event_tokens: int | None
    cached_tokens: int | None
    # What output_tokens was counted by: "ids", "running usage", "final usage" (spread over the events that
    # carried text), "events" (one each: the engine told no count), or "none" (no output came).
    count_source: str = "none"
    reads: int = 0  # reads of the socket that the response took
    stamped_reads: int = 0  # of them, those whose arrival the kernel stamped; the others arrived when read
    chunks: tuple[Chunk, ...] = ()


REQUEST_SCHEMA = pa.schema(
    [
        ("index", pa.int32()),
        ("scheduled_s", pa.float64()),
        ("sent_s", pa.float64()),
        ("first_token_s", pa.float64()),
        ("last_token_s", pa.float64()),
        ("done_s", pa.float64()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("finish_reason", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("http_status", pa.int16()),
        ("uploaded_s", pa.float64()),
        ("connect_s", pa.float64()),
        ("sent_tokens", pa.int32()),
        ("asked_tokens", pa.int32()),
        ("reported_tokens", pa.int32()),
        ("first_event_tokens", pa.int32()),
        ("cached_tokens", pa.int32()),
        ("count_source", pa.string()),
        ("reads", pa.int32()),
        ("stamped_reads", pa.int32()),
    ]
)
CHUNK_SCHEMA = pa.schema(
    [("index", pa.int32()), ("arrival_ns", pa.int64()), ("read_ns", pa.int64()), ("tokens", pa.int32())]
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that a reader of the run folder needs to know what the numbers are numbers of."""

    schema: int
    harness: str  # version of this software
    engine: str
    engine_title: str
    engine_color: str
    engine_version: str
    launch: str  # "container", "process" or "attach"
    model: Mapping[str, Any]  # name, revision, digest, weights file, weight and kv precision, parameters
    load_point: str
    concurrency: int | None
    in_flight: int  # the most requests that could be in flight together
    requests: int  # in the schedule; sending may stop before all are sent
    input_tokens: int | None  # of every prompt; null where a trace gives lengths of their own
    output_tokens: int | None
    round: int  # counts from 1
    seed: int
    schedule_digest: str
    schedules_digest: str
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]  # the normalised settings table: what must be equal, and what is not
    probe: Mapping[str, Any]  # what was verified after the start
    cold_start_s: Mapping[str, float]  # phase -> seconds
    counters: Mapping[str, float | None]  # increase of the engine's own counters over the run
    client: Mapping[str, Any]  # time stamp source, the driver's own CPU seconds
    started_at: str  # UTC, ISO 8601
    duration_s: float
    load: Mapping[str, Any] = field(default_factory=dict)  # the load point, as LoadPoint's fields
    image: Mapping[str, str] = field(default_factory=dict)  # name and digest of the container's image


@dataclass(frozen=True, slots=True)
class RunResult:
    """One engine, one schedule, one round. `requests` and `chunks` map a column name to an array: floats
    with NaN for null; strings as object arrays with None."""

    manifest: Manifest
    requests: Mapping[str, np.ndarray]
    chunks: Mapping[str, np.ndarray]
    folder: Path


def write_run(folder: Path, manifest: Manifest, records: Iterable[RequestRecord]) -> None:
    """Writes the records, then the manifest by an atomic rename: a folder without one is not a result."""
    write_records(folder, records)
    write_json(folder / MANIFEST, manifest)


def write_records(folder: Path, records: Iterable[RequestRecord]) -> pa.Table:
    """Writes `requests.parquet` in the order of the schedule and `chunks.parquet` request by request, and
    returns the former. Records may come in any order and are not kept: memory is that of the requests'
    rows, not of the tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f.name for f in fields(RequestRecord) if f.name != "chunks"]
    row_of = attrgetter(*names)
    rows = []
    with pq.ParquetWriter(folder / "chunks.parquet", CHUNK_SCHEMA) as writer:
        held: list[RequestRecord] = []
        count = 0
        for record in records:
            rows.append(row_of(record))
            held.append(record)
            count += len(record.chunks)
            if count >= CHUNKS_HELD:
                writer.write_table(_chunk_table(held))
                held, count = [], 0
        writer.write_table(_chunk_table(held))
    rows.sort()
    table = pa.table([list(c) for c in zip(*rows, strict=True)] or [[] for _ in names], schema=REQUEST_SCHEMA)
    pq.write_table(table, folder / "requests.parquet")
    return table


def _chunk_table(records: Sequence[RequestRecord]) -> pa.Table:
    index = [r.index for r in records for _ in r.chunks]
    columns = list(zip(*(c for r in records for c in r.chunks), strict=True)) or [(), (), ()]
    return pa.table([index, *map(list, columns)], schema=CHUNK_SCHEMA)


def read_run(folder: Path) -> RunResult:
    """Reads a finished run folder; raises FileNotFoundError where there is no manifest."""
    return open_run(folder, msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest))


def open_run(folder: Path, manifest: Manifest) -> RunResult:
    """The records that lie in `folder`, under a manifest that may not lie there yet."""
    return RunResult(
        manifest,
        _columns(folder / "requests.parquet"),
        read_chunks(folder / "chunks.parquet"),
        folder,
    )


def _columns(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, whole or not at all: written beside `path` and moved into place."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    os.replace(part, path)


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a comparison set out to do and what came of each engine; `campaign.json` in its folder."""

    schema: int
    name: str
    started_at: str  # UTC, ISO 8601
    engines: tuple[str, ...]  # asked for, in the order of the reports; the first is the reference
    skipped: Mapping[str, str]  # engine -> one line saying why it did not (fully) take part
    load_points: tuple[str, ...]  # in the order of the reports
    rounds: int
    schedules_digest: str
    finished: bool  # false: interrupted, the runs on disk are what was measured


def read_campaign(folder: Path) -> Campaign:
    """Reads `campaign.json`; raises FileNotFoundError where `folder` is no comparison."""
    return msgspec.json.decode((folder / "campaign.json").read_bytes(), type=Campaign)


def run_folder(folder: Path, engine: str, load_point: str, round_index: int) -> Path:
    """Where one run of a comparison lies."""
    return folder / "runs" / engine / load_point / f"round-{round_index}"


SAMPLE_SCHEMA = pa.schema([("t_s", pa.float64()), ("name", pa.string()), ("value", pa.float64())])


def write_samples(folder: Path, rows: Sequence[tuple[float, str, float]]) -> None:
    """`samples.parquet`: seconds since the start of the run, what was sampled, its value."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    pq.write_table(pa.table(flat, schema=SAMPLE_SCHEMA), folder / "samples.parquet")


@dataclass(frozen=True, slots=True)
class Floor:
    """The client's own floor at one load point: what the driver reported of the null server, less what the
    null server's own log says it did. Seconds; null where nothing came back."""

    load_point: str
    requests: int
    failed: int
    tokens_per_s: float  # reached
    offered_tokens_per_s: float | None  # what the null server's plan allows; null where the load sets the pace
    ttft_error_p50_s: float | None
    ttft_error_p99_s: float | None
    tpot_error_p50_s: float | None
    tpot_error_p99_s: float | None
    lag_p99_s: float | None  # chunks lay in the kernel before they were read
    dispatch_delay_p99_s: float | None  # open loop: sent - scheduled
    client_cpu_s_per_token: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """`calibration.json` in the folder of a comparison or a run."""

    schema: int
    harness: str
    machine: Mapping[str, Any]
    measured_at: str  # UTC, ISO 8601
    workers: int
    ttft_s: float  # of the null server
    interval_s: float
    floors: tuple[Floor, ...]


def read_calibration(folder: Path) -> Calibration | None:
    """Reads `calibration.json`; null where the folder has none."""
    try:
        return msgspec.json.decode((folder / CALIBRATION).read_bytes(), type=Calibration)
    except FileNotFoundError:
        return None

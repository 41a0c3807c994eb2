"""The frozen schedules of a comparison: `schedule/<load>/round-<n>.parquet`, a row for each request.

They are the exact requests of each cell, for anyone who disputes it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import HarnessError
from harness.workload.enough import Enough
from harness.workload.schedule import Request, Schedule

FOLDER = "schedule"
SCHEMA = 1
COLUMNS = pa.schema(
    [
        ("index", pa.int32()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("output_tokens", pa.int32()),
        ("scheduled_s", pa.float64()),
        ("after", pa.list_(pa.int32())),
        ("think_s", pa.float64()),
        ("cancel_after_s", pa.float64()),
    ]
)


def schedule_file(folder: Path, load: str, round_index: int) -> Path:
    """The path of the schedule of one load and round in a comparison's folder."""
    return folder / FOLDER / load / f"round-{round_index}.parquet"


def write_schedule(path: Path, schedule: Schedule) -> None:
    """Writes the schedule, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [[getattr(request, name) for request in schedule.requests] for name in COLUMNS.names]
    facts = {
        "schema": SCHEMA,
        "digest": schedule.digest,
        "slots": schedule.slots,
        "duration_s": schedule.duration_s,
        "ramp_s": schedule.ramp_s,
        "enough": None if schedule.enough is None else asdict(schedule.enough),
    }
    table = pa.table(columns, schema=COLUMNS).replace_schema_metadata({"schedule": json.dumps(facts)})
    part = path.with_name(path.name + ".part")
    pq.write_table(table, part, compression="zstd")
    os.replace(part, path)


def read_schedule(path: Path) -> Schedule:
    """Reads a schedule. Raises HarnessError if the file is not a schedule, or does not match its own digest."""
    try:
        table = pq.read_table(path)
        facts = json.loads((table.schema.metadata or {})[b"schedule"])
        if facts["schema"] != SCHEMA:
            raise HarnessError(f"{path}: its schema is {facts['schema']!r}; this version reads {SCHEMA}.")
        rows = zip(*(table[name].to_pylist() for name in COLUMNS.names), strict=True)
        requests = tuple(
            Request(index, tuple(ids), output, at, tuple(after), think, cancel)
            for index, ids, output, at, after, think, cancel in rows
        )
        enough = Enough(**found) if (found := facts.get("enough")) else None  # older files have none
        schedule = Schedule(requests, facts["slots"], facts["duration_s"], facts["ramp_s"], enough)
    except (OSError, ValueError, KeyError, TypeError) as problem:  # pyarrow's errors are ValueErrors
        raise HarnessError(f"{path}: not a schedule: {problem}") from None
    if schedule.digest != facts["digest"]:
        raise HarnessError(f"{path}: its requests do not match its digest {facts['digest'][:12]}; it was changed.")
    return schedule

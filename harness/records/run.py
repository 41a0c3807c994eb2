"""One run folder: records are written first and the manifest last; read back as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import HarnessError
from harness.records.chunks import read_chunks
from harness.records.columns import CHUNK_SCHEMA, REQUEST_SCHEMA
from harness.records.manifest import MANIFEST, Manifest
from harness.records.request import RequestRecord
from harness.records.stored import read_stored
from harness.records.upgrade import full_columns

CHUNKS_HELD = 200_000  # rows of chunks.parquet kept in memory before they are written


@dataclass(frozen=True, slots=True)
class RunResult:
    """One candidate, one load, one round. `requests` and `chunks` map a column name to an array: floats
    with NaN if missing; strings as object arrays with None."""

    manifest: Manifest
    requests: Mapping[str, np.ndarray]
    chunks: Mapping[str, np.ndarray]
    folder: Path


def write_records(folder: Path, records: Iterable[RequestRecord]) -> pa.Table:
    """Writes `requests.parquet` in the order of the schedule and `chunks.parquet` request by request, and returns the
    former. Records may come in any order and are not kept: only the requests' rows stay in memory, not the tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    names = REQUEST_SCHEMA.names
    assert {f.name for f in fields(RequestRecord)} == {*names, "chunks"}
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
    rows.sort(key=lambda row: row[0])
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
    kept = names.index("output_ids")
    columns[kept] = [ids or None for ids in columns[kept]]  # null, not an empty list: most answers are not kept
    table = pa.table(columns, schema=REQUEST_SCHEMA)
    pq.write_table(table, folder / "requests.parquet")
    return table


def _chunk_table(records: Sequence[RequestRecord]) -> pa.Table:
    index = [r.index for r in records for _ in r.chunks]
    columns = list(zip(*(c for r in records for c in r.chunks), strict=True)) or [(), (), ()]
    return pa.table([index, *map(list, columns)], schema=CHUNK_SCHEMA)


def read_run(folder: Path) -> RunResult:
    """Reads a finished run folder, of this or an older schema. Raises FileNotFoundError if there is no manifest,
    HarnessError naming the file for what cannot be read."""
    return open_run(folder, read_stored(folder / MANIFEST, Manifest))


def open_run(folder: Path, manifest: Manifest) -> RunResult:
    """The records in `folder`, with a manifest that may not have been written yet."""
    try:
        table = pq.read_table(folder / "requests.parquet")
        columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
        wanted = {field.name: field.type for field in REQUEST_SCHEMA}
        return RunResult(manifest, full_columns(columns, wanted), read_chunks(folder / "chunks.parquet"), folder)
    except (OSError, ValueError, KeyError) as problem:  # pyarrow's errors are ValueErrors
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise HarnessError(f"{folder}: a run that cannot be read: {first}") from None

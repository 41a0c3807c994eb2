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
from harness.records.chunks import CHUNKS, group, read_chunks
from harness.records.columns import CHUNK_SCHEMA, REQUEST_RULES, REQUEST_SCHEMA, STATUSES
from harness.records.manifest import MANIFEST, Manifest
from harness.records.request import ERROR_SHOWN, TEXT_SHOWN, RequestRecord
from harness.records.stored import read_stored
from harness.records.tables import read_table
from harness.records.upgrade import LATER_COLUMNS, full_columns
from harness.visible import SHOWN, visible

REQUESTS = "requests.parquet"
_TEXTS = (("error", ERROR_SHOWN), ("finish_reason", SHOWN), ("count_source", SHOWN), ("output_text", TEXT_SHOWN))
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
    with pq.ParquetWriter(folder / CHUNKS, CHUNK_SCHEMA) as writer:
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
    pq.write_table(table, folder / REQUESTS)
    return table


def _chunk_table(records: Sequence[RequestRecord]) -> pa.Table:
    index = [r.index for r in records for _ in r.chunks]
    columns = list(zip(*(c for r in records for c in r.chunks), strict=True)) or [(), (), ()]
    return pa.table([index, *map(list, columns)], schema=CHUNK_SCHEMA)


def read_run(folder: Path) -> RunResult:
    """Reads a finished run folder, of this or an older schema. Raises FileNotFoundError if there is no manifest,
    HarnessError naming the file and the field for what cannot be read."""
    manifest = read_stored(folder / MANIFEST, Manifest)
    manifest.load.check(str(folder / MANIFEST), "load.{}".format)
    return open_run(folder, manifest)


def kept_texts(run: RunResult) -> dict[int, str]:
    """Index of the request -> the text of its answer, of those that succeeded and whose text was kept."""
    columns = run.requests["index"], run.requests["output_text"], run.requests["status"]
    return {
        int(index): str(text)
        for index, text, status in zip(*columns, strict=True)
        if text is not None and status == "ok"
    }


def open_run(folder: Path, manifest: Manifest) -> RunResult:
    """The records in `folder`, with a manifest that may not have been written yet."""
    path = folder / REQUESTS
    table = read_table(path, REQUEST_SCHEMA, REQUEST_RULES, LATER_COLUMNS)
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    requests = full_columns(_ordered(path, columns), {field.name: field.type for field in REQUEST_SCHEMA})
    if (count := len(requests["index"])) > manifest.schedule.requests:
        raise HarnessError(f"{path}: {count} requests, but the schedule has {manifest.schedule.requests}.")
    chunks = read_chunks(folder / CHUNKS)
    if strange := np.setdiff1d(group(chunks).index, requests["index"]).tolist():
        raise HarnessError(f"{folder / CHUNKS}: index: there is no request {strange[0]}.")
    return RunResult(manifest, requests, chunks, folder)


def _ordered(path: Path, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rows in the order of the schedule, texts in one line. Raises HarnessError for a request that is there twice
    and for an unknown status."""
    index, found = columns["index"], dict(columns)
    if (np.diff(index) <= 0).any():
        order = np.argsort(index, kind="stable")
        found = {name: column[order] for name, column in columns.items()}
        if (np.diff(found["index"]) == 0).any():
            raise HarnessError(f"{path}: index: a request is there twice.")
    if strange := set(np.unique(found["status"].astype(str))).difference(STATUSES):
        raise HarnessError(f"{path}: status is {visible(min(strange), 40)!r}; it can be {', '.join(STATUSES)}.")
    # An error ends with what to do about it: cut as short as other texts, it would lose that.
    for name, limit in _TEXTS:
        if name in found:
            found[name] = _shown(found[name], limit)
    return found


def _shown(texts: np.ndarray, limit: int) -> np.ndarray:
    """The same texts (None if missing), each in one line: whoever sends a results folder could otherwise clear the
    terminal of the one who looks at it."""
    said = {text: visible(text, limit) for text in set(texts) if text is not None}
    if all(text == shown for text, shown in said.items()):
        return texts
    return np.array([None if text is None else said[text] for text in texts], dtype=object)

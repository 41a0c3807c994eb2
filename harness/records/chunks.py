"""`chunks.parquet` as arrays, whatever its size.

The file's rule: the chunks of one request are consecutive rows, in the order of arrival; the requests are in any
order. Everything that compares neighbouring rows (gaps, the last chunk of a request) relies on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.records.columns import CHUNK_RULES, CHUNK_SCHEMA
from harness.records.tables import FAULTS, check_column, open_parquet, typed, unreadable

CHUNKS = "chunks.parquet"
ROWS_KEPT = 1_000_000  # in memory; a larger file is read again, column by column, at each use
ROWS_AT_ONCE = 1 << 19

Array = NDArray[Any]


class ChunkFile(Mapping[str, Array]):
    """The columns of one file, read again at each use: a comparison of many long runs needs the memory of one column,
    not of all runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_parquet(path) as file:
            self.rows = file.metadata.num_rows
            for name in CHUNK_SCHEMA.names:
                check_column(path, file.schema_arrow, name)
        self.types = {field.name: field.type.to_pandas_dtype() for field in CHUNK_SCHEMA}

    def __getitem__(self, name: str) -> Array:
        values, field = np.empty(self.rows, dtype=self.types[name]), CHUNK_SCHEMA.field(name)
        at = 0
        # Batch by batch into one array: a whole column would be in memory twice, as Arrow and as numpy.
        with open_parquet(self.path) as file:
            try:
                for batch in file.iter_batches(ROWS_AT_ONCE, columns=[name], use_threads=False):
                    part = typed(self.path, batch.column(0), field, CHUNK_RULES[name]).to_numpy(zero_copy_only=False)
                    values[at : at + part.size] = part
                    at += part.size
            except FAULTS as problem:
                raise unreadable(self.path, problem) from None
        if at < self.rows:
            raise HarnessError(f"{self.path}: {at} of {self.rows} rows are there.")
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self.types)

    def __len__(self) -> int:
        return len(self.types)


def read_chunks(path: Path) -> Mapping[str, Array]:
    """The columns of `path`; a file that breaks the rule of order is sorted in memory. Raises HarnessError for a file
    or a column that cannot be read."""
    file = ChunkFile(path)
    chunks = dict(file) if file.rows <= ROWS_KEPT else file
    return chunks if in_order(chunks) else sort(chunks)


def in_order(chunks: Mapping[str, Array]) -> bool:
    """Whether every request's chunks are consecutive and in the order of arrival."""
    groups = group(chunks)
    if np.unique(groups.index).size < groups.index.size:
        return False
    backwards = np.flatnonzero(np.diff(chunks["arrival_ns"]) < 0)
    return bool(np.isin(backwards + 1, groups.start).all())


def sort(chunks: Mapping[str, Array]) -> dict[str, Array]:
    """The same chunks by request, then by arrival."""
    order = np.lexsort((chunks["arrival_ns"], chunks["index"]))
    return {name: column[order] for name, column in chunks.items()}


@dataclass(frozen=True, slots=True)
class Groups:
    """The requests of a file in its order: request `index[i]` has the rows `start[i]:stop[i]`. Shapes (requests with
    chunks,)."""

    index: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]


def group(chunks: Mapping[str, Array]) -> Groups:
    """The rows of each request's chunks."""
    index = chunks["index"]
    rows = index.size
    border = np.flatnonzero(index[1:] != index[:-1]) + 1
    start = np.concatenate([np.zeros(min(rows, 1), np.int64), border])
    return Groups(index[start].astype(np.int64), start, np.append(start[1:], rows)[: start.size])


def gaps(chunks: Mapping[str, Array], groups: Groups, wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Seconds between successive chunks of one request, for the groups in `wanted`; shape (gaps,)."""
    arrival = chunks["arrival_ns"]
    keep = np.repeat(wanted, groups.stop - groups.start)[1:]
    # Without this line the time between one request's last chunk and the next request's first would count as a gap.
    keep[groups.start[1:] - 1] = False
    between = np.diff(arrival)
    del arrival  # 10 million chunks: each array is 80 MB, and no more than two should live at once
    return np.asarray(between[keep] / 1e9, dtype=np.float64)

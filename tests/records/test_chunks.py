"""chunks.parquet: the format's rule, and files that are too large to be kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.records import chunks
from harness.records.chunks import ChunkFile, gaps, group, read_chunks
from harness.records.columns import CHUNK_SCHEMA
from harness.records.metrics import measure
from harness.records.run import RunResult, read_run
from tests.invented import ALPHA, FOUR, records
from tests.invented_runs import Run

MS = 1_000_000


def write(path: Path, index: Sequence[int], arrival_ms: Sequence[int]) -> Path:
    arrival = [a * MS for a in arrival_ms]
    table = pa.table([index, arrival, [a + 1 for a in arrival], list(range(len(index)))], schema=CHUNK_SCHEMA)
    pq.write_table(table, path)
    return path


def test_groups_in_any_order(tmp_path: Path) -> None:
    found = read_chunks(write(tmp_path / "c", [7, 7, 2, 5, 5, 5], [10, 13, 1, 4, 5, 9]))
    groups = group(found)
    assert (groups.index.tolist(), groups.start.tolist(), groups.stop.tolist()) == ([7, 2, 5], [0, 2, 3], [2, 3, 6])
    assert found["tokens"].tolist() == [0, 1, 2, 3, 4, 5]  # as they lie in the file
    everyone = np.array([True, True, True])
    assert gaps(found, groups, everyone).tolist() == [0.003, 0.001, 0.004]
    assert gaps(found, groups, np.array([True, True, False])).tolist() == [0.003]


@pytest.mark.parametrize(
    ("index", "arrival"), [([1, 2, 1, 2], [1, 2, 3, 4]), ([1, 1, 2, 2], [3, 1, 2, 4])], ids=["scattered", "backwards"]
)
def test_a_file_that_breaks_the_rule_is_sorted(tmp_path: Path, index: list[int], arrival: list[int]) -> None:
    found = read_chunks(write(tmp_path / "c", index, arrival))
    assert found["index"].tolist() == [1, 1, 2, 2]
    assert found["arrival_ns"].tolist() == [MS, 3 * MS, 2 * MS, 4 * MS]
    assert [arrival[i] * MS for i in found["tokens"]] == found["arrival_ns"].tolist()


def test_a_file_without_a_chunk(tmp_path: Path) -> None:
    found = read_chunks(write(tmp_path / "c", [], []))
    assert group(found).index.size == 0
    assert gaps(found, group(found), np.empty(0, np.bool_)).size == 0


def test_a_large_file_is_read_when_asked_and_gives_the_same_numbers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = run(load=FOUR, rows=records(ALPHA, FOUR)[::-1])
    monkeypatch.setattr(chunks, "ROWS_KEPT", 0)
    monkeypatch.setattr(chunks, "ROWS_AT_ONCE", 7)  # a column then comes in several parts
    large = read_run(kept.folder)
    assert isinstance(large.chunks, ChunkFile) and not isinstance(kept.chunks, ChunkFile)
    assert large.chunks["read_ns"] is not large.chunks["read_ns"]
    for name in kept.chunks:
        assert np.array_equal(kept.chunks[name], large.chunks[name])
        assert kept.chunks[name].dtype == large.chunks[name].dtype
    assert measure(RunResult(kept.manifest, kept.requests, large.chunks, kept.folder)) == measure(kept)

"""`samples.parquet`: samples of the engine's resources and counters during a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SAMPLE_SCHEMA = pa.schema([("t_s", pa.float64()), ("name", pa.string()), ("value", pa.float64())])


def write_samples(folder: Path, rows: Sequence[tuple[float, str, float]]) -> None:
    """Writes `samples.parquet`. `rows`: seconds since the start of the run, name, value."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    pq.write_table(pa.table(flat, schema=SAMPLE_SCHEMA), folder / "samples.parquet")

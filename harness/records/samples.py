"""`samples.parquet`: samples of the engine's resources and counters during a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.records.ranges import MOST, MOST_S
from harness.records.tables import Column, read_table, unreadable

Floats = NDArray[np.float64]
SAMPLES = "samples.parquet"
SAMPLE_SCHEMA = pa.schema([("t_s", pa.float64()), ("name", pa.string()), ("value", pa.float64())])
SAMPLE_RULES = {
    "t_s": Column(-MOST_S, MOST_S, known=True),
    "name": Column(known=True),
}


def write_samples(folder: Path, rows: Sequence[tuple[float, str, float]]) -> None:
    """Writes `samples.parquet`. `rows`: seconds since the start of the run, name, value."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    pq.write_table(pa.table(flat, schema=SAMPLE_SCHEMA), folder / SAMPLES)


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one name: seconds since the start of the run, ascending, and values; both of shape (samples,)."""

    t_s: Floats
    values: Floats


def series_of(folder: Path) -> Mapping[str, Series]:
    """Every series of a run folder by name; empty without samples or with a file that cannot be read."""
    try:
        return stored_series(folder)
    except HarnessError:  # which `read_comparison` names
        return {}


def stored_series(folder: Path) -> Mapping[str, Series]:
    """Every series of a run folder by name; empty without samples. Raises HarnessError if they cannot be read."""
    path = folder / SAMPLES
    try:
        stat = path.stat()
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise unreadable(path, problem) from None
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)  # every metric of a run asks for it, one run after another
def _read(path: Path, written_ns: int, size: int) -> Mapping[str, Series]:
    table = read_table(path, SAMPLE_SCHEMA, SAMPLE_RULES)
    names, at, values = (table[name].to_numpy(zero_copy_only=False) for name in ("name", "t_s", "value"))
    found = {}
    for name in np.unique(names.astype(str)):
        mine = (names == name) & (np.abs(values) <= MOST)  # a gauge may be infinite
        order = np.argsort(at[mine], kind="stable")
        if order.size:
            found[str(name)] = Series(at[mine][order], values[mine][order])
    return found


def integral(series: Series, end_s: float) -> float:
    """The integral from 0 to `end_s` by the trapezoidal rule; before the first sample and after the last one the value
    is taken to be theirs."""
    inside = series.t_s[(series.t_s > 0) & (series.t_s < end_s)]
    at = np.concatenate([[0.0], inside, [end_s]])
    values = np.interp(at, series.t_s, series.values)
    return float(np.sum(np.diff(at) * (values[1:] + values[:-1]) / 2))


def mean_over(series: Series, end_s: float) -> float | None:
    """The mean over the time from 0 to `end_s`; None for a run without duration."""
    return integral(series, end_s) / end_s if end_s > 0 else None


def slope(series: Series) -> float | None:
    """The increase per second of a counter from its first sample to its last; None with one sample, or if it fell: it
    was reset, or belongs to a process that is gone."""
    span, rise = float(np.ptp(series.t_s)), float(series.values[-1] - series.values[0])
    return rise / span if span > 0 and rise >= 0 else None

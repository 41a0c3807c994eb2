"""Reads the Parquet files of a run: every column that is expected, in its type and its range, or one line that names
the file and the column."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness.errors import HarnessError
from harness.visible import visible

# What pyarrow raises for a file that is cut, changed or no Parquet file at all.
FAULTS = (OSError, ValueError, KeyError, TypeError, NotImplementedError, MemoryError, OverflowError, pa.ArrowException)


@dataclass(frozen=True, slots=True)
class Column:
    """What the values of a column must be: from `least` to `most`, where they are known; `known`: every one is."""

    least: float = -np.inf
    most: float = np.inf
    known: bool = False


ANY = Column()


def open_parquet(path: Path) -> pq.ParquetFile:
    """The file. Raises HarnessError for what is no Parquet file."""
    if not path.is_file():  # pyarrow would read every file in a folder of that name
        raise HarnessError(f"{path}: {'is not a file' if path.exists() else 'is missing'}.")
    try:
        return pq.ParquetFile(path, memory_map=True)
    except FAULTS as problem:
        raise unreadable(path, problem) from None


def read_table(path: Path, schema: pa.Schema, rules: Mapping[str, Column], later: Collection[str] = ()) -> pa.Table:
    """The columns of `schema` that the file has, in their types; other columns are left out. Raises HarnessError for a
    file that cannot be read, a missing column that is not one of `later`, another type, and values outside `rules`."""
    with open_parquet(path) as file:
        there = [name for name in schema.names if check_column(path, file.schema_arrow, name, later)]
        try:
            table = file.read(columns=there, use_threads=False)
        except FAULTS as problem:
            raise unreadable(path, problem) from None
    columns = [typed(path, table[name], schema.field(name), rules.get(name, ANY)) for name in there]
    return pa.table(columns, schema=pa.schema([schema.field(name) for name in there]))


def check_column(path: Path, found: pa.Schema, name: str, later: Collection[str] = ()) -> bool:
    """Whether the file has this column, once."""
    count: int = found.names.count(name)
    if count > 1 or (not count and name not in later):
        raise HarnessError(f"{path}: {f'{count} columns' if count else 'no column'} {name}.")
    return count == 1


def typed(path: Path, column: pa.ChunkedArray, field: pa.Field, rule: Column) -> pa.ChunkedArray:
    """The column in the type of `field`: also what other tools write for it when they save a table again (a whole
    number with gaps as a float, a text in a dictionary)."""
    where, kind = f"{path}: {field.name}", column.type
    try:
        same = kind == field.type or pa.types.is_null(kind) or _kin(kind, field.type)
        if not same:
            raise HarnessError(f"{where} is {visible(str(kind), 40)}, not {field.type}.")
        if pa.types.is_floating(kind) and pa.types.is_integer(field.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        column = column if kind == field.type else column.cast(field.type)
        if pa.types.is_string(field.type):
            column.validate(full=True)  # UTF-8
    except FAULTS as problem:
        raise HarnessError(f"{where}: {_first_line(problem)}.") from None
    _check_range(where, column, rule)
    return column


def _kin(found: pa.DataType, wanted: pa.DataType) -> bool:
    of = pa.types
    if of.is_list(wanted):
        listed = of.is_list(found) or of.is_large_list(found)
        return bool(listed and _kin(found.value_type, wanted.value_type))
    if of.is_string(wanted):
        found = found.value_type if of.is_dictionary(found) else found
        return bool(of.is_string(found) or of.is_large_string(found) or of.is_string_view(found))
    return bool(of.is_integer(found) or of.is_floating(found))


def _check_range(where: str, column: pa.ChunkedArray, rule: Column) -> None:
    if rule.known and column.null_count:
        raise HarnessError(f"{where} has {column.null_count} empty values.")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) or not len(column):
        return
    # NaN is how other tools write an empty value.
    found = pc.drop_null(pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column)
    if len(found) < len(column) and rule.known:
        raise HarnessError(f"{where} has {len(column) - len(found)} empty values.")
    if not len(found):
        return
    if pa.types.is_floating(found.type):  # an infinite time is no number out of range: TIMELINE names its request
        found = found.filter(pc.is_finite(found))
    ends = pc.min_max(found).as_py() if len(found) else {"min": rule.least, "max": rule.most}
    for value in (ends["min"], ends["max"]):
        if not rule.least <= value <= rule.most:
            raise HarnessError(f"{where} has a value of {value:.6g}; it can be from {rule.least:g} to {rule.most:g}.")


def unreadable(path: Path, problem: BaseException) -> HarnessError:
    """The error for a file that pyarrow cannot read."""
    return HarnessError(f"{path}: cannot be read: {_first_line(problem)}.")


def _first_line(problem: BaseException) -> str:
    line = next(iter(str(problem).splitlines()), "") or type(problem).__name__
    return visible(line).rstrip(".")

"""Breaks one file of a results folder in one of many ways, as an editor, a full disk or a bad copy might."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

RAW = "<raw>"  # in place of a value that json.dumps cannot write
LITERALS = ("NaN", "-Infinity", "1e400", "9" * 400, "[" * 3000 + "]" * 3000, '"\\ud800"', '"\\u0000\\u001b[2J"')
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, -(2**31) - 1, 2**63, 10**30, 1e308, -1e308, 5e-324, 0.5, "", "x", "$PATH_{x",
    "\x1b[2J", "../../x", "<script>alert(1)</script>", "[x](http://y)", "🚀 \u202e 中", "x" * 5000, "a\nb", [],
    {}, [None], [[[]]], {"x": None}, {"": {}}, ["x"] * 50,
)  # fmt: skip
FLOATS = (float("nan"), float("inf"), float("-inf"), 1e300, -1e300, -1.0, 0.0, 1e9, 5e-324)
INTEGERS = (-1, 0, -(2**31), 2**31 - 1, 1_000_000)


def mutate(path: Path, chance: random.Random) -> str:
    """Breaks `path`; returns how, in words."""
    if chance.random() < 0.12:
        return _whole_file(path, chance)
    return _json(path, chance) if path.suffix == ".json" else _parquet(path, chance)


def _whole_file(path: Path, chance: random.Random) -> str:
    data = path.read_bytes()
    kind = chance.choice(("empty", "cut", "bytes", "nul", "folder", "loop", "gone", "deep", "other", "flipped"))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind != "gone":
        at = chance.randrange(len(data))
        flipped = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        contents = {
            "empty": b"",
            "cut": data[:at],
            "bytes": b"\xff\xfe" * 40,
            "nul": bytes(100),
            "deep": b"[" * 100_000,
        }
        path.write_bytes({**contents, "other": b'{"schema": 2}', "flipped": flipped}[kind])
    return kind


def _json(path: Path, chance: random.Random) -> str:
    value = json.loads(path.read_text())
    places = list(_places(value, ""))
    container, key, where = chance.choice(places)
    kind = chance.choice(("value", "value", "value", "raw", "gone", "extra", "again"))
    literal = ""
    if kind == "value":
        container[key] = chance.choice(VALUES)
        where += f" = {container[key]!r:.60}"
    elif kind == "raw":
        container[key], literal = RAW, chance.choice(LITERALS)
        where += f" = {literal:.30}"
    elif kind == "gone":
        del container[key]
    elif kind == "extra" and isinstance(container, dict):
        container["extra\n`*"] = chance.choice(VALUES)
    elif isinstance(container, list):
        container.append(container[key])
    path.write_text(json.dumps(value).replace(json.dumps(RAW), literal))
    return f"{kind} {where}"


def _places(value: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key, f"{where}.{key}"
        if isinstance(inner, dict | list):
            yield from _places(inner, f"{where}.{key}")


def _parquet(path: Path, chance: random.Random) -> str:
    table = pq.read_table(path)
    name = chance.choice(table.column_names)
    kind, change = chance.choice(_CHANGES)
    pq.write_table(change(table, name, chance), path)
    return f"{kind} {name}"


def _with(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _one_value(table: pa.Table, name: str, chance: random.Random) -> pa.Table:
    values, kind = table[name].to_pylist(), table[name].type
    if not values:
        return table
    new: Any = chance.choice(INTEGERS)
    if pa.types.is_floating(kind):
        new = chance.choice(FLOATS)
    elif pa.types.is_string(kind):
        new = chance.choice([v for v in VALUES if isinstance(v, str)])
    elif pa.types.is_list(kind):
        new = [chance.choice(INTEGERS)]
    for at in range(len(values)) if chance.random() < 0.3 else [chance.randrange(len(values))]:
        values[at] = new
    if pa.types.is_integer(kind):
        bits = kind.bit_width - 1
        values = [None if v is None else max(-(2**bits), min(2**bits - 1, v)) for v in values]
    return _with(table, name, pa.array(values, kind))


def _nulls(table: pa.Table, name: str, chance: random.Random) -> pa.Table:
    values = table[name].to_pylist()
    for at in range(len(values)) if chance.random() < 0.4 or not values else [chance.randrange(len(values))]:
        values[at] = None
    return _with(table, name, pa.array(values, table[name].type))


def _other_type(table: pa.Table, name: str, chance: random.Random) -> pa.Table:
    count = table.num_rows
    others: tuple[Any, ...] = (
        pa.array(["x"] * count), pa.array([b"\xff"] * count), pa.array([[1]] * count, pa.list_(pa.int8())),
        pa.array([True] * count), pa.array([2**63] * count, pa.uint64()), pa.nulls(count), pa.array([1.5] * count),
        pa.array([{"x": 1}] * count, pa.struct([("x", pa.int8())])), pa.array(["1"] * count).dictionary_encode(),
    )  # fmt: skip
    return _with(table, name, chance.choice(others))


Change = Callable[[pa.Table, str, random.Random], pa.Table]
_CHANGES: tuple[tuple[str, Change], ...] = (
    ("value", _one_value),
    ("value", _one_value),
    ("nulls", _nulls),
    ("type", _other_type),
    ("without", lambda table, name, chance: table.drop_columns([name])),
    ("renamed", lambda table, name, chance: table.rename_columns([c + "x" * (c == name) for c in table.column_names])),
    ("twice", lambda table, name, chance: table.append_column(name, table[name])),
    ("more", lambda table, name, chance: table.append_column("more", table[name])),
    ("no rows", lambda table, name, chance: table.slice(0, 0)),
    ("one row", lambda table, name, chance: table.slice(0, 1)),
    ("rows twice", lambda table, name, chance: pa.concat_tables([table, table])),
    ("backwards", lambda table, name, chance: table.take(list(range(table.num_rows))[::-1])),
)

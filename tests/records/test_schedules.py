"""A schedule in a file: read back as it was, and never as another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import HarnessError
from harness.records.schedules import read_schedule, write_schedule
from harness.workload.schedule import Request, Schedule

# Two chats of two turns, one of them at a time of its own and given up.
CHATS = Schedule(
    (
        Request(0, (1, 2, 3), 4, scheduled_s=0.0),
        Request(1, (4,), 5, scheduled_s=0.1 + 0.2, cancel_after_s=1.5),
        Request(2, (1, 2, 3, 9), 4, after=(0,), think_s=2.3),
        Request(3, (), 1, after=(0, 1)),
    ),
    slots=2,
    duration_s=7.5,
    ramp_s=0.3,
)


@pytest.mark.parametrize(
    "schedule", [CHATS, Schedule(CHATS.requests[:1], None), Schedule((), None)], ids=["chats", "one", "empty"]
)
def test_it_is_read_back_equal(schedule: Schedule, tmp_path: Path) -> None:
    path = tmp_path / "schedule" / "c1" / "round-1.parquet"
    write_schedule(path, schedule)
    found = read_schedule(path)
    assert found == schedule and found.digest == schedule.digest
    assert [p.name for p in path.parent.iterdir()] == ["round-1.parquet"]


def test_the_same_requests_are_the_same_bytes(tmp_path: Path) -> None:
    write_schedule(tmp_path / "a", CHATS)
    write_schedule(tmp_path / "b", CHATS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_others_can_read_it(tmp_path: Path) -> None:
    write_schedule(tmp_path / "a", CHATS)
    rows = pq.read_table(tmp_path / "a").to_pylist()
    assert rows[2] == {
        "index": 2,
        "prompt_ids": [1, 2, 3, 9],
        "output_tokens": 4,
        "scheduled_s": None,
        "after": [0],
        "think_s": 2.3,
        "cancel_after_s": None,
    }


def changed(path: Path, column: str | None = None, value: Any = None, **facts: Any) -> None:
    """Rewrites the file with another value in a row, or with other facts beside the rows."""
    table = pq.read_table(path)
    known = {**json.loads(table.schema.metadata[b"schedule"]), **facts}
    if column:
        values = [value, *table[column].to_pylist()[1:]]
        table = table.set_column(
            table.schema.get_field_index(column), table.schema.field(column), pa.array(values, table[column].type)
        )
    pq.write_table(table.replace_schema_metadata({"schedule": json.dumps(known)}), path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("prompt_ids", [1, 2, 4]),
        ("output_tokens", 5),
        ("scheduled_s", 0.001),
        ("after", [1]),
        ("think_s", 0.5),
        ("cancel_after_s", 3.0),
        ("index", 7),
    ],
)
def test_a_changed_request_is_refused(tmp_path: Path, column: str, value: Any) -> None:
    write_schedule(tmp_path / "a", CHATS)
    changed(tmp_path / "a", column, value)
    with pytest.raises(HarnessError, match=f"a: its requests do not match its digest {CHATS.digest[:12]}"):
        read_schedule(tmp_path / "a")


@pytest.mark.parametrize("facts", [{"slots": 3}, {"duration_s": None}, {"ramp_s": 0.0}, {"digest": "0" * 64}])
def test_changed_limits_are_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    write_schedule(tmp_path / "a", CHATS)
    changed(tmp_path / "a", **facts)
    with pytest.raises(HarnessError, match="do not match its digest"):
        read_schedule(tmp_path / "a")


def test_an_unknown_schema_is_refused(tmp_path: Path) -> None:
    write_schedule(tmp_path / "a", CHATS)
    changed(tmp_path / "a", schema=9)
    with pytest.raises(HarnessError, match="a: its schema is 9; this version reads 1"):
        read_schedule(tmp_path / "a")


def test_what_is_no_schedule_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a"
    with pytest.raises(HarnessError, match="a: not a schedule"):
        read_schedule(file)
    for data in (b"", b"PAR1 nonsense", b"{}"):
        file.write_bytes(data)
        with pytest.raises(HarnessError, match="a: not a schedule") as refused:
            read_schedule(file)
        assert "\n" not in str(refused.value)
    pq.write_table(pa.table({"index": [1]}), file)
    with pytest.raises(HarnessError, match="a: not a schedule"):
        read_schedule(file)

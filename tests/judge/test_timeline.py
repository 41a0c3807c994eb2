"""Impossible times are reported from the front door, whatever they are; nothing ends with a fault of the harness."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.records.campaign import run_folder
from tests.cli import harness
from tests.invented import ALPHA, LOADS, manifest, records, write_comparison, write_run

FAULTS: dict[str, dict[str, Any]] = {
    "first token before its send": {"first_token_s": -5.0},
    "last token before the first": {"last_token_s": 0.0},
    "ended before it was sent": {"done_s": -1.0},
    "not a number": {"done_s": math.nan},
    "infinite": {"done_s": math.inf},
    "no send": {"sent_s": None},
    "no end": {"done_s": None},
    "no first token": {"first_token_s": None},
    "all at zero": {"first_token_s": 0.0, "last_token_s": 0.0, "done_s": 0.0},
}


@pytest.mark.parametrize(("fault", "every"), [*((one, True) for one in FAULTS), (next(iter(FAULTS)), False)])
def test_the_report_is_written_and_the_cell_invalid(fault: str, every: bool, tmp_path: Path) -> None:
    write_comparison(tmp_path)
    for load in LOADS:
        for r in (1, 2, 3) if every else (2,):
            rows = records(ALPHA, load)
            rows = [replace(row, **FAULTS[fault]) if every or row.index == 1 else row for row in rows]
            write_run(run_folder(tmp_path, "alpha", load.name, r), manifest(ALPHA, load, r), rows)
    done = harness("report", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    cells = json.loads((tmp_path / "comparison.json").read_text())["cells"]
    mine = [c for cell in cells if cell["candidate"] == "alpha" for c in cell["checks"] if c["code"] == "TIMELINE"]
    assert "invalid" in {check["verdict"] for check in mine}
    assert any("request 1" in check["message"] for check in mine)
    theirs = [c for cell in cells if cell["candidate"] == "beta" for c in cell["checks"] if c["code"] == "TIMELINE"]
    assert {check["verdict"] for check in theirs} == {"ok"}

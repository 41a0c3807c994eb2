"""Fixtures over the invented runs of invented.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.records.campaign import run_folder
from harness.records.request import RequestRecord
from harness.records.run import RunResult, read_run, write_run
from harness.workload.spec import LoadPoint
from tests.invented import ALPHA, FACTORS, WORKLOAD, Invented, manifest, records, write_comparison

Run = Callable[..., RunResult]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Writes a run and reads it back: (engine, point, round, records, **changes of the manifest)."""

    def make(
        engine: Invented = ALPHA,
        point: LoadPoint = WORKLOAD.load[0],
        round_index: int = 1,
        rows: Sequence[RequestRecord] | None = None,
        **changes: Any,
    ) -> RunResult:
        folder = run_folder(tmp_path / "made", engine.name, point.name, round_index)
        if rows is None:
            rows = records(engine, point, FACTORS[round_index - 1])
        write_run(folder, manifest(engine, point, round_index, **changes), rows)
        return read_run(folder)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two engines, three load points, three rounds, one engine skipped."""
    return write_comparison(tmp_path / "invented", skipped={"gamma": "needs a GPU, and there is none"})


@pytest.fixture(scope="session")
def invented_runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunResult]:
    """The runs of such a folder, read once; nothing may change them."""
    made = write_comparison(tmp_path_factory.mktemp("invented"))
    return [read_run(path.parent) for path in sorted(made.glob("runs/*/*/*/manifest.json"))]

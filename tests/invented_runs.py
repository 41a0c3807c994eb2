"""Fixtures over the invented runs of invented.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.records.campaign import run_folder
from harness.records.request import RequestRecord
from harness.records.run import RunResult, read_run
from harness.workload.loads import Load
from tests.invented import ALPHA, FACTORS, ONE, Invented, manifest, records, write_comparison, write_run

Run = Callable[..., RunResult]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Writes a run and reads it back: (engine, load, round, records, **changes of the manifest)."""

    def make(
        engine: Invented = ALPHA,
        load: Load = ONE,
        round_index: int = 1,
        rows: Sequence[RequestRecord] | None = None,
        **changes: Any,
    ) -> RunResult:
        folder = run_folder(tmp_path / "made", engine.name, load.name, round_index)
        if rows is None:
            rows = records(engine, load, FACTORS[round_index - 1])
        write_run(folder, manifest(engine, load, round_index, **changes), rows)
        return read_run(folder)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two candidates, three loads, three rounds, one candidate skipped."""
    return write_comparison(tmp_path / "invented", skipped={"gamma": "needs a GPU, and there is none"})


@pytest.fixture(scope="session")
def invented_runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunResult]:
    """The runs of such a folder, read once; nothing may change them."""
    made = write_comparison(tmp_path_factory.mktemp("invented"))
    return [read_run(path.parent) for path in sorted(made.glob("runs/*/*/*/manifest.json"))]

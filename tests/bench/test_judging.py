"""Judging a large comparison stays within its limits, and the benchmark still runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.judge.comparison import compare
from harness.records.comparison_folder import read_comparison
from tests.bench.judging import make


def test_the_made_comparison_is_judged(tmp_path: Path) -> None:
    asked, runs = read_comparison(make(tmp_path / "made", candidates=2, slots=(1, 4), rounds=2, requests=40, chunks=6))
    comparison = compare(runs, asked)
    assert len(comparison.cells) == 4 and not comparison.invalid_cells
    throughput = comparison.pair("engine1", "engine0", "c4", "output_throughput")
    assert throughput is not None and throughput.ratio == pytest.approx(1 / 1.05, rel=0.1)


@pytest.mark.live
@pytest.mark.slow
def test_six_candidates_at_eight_loads_within_15_seconds_and_a_gigabyte() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.bench.judging"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr

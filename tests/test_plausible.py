"""PLAUSIBLE through the front door: an engine that is none, and claims to serve a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.judge.comparison import stored_comparison
from tests.compare_parts import harness, small_file, with_engines

pytestmark = pytest.mark.live

COMMAND = """command=("{{python}}", "-m", "harness.nullengine.server", "--port", "{{port}}",
"--context", "{{context_tokens}}", "--ttft", "{ttft}", "--interval", "{interval}")"""


def test_an_engine_faster_than_memory_is_invalid_and_a_slow_one_is_not(tmp_path: Path) -> None:
    env = with_engines(
        tmp_path, liar=COMMAND.format(ttft=0.0, interval=0.0), honest=COMMAND.format(ttft=0.5, interval=0.05)
    )
    file = small_file(tmp_path)
    file.write_text(file.read_text().replace("rounds = 2", "rounds = 1"))
    done = harness("compare", file, "--engines", "liar,honest", "--results", tmp_path / "r", env=env)
    assert done.returncode == 1, done.stderr + done.stdout
    comparison = stored_comparison(tmp_path / "r")
    assert comparison.calibration is not None and comparison.calibration.peaks
    found = {
        (cell.candidate, cell.load): next(check for check in cell.checks if check.code == "PLAUSIBLE")
        for cell in comparison.cells
    }
    assert {verdict.verdict for (name, _), verdict in found.items() if name == "honest"} == {"ok"}
    assert found["liar", "c1"].verdict == "invalid", found["liar", "c1"].message
    assert found["honest", "c1"].numbers["roofline_share"] < 0.5

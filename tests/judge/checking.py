"""One check of a comparison of made runs."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judge.checks.evidence import Check
from harness.judge.comparison import compare
from harness.records.calibration import Calibration
from harness.records.run import RunResult
from tests.invented import campaign


def check(runs: Sequence[RunResult], code: str, name: str = "alpha", calibrated: Calibration | None = None) -> Check:
    """What the check says of this candidate's first cell."""
    cell = next(cell for cell in compare(runs, campaign(), calibrated).cells if cell.candidate == name)
    return next(check for check in cell.checks if check.code == code)

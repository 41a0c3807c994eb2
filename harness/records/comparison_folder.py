"""Reads the folder of a comparison: its campaign and every finished run."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError
from harness.records.campaign import Campaign, finished_runs, read_campaign
from harness.records.manifest import MANIFEST
from harness.records.run import RunResult, read_run


def read_comparison(folder: Path) -> tuple[Campaign, list[RunResult]]:
    """The campaign and every finished run, ordered by path. Raises HarnessError if `folder` is not a comparison, has no
    finished run, or has a file that cannot be read."""
    try:
        campaign = read_campaign(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise HarnessError(f"{folder}: not a comparison (there is no campaign.json)") from None
    found = finished_runs(folder)
    if not found:
        raise HarnessError(f"{folder}: no finished run (no {MANIFEST} under runs/)")
    return campaign, [read_run(path) for path in found]

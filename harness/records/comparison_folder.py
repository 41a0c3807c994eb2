"""What lies in the folder of a comparison: what it set out to do, and every finished run."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError
from harness.records.campaign import Campaign, finished_runs, read_campaign
from harness.records.manifest import MANIFEST
from harness.records.run import RunResult, read_run


def read_comparison(folder: Path) -> tuple[Campaign, list[RunResult]]:
    """The campaign and every finished run of a comparison folder, ordered by path. Raises HarnessError if `folder`
    is no comparison, has no finished run, or holds something that cannot be read."""
    try:
        campaign = read_campaign(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise HarnessError(f"{folder}: not a comparison (there is no campaign.json)") from None
    found = finished_runs(folder)
    if not found:
        raise HarnessError(f"{folder}: no finished run (no {MANIFEST} under runs/)")
    return campaign, [read_run(path) for path in found]

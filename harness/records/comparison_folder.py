"""Reads the folder of a comparison: its campaign, every finished run, and the calibration.

A file that cannot be read loses what it holds and nothing else: it is named in `Campaign.unread`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError
from harness.records.calibration import Calibration, read_calibration
from harness.records.campaign import Campaign, finished_runs, read_campaign, round_of
from harness.records.manifest import MANIFEST
from harness.records.run import RunResult, read_run
from harness.records.samples import stored_series


def read_comparison(folder: Path) -> tuple[Campaign, list[RunResult]]:
    """The campaign and every finished run that can be read, ordered by path; `unread` of the campaign names the others.
    Raises HarnessError if `folder` is not a comparison, has no finished run, or none that can be read."""
    campaign, runs, _ = read_folder(folder)
    return campaign, runs


def read_folder(folder: Path) -> tuple[Campaign, list[RunResult], Calibration | None]:
    """The same, and the calibration if there is one that can be read."""
    try:
        campaign = read_campaign(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise HarnessError(f"{folder}: not a comparison (there is no campaign.json)") from None
    found = finished_runs(folder)
    if not found:
        raise HarnessError(f"{folder}: no finished run (no {MANIFEST} under runs/)")
    runs, unread = [], []
    for path in found:
        try:
            runs.append(_readable(path))
        except HarnessError as problem:
            unread.append(f"{problem} This run is left out.")
            continue
        try:
            stored_series(path)
        except HarnessError as problem:
            unread.append(f"{problem} What serving took in this run is not known.")
    if not runs:
        more = f" ({len(found)} runs cannot be read)" if len(found) > 1 else ""
        raise HarnessError(f"{unread[0].removesuffix(' This run is left out.')}{more}")
    try:
        calibration = read_calibration(folder)
    except HarnessError as problem:
        calibration = None
        unread.append(f"{problem} The client's own floor is not known.")
    return replace(campaign, unread=tuple(unread)), runs, calibration


def _readable(path: Path) -> RunResult:
    run = read_run(path)
    found = run.manifest
    *_, candidate, load, _ = path.parts
    if (found.candidate.name, found.load.name, found.round) != (candidate, load, round_of(path) or found.round):
        raise HarnessError(
            f"{path / MANIFEST}: it is of {found.candidate.name}, {found.load.name}, round {found.round}, which is not "
            "what its folder is called: a copy of another run."
        )
    return run

"""What a comparison was to measure and why candidates were left out: `campaign.json`; and the paths of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.records.manifest import MANIFEST
from harness.records.ranges import Count, Seconds
from harness.records.stored import read_stored

CAMPAIGN = "campaign.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """`campaign.json` in the folder of a comparison."""

    schema: int = 2
    name: str
    started_at: str  # UTC, ISO 8601
    candidates: tuple[str, ...]  # asked for, in the order of the reports; the first is the reference
    named: tuple[str, ...] = ()  # those of them that the user named; without names every engine is tried
    skipped: Mapping[str, str]  # candidate -> one line: why it was not measured, or not fully
    loads: tuple[str, ...]  # in the order of the reports
    rounds: Count  # at least
    schedules_digest: str  # over the schedules of the first `rounds` rounds, whether or not further ones were measured
    finished: bool  # false: interrupted, the runs on disk are what was measured
    rounds_measured: Count | None = None  # complete ones; None: not said by older versions
    ended: str = ""  # why no further round was measured
    measured_s: Seconds = 0.0  # from the first start of each round to its end, over all rounds
    repeated: tuple[Count, ...] = ()  # rounds that the user had measured again, in order; one may be there twice
    unread: tuple[str, ...] = ()  # never stored: files of the folder that could not be read, and why


def read_campaign(folder: Path) -> Campaign:
    """Reads `campaign.json`. Raises FileNotFoundError if `folder` is not a comparison, HarnessError if the file cannot
    be read."""
    return read_stored(folder / CAMPAIGN, Campaign)


def run_folder(folder: Path, candidate: str, load: str, round_index: int) -> Path:
    """The folder of one run of a comparison."""
    return folder / "runs" / candidate / load / f"round-{round_index}"


def round_of(folder: Path) -> int:
    """The round of a run, from its folder; 0 if its name is another."""
    _, _, digits = folder.name.partition("round-")
    return int(digits) if digits.isdecimal() else 0


def finished_runs(folder: Path) -> list[Path]:
    """The folders of all finished runs of a comparison, by path."""
    return [path.parent for path in sorted((folder / "runs").glob(f"*/*/*/{MANIFEST}"))]

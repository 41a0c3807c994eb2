"""Sets a round aside, so that it is measured again."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

from harness.errors import HarnessError
from harness.records.campaign import finished_runs, round_of

FOLDER = "set-aside"


def check_round(folder: Path, round_index: int) -> None:
    """Raises HarnessError if no candidate has a finished run in this round."""
    there = sorted({round_of(run) for run in finished_runs(folder)})
    if round_index not in there:
        measured = ", ".join(map(str, there)) or "none"
        raise HarnessError(f"{folder}: there is no round {round_index} to repeat; measured are: {measured}.")


def set_aside(folder: Path, round_index: int) -> Path:
    """Moves every run of this round, of all candidates, and the logs of their starts to `set-aside/round-<n>-<k>/`,
    where nothing reads them; returns that folder. All candidates, because rounds are compared in pairs: one repeated
    at another time than the others would be compared with rounds that another machine load may have slowed."""
    place = next(place for k in count(1) if not (place := folder / FOLDER / f"round-{round_index}-{k}").exists())
    for run in sorted((folder / "runs").glob(f"*/*/round-{round_index}")):
        candidate, load = run.parts[-3:-1]
        (place / candidate).mkdir(parents=True, exist_ok=True)
        shutil.move(run, place / candidate / load)
    for log in sorted((folder / "launches").glob(f"*-round-{round_index}.log")):
        (place / "launches").mkdir(parents=True, exist_ok=True)
        shutil.move(log, place / "launches" / log.name)
    return place

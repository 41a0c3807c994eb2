"""The client's own floor on a machine: `calibration.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.records.manifest import MachineFacts
from harness.records.stored import read_stored

CALIBRATION = "calibration.json"


@dataclass(frozen=True, slots=True)
class Floor:
    """The client's own floor at one load: the times that the driver measured against the null server, minus the times
    in the null server's log. Seconds; None if no request succeeded."""

    load: str  # its name
    requests: int
    failed: int
    tokens_per_s: float  # reached
    offered_tokens_per_s: float | None  # the null server's own rate; None if the load sets the pace
    ttft_error_p50_s: float | None
    ttft_error_p99_s: float | None
    tpot_error_p50_s: float | None
    tpot_error_p99_s: float | None
    lag_p99_s: float | None  # how long chunks waited in the kernel before they were read
    dispatch_delay_p99_s: float | None  # open loop: sent - scheduled
    client_cpu_s_per_token: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """`calibration.json` in the folder of a comparison or a run."""

    schema: int
    harness: str
    machine: MachineFacts
    measured_at: str  # UTC, ISO 8601
    workers: int
    ttft_s: float  # of the null server
    interval_s: float
    floors: tuple[Floor, ...]


def read_calibration(folder: Path) -> Calibration | None:
    """Reads `calibration.json`; None if the folder has none. Raises HarnessError for one that cannot be read."""
    try:
        return read_stored(folder / CALIBRATION, Calibration)
    except FileNotFoundError:
        return None

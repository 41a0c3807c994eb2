"""The client's own floor on a machine, and the most that the machine can do: `calibration.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.records.manifest import MachineFacts
from harness.records.ranges import Amount, Count, Error, Large, Ordinal, Seconds
from harness.records.stored import read_stored

CALIBRATION = "calibration.json"
# Times the rate of the calibration: up to there its floor still holds. The errors hardly grow before the client is
# busy all the time, and a rate that is drawn at random is never met exactly.
ABOVE_FLOOR = 1.25


@dataclass(frozen=True, slots=True)
class Floor:
    """The client's own floor at one load and one pace of the null server: the times that the driver measured, minus the
    times in that server's log. Medians over the repeats. Seconds; None if no request succeeded."""

    load: str  # its name
    requests: Count
    failed: Count
    tokens_per_s: Amount  # reached
    offered_tokens_per_s: Amount | None  # the null server's own rate; None if the load sets the pace
    ttft_error_p50_s: Error | None
    ttft_error_p99_s: Error | None
    tpot_error_p50_s: Error | None
    tpot_error_p99_s: Error | None
    lag_p99_s: Error | None  # how long chunks waited in the kernel before they were read
    dispatch_delay_p99_s: Error | None  # open loop: sent - scheduled
    client_cpu_s_per_token: Seconds | None
    interval_s: Seconds | None = None  # between the null server's tokens; None: the calibration's only pace
    repeats: Count = 1  # that the medians are of
    disturbed: tuple[str, ...] = ()  # repeats that were left out, and why


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that one device of this machine can do: it reads memory and multiplies matrices no faster."""

    device: Literal["cpu", "cuda"]
    bytes_per_s: Amount  # reading memory; of one GPU, or of all cores
    flops_per_s: Amount | None  # None: not known
    how: str  # where the numbers come from
    uncertainty: Amount  # of the numbers, as a fraction
    working_set_bytes: Large | None = None  # that it was measured with: caches count; None: any size


@dataclass(frozen=True, slots=True)
class Calibration:
    """`calibration.json` in the folder of a comparison or a run."""

    schema: int
    harness: str
    machine: MachineFacts
    measured_at: str  # UTC, ISO 8601
    workers: Ordinal
    ttft_s: Seconds  # of the null server, at its slowest pace
    interval_s: Seconds
    floors: tuple[Floor, ...]  # by load, the slowest pace first
    peaks: tuple[Peak, ...] = ()

    def floor(self, load: str, tokens_per_s: float | None) -> Floor | None:
        """The floor for a cell of this load and rate: that of the slowest pace at which the client reached this rate,
        else of the fastest; None if the load was not calibrated."""
        found = [floor for floor in self.floors if floor.load == load]
        fast = (floor for floor in found if floor.tokens_per_s * ABOVE_FLOOR >= (tokens_per_s or 0.0))
        return next(fast, max(found, key=lambda floor: floor.tokens_per_s, default=None))


def read_calibration(folder: Path) -> Calibration | None:
    """Reads `calibration.json`; None if the folder has none. Raises HarnessError for one that cannot be read."""
    try:
        return read_stored(folder / CALIBRATION, Calibration)
    except FileNotFoundError:
        return None

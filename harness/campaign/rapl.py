"""The energy that the CPU packages took, by the kernel's powercap files (RAPL): readable by root alone on most systems.

https://docs.kernel.org/power/powercap/powercap.html"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.campaign.readers import Seen

POWERCAP = Path("/sys/class/powercap")
RAW = "rapl."  # begins the name of a package's own counter, which starts again at 0 now and then
ENERGY = "cpu_energy_j"
Row = tuple[float, str, float]


@dataclass(frozen=True, slots=True)
class Package:
    """One CPU package. `range_j`: its counter starts again at 0 after that many joules."""

    name: str
    file: Path
    range_j: float


@cache
def find_packages(root: Path = POWERCAP) -> tuple[Package, ...]:
    """The packages whose energy can be read; none of their parts (cores, memory), which they contain."""
    found = []
    for folder in sorted(root.glob("intel-rapl:*")):  # the name on AMD, too
        with contextlib.suppress(OSError, ValueError):
            name = (folder / "name").read_text(encoding="utf-8").strip()
            if name.startswith("package"):
                package = Package(
                    RAW + name,
                    folder / "energy_uj",
                    int((folder / "max_energy_range_uj").read_text(encoding="utf-8")) / 1e6,
                )
                package.file.read_text(encoding="utf-8")
                found.append(package)
    return tuple(found)


def sample_packages() -> Seen:
    """Joules by package, as its counter stands; empty if one cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        return {package.name: int(package.file.read_text(encoding="utf-8")) / 1e6 for package in find_packages()}
    return {}


def with_energy(rows: Iterable[Row], ranges: Mapping[str, float]) -> list[Row]:
    """The rows with the packages' counters replaced by their sum, `cpu_energy_j`, which never starts again. `ranges`:
    name of a counter -> after how many joules it does."""
    rows = sorted(rows, key=lambda row: row[0])
    total: dict[float, float] = {}
    for name, range_j in ranges.items():
        turns, last = 0, -1.0
        for at, _, joules in (row for row in rows if row[1] == name):
            turns += joules < last
            last = joules
            total[at] = total.get(at, 0.0) + joules + turns * range_j
    others = [row for row in rows if not row[1].startswith(RAW)]
    return others + [(at, ENERGY, joules) for at, joules in total.items()]

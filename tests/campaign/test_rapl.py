"""The energy of CPU packages, from files like the kernel's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.campaign import rapl
from harness.campaign.rapl import find_packages, sample_packages, with_energy


@pytest.fixture(autouse=True)
def _looked_for_anew() -> Iterator[None]:
    find_packages.cache_clear()
    yield
    find_packages.cache_clear()


def domain(root: Path, folder: str, name: str, energy: int, most: int = 1000_000_000) -> None:
    (root / folder).mkdir(parents=True)
    for file, content in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", most)):
        (root / folder / file).write_text(f"{content}\n")


def test_packages_count_and_their_parts_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    domain(tmp_path, "intel-rapl:0:0", "core", 3_000_000)
    domain(tmp_path, "intel-rapl:1", "package-1", 7_500_000, most=8_000_000)
    domain(tmp_path, "intel-rapl:2", "psys", 9_000_000)  # contains both
    found = find_packages(tmp_path)
    assert [(one.name, one.range_j) for one in found] == [("rapl.package-0", 1000.0), ("rapl.package-1", 8.0)]
    monkeypatch.setattr(rapl, "find_packages", lambda: found)
    assert sample_packages() == {"rapl.package-0": 5.0, "rapl.package-1": 7.5}
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()  # one alone would be half of the truth
    assert sample_packages() == {}


def test_without_them_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_packages(tmp_path) == ()
    monkeypatch.setattr(rapl, "find_packages", lambda: ())
    assert sample_packages() == {}
    assert with_energy([(0.0, "engine_cpu_s", 1.0)], {}) == [(0.0, "engine_cpu_s", 1.0)]


def test_a_counter_that_starts_again_goes_on() -> None:
    """The second package takes 6 J, over the end of its counter at 8 J; rows in any order."""
    rows = [
        (0.0, "rapl.package-0", 1.0), (0.0, "rapl.package-1", 7.0),
        (2.0, "rapl.package-0", 3.0), (2.0, "rapl.package-1", 5.0),
        (1.0, "rapl.package-0", 2.0), (1.0, "rapl.package-1", 1.0), (1.0, "gpu_power_w", 9.0),
    ]  # fmt: skip
    found = with_energy(rows, {"rapl.package-0": 1000.0, "rapl.package-1": 8.0})
    assert found == [
        (1.0, "gpu_power_w", 9.0), (0.0, "cpu_energy_j", 8.0), (1.0, "cpu_energy_j", 11.0), (2.0, "cpu_energy_j", 16.0)
    ]  # fmt: skip

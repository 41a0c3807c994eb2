"""The pinned requirements install on every Python that pyproject.toml allows; read from what is installed, offline."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"core": [], "dev": list(PROJECT["optional-dependencies"])}


def pins(lock: Path) -> dict[str, Requirement]:
    lines = [line.rstrip(" \\") for line in lock.read_text().splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "==", pin
    return only.version


def lowest_python() -> str:
    lowest = re.fullmatch(r">=(\d+\.\d+)", PROJECT["requires-python"])
    assert lowest, PROJECT["requires-python"]
    return f"{lowest[1]}.0"


def installed_pins(lock: Path) -> list[tuple[Requirement, Any]]:
    """Each pin with its installed distribution; without those whose marker excludes this platform."""
    found = []
    for name, pin in pins(lock).items():
        if pin.marker and not pin.marker.evaluate():
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            pytest.fail(f"{lock.name} pins {pin}, which is not installed: run `make .venv/dev`")
        if installed.version != version(pin):
            pytest.fail(f"{lock.name} pins {pin}, installed is {installed.version}: run `make .venv/dev`")
        found.append((pin, installed))
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_pin_allows_the_lowest_python(lock: Path) -> None:
    lowest = lowest_python()
    refused = [
        f"{pin} needs Python {needs}"
        for pin, installed in installed_pins(lock)
        if (needs := installed.metadata.get("Requires-Python")) and not SpecifierSet(needs).contains(lowest)
    ]
    assert not refused, f"{lock.name} must install on Python {lowest}: {'; '.join(refused)}"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_is_complete_on_every_python(lock: Path, python: str) -> None:
    """pip --require-hashes refuses a dependency that is not pinned: one that only a newer Python has, too."""
    pinned = pins(lock)
    missing = set()
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    for extra in EXTRAS[lock.stem]:
        wanted += [Requirement(line) for line in PROJECT["optional-dependencies"][extra]]
    seen = set()
    while wanted:
        want = wanted.pop()
        name = canonicalize_name(want.name)
        if name not in pinned or not want.specifier.contains(version(pinned[name]), prereleases=True):
            missing.add(str(want))
            continue
        for extra in ("", *want.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            where = {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
            needs = [Requirement(line) for line in distribution(name).requires or []]
            wanted += [need for need in needs if need.marker is None or need.marker.evaluate(where)]
    assert not missing, f"{lock.name} lacks on Python {python}: {missing}"


def test_the_locks_agree() -> None:
    core, dev = (pins(ROOT / "requirements" / f"{name}.txt") for name in ("core", "dev"))
    assert {name: str(pin) for name, pin in core.items() if name != "setuptools"} == {
        name: str(pin) for name, pin in dev.items() if name in core
    }


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_locks_hold_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text and not re.search(r"^-", text, re.MULTILINE)
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text)[1:]:
        assert "--hash=sha256:" in entry, entry

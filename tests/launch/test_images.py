"""Images built here: what a recipe becomes, when nothing is done, and real builds of invented engines whose packages
come from a folder. In CI a machine without Docker is a failure, elsewhere a skip with its reason."""

import contextlib
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import docker
import pytest

import engines
from harness import pip
from harness.adapter import CMakeBuild, Engine, Native, Venv
from harness.errors import CannotStart
from harness.launch import images, install
from harness.launch.built import built_program
from harness.launch.compose import image_variable
from harness.launch.docker_host import COMPOSE, DockerHost, docker_host
from harness.launch.images import (
    RECIPE,
    build_args,
    build_image,
    dockerfile,
    entry_words,
    image_env,
    image_tag,
    labels,
    recipe_hash,
)
from harness.paths import cache_folder
from harness.steps import run_step
from tests.launch.wheels import make_wheel
from tests.parts import IN_CI, missing

ROOT = Path(__file__).parent.parent.parent
BUILT_HERE = [e for e in engines.load().values() if e.native.install and "cpu" in e.containers]
PACKAGE = Native(
    install=Venv(("invented_base==1.0",), no_deps=("invented==1.0",)),
    command=("{env}/bin/python", "-m", "invented", "--model", "{model}", "last"),
    env={"PLAIN": 'a "b" c', "INSIDE": "{env}/lib", "CORES": "{cores}", "BOTH": "{env}/{cores}"},
)
PROGRAM = Native(
    install=CMakeBuild("invented==1.0", "", source="tree", target="greet", options=("-DONE=1", "-DWORD=hello")),
    command=("{env}/build/greet", "--model", "{model}"),
)


def invented(native: Native, name: str = "invented") -> Engine:
    return replace(engines.load()["fake"], name=name, version="1.0", null=False, containers=("cpu",), native=native)


def quiet(_: str) -> None:
    pass


def test_the_entry_point_is_the_command_before_its_flags() -> None:
    assert entry_words(PACKAGE) == ["/engine/bin/python", "-m", "invented"]
    assert entry_words(PROGRAM) == ["/engine/build/greet"]


def test_only_variables_that_every_launch_has_alike_go_into_the_image() -> None:
    assert image_env(PACKAGE) == {"PLAIN": 'a "b" c', "INSIDE": "/engine/lib"}


def test_the_dockerfile_is_that_of_the_recipe_with_what_is_the_engines_own() -> None:
    text = dockerfile(PACKAGE)
    assert text.startswith((COMPOSE / "venv.Dockerfile").read_text())
    own = ['ENV PLAIN="a \\"b\\" c"', 'ENV INSIDE="/engine/lib"', 'ENTRYPOINT ["/engine/bin/python", "-m", "invented"]']
    assert text.splitlines()[-3:] == own
    assert dockerfile(PROGRAM).startswith((COMPOSE / "cmake.Dockerfile").read_text())
    assert dockerfile(PROGRAM, built=True).startswith((COMPOSE / "program.Dockerfile").read_text())


def test_build_arguments_say_what_cmake_builds_and_the_dockerfile_declares_them() -> None:
    args = {"SOURCE": "tree", "TARGET": "greet", "OPTIONS": "-DONE=1 -DWORD=hello", "PROGRAM": "/engine/build/greet"}
    assert build_args(PROGRAM) == args and build_args(PACKAGE) == {}
    assert build_args(PROGRAM, built=True) == {"PROGRAM": args["PROGRAM"]}
    for built, file in ((False, "cmake.Dockerfile"), (True, "program.Dockerfile")):
        declared = (COMPOSE / file).read_text().splitlines()
        assert {f"ARG {name}" for name in build_args(PROGRAM, built)} == {
            line for line in declared if line.startswith("ARG ") and "=" not in line
        }


def test_another_recipe_or_dockerfile_is_another_image() -> None:
    one, other = Venv(("a==1",)), Venv(("a==2",))
    assert len({recipe_hash(r, text) for r in (one, other) for text in ("FROM a", "FROM b")}) == 4
    assert recipe_hash(one, "FROM a") == recipe_hash(Venv(("a==1",)), "FROM a")


@pytest.mark.parametrize("engine", BUILT_HERE, ids=lambda e: e.name)
def test_the_compose_file_takes_it_in_place_of_the_official_image(engine: Engine) -> None:
    assert image_tag(engine) == f"inference-engine-comparison/{engine.name}:{engine.version}"
    assert f"${{{image_variable(engine)}:-" in (COMPOSE / f"{engine.name}.yaml").read_text()
    assert all("{" not in word for word in entry_words(engine.native))


def test_engines_of_both_kinds_are_built_here() -> None:
    assert {type(engine.native.install) for engine in BUILT_HERE} == {Venv, CMakeBuild}


def test_an_engine_without_a_recipe_has_no_image(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="has no container for a CPU"):
        build_image(engines.load()["fake"], tmp_path, quiet)


@dataclass
class Steps:
    """Takes the place of Docker and pip: what was asked of them, and the labels of images that are there."""

    asked: list[list[str]]
    labels: dict[str, dict[str, str]]
    fail: str = ""

    def run(self, what: str, command: list[str], log: Path, say: object, hint: str = "", env: object = None) -> None:
        self.asked.append(command)
        if self.fail and self.fail in what:
            raise CannotStart(f"{what} failed (exit 1). {hint}")
        if "wheel" in command:
            (Path(command[command.index("-w") + 1]) / "invented-1.0-py3-none-any.whl").touch()
        elif "download" in command:
            (Path(command[-1]) / "invented-1.0.tar.gz").touch()

    def get(self, tag: str) -> SimpleNamespace:
        if tag not in self.labels:
            raise docker.errors.ImageNotFound(tag)
        return SimpleNamespace(labels=self.labels[tag])


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    made = Steps([], {})
    monkeypatch.setattr(images, "run_step", made.run)
    for module in (install, pip):
        monkeypatch.setattr(module, "run_step", made.run)
    monkeypatch.setattr(images, "docker_host", lambda: SimpleNamespace(client=SimpleNamespace(images=made)))
    monkeypatch.setattr(images, "PYTHON", sys.version_info[:2])
    return made


def test_an_image_of_this_recipe_is_not_built_again(steps: Steps, tmp_path: Path) -> None:
    engine = invented(PACKAGE)
    tag = build_image(engine, tmp_path, quiet)
    build = steps.asked.pop()
    label = next(word.removeprefix(f"--label={RECIPE}=") for word in build if word.startswith("--label="))
    assert f"--tag={tag}" in build
    steps.asked.clear()
    steps.labels[tag] = {RECIPE: label}
    assert build_image(engine, tmp_path, quiet) == tag
    assert steps.asked == []
    assert build_image(invented(replace(PACKAGE, env={})), tmp_path, quiet) == tag  # another image of that name
    assert [command[1] for command in steps.asked] == ["build"]  # of what was downloaded before


@pytest.mark.live
@pytest.mark.parametrize(
    ("builds", "collected"),
    [
        (("1.0", "1.0+cpu"), ["invented-1.0", "invented_base-1.0+cpu"]),
        (("1.0",), ["invented-1.0", "invented_base-1.0"]),
    ],
    ids=["cpu", "ordinary"],
)
def test_the_cpu_build_is_collected_where_pip_finds_it_else_the_ordinary_one(
    steps: Steps, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: list[str], collected: list[str]
) -> None:
    for build in builds:
        make_wheel(index, "invented_base", build)
    make_wheel(index, "invented", "1.0", "invented_base==1.0+cpu", "invented_extra")
    for module in (install, pip):
        monkeypatch.setattr(module, "run_step", run_step)  # pip itself; Docker is still played
    build_image(invented(PACKAGE), tmp_path, quiet)
    context = Path(steps.asked[-1][-1])
    assert sorted(w.name.removesuffix("-py3-none-any.whl") for w in (context / "wheels").iterdir()) == collected
    assert (context / "Dockerfile").read_text() == dockerfile(PACKAGE)


@pytest.mark.parametrize("native", [PACKAGE, PROGRAM], ids=["venv", "cmake"])
def test_a_download_that_was_cut_off_is_done_again(steps: Steps, tmp_path: Path, native: Native) -> None:
    steps.fail = "pip wheel" if native is PACKAGE else "downloading"
    with pytest.raises(CannotStart, match=r"(wheel invented_base|downloading invented)==1\.0 failed"):
        build_image(invented(native), tmp_path, quiet)
    steps.asked.clear()
    steps.fail = ""
    build_image(invented(native), tmp_path, quiet)
    assert len(steps.asked) > 1 and steps.asked[-1][:2] == ["docker", "build"]


def test_packages_of_another_python_are_not_collected(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "PYTHON", (3, 1))
    with pytest.raises(CannotStart, match=r"the image has Python 3\.1, but this is "):
        build_image(invented(PACKAGE), tmp_path, quiet)
    assert steps.asked == []


def test_a_failed_build_says_where_the_base_image_comes_from(steps: Steps, tmp_path: Path) -> None:
    steps.fail = "building"
    with pytest.raises(CannotStart, match=r"building .*/invented:1\.0 failed .*\.ci/docker"):
        build_image(invented(PROGRAM), tmp_path, quiet)


# Makes wheels without a package index: what setuptools would be too large for here.
BACKEND = """
import zipfile
NAME = "{name}"
META = f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: 1.0\\n{requires}"
def prepare_metadata_for_build_wheel(folder, settings=None):
    import pathlib
    made = pathlib.Path(folder, f"{{NAME}}-1.0.dist-info")
    made.mkdir()
    (made / "METADATA").write_text(META)
    return made.name
def build_wheel(folder, settings=None, metadata=None):
    file = f"{{NAME}}-1.0-py3-none-any.whl"
    tags = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    with zipfile.ZipFile(f"{{folder}}/{{file}}", "w") as out:
        for path, text in [(f"{{NAME}}.py", open(f"{{NAME}}.py").read()), (f"{{NAME}}-1.0.dist-info/METADATA", META),
                           (f"{{NAME}}-1.0.dist-info/WHEEL", tags), (f"{{NAME}}-1.0.dist-info/RECORD", "")]:
            out.writestr(zipfile.ZipInfo(path), text)  # of no date, so that Docker knows it again
    return file
"""
TELL = """
import importlib.util, json, os, sys
print(json.dumps([sys.argv[1:], {n: os.environ.get(n) for n in ("PLAIN", "INSIDE", "CORES")},
                  importlib.util.find_spec("invented_extra") is None, sys.executable]))
"""
CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(greet LANGUAGES CXX)
add_executable(greet greet.cpp)
target_compile_definitions(greet PRIVATE WORD="${WORD}")
"""
GREET = '#include <iostream>\nint main(int n, char **v) { std::cout << WORD << " " << (n > 1 ? v[1] : "") << "\\n"; }\n'


def sdist(folder: Path, name: str, files: dict[str, str], requires: str = "") -> Path:
    """A source archive that always has the same bytes."""
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    backend = BACKEND.format(name=name, requires=requires)
    path = folder / f"{name}-1.0.tar.gz"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file, text in {"pyproject.toml": build, "backend.py": backend, f"{name}.py": "", **files}.items():
            member = tarfile.TarInfo(f"{name}-1.0/{file}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    return path


@pytest.fixture
def host() -> DockerHost:
    try:
        return docker_host()
    except CannotStart as problem:
        missing(str(problem))


@pytest.fixture
def clean(host: DockerHost) -> Iterator[str]:
    name = f"invented-{os.getpid()}"
    yield name
    with contextlib.suppress(docker.errors.ImageNotFound):
        host.client.images.remove(f"inference-engine-comparison/{name}:1.0")


def answer(tag: str, *words: str, entry: str = "") -> str:
    replaced = ["--entrypoint", entry] if entry else []
    command = ["docker", "run", "--rm", "--network", "none", *replaced, tag, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_package_runs_in_its_image(clean: str, index: Path, tmp_path: Path) -> None:
    sdist(index, "invented", {"invented.py": TELL}, "Requires-Dist: invented-extra\\n")
    sdist(index, "invented_base", {})
    tag = build_image(invented(PACKAGE, clean), tmp_path, quiet)
    arguments, env, has_no_extra, python = json.loads(answer(tag, "--model", "/model"))
    assert arguments == ["--model", "/model"]
    assert env == {"PLAIN": 'a "b" c', "INSIDE": "/engine/lib", "CORES": None}
    assert has_no_extra and python == "/engine/bin/python"
    assert answer(tag, "--version", entry="curl").startswith("curl ")
    assert answer(tag, "/", entry="ls").split().count("wheels") == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_program_runs_in_its_image_and_its_source_stays_outside(clean: str, index: Path, tmp_path: Path) -> None:
    made = sdist(index, "invented", {"tree/CMakeLists.txt": CMAKE, "tree/greet.cpp": GREET})
    assert isinstance(PROGRAM.install, CMakeBuild)
    recipe = replace(PROGRAM.install, sha256=sha256(made.read_bytes()).hexdigest())
    tag = build_image(invented(replace(PROGRAM, install=recipe), clean), tmp_path, quiet)
    assert answer(tag, "--model") == "hello --model\n"
    assert answer(tag, "--version", entry="curl").startswith("curl ")
    assert answer(tag, "-R", "/engine", entry="ls").split() == ["/engine:", "build", "/engine/build:", "greet"]


def built(engine: Engine, cache: Path, program: Path) -> None:
    """As `harness compare` leaves it, with this file as the program."""
    folder = install.environment_folder(engine, "cpu", engine.version, cache)
    (folder / "build").mkdir(parents=True)
    (folder / "build" / "greet").write_bytes(program.read_bytes())
    (folder / install.MARK).write_text("{}")


@pytest.mark.live
@pytest.mark.parametrize(
    ("release", "library", "copied"),
    [
        (("debian", "bookworm"), "libm.so.6", True),
        (("debian", "bookworm"), "libssl.so.3", False),
        (("ubuntu", "noble"), "libm.so.6", False),
        (("", ""), "libm.so.6", False),
    ],
    ids=["same", "another library", "another release", "unknown"],
)
def test_a_program_that_is_built_is_copied_where_the_image_has_the_same_libraries(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: tuple[str, str], library: str, copied: bool
) -> None:
    engine = invented(PROGRAM)
    built(engine, tmp_path, Path("/bin/true"))
    (ldd := tmp_path / "bin" / "ldd").parent.mkdir()
    ldd.write_text(
        f"#!/bin/sh\necho '\tlinux-vdso.so.1 (0x1)\n\t{library} => /l/{library} (0x2)\n\t/lib64/ld-linux.so.2'\n"
    )
    ldd.chmod(0o755)
    monkeypatch.setenv("PATH", str(ldd.parent), prepend=os.pathsep)
    found = dict(zip(("ID", "VERSION_CODENAME"), release, strict=True))
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: found)
    tag = build_image(engine, tmp_path, quiet)
    assert [command[0] for command in steps.asked[:-1]] == (["strip"] if copied else [sys.executable])
    build = steps.asked[-1]
    assert (Path(build[-1]) / "Dockerfile").read_text() == dockerfile(PROGRAM, built=copied)
    # An image that was made in the one way is not made again in the other.
    steps.labels[tag] = {RECIPE: next(w.split("=", 2)[2] for w in build if w.startswith("--label="))}
    steps.asked.clear()
    monkeypatch.setattr("platform.freedesktop_os_release", dict)
    assert build_image(engine, tmp_path, quiet) == tag and steps.asked == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_program_of_this_machine_runs_in_its_image(clean: str, tmp_path: Path) -> None:
    engine = invented(PROGRAM, clean)
    source = tmp_path / "greet.cpp"
    source.write_text(GREET)
    subprocess.run(["g++", '-DWORD="built"', str(source), "-o", str(tmp_path / "greet")], check=True)
    built(engine, tmp_path, tmp_path / "greet")
    if built_program(engine, tmp_path) is None:
        pytest.skip("this machine has another release than the images made here")
    assert answer(build_image(engine, tmp_path, quiet), "--model") == "built --model\n"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_archive_of_another_hash_is_refused(clean: str, index: Path, tmp_path: Path) -> None:
    sdist(index, "invented", {})
    assert isinstance(PROGRAM.install, CMakeBuild)
    engine = invented(replace(PROGRAM, install=replace(PROGRAM.install, sha256="0" * 64)), clean)
    with pytest.raises(CannotStart, match=r"downloading invented==1\.0 failed .*HASH"):
        build_image(engine, tmp_path, quiet)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("engine", BUILT_HERE, ids=lambda e: e.name)
def test_the_real_engine_runs_in_its_image(host: DockerHost, engine: Engine) -> None:
    """Building takes minutes: only CI does, elsewhere `make images` has to have been asked for it."""
    recipe = install.recipe_of(engine, "cpu", engine.tested_on("cpu"))
    try:
        label = host.client.images.get(image_tag(engine)).labels.get(RECIPE)
    except docker.errors.ImageNotFound:
        label = None
    if not IN_CI and label not in labels(replace(engine.native, install=recipe)):
        pytest.skip(f"no image {image_tag(engine)} of today's recipe: make images ENGINES={engine.name}")
    said: list[str] = []
    tag = build_image(engine, cache_folder(), said.append)
    assert "--model" in answer(tag, "--help")
    assert said == [] or IN_CI

"""Engine environments: each installed on demand into its own folder in the cache, and reused afterwards."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tarfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.adapter import CMakeBuild, Device, Engine, Venv
from harness.environment import for_pip, without_secrets
from harness.errors import CannotStart
from harness.machine import usable_cores
from harness.pip import PIP, download
from harness.records.stored import write_json
from harness.steps import Say, run_step

Recipe = Venv | CMakeBuild
MARK = "installed.json"
NEEDED_BYTES = {Venv: 8 << 30, CMakeBuild: 2 << 30}


def recipe_of(engine: Engine, device: Device, version: str) -> Recipe | None:
    """What is installed for one version of an engine; None if it is built into the harness.

    An untested version is installed without the pins and the hash, which belong to the tested one."""
    native = engine.native_on(device)
    recipe = native.install if native else None
    tested = version == engine.tested_on(device)
    match recipe:
        case Venv() if tested:
            own, alone = (tuple(map(_at(version), words)) for words in (recipe.requirements, recipe.no_deps))
            return replace(recipe, requirements=own, no_deps=alone)
        case Venv():
            named = [word for word in (*recipe.requirements, *recipe.no_deps) if "{version}" in word]
            return Venv(tuple(map(_at(version), named)), hint=f"Is there a version {version}?")
        case CMakeBuild():
            options = tuple(map(_at(version), recipe.options))
            filled = replace(recipe, sdist=_at(version)(recipe.sdist), options=options)
            return filled if tested else replace(filled, sha256="", hint=f"Is there a version {version}?")
    return None


def _at(version: str) -> Callable[[str], str]:
    """Fills in {version}, and {number}: its digits, as some packages use them."""
    number = re.sub(r"\D", "", version)
    return lambda text: text.replace("{version}", version).replace("{number}", number)


def environment_folder(engine: Engine, device: Device, version: str, cache: Path) -> Path:
    """The folder of the engine's environment; each version and recipe has its own."""
    return _folder(f"{engine.name}-{version}", recipe_of(engine, device, version), cache)


def _folder(name: str, recipe: Recipe | None, cache: Path) -> Path:
    whole = repr((recipe, sys.version_info[:2]))
    return cache / "engines" / f"{name}-{hashlib.sha256(whole.encode()).hexdigest()[:10]}"


def is_installed(engine: Engine, device: Device, version: str, cache: Path) -> bool:
    """Whether the environment is complete: its mark is written last."""
    recipe = recipe_of(engine, device, version)
    return recipe is None or (environment_folder(engine, device, version, cache) / MARK).is_file()


def cannot_install(engine: Engine, device: Device, version: str, cache: Path) -> str | None:
    """Why the engine's environment cannot be installed here, as far as is known without trying."""
    recipe = recipe_of(engine, device, version)
    if recipe is None or is_installed(engine, device, version, cache):
        return None
    if isinstance(recipe, CMakeBuild):
        missing = [tool for tool in ("cmake", "make", "gcc", "g++") if shutil.which(tool) is None]
        if missing:
            return f"building it needs {', '.join(missing)}, not found on PATH; install them and try again"
    place = next(p for p in (cache, *cache.parents) if p.exists())
    free, needed = shutil.disk_usage(place)[2], NEEDED_BYTES[type(recipe)]
    if free < needed:
        return f"installing it needs {needed >> 30} GiB in the cache folder, {free / 2**30:.1f} are free"
    return None


def ensure_installed(
    engine: Engine, device: Device, version: str, cache: Path, say: Say, secrets: Collection[str] = ()
) -> Path:
    """The engine's environment, installed now if necessary. `secrets`: names of variables that hold keys. Raises
    CannotStart with the reason in one line."""
    folder = environment_folder(engine, device, version, cache)
    recipe = recipe_of(engine, device, version)
    if reason := cannot_install(engine, device, version, cache):
        raise CannotStart(reason)
    if recipe is None or is_installed(engine, device, version, cache):
        return folder
    return _ensure(folder, recipe, say, secrets)


def ensure_converter(engine: Engine, cache: Path, say: Say, secrets: Collection[str] = ()) -> tuple[Path, Path]:
    """The interpreter and the script that make a GGUF for this engine, installed now if necessary: always of the tested
    CPU version."""
    conversion = engine.native.conversion
    if conversion is None:
        raise CannotStart("has no converter from safetensors to GGUF")
    env = ensure_installed(engine, "cpu", engine.tested_on("cpu"), cache, say, secrets)  # its source has the script
    folder = ensure_environment(f"{engine.name}-convert-{engine.version}", conversion.install, cache, say, secrets)
    return folder / "bin" / "python", Path(conversion.script.format(env=env))


def ensure_environment(name: str, recipe: Venv, cache: Path, say: Say, secrets: Collection[str] = ()) -> Path:
    """Another environment, installed now if necessary. Raises CannotStart."""
    return _ensure(_folder(name, recipe, cache), recipe, say, secrets)


def _ensure(folder: Path, recipe: Recipe, say: Say, secrets: Collection[str]) -> Path:
    """Installs the environment, with a lock: a second process that needs it waits for the first."""
    try:
        return _installed_in(folder, recipe, say, secrets)
    except (OSError, tarfile.TarError) as problem:
        why = (isinstance(problem, OSError) and problem.strerror) or problem
        raise CannotStart(f"its environment {folder} cannot be made ({why})") from None


def _installed_in(folder: Path, recipe: Recipe, say: Say, secrets: Collection[str]) -> Path:
    if (folder / MARK).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if (folder / MARK).is_file():
            return folder
        shutil.rmtree(folder, ignore_errors=True)  # an installation that was cut off
        log = folder.with_name(folder.name + ".log")
        log.unlink(missing_ok=True)
        began = time.monotonic()
        if isinstance(recipe, Venv):
            facts = _make_venv(recipe, folder, log, say, secrets)
        else:
            facts = _build(recipe, folder, log, say, secrets)
        write_json(folder / MARK, {"seconds": time.monotonic() - began, **facts})
    return folder


def _make_venv(recipe: Venv, folder: Path, log: Path, say: Say, secrets: Collection[str]) -> dict[str, Any]:
    env = without_secrets(os.environ, secrets)
    run_step("creating its environment", [sys.executable, "-P", "-m", "venv", str(folder)], log, say, env=env)
    pip = [str(folder / "bin" / "python"), *PIP[1:]]
    run_pip(pip, ["install"], recipe, folder / "constraints.txt", log, say, secrets)
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for name, content in recipe.files:
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(content, encoding="utf-8")
    run_step("pip freeze", [*pip, "freeze"], log, say, env=env)
    frozen = log.read_text(encoding="utf-8", errors="replace").rsplit("== pip freeze\n", 1)[1].split()
    return {"packages": [line for line in frozen if "==" in line]}


def run_pip(
    pip: Sequence[str],
    command: Sequence[str],
    recipe: Venv,
    constraints: Path,
    log: Path,
    say: Say,
    secrets: Collection[str] = (),
) -> None:
    """Runs pip's `command` for the recipe's requirements, then for its `no_deps`. Writes the file `constraints`.
    Raises CannotStart."""
    constraints.write_text(recipe.constraints, encoding="utf-8")
    env = for_pip(os.environ, secrets)
    words, what = [*pip, *command, "--progress-bar", "off"], f"pip {command[0]}"
    resolved = [*words, "-c", str(constraints), *recipe.requirements]
    run_step(f"{what} {_names(recipe.requirements)}", resolved, log, say, recipe.hint, env=env)
    if recipe.no_deps:
        alone = [*words, "--no-deps", *recipe.no_deps]
        run_step(f"{what} --no-deps {_names(recipe.no_deps)}", alone, log, say, recipe.hint, env=env)


def _names(packages: Sequence[str]) -> str:
    if len(packages) <= 5:
        return " ".join(packages)
    return f"{packages[0]} and {len(packages) - 1} more"


def fetch_source(recipe: CMakeBuild, folder: Path, log: Path, say: Say, secrets: Collection[str] = ()) -> Path:
    """The recipe's source archive, in `folder`, with the hash that it names. Raises CannotStart."""
    return download(recipe.sdist, recipe.sha256, "sdist", folder, log, say, recipe.hint, secrets)


def _build(recipe: CMakeBuild, folder: Path, log: Path, say: Say, secrets: Collection[str]) -> dict[str, Any]:
    source, archive = folder / "source", folder / "download"
    archive.mkdir(parents=True)
    with tarfile.open(fetch_source(recipe, archive, log, say, secrets)) as tar:
        # Python before 3.11.4 has no filters; the archive's hash was checked.
        if hasattr(tarfile, "data_filter"):
            tar.extractall(archive, filter="data")
        else:
            tar.extractall(archive)
    unpacked = next(p for p in archive.iterdir() if p.is_dir())
    (unpacked / recipe.source).rename(source)
    shutil.rmtree(archive)
    build, env = folder / "build", without_secrets(os.environ, secrets)
    configure = ["cmake", "-S", str(source), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release", *recipe.options]
    run_step("cmake", configure, log, say, recipe.hint, env=env)
    make = ["cmake", "--build", str(build), "--target", recipe.target, "--parallel"]
    run_step(f"building {recipe.target}", [*make, str(len(usable_cores()))], log, say, recipe.hint, env=env)
    return {"sdist": recipe.sdist, "sha256": recipe.sha256, "options": list(recipe.options)}

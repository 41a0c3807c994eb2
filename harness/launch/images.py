"""Container images of engines that install natively, built here for machines that reach no image registry.

They take the same arguments as the images that the compose files name. What a build needs from the Python package
index is collected on this machine, by its pip with its settings, so nothing of these has to hold inside."""

from __future__ import annotations

import hashlib
import json
import shutil
import string
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import docker
from filelock import FileLock

from harness.adapter import CMakeBuild, Engine, Native, Venv
from harness.errors import CannotStart
from harness.launch.docker_host import COMPOSE, LABEL, DockerHost, docker_host
from harness.launch.install import PIP, fetch_source, recipe_of, run_pip
from harness.launch.steps import Say, run_step

ENV = "/engine"  # inside: what {env} is on this machine
PYTHON = (3, 11)  # of the Debian release that the Dockerfiles start from
RECIPE = f"{LABEL}.recipe"
_HINT = "Where no image registry can be reached, .ci/docker makes the image that it starts from."


def image_tag(engine: Engine) -> str:
    """What the image built here is called."""
    return f"{LABEL}/{engine.name}:{engine.version}"


def build_image(engine: Engine, cache: Path, say: Say) -> str:
    """The tag of the engine's image, built now if need be. Raises CannotStart with one line that says why not."""
    recipe = recipe_of(engine, "cpu", engine.tested_on("cpu"))
    if recipe is None:
        raise CannotStart(f"{engine.title} is not installed from the Python package index, so it has no image of ours")
    native = replace(engine.native, install=recipe)
    host, tag, text = docker_host(), image_tag(engine), dockerfile(native)
    label = recipe_hash(recipe, text)
    if _label(host, tag) == label:
        return tag
    context = cache / "images" / f"{engine.name}-{engine.version}-{recipe_hash(recipe)[:10]}"
    context.parent.mkdir(parents=True, exist_ok=True)
    log = context.with_name(context.name + ".log")
    with FileLock(context.with_name(context.name + ".lock")):
        log.unlink(missing_ok=True)
        _ensure_context(recipe, context, log, say)
        (context / "Dockerfile").write_text(text)
        words = [f"--build-arg={name}={value}" for name, value in build_args(native).items()]
        build = ["docker", "build", f"--label={RECIPE}={label}", f"--tag={tag}", *words, str(context)]
        run_step(f"building {tag}", build, log, say, _HINT)
    return tag


def dockerfile(native: Native) -> str:
    """The Dockerfile of the recipe's kind, then what is this engine's own."""
    file = "venv.Dockerfile" if isinstance(native.install, Venv) else "cmake.Dockerfile"
    own = [f"ENV {name}={json.dumps(value)}" for name, value in image_env(native).items()]
    return "\n".join([(COMPOSE / file).read_text(), *own, f"ENTRYPOINT {json.dumps(entry_words(native))}", ""])


def entry_words(native: Native) -> list[str]:
    """The words of its command before the flags, which are the compose file's."""
    program = native.program.format(env=ENV)
    own = takewhile(lambda word: not word.startswith("--"), native.command)
    return [word.format(env=ENV, program=program) for word in own]


def image_env(native: Native) -> dict[str, str]:
    """Those of its variables that are the same in every launch."""
    return {name: value.format(env=ENV) for name, value in native.env.items() if _braces(value) <= {"env"}}


def build_args(native: Native) -> Mapping[str, str]:
    """The arguments of its Dockerfile."""
    recipe = native.install
    if not isinstance(recipe, CMakeBuild):
        return {}
    options = " ".join(recipe.options)
    return {"SOURCE": recipe.source, "TARGET": recipe.target, "OPTIONS": options, "PROGRAM": entry_words(native)[0]}


def recipe_hash(recipe: Venv | CMakeBuild, text: str = "") -> str:
    """Equal for what builds the same image. Without the Dockerfile's `text`: for what needs the same downloads."""
    return hashlib.sha256(repr((recipe, text)).encode()).hexdigest()


def _braces(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def _label(host: DockerHost, tag: str) -> str | None:
    try:
        found: str | None = host.client.images.get(tag).labels.get(RECIPE)
    except docker.errors.ImageNotFound:
        return None
    return found


def _ensure_context(recipe: Venv | CMakeBuild, context: Path, log: Path, say: Say) -> None:
    """What the build copies in, downloaded once: the folder gets its name when it is complete."""
    if context.is_dir():
        return
    part = context.with_name(context.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    if isinstance(recipe, Venv):
        _collect_wheels(recipe, part / "wheels", log, say)
    else:
        fetch_source(recipe, part, log, say).rename(part / "source.tar.gz")
    part.rename(context)


def _collect_wheels(recipe: Venv, folder: Path, log: Path, say: Say) -> None:
    if sys.version_info[:2] != PYTHON:
        raise CannotStart(
            f"the image runs Python {'.'.join(map(str, PYTHON))}, and this one, {sys.version_info[0]}."
            f"{sys.version_info[1]}, collects other packages; make the project's environment with that one"
        )
    folder.mkdir()
    # Not `pip download`: what has no wheel is built here, where pip finds what that takes.
    run_pip(PIP, ["wheel", "-w", str(folder)], recipe, folder.with_name("constraints.txt"), log, say)

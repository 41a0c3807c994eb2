"""Container images of engines that install natively, built here for machines that reach no image registry.

They take the same arguments as the images in the compose files. What a build needs from the Python package index is
collected on this machine, with its pip settings, so the build itself needs no access to the index."""

from __future__ import annotations

import hashlib
import json
import os
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
from harness.launch.built import built_program
from harness.launch.docker_host import COMPOSE, LABEL, DockerHost, docker_host
from harness.launch.install import fetch_source, recipe_of, run_pip
from harness.pip import PIP
from harness.steps import Say, run_step

ENV = "/engine"  # {env} inside the image
PYTHON = (3, 11)  # of the Debian release that the Dockerfiles start from
RECIPE = f"{LABEL}.recipe"
_HINT = "If no image registry can be reached, .ci/docker makes the base image."


def image_tag(engine: Engine) -> str:
    """The tag of the image built here."""
    return f"{LABEL}/{engine.name}:{engine.tested_on('cpu')}"


def build_image(engine: Engine, cache: Path, say: Say) -> str:
    """The tag of the engine's image, built now if necessary. Raises CannotStart with the reason in one line."""
    recipe = recipe_of(engine, "cpu", engine.tested_on("cpu"))
    if "cpu" not in engine.containers:
        raise CannotStart(f"{engine.title} has no container for a CPU, so no image is built")
    if recipe is None:
        raise CannotStart(f"{engine.title} is not installed from the Python package index, so no image can be built")
    native = replace(engine.native, install=recipe)
    host, tag = docker_host(), image_tag(engine)
    if _label(host, tag) in labels(native):
        return tag
    program = built_program(engine, cache)
    text = dockerfile(native, built=program is not None)
    context = cache / "images" / f"{engine.name}-{engine.tested_on('cpu')}-{recipe_hash(recipe)[:10]}"
    context.parent.mkdir(parents=True, exist_ok=True)
    log = context.with_name(context.name + ".log")
    with FileLock(context.with_name(context.name + ".lock")):
        log.unlink(missing_ok=True)
        if program is None:
            _ensure_context(recipe, context, log, say)
        else:
            context = context.with_name(f"{context.name}-built")
            context.mkdir(exist_ok=True)
            run_step("strip", ["strip", "-o", str(context / "program"), str(program)], log, say)
        (context / "Dockerfile").write_text(text, encoding="utf-8")
        args = build_args(native, built=program is not None)
        words = [f"--label={RECIPE}={recipe_hash(recipe, text)}", f"--tag={tag}"]
        words += [f"--build-arg={name}={value}" for name, value in args.items()]
        build = ["docker", "build", *words, str(context)]
        run_step(f"building {tag}", build, log, say, _HINT, env=os.environ)  # it may pull a base image
    return tag


def labels(native: Native) -> set[str]:
    """The labels of images that need not be built again. `native`: with its versions filled in."""
    assert native.install is not None
    built = {True, False} if isinstance(native.install, CMakeBuild) else {False}
    return {recipe_hash(native.install, dockerfile(native, built=one)) for one in built}


def dockerfile(native: Native, built: bool = False) -> str:
    """The Dockerfile for this kind of recipe, then this engine's environment and entry point. `built`: the program is
    copied, not built again."""
    of_source = "program.Dockerfile" if built else "cmake.Dockerfile"
    file = "venv.Dockerfile" if isinstance(native.install, Venv) else of_source
    own = [f"ENV {name}={json.dumps(value)}" for name, value in image_env(native).items()]
    return "\n".join(
        [(COMPOSE / file).read_text(encoding="utf-8"), *own, f"ENTRYPOINT {json.dumps(entry_words(native))}", ""]
    )


def entry_words(native: Native) -> list[str]:
    """The words of its command before the flags, which the compose file gives."""
    program = native.program.format(env=ENV)
    own = takewhile(lambda word: not word.startswith("--"), native.command)
    return [word.format(env=ENV, program=program) for word in own]


def image_env(native: Native) -> dict[str, str]:
    """Its environment variables that are the same in every launch."""
    return {name: value.format(env=ENV) for name, value in native.env.items() if _braces(value) <= {"env"}}


def build_args(native: Native, built: bool = False) -> Mapping[str, str]:
    """The build arguments of its Dockerfile."""
    recipe = native.install
    if not isinstance(recipe, CMakeBuild):
        return {}
    program = {"PROGRAM": entry_words(native)[0]}
    if built:
        return program
    return {"SOURCE": recipe.source, "TARGET": recipe.target, "OPTIONS": " ".join(recipe.options), **program}


def recipe_hash(recipe: Venv | CMakeBuild, text: str = "") -> str:
    """A hash that is equal for equal images; without the Dockerfile's `text`, for equal downloads."""
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
    """Downloads what the build copies, once: the folder gets its final name when it is complete."""
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
            f"the image has Python {'.'.join(map(str, PYTHON))}, but this is {sys.version_info[0]}."
            f"{sys.version_info[1]}, which collects other packages; make the project's environment with the image's"
        )
    folder.mkdir()
    # `pip wheel`, not `pip download`: packages without a wheel are built here, where pip can get their build tools.
    run_pip(PIP, ["wheel", "-w", str(folder)], recipe, folder.with_name("constraints.txt"), log, say)

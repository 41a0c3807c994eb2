"""`harness engines`: which engines can start here, and why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from harness.adapter import Engine
from harness.commands.show import terminal
from harness.errors import DONE, CannotStart, HarnessError
from harness.launch.compose import image_name
from harness.launch.docker_host import COMPOSE, PINS, DockerHost, Image, find_image, read_pins
from harness.launch.install import cannot_install, is_installed
from harness.launch.ways import Here, Way, look_around, ways
from harness.paths import cache_folder
from harness.records.stored import write_json
from harness.workload.candidate import Launch


def list_engines(known: Mapping[str, Engine], pin: bool) -> int:
    """Prints every way in which each engine could start here, the preferred one first."""
    here = look_around()
    if pin:
        pin_digests(known, here)
    table = Table(box=None, pad_edge=False)
    for column in ("name", "engine", "version", "here", "how, and what has run for real"):
        table.add_column(column, overflow="fold")
    for engine in known.values():
        possible, notes = notes_on(engine, here)
        versions = ", ".join([engine.version, *(f"{device} {own}" for device, own in engine.versions.items())])
        lines = "\n".join([*notes, *has_run(engine)])
        table.add_row(engine.name, engine.title, versions, "yes" if possible else "no", lines)
    terminal().print(table)
    return DONE


def has_run(engine: Engine) -> list[str]:
    """What of it has been measured for real by this project, a line each, and what never was."""
    lines = [f"has run: {one.version} on {one.on} ({one.date})" for one in engine.ran]
    return lines + ([f"never run: {engine.never}"] if engine.never else [])


def notes_on(engine: Engine, here: Here, launch: Launch = "auto") -> tuple[bool, list[str]]:
    """Whether it can probably start here (nothing is tried), and one line for each way and reason."""
    if engine.attach_only:
        return False, ["runs elsewhere: measure it with a candidate that has a url, or with harness replay --url"]
    found, reasons = ways(engine, here, launch)
    possible, notes = False, []
    for way in found:
        fine, note = (
            _container(engine, way, here.docker) if way.launch == "compose" and here.docker else _process(engine, way)
        )
        possible = possible or fine
        notes.append(f"{way}: {note}")
    if engine.instead_of:
        notes.append(f"takes part where {engine.instead_of} cannot start, and when it is named")
    return possible, notes + list(reasons)


def _container(engine: Engine, way: Way, docker: DockerHost) -> tuple[bool, str]:
    try:
        name = image_name(engine, way.device)
    except CannotStart as problem:
        return False, str(problem)
    image = find_image(docker, name)
    if image is None:
        return True, f"{name} would be pulled"
    pinned = read_pins().get(name)
    if pinned not in (None, image.digest):
        return False, f"{name} is {image.digest[:19]}, not {pinned[:19]} as pinned"
    return True, f"{name} is here" + (", as pinned" if pinned else "")


def _process(engine: Engine, way: Way) -> tuple[bool, str]:
    native = engine.native_on(way.device)
    if native is None or native.install is None:
        return True, "built in"
    try:
        cache = cache_folder()
    except HarnessError as problem:
        return False, str(problem)
    version = engine.tested_on(way.device)
    if is_installed(engine, way.device, version, cache):
        return True, "installed"
    reason = cannot_install(engine, way.device, version, cache)
    return not reason, reason or "would be installed by the first comparison"


def pin_digests(known: Mapping[str, Engine], here: Here) -> None:
    """Writes compose/digests.json: the digest that each image on this machine must have from now on. Raises
    CannotStart without a Docker daemon."""
    if here.docker is None:
        raise CannotStart(f"nothing to pin: {here.no_docker}")
    images = (_image(engine, device, here.docker) for engine in known.values() for device in engine.containers)
    found = {image.name: image.digest for image in images if image}
    write_json(COMPOSE / PINS, {**read_pins(), **found})
    terminal().print(f"{len(found)} images pinned in compose/{PINS}")


def _image(engine: Engine, device: str, docker: DockerHost) -> Image | None:
    return find_image(docker, image_name(engine, device))

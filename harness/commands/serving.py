"""How `harness compare` brings its engines up: the way chosen for each, prepared once, served round by round."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.adapter import Engine
from harness.campaign.rounds import Served
from harness.driver.address import local
from harness.errors import CannotStart, HarnessError
from harness.launch import container, process
from harness.launch.docker_host import Image, find_image
from harness.launch.install import ensure_converter, ensure_installed
from harness.launch.running import Running, free_port, healthy_or_why
from harness.launch.steps import Say
from harness.launch.values import launch_values
from harness.launch.ways import Here, Way, as_started, ways
from harness.model.resolve import Converter, Model, mountable, weights
from harness.workload.plan import Plan


@dataclass(frozen=True, slots=True)
class Prepared:
    """An engine that can be started. `folder`: its environment, of a process; `image`: of a container."""

    engine: Engine
    way: Way
    because: str  # why not a way that would be preferred; empty where this is the first
    folder: Path
    image: Image | None
    pull_s: float


def prepare(engine: Engine, plan: Plan, here: Here, cache: Path, say: Say) -> Prepared:
    """Installs or pulls what the best way needs that works here. Raises CannotStart with every way's reason."""
    if reason := engine.cannot(plan.workload):
        raise CannotStart(reason)
    if engine.attach_only:
        raise CannotStart("is not started from here: harness replay --url measures one that is already served")
    if engine.grpc and find_spec("tritonclient") is None:  # before tens of gigabytes are pulled
        raise CannotStart("its requests need a library: .venv/bin/pip install '.[triton]'")
    found, reasons = ways(engine, here, plan.launch)
    refusals = list(reasons)
    for way in found:
        began = time.monotonic()
        try:
            if way.launch == "process":
                chosen = as_started(engine, way)
                return Prepared(chosen, way, "; ".join(refusals), ensure_installed(chosen, cache, say), None, 0.0)
            assert here.docker is not None
            say("looking for its image")
            name = container.image_name(engine, way.device)
            there = find_image(here.docker, name) is not None
            log = cache / "engines" / f"{engine.name}-pull.log"
            image = container.ensure_image(here.docker, name, log, say)
            pull_s = 0.0 if there else time.monotonic() - began
            return Prepared(engine, way, "; ".join(refusals), Path(), image, pull_s)
        except CannotStart as problem:
            refusals.append(f"no {way}: {problem}")
    raise CannotStart("; ".join(refusals))


@contextlib.contextmanager
def serve(
    prepared: Prepared,
    plan: Plan,
    table: Mapping[str, Any],
    model: Model,
    here: Here,
    cache: Path,
    log: Path,
    say: Say,
) -> Iterator[Served]:
    """The engine, answering, until the block is left. Raises CannotStart."""
    engine, way = prepared.engine, prepared.way

    def converter() -> Converter:
        ensure_installed(engine, cache, say)  # its source holds the program
        return Converter(*ensure_converter(engine, cache, say))

    say("loading the model")
    try:
        path = weights(model, engine.weights, cache, converter)
        if way.launch == "container":
            path = mountable(path, model.digest, cache)
        port, grpc_port = free_port(plan.port), free_port()
    except HarnessError as problem:  # this engine cannot have the model or the port; the others may
        raise CannotStart(str(problem)) from None
    config = model.folder / "config.json"
    values = launch_values(engine, table, prepared.folder, path, config, port, grpc_port)
    with _launch(prepared, here, values, log, say) as running:
        yield Served(
            endpoint=local(running.requests_address[1]),
            pages=local(running.address[1]),
            launch=way.launch,
            device=way.device,
            pid=running.pid,
            log=log,
            image=running.image,
            files=running.files,
            cold_start_s={**({"pull": prepared.pull_s} if prepared.image else {}), **running.phases},
            alive=lambda: healthy_or_why(engine, running, log),
        )


def _launch(
    prepared: Prepared, here: Here, values: Mapping[str, object], log: Path, say: Say
) -> contextlib.AbstractContextManager[Running]:
    if prepared.image is None:
        return process.launch(prepared.engine, values, log, say)
    assert here.docker is not None
    return container.launch(prepared.engine, prepared.way.device, here.docker, prepared.image, values, log, say)
